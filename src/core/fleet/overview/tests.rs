use std::sync::Arc;

use super::*;
use crate::{
    desired::{Desired, Instruction, Invalid, Rejected},
    fleet::{Cut, Duplicate, InstanceReport, Inventory, Mode, NodeRead, NodeReport, Recent},
};

fn name(text: &str) -> BackendName {
    BackendName::new(text).unwrap()
}

fn node(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn documents(of: &[(&str, u64)]) -> DesiredState {
    let weights = |index| Published::Valid(Instruction::Weights(Arc::new(Desired { index, ..Desired::default() })));
    let backends = of.iter().map(|(backend, index)| (name(backend), weights(*index)));
    DesiredState { backends: backends.collect(), ..DesiredState::default() }
}

fn report(id: &str, recent: &[(&str, u64, &str)]) -> NodeReport {
    let recent: Vec<_> = recent
        .iter()
        .map(|(backend, index, how)| Recent { backend: name(backend), index: *index, how: (*how).to_owned().into() })
        .collect();
    let out = recent.iter().filter(|recent| !["set", "lacks"].contains(&recent.how.as_str())).map(|recent| Out {
        backend: recent.backend.clone(),
        reason: recent.how.as_str().to_owned(),
        since: Some(Timestamp::from_seconds(60)),
    });
    NodeReport {
        node: node(id),
        version: "0.1.0".into(),
        mode: Mode::Enforce,
        machine: "m".into(),
        incarnation: "i".into(),
        instances: vec![InstanceReport {
            name: "edge".into(),
            up: true,
            version: None,
            pid: None,
            since: None,
            why: None,
        }],
        applied_index: recent.iter().map(|recent| recent.index).max(),
        backends: recent.len() as u64,
        out: out.collect(),
        lacks: Vec::new(),
        recent,
        filtered: false,
        cut: Cut::default(),
    }
}

fn fleet(reports: Vec<NodeReport>) -> Fleet {
    let nodes = reports.into_iter().map(|report| (report.node.clone(), NodeRead { index: 1000, report: Ok(report) }));
    Fleet { nodes: nodes.collect(), ..Fleet::default() }
}

fn inventory(id: &str, duplicate: Option<&str>) -> Inventory {
    let duplicate = duplicate.map(|machine| Duplicate { machine: machine.into(), incarnation: None, since: None });
    Inventory { node: node(id), machine: "m".into(), mode: Mode::Enforce, instances: vec![], since: None, duplicate }
}

#[test]
fn a_fleet_that_has_everything_has_no_problems() {
    let all = [("app1", 10, "set"), ("app2", 20, "lacks")];
    let fleet = fleet(vec![report("a", &all), report("b", &[("app1", 10, "set"), ("app2", 20, "set")])]);
    let view = overview(&fleet, &documents(&[("app1", 10), ("app2", 20)]));
    assert_eq!((view.in_sync, view.counted, view.problems.len(), view.differences().count()), (2, 2, 0, 0));
    let app2 = &view.backends[&name("app2")];
    assert_eq!((app2.index, app2.has, &*app2.lacks), (20, 1, [node("a")].as_slice()));
}

#[test]
fn each_way_of_not_having_it_is_named() {
    let mut fleet = fleet(vec![
        report("late", &[("app", 9, "set")]),
        report("guarded", &[("app", 10, "guarded")]),
        report("twice", &[("app", 10, "set")]),
        NodeReport { mode: Mode::Observe, ..report("observe", &[("app", 10, "set")]) },
        report("fine", &[("app", 10, "set")]),
    ]);
    let bad = Err(crate::fleet::BadReport::Version(7));
    fleet.nodes.insert(node("newer"), NodeRead { index: 1000, report: bad });
    fleet.inventory.insert(node("dead"), Ok(inventory("dead", None)));
    fleet.inventory.insert(node("twice"), Ok(inventory("twice", Some("m2"))));
    fleet.expect = Some(9);
    let view = overview(&fleet, &documents(&[("app", 10)]));
    let health = |id: &str| view.nodes[&node(id)].health.clone();
    assert!(matches!(health("late"), Health::Out(out) if out[0].reason == "it has the document of index 9"));
    let since = Some(Timestamp::from_seconds(60));
    assert_eq!(health("guarded"), Health::Out(vec![Out { backend: name("app"), reason: "guarded".into(), since }]));
    assert_eq!((health("twice"), health("dead")), (Health::Duplicate("m2".into()), Health::Missing));
    assert_eq!((health("observe"), health("fine")), (Health::Observe, Health::InSync));
    assert_eq!(health("newer"), Health::Unreadable("the report has version 7, this program reads version 1".into()));
    assert_eq!((view.in_sync, view.counted), (1, 8), "two hosts without weightd count, the observer does not");
    let differs: Vec<_> = view.differences().map(|(_, difference)| difference.node.to_string()).collect();
    assert_eq!(differs, ["dead", "guarded", "late", "newer", "twice"]);
    let problems: Vec<_> = view.problems.iter().map(|p| p.node.as_ref().map_or("-", NodeName::as_str)).collect();
    assert_eq!(problems, ["-", "dead", "guarded", "late", "newer", "twice"]);
    assert_eq!(view.problems[0].what, "2 of 9 expected nodes never reported");
    assert!(view.problems[1].remedy.ends_with("`weightctl node forget dead`"));
}

#[test]
fn a_haproxy_that_is_down_and_an_orphan_are_problems() {
    let mut down = report("a", &[("app", 10, "set")]);
    down.instances[0].up = false;
    down.instances[0].why = Some("refused\u{1b}".into());
    down.out.push(Out { backend: name("gone"), reason: "orphaned".into(), since: None });
    let view = overview(&fleet(vec![down]), &documents(&[("app", 10)]));
    let what: Vec<_> = view.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(what, ["orphaned", "HAProxy `edge` is down: refused\\u{1b}"]);
    assert_eq!(view.differences().count(), 0, "an orphan has no document to differ from");
}

#[test]
fn a_backend_that_no_node_has_is_a_problem() {
    let fleet = fleet(vec![report("a", &[("tpyo", 10, "lacks")])]);
    let view = overview(&fleet, &documents(&[("tpyo", 10)]));
    assert_eq!((view.problems.len(), &*view.problems[0].what), (1, "no node has this backend"));
}

#[test]
fn a_released_backend_that_no_node_has_any_more_is_no_problem() {
    let fleet = fleet(vec![report("a", &[("app", 10, "lacks")])]);
    let released = Published::Valid(Instruction::Release { index: 10 });
    let documents = DesiredState { backends: [(name("app"), released)].into(), ..DesiredState::default() };
    let view = overview(&fleet, &documents);
    assert_eq!((view.problems.len(), view.in_sync, view.differences().count()), (0, 1, 0));
}

#[test]
fn long_names_alone_are_no_difference() {
    let documents_of = |count: u64| {
        let long = |n: u64| (format!("a-backend-with-a-name-of-very-many-characters-as-generated-{n:03}"), 100 + n);
        (0..count).map(long).collect::<Vec<_>>()
    };
    for count in [60, 100] {
        let all = documents_of(count);
        let borrowed: Vec<_> = all.iter().map(|(name, index)| (name.as_str(), *index)).collect();
        let newest: Vec<_> = borrowed.iter().rev().take(64).map(|(name, index)| (*name, *index, "set")).collect();
        let whole = NodeReport { backends: count, ..report("a", &newest) };
        let written = |report: NodeReport| NodeReport::parse(&node("a"), &report.to_value()).unwrap();
        let cut = written(whole.clone());
        assert!(cut.cut.recent > 0 && cut.cut.out == 0, "{:?}", cut.cut);
        let (oldest, documents) = (name(borrowed[0].0), documents(&borrowed));
        let differs = |report: NodeReport| {
            let view = overview(&fleet(vec![report]), &documents);
            view.differences().find(|(backend, _)| **backend == oldest).map(|(_, differs)| differs.standing.clone())
        };
        let view = overview(&fleet(vec![cut.clone()]), &documents);
        assert_eq!((view.in_sync, view.differences().count(), view.problems.len()), (1, 0, 0), "{count}");

        // Whatever the lists do not say, or are too short to say, is a difference.
        let guarded = || Out { backend: oldest.clone(), reason: "guarded".into(), since: None };
        let is_out = NodeReport { out: vec![guarded()], recent: whole.recent[..40].to_vec(), ..cut.clone() };
        assert_eq!(differs(is_out), Some(Standing::Waiting(Waiting::Not("guarded".into()))), "{count}");
        for wrong in [Cut { out: 1, ..cut.cut }, Cut { lacks: 1, ..cut.cut }, Cut { instances: 1, ..cut.cut }] {
            let report = NodeReport { cut: wrong, ..cut.clone() };
            assert_eq!(differs(report), Some(Standing::Waiting(Waiting::Cut)), "{count} {wrong:?}");
        }
        let blind = NodeReport { backends: count - 1, ..cut.clone() };
        assert_eq!(differs(blind), Some(Standing::Waiting(Waiting::NotRead)), "{count}");
        let behind = NodeReport { applied_index: Some(99), ..cut.clone() };
        assert_eq!(differs(behind), Some(Standing::Waiting(Waiting::NotRead)), "{count}");
        let mut down = cut;
        down.instances[0].up = false;
        assert_eq!(differs(down), Some(Standing::Waiting(Waiting::Down("edge".into()))), "{count}");
    }
}

#[test]
fn a_rejected_document_differs_on_each_node() {
    let rejected = Rejected { key: "k".into(), index: 10, reason: Invalid::EmptyWeights };
    let documents = DesiredState {
        backends: [(name("app"), Published::Rejected(Arc::new(rejected)))].into(),
        ..DesiredState::default()
    };
    let view = overview(&fleet(vec![report("a", &[("app", 10, "rejected")])]), &documents);
    let differences: Vec<_> = view.differences().map(|(_, difference)| &difference.standing).collect();
    assert_eq!(differences, [&Standing::Cannot("rejected".into())]);
}

#[test]
fn an_empty_fleet_has_nothing() {
    let view = overview(&Fleet::default(), &documents(&[("app", 10)]));
    assert!(view.nodes.is_empty() && view.problems.is_empty() && view.backends.len() == 1);
}
