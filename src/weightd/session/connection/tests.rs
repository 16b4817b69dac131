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

/// What lies on disk: `app` with these weights.
fn stored(weights: [u64; 2]) -> Stored {
    let weight = |server: &str, weight| (ServerName::new(server).unwrap(), Weight::new(weight).unwrap());
    let weights = [weight("blue", weights[0]), weight("green", weights[1])].into();
    let desired = Desired { weights, force: false, index: 7, by: None, reason: None, at: None, back: None };
    let backend = StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false };
    Stored { backends: [(name("app"), backend)].into() }
}

#[test]
fn what_is_on_disk_is_enforced_once_consul_is_late_and_not_before() {
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
    assert_eq!(rig.weights(), [90, 10], "a read that failed is waited for no longer");

    // What Consul says in time counts, and what lies on disk is not set first.
    let mut rig = Rig::with(app([1, 1]), stored([90, 10]), false);
    rig.pass(FIRST_READ / 2);
    rig.say(&[("app", &document(&[("blue", 50), ("green", 50)]))]);
    rig.run();
    assert_eq!(rig.weights(), [50, 50]);
    assert!(!rig.haproxy.heard("weight 90"));
}

#[test]
fn a_haproxy_that_is_away_is_asked_at_most_twice_a_second_and_at_once_when_it_is_back() {
    let mut rig = Rig::settled(app([90, 10]), &[("app", &document(&[("blue", 90), ("green", 10)]))]);
    rig.pass(Duration::from_millis(1100));
    let began = rig.now;
    let mut asked = Vec::new();
    while rig.now.since(began) < Duration::from_secs(60) {
        match rig.session.next(rig.now) {
            Step::Wait(until) => rig.now = until,
            Step::Ask(_) => {
                asked.push(rig.now);
                rig.session.answer(Err(ExchangeError::Refused(socket())), rig.now);
            }
            Step::Send(line) => panic!("sent while it is away: {}", line.line().wire()),
        }
    }
    let pauses: Vec<Duration> = asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!((100..=700).contains(&pauses.len()), "{} questions in a minute", pauses.len());
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(50) && *most <= Duration::from_millis(600), "{least:?} to {most:?}");
    assert!(!rig.session.converged());
    // It comes back as another process, with other weights.
    rig.haproxy.reload();
    rig.hand_edit("blue", 1);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.weights(), [90, 10]);
    assert!(rig.events.iter().any(|event| matches!(event, Event::Up { .. })));
}

#[test]
fn a_pass_never_waits_longer_than_the_resync() {
    let mut rig = Rig::settled(app([90, 10]), &[("app", &document(&[("blue", 90), ("green", 10)]))]);
    for _ in 0..20 {
        let read = rig.backend("app").observed_at.unwrap();
        rig.pass(Duration::from_millis(1150));
        assert!(rig.backend("app").observed_at.unwrap() > read, "a small HAProxy is read every second");
    }
    assert!(rig.now > Moment::default() + Duration::from_secs(20));
}
