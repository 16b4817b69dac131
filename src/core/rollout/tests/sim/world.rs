//! Nodes, Consul and leaders, second by second.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    desired::PatternShare,
    dice::Dice,
    fleet::NodeName,
    judge::{Cell, Counts, ERRORS, Flow},
    model::Timestamp,
    rollout::{
        Action, Evidence, Latch, Mode, Observations, Phase, Plan, Rollout, Spec, State, Transaction,
        observe::{Answer, DocumentSeen, Marks, NodeBlock, NodeSeen, NodeSlot, Source},
        tests::bench::{START, at, source, spec},
        tick,
    },
};

/// What is wrong with `to`, from the first step on; `Common` hits both sides for a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    Errors(f64),
    NotFound,
    Hang,
    Common(f64),
}

/// Errors that are normal on both sides.
const BASE: f64 = 0.0003;
/// Answers 4xx that are normal on both sides.
const NOT_FOUND: f64 = 0.01;
const COMMON_SECONDS: u64 = 60;

#[derive(Clone)]
struct Node {
    source: Source,
    /// The share in force.
    share: f64,
    applied: u64,
    /// The document that it will apply, and when.
    pending: Option<(u64, u64, f64)>,
    block: NodeBlock,
    /// The last five slots.
    slots: VecDeque<NodeSlot>,
    /// Blocks that are not published yet, and when they are.
    closed: VecDeque<(u64, NodeBlock)>,
}

pub(super) struct World {
    dice: Dice,
    wall: u64,
    per_second: f64,
    fault: Fault,
    /// When the fault began: `to` first had a share.
    fault_at: Option<u64>,
    nodes: Vec<Node>,
    /// What Consul has.
    state: State,
    index: u64,
    document: (u64, PatternShare),
    evidence: Option<Evidence>,
    spec: Spec,
    leader: Option<Rollout>,
    /// When the next leader takes over.
    next_leader: u64,
    answer: Option<(u64, Answer)>,
    /// The probability of a death in a second.
    deaths: f64,
    pub(super) leaders: u32,
    pub(super) found: Option<u64>,
    pub(super) shares: Vec<u32>,
}

fn empty(source: Source, block: u64) -> NodeBlock {
    NodeBlock {
        source,
        block,
        covers: 1,
        cells: BTreeMap::new(),
        to: Flow::default(),
        from: Flow::default(),
        all: 0,
        from_rtime: 30,
        marks: Marks::default(),
    }
}

impl World {
    pub(super) fn new(plan: Plan, nodes: usize, per_second: f64, fault: Fault, deaths: f64, seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(7919).wrapping_add(3));
        let spec = Spec { plan, ..spec(Mode::Auto) };
        let wall = START + dice.below(10);
        let state = State {
            phase: Phase::Queued,
            step: 0,
            share: PatternShare::default(),
            ..super::super::bench::Bench::new(Phase::Queued, Mode::Auto).rollout.state
        };
        let node = |n: usize| {
            let source = source(NodeName::new(&format!("lb-{n}")).unwrap());
            let block = empty(source.clone(), wall / 10);
            Node {
                source,
                share: 0.0,
                applied: 100,
                pending: None,
                block,
                slots: VecDeque::new(),
                closed: VecDeque::new(),
            }
        };
        Self {
            dice,
            wall,
            per_second: per_second / f64::from(u32::try_from(nodes).unwrap()),
            fault,
            fault_at: None,
            nodes: (0..nodes).map(node).collect(),
            state,
            index: 100,
            document: (100, PatternShare::default()),
            evidence: None,
            spec,
            leader: None,
            next_leader: wall,
            answer: None,
            deaths,
            leaders: 0,
            found: None,
            shares: Vec::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.phase
    }

    pub(super) fn latched(&self) -> Option<Latch> {
        self.state.latched
    }

    pub(super) fn seconds(&self) -> u64 {
        self.wall - START
    }

    pub(super) fn rollout_seconds(&self) -> u64 {
        self.spec.plan.total_bake().seconds() + 300
    }

    /// One second: traffic, nodes, the leader.
    pub(super) fn second(&mut self) {
        for at in 0..self.nodes.len() {
            self.apply(at);
            self.serve(at);
        }
        self.wall += 1;
        for at in 0..self.nodes.len() {
            self.close(at);
        }
        if self.dice.chance(self.deaths) && self.leader.take().is_some() {
            self.next_leader = self.wall + 5 + self.dice.below(15);
            self.answer = None;
        }
        self.lead();
    }

    /// A node applies the document after some time of its own.
    fn apply(&mut self, at: usize) {
        let (index, share) = self.document;
        let node = &mut self.nodes[at];
        if node.pending.is_none() && node.applied < index {
            let slow = if self.dice.chance(0.02) { 20 } else { 3 };
            node.pending = Some((self.wall + self.dice.below(slow), index, share.percent() / 100.0));
        }
        if let Some((due, index, share)) = node.pending
            && due <= self.wall
        {
            node.block.marks.weights |= (node.share - share).abs() > 1e-9;
            (node.share, node.applied, node.pending) = (share, index, None);
        }
    }

