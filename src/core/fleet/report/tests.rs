use super::*;

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

fn time(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn name(text: &str) -> BackendName {
    BackendName::new(text).unwrap()
}

fn instance(name: &str) -> InstanceReport {
    InstanceReport { name: name.to_owned(), up: true, version: None, pid: None, since: None, why: None }
}

fn report(instances: &[&str]) -> Report {
    let identity = Identity {
        node: NodeName::new("lb-1").unwrap(),
        version: "0.1.0".into(),
        mode: Mode::Enforce,
        machine: "m".into(),
        incarnation: "i".into(),
    };
    Report::new(identity, instances.iter().map(|name| instance(name)).collect())
}

fn answer(report: &mut Report, documents: &[(&str, u64)], now: u64) {
    let names: Vec<_> = documents.iter().map(|(text, index)| (name(text), *index)).collect();
    report.answer(
        names.iter().map(|(name, index)| (name, *index)),
        Answer { plain: true, filtered: false, now: at(now), at: Some(time(now)) },
    );
}

fn shown(report: &mut Report, now: u64) -> Vec<String> {
    let value = report.value(at(now));
    let parsed = NodeReport::parse(&value.node, &value.clone().to_value());
    assert_eq!(parsed, Ok(value.clone()), "what is written can be read, and does not contradict itself");
    value.recent.iter().map(|r| format!("{}@{} {}", r.backend, r.index, r.how.as_str())).collect()
}

#[test]
fn a_document_is_shown_when_it_is_decided_and_read_back() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5)], 0);
    assert_eq!((shown(&mut report, 1), report.value(at(1)).applied_index), (vec![], None));
    report.stands("edge", &name("app"), 5, Stand::Set, None);
    assert_eq!((shown(&mut report, 2), report.value(at(2)).applied_index), (vec!["app@5 set".to_owned()], Some(5)));
}

#[test]
fn a_change_under_way_shows_the_decision_before_it() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5), ("other", 3)], 0);
    report.stands("edge", &name("app"), 5, Stand::Set, None);
    report.stands("edge", &name("other"), 3, Stand::Set, None);
    let before = report.value(at(1));
    answer(&mut report, &[("app", 9), ("other", 3)], 10);
    assert_eq!(report.value(at(10)), before, "nothing to write until it is decided");
    assert_eq!(report.next_change(at(10)), Some(at(1010)));
    report.stands("edge", &name("app"), 9, Stand::Set, None);
    assert_eq!(shown(&mut report, 11), ["app@9 set", "other@3 set"]);
    assert_eq!((report.value(at(11)).applied_index, report.next_change(at(11))), (Some(9), None));
}

#[test]
fn what_is_under_way_too_long_is_out_as_pending() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5)], 0);
    assert_eq!(shown(&mut report, 999), [""; 0]);
    assert_eq!(shown(&mut report, 1000), ["app@5 pending"]);
    let value = report.value(at(1000));
    assert_eq!(value.out, [Out { backend: name("app"), reason: "pending".into(), since: Some(time(0)) }]);
    assert_eq!(value.applied_index, Some(5));
}

#[test]
fn what_a_haproxy_withdraws_is_pending_after_a_second_and_until_it_is_set_again() {
    let (app, set) = (name("app"), || vec!["app@5 set".to_owned()]);
    let mut report = report(&["a", "b"]);
    answer(&mut report, &[("app", 5)], 0);
    report.stands("a", &app, 5, Stand::Set, None);
    report.stands("b", &app, 5, Stand::Set, None);
    let before = report.value(at(2000));
    // A difference that is corrected within the second is no write.
    assert!(report.withdraw("a", &app, at(5000), Some(time(5))));
    assert!(!report.withdraw("a", &app, at(5900), Some(time(6))), "it says so once");
    assert_eq!((report.value(at(5999)), report.next_change(at(5999))), (before.clone(), Some(at(6000))));
    report.stands("a", &app, 5, Stand::Set, None);
    assert_eq!((report.value(at(7000)), report.next_change(at(7000))), (before, None));

    report.withdraw("a", &app, at(8000), Some(time(8)));
    report.withdraw("b", &app, at(8900), Some(time(9)));
    assert_eq!(shown(&mut report, 8999), set());
    assert_eq!(shown(&mut report, 9000), ["app@5 pending"], "since the first of the two");
    let out = [Out { backend: app.clone(), reason: "pending".into(), since: Some(time(8)) }];
    assert_eq!((report.value(at(9000)).out, report.value(at(9000)).applied_index), (out.to_vec(), Some(5)));
    report.stands("a", &app, 5, Stand::Set, None);
    assert_eq!(shown(&mut report, 9001), ["app@5 pending"]);
    report.stands("b", &app, 5, Stand::Set, None);
    assert_eq!((shown(&mut report, 9002), report.value(at(9002)).out), (set(), vec![]));
}

