use weightd_core::rollout::Mode;

use super::*;
use crate::page::view::row::tests::{NOW, baking, now, steady};

fn request(verb: Verb, ago: u64) -> Request {
    let request = Request::new("a1".to_owned(), verb, "r1".to_owned(), 4, "ann", None);
    Request { when: Some(Timestamp::from_seconds(NOW - ago)), ..request }
}

fn with(request: Request) -> Facts {
    let mut facts = baking();
    facts.rollout.as_mut().unwrap().request = Some(request);
    facts
}

#[test]
fn a_request_is_told_once_a_controller_would_have_answered() {
    let at = when(Timestamp::from_seconds(NOW - 60), now());
    assert_eq!(
        unanswered(&with(request(Verb::Pause, 60)), now()),
        format!("ann asked at {at} to pause it. No controller has answered.")
    );
    assert_eq!(unanswered(&with(request(Verb::Pause, 4)), now()), "");
    assert_eq!(unanswered(&baking(), now()), "");
    assert_eq!(unanswered(&steady(0), now()), "");
}

#[test]
fn it_says_what_is_asked_for() {
    let told = |verb| asked(&request(verb, 60), now());
    assert!(told(Verb::Mode { mode: Mode::Auto }).contains(" for mode auto. "));
    assert!(told(Verb::Abort { wrote: false }).contains(" to end it. "));
    assert!(told(Verb::Abort { wrote: true }).contains(" to roll it back, and wrote the weights. "));
    assert!(told(Verb::Promote).contains(" to end the bake. "));
}
