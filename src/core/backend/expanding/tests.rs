use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    backend::{Cause, NotAccepted},
    desired::{Instruction, Published},
    expand::tests::{observed, server, split},
    model::{BackendName, Moment, Weight},
    observed::{Health, Roles, Server},
    plan::Plan,
};

fn name() -> BackendName {
    BackendName::new("app").unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment::after_start(Duration::from_secs(seconds))
}

/// A backend with a split, read for the first time.
fn backend(text: &str, servers: &[Server]) -> (Backend, Option<(Cause, Plan)>) {
    let mut backend = Backend { roles: Some(Roles::default()), ..Backend::default() };
    let desired = Desired { split: Some(split(text)), index: 5, ..Desired::default() };
    backend.update_key(Some(&Published::Valid(Instruction::Weights(Arc::new(desired)))), at(0));
    let decided = reads(&mut backend, servers, 1);
    (backend, decided)
}

fn reads(backend: &mut Backend, servers: &[Server], second: u64) -> Option<(Cause, Plan)> {
    backend.read(Some(1), observed(servers.to_vec()), BTreeSet::new(), at(second));
    backend.decide(&name(), at(second))
}

/// HAProxy takes the plan.
fn applies(backend: &mut Backend, servers: &mut [Server], decided: Option<(Cause, Plan)>, second: u64) {
    let (cause, plan) = decided.expect("a plan");
    let sent: Vec<_> = plan.changes().cloned().collect();
    for change in &sent {
        servers.iter_mut().filter(|server| server.name == change.server).for_each(|server| server.weight = change.to);
    }
    backend.read(Some(1), observed(servers.to_vec()), BTreeSet::new(), at(second));
    backend.applied(&name(), cause, &sent, None, at(second));
}