#[test]
fn a_new_document_has_a_second_of_its_own_whatever_was_withdrawn() {
    let app = name("app");
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5)], 0);
    report.stands("edge", &app, 5, Stand::Set, None);
    report.withdraw("edge", &app, at(2000), None);
    assert_eq!(shown(&mut report, 3000), ["app@5 pending"]);
    answer(&mut report, &[("app", 9)], 4000);
    assert!(!report.withdraw("edge", &app, at(4000), None));
    assert_eq!(shown(&mut report, 4999), ["app@5 set"], "the last decision");
    assert_eq!(shown(&mut report, 5000), ["app@9 pending"]);
    // What is known of another HAProxy, or of no document, says nothing of this one.
    assert!(!report.withdraw("other", &app, at(6000), None));
    assert!(!report.withdraw("edge", &name("unknown"), at(6000), None));
}

#[test]
fn a_reason_stands_in_out_with_its_beginning_and_does_not_hold_up_the_index() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5), ("lost", 7)], 0);
    report.stands("edge", &name("app"), 5, Stand::Not("guarded".into()), Some(time(100)));
    report.stands("edge", &name("lost"), 7, Stand::Lacks, Some(time(100)));
    report.stands("edge", &name("app"), 5, Stand::Not("paused".into()), Some(time(200)));
    let value = report.value(at(1));
    assert_eq!(value.out, [Out { backend: name("app"), reason: "paused".into(), since: Some(time(100)) }]);
    assert_eq!((value.applied_index, value.lacks, value.backends), (Some(7), vec![name("lost")], 2));
    assert_eq!(shown(&mut report, 1), ["lost@7 lacks", "app@5 paused"]);
    report.stands("edge", &name("app"), 5, Stand::Set, Some(time(300)));
    assert!(report.value(at(1)).out.is_empty());
}

#[test]
fn every_haproxy_of_the_root_has_to_decide() {
    let mut report = report(&["a", "b"]);
    answer(&mut report, &[("app", 5)], 0);
    report.stands("a", &name("app"), 5, Stand::Set, None);
    assert_eq!(shown(&mut report, 1), [""; 0], "b has not decided");
    report.stands("b", &name("app"), 4, Stand::Set, None);
    assert_eq!(shown(&mut report, 1), [""; 0], "b decided about an older document");
    report.stands("b", &name("app"), 5, Stand::Lacks, None);
    assert_eq!(shown(&mut report, 1), ["app@5 set"], "one of them has the backend");
    report.stands("b", &name("app"), 5, Stand::Not("unmatched".into()), None);
    assert_eq!(shown(&mut report, 1), ["app@5 unmatched"]);
}

#[test]
fn two_roots_share_nothing() {
    let (mut east, mut west) = (report(&["a"]), report(&["b"]));
    answer(&mut east, &[("app", 50)], 0);
    answer(&mut west, &[("app", 60)], 0);
    east.stands("a", &name("app"), 50, Stand::Set, None);
    west.stands("a", &name("app"), 60, Stand::Set, None);
    assert_eq!((shown(&mut east, 1), shown(&mut west, 1)), (vec!["app@50 set".to_owned()], vec![]));
}

