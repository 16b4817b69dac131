use super::*;
use crate::page::view::row::tests::{NOW, baking, now};

fn sample(seconds_ago: u64, step: u32, to: (u64, u64), from: (u64, u64)) -> Sample {
    Sample { at: Timestamp::from_seconds(NOW - seconds_ago), seq: u64::from(step), step, share: 10.0, to, from }
}

fn drawn(samples: Vec<Sample>) -> String {
    chart(&Facts { samples: samples.into(), ..baking() }, now())
}

#[test]
fn missing_data_is_a_gap_and_a_new_step_a_mark() {
    let samples = vec![
        sample(600, 2, (100, 0), (900, 1)),
        sample(540, 2, (200, 1), (1_800, 2)),
        sample(480, 2, (300, 1), (2_700, 3)),
        sample(120, 3, (50, 0), (450, 0)),
        sample(60, 3, (100, 2), (900, 1)),
    ];
    let html = drawn(samples);
    let green = html.split("line lg\" d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(green.matches('M').count(), 2, "{green}");
    assert!(html.contains("class=\"mark\"") && !html.contains("no requests"), "{html}");
    assert!(!html.contains("style=") && !html.contains("NaN"), "{html}");
}

#[test]
fn without_two_samples_there_is_no_chart() {
    assert_eq!(drawn(Vec::new()), "");
    assert_eq!(drawn(vec![sample(60, 2, (100, 0), (900, 1))]), "");
}

#[test]
fn only_newer_samples_are_kept_and_not_too_many() {
    let mut samples = Vec::new();
    for ago in (0..400).rev() {
        sample(ago, 2, (1, 0), (1, 0)).push(&mut samples);
    }
    sample(10, 2, (1, 0), (1, 0)).push(&mut samples);
    assert_eq!((samples.len(), samples.last().unwrap().at.seconds()), (MOST, NOW));
}

#[test]
fn the_scale_ends_at_a_round_number() {
    for (rate, top) in [(0.0, 0.0001), (0.0003, 0.0005), (0.019, 0.02), (0.6, 1.0), (1.0, 1.0)] {
        assert!((nice(rate) - top).abs() < 1e-9, "{rate}");
    }
}
