//! What a leader knows of a rollout beside the state: the part that a new leader begins without, but for what the evidence
//! keeps.

use std::collections::{BTreeMap, VecDeque};

use super::{
    action::{Event, Transaction},
    blocks::Blocks,
    observe::Observations,
    shown::Shown,
    start::Baseline,
    windows::Windows,
};
use crate::{desired::PatternShare, fleet::NodeName, judge::Cell, model::Moment};

/// What a leader knows beside the state.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a fact of its own")]
pub struct Memory {
    /// The transaction under way, and what follows when it happened.
    pub(super) pending: Option<Box<Pending>>,
    /// How many transactions were proposed.
    pub(super) attempts: u64,
    /// Since when it is in this phase, in this process.
    pub(super) entered: Moment,
    /// Good seconds of this step; in preflight those of the baseline.
    pub(super) good: u64,
    /// Requests of `from` and those that failed, in each block before `to` has a share: the last ones, as many as the
    /// baseline has.
    pub(super) before: VecDeque<(u64, u64)>,
    pub(super) blocks: Blocks,
    pub(super) windows: Windows,
    /// When the last raise was written, unix time; none before the first one.
    pub(super) raised_at: Option<u64>,
    /// The first block of this step: it began after all nodes had applied the document. None while they have not.
    pub(super) first_block: Option<u64>,
    /// Whether the share grew and no block was judged since.
    pub(super) raised: bool,
    /// Whether `from` had requests in the last block that was judged.
    pub(super) control: bool,
    /// Until when the reason "no control" holds, unix time.
    pub(super) no_control_until: u64,
    /// Whether it holds now.
    pub(super) no_control: bool,
    /// When people were last told of a failure that it may not act on, by its word.
    pub(super) told: BTreeMap<&'static str, Moment>,
    /// The reasons that hold, by word: since when, and whether people were told.
    pub(super) held: BTreeMap<&'static str, (Moment, bool)>,
    /// What people are shown since the last tick.
    pub(super) shown: Shown,
    /// When the evidence was last persisted, and what people were shown then.
    pub(super) persisted: Option<(Moment, Shown)>,
    /// Whether sessions on `to` were waited for as long as they can last.
    pub(super) waited_for_sessions: bool,
    /// For each node: requests of both sides and started requests of `to`, in this step.
    pub(super) reached: BTreeMap<NodeName, (u64, u64)>,
    /// Named checks without data, and why.
    pub(super) silent_sources: BTreeMap<String, String>,
    /// The last window of each named check that was taken: unix time / 10.
    pub(super) source_blocks: BTreeMap<String, u64>,
    /// Cells of named checks that wait for the next block.
    pub(super) source_cells: BTreeMap<String, Vec<Cell>>,
    /// What was judged in this step, by check.
    pub(super) counted: BTreeMap<String, Cell>,
    /// The blocks that paid most, for people: newest last.
    pub(super) paid: Vec<Paid>,
}

/// A transaction under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pending {
    pub(super) transaction: Transaction,
    /// What people are told when it happened.
    pub(super) events: Vec<Event>,
    /// What happens to the evidence then.
    pub(super) effect: Effect,
}

/// What a transition does to the evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    #[default]
    None,
    /// A person goes on after a regression: it starts anew.
    Restart,
    /// A person goes on after a broken SLO.
    ResumeSlo,
    /// A person goes on after an inconclusive step: one more length of it.
    Extend,
    /// The baseline starts anew.
    NewBaseline,
}

/// A block that paid: observed more than was allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Paid {
    /// unix time / 10.
    pub block: u64,
    /// The check.
    pub check: String,
    /// Errors that were observed.
    pub observed: f64,
    /// Errors that were allowed.
    pub allowed: f64,
}

impl Memory {
    /// The most blocks that are remembered for people.
    pub const MAX_PAID: usize = 20;
    /// Requests that must be expected on a node before their absence says something.
    const EXPECTED: f64 = 20.0;

    /// The blocks that paid most recently, newest last.
    pub fn paid(&self) -> &[Paid] {
        &self.paid
    }

    /// Good seconds of this step.
    pub fn good_seconds(&self) -> u64 {
        self.good
    }

    /// The requests of `from` in the baseline.
    pub(super) fn baseline(&self) -> Baseline {
        let (requests, errors) = self.before.iter().fold((0, 0), |(n, e), block| (n + block.0, e + block.1));
        Baseline { requests, errors, ..Baseline::default() }
    }

    /// The counting nodes on which at least 20 requests to `to` were expected in this step and none came.
    pub(super) fn unwired(&self, share: PatternShare, seen: &Observations) -> Vec<NodeName> {
        let unwired = seen.counting().filter(|(name, _)| {
            let Some((all, to)) = self.reached.get(*name) else { return false };
            let expected = share.percent() / 100.0 * f64::from(u32::try_from(*all).unwrap_or(u32::MAX));
            *to == 0 && expected >= Self::EXPECTED
        });
        unwired.map(|(name, _)| name.clone()).collect()
    }

    /// A new step begins: nothing of the old one belongs to it.
    pub(super) fn begin_step(&mut self) {
        self.good = 0;
        self.before.clear();
        self.first_block = None;
        self.reached.clear();
        self.source_cells.clear();
        self.counted.clear();
        self.blocks.drop_merging();
    }
}
