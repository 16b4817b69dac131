use proptest::prelude::*;
use weightd_core::model::Weight;

use super::{
    super::stored::tests::{everything, stored},
    *,
};
use crate::documents::view::State;

fn name() -> BackendName {
    BackendName::new("app").unwrap()
}

fn weights(named: &[(&str, u64)]) -> Weights {
    named.iter().map(|(s, w)| (ServerName::new(s).unwrap(), Weight::new(*w).unwrap())).collect()
}

fn intent() -> Intent {
    Intent { by: "bob".to_owned(), at: "2026-11-21T10:00:00Z".to_owned(), ..Intent::default() }
}

fn created() -> Intent {
    Intent { create: true, ..intent() }
}

fn forced() -> Intent {
    Intent { force: true, ..intent() }
}

fn text(edit: &Edit) -> &str {
    match &edit.write {
        Write::Document { value, .. } => std::str::from_utf8(value).unwrap(),
        other => panic!("{other:?}"),
    }
}

const DOCUMENT: (&str, &str) = (
    "app",
    r#"{"v":1,"weights":{"blue":90,"green":10},"force":true,"by":"alice","reason":"old","at":"x","z":{"n": 1.10},"a":[ ]}"#,
);

#[test]
fn other_servers_keep_their_weights_and_unknown_fields_their_text() {
    let stored = stored(&[DOCUMENT]);
    let edit = set(&name(), Some(&stored), &weights(&[("green", 30)]), &intent()).unwrap();
    // The metadata and the force of the previous change are removed.
    insta::assert_snapshot!(text(&edit), @r#"{"v":1,"weights":{"blue":90,"green":30},"by":"bob","at":"2026-11-21T10:00:00Z","a":[ ],"z":{"n": 1.10}}"#);
    assert!(matches!(edit.write, Write::Document { index: 1, ref leaves, .. } if leaves.is_empty()));
}

#[test]
fn an_unchanged_state_is_not_written() {
    let plain = stored(&[("app", r#"{"weights":{"blue":90,"green":10}}"#)]);
    let forced_one = stored(&[DOCUMENT]);
    let leaves = stored(&[("app/blue", "90"), ("app/green", "10")]);
    let same = weights(&[("green", 10)]);
    for (stored, intent) in [(&plain, intent()), (&plain, created()), (&forced_one, forced()), (&leaves, intent())] {
        let edit = set(&name(), Some(stored), &same, &intent).unwrap();
        assert_eq!(edit.write, Write::Nothing);
        assert_eq!(edit.before.as_ref(), Some(&edit.after));
    }
    // A different `force` is a change.
    for (stored, intent) in [(&plain, forced()), (&forced_one, intent()), (&leaves, forced())] {
        assert_ne!(set(&name(), Some(stored), &same, &intent).unwrap().write, Write::Nothing);
    }
    let released = stored_release();
    assert_eq!(release(&name(), Some(&released), &intent()).unwrap().write, Write::Nothing);
}

fn stored_release() -> Stored {
    stored(&[("app", r#"{"release":true,"team":"x"}"#)])
}

#[test]
fn new_backends_and_servers_need_create() {
    let refusal = set(&name(), None, &weights(&[("blue", 1)]), &intent()).unwrap_err();
    assert_eq!(refusal, EditError::NoSuchBackend(name()));
    assert_eq!(release(&name(), None, &intent()).unwrap_err(), refusal);

    let stored = stored(&[DOCUMENT]);
    let refusal = set(&name(), Some(&stored), &weights(&[("gren", 1)]), &intent()).unwrap_err();
    insta::assert_snapshot!(refusal, @"backend `app` has no server `gren` in Consul; its servers are `blue`, `green`");
    insta::assert_snapshot!(refusal.hint("w/"), @"did you mean `green`? To create a server, add --create");

    let edit = set(&name(), Some(&stored), &weights(&[("new", 1)]), &created()).unwrap();
    assert_eq!(edit.after.weights, Some(weights(&[("blue", 90), ("green", 10), ("new", 1)])));
    let edit = set(&name(), None, &weights(&[("blue", 1)]), &created()).unwrap();
    insta::assert_snapshot!(text(&edit), @r#"{"v":1,"weights":{"blue":1},"by":"bob","at":"2026-11-21T10:00:00Z"}"#);
    assert!(matches!(edit.write, Write::Document { index: 0, .. }), "it must not exist");
    let edit = release(&name(), None, &created()).unwrap();
    assert_eq!((edit.after.state, edit.before), (State::Released, None));
}

#[test]
fn a_reason_is_never_dropped() {
    let because = |reason: &str| Intent { reason: Some(reason.to_owned()), ..intent() };
    let document = stored(&[("app", r#"{"weights":{"blue":90},"by":"alice","reason":"old"}"#)]);
    let same = weights(&[("blue", 90)]);
    let edit = set(&name(), Some(&document), &same, &because("new")).unwrap();
    insta::assert_snapshot!(text(&edit), @r#"{"v":1,"weights":{"blue":90},"by":"bob","reason":"new","at":"2026-11-21T10:00:00Z"}"#);
    assert_eq!(set(&name(), Some(&document), &same, &because("old")).unwrap().write, Write::Nothing);
    let released = stored(&[("app", r#"{"release":true,"by":"alice"}"#)]);
    assert!(text(&release(&name(), Some(&released), &because("new")).unwrap()).contains(r#""reason":"new""#));

    let leaves = stored(&[("app/blue", "90"), ("app/green", "10")]);
    for requested in [weights(&[("blue", 90)]), weights(&[("blue", 50)])] {
        let refused = set(&name(), Some(&leaves), &requested, &because("new")).unwrap_err();
        assert_eq!(refused, EditError::NoReason(name()));
    }
    let forced = Intent { force: true, ..because("new") };
    let edit = set(&name(), Some(&leaves), &weights(&[("blue", 50)]), &forced).unwrap();
    assert_eq!(edit.after.reason.as_deref(), Some("new"), "a document stores a reason");
}

#[test]
fn all_servers_at_weight_0_need_force() {
    let stored = stored(&[DOCUMENT]);
    let zero = weights(&[("blue", 0), ("green", 0)]);
    assert_eq!(set(&name(), Some(&stored), &zero, &intent()).unwrap_err(), EditError::AllZero(name()));
    let edit = set(&name(), Some(&stored), &zero, &forced()).unwrap();
    assert!(edit.after.force && text(&edit).contains(r#""force":true"#));
}

#[test]
fn leaves_stay_leaves() {
    let stored = stored(&[("app/blue", "90"), ("app/green", "10"), ("app/red", "1")]);
    let edit = set(&name(), Some(&stored), &weights(&[("green", 30), ("new", 5)]), &created()).unwrap();
    let server = |name| ServerName::new(name).unwrap();
    assert_eq!(
        edit.write,
        Write::Leaves {
            set: vec![(server("green"), "30".to_owned(), 2), (server("new"), "5".to_owned(), 0)],
            keep: vec![(server("blue"), 1), (server("red"), 3)],
        }
    );
}

#[test]
fn a_force_or_a_release_replaces_leaves_with_a_document() {
    let stored = stored(&[("app/blue", "90"), ("app/green", "10")]);
    for edit in [
        set(&name(), Some(&stored), &weights(&[("green", 10)]), &forced()).unwrap(),
        release(&name(), Some(&stored), &intent()).unwrap(),
    ] {
        let Write::Document { index: 0, leaves, .. } = &edit.write else { panic!("{edit:?}") };
        let leaves: Vec<_> = leaves.iter().map(|(server, index)| (server.as_str(), *index)).collect();
        assert_eq!(leaves, [("blue", 1), ("green", 2)]);
    }
}

#[test]
fn more_leaves_than_a_transaction_allows_are_refused() {
    let keys: Vec<_> = (0..=MAX_LEAVES).map(|n| (format!("app/s{n}"), "1".to_owned())).collect();
    let keys: Vec<_> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let too_many = EditError::TooManyLeaves { backend: name(), leaves: MAX_LEAVES + 1 };
    let (just, over) = (stored(&keys[1..]), stored(&keys));
    let requested = weights(&[("s1", 2)]);
    assert_eq!(set(&name(), Some(&over), &requested, &intent()).unwrap_err(), too_many);
    assert_eq!(set(&name(), Some(&over), &requested, &forced()).unwrap_err(), too_many);
    assert_eq!(release(&name(), Some(&over), &intent()).unwrap_err(), too_many);
    assert!(set(&name(), Some(&just), &requested, &intent()).is_ok());
    let one_more = weights(&[("new", 2)]);
    assert_eq!(set(&name(), Some(&just), &one_more, &created()).unwrap_err(), too_many);
    insta::assert_snapshot!(too_many.hint("weightd/weights/"), @"use a document: delete the leaves with `consul kv delete -recurse weightd/weights/app/` (HAProxy keeps its weights), then name all servers in `weightctl set app --create …`");
}

#[test]
fn a_rejected_document_is_not_edited() {
    let requested = weights(&[("blue", 1)]);
    for (keys, replaceable) in [
        (&[("app", "50%")][..], true),
        (&[("app", r#"{"weights":{}}"#)], true),
        (&[("app", r#"{"v":2,"weights":{"blue":1}}"#)], false),
        (&[("app", r#"{"split":{"blue-*":1}}"#)], true),
        (&[("app/blue", "50%")], false),
        (&[("app", r#"{"weights":{"blue":1}}"#), ("app/blue", "1")], false),
    ] {
        let stored = stored(keys);
        for refused in [set(&name(), Some(&stored), &requested, &intent()), release(&name(), Some(&stored), &intent())]
        {
            assert!(matches!(refused, Err(EditError::Rejected { .. })), "{keys:?}");
        }
        // With --create, a complete new document may replace a malformed one.
        let anew = set(&name(), Some(&stored), &requested, &created());
        assert_eq!(anew.is_ok(), replaceable, "{keys:?}");
        if let Ok(anew) = anew {
            assert_eq!(anew.after.weights, Some(requested.clone()));
            assert!(matches!(anew.write, Write::Document { index: 1, .. }));
        }
    }
}

#[test]
fn a_released_backend_needs_create() {
    let stored = stored_release();
    let requested = weights(&[("blue", 1)]);
    let refusal = set(&name(), Some(&stored), &requested, &intent()).unwrap_err();
    assert_eq!(refusal, EditError::Released(name()));
    insta::assert_snapshot!(refusal.hint(""), @"to manage it again, name all servers and add --create");
    let edit = set(&name(), Some(&stored), &requested, &created()).unwrap();
    insta::assert_snapshot!(text(&edit), @r#"{"v":1,"weights":{"blue":1},"by":"bob","at":"2026-11-21T10:00:00Z","team":"x"}"#);
}

#[test]
fn a_document_that_weightd_would_reject_is_not_written() {
    let stored = stored(&[DOCUMENT]);
    let long = Intent { reason: Some("x".repeat(Invalid::MAX_VALUE)), ..intent() };
    let refused = set(&name(), Some(&stored), &weights(&[("blue", 1)]), &long);
    assert!(matches!(refused, Err(EditError::Invalid(Invalid::TooLarge(_)))), "{refused:?}");
}

fn any_weights() -> impl Strategy<Value = Weights> {
    prop::collection::btree_map("[a-e]", 0..=256u64, 1..5)
        .prop_map(|map| map.iter().map(|(s, w)| (ServerName::new(s).unwrap(), Weight::new(*w).unwrap())).collect())
}

fn any_intent() -> impl Strategy<Value = Intent> {
    (".*", proptest::option::of(".*"), any::<bool>(), any::<bool>()).prop_map(|(by, reason, force, create)| Intent {
        by,
        reason,
        force,
        create,
        ..intent()
    })
}

/// Returns the backend in Consul after the write of `edit`, decoded by weightd's own decoder.
fn after(before: &Weights, edit: &Edit) -> Stored {
    let keys: Vec<(String, String)> = match &edit.write {
        Write::Nothing => panic!("nothing was written"),
        Write::Document { value, .. } => vec![("app".to_owned(), String::from_utf8(value.clone()).unwrap())],
        Write::Leaves { set, keep } => {
            let kept = keep.iter().map(|(server, _)| (server, before[server].to_string()));
            let leaves = kept.chain(set.iter().map(|(server, weight, _)| (server, weight.clone())));
            leaves.map(|(server, weight)| (format!("app/{server}"), weight)).collect()
        }
    };
    let keys: Vec<_> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    everything(&keys).backends.remove(0)
}

proptest! {
    #[test]
    fn the_written_keys_decode_to_the_shown_state(
        before in any_weights(),
        requested in any_weights(),
        intent in any_intent(),
        as_leaves: bool,
        field in "[a-z]{3}",
        value in "-?(0|[1-9][0-9]{0,30})\\.[0-9]{1,20}",
    ) {
        let document = format!(r#"{{"weights":{},"x{field}": {value}}}"#, serde_json::to_string(&before).unwrap());
        let leaves: Vec<_> = before.iter().map(|(s, w)| (format!("app/{s}"), w.to_string())).collect();
        let leaves: Vec<_> = leaves.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let stored = if as_leaves { stored(&leaves) } else { stored(&[("app", &document)]) };
        let Ok(edit) = set(&name(), Some(&stored), &requested, &intent) else { return Ok(()) };

        // The shown state has the requested changes, and no other change.
        let shown = edit.after.weights.clone().unwrap();
        for (server, weight) in &shown {
            prop_assert_eq!(weight, requested.get(server).unwrap_or_else(|| &before[server]));
        }
        prop_assert!(before.keys().chain(requested.keys()).all(|server| shown.contains_key(server)));
        prop_assert!(intent.create || requested.keys().all(|server| before.contains_key(server)));
        prop_assert!(intent.force || edit.write == Write::Nothing || shown.values().any(|w| !w.is_zero()));
        if edit.write == Write::Nothing {
            prop_assert_eq!(&shown, &before);
            return Ok(());
        }

        // The written state equals the shown state.
        let after = after(&before, &edit);
        prop_assert!(View::of(&after).has_same_content(&edit.after));
        prop_assert_eq!(after.layout, if as_leaves && !intent.force { Layout::Leaves } else { Layout::Document });
        if let (Content::Document(written), false) = (&after.content, as_leaves) {
            prop_assert_eq!(written.unknown[&format!("x{field}")].get(), value);
        }

        // The same command again changes nothing.
        let again = set(&name(), Some(&after), &requested, &intent).unwrap();
        prop_assert_eq!(again.write, Write::Nothing);
    }
}
