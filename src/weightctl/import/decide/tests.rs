use weightd_core::observed::ServerRow;

use super::*;
use crate::documents::stored::tests::stored;

fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn weights(all: &[(&str, u64)]) -> Weights {
    all.iter().map(|(server, weight)| (ServerName::new(server).unwrap(), Weight::new(*weight).unwrap())).collect()
}

fn observed(servers: &[(&str, u64, u32)]) -> Observed {
    let rows: Vec<_> = servers
        .iter()
        .map(|(server, weight, admin_state)| ServerRow {
            backend_id: 3,
            backend: "app",
            server_id: 1,
            server,
            op_state: 2,
            admin_state: *admin_state,
            weight: Weight::new(*weight).unwrap(),
            initial: Weight::new(*weight).unwrap(),
            check_status: 6,
            check_state: 0,
            agent_state: 0,
            port: 80,
            last_change: 1000,
            srv_record: false,
        })
        .collect();
    Observed::new(&rows, None, None, &|_, _| None)
}

fn seen(algorithm: &str, servers: &[(&str, u64, u32)]) -> HaproxyBackend {
    let roles = Roles { algorithm: algorithm.to_owned(), ..Roles::default() };
    HaproxyBackend { observed: observed(servers), roles: Some(roles), unreadable: None }
}

fn found(name: &str, all: &[(&str, u64)]) -> Candidate {
    Candidate { backend: backend(name), weights: weights(all), active: None, caveats: Vec::new(), exclusion: None }
}

fn decided(found: Vec<Candidate>, keys: &[(&str, &str)], replace: bool) -> Decision {
    let stored = (!keys.is_empty()).then(|| stored(keys));
    let stored = stored.into_iter().map(|stored| (stored.backend.clone(), Some(stored).into())).collect();
    let intent = Intent { by: "alice".to_owned(), create: true, ..Intent::default() };
    decide(Candidates { found, skipped: Vec::new() }, &[], &stored, "weightd/weights/", replace, &intent)
}

fn names(edits: &[(BackendName, Edit)]) -> Vec<&str> {
    edits.iter().map(|(backend, _)| backend.as_str()).collect()
}

fn sentences(skipped: &[Skipped]) -> Vec<String> {
    skipped.iter().map(Skipped::sentence).collect()
}

#[test]
fn servers_of_a_haproxy_are_imported_with_their_current_weight_except_empty_slots() {
    let source =
        of_haproxy(&[(backend("app"), seen("roundrobin", &[("a", 7, 0), ("b", 0, 1), ("c", 1, 0x20)]))].into());
    assert_eq!(source.skipped, []);
    assert_eq!(source.found[0].weights, weights(&[("a", 7), ("b", 0)]));
    assert_eq!(source.found[0].caveats, Vec::<String>::new());
    let source = of_haproxy(&[(backend("app"), seen("leastconn", &[("a", 7, 0)]))].into());
    assert!(source.found[0].caveats[0].contains("leastconn"), "{source:?}");
    let source = of_haproxy(&[(backend("app"), seen("", &[("a", 7, 0)]))].into());
    assert!(source.found[0].caveats[0].contains("level operator"), "{source:?}");
}