#[test]
fn a_new_session_says_nothing_until_a_plain_get_has_completed() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5000)], 0);
    report.stands("edge", &name("app"), 5000, Stand::Set, None);
    report.new_session();
    assert_eq!((shown(&mut report, 1), report.value(at(1)).applied_index), (vec![], None));
    let app = name("app");
    report.answer([(&app, 5000)], Answer { plain: false, filtered: false, now: at(2), at: None });
    assert_eq!(shown(&mut report, 2), [""; 0], "the answer of a blocking query is not enough");
    // Consul was rebuilt: its indexes begin anew, and what was set of the old one proves nothing.
    answer(&mut report, &[("app", 12)], 3);
    assert_eq!((shown(&mut report, 3), report.value(at(3)).applied_index), (vec![], None));
    report.stands("edge", &app, 12, Stand::Set, None);
    assert_eq!((shown(&mut report, 4), report.value(at(4)).applied_index), (vec!["app@12 set".to_owned()], Some(12)));
}

#[test]
fn an_index_that_goes_back_is_absent_until_it_is_decided() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 50), ("other", 60)], 0);
    for (backend, index) in [("app", 50), ("other", 60)] {
        report.stands("edge", &name(backend), index, Stand::Set, None);
    }
    assert_eq!(report.value(at(1)).applied_index, Some(60));
    answer(&mut report, &[("app", 20), ("other", 60)], 2);
    assert_eq!(report.value(at(2)).applied_index, None);
    assert_eq!(shown(&mut report, 2), ["other@60 set"], "the decision about 50 says nothing about 20");
    report.stands("edge", &name("app"), 20, Stand::Set, None);
    assert_eq!(report.value(at(3)).applied_index, Some(60));
    answer(&mut report, &[("app", 20)], 4);
    assert_eq!(
        report.value(at(4)).applied_index,
        Some(20),
        "without the newest document the index is that of the rest"
    );
}

#[test]
fn recent_holds_the_documents_of_the_highest_indexes() {
    let mut report = report(&["edge"]);
    let documents: Vec<_> = (0..100_u64).map(|n| (format!("app{n}"), n + 1)).collect();
    let borrowed: Vec<_> = documents.iter().map(|(name, index)| (name.as_str(), *index)).collect();
    answer(&mut report, &borrowed, 0);
    for (backend, index) in &borrowed {
        report.stands("edge", &name(backend), *index, Stand::Set, None);
    }
    let value = report.value(at(1));
    assert_eq!((value.recent.len(), value.recent[0].index, value.recent[63].index), (64, 100, 37));
    assert_eq!((value.backends, value.applied_index), (100, Some(100)));
}

#[test]
fn a_vanished_document_is_out_only_where_a_haproxy_says_so() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[("app", 5), ("gone", 6)], 0);
    report.stands("edge", &name("app"), 5, Stand::Set, None);
    report.stands("edge", &name("gone"), 6, Stand::Set, None);
    answer(&mut report, &[("app", 5)], 1);
    assert_eq!((shown(&mut report, 1), report.value(at(1)).backends), (vec!["app@5 set".to_owned()], 1));
    report.stands("edge", &name("gone"), 6, Stand::Not("orphaned".into()), Some(time(9)));
    let value = report.value(at(2));
    assert_eq!(value.out, [Out { backend: name("gone"), reason: "orphaned".into(), since: Some(time(9)) }]);
    assert_eq!(value.applied_index, Some(5));
}

#[test]
fn an_empty_answer_has_no_index() {
    let mut report = report(&["edge"]);
    answer(&mut report, &[], 0);
    assert_eq!(report.value(at(0)).applied_index, None);
}

#[test]
fn a_haproxy_that_went_away_is_reported() {
    let mut report = report(&["edge"]);
    report.instance(InstanceReport { up: false, why: Some("refused".into()), ..instance("edge") });
    report.instance(instance("of-another-root"));
    assert_eq!(report.value(at(0)).instances.len(), 1);
    assert!(!report.value(at(0)).all_up());
}
