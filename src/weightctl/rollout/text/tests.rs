use super::*;

#[test]
fn a_long_value_goes_on_below_itself() {
    let mut text = String::new();
    row(&mut text, "label", "one two three four five six seven", 32);
    assert_eq!(text, "  label     one two three four\n            five six seven\n");
}

#[test]
fn no_line_is_longer_than_the_width_but_for_a_long_word() {
    for width in [40, 60, 80] {
        let mut text = String::new();
        row(&mut text, "x", &"words of a sentence ".repeat(20), width);
        assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
    }
    assert_eq!(wrap("a_word_that_is_longer_than_its_line b", 10), ["a_word_that_is_longer_than_its_line", "b"]);
}

#[test]
fn the_present_step_is_marked() {
    let spec: Spec = serde_json::from_str(
        r#"{"id":"r1","to":["green"],"from":["blue"],"back":0,"mode":"auto","regression":"hold","by":"ada",
            "plan":{"step":[{"share":1,"bake":"1h"},{"share":10,"bake":"1h"},{"share":50,"bake":"1h"}]},
            "at":"2026-11-21T10:00:00Z"}"#,
    )
    .unwrap();
    let state = |phase: &str, step: u32, share: u32| -> State {
        serde_json::from_str(&format!(
            r#"{{"id":"r1","spec":"s","seq":1,"phase":"{phase}","step":{step},"mode":"auto","share":{share},"back":0,
                "since":"2026-11-21T10:00:00Z"}}"#
        ))
        .unwrap()
    };
    assert_eq!(bar(&spec, &state("preflight", 0, 0)), "1 10 50");
    assert_eq!(bar(&spec, &state("bake", 2, 10)), "[1] >10< 50");
    assert_eq!(bar(&spec, &state("done", 3, 50)), "[1] [10] [50]");
    assert_eq!(steps(&spec.plan), "1 % 1h, 10 % 1h, 50 % 1h; 3h in all");
    assert_eq!(
        checks(&spec.plan),
        "errors (over 1.5 times the old side, above 0.02 %, SLO 0.1 %), masked, redirected, refused"
    );
}

#[test]
fn the_events_of_several_rollouts_are_told_apart() {
    let event = |rollout: &str| Entry {
        rollout: rollout.to_owned(),
        at: "2026-11-21T10:00:00Z".parse().unwrap(),
        what: "advanced".to_owned(),
        detail: "step 1".to_owned(),
        by: None,
    };
    let (first, second) = (event("r1"), event("r2"));
    assert_eq!(log(&[&first, &first], 80).matches("rollout").count(), 0);
    let text = anstream::adapter::strip_str(&log(&[&first, &first, &second], 80)).to_string();
    let heads: Vec<_> = text.lines().filter(|line| line.starts_with("rollout")).collect();
    assert_eq!(heads, ["rollout r1", "rollout r2"], "{text}");
}
