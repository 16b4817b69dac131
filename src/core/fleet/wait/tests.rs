use super::*;
use crate::fleet::{Cut, Duplicate, InstanceReport};

fn name(text: &str) -> BackendName {
    BackendName::new(text).unwrap()
}

fn node(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// A report with these documents in `recent`, and room for more.
fn report(id: &str, recent: &[(&str, u64, &str)]) -> NodeReport {
    let recent: Vec<_> = recent
        .iter()
        .map(|(backend, index, how)| Recent { backend: name(backend), index: *index, how: (*how).to_owned().into() })
        .collect();
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
        recent,
        out: Vec::new(),
        lacks: Vec::new(),
        filtered: false,
        cut: Cut::default(),
    }
}

/// A report of 100 backends in which 64 documents are newer than `index`.
fn full(id: &str, index: u64) -> NodeReport {
    let newer = (0..64).map(|n| Recent { backend: name(&format!("other{n}")), index: index + 64 - n, how: How::Set });
    NodeReport { recent: newer.collect(), applied_index: Some(index + 64), backends: 100, ..report(id, &[]) }
}

fn fleet(reports: Vec<(u64, NodeReport)>) -> Fleet {
    let nodes =
        reports.into_iter().map(|(index, report)| (report.node.clone(), NodeRead { index, report: Ok(report) }));
    Fleet { nodes: nodes.collect(), ..Fleet::default() }
}

fn inventory(id: &str, mode: Mode) -> Inventory {
    Inventory { node: node(id), machine: "m".into(), mode, instances: vec![], since: None, duplicate: None }
}

/// The verdict on `app` at index 100, the document read again with that index.
fn judge(fleet: &Fleet) -> Verdict {
    judge_with(fleet, Need::All, DocumentNow::Index(100))
}

fn judge_with(fleet: &Fleet, need: Need, document: DocumentNow) -> Verdict {
    verdict(&Wait { backend: &name("app"), index: 100, need, documents: None, document }, fleet)
}

/// How the only node stands.
fn stands(key: u64, report: NodeReport) -> Standing {
    let mut verdict = judge(&fleet(vec![(key, report)]));
    verdict.nodes.pop_first().unwrap().1
}

fn set(id: &str) -> (u64, NodeReport) {
    (110, report(id, &[("app", 100, "set")]))
}

#[test]
fn it_is_done_when_every_node_has_set_the_document() {
    let done = judge(&fleet(vec![set("a"), set("b"), (111, report("c", &[("app", 100, "lacks")]))]));
    assert_eq!((done.overall, done.done, done.counted), (Overall::Done, 3, 3));
    assert_eq!(done.nodes[&node("c")], Standing::Done { has: false });
    let late = judge(&fleet(vec![set("a"), (90, report("b", &[("app", 80, "set")]))]));
    assert_eq!((late.overall, late.done), (Overall::Waiting, 1));
}

#[test]
fn the_document_is_read_again_before_it_is_done() {
    let fleet = fleet(vec![set("a")]);
    assert_eq!(judge_with(&fleet, Need::All, DocumentNow::NotRead).overall, Overall::Confirm);
    assert_eq!(judge_with(&fleet, Need::All, DocumentNow::Index(100)).overall, Overall::Done);
}

#[test]
fn the_document_is_read_again_before_it_fails() {
    // The reason may be that of a newer document.
    let fleet = fleet(vec![(130, report("a", &[("app", 120, "rejected")]))]);
    assert_eq!(judge_with(&fleet, Need::All, DocumentNow::NotRead).overall, Overall::Confirm);
    assert_eq!(judge_with(&fleet, Need::All, DocumentNow::Index(120)).overall, Overall::Replaced(Some(120)));
}

#[test]
fn early_end_1_a_document_that_the_token_may_not_see_is_not_done() {
    // The node reads other documents beyond the write, so that its applied index is above it.
    let blind = NodeReport { applied_index: Some(105), ..report("a", &[("other", 105, "set")]) };
    assert_eq!(stands(110, blind), Standing::Waiting(Waiting::NotRead));
    // The same among many documents: Consul says that it hid some, or the node has fewer than there are.
    let hidden = NodeReport { filtered: true, ..full("a", 100) };
    assert_eq!(stands(200, hidden), Standing::Waiting(Waiting::NotRead));
    let read = NodeRead { index: 200, report: Ok(full("a", 100)) };
    let app = name("app");
    let standing =
        |documents| asked(&read, &app, |report| report.standing(&app, 100, documents, DocumentNow::Index(100)));
    assert_eq!(standing(Some(101)), Standing::Waiting(Waiting::NotRead));
    assert_eq!(standing(Some(100)), Standing::Done { has: true });
}

