//! The values of the keys.

use super::bench::{Bench, plan, share, spec};
use crate::{
    desired::{Pattern, Split},
    fleet::NodeName,
    judge,
    model::{BackendName, Root, Timestamp},
    rollout::{
        BadValue, Evidence, Mode, Phase, Plan, Request, Spec, State, Verb,
        keys::{MAX_LOG, MAX_SPEC, RolloutKeys},
        log::{Entry, Log},
        plan::Protocol,
        state::{Answered, Paused},
    },
};

fn malformed(spec: &Spec) -> String {
    match spec.to_value() {
        Err(BadValue::Malformed(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_keys_are_by_kind() {
    let root = Root::default();
    let (keys, backend) = (RolloutKeys(&root), BackendName::new("app").unwrap());
    assert_eq!(keys.spec(&backend), "weightd/rollouts/spec/app");
    assert_eq!(keys.request(&backend), "weightd/rollouts/request/app");
    assert_eq!(keys.approval(&backend), "weightd/rollouts/approval/app");
    assert_eq!(keys.state(&backend), "weightd/rollouts/state/app");
    assert_eq!(keys.evidence(&backend), "weightd/rollouts/evidence/app");
    assert_eq!(keys.log(&backend), "weightd/rollouts/log/app");
    assert_eq!(
        (keys.plan("slow"), keys.controller()),
        ("weightd/plans/slow".to_owned(), "weightd/controller".to_owned())
    );
    assert_eq!(keys.specs(), "weightd/rollouts/spec/");
}

#[test]
fn a_spec_is_read_back_as_it_was_written() {
    for mode in [Mode::Auto, Mode::Guard, Mode::Watch] {
        let spec = spec(mode);
        let value = spec.to_value().unwrap();
        assert_eq!(Spec::parse(&value), Ok(spec));
        assert!(value.starts_with(br#"{"v":1,"id":"r1","to":["green-*"],"from":["blue-*"],"back":0,"mode":""#));
        assert!(value.len() < MAX_SPEC / 4, "{}", value.len());
    }
}

#[test]
fn a_spec_that_contradicts_itself_is_refused() {
    let good = spec(Mode::Auto);
    assert_eq!(malformed(&Spec { id: "a/b".to_owned(), ..good.clone() }), "`id` is not an identifier");
    assert_eq!(malformed(&Spec { to: Vec::new(), ..good.clone() }), "a side has no pattern");
    let overlapping = vec![Pattern::new("*-1").unwrap()];
    assert_eq!(malformed(&Spec { from: overlapping, ..good.clone() }), "the sides overlap");
    let many = (0..65).map(|n| Pattern::new(&format!("x{n}")).unwrap()).collect();
    assert_eq!(malformed(&Spec { to: many, ..good.clone() }), "a side has more than 64 patterns");
    assert_eq!(
        malformed(&Spec { back: share(100), ..good.clone() }),
        "mode auto has no step above the share at the start"
    );
    let mut blind = good.clone();
    blind.plan = Plan { steps: good.plan.steps.clone(), ..Plan::without_steps(Protocol::Tcp) };
    assert_eq!(malformed(&blind), "mode auto has no check that sees failed answers of this protocol");
    assert!(Spec { mode: Mode::Guard, ..blind }.to_value().is_ok(), "people move it");
    let large = Spec { reason: Some("x".repeat(MAX_SPEC)), ..good };
    assert!(matches!(large.to_value(), Err(BadValue::TooLarge(..))));
}

#[test]
fn values_of_another_version_are_refused_before_anything_else() {
    assert_eq!(Spec::parse(br#"{"v":2,"anything":1}"#), Err(BadValue::Version(2)));
    assert_eq!(State::parse(br#"{"v":2}"#, 1), Err(BadValue::Version(2)));
    assert_eq!(Evidence::parse(br#"{"v":3}"#), Err(BadValue::Version(3)));
    assert_eq!(Request::parse(br#"{"v":4}"#), Err(BadValue::Version(4)));
    for value in ["", "null", "[]", "{}", "\u{0}", "{\"v\":1}", "{\"v\":-1}"] {
        assert!(matches!(Spec::parse(value.as_bytes()), Err(BadValue::Malformed(_))), "{value}");
    }
}

#[test]
fn the_split_gives_equal_parts_to_the_patterns_of_a_side() {
    let from = ["blue-1", "blue-2", "blue-3"].map(|name| Pattern::new(name).unwrap()).to_vec();
    let spec = Spec { from, ..spec(Mode::Auto) };
    let split = spec.split(share(10)).unwrap();
    assert_eq!(serde_json::to_string(&split).unwrap(), r#"{"blue-1":30,"blue-2":30,"blue-3":30,"green-*":10}"#);
    assert_eq!(spec.share_of(&split), Some(share(10)));
    for percent in 0..=100 {
        assert_eq!(spec.share_of(&spec.split(share(percent)).unwrap()), Some(share(percent)));
    }
    let other: Split = serde_json::from_str(r#"{"blue-1":60,"blue-2":30,"blue-3":0,"green-*":10}"#).unwrap();
    assert_eq!(spec.share_of(&other), None, "the shares inside a side differ");
    let fewer: Split = serde_json::from_str(r#"{"blue-*":90,"green-*":10}"#).unwrap();
    assert_eq!(spec.share_of(&fewer), None);
}

#[test]
fn a_request_is_flat_and_an_empty_object_is_none() {
    assert_eq!(Request::parse(b"{}"), Ok(None));
    let text = br#"{"v":1,"id":"q","verb":"abort","wrote":true,"rollout":"r1","at":7,"by":"ann"}"#;
    let request = Request::parse(text).unwrap().unwrap();
    assert_eq!(request.verb, Verb::Abort { wrote: true });
    assert_eq!(request.to_value(), text);
    let text = br#"{"v":1,"id":"q","verb":"mode","mode":"guard","rollout":"r1","at":7,"by":"ann"}"#;
    assert_eq!(Request::parse(text).unwrap().unwrap().verb, Verb::Mode { mode: Mode::Guard });
    for verb in ["pause", "resume", "promote", "approve", "abort"] {
        let text = format!(r#"{{"v":1,"id":"q","verb":"{verb}","rollout":"r1","at":7,"by":"ann"}}"#);
        assert_eq!(Request::parse(text.as_bytes()).unwrap().unwrap().verb.as_str(), verb);
    }
    let long =
        format!(r#"{{"v":1,"id":"q","verb":"pause","rollout":"r1","at":7,"by":"ann","reason":"{}"}}"#, "x".repeat(501));
    assert!(Request::parse(long.as_bytes()).is_err(), "it would be repeated in the state");
    assert!(Request::parse(br#"{"v":1,"id":"a b","verb":"pause","rollout":"r1","at":7,"by":"ann"}"#).is_err());
    assert!(Request::parse(br#"{"v":1,"id":"q","verb":"destroy","rollout":"r1","at":7,"by":"ann"}"#).is_err());
}

#[test]
fn a_state_without_the_index_of_its_document_has_its_own() {
    let state = Bench::new(Phase::Bake, Mode::Auto).rollout.state;
    let written = State { document: None, ..state.clone() };
    assert_eq!(State::parse(&written.to_value(), 4711).unwrap(), State { document: Some(4711), ..state.clone() });
    assert_eq!(State::parse(&state.to_value(), 4711).unwrap(), state);
    assert!(state.to_value().len() < 400, "{}", state.to_value().len());
}

#[test]
fn the_largest_state_can_be_read() {
    let text = "x".repeat(Request::MAX_REASON);
    let answered = Some(Answered { id: "i".repeat(64), refused: Some(text.clone()) });
    let state = State {
        paused: Some(Paused { by: "b".repeat(Request::MAX_BY), reason: Some(text.clone()) }),
        answered: answered.clone(),
        approval: answered,
        why: Some(text),
        late: vec![NodeName::new(&"n".repeat(NodeName::MAX_LEN)).unwrap(); State::MAX_LATE],
        ..Bench::new(Phase::Bake, Mode::Auto).rollout.state
    };
    assert_eq!(State::parse(&state.to_value(), 1), Ok(state));
}

#[test]
fn evidence_is_read_back_and_small() {
    let judge = judge::Judge::new(&plan().judge(Mode::Auto)).state();
    let evidence = Evidence {
        rollout: "r1".to_owned(),
        step: 2,
        block: 180_000_000,
        good: 50,
        raised: true,
        judge,
        shown: crate::rollout::Shown::default(),
    };
    assert_eq!(Evidence::parse(&evidence.to_value()), Ok(evidence));
}

#[test]
fn the_log_says_which_rollouts_the_controller_took_back() {
    let entry = |rollout: &str, at, what: &str, by: Option<&str>| Entry {
        rollout: rollout.to_owned(),
        at: Timestamp::from_seconds(at),
        what: what.to_owned(),
        detail: String::new(),
        by: by.map(str::to_owned),
    };
    let events = vec![
        entry("r1", 99, "rolling_back", None),
        entry("r2", 100, "rolling_back", None),
        entry("r2", 110, "rolled_back", None),
        entry("r3", 120, "rolling_back", Some("bob")),
        entry("r4", 130, "rolling_back", None),
        entry("r5", 140, "started", None),
    ];
    let log = Log { events };
    assert_eq!(log.taken_back(Timestamp::from_seconds(100)).collect::<Vec<_>>(), ["r2", "r4"]);
}

#[test]
fn the_log_keeps_100_events_and_32_kib() {
    let entry = |n: u64, size: usize| Entry {
        rollout: "r1".to_owned(),
        at: Timestamp::from_seconds(n),
        what: "holding".to_owned(),
        detail: "x".repeat(size),
        by: None,
    };
    let log = (0..150).fold(Log::default(), |log, n| log.append(entry(n, 10)));
    assert_eq!((log.events.len(), log.events[0].at.seconds()), (100, 50));
    let log = (0..100).fold(Log::default(), |log, n| log.append(entry(n, 1000)));
    let value = log.to_value();
    assert!(log.events.len() > 25 && value.len() <= MAX_LOG);
    assert_eq!(Log::parse(&value), Ok(log));
}
