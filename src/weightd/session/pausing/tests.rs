use std::time::Duration;

use proptest::prelude::*;
use weightd_core::{
    backend::Cause,
    event::Event,
    pauses::{Ended, Scope},
};

use super::super::tests::rig::{Model, Rig, document, name, scope};

const NAMES: [&str; 2] = ["app", "other"];

/// A HAProxy with two backends of two servers beside what Consul says about both.
struct Two {
    rig: Rig,
    documents: [[u16; 2]; 2],
}

impl Two {
    fn new(algorithm: &'static str) -> Self {
        let servers = [("blue", 9), ("green", 9)];
        let haproxy = Model::with(NAMES[0], algorithm, &servers).and(NAMES[1], algorithm, &servers);
        let mut two = Self { rig: Rig::new(haproxy), documents: [[100, 1]; 2] };
        two.publish();
        two
    }

    /// One in which everything is as Consul says.
    fn settled(algorithm: &'static str) -> Self {
        let mut two = Self::new(algorithm);
        two.rig.run();
        assert_eq!(two.weights(), two.documents);
        two.rig.events.clear();
        two
    }

    fn publish(&mut self) {
        let [app, other] = self.documents.map(|[blue, green]| document(&[("blue", blue), ("green", green)]));
        self.rig.say(&[(NAMES[0], &app), (NAMES[1], &other)]);
        self.rig.haproxy.wants_changed();
    }

    fn weights(&self) -> [[u16; 2]; 2] {
        NAMES.map(|name| self.rig.haproxy.weights(name).try_into().unwrap())
    }

    fn hand_edit(&mut self, number: usize, [blue, green]: [u16; 2]) {
        self.rig.haproxy.server(NAMES[number], "blue").weight = blue;
        self.rig.haproxy.server(NAMES[number], "green").weight = green;
    }

    /// How many weights of a backend were set so far.
    fn sent(&self, number: usize) -> usize {
        let set = format!("set server {}/", NAMES[number]);
        self.rig.haproxy.lines.iter().map(|line| line.matches(&set).count()).sum()
    }

    fn paused(&self, number: usize) -> bool {
        self.rig.session.pauses.of(&name(NAMES[number])).is_some()
    }

