use std::time::Duration;

use weightd_core::backend::Cause;

use super::super::tests::rig::{Model, Rig, document, name};
use crate::haproxy::ExchangeError;

fn app(weights: [u16; 2]) -> Model {
    Model::with("app", "roundrobin", &[("blue", weights[0]), ("green", weights[1])])
}

fn both(weights: [u16; 2]) -> String {
    document(&[("blue", weights[0]), ("green", weights[1])])
}

/// A HAProxy with these weights, which match Consul.
fn settled(weights: [u16; 2]) -> Rig {
    Rig::settled(app(weights), &[("app", &both(weights))])
}

/// The kinds of the lines so far: a query or a line that sets weights.
fn kinds(rig: &Rig) -> Vec<&'static str> {
    rig.haproxy.lines.iter().map(|line| if line.starts_with("set ") { "set" } else { "ask" }).collect()
}

#[test]
fn a_document_without_a_zero_for_an_unchanged_backend_needs_no_reading() {
    let mut rig = settled([90, 10]);
    // The read-back replaces the reading and detects changes by other programs.
    rig.manual_edit("blue", 7);
    rig.publish(&[("app", &both([90, 20]))]);
    assert!(!rig.session.converged(), "nothing was sent yet");
    rig.run();
    assert_eq!(rig.haproxy.lines[0], "set server app/green weight 20;show servers state app");
    assert_eq!(rig.weights(), [90, 20]);
    assert_eq!(kinds(&rig), ["set", "set"]);
    assert_eq!(rig.haproxy.violations, Vec::<String>::new());
}

#[test]
fn every_other_change_is_preceded_by_a_reading() {
    let first_line = |what: &str, mut rig: Rig, weights: [u16; 2]| {
        rig.haproxy.lines.clear();
        rig.publish(&[("app", &both(weights))]);
        rig.run();
        assert!(kinds(&rig).first().is_none_or(|kind| *kind == "ask"), "{what}: {:?}", rig.haproxy.lines);
    };
    let without_zero = [50, 50];
    first_line("a server goes to 0", settled([90, 10]), [0, 100]);
    first_line("a server stays at 0", settled([100, 0]), [50, 0]);
    first_line("there is no weight to send and so no read-back", settled([90, 10]), [90, 10]);
    first_line("it was never read", Rig::new(app([90, 10])), without_zero);

    let mut rig = settled([90, 10]);
    rig.haproxy.server("app", "blue").op_state = 0;
    rig.haproxy.server("app", "green").op_state = 0;
    rig.pass_seconds(2);
    first_line("no server is usable", rig, without_zero);

    let mut rig = settled([90, 10]);
    rig.pause(None, 60);
    rig.publish(&[("app", &both(without_zero))]);
    rig.run();
    assert!(!rig.haproxy.received("set "), "it is paused");

    let mut rig = Rig::with(app([90, 10]), weightd_core::stored::Stored::default(), true);
    rig.publish(&[("app", &both([90, 10]))]);
    rig.run();
    rig.publish(&[("app", &both(without_zero))]);
    rig.run();
    assert!(!rig.haproxy.received("set "), "the mode is observe");
    assert_eq!(rig.backend("app").observe_plan.as_ref().unwrap().to_string(), "green 10 → 50, blue 90 → 50");
}

#[test]
fn an_undetected_new_process_still_gets_all_weights() {
    let mut rig = Rig::new(app([1, 1]));
    rig.publish(&[("app", &both([90, 10]))]);
    rig.run();
    rig.haproxy.reload();
    rig.publish(&[("app", &both([90, 11]))]);
    rig.run();
    assert_eq!(rig.weights(), [90, 11]);
    assert_eq!(rig.haproxy.violations, Vec::<String>::new());
}

