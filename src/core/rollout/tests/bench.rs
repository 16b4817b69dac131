//! One rollout with three nodes, driven by hand.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    desired::PatternShare,
    fleet::NodeName,
    judge::{BLOCK_SECONDS, Cell, Counts, ERRORS, Flow},
    model::{Moment, Timestamp},
    rollout::{
        Action, Event, EventKind, Latch, Mode, Now, Observations, Phase, Request, Rollout, Spec, State, Transaction,
        Verb,
        observe::{Answer, DocumentSeen, Marks, NodeBlock, NodeSeen, NodeSlot, Source},
        plan::{OnRegression, PlanFile},
        tick,
    },
};

/// The first second of the tests: the begin of a block.
pub(super) const START: u64 = 1_800_000_000;
/// The index of the first document.
pub(super) const DOCUMENT: u64 = 100;
/// The SHA-256 of the spec, as far as these tests are concerned.
const SHA: &str = "0f";

/// One rollout and its world.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) rollout: Rollout,
    pub(super) seen: Observations,
    pub(super) wall: u64,
    /// The transaction that waits for its answer.
    pub(super) open: Option<Transaction>,
    /// What people were told.
    pub(super) told: Vec<Event>,
    index: u64,
}

pub(super) fn share(percent: u32) -> PatternShare {
    PatternShare::from_thousandths(percent * 1000).unwrap()
}

pub(super) fn plan() -> crate::rollout::Plan {
    let step = |percent| format!(r#"{{"share":{percent},"bake":"1m","must_exclude":0}}"#);
    let text = format!(r#"{{"step":[{},{},{}]}}"#, step(10), step(50), step(100));
    serde_json::from_str::<PlanFile>(&text).unwrap().resolve().unwrap()
}

pub(super) fn spec(mode: Mode) -> Spec {
    Spec {
        id: "r1".to_owned(),
        to: vec![crate::desired::Pattern::new("green-*").unwrap()],
        from: vec![crate::desired::Pattern::new("blue-*").unwrap()],
        back: share(0),
        mode,
        plan: plan(),
        regression: OnRegression::Rollback,
        by: "ann".to_owned(),
        at: Timestamp::from_seconds(START),
        reason: None,
    }
}

pub(super) fn names() -> [NodeName; 3] {
    ["lb-1", "lb-2", "lb-3"].map(|name| NodeName::new(name).unwrap())
}

impl Bench {
    /// A rollout in a phase: at 10 % where it moves, and everything is well.
    pub(super) fn new(phase: Phase, mode: Mode) -> Self {
        let moved = !matches!(phase, Phase::Queued | Phase::Preflight | Phase::RollingBack | Phase::RolledBack);
        let now_share = if moved { share(10) } else { share(0) };
        let spec = spec(mode);
        let state = State {
            id: spec.id.clone(),
            spec: SHA.to_owned(),
            seq: 7,
            phase,
            step: u32::from(moved),
            mode,
            share: now_share,
            back: share(0),
            document: Some(DOCUMENT),
            paused: None,
            latched: None,
            approved: None,
            promoted: None,
            answered: None,
            approval: None,
            since: Timestamp::from_seconds(START),
            why: None,
            aborted: false,
            late: Vec::new(),
        };
        let node = NodeSeen {
            counts: true,
            live: true,
            applied: DOCUMENT,
            heard: true,
            to_usable: true,
            ..NodeSeen::default()
        };
        let seen = Observations {
            leader: true,
            active: true,
            document: DocumentSeen { index: DOCUMENT, share: Some(now_share), is_split: true },
            nodes: names().into_iter().map(|name| (name, node.clone())).collect(),
            ..Observations::default()
        };
        let mut rollout = Rollout::load(spec, state, None, at(START));
        // It has seen a block with the usual traffic.
        let before = START / BLOCK_SECONDS - 1;
        let parts = names().map(|node| part(node, before, HEALTHY.0, HEALTHY.1));
        rollout.memory.windows.block(before, &parts);
        Self { rollout, seen, wall: START, open: None, told: Vec::new(), index: DOCUMENT }
    }

    pub(super) fn phase(&self) -> Phase {
        self.rollout.state.phase
    }

    pub(super) fn latched(&self) -> Option<Latch> {
        self.rollout.state.latched
    }

    /// One tick. Remembers its transaction and what people are told.
    pub(super) fn tick(&mut self) -> Vec<Action> {
        let (rollout, actions) = tick(self.rollout.clone(), &self.seen, at(self.wall));
        self.rollout = rollout;
        self.seen.answer = None;
        for action in &actions {
            match action {
                Action::Transact(transaction) => {
                    assert!(self.open.is_none(), "two transactions are under way");
                    self.open = Some((**transaction).clone());
                }
                Action::Tell(event) => self.told.push(event.clone()),
                Action::Persist(_) => {}
            }
        }
        actions
    }

    /// The open transaction happens: Consul has the state, and the document if it writes one.
    pub(super) fn commit(&mut self) -> Option<Transaction> {
        let transaction = self.open.take()?;
        if let Some(index) = transaction.document {
            assert_eq!(index, self.seen.document.index, "check-and-set");
        }
        self.index += 1;
        if let Some(share) = transaction.write {
            self.seen.document = DocumentSeen { index: self.index, share: Some(share), is_split: true };
        }
        self.seen.answer = Some((transaction.attempt, Answer::Applied(self.index)));
        Some(transaction)
    }

    /// Ticks until no transaction follows; each one happens. Nodes do not apply anything.
    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            self.tick();
            if self.commit().is_none() {
                return;
            }
        }
        panic!("it never settles: {:?}", self.rollout.state);
    }

    /// All nodes apply the document.
    pub(super) fn apply(&mut self) {
        let index = self.seen.document.index;
        self.seen.nodes.values_mut().for_each(|node| node.applied = index);
    }

    /// Somebody else writes.
    pub(super) fn foreign(&mut self, percent: Option<u32>) {
        self.index += 1;
        self.seen.document = DocumentSeen { index: self.index, share: percent.map(share), is_split: percent.is_some() };
    }

    pub(super) fn request(&mut self, verb: Verb) {
        self.seen.request = Some(self.request_of(verb));
    }

    pub(super) fn request_of(&self, verb: Verb) -> Request {
        let at = self.rollout.state.seq;
        let id = format!("q{at}-{}", verb.as_str());
        Request { id, verb, rollout: "r1".to_owned(), at, by: "bob".to_owned(), when: None, reason: None }
    }

    /// Ten seconds pass; each node publishes its block, with these counts on each. Ticks as the shell does.
    pub(super) fn block(&mut self, to: (u64, u64), from: (u64, u64)) {
        let block = self.wall / BLOCK_SECONDS;
        self.wall += BLOCK_SECONDS;
        let part = |node: NodeName| part(node, block, to, from);
        self.seen.blocks = names().into_iter().map(part).collect();
        self.wall += 1;
        self.settle();
        self.wall -= 1;
        self.seen.blocks.clear();
    }

    /// As long as the phase stays the same, at most so many blocks.
    pub(super) fn blocks(&mut self, blocks: u32, to: (u64, u64), from: (u64, u64)) {
        let phase = self.phase();
        for _ in 0..blocks {
            if self.phase() != phase {
                return;
            }
            self.block(to, from);
        }
    }

    /// Slots of 2 s with these counts on each node, one after the other.
    pub(super) fn slots(&mut self, slots: u64, to: (u64, u64), from: (u64, u64)) {
        for _ in 0..slots {
            let slot = self.wall / 2;
            self.wall += 2;
            let cells = BTreeMap::from([(ERRORS.to_owned(), cell(to, from))]);
            let slot = |node: NodeName| NodeSlot { source: source(node), slot, cells: cells.clone() };
            self.seen.slots.extend(names().into_iter().map(slot));
        }
    }

    pub(super) fn was_told(&self, kind: EventKind) -> bool {
        self.told.iter().any(|event| event.kind == kind)
    }

    /// The rollout as a new leader finds it.
    pub(super) fn new_leader(&mut self) {
        let evidence = self.rollout.evidence();
        let state = State::parse(&self.rollout.state.to_value(), self.index).unwrap();
        self.rollout = Rollout::load(self.rollout.spec.clone(), state, Some(&evidence), at(self.wall));
        self.open = None;
    }
}

