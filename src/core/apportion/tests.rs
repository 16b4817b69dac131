use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;

fn side(percent: f64, ratio: &[u32]) -> Side {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100,000")]
    let share = PatternShare::from_thousandths((percent * 1000.0).round() as u32).unwrap();
    Side { share, ratio: ratio.to_vec() }
}

fn weights(sides: &[Side]) -> Vec<Vec<u16>> {
    let apportioned = apportion(sides).unwrap();
    apportioned.weights.iter().map(|side| side.iter().map(|weight| weight.get()).collect()).collect()
}

/// The errors of these weights, as a brute force computes them: of the shares and of the ratios, in points.
fn errors(sides: &[Side], weights: &[Vec<u16>]) -> (f64, f64) {
    let sum = |side: &[u16]| side.iter().map(|weight| f64::from(*weight)).sum::<f64>();
    let total: f64 = weights.iter().map(|side| sum(side)).sum();
    let shares: f64 = sides.iter().map(|side| side.share.percent()).sum();
    let (mut of_share, mut of_ratio) = (0.0_f64, 0.0_f64);
    for (side, weights) in sides.iter().zip(weights) {
        let own = sum(weights);
        of_share = of_share.max((own / total - side.share.percent() / shares).abs() * 100.0);
        if own == 0.0 {
            continue;
        }
        let ratio: f64 = side.ratio.iter().map(|part| f64::from(*part)).sum();
        for (part, weight) in side.ratio.iter().zip(weights) {
            #[expect(clippy::cast_precision_loss, reason = "a few servers")]
            let wanted = if ratio == 0.0 { 1.0 / side.ratio.len() as f64 } else { f64::from(*part) / ratio };
            of_ratio = of_ratio.max((f64::from(*weight) / own - wanted).abs() * 100.0);
        }
    }
    (of_share, of_ratio)
}

#[test]
fn the_smallest_weights_with_exactly_the_shares_are_chosen() {
    assert_eq!(weights(&[side(90.0, &[100]), side(10.0, &[100])]), [vec![9], vec![1]]);
    assert_eq!(weights(&[side(90.0, &[100, 100]), side(10.0, &[100, 100, 100])]), [vec![27, 27], vec![2, 2, 2]]);
    assert_eq!(weights(&[side(50.0, &[2, 1]), side(50.0, &[1])]), [vec![2, 1], vec![3]]);
    assert_eq!(weights(&[side(33.333, &[1]), side(33.333, &[1]), side(33.334, &[1])]).concat().len(), 3);
    assert_eq!(weights(&[side(100.0, &[100, 50]), side(0.0, &[7])]), [vec![2, 1], vec![0]]);
}

#[test]
fn a_server_with_ratio_0_gets_0_unless_all_have_it() {
    assert_eq!(weights(&[side(50.0, &[1, 0]), side(50.0, &[0, 0])]), [vec![2, 0], vec![1, 1]]);
}

#[test]
fn a_share_above_0_is_never_rounded_to_nothing() {
    let apportioned = apportion(&[side(99.9, &[1]), side(0.1, &[1])]).unwrap();
    assert_eq!(apportioned.weights.concat(), [Weight::MAX, Weight::new(1).unwrap()]);
    assert!((apportioned.share_error - (100.0 / 257.0 - 0.1)).abs() < 1e-9);
    // One server cannot outweigh fifty of a share of 1 %: some of them get 0.
    let apportioned = apportion(&[side(99.0, &[1]), side(1.0, &[1; 50])]).unwrap();
    assert!(apportioned.share_error < 0.2, "{apportioned:?}");
}

#[test]
fn without_servers_or_shares_there_are_no_weights() {
    assert_eq!(apportion(&[]), None);
    assert_eq!(apportion(&[side(0.0, &[1])]), None);
    assert_eq!(apportion(&[side(100.0, &[]), side(0.0, &[1])]), None);
    assert!(apportion(&[side(100.0, &[1]), side(0.0, &[])]).is_some(), "a side of 0 may have no server");
}

/// All weights up to `most` for these servers.
fn all(servers: usize, most: u16) -> Vec<Vec<u16>> {
    let mut all = vec![Vec::new()];
    for _ in 0..servers {
        all =
            all.into_iter().flat_map(|some| (0..=most).map(move |next| [some.clone(), vec![next]].concat())).collect();
    }
    all
}

