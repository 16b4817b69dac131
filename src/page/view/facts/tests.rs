use super::*;
use crate::page::view::row::tests::{baking, with_state};

#[test]
fn a_key_that_cannot_be_read_is_named_while_something_needs_it() {
    let facts = baking();
    let rollout = facts.rollout.clone().unwrap();
    let (spec, state) = (Ok(rollout.spec), Ok(rollout.state.unwrap()));
    let done = Ok(with_state(facts, |state| state.phase = Phase::Done).rollout.unwrap().state.unwrap());
    let (bad_spec, bad_state) = (Err(BadValue::Version(2)), Err(BadValue::Version(2)));
    let said = |spec, state| unreadable(spec, state).unwrap_or_default();
    let version = "cannot be read: the value has version 2; this program reads version 1";
    assert_eq!(said(Some(&spec), Some(&bad_state)), format!("the state of the rollout {version}"));
    assert_eq!(said(None, Some(&bad_state)), format!("the state of the rollout {version}"));
    for state in [None, Some(&state), Some(&done)] {
        assert_eq!(said(Some(&bad_spec), state), format!("the spec of the rollout {version}"));
    }
    assert_eq!(said(None, Some(&state)), "the spec of the rollout cannot be read: the key was deleted");
    assert_eq!(said(None, Some(&done)), "");
    assert_eq!(said(Some(&spec), Some(&state)), "");
    assert_eq!(said(Some(&spec), None), "");
}
