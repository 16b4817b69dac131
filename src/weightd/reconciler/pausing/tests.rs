use std::{fmt::Write as _, sync::Arc, time::Duration};

use proptest::prelude::*;
use weightd_core::{
    backend::Why,
    desired::{Desired, DesiredState, Instruction, Source},
    model::{ServerName, Weight},
    observed::Roles,
    plan::{Change, Plan},
    stored::Stored,
};

use super::*;
use crate::haproxy::Info;

const NAMES: [&str; 2] = ["app", "other"];

fn name(number: usize) -> BackendName {
    BackendName::new(NAMES[number]).unwrap()
}

fn scope(number: Option<usize>) -> Scope {
    Scope::of(number.map(name).as_ref())
}

/// A HAProxy with two backends of two servers, and what a reconciler makes of it.
struct World {
    reconciler: Reconciler,
    weights: [[u16; 2]; 2],
    documents: [[u16; 2]; 2],
    index: u64,
    pid: u32,
    now: Moment,
    /// The pauses, kept in the plainest way.
    pauses: Vec<(Option<usize>, Moment)>,
    /// Each weight that was set, and why.
    sent: Vec<(usize, Why)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            reconciler: Reconciler::new(Stored::default(), false),
            weights: [[9, 9]; 2],
            documents: [[100, 1]; 2],
            index: 0,
            pid: 1,
            now: Moment::default(),
            pauses: Vec::new(),
            sent: Vec::new(),
        };
        world.publish();
        world.show_info();
        world
    }

    fn publish(&mut self) {
        self.index += 1;
        let document = |[blue, green]: [u16; 2]| {
            let weights = [("blue", blue), ("green", green)]
                .map(|(server, weight)| (ServerName::new(server).unwrap(), Weight::new(weight.into()).unwrap()));
            let (by, reason, at) = (None, None, None);
            Arc::new(Desired { weights: weights.into(), force: false, index: self.index, by, reason, at })
        };
        let backends = (0..2).map(|n| (name(n), Source::Valid(Instruction::Weights(document(self.documents[n])))));
        let state = DesiredState { backends: backends.collect(), ..DesiredState::default() };
        self.reconciler.take(&Arc::new(state));
    }

    fn show_info(&mut self) {
        let info = Info { version: "3".into(), pid: self.pid, uptime: 1, stopping: false, processes: 1 };
        self.reconciler.process(&info);
    }

    fn paused(&self, number: usize) -> bool {
        self.pauses.iter().any(|(of, until)| of.is_none_or(|of| of == number) && *until > self.now)
    }

    fn pause(&mut self, number: Option<usize>, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        self.pauses.retain(|(of, _)| *of != number);
        self.pauses.push((number, until));
        self.reconciler.pause(&scope(number), Pause { until, ..Pause::default() }, self.now);
    }

    fn resume(&mut self, number: Option<usize>) {
        self.pauses.retain(|(of, _)| number.is_some() && *of != number);
        self.reconciler.resume(&scope(number), &Ended::Lifted { by: None, uid: None });
    }

    fn observe(&mut self, number: usize) {
        let [blue, green] = self.weights[number];
        let mut frame = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
                         srv_iweight srv_check_status srv_check_state srv_agent_state srv_port\n"
            .to_owned();
        for (server, weight) in [("blue", blue), ("green", green)] {
            let _ = writeln!(frame, "3 {} 1 {server} 127.0.0.1 2 0 {weight} 9 6 0 0 80", NAMES[number]);
        }
        self.reconciler.observe(&name(number), &frame, self.now);
        self.reconciler.take_roles(&name(number), Some(Roles::default()));
    }

    /// What the task does once: it looks at what is due where that is needed, sends, reads back, and so on with what
    /// follows.
    /// `interrupted` begins a pause of everything while the first stage is on its way.
    fn look(&mut self, mut interrupted: bool) {
        loop {
            let mut batch = self.reconciler.next_unseen(self.now);
            if batch.is_empty() {
                batch = self.reconciler.next_batch();
                for look in &batch {
                    self.observe(NAMES.iter().position(|n| *n == look.as_str()).unwrap());
                }
            }
            if batch.is_empty() {
                break;
            }
            let mut plans = self.reconciler.decide(&batch, self.now);
            while !plans.is_empty() {
                for (backend, ..) in &plans {
                    let number = NAMES.iter().position(|n| *n == backend.as_str()).unwrap();
                    assert!(!self.paused(number), "a write to {backend} although it is paused");
                }
                if std::mem::take(&mut interrupted) {
                    self.pause(None, 1000);
                }
                plans = plans.into_iter().filter_map(|(backend, why, plan)| self.send(backend, why, &plan)).collect();
            }
        }
    }

    fn send(&mut self, backend: BackendName, why: Why, plan: &Plan) -> Option<(BackendName, Why, Plan)> {
        let number = NAMES.iter().position(|n| *n == backend.as_str()).unwrap();
        let sent: Vec<Change> = plan.stages.first().cloned().unwrap_or_default();
        for change in &sent {
            self.weights[number][usize::from(change.server.as_str() == "green")] = change.to.get();
            self.sent.push((number, why));
        }
        self.observe(number);
        let next = self.reconciler.applied(&backend, why, &sent, None, self.now);
        next.map(|plan| (backend, why, plan))
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.reconciler.recheck(self.now);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pause(Option<usize>, u64),
    Resume(Option<usize>),
    HandEdit(usize, [u16; 2]),
    Document(usize, [u16; 2]),
    Reload,
    Pass(u64),
    Look(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || prop_oneof![Just(None), Just(Some(0)), Just(Some(1))];
    // No document is all zero: the guards have tests of their own.
    let weights = || (1..=256_u16, 0..=256_u16).prop_map(|(blue, green)| [blue, green]);
    prop_oneof![
        (which(), 1..100_u64).prop_map(|(which, seconds)| Step::Pause(which, seconds)),
        which().prop_map(Step::Resume),
        (0..2_usize, weights()).prop_map(|(number, weights)| Step::HandEdit(number, weights)),
        (0..2_usize, weights()).prop_map(|(number, weights)| Step::Document(number, weights)),
        Just(Step::Reload),
        (0..60_u64).prop_map(Step::Pass),
        prop::bool::weighted(0.1).prop_map(Step::Look),
    ]
}

proptest! {
    #[test]
    fn nothing_is_written_while_paused_and_everything_is_enforced_after(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        for step in steps {
            let drift = world.reconciler.backends.values().map(|b| b.drift_corrections).sum::<u64>();
            let accepted = |world: &World, n| world.reconciler.backends[&name(n)].accepted.clone();
            let before = [accepted(&world, 0), accepted(&world, 1)];
            let paused = [world.paused(0), world.paused(1)];
            match step {
                Step::Pause(which, seconds) => world.pause(which, seconds),
                Step::Resume(which) => world.resume(which),
                Step::HandEdit(number, weights) => world.weights[number] = weights,
                Step::Document(number, weights) => {
                    world.documents[number] = weights;
                    world.publish();
                }
                Step::Reload => {
                    world.pid += 1;
                    world.weights = [[9, 9]; 2];
                    world.show_info();
                }
                Step::Pass(seconds) => world.pass(seconds),
                Step::Look(interrupted) => {
                    world.reconciler.resync();
                    world.look(interrupted);
                    for n in 0..2 {
                        prop_assert!(!paused[n] || accepted(&world, n) == before[n], "decided while paused");
                    }
                    let after = world.reconciler.backends.values().map(|b| b.drift_corrections).sum::<u64>();
                    prop_assert!(paused != [true, true] || after == drift, "drift while paused is not counted");
                }
            }
        }
        // The longest pause is over.
        world.pass(1000);
        world.look(false);
        world.reconciler.resync();
        world.look(false);
        // Contended backends are put right within a minute, as without a pause.
        world.pass(3600);
        world.reconciler.resync();
        world.look(false);
        prop_assert_eq!(world.weights, world.documents);
        prop_assert!(world.reconciler.converged());
    }
}

/// A world in which everything is as it should be.
fn settled() -> World {
    let mut world = World::new();
    world.look(false);
    assert_eq!(world.weights, world.documents);
    world.sent.clear();
    world
}

fn drift(world: &World) -> u64 {
    world.reconciler.backends[&name(0)].drift_corrections
}

#[test]
fn what_differs_when_a_pause_ends_is_put_right_at_once_and_is_nobodys_drift() {
    for resumed in [true, false] {
        let mut world = settled();
        world.pause(Some(0), 30);
        world.weights = [[3, 3]; 2];
        for _ in 0..20 {
            world.pass(1);
            world.reconciler.resync();
            world.look(false);
        }
        assert_eq!(world.weights, [[3, 3], world.documents[1]], "only the other one is enforced");
        assert!(!world.reconciler.converged());
        world.sent.clear();
        if resumed {
            world.resume(Some(0));
        } else {
            world.pass(10);
        }
        world.look(false);
        assert_eq!(world.weights, world.documents);
        assert_eq!((&world.sent, drift(&world)), (&vec![(0, Why::Resume); 2], 0), "{resumed}");
    }
}

#[test]
fn a_document_that_comes_meanwhile_is_decided_on_when_hands_are_on_again() {
    let mut world = settled();
    let before = world.documents;
    world.pause(None, 30);
    world.documents[0] = [0, 50];
    world.publish();
    world.look(false);
    let app = &world.reconciler.backends[&name(0)];
    assert_eq!(app.desired.as_ref().map(|d| d.index), Some(2), "it is known");
    assert_eq!(app.accepted.as_ref().map(|d| d.index), Some(1), "but not accepted");
    assert!(!world.reconciler.converged(), "a document that is kept back is not converged");
    assert_eq!(world.weights, before);
    // A resume of one backend does not lift the pause of everything.
    world.resume(Some(0));
    world.look(false);
    assert_eq!(world.weights, before);
    world.pass(30);
    world.look(false);
    assert_eq!(world.weights, world.documents);
}

#[test]
fn a_pause_stops_what_would_follow_a_stage_that_is_on_its_way() {
    let mut world = settled();
    // The algorithm is not known, so the 0 waits for the read-back of the raise.
    world.documents[0] = [0, 200];
    world.publish();
    world.look(true);
    assert_eq!(world.weights[0], [100, 200]);
    world.resume(None);
    world.look(false);
    assert_eq!(world.weights, world.documents);
}

#[test]
fn each_pause_is_told_of_once_and_each_end_too() {
    let mut world = settled();
    world.reconciler.take_events();
    world.pause(None, 30);
    world.pass(30);
    world.pass(1);
    let events = world.reconciler.take_events();
    let paused = events.iter().filter(|e| matches!(e, Event::Paused { .. })).count();
    let expired = |e: &&Event| matches!(e, Event::Resumed { ended: Ended::Expired, .. });
    assert_eq!((paused, events.iter().filter(expired).count()), (1, 1));
    assert_eq!(world.reconciler.resume(&Scope::All, &Ended::Expired), 0);
}