#[test]
fn a_backend_that_weightd_cannot_manage_is_skipped_without_a_failure() {
    let disabled =
        || HaproxyBackend { roles: Some(Roles { disabled: true, ..Roles::default() }), ..seen("", &[("a", 1, 0)]) };
    let source = of_haproxy(
        &[
            (backend("MASTER"), disabled()),
            (backend("empty"), HaproxyBackend::default()),
            (backend("off"), disabled()),
            (backend("static"), seen("static-rr", &[("a", 1, 0)])),
        ]
        .into(),
    );
    assert!(source.found.is_empty() && source.skipped.iter().all(|skipped| !skipped.refused), "{source:?}");
    insta::assert_snapshot!(sentences(&source.skipped).join("\n"), @r"
    not imported: empty: the backend has no servers; no action is necessary
    not imported: off: the backend is disabled; import it by its name after you enable it
    not imported: static: `balance static-rr` accepts no new weights while HAProxy runs; use `balance roundrobin`, reload HAProxy, then import the backend by its name
    ");
}

#[test]
fn a_backend_without_a_key_gets_a_document() {
    let decision = decided(vec![found("app", &[("blue", 90), ("green", 10)])], &[], false);
    assert_eq!((names(&decision.writes), decision.unchanged.len(), decision.skipped.len()), (vec!["app"], 0, 0));
    let Write::Document { value, index: 0, leaves } = &decision.writes[0].1.write else { panic!("{decision:?}") };
    assert!(leaves.is_empty());
    assert_eq!(value, br#"{"v":1,"weights":{"blue":90,"green":10},"by":"alice","at":""}"#);
}

#[test]
fn weights_that_consul_already_has_are_not_written_again() {
    for keys in
        [&[("app", r#"{"weights":{"blue":90,"green":10,"red":0}}"#)][..], &[("app/blue", "90"), ("app/green", "10")]]
    {
        for replace in [false, true] {
            let decision = decided(vec![found("app", &[("blue", 90), ("green", 10)])], keys, replace);
            assert_eq!((decision.writes.len(), names(&decision.unchanged)), (0, vec!["app"]), "{decision:?}");
        }
    }
}

#[test]
fn other_content_in_consul_is_overwritten_only_with_replace() {
    for (keys, why) in [
        (&[("app", r#"{"weights":{"blue":50,"green":50},"by":"bob"}"#)][..], "blue=50 green=50, by bob"),
        (&[("app", r#"{"release":true}"#)], "released"),
        (&[("app", "50%")], "rejected"),
        (&[("app/blue", "90")], "blue=90"),
        // The same weights, but a document with `force` passes the guards.
        (&[("app", r#"{"weights":{"blue":90,"green":10},"force":true}"#)], "blue=90 green=10 (force)"),
    ] {
        let all = || vec![found("app", &[("blue", 90), ("green", 10)])];
        let decision = decided(all(), keys, false);
        assert!(decision.writes.is_empty() && decision.skipped[0].refused, "{decision:?}");
        assert!(decision.skipped[0].reason.contains(why), "{decision:?}");
        let replaced = decided(all(), keys, true);
        assert_eq!((names(&replaced.writes), replaced.skipped.len()), (vec!["app"], 0), "{replaced:?}");
    }
    let other = decided(vec![found("app", &[("blue", 90)])], &[("app", r#"{"weights":{"blue":1,"red":2}}"#)], true);
    let after = other.writes[0].1.after.weights.clone();
    assert_eq!(after, Some(weights(&[("blue", 90), ("red", 2)])), "another HAProxy has red");
}

#[test]
fn a_document_of_a_newer_version_is_never_overwritten() {
    let later = [("app", r#"{"v":2,"weights":{"blue":1}}"#)];
    let decision = decided(vec![found("app", &[("blue", 90)])], &later, true);
    assert!(decision.writes.is_empty() && decision.skipped[0].refused, "{decision:?}");
}

#[test]
fn a_backend_with_all_weights_zero_is_not_imported() {
    let decision = decided(vec![found("app", &[("blue", 0), ("green", 0)])], &[], true);
    assert!(decision.writes.is_empty(), "{decision:?}");
    assert!(
        decision.skipped[0].remedy.ends_with("`weightctl set app blue=0 green=0 --create --force`"),
        "{decision:?}"
    );
}

#[test]
fn a_named_backend_that_does_not_exist_is_refused() {
    let source = || Candidates {
        found: vec![found("app1", &[("blue", 1)]), found("other", &[("blue", 1)])],
        skipped: vec![Skipped::nothing(&backend("off"), "the backend is disabled", "enable it")],
    };
    let of = |wanted: &[&str]| {
        let wanted: Vec<_> = wanted.iter().map(|name| backend(name)).collect();
        decide(source(), &wanted, &BTreeMap::new(), "", false, &Intent { create: true, ..Intent::default() })
    };
    let decision = of(&["app1"]);
    assert_eq!((names(&decision.writes), decision.skipped.len()), (vec!["app1"], 0));
    let decision = of(&["app11", "off"]);
    assert!(decision.writes.is_empty());
    insta::assert_snapshot!(sentences(&decision.skipped).join("\n"), @r"
    not imported: app11: there is no such backend; did you mean `app1`?
    not imported: off: the backend is disabled; enable it
    ");
}

#[test]
fn the_next_changes_equal_weightds_plan() {
    let seen = [(backend("app"), seen("roundrobin", &[("blue", 90, 0), ("green", 10, 0)]))].into();
    let in_consul =
        |all: &[(&str, u64)]| [(backend("app"), weights(all)), (backend("gone"), weights(&[("x", 1)]))].into();
    assert_eq!(next_changes(&in_consul(&[("blue", 90), ("green", 10), ("red", 5)]), &seen), []);
    let next = next_changes(&in_consul(&[("blue", 90), ("green", 25)]), &seen);
    assert_eq!(
        serde_json::to_value(next).unwrap(),
        serde_json::json!([{ "backend": "app", "server": "green", "from": 10, "to": 25, "not_now": null }])
    );
}
