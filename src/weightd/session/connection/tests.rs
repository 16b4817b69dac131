use std::{sync::Arc, time::Duration};

use weightd_core::{
    desired::Desired,
    event::Event,
    model::{Moment, ServerName, Weight},
    stored::{Stored, StoredBackend},
};

use super::super::{
    FIRST_READ, Step,
    tests::rig::{Model, Rig, document, name},
};
use crate::haproxy::{Address, ExchangeError};

fn app(weights: [u16; 2]) -> Model {
    Model::with("app", "roundrobin", &[("blue", weights[0]), ("green", weights[1])])
}

fn socket() -> Address {
    "unix:/run/haproxy/admin.sock".parse().unwrap()
}

/// A stored state: `app` with these weights.
fn stored(weights: [u64; 2]) -> Stored {
    let weight = |server: &str, weight| (ServerName::new(server).unwrap(), Weight::new(weight).unwrap());
    let weights = [weight("blue", weights[0]), weight("green", weights[1])].into();
    let desired = Desired { weights, index: 7, ..Desired::default() };
    let backend = StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false, overridden: None };
    Stored { backends: [(name("app"), backend)].into() }
}

#[test]
fn stored_weights_are_enforced_only_when_consul_is_late_or_fails() {
    let mut rig = Rig::with(app([1, 1]), stored([90, 10]), false);
    rig.pass(FIRST_READ * 99 / 100);
    assert_eq!(rig.weights(), [1, 1]);
    rig.pass(FIRST_READ / 100);
    assert_eq!(rig.weights(), [90, 10]);
    let late = |event: &&Event| matches!(event, Event::EnforcingFromDisk { failed: false });
    assert_eq!(rig.events.iter().filter(late).count(), 1);

    let mut rig = Rig::with(app([1, 1]), stored([90, 10]), false);
    rig.session.consul_failed();
    rig.run();
    assert_eq!(rig.weights(), [90, 10], "a failed read ends the wait");

    // If Consul answers in time, its weights are set and the stored ones are not.
    let mut rig = Rig::with(app([1, 1]), stored([90, 10]), false);
    rig.pass(FIRST_READ / 2);
    rig.publish(&[("app", &document(&[("blue", 50), ("green", 50)]))]);
    rig.run();
    assert_eq!(rig.weights(), [50, 50]);
    assert!(!rig.haproxy.received("weight 90"));
}

#[test]
fn an_unreachable_haproxy_is_retried_at_most_twice_per_second_and_reconciled_when_it_answers() {
    let mut rig = Rig::settled(app([90, 10]), &[("app", &document(&[("blue", 90), ("green", 10)]))]);
    rig.pass(Duration::from_millis(1100));
    let start = rig.now;
    let mut asked = Vec::new();
    while rig.now.since(start) < Duration::from_secs(60) {
        match rig.session.next(rig.now) {
            Step::Wait(until) => rig.now = until,
            Step::Ask(_) => {
                asked.push(rig.now);
                rig.session.answer(Err(ExchangeError::Refused(socket())), rig.now);
            }
            Step::Send(line) => panic!("sent while HAProxy does not answer: {}", line.line().wire()),
        }
    }
    let pauses: Vec<Duration> = asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!((100..=700).contains(&pauses.len()), "{} queries in a minute", pauses.len());
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(50) && *most <= Duration::from_millis(600), "{least:?} to {most:?}");
    assert!(!rig.session.converged());
    // It returns as a new process with other weights.
    rig.haproxy.reload();
    rig.manual_edit("blue", 1);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.weights(), [90, 10]);
    assert!(rig.events.iter().any(|event| matches!(event, Event::Up { .. })));
}

#[test]
fn the_interval_of_passes_never_exceeds_the_resync() {
    let mut rig = Rig::settled(app([90, 10]), &[("app", &document(&[("blue", 90), ("green", 10)]))]);
    for _ in 0..20 {
        let read = rig.backend("app").observed_at.unwrap();
        rig.pass(Duration::from_millis(1150));
        assert!(rig.backend("app").observed_at.unwrap() > read, "a small HAProxy is read every second");
    }
    assert!(rig.now > Moment::default() + Duration::from_secs(20));
}