pub(super) fn at(wall: u64) -> Now {
    Now { moment: Moment::after_start(Duration::from_secs(wall)), wall: Timestamp::from_seconds(wall) }
}

pub(super) fn source(node: NodeName) -> Source {
    Source { node, instance: "edge".to_owned() }
}

pub(super) fn cell(to: (u64, u64), from: (u64, u64)) -> Cell {
    Cell { to: Counts { n: to.0, e: to.1 }, from: Counts { n: from.0, e: from.1 } }
}

pub(super) fn part(node: NodeName, block: u64, to: (u64, u64), from: (u64, u64)) -> NodeBlock {
    let clean = cell((to.0, 0), (from.0, 0));
    let mut cells: BTreeMap<_, _> =
        ["masked", "refused", "redirected"].into_iter().map(|name| (name.to_owned(), clean)).collect();
    cells.insert(ERRORS.to_owned(), cell(to, from));
    NodeBlock {
        source: source(node),
        block,
        covers: 1,
        cells,
        to: Flow { started: to.0, completed: to.0 },
        from: Flow { started: from.0, completed: from.0 },
        all: to.0 + from.0,
        from_rtime: 20,
        marks: Marks::default(),
    }
}

/// Requests of each node in a block, at a share of 10 %.
pub(super) const HEALTHY: ((u64, u64), (u64, u64)) = ((100, 0), (900, 0));