    fn drift(&self) -> u64 {
        self.rig.session.backends.values().map(|backend| backend.drift_corrections).sum()
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Pause(Option<usize>, u64),
    Resume(Option<usize>),
    HandEdit(usize, [u16; 2]),
    Document(usize, [u16; 2]),
    Reload,
    Pass(u64),
    /// A pause of everything while a line is under way.
    PauseMeanwhile(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let which = || prop_oneof![Just(None), Just(Some(0)), Just(Some(1))];
    // No document is all zero: the guards have tests of their own.
    let weights = || (1..=256_u16, 0..=256_u16).prop_map(|(blue, green)| [blue, green]);
    prop_oneof![
        (which(), 1..20_u64).prop_map(|(which, seconds)| Happens::Pause(which, seconds)),
        which().prop_map(Happens::Resume),
        (0..2_usize, weights()).prop_map(|(number, weights)| Happens::HandEdit(number, weights)),
        (0..2_usize, weights()).prop_map(|(number, weights)| Happens::Document(number, weights)),
        Just(Happens::Reload),
        (0..9_u64).prop_map(Happens::Pass),
        (1..20_u64).prop_map(Happens::PauseMeanwhile),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_written_while_paused_and_everything_is_enforced_after(
        all in prop::collection::vec(happens(), 1..30)
    ) {
        let mut two = Two::new("roundrobin");
        for happens in all {
            let accepted = |two: &Two, n: usize| two.rig.session.backends[&name(NAMES[n])].accepted.clone();
            match happens {
                Happens::Pause(which, seconds) => two.rig.pause(which.map(|n| NAMES[n]), seconds),
                Happens::Resume(which) => drop(two.rig.resume(which.map(|n| NAMES[n]))),
                Happens::HandEdit(number, weights) => two.hand_edit(number, weights),
                Happens::Document(number, weights) => {
                    two.documents[number] = weights;
                    two.publish();
                }
                Happens::Reload => two.rig.haproxy.reload(),
                Happens::PauseMeanwhile(seconds) => {
                    // Whatever the line is: what it sends was decided before the pause.
                    two.rig.step();
                    two.rig.pause(None, seconds);
                }
                Happens::Pass(seconds) => {
                    for _ in 0..seconds * 2 {
                        let paused = [two.paused(0), two.paused(1)];
                        let (before, sent) = ([0, 1].map(|n| accepted(&two, n)), [0, 1].map(|n| two.sent(n)));
                        let drift = two.drift();
                        // A pause that ends within it ends at its end: the steps are half seconds, pauses seconds.
                        two.rig.pass(Duration::from_millis(499));
                        for n in 0..2 {
                            if paused[n] && two.paused(n) {
                                prop_assert_eq!(two.sent(n), sent[n], "a write to a paused backend");
                                prop_assert_eq!(&accepted(&two, n), &before[n], "decided while paused");
                            }
                        }
                        let still = two.paused(0) && two.paused(1);
                        prop_assert!(paused != [true, true] || !still || two.drift() == drift, "drift while paused");
                        two.rig.pass(Duration::from_millis(1));
                    }
                }
            }
        }
        // The longest pause is over, and contended backends are corrected within a minute.
        two.rig.pass_seconds(200);
        two.rig.pass_seconds(200);
        prop_assert_eq!(two.weights(), two.documents);
        prop_assert!(two.rig.session.converged());
        prop_assert_eq!(&two.rig.haproxy.violations, &Vec::<String>::new());
    }
}

#[test]
fn what_differs_when_a_pause_ends_is_corrected_at_once_and_is_not_drift() {
    for resumed in [true, false] {
        let mut two = Two::settled("roundrobin");
        two.rig.pause(Some("app"), 30);
        two.hand_edit(0, [3, 3]);
        two.hand_edit(1, [3, 3]);
        two.rig.pass_seconds(20);
        assert_eq!(two.weights(), [[3, 3], two.documents[1]], "only the other one is enforced");
        assert!(!two.rig.session.converged());
        two.rig.events.clear();
        if resumed {
            two.rig.resume(Some("app"));
            two.rig.run();
        } else {
            two.rig.pass_seconds(10);
        }
        assert_eq!(two.weights(), two.documents);
        let causes: Vec<_> = two.rig.changes().into_iter().map(|(_, cause)| cause).collect();
        assert_eq!(causes, [Cause::Resume; 2], "{resumed}");
        assert_eq!(two.rig.backend("app").drift_corrections, 0);
    }
}

#[test]
fn a_document_that_comes_meanwhile_is_decided_after_the_pause() {
    let mut two = Two::settled("roundrobin");
    let before = two.documents;
    two.rig.pause(None, 30);
    two.documents[0] = [0, 50];
    two.publish();
    two.rig.run();
    let app = two.rig.backend("app");
    assert_eq!(app.desired.as_ref().map(|d| d.index), Some(2), "it is known");
    assert_eq!(app.accepted.as_ref().map(|d| d.index), Some(1), "but not accepted");
    assert!(!two.rig.session.converged(), "a document that is deferred is not converged");
    assert_eq!(two.weights(), before);
    // A resume of one backend does not lift the pause of everything.
    two.rig.resume(Some("app"));
    two.rig.run();
    assert_eq!(two.weights(), before);
    two.rig.pass_seconds(30);
    assert_eq!(two.weights(), two.documents);
}

#[test]
fn a_pause_stops_what_would_follow_a_stage_that_is_under_way() {
    // The algorithm is not known to take any weight, so that the 0 waits for the read-back of the raise.
    let mut two = Two::settled("hash");
    two.documents[0] = [0, 200];
    two.publish();
    while two.sent(0) < 3 {
        assert!(two.rig.step().is_none(), "it does not wait before it sends");
    }
    two.rig.pause(None, 1000);
    two.rig.run();
    assert_eq!(two.weights()[0], [100, 200]);
    two.rig.resume(None);
    two.rig.run();
    assert_eq!(two.weights(), two.documents);
    assert_eq!(two.rig.haproxy.violations, Vec::<String>::new());
}

#[test]
fn each_pause_is_reported_once_and_each_end_too() {
    let mut two = Two::settled("roundrobin");
    two.rig.pause(None, 30);
    two.rig.pass_seconds(31);
    let paused = two.rig.events.iter().filter(|e| matches!(e, Event::Paused { .. })).count();
    let expired = |e: &&Event| matches!(e, Event::Resumed { ended: Ended::Expired, .. });
    assert_eq!((paused, two.rig.events.iter().filter(expired).count()), (1, 1));
    assert_eq!(two.rig.session.resume(&Scope::All, &Ended::Expired), 0);
    assert_eq!(scope(None), Scope::All);
}
