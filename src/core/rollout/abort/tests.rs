use serde_json::json;

use super::*;

fn share(percent: u32) -> PatternShare {
    PatternShare::from_thousandths(percent * 1000).unwrap()
}

fn spec(id: &str) -> Spec {
    serde_json::from_value(json!({
        "id": id, "to": ["green"], "from": ["blue"], "back": 0, "mode": "watch", "plan": {}, "regression": "rollback",
        "by": "ada", "at": "2026-11-21T10:00:00Z"
    }))
    .unwrap()
}

fn state(phase: &str, mode: &str, share: u32, back: u32) -> State {
    serde_json::from_value(json!({
        "id": "r1", "spec": "abc", "seq": 7, "phase": phase, "step": 1, "mode": mode, "share": share, "back": back,
        "document": 40, "since": "2026-11-21T10:00:00Z"
    }))
    .unwrap()
}

fn document(index: u64, percent: u32) -> DocumentSeen {
    DocumentSeen { index, share: Some(share(percent)), is_split: true }
}

fn of(state: &State, document: DocumentSeen) -> Abort {
    abort(Some(&spec("r1")), Some(state), document)
}

#[test]
fn a_moved_share_goes_back_at_once_in_every_mode() {
    for mode in ["watch", "guard", "auto"] {
        for phase in ["shift", "bake"] {
            assert_eq!(of(&state(phase, mode, 10, 0), document(40, 10)), Abort::Write(share(0)), "{mode} {phase}");
        }
    }
    // Somebody wrote the same shares again.
    assert_eq!(of(&state("bake", "auto", 10, 0), document(41, 10)), Abort::Write(share(0)));
}

#[test]
fn a_rollout_without_a_spec_ends_where_it_is_when_a_person_aborts_it() {
    let request = |verb: serde_json::Value| -> Request {
        let mut request = json!({"id": "q1", "rollout": "r1", "at": 7, "by": "bob", "reason": "no"});
        request.as_object_mut().unwrap().extend(verb.as_object().unwrap().clone());
        serde_json::from_value(request).unwrap()
    };
    let (asks, wrote) = (json!({"verb": "abort"}), json!({"verb": "abort", "wrote": true}));
    let now = Timestamp::from_seconds(1_795_000_000);
    for (phase, share, verb, ends, left) in [
        ("queued", 0, &asks, Phase::RolledBack, 0),
        ("preflight", 0, &asks, Phase::RolledBack, 0),
        ("rolling_back", 0, &asks, Phase::RolledBack, 0),
        ("bake", 10, &wrote, Phase::RolledBack, 0),
        // It says that the weights did not go back.
        ("shift", 10, &asks, Phase::TakenOver, 10),
        ("bake", 10, &asks, Phase::TakenOver, 10),
    ] {
        let before = state(phase, "auto", share, 0);
        let ended = close(&before, &request(verb.clone()), now).unwrap();
        assert_eq!((ended.phase, ended.share.percent(), ended.seq), (ends, f64::from(left), 8), "{phase}");
        let why = ended.why.as_deref().unwrap_or_default();
        assert_eq!(why.contains("the weights stay as they are"), ends == Phase::TakenOver, "{why}");
        assert!(why.starts_with("bob aborted it") && why.ends_with(": no") && ended.aborted, "{why}");
        assert_eq!(close(&ended, &request(verb.clone()), now), None, "once");
    }
    let bake = state("bake", "auto", 10, 0);
    assert_eq!(close(&bake, &request(json!({"verb": "pause"})), now), None);
    assert_eq!(close(&bake, &Request { rollout: "r2".to_owned(), ..request(asks) }, now), None);
}

#[test]
fn nothing_is_written_where_nothing_moved() {
    for phase in ["queued", "preflight"] {
        assert_eq!(of(&state(phase, "auto", 5, 5), document(40, 5)), Abort::Ask(WhyAsk::NotMoved), "{phase}");
    }
    assert_eq!(of(&state("bake", "watch", 5, 5), document(40, 5)), Abort::Ask(WhyAsk::NotMoved));
    assert_eq!(of(&state("rolling_back", "auto", 0, 0), document(40, 0)), Abort::Ask(WhyAsk::GoesBack));
}

#[test]
fn what_people_move_in_watch_and_guard_goes_back_without_a_controller_too() {
    let moved = state("bake", "guard", 0, 0);
    assert_eq!(of(&moved, document(50, 30)), Abort::Write(share(0)));
    // Nobody has adopted a share below the one at the start.
    assert_eq!(of(&state("bake", "guard", 10, 10), document(50, 5)), Abort::Ask(WhyAsk::NotMoved));
}

#[test]
fn a_document_of_somebody_else_is_not_overwritten() {
    let auto = state("bake", "auto", 10, 0);
    assert_eq!(of(&auto, document(50, 30)), Abort::Ask(WhyAsk::Foreign));
    let other = DocumentSeen { index: 50, share: None, is_split: false };
    assert_eq!(of(&auto, other), Abort::Ask(WhyAsk::Foreign));
    assert_eq!(of(&state("bake", "watch", 10, 0), other), Abort::Ask(WhyAsk::Foreign));
}

#[test]
fn a_rollout_that_has_not_begun_is_withdrawn() {
    assert_eq!(abort(Some(&spec("r1")), None, document(40, 0)), Abort::Withdraw);
    let earlier = state("done", "auto", 100, 0);
    assert_eq!(abort(Some(&spec("r2")), Some(&earlier), document(40, 0)), Abort::Withdraw);
}

#[test]
fn what_has_ended_stays_as_it_is() {
    for phase in ["done", "rolled_back", "taken_over"] {
        assert_eq!(of(&state(phase, "auto", 100, 0), document(40, 100)), Abort::Ended, "{phase}");
    }
    assert_eq!(abort(None, None, document(40, 0)), Abort::Nothing);
}

#[test]
fn without_the_spec_of_the_rollout_the_sides_are_not_known() {
    let moved = state("bake", "auto", 10, 0);
    assert_eq!(abort(Some(&spec("r9")), Some(&moved), document(40, 10)), Abort::Ask(WhyAsk::SpecChanged));
    assert_eq!(abort(None, Some(&moved), document(40, 10)), Abort::Ask(WhyAsk::SpecChanged));
}