#[test]
fn an_old_reading_is_repeated_before_a_change() {
    let mut rig = settled([90, 10]);
    rig.now = rig.now + Duration::from_secs(60);
    rig.publish(&[("app", &both([50, 50]))]);
    rig.run();
    assert_eq!(rig.weights(), [50, 50]);
    let set = kinds(&rig).iter().position(|kind| *kind == "set").unwrap();
    assert!(rig.haproxy.lines[..set].iter().any(|line| line.contains("show servers state app")));
}

#[test]
fn a_backend_is_not_converged_between_its_reading_and_its_decision() {
    let mut rig = Rig::new(app([10, 10]));
    rig.publish(&[("app", &both([10, 10]))]);
    while !rig.session.converged() {
        let waits = rig.step();
        assert!(waits.is_none() || rig.session.converged(), "it converges without a wait");
    }
    rig.run();
    rig.publish(&[("app", &both([10, 0]))]);
    assert!(!rig.session.converged());
    while rig.step().is_none() {
        assert_eq!(rig.session.converged(), rig.weights() == [10, 0]);
    }
    assert!(rig.session.converged());
    // A routine reading brings no new decision.
    rig.now = rig.now + Duration::from_secs(1);
    while rig.step().is_none() {
        assert!(rig.session.converged());
    }
}

#[test]
fn the_servers_of_a_reading_wait_for_the_roles_without_a_second_reading() {
    let mut haproxy = app([100, 0]);
    haproxy.server("app", "green").backup = true;
    let mut rig = Rig::new(haproxy);
    rig.publish(&[("app", &both([0, 100]))]);
    rig.run();
    let asked: Vec<_> = rig.haproxy.lines.iter().filter(|line| line.contains("servers state")).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(rig.backend("app").guarded().is_some(), "a backup does not count as usable");
    assert_eq!(rig.weights(), [100, 0]);
}

#[test]
fn after_a_failed_query_for_roles_the_next_reading_starts_with_the_servers() {
    let mut rig = Rig::new(app([100, 0]));
    rig.publish(&[("app", &both([50, 100]))]);
    while !rig.haproxy.received("servers state") {
        rig.step();
    }
    let address: crate::haproxy::Address = "unix:/run/haproxy/admin.sock".parse().unwrap();
    rig.fail(ExchangeError::Busy(address));
    rig.manual_edit("blue", 30);
    rig.pass_seconds(1);
    assert_eq!(rig.weights(), [50, 100]);
    let mut changes = rig.changes();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(changes.iter().map(|(change, _)| change.as_str()).collect::<Vec<_>>(), ["blue 50", "green 100"]);
}

#[test]
fn a_manual_edit_is_corrected_in_the_next_routine_pass() {
    let mut rig = settled([90, 10]);
    rig.pass_seconds(5);
    rig.manual_edit("green", 77);
    rig.pass_seconds(2);
    assert_eq!(rig.weights(), [90, 10]);
    assert_eq!(rig.changes(), [("green 10".to_owned(), Cause::Drift)]);
}

#[test]
fn a_backend_with_drift_is_read_again_after_a_second_even_if_the_pass_is_longer() {
    let mut haproxy = app([90, 10]);
    // With this many servers, a pass takes far longer than one second.
    let servers: Vec<_> = (0..1500).map(|n| (format!("s{n}"), 1)).collect();
    let servers: Vec<_> = servers.iter().map(|(server, weight)| (server.as_str(), *weight)).collect();
    let many: Vec<_> = (0..12).map(|n| format!("other{n}")).collect();
    for other in &many {
        haproxy = haproxy.and(other, "roundrobin", &servers);
    }
    let mut keys: Vec<_> = many.iter().map(|other| (other.clone(), document(&servers))).collect();
    keys.push(("app".to_owned(), both([90, 10])));
    let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut rig = Rig::settled(haproxy, &keys);
    rig.manual_edit("green", 77);
    while rig.weights() != [90, 10] {
        rig.pass(Duration::from_millis(100));
        assert!(rig.now.since(weightd_core::model::Moment::default()) < Duration::from_secs(30));
    }
    rig.manual_edit("green", 78);
    rig.pass(Duration::from_millis(1200));
    assert_eq!(rig.weights(), [90, 10], "it was read again soon");
}

