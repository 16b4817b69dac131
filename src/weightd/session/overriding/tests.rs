use std::time::Duration;

use weightd_core::{
    backend::{Backend, Cause},
    desired::Weights,
    diagnosis,
    event::Event,
    model::{Moment, ServerName, Weight},
    overrides::Override,
    stored::Stored,
    wire::status::BackendState,
};

use super::super::tests::rig::{Model, Rig, document, name};

const SERVERS: [(&str, u16); 2] = [("blue", 9), ("green", 9)];

fn weights(blue: u64, green: u64) -> Weights {
    let weight = |(server, weight)| (ServerName::new(server).unwrap(), Weight::new(weight).unwrap());
    [("blue", blue), ("green", green)].into_iter().map(weight).collect()
}

/// A HAProxy with `app` at 90/10, as its document says.
fn settled() -> (Rig, String) {
    let document = document(&[("blue", 90), ("green", 10)]);
    let rig = Rig::settled(Model::with("app", "roundrobin", &SERVERS), &[("app", &document)]);
    assert_eq!(rig.weights(), [90, 10]);
    (rig, document)
}

fn start(rig: &mut Rig, blue: u64, green: u64, seconds: u64) {
    let over = Override {
        weights: weights(blue, green),
        over: rig.session.highest_index(&name("app")),
        until: rig.now + Duration::from_secs(seconds),
        until_second: i64::try_from(seconds).unwrap(),
        by: Some("alice".to_owned()),
        ..Override::default()
    };
    assert!(rig.session.start_override(&name("app"), over, rig.now));
    rig.run();
}

fn state(rig: &Rig) -> BackendState {
    diagnosis::state(rig.backend("app"), None, rig.session.down.is_none())
}

/// The word by which the override ended, if it did.
fn ended(rig: &Rig) -> Option<&'static str> {
    rig.events.iter().find_map(|event| match event {
        Event::OverrideEnded { ended: None, .. } => Some("document"),
        Event::OverrideEnded { ended: Some(_), .. } => Some("person"),
        _ => None,
    })
}

/// A new weightd with the state of this one on disk, which started at second `wall` of the clock that the override has.
fn restarted(rig: Rig, wall: i64) -> Rig {
    let stored: Stored = serde_json::from_str(&serde_json::to_string(&rig.session.to_store()).unwrap()).unwrap();
    let mut again = Rig::with(rig.haproxy, stored, false);
    again.session.restore_overrides(wall, again.now);
    again
}

#[test]
fn an_override_is_enforced_in_place_of_the_document() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    assert_eq!(rig.weights(), [0, 100]);
    assert!(rig.changes().iter().all(|(_, cause)| *cause == Cause::Override), "{:?}", rig.changes());
    assert_eq!(state(&rig), BackendState::Overridden);
    assert!(!rig.session.converged(), "the weights are not as in Consul");
    assert!(rig.reasons().contains(&"overridden".to_owned()), "{:?}", rig.reasons());
    // Hand edits are corrected.
    rig.manual_edit("green", 7);
    rig.pass_seconds(3);
    assert_eq!(rig.weights(), [0, 100]);
}

#[test]
fn the_guards_hold_and_force_passes_them() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 0, 60);
    assert_eq!(rig.weights(), [90, 10]);
    assert_eq!(state(&rig), BackendState::Guarded);
    let over = Override { weights: weights(0, 0), force: true, over: 1, until: rig.now, ..Override::default() };
    assert!(rig.session.start_override(&name("app"), over, rig.now));
    rig.run();
    assert_eq!(rig.weights(), [0, 0]);
}

#[test]
fn a_reload_of_haproxy_gets_the_weights_of_the_override() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    rig.haproxy.reload();
    rig.pass_seconds(3);
    assert_eq!(rig.weights(), [0, 100]);
    assert_eq!(state(&rig), BackendState::Overridden);
}

#[test]
fn a_restart_of_weightd_and_of_haproxy_keeps_it_without_consul_and_with_the_same_document() {
    let (mut rig, document) = settled();
    start(&mut rig, 0, 100, 60);
    rig.haproxy.reload();
    let mut rig = restarted(rig, 10);
    rig.session.consul_failed();
    rig.run();
    assert_eq!(rig.weights(), [0, 100]);
    assert_eq!(state(&rig), BackendState::Overridden);
    // Consul is back, with the same document: index 1.
    rig.publish(&[("app", &document)]);
    rig.pass_seconds(3);
    assert_eq!(rig.weights(), [0, 100]);
    assert_eq!(ended(&rig), None);
    // The rest of its time goes on.
    rig.pass_seconds(46);
    assert!(!rig.reasons().contains(&"override_expired".to_owned()));
    rig.pass_seconds(2);
    assert!(rig.reasons().contains(&"override_expired".to_owned()), "{:?}", rig.reasons());
    // What is behind it is still the document.
    assert_eq!(rig.resume(Some("app")), 1);
    rig.run();
    assert_eq!(rig.weights(), [90, 10]);
}

#[test]
fn an_override_whose_time_ended_while_weightd_was_down_stays_and_alarms() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    rig.haproxy.reload();
    let mut rig = restarted(rig, 1000);
    rig.session.consul_failed();
    rig.run();
    assert_eq!(rig.weights(), [0, 100]);
    assert!(rig.reasons().contains(&"override_expired".to_owned()), "{:?}", rig.reasons());
}