    /// The requests of one second.
    fn serve(&mut self, at: usize) {
        let common = match (self.fault, self.fault_at) {
            (Fault::Common(rate), Some(began)) if (began..began + COMMON_SECONDS).contains(&self.wall) => rate,
            _ => BASE,
        };
        let (rate, not_found, hangs) = match self.fault {
            Fault::Errors(rate) => (rate, NOT_FOUND, false),
            Fault::NotFound => (common, 1.0, false),
            Fault::Hang => (0.0, 0.0, true),
            Fault::None | Fault::Common(_) => (common, NOT_FOUND, false),
        };
        let share = self.nodes[at].share;
        let dice = &mut self.dice;
        let n = [self.per_second * share, self.per_second * (1.0 - share)].map(|mean| dice.poisson(mean));
        if n[0] > 0 {
            self.fault_at.get_or_insert(self.wall);
        }
        // A request that hangs has no answer, so it is no request of F1.
        let answered = if hangs { 0 } else { n[0] };
        let mut cell = |to_rate: f64, from_rate: f64| Cell {
            to: Counts { n: answered, e: dice.binomial(answered, to_rate) },
            from: Counts { n: n[1], e: dice.binomial(n[1], from_rate) },
        };
        let cells = [
            (ERRORS, cell(rate, common)),
            ("masked", cell(0.0, 0.0)),
            ("refused", cell(not_found, NOT_FOUND)),
            ("redirected", cell(0.02, 0.02)),
        ];
        let node = &mut self.nodes[at];
        node.block.to = node.block.to.plus(Flow { started: n[0], completed: answered });
        node.block.from = node.block.from.plus(Flow { started: n[1], completed: n[1] });
        node.block.all += n[0] + n[1];
        let number = self.wall / 2;
        if node.slots.back().is_none_or(|slot| slot.slot != number) {
            node.slots.push_back(NodeSlot { source: node.source.clone(), slot: number, cells: BTreeMap::new() });
            if node.slots.len() > 5 {
                node.slots.pop_front();
            }
        }
        let slot = &mut node.slots.back_mut().unwrap().cells;
        for (name, cell) in cells {
            for sums in [&mut node.block.cells, &mut *slot] {
                let sum = sums.entry(name.to_owned()).or_default();
                *sum = sum.plus(cell);
            }
        }
    }

    /// The end of a block: it is published within 2 s, sometimes later.
    fn close(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if self.wall.is_multiple_of(10) {
            let next = empty(node.source.clone(), self.wall / 10);
            let late = if self.dice.chance(0.01) { 8 } else { 0 };
            node.closed.push_back((self.wall + self.dice.below(3) + late, std::mem::replace(&mut node.block, next)));
        }
    }

    fn observations(&mut self) -> Observations {
        let wall = self.wall;
        let seen = |node: &Node| NodeSeen {
            counts: true,
            live: true,
            applied: node.applied,
            heard: true,
            to_usable: true,
            ..NodeSeen::default()
        };
        let mut blocks = Vec::new();
        let mut slots = Vec::new();
        for node in &mut self.nodes {
            while node.closed.front().is_some_and(|(due, _)| *due <= wall) {
                blocks.extend(node.closed.pop_front().map(|(_, block)| block));
            }
            let fails = |slot: &NodeSlot| {
                let bad = |name: &str| slot.cells.get(name).is_some_and(|cell| 2 * cell.to.e >= cell.to.n.max(1));
                slot.cells.get(ERRORS).is_some_and(|cell| cell.to.e > 0) || bad("refused")
            };
            if node.slots.iter().any(fails) && wall.is_multiple_of(2) {
                slots.extend(node.slots.iter().cloned());
            }
        }
        Observations {
            leader: true,
            active: true,
            answer: self.answer.take(),
            document: DocumentSeen { index: self.document.0, share: Some(self.document.1), is_split: true },
            nodes: self.nodes.iter().map(|node| (node.source.node.clone(), seen(node))).collect(),
            blocks,
            slots,
            ..Observations::default()
        }
    }

    /// The leader's tick; blocks that are published while nobody leads are lost.
    fn lead(&mut self) {
        let now = at(self.wall);
        let seen = self.observations();
        if self.leader.is_none() {
            if self.wall < self.next_leader {
                return;
            }
            let state = State::parse(&self.state.to_value(), self.index).unwrap();
            let evidence = self.evidence.as_ref().map(|evidence| Evidence::parse(&evidence.to_value()).unwrap());
            self.leader = Some(Rollout::load(self.spec.clone(), state, evidence.as_ref(), now));
            self.leaders += 1;
        }
        let Some(rollout) = self.leader.take() else { return };
        let (rollout, actions) = tick(rollout, &seen, now);
        self.leader = Some(rollout);
        for action in actions {
            match action {
                Action::Transact(transaction) => self.transact(&transaction),
                Action::Persist(evidence) => self.evidence = Some(*evidence),
                Action::Tell(_) => {}
            }
        }
    }

    /// Consul: most transactions happen, some conflict, some lose their answer.
    fn transact(&mut self, transaction: &Transaction) {
        let dice = self.dice.below(100);
        let conflict = dice < 3 || transaction.document.is_some_and(|index| index != self.document.0);
        if conflict {
            self.answer = Some((transaction.attempt, Answer::Conflict));
            return;
        }
        if dice < 6 {
            self.answer = Some((transaction.attempt, Answer::Lost));
            return;
        }
        assert_eq!(transaction.state.seq, self.state.seq + 1, "check-and-set on the state");
        self.index += 1;
        let Transaction { state, write, .. } = transaction.clone();
        self.state = state;
        if let Some(share) = write {
            // Nothing is raised before every node has the document in force.
            if share > self.document.1 {
                assert!(self.nodes.iter().all(|node| node.applied >= self.document.0));
            } else if let Some(began) = self.fault_at {
                self.found.get_or_insert(self.wall - began);
            }
            self.document = (self.index, share);
            self.shares.push(share.thousandths() / 1000);
        }
        self.state.document.get_or_insert(self.document.0);
        self.state.since = Timestamp::from_seconds(self.wall);
        self.answer = Some((transaction.attempt, Answer::Applied(self.index)));
    }
}