#[test]
fn early_end_2_a_report_from_before_consul_was_rebuilt_is_not_done() {
    let stale = report("a", &[("app", 5000, "set")]);
    assert_eq!(stands(110, stale), Standing::Waiting(Waiting::OtherConsul(5000)));
    let stale = NodeReport { applied_index: Some(5000), ..report("a", &[("app", 100, "set")]) };
    assert_eq!(stands(110, stale), Standing::Waiting(Waiting::OtherConsul(5000)));
    // Also when the new Consul has come as far: the document would have to be newer than the write.
    let stale = report("a", &[("app", 5000, "set")]);
    assert_eq!(stands(6000, stale), Standing::Waiting(Waiting::OtherConsul(5000)));
    // A new session says nothing until it has read.
    let fresh = NodeReport { applied_index: None, ..report("a", &[]) };
    assert_eq!(stands(110, fresh), Standing::Waiting(Waiting::NotRead));
}

#[test]
fn early_end_3_a_report_that_is_cut_is_not_done() {
    for cut in [Cut { out: 900, ..Cut::default() }, Cut { lacks: 1, ..Cut::default() }] {
        assert_eq!(stands(200, NodeReport { cut, ..full("a", 100) }), Standing::Waiting(Waiting::Cut));
    }
    let mut down = full("a", 100);
    down.instances[0].up = false;
    assert_eq!(stands(200, down.clone()), Standing::Waiting(Waiting::Down("edge".into())));
    down.cut.out = 936;
    assert!(matches!(stands(200, down), Standing::Waiting(_)), "1,000 backends, HAProxy down");
    // The names are long: what was cut from `recent` alone is known from the other lists.
    let mut shortened = full("a", 100);
    shortened.recent.truncate(40);
    shortened.cut.recent = 24;
    assert_eq!(stands(200, shortened.clone()), Standing::Done { has: true });
    shortened.cut.lacks = 3;
    assert_eq!(stands(200, shortened.clone()), Standing::Waiting(Waiting::Cut));
    let read = NodeRead { index: 200, report: Ok(shortened) };
    assert_eq!(standing(&read, &name("app"), 100, false), Standing::Waiting(Waiting::Cut));
    assert_eq!(standing(&read, &name("app"), 100, true), Standing::Done { has: true }, "its counts say that it has it");
}

#[test]
fn early_end_4_one_of_two_instances_is_not_enough() {
    // A node with two roots has a key under each. The one of this root is late, whatever the other root has.
    let late = report("a", &[("app", 90, "set")]);
    assert_eq!(stands(110, late), Standing::Waiting(Waiting::Older(90)));
    let mut one_down = full("a", 100);
    one_down.instances.push(InstanceReport { name: "second".into(), up: false, ..one_down.instances[0].clone() });
    assert_eq!(stands(200, one_down), Standing::Waiting(Waiting::Down("second".into())));
    let none = Fleet { inventory: [(node("a"), Ok(inventory("a", Mode::Enforce)))].into(), ..Fleet::default() };
    assert_eq!(judge(&none).overall, Overall::Waiting, "its key under this root is missing");
}

#[test]
fn early_end_5_a_document_that_was_replaced_is_not_done() {
    let newer = fleet(vec![(130, report("a", &[("app", 120, "set")]))]);
    assert_eq!(judge_with(&newer, Need::All, DocumentNow::NotRead).overall, Overall::Confirm);
    assert_eq!(judge_with(&newer, Need::All, DocumentNow::Index(120)).overall, Overall::Replaced(Some(120)));
    assert_eq!(judge_with(&newer, Need::All, DocumentNow::Index(12)).overall, Overall::Replaced(Some(12)));
    assert_eq!(judge_with(&newer, Need::All, DocumentNow::Absent).overall, Overall::Replaced(None));
}

#[test]
fn a_report_from_before_the_write_says_nothing() {
    assert_eq!(stands(100, report("a", &[("app", 99, "set")])), Standing::Waiting(Waiting::Silent));
}

#[test]
fn a_document_older_than_all_of_recent_is_done_by_the_applied_index() {
    assert_eq!(stands(200, full("a", 100)), Standing::Done { has: true });
    let lacks = NodeReport { lacks: vec![name("app")], ..full("a", 100) };
    assert_eq!(stands(200, lacks), Standing::Done { has: false });
    let behind = NodeReport { applied_index: Some(99), ..full("a", 100) };
    assert_eq!(stands(200, behind), Standing::Waiting(Waiting::NotRead));
    let out = |reason: &str| NodeReport {
        out: vec![Out { backend: name("app"), reason: reason.into(), since: None }],
        ..full("a", 100)
    };
    assert_eq!(stands(200, out("guarded")), Standing::Waiting(Waiting::Not("guarded".into())));
    assert_eq!(stands(200, out("paused")), Standing::Cannot("paused".into()));
    // What was said of an older document says nothing of this one.
    let unread = NodeReport { recent: full("a", 60).recent, ..out("rejected") };
    assert_eq!(stands(200, unread), Standing::Waiting(Waiting::NotRead));
}

