use weightd_core::rollout::BadValue;

use super::*;

fn read<T>(value: Result<T, BadValue>) -> KeyRead<T> {
    KeyRead { index: 5, value: Some(value) }
}

fn spec(id: &str) -> Spec {
    let text = format!(
        r#"{{"v":1,"id":"{id}","to":["green"],"from":["blue"],"back":0,"mode":"watch","plan":{{}},"regression":"hold","by":"ada",
            "at":"2026-11-21T10:00:00Z"}}"#
    );
    Spec::parse(text.as_bytes()).unwrap()
}

fn state(phase: &str) -> State {
    let text = format!(
        r#"{{"v":1,"id":"r1","spec":"abc","seq":7,"phase":"{phase}","step":1,"mode":"watch","share":0,"back":0,
            "since":"2026-11-21T10:00:00Z","answered":{{"id":"a1"}}}}"#
    );
    State::parse(text.as_bytes(), 5).unwrap()
}

fn rollout(spec: Option<Result<Spec, BadValue>>, state: Option<Result<State, BadValue>>) -> RolloutRead {
    RolloutRead {
        spec: spec.map(read).unwrap_or_default(),
        state: state.map(read).unwrap_or_default(),
        ..RolloutRead::default()
    }
}

#[test]
fn a_spec_without_a_state_of_its_own_is_pending() {
    assert_eq!(rollout(None, None).standing(), Standing::None);
    assert!(matches!(rollout(Some(Ok(spec("r1"))), None).standing(), Standing::Pending(_)));
    assert!(matches!(rollout(Some(Ok(spec("r1"))), Some(Ok(state("bake")))).standing(), Standing::Active(_)));
    assert!(matches!(rollout(Some(Ok(spec("r1"))), Some(Ok(state("done")))).standing(), Standing::Ended(_)));
    assert!(matches!(rollout(Some(Ok(spec("r2"))), Some(Ok(state("done")))).standing(), Standing::Pending(_)));
    // A changed spec does not end a rollout.
    assert!(matches!(rollout(Some(Ok(spec("r2"))), Some(Ok(state("bake")))).standing(), Standing::Active(_)));
    assert!(matches!(
        rollout(Some(Err(BadValue::Version(2))), Some(Ok(state("bake")))).standing(),
        Standing::Active(_)
    ));
}

#[test]
fn what_cannot_be_read_is_not_absent() {
    let unreadable = |spec, state| match rollout(spec, state).standing() {
        Standing::Unreadable(key, bad) => (key, bad.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(unreadable(Some(Ok(spec("r1"))), Some(Err(BadValue::Version(2)))).0, "state");
    let (key, why) = unreadable(Some(Err(BadValue::Version(2))), None);
    assert_eq!((key, why.as_str()), ("spec", "the value has version 2; this program reads version 1"));
}

#[test]
fn a_request_is_open_until_it_is_answered() {
    let request = |id: &str, rollout: &str| {
        let verb = weightd_core::rollout::Verb::Pause;
        read(Ok(Some(Request::new(id.to_owned(), verb, rollout.to_owned(), 7, "ada", None))))
    };
    let with = |request| RolloutRead { request, ..rollout(Some(Ok(spec("r1"))), Some(Ok(state("bake")))) };
    assert!(with(request("a2", "r1")).open_request().is_some());
    assert!(with(request("a1", "r1")).open_request().is_none());
    assert!(with(request("a2", "r0")).open_request().is_none());
    assert!(with(read(Ok(None))).open_request().is_none());
    let ended = RolloutRead { request: request("a2", "r1"), ..rollout(Some(Ok(spec("r1"))), Some(Ok(state("done")))) };
    assert!(ended.open_request().is_none());
}

#[test]
fn nothing_replaces_a_request_that_nobody_has_answered_but_a_pause() {
    use weightd_core::rollout::Mode;

    let with = |verb: Verb| {
        let request = Request::new("a2".to_owned(), verb, "r1".to_owned(), 7, "ann", None);
        let request = KeyRead { index: 9, value: Some(Ok(Some(request))) };
        RolloutRead { request, ..rollout(Some(Ok(spec("r1"))), Some(Ok(state("bake")))) }
    };
    let others = [Verb::Resume, Verb::Promote, Verb::Mode { mode: Mode::Auto }];
    for open in [Verb::Abort { wrote: true }, Verb::Abort { wrote: false }] {
        for verb in [&others[..], &[Verb::Pause]].concat() {
            assert_eq!(with(open.clone()).replaced_by(&verb).unwrap_err().by, "ann", "{verb:?} after {open:?}");
        }
        assert_eq!(with(open).replaced_by(&Verb::Approve), Ok(0), "an approval has a key of its own");
    }
    for open in others.iter().chain(&[Verb::Pause]) {
        assert!(others.iter().all(|verb| with(open.clone()).replaced_by(verb).is_err()), "{open:?}");
        assert_eq!(with(open.clone()).replaced_by(&Verb::Pause), Ok(9), "{open:?}");
    }
    // A changed spec answers nothing.
    let changed = RolloutRead { spec: read(Ok(spec("r2"))), ..with(Verb::Abort { wrote: false }) };
    assert!(changed.replaced_by(&Verb::Pause).is_err());
}

#[test]
fn the_rules_of_a_transaction_are_those_of_its_keys() {
    let operations = [
        Operation::Cas { key: "w/a".to_owned(), value: Vec::new(), index: 0 },
        Operation::CheckIndex { key: "w/b".to_owned(), index: 3 },
    ];
    assert_eq!(rules(&operations), r#"key "w/a" { policy = "write" } key "w/b" { policy = "read" }"#);
}

#[test]
fn a_plan_is_read_with_the_line_of_what_is_wrong() {
    let plan = parse_plan("[[step]]\nshare = 10\nbake = \"30m\"\n").unwrap();
    assert_eq!(plan.steps.len(), 1);
    let wrong = |text: &str| parse_plan(text).unwrap_err().to_string();
    assert_eq!(wrong("[[step]]\nshare = 10\nbacke = \"30m\"\n"), "line 3: unknown key `backe`; did you mean `bake`?");
    assert!(wrong("[[step]]\nshare = 10\nbake = \"3\"\n").starts_with("line 3: "));
    assert_eq!(
        wrong("[[step]]\nshare = 10\nbake = \"5s\"\n"),
        "line 3: step 1, `bake`: 5s is too short; write at least 20s"
    );
}

#[test]
fn identifiers_are_random() {
    assert_ne!(new_id(), new_id());
    assert_eq!(new_id().len(), 16);
}
