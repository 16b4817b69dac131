use std::sync::Arc;

use serde_json::json;
use tokio::time::advance;
use weightd_core::{
    model::Moment,
    rollout::{Phase, observe::DocumentSeen},
};

use super::*;
use crate::consul::follow::Keys;

/// A prefix with one key, that of the backend.
fn followed(index: u64, value: &serde_json::Value) -> Followed {
    let value = Value { index, bytes: value.to_string().into_bytes().into() };
    let values = [("app".to_owned(), value)].into();
    Followed { keys: Some(Arc::new(Keys { index, values, filtered: false })), ..Followed::default() }
}

fn spec() -> serde_json::Value {
    json!({
        "v": 1, "id": "r1", "to": ["green"], "from": ["blue"], "back": 0, "mode": "auto", "regression": "rollback",
        "by": "ann", "at": "2026-11-27T10:00:00Z", "plan": {"step": [{"share": 10, "bake": "5m"}]},
    })
}

fn state() -> serde_json::Value {
    json!({
        "v": 1, "id": "r1", "spec": "abc", "seq": 7, "phase": "bake", "step": 1, "mode": "auto", "share": 10, "back": 0,
        "document": 5, "since": "2026-11-27T10:00:00Z",
    })
}

/// Reads a state with this index, while Consul has the spec, or none.
fn look(tracked: &mut Tracked, index: u64, has_spec: bool, evidence: Option<&Evidence>) {
    look_at(tracked, &followed(index, &state()), has_spec, evidence);
}

fn look_at(tracked: &mut Tracked, states: &Followed, has_spec: bool, evidence: Option<&Evidence>) {
    let specs = if has_spec { followed(3, &spec()) } else { Followed::default() };
    let now = Now { moment: Moment::after_start(Duration::from_secs(9)), wall: Timestamp::from_seconds(1_800_000_000) };
    let backend = BackendName::new("app").unwrap();
    let first = tracked.look(&backend, (&specs, states), |_| DocumentSeen::default(), evidence, None, now);
    assert_eq!(first, None);
}

fn good(tracked: &Tracked) -> u64 {
    tracked.rollout.as_ref().unwrap().memory.good_seconds()
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_goes_on_with_a_newer_state_and_not_with_that_of_a_restored_snapshot() {
    let mut tracked = Tracked::new(None);
    look(&mut tracked, 50, true, None);
    let evidence = Evidence { good: 30, ..tracked.rollout.as_ref().unwrap().evidence() };
    let mut tracked = Tracked::new(None);
    look(&mut tracked, 50, true, Some(&evidence));
    assert_eq!(good(&tracked), 30);
    // Somebody else wrote the state.
    look(&mut tracked, 60, true, None);
    assert_eq!(good(&tracked), 30);
    // A slow read is no restored snapshot.
    look(&mut tracked, 40, true, Some(&evidence));
    assert_eq!((good(&tracked), tracked.state_index), (30, 60));
    advance(Duration::from_secs(21)).await;
    look(&mut tracked, 40, true, Some(&evidence));
    assert_eq!((good(&tracked), tracked.state_index), (0, 40));
    // The restored snapshot is from before the first state: the evidence of the begin of the term is of later, too.
    let mut tracked = Tracked::new(None);
    look(&mut tracked, 60, true, Some(&evidence));
    advance(Duration::from_secs(21)).await;
    look_at(&mut tracked, &Followed::default(), false, Some(&evidence));
    assert!(tracked.rollout.is_none());
    look(&mut tracked, 70, true, Some(&evidence));
    assert_eq!((good(&tracked), tracked.state_index), (0, 70));
}

#[tokio::test(start_paused = true)]
async fn without_its_spec_a_rollout_goes_on_with_the_leader_that_knows_it_and_not_with_another_one() {
    let mut knows = Tracked::new(None);
    look(&mut knows, 50, true, None);
    look(&mut knows, 60, false, None);
    assert_eq!(knows.rollout.as_ref().map(|rollout| rollout.state.phase), Some(Phase::Bake));
    let mut new = Tracked::new(None);
    look(&mut new, 60, false, None);
    assert!(new.rollout.is_none() && new.orphan.is_some() && new.unreadable.is_some());
}

#[tokio::test]
async fn a_rollback_is_remembered_after_another_start_and_without_its_spec() {
    let entry = |rollout: &str| Entry {
        rollout: rollout.to_owned(),
        at: Timestamp::from_seconds(1_800_000_000),
        what: "rolling_back".to_owned(),
        detail: String::new(),
        by: None,
    };
    let since = Timestamp::from_seconds(1_799_999_400);
    // The state is that of another rollout, r1.
    let mut tracked = Tracked::new(Some(Log { events: vec![entry("r0")] }));
    look(&mut tracked, 50, true, None);
    assert_eq!(tracked.taken_back(since), ["r0"].into());
    // The log could not be read, and the spec is gone.
    let mut tracked = Tracked::new(None);
    let mut back = state();
    back["phase"] = "rolled_back".into();
    back["since"] = "2027-01-15T08:00:00Z".into();
    look_at(&mut tracked, &followed(50, &back), false, None);
    assert_eq!(tracked.taken_back(since), ["r1"].into());
}

#[tokio::test(start_paused = true)]
async fn the_shares_are_computed_for_each_document_for_each_node_that_is_heard_and_once_in_a_block() {
    let (mut shares, mut computed) = (Shares::default(), 0);
    let mut ask = |of| {
        let why = shares.not_split(of, Instant::now(), || {
            computed += 1;
            Some(format!("{computed}"))
        });
        why.unwrap()
    };
    assert_eq!((ask((7, 2)), ask((7, 2))), ("1".to_owned(), "1".to_owned()));
    assert_eq!((ask((7, 3)), ask((8, 3))), ("2".to_owned(), "3".to_owned()));
    advance(Duration::from_secs(11)).await;
    assert_eq!(ask((8, 3)), "4");
}