#[test]
fn nothing_is_better_among_all_weights_of_small_sets() {
    let mut runner = TestRunner::deterministic();
    let sides = (1..1000_u32, prop::collection::vec(0..5_u32, 1..=2), prop::collection::vec(0..5_u32, 1..=2));
    let mut compared = 0;
    for _ in 0..40 {
        let (tenths, one, other) = sides.new_tree(&mut runner).unwrap().current();
        let sides = [side(f64::from(tenths) / 10.0, &one), side(100.0 - f64::from(tenths) / 10.0, &other)];
        let ours = apportion(&sides).unwrap();
        let most: u16 = match one.len() + other.len() {
            2 => 256,
            3 => 36,
            _ => 12,
        };
        let (first, second) = (all(one.len(), most), all(other.len(), most));
        let stopped = |side: &Side, weights: &[u16]| {
            let zero = side.ratio.iter().all(|part| *part == 0);
            weights.iter().sum::<u16>() == 0
                || side.ratio.iter().zip(weights).any(|(part, weight)| !zero && *part == 0 && *weight > 0)
        };
        let key = |weights: &[Vec<u16>; 2]| {
            let (share, ratio) = errors(&sides, weights);
            (share, ratio, weights.concat().iter().map(|weight| u32::from(*weight)).sum::<u32>())
        };
        let mine = (ours.share_error, ours.ratio_error, ours.weights.concat().iter().map(|w| u32::from(w.get())).sum());
        for one in first.iter().filter(|weights| !stopped(&sides[0], weights)) {
            for other in second.iter().filter(|weights| !stopped(&sides[1], weights)) {
                let theirs = key(&[one.clone(), other.clone()]);
                assert!(!better(theirs, mine), "{sides:?}: {one:?} {other:?} {theirs:?} is better than {ours:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
}

fn better(theirs: (f64, f64, u32), mine: (f64, f64, u32)) -> bool {
    const SAME: f64 = 1e-9;
    if (theirs.0 - mine.0).abs() > SAME {
        return theirs.0 < mine.0;
    }
    if (theirs.1 - mine.1).abs() > SAME {
        return theirs.1 < mine.1;
    }
    theirs.2 < mine.2
}

#[test]
fn a_thousand_server_sets_get_their_shares() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let ratio = || prop::collection::vec(0..=256_u32, 1..=50);
    let sets = (1..1000_u32, ratio(), ratio());
    let (mut largest, mut sum) = (0.0_f64, 0.0);
    for _ in 0..1000 {
        let (tenths, one, other) = sets.new_tree(&mut runner).unwrap().current();
        let sides = [side(f64::from(tenths) / 10.0, &one), side(100.0 - f64::from(tenths) / 10.0, &other)];
        let apportioned = apportion(&sides).unwrap();
        let weights: Vec<Vec<u16>> =
            apportioned.weights.iter().map(|side| side.iter().map(|weight| weight.get()).collect()).collect();
        let (share, ratio) = errors(&sides, &weights);
        assert!((share - apportioned.share_error).abs() < 1e-9 && (ratio - apportioned.ratio_error).abs() < 1e-9);
        largest = largest.max(share);
        sum += share;
    }
    println!("share error in points: largest {largest:.4}, mean {:.5}", sum / 1000.0);
    // 0.1 % of one server against one: 1 of 257.
    assert!(largest < 0.3, "largest error {largest} points");
    assert!(sum / 1000.0 < 0.001, "mean error {} points", sum / 1000.0);
}

proptest! {
    #![proptest_config(Config::with_cases(32))]

    #[test]
    fn more_than_two_sides_get_the_closest_sums(shares in prop::collection::vec(1..100_u32, 3..5), servers in 1..3_usize) {
        let sum: u32 = shares.iter().sum();
        let sides: Vec<Side> = shares.iter().map(|share| {
            side(f64::from(*share) * 100.0 / f64::from(sum), &vec![1; servers])
        }).collect();
        let apportioned = apportion(&sides).unwrap();
        let shown: Vec<Vec<u16>> =
            apportioned.weights.iter().map(|side| side.iter().map(|weight| weight.get()).collect()).collect();
        let (share, _) = errors(&sides, &shown);
        prop_assert!((share - apportioned.share_error).abs() < 1e-9);
        // The exact shares at the greatest weight, rounded, are one arrangement to compare with.
        let most = *shares.iter().max().unwrap();
        let rounded: Vec<Vec<u16>> = shares.iter().map(|share| {
            vec![u16::try_from((share * 256 + most / 2) / most).unwrap().max(1); servers]
        }).collect();
        prop_assert!(share <= errors(&sides, &rounded).0 + 1e-9);
    }

    #[test]
    fn many_sides_take_no_long_time(shares in prop::collection::vec(0..3_u32, 200..400)) {
        let sum: u32 = shares.iter().sum();
        prop_assume!(sum > 0);
        let sides: Vec<Side> =
            shares.iter().map(|share| side(f64::from(*share) * 100.0 / f64::from(sum), &[1])).collect();
        prop_assert!(apportion(&sides).unwrap().share_error < 1.0);
    }
}
