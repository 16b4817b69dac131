use weightd_core::rollout::State;

use super::*;

fn done(phase: &str) -> Answer {
    let text = format!(
        r#"{{"v":1,"id":"r1","spec":"abc","seq":7,"phase":"{phase}","step":1,"mode":"auto","share":0,"back":0,
            "since":"2026-11-21T10:00:00Z"}}"#
    );
    Answer::Done(Box::new(State::parse(text.as_bytes(), 5).unwrap()))
}

fn said(outcome: Outcome) -> (bool, String) {
    match outcome {
        Outcome::Done(text, 0) => (true, text.replace('\u{a0}', " ")),
        Outcome::Not(text) => (false, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_abort_is_done_only_when_a_controller_has_answered() {
    assert_eq!(
        said(ended(done("rolled_back"), WhyAsk::NotMoved)),
        (true, "The rollout has ended. Nothing had moved.".to_owned())
    );
    assert_eq!(
        said(ended(done("rolling_back"), WhyAsk::SpecChanged)),
        (true, "It goes back: the new side gets 0 %.".to_owned())
    );
    let (is_done, text) = said(ended(Answer::None, WhyAsk::NotMoved));
    assert!(!is_done && text.starts_with("No controller answers. The request stays"), "{text}");
}

#[test]
fn an_end_that_leaves_the_weights_is_no_good_news() {
    for answer in [done("taken_over"), Answer::Refused("the rollout has ended".to_owned()), Answer::None] {
        let (is_done, text) = said(ended(answer, WhyAsk::Foreign));
        assert!(!is_done && text.contains("The weights are not changed: somebody else wrote"), "{text}");
    }
}