#[test]
fn a_newer_document_ends_it_and_has_to_pass_the_guards() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    rig.publish(&[("app", &document(&[("blue", 0), ("green", 0)]))]);
    rig.run();
    assert_eq!(ended(&rig), Some("document"));
    assert_eq!(rig.weights(), [0, 100], "the weights stay while the document is guarded");
    assert_eq!(state(&rig), BackendState::Guarded);
    rig.publish(&[("app", &document(&[("blue", 50), ("green", 50)]))]);
    rig.run();
    assert_eq!(rig.weights(), [50, 50]);
    assert_eq!(state(&rig), BackendState::Converged);
    assert!(rig.session.converged());
}

#[test]
fn a_newer_document_ends_it_also_after_a_restart() {
    let (mut rig, document_before) = settled();
    start(&mut rig, 0, 100, 60);
    let mut rig = restarted(rig, 10);
    rig.publish(&[("app", &document_before)]);
    rig.run();
    assert_eq!(rig.weights(), [0, 100]);
    rig.publish(&[("app", &document(&[("blue", 50), ("green", 50)]))]);
    rig.run();
    assert_eq!(rig.weights(), [50, 50]);
    // That it ended is on disk.
    let rig = restarted(rig, 11);
    assert_eq!(rig.backend("app").overridden(), None);
}

#[test]
fn a_deleted_or_rejected_document_does_not_end_it() {
    let (mut rig, document) = settled();
    start(&mut rig, 0, 100, 60);
    for keys in [&[][..], &[("app", "{}")], &[]] {
        rig.publish(keys);
        rig.pass_seconds(2);
        assert_eq!(rig.weights(), [0, 100]);
        assert_eq!(state(&rig), BackendState::Overridden);
    }
    assert_eq!(ended(&rig), None);
    // Going back without a document in Consul gives the weights of the last one.
    assert_eq!(rig.resume(None), 1);
    rig.run();
    assert_eq!(rig.weights(), [90, 10], "{document}");
    assert_eq!(state(&rig), BackendState::Orphaned);
}

#[test]
fn when_its_time_is_over_the_weights_stay_and_the_node_alarms_once() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    rig.pass_seconds(600);
    assert_eq!(rig.weights(), [0, 100]);
    assert_eq!(state(&rig), BackendState::Overridden);
    let alarms = rig
        .events
        .iter()
        .filter(|event| matches!(event, Event::Reason { reason, .. } if reason.reason == "override_expired"));
    assert_eq!(alarms.count(), 1);
    // Another override replaces it.
    start(&mut rig, 5, 100, 60);
    assert_eq!(rig.weights(), [5, 100]);
    assert!(!rig.reasons().contains(&"override_expired".to_owned()));
}

#[test]
fn a_resume_goes_back_to_the_latest_document_through_the_guards() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    rig.haproxy.server("app", "blue").op_state = 0;
    rig.haproxy.server("app", "green").op_state = 0;
    rig.pass_seconds(2);
    assert_eq!(rig.resume(Some("app")), 1);
    rig.run();
    assert_eq!(rig.weights(), [0, 100], "no server of the document is usable");
    assert_eq!(rig.backend("app").overridden(), None);
    rig.haproxy.server("app", "blue").op_state = 2;
    rig.haproxy.server("app", "green").op_state = 2;
    rig.pass_seconds(15);
    assert_eq!(rig.weights(), [90, 10]);
}

#[test]
fn a_paused_backend_keeps_its_weights_and_a_resume_ends_pause_and_override() {
    let (mut rig, _) = settled();
    start(&mut rig, 0, 100, 60);
    rig.pause(Some("app"), 30);
    rig.manual_edit("green", 7);
    rig.pass_seconds(3);
    assert_eq!(rig.weights(), [0, 7]);
    assert_eq!(rig.resume(Some("app")), 2);
    rig.run();
    assert_eq!(rig.weights(), [90, 10]);
}

#[test]
fn an_override_without_a_document_leaves_the_weights_when_it_ends() {
    let mut backend = Backend::default();
    backend.start_override(Override { weights: weights(0, 100), ..Override::default() });
    assert!(backend.managed() && backend.document().is_none());
    assert!(backend.expire_override(Moment::default()) && !backend.expire_override(Moment::default()));
    assert!(backend.end_override().is_some() && backend.end_override().is_none());
    assert!(!backend.managed());
}

#[test]
fn the_server_state_file_has_the_weights_of_the_override() {
    let (mut rig, _) = settled();
    let weights = |rig: &Rig| -> Vec<String> {
        let state = rig.session.server_state().expect("all is read");
        state.lines().skip(2).map(|line| line.split(' ').nth(7).unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(weights(&rig), ["90", "10"]);
    start(&mut rig, 0, 100, 60);
    assert!(rig.session.unsaved.server_state, "the file is written again");
    assert_eq!(weights(&rig), ["0", "100"]);
    assert_eq!(rig.resume(Some("app")), 1);
    rig.run();
    assert_eq!(weights(&rig), ["90", "10"]);
}