fn weights(backend: &Backend) -> String {
    let accepted = backend.accepted.as_ref().unwrap();
    accepted.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

const SPLIT: &str = r#"{"blue-*":90,"green-*":10}"#;

#[test]
fn a_split_is_decided_on_a_reading_and_never_before_one() {
    let servers = ["blue-1", "green-1"].map(server);
    let (mut backend, decided) = backend(SPLIT, &servers);
    assert_eq!((decided.unwrap().0, weights(&backend).as_str()), (Cause::Document, "blue-1=9 green-1=1"));
    assert!(!backend.needs_no_reading(&name(), at(2)));
    let again = Desired { split: Some(split(SPLIT)), index: 5, ..Desired::default() };
    assert!(!backend.update_key(Some(&Published::Valid(Instruction::Weights(Arc::new(again)))), at(2)));
}

#[test]
fn servers_that_come_and_go_are_no_drift_and_no_contention() {
    let mut servers = ["blue-1", "green-1"].map(server).to_vec();
    let (mut backend, decided) = backend(SPLIT, &servers);
    applies(&mut backend, &mut servers, decided, 1);
    for round in 0..6 {
        let second = 2 + 2 * round;
        if round % 2 == 0 {
            servers.push(server("green-2"));
        } else {
            servers.pop();
        }
        let decided = reads(&mut backend, &servers, second);
        assert_eq!(decided.as_ref().map(|(cause, _)| *cause), Some(Cause::Servers));
        applies(&mut backend, &mut servers, decided, second + 1);
        assert!(backend.converged() && !backend.contention.contended());
    }
    assert_eq!((backend.drift_corrections, weights(&backend).as_str()), (0, "blue-1=9 green-1=1"));
}

#[test]
fn maintenance_changes_the_weights_of_the_others_and_its_end_changes_them_back() {
    let mut servers = ["blue-1", "blue-2", "green-1"].map(server).to_vec();
    let (mut backend, decided) = backend(SPLIT, &servers);
    applies(&mut backend, &mut servers, decided, 1);
    assert_eq!(weights(&backend), "blue-1=9 blue-2=9 green-1=2");
    servers[1].administered = true;
    let decided = reads(&mut backend, &servers, 2);
    applies(&mut backend, &mut servers, decided, 2);
    assert_eq!(weights(&backend), "blue-1=9 blue-2=9 green-1=1");
    servers[1].administered = false;
    let decided = reads(&mut backend, &servers, 3);
    assert_eq!(decided.map(|(cause, _)| cause), Some(Cause::Servers));
    assert_eq!(weights(&backend), "blue-1=9 blue-2=9 green-1=2");
}

#[test]
fn a_changed_weight_is_drift() {
    let mut servers = ["blue-1", "green-1"].map(server).to_vec();
    let (mut backend, decided) = backend(SPLIT, &servers);
    applies(&mut backend, &mut servers, decided, 1);
    servers[1].weight = Weight::MAX;
    assert_eq!(reads(&mut backend, &servers, 2).map(|(cause, _)| cause), Some(Cause::Drift));
}

#[test]
fn a_split_that_does_not_fit_is_not_accepted_and_the_former_weights_stay() {
    let (new, decided) = backend(SPLIT, &[server("blue-1")]);
    assert!(decided.is_none() && new.accepted.is_none());
    assert!(matches!(new.not_accepted, Some(NotAccepted::Misfit(Misfit::NoServer(_)))));

    let mut servers = ["blue-1", "green-1"].map(server).to_vec();
    let (mut backend, decided) = backend(r#"{"blue*":90,"gr*1":10}"#, &servers);
    applies(&mut backend, &mut servers, decided, 1);
    servers.pop();
    assert!(reads(&mut backend, &servers, 2).is_none() && !backend.converged());
    assert_eq!(weights(&backend), "blue-1=9 green-1=1");
    servers.push(server("green-1"));
    assert!(reads(&mut backend, &servers, 3).is_some(), "the added server has its configured weight");
}

#[test]
fn the_guards_look_at_the_expanded_weights() {
    let down = Server { health: Health::Down, ..server("green-1") };
    let (blocked, decided) = backend(r#"{"blue-*":0,"green-*":100}"#, &[server("blue-1"), down]);
    assert!(decided.is_none() && blocked.guarded().is_some());
    assert!(blocked.accepted.is_none());
}

#[test]
fn while_no_server_is_usable_the_accepted_weights_stay_without_a_guard() {
    let mut servers = ["blue-1", "green-1", "green-2"].map(server).to_vec();
    let (mut backend, decided) = backend(SPLIT, &servers);
    applies(&mut backend, &mut servers, decided, 1);
    for server in &mut servers {
        server.health = Health::Down;
    }
    servers[2].administered = true;
    assert!(reads(&mut backend, &servers, 2).is_none());
    assert!(backend.guarded().is_none() && backend.converged());
    servers[0].health = Health::Up;
    assert_eq!(reads(&mut backend, &servers, 3).map(|(cause, _)| cause), Some(Cause::Servers));
}

#[test]
fn a_stored_split_keeps_source_and_expansion() {
    let mut servers = ["blue-1", "green-1"].map(server).to_vec();
    let (mut before, decided) = backend(SPLIT, &servers);
    applies(&mut before, &mut servers, decided, 1);
    let text = serde_json::to_string(&before.to_store()).unwrap();
    let mut after = Backend::from_stored(serde_json::from_str(&text).unwrap());
    assert_eq!((after.accepted.clone(), after.desired.clone()), (before.accepted.clone(), before.desired.clone()));
    after.roles = Some(Roles::default());
    assert!(reads(&mut after, &servers, 1).is_none() && after.converged());
}

/// Another document arrives.
fn desires(backend: &mut Backend, desired: Desired, second: u64) {
    let desired = Desired { index: 9, ..desired };
    assert!(backend.update_key(Some(&Published::Valid(Instruction::Weights(Arc::new(desired)))), at(second)));
}

/// A backend that has this split.
fn applied(text: &str, servers: &mut [Server]) -> Backend {
    let (mut backend, decided) = backend(text, servers);
    applies(&mut backend, servers, decided, 1);
    assert!(backend.converged());
    backend
}

#[test]
fn while_another_document_does_not_fit_or_is_guarded_an_added_server_gets_its_weight_of_the_accepted_split() {
    let dark = || Server { health: Health::Down, ..server("dark") };
    let other = |text: &str| Desired { split: Some(split(text)), ..Desired::default() };
    let zero = ["blue-1", "blue-2"].map(|name| (server(name).name, Weight::ZERO));
    let cases = [
        (other(r#"{"blue*":90,"green*":10}"#), "a split without a server"),
        (other(r#"{"blue*":0,"dark":100}"#), "a guarded split"),
        (Desired { weights: zero.into(), ..Desired::default() }, "guarded weights"),
    ];
    for (document, what) in cases {
        let mut servers = [server("blue-1"), server("blue-2"), dark()].to_vec();
        let mut backend = applied(r#"{"blue*":100,"green*":0,"dark":0}"#, &mut servers);
        assert_eq!(weights(&backend), "blue-1=1 blue-2=1 dark=0");
        desires(&mut backend, document, 2);
        assert!(reads(&mut backend, &servers, 2).is_none() && backend.not_accepted.is_some(), "{what}");
        servers.insert(2, server("blue-3"));
        let decided = reads(&mut backend, &servers, 3);
        assert_eq!(decided.as_ref().map(|(cause, _)| *cause), Some(Cause::Servers), "{what}");
        applies(&mut backend, &mut servers, decided, 3);
        assert_eq!(weights(&backend), "blue-1=1 blue-2=1 blue-3=1 dark=0", "{what}");
        assert!(backend.not_accepted.is_some() && !backend.converged(), "{what}: the other document is not accepted");
        assert!(backend.expansion().is_some(), "{what}");
        servers.remove(2);
        assert!(reads(&mut backend, &servers, 4).is_none(), "{what}");
        assert_eq!(weights(&backend), "blue-1=1 blue-2=1 dark=0", "{what}");
    }
}

#[test]
fn after_the_last_server_of_a_pattern_is_gone_an_added_server_gets_the_weight_that_fits_its_group() {
    let mut servers = ["blue-1", "blue-2", "green-1"].map(server).to_vec();
    let mut backend = applied(r#"{"blue-*":80,"green-*":20,"gray-*":0}"#, &mut servers);
    assert_eq!(weights(&backend), "blue-1=2 blue-2=2 green-1=1");
    servers.pop();
    assert!(reads(&mut backend, &servers, 2).is_none());
    servers.extend([Server { initial: Weight::new(200).unwrap(), ..server("blue-3") }, server("gray-1")]);
    let decided = reads(&mut backend, &servers, 3);
    applies(&mut backend, &mut servers, decided, 3);
    assert_eq!(weights(&backend), "blue-1=2 blue-2=2 blue-3=4 gray-1=0 green-1=1");
    assert!(!backend.converged() && backend.drift_corrections == 0, "the split does not fit");
    assert!(reads(&mut backend, &servers, 4).is_none());
    servers.push(server("green-2"));
    let decided = reads(&mut backend, &servers, 5);
    applies(&mut backend, &mut servers, decided, 5);
    assert!(backend.converged());
    assert_eq!(weights(&backend), "blue-1=1 blue-2=1 blue-3=2 gray-1=0 green-2=1");
}

#[test]
fn an_expansion_that_the_guards_reject_waits_also_for_the_servers_to_settle() {
    let mut servers = ["blue-1", "green-1"].map(server).to_vec();
    let mut backend = applied(r#"{"blue-*":100,"green-*":0}"#, &mut servers);
    // The only server with a share was replaced, and the new one is down.
    servers[0] = Server { health: Health::Down, ..server("blue-2") };
    assert!(reads(&mut backend, &servers, 2).is_none() && backend.guarded().is_some());
    servers[0].health = Health::Up;
    assert!(reads(&mut backend, &servers, 3).is_none() && backend.guarded().is_some(), "it has to settle");
    assert!(reads(&mut backend, &servers, 13).is_some() && backend.guarded().is_none());
}