#[test]
fn an_added_server_is_neither_drift_nor_contention() {
    let mut rig = Rig::settled(app([90, 10]), &[("app", &document(&[("blue", 90), ("green", 10), ("red", 5)]))]);
    rig.haproxy.add_server("app", "red", 1);
    for round in 0..6 {
        rig.pass_seconds(2);
        assert_eq!(rig.haproxy.server("app", "red").weight, 5, "round {round}");
        rig.haproxy.remove_server("app", "red");
        rig.haproxy.add_server("app", "red", 1);
    }
    rig.pass_seconds(2);
    assert_eq!(rig.backend("app").drift_corrections, 0);
    assert!(!rig.backend("app").contention.contended());
    assert!(rig.changes().iter().all(|(_, cause)| *cause == Cause::NewServer), "{:?}", rig.changes());
    // A manual change of it is still drift.
    rig.manual_edit("red", 200);
    rig.pass_seconds(2);
    assert_eq!(rig.backend("app").drift_corrections, 1);
}

#[test]
fn a_deleted_server_is_not_in_the_status() {
    let mut rig = settled([90, 10]);
    rig.haproxy.remove_server("app", "green");
    rig.pass_seconds(2);
    let servers: Vec<_> = rig.backend("app").observed.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(servers, ["blue"]);
    assert!(rig.reasons().contains(&"unmatched_server".to_owned()), "{:?}", rig.reasons());
}

#[test]
fn a_refresh_reads_only_outdated_backends() {
    let mut rig = settled([90, 10]);
    let asked = rig.now + Duration::from_millis(800);
    rig.pass(Duration::from_millis(800));
    rig.haproxy.lines.clear();
    rig.session.refresh(Duration::from_secs(1), rig.now);
    rig.run();
    assert!(rig.haproxy.lines.is_empty(), "it was read less than a second ago");
    rig.session.refresh(Duration::from_millis(500), rig.now);
    assert!(!rig.session.read_within(Duration::from_millis(500), asked));
    rig.run();
    assert!(rig.session.read_within(Duration::from_millis(500), asked));
    assert_eq!(rig.session.backends.keys().next(), Some(&name("app")));
}

#[test]
fn a_reading_that_shows_what_the_reading_before_showed_is_not_evaluated_and_a_change_always_is() {
    let mut rig = settled([90, 10]);
    rig.pass_seconds(5);
    let read_at = rig.backend("app").observed_at.unwrap();
    assert!(rig.backend("app").is_unchanged());
    rig.pass_seconds(2);
    assert!(rig.backend("app").observed_at.unwrap() > read_at && rig.session.converged(), "it counts as a reading");
    rig.session.unsaved.server_state = false;
    rig.pass_seconds(2);
    assert!(!rig.session.unsaved.server_state, "the server-state file is as it would be written");

    // A weight that returns to what an earlier reading showed is a change after a read-back.
    rig.publish(&[("app", &both([80, 20]))]);
    rig.run();
    rig.manual_edit("blue", 90);
    rig.manual_edit("green", 10);
    rig.pass_seconds(3);
    assert_eq!(rig.weights(), [80, 20]);
    assert_eq!(rig.backend("app").drift_corrections, 1);

    // What a person does to a server is seen, and seen again when it ends.
    rig.pass_seconds(3);
    rig.haproxy.server("app", "blue").op_state = 0;
    rig.pass_seconds(2);
    assert!(!rig.backend("app").observed.servers[0].usable(true) && rig.session.unsaved.server_state);
    rig.haproxy.server("app", "blue").op_state = 2;
    // Two readings: the second one shows what the first one showed.
    rig.pass_seconds(3);
    assert!(rig.backend("app").observed.servers[0].usable(true) && rig.backend("app").is_unchanged());

    // A new process starts anew.
    rig.haproxy.reload();
    rig.pass_seconds(2);
    assert_eq!(rig.weights(), [80, 20]);
}
