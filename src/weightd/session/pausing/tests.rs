use std::time::Duration;

use proptest::prelude::*;
use weightd_core::{
    backend::Cause,
    event::Event,
    pauses::{Ended, Scope},
};

use super::super::tests::rig::{Model, Rig, document, name, scope};

const NAMES: [&str; 2] = ["app", "other"];

/// A HAProxy with two backends of two servers, and the documents of both in Consul.
struct TwoBackends {
    rig: Rig,
    documents: [[u16; 2]; 2],
}

impl TwoBackends {
    fn new(algorithm: &'static str) -> Self {
        let servers = [("blue", 9), ("green", 9)];
        let haproxy = Model::with(NAMES[0], algorithm, &servers).and(NAMES[1], algorithm, &servers);
        let mut two = Self { rig: Rig::new(haproxy), documents: [[100, 1]; 2] };
        two.publish();
        two
    }

    /// Returns one with all weights as in Consul.
    fn settled(algorithm: &'static str) -> Self {
        let mut two = Self::new(algorithm);
        two.rig.run();
        assert_eq!(two.weights(), two.documents);
        two.rig.events.clear();
        two
    }

    fn publish(&mut self) {
        let [app, other] = self.documents.map(|[blue, green]| document(&[("blue", blue), ("green", green)]));
        self.rig.publish(&[(NAMES[0], &app), (NAMES[1], &other)]);
        self.rig.haproxy.desired_changed();
    }

    fn weights(&self) -> [[u16; 2]; 2] {
        NAMES.map(|name| self.rig.haproxy.weights(name).try_into().unwrap())
    }

    fn manual_edit(&mut self, number: usize, [blue, green]: [u16; 2]) {
        self.rig.haproxy.server(NAMES[number], "blue").weight = blue;
        self.rig.haproxy.server(NAMES[number], "green").weight = green;
    }

    /// Number of weights of a backend that were set so far.
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
enum Action {
    Pause(Option<usize>, u64),
    Resume(Option<usize>),
    ManualEdit(usize, [u16; 2]),
    Document(usize, [u16; 2]),
    Reload,
    Pass(u64),
    /// A pause of all backends while a line waits for its answer.
    PauseDuringExchange(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let which = || prop_oneof![Just(None), Just(Some(0)), Just(Some(1))];
    // No document has only zeros: the guards have their own tests.
    let weights = || (1..=256_u16, 0..=256_u16).prop_map(|(blue, green)| [blue, green]);
    prop_oneof![
        (which(), 1..20_u64).prop_map(|(which, seconds)| Action::Pause(which, seconds)),
        which().prop_map(Action::Resume),
        (0..2_usize, weights()).prop_map(|(number, weights)| Action::ManualEdit(number, weights)),
        (0..2_usize, weights()).prop_map(|(number, weights)| Action::Document(number, weights)),
        Just(Action::Reload),
        (0..9_u64).prop_map(Action::Pass),
        (1..20_u64).prop_map(Action::PauseDuringExchange),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_written_while_paused_and_everything_is_enforced_after(
        actions in prop::collection::vec(action(), 1..30)
    ) {
        let mut two = TwoBackends::new("roundrobin");
        for action in actions {
            let accepted = |two: &TwoBackends, n: usize| two.rig.session.backends[&name(NAMES[n])].accepted.clone();
            match action {
                Action::Pause(which, seconds) => two.rig.pause(which.map(|n| NAMES[n]), seconds),
                Action::Resume(which) => drop(two.rig.resume(which.map(|n| NAMES[n]))),
                Action::ManualEdit(number, weights) => two.manual_edit(number, weights),
                Action::Document(number, weights) => {
                    two.documents[number] = weights;
                    two.publish();
                }
                Action::Reload => {
                    // A reload between a reading and the set that follows from it cannot be seen by anybody.
                    two.rig.run();
                    two.rig.haproxy.reload();
                }
                Action::PauseDuringExchange(seconds) => {
                    // Any command of this line was decided before the pause.
                    two.rig.step();
                    two.rig.pause(None, seconds);
                }
                Action::Pass(seconds) => {
                    for _ in 0..seconds * 2 {
                        let paused = [two.paused(0), two.paused(1)];
                        let (before, sent) = ([0, 1].map(|n| accepted(&two, n)), [0, 1].map(|n| two.sent(n)));
                        let drift = two.drift();
                        // Steps are half seconds and pauses are whole seconds, so that a pause ends only at the end of
                        // a step.
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
        // Then the longest pause is over. Contended backends are corrected within one minute.
        two.rig.pass_seconds(200);
        two.rig.pass_seconds(200);
        prop_assert_eq!(two.weights(), two.documents);
        prop_assert!(two.rig.session.converged());
        prop_assert_eq!(&two.rig.haproxy.violations, &Vec::<String>::new());
    }
}

#[test]
fn differences_at_the_end_of_a_pause_are_corrected_at_once_and_are_not_drift() {
    for resumed in [true, false] {
        let mut two = TwoBackends::settled("roundrobin");
        two.rig.pause(Some("app"), 30);
        two.manual_edit(0, [3, 3]);
        two.manual_edit(1, [3, 3]);
        two.rig.pass_seconds(20);
        assert_eq!(two.weights(), [[3, 3], two.documents[1]], "only the other backend is enforced");
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
fn a_document_during_a_pause_is_decided_after_the_pause() {
    let mut two = TwoBackends::settled("roundrobin");
    let before = two.documents;
    two.rig.pause(None, 30);
    two.documents[0] = [0, 50];
    two.publish();
    two.rig.run();
    let app = two.rig.backend("app");
    assert_eq!(app.desired.as_ref().map(|d| d.index), Some(2), "the document is known");
    assert_eq!(app.accepted.as_ref().map(|d| d.index), Some(1), "but not accepted");
    assert!(!two.rig.session.converged(), "a document that is deferred is not converged");
    assert_eq!(two.weights(), before);
    // A resume of one backend does not end the pause of all backends.
    two.rig.resume(Some("app"));
    two.rig.run();
    assert_eq!(two.weights(), before);
    two.rig.pass_seconds(30);
    assert_eq!(two.weights(), two.documents);
}

#[test]
fn a_pause_cancels_the_stages_after_the_one_in_progress() {
    // This algorithm is not known to accept every weight, so that the 0 waits for the read-back of the raise.
    let mut two = TwoBackends::settled("hash");
    two.documents[0] = [0, 200];
    two.publish();
    while two.sent(0) < 3 {
        assert!(two.rig.step().is_none(), "it sends before it waits");
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
fn each_pause_and_each_end_is_reported_once() {
    let mut two = TwoBackends::settled("roundrobin");
    two.rig.pause(None, 30);
    two.rig.pass_seconds(31);
    let paused = two.rig.events.iter().filter(|e| matches!(e, Event::Paused { .. })).count();
    let expired = |e: &&Event| matches!(e, Event::Resumed { ended: Ended::Expired, .. });
    assert_eq!((paused, two.rig.events.iter().filter(expired).count()), (1, 1));
    assert_eq!(two.rig.session.resume(&Scope::All, &Ended::Expired), 0);
    assert_eq!(scope(None), Scope::All);
}
