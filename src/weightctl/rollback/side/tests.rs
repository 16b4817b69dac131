use weightd_core::fleet::{Cut, NodeRead, NodeReport, Out};

use super::*;
use crate::documents::stored::tests::stored;

fn side(document: &str) -> Side {
    let off = [Pattern::new("green*").unwrap()];
    Side::of(&View::of(&stored(&[("app", document)])), &off)
}

#[test]
fn a_document_gives_the_side_traffic_or_not_or_does_not_say() {
    assert_eq!(side(r#"{"weights":{"blue":1,"green":1}}"#), Side::Traffic);
    assert_eq!(side(r#"{"weights":{"blue":1,"green":0,"green2":0}}"#), Side::NoTraffic);
    assert_eq!(side(r#"{"weights":{"blue":1}}"#), Side::NotNamed);
    assert_eq!(side(r#"{"split":{"blue*":90,"green-*":10}}"#), Side::Traffic);
    assert_eq!(side(r#"{"split":{"blue*":100,"green-*":0}}"#), Side::NoTraffic);
    assert_eq!(side(r#"{"release":true}"#), Side::Released);
    assert!(matches!(side("garbage"), Side::Rejected(why) if !why.is_empty()));
}

#[test]
fn a_rollback_of_the_same_side_or_to_as_little_counts() {
    let view = |document: &str| View::of(&stored(&[("app", document)]));
    let patterns = |text: &str| -> Vec<_> { text.split(' ').map(|text| Pattern::new(text).unwrap()).collect() };
    let counts = |way, raised: &str, now: &str, planned: &str| {
        let entry = Entry { raised: patterns(raised), ..Entry::new(way, weightd_core::history::To::Gone) };
        is_off(&entry, &view(now), &view(planned), &patterns("green*"))
    };
    let half = r#"{"weights":{"blue":50,"green":30,"green2":20}}"#;
    let none = r#"{"weights":{"blue":1,"green":0}}"#;
    let split = r#"{"split":{"blue*":90,"green-*":10}}"#;
    assert!(counts(Way::Rollback, "green green2", half, none));
    assert!(counts(Way::Rollback, "green-*", split, none));
    assert!(counts(Way::Rollback, "blue", half, r#"{"split":{"blue*":50,"green*":50}}"#));
    for (way, raised, now) in
        [(Way::Set, "green*", half), (Way::Rollback, "green", half), (Way::Rollback, "blue", split)]
    {
        assert!(!counts(way, raised, now, none), "{raised} {now}");
    }
}

#[test]
fn an_orphan_is_what_a_node_enforces_without_a_document() {
    let name = |text| BackendName::new(text).unwrap();
    let out = |backend, reason: &str| Out { backend: name(backend), reason: reason.to_owned(), since: None };
    let report = |node, mode, out| {
        let node = NodeName::new(node).unwrap();
        let report = NodeReport {
            node: node.clone(),
            version: "0.1.0".to_owned(),
            mode,
            machine: "m".to_owned(),
            incarnation: "i".to_owned(),
            instances: Vec::new(),
            applied_index: None,
            recent: Vec::new(),
            out,
            lacks: Vec::new(),
            backends: 0,
            filtered: false,
            cut: Cut::default(),
        };
        (node, NodeRead { index: 9, report: Ok(report) })
    };
    let reports = [
        report("lb1", Mode::Enforce, vec![out("gone", "orphaned"), out("app", "guarded")]),
        report("lb2", Mode::Enforce, vec![out("gone", "orphaned"), out("back", "orphaned")]),
        report("lb3", Mode::Observe, vec![out("seen", "orphaned")]),
    ];
    let nodes = Nodes { index: 9, reports: reports.into() };
    let orphans = orphans(&nodes, |backend| backend.as_str() == "back");
    assert_eq!(orphans.keys().map(BackendName::as_str).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(orphans["gone"].len(), 2);
    assert!(of_orphan(&orphans["gone"]).ends_with("lb1, lb2"));
}