#[test]
fn what_does_not_change_by_itself_ends_it_at_once_with_the_names() {
    for reason in FINAL {
        let verdict = judge(&fleet(vec![set("a"), (110, report("b", &[("app", 100, reason)]))]));
        assert_eq!(verdict.overall, Overall::Failed(vec![(node("b"), reason.to_owned())]));
    }
    let guarded = judge(&fleet(vec![set("a"), (110, report("b", &[("app", 100, "guarded")]))]));
    assert_eq!(guarded.overall, Overall::Waiting);
}

#[test]
fn a_part_of_the_nodes_is_enough_where_that_is_asked() {
    let nine = |rest: (u64, NodeReport)| {
        let mut reports: Vec<_> = (0..9).map(|n| set(&format!("n{n}"))).collect();
        reports.push(rest);
        fleet(reports)
    };
    let paused = nine((110, report("x", &[("app", 100, "paused")])));
    let percent = |percent| judge_with(&paused, Need::Percent(percent), DocumentNow::Index(100)).overall;
    assert_eq!((percent(90), percent(0)), (Overall::Done, Overall::Done));
    assert!(matches!(percent(91), Overall::Failed(_)));
    let late = nine((90, report("x", &[])));
    assert_eq!(judge_with(&late, Need::Percent(91), DocumentNow::Index(100)).overall, Overall::Waiting);
}

#[test]
fn missing_nodes_count_as_not_done() {
    let mut fleet = fleet(vec![set("a")]);
    fleet.inventory.insert(node("b"), Ok(inventory("b", Mode::Enforce)));
    let verdict = judge(&fleet);
    assert_eq!((verdict.overall, &verdict.nodes[&node("b")]), (Overall::Waiting, &Standing::Waiting(Waiting::Missing)));
    fleet.inventory.insert(node("b"), Err(BadValue::Version(2)));
    assert_eq!(judge(&fleet).overall, Overall::Waiting);
    fleet.inventory.clear();
    fleet.expect = Some(3);
    let verdict = judge(&fleet);
    assert_eq!((verdict.overall, verdict.unknown, verdict.counted), (Overall::Waiting, 2, 3));
    assert_eq!(judge_with(&fleet, Need::Percent(33), DocumentNow::Index(100)).overall, Overall::Done);
    fleet.expect = Some(1);
    assert_eq!(judge(&fleet).overall, Overall::Done);
}

#[test]
fn nodes_in_mode_observe_do_not_count() {
    let observing = NodeReport { mode: Mode::Observe, ..report("b", &[]) };
    let mut both = fleet(vec![set("a"), (50, observing.clone())]);
    both.inventory.insert(node("c"), Ok(inventory("c", Mode::Observe)));
    let verdict = judge(&both);
    assert_eq!((verdict.overall, verdict.counted), (Overall::Done, 1));
    assert_eq!(judge(&fleet(vec![(110, observing)])).overall, Overall::NoNodes);
    assert_eq!(stands(110, NodeReport { mode: Mode::Unknown, ..report("a", &[]) }), Standing::Waiting(Waiting::Mode));
}

#[test]
fn no_nodes_is_never_done() {
    assert_eq!(judge(&Fleet::default()).overall, Overall::NoNodes);
    assert_eq!(judge(&Fleet { expect: Some(20), ..Fleet::default() }).overall, Overall::NoNodes);
    assert_eq!(judge_with(&Fleet::default(), Need::Percent(0), DocumentNow::Index(100)).overall, Overall::NoNodes);
}

#[test]
fn somebody_has_to_have_the_backend() {
    let lacks = |id: &str| (110, report(id, &[("app", 100, "lacks")]));
    assert_eq!(judge(&fleet(vec![lacks("a"), lacks("b")])).overall, Overall::NobodyHasIt);
    let one = fleet(vec![lacks("a"), (90, report("b", &[]))]);
    assert_eq!(judge_with(&one, Need::Percent(50), DocumentNow::Index(100)).overall, Overall::Waiting);
}

#[test]
fn a_bad_report_and_a_name_that_two_machines_use_are_waited_for() {
    let mut fleet = fleet(vec![set("a"), set("b")]);
    fleet.nodes.insert(node("a"), NodeRead { index: 110, report: Err(BadReport::Version(2)) });
    let duplicate = Some(Duplicate { machine: "m2".into(), incarnation: None, since: None });
    fleet.inventory.insert(node("b"), Ok(Inventory { duplicate, ..inventory("b", Mode::Enforce) }));
    let verdict = judge(&fleet);
    assert_eq!((verdict.overall, verdict.done), (Overall::Waiting, 0));
    assert_eq!(verdict.nodes[&node("b")], Standing::Waiting(Waiting::Duplicate("m2".into())));
}
