//! The windows of HARD, SEVERE and HANG: sums over the fleet, by slot and by block. They never feed the evidence.

use std::collections::BTreeMap;

use super::observe::{NodeBlock, NodeSlot, Source};
use crate::judge::{
    BLOCK_SECONDS, Cell, ERRORS, Flow, HARD, SEVERE, SLOT_SECONDS, Trip,
    hang::{self, MAX_WINDOW_SECONDS, MIN_STARTED, hang},
    trip::{trip, usual},
};

/// Slots that are kept: those of the longest window.
const SLOTS: u64 = MAX_WINDOW_SECONDS / SLOT_SECONDS;
/// Blocks that are kept.
const BLOCKS: u64 = MAX_WINDOW_SECONDS / BLOCK_SECONDS;
/// A window that ended so many seconds ago says nothing of now.
const FRESH_SECONDS: u64 = 30;
/// The requests of an instance that published no block for longer than this are not counted as usual.
const USUAL_BLOCKS: u64 = 6;
/// The checks of HARD.
const HARD_CHECKS: [&str; 4] = [ERRORS, "masked", "refused", "redirected"];

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The rule.
    pub rule: RuleName,
    /// The check whose counts it is.
    pub check: &'static str,
    /// Whether it can be compared with `from`.
    pub trip: Trip,
    /// The end of the window, unix time.
    pub at: u64,
}

/// The name of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleName {
    /// Half of the requests fail.
    Hard,
    /// One request in 25 fails.
    Severe,
    /// Requests start and never end.
    Hang,
}

impl RuleName {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "HARD",
            Self::Severe => "SEVERE",
            Self::Hang => "HANG",
        }
    }
}

/// The sums over the fleet of one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Row {
    errors: Cell,
    to: Flow,
    from: Flow,
    from_rtime: u64,
}

/// The windows of a rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    /// From when they count: the first time at which this rollout gave `to` a share; unix time.
    since: Option<u64>,
    /// By slot: the counts of each instance. A later copy replaces an earlier one.
    slots: BTreeMap<u64, BTreeMap<Source, BTreeMap<String, Cell>>>,
    rows: BTreeMap<u64, Row>,
    /// The last block of each instance, and the requests of both sides in it. Of each instance: the last row can miss a block
    /// that is late or lost, and then says too little of the traffic.
    requests: BTreeMap<Source, (u64, u64)>,
    /// The shares of `to` in percent, by the time from which they were wanted.
    shares: BTreeMap<u64, f64>,
}

impl Windows {
    /// The rollout wants this share from now on. The windows count from the first one.
    pub fn want(&mut self, share: f64, wall: u64) {
        if share > 0.0 {
            self.since.get_or_insert(wall);
        }
        self.shares.insert(wall, share);
        // The share at the start of the longest window is kept.
        let start = wall.saturating_sub(MAX_WINDOW_SECONDS);
        let before = self.shares.range(..=start).next_back().map(|(at, _)| *at);
        self.shares.retain(|at, _| Some(*at) >= before);
    }

    /// Takes a slot.
    pub fn slot(&mut self, slot: &NodeSlot) {
        let newest = self.slots.last_key_value().map_or(0, |(slot, _)| *slot);
        if self.since.is_none_or(|since| slot.slot * SLOT_SECONDS < since) || slot.slot + SLOTS <= newest {
            return;
        }
        self.slots.entry(slot.slot).or_default().insert(slot.source.clone(), slot.cells.clone());
        while let Some(oldest) = self.slots.first_entry()
            && oldest.key() + SLOTS <= slot.slot
        {
            oldest.remove();
        }
    }

    /// Takes all parts of a block that is complete.
    pub fn block(&mut self, block: u64, parts: &[NodeBlock]) {
        let row = self.rows.entry(block).or_default();
        for part in parts {
            row.errors = row.errors.plus(part.cells.get(ERRORS).copied().unwrap_or_default());
            row.to = row.to.plus(part.to);
            row.from = row.from.plus(part.from);
            row.from_rtime = row.from_rtime.max(part.from_rtime);
        }
        self.rows.retain(|at, _| at + BLOCKS > block);
        self.requests.retain(|_, (at, _)| *at + USUAL_BLOCKS > block);
        // What could not be subtracted has no requests, and is no silence.
        for part in parts.iter().filter(|part| part.all > 0 || !part.marks.torn) {
            self.requests.insert(part.source.clone(), (part.block, part.all / part.covers.max(1)));
        }
    }

    /// The requests of both sides in the last complete block: the last one of each instance. None before the first one.
    fn usual_requests(&self) -> Option<u64> {
        let requests = self.requests.values().map(|(_, requests)| *requests);
        requests.reduce(u64::saturating_add)
    }

    /// The blocks that began after this time, oldest first, without a gap: a block without data is empty.
    fn rows_since(&self, since: u64) -> Vec<Row> {
        let first = since.div_ceil(BLOCK_SECONDS);
        let Some((last, _)) = self.rows.last_key_value() else { return Vec::new() };
        let first = first.max((last + 1).saturating_sub(BLOCKS));
        (first..=*last).map(|at| self.rows.get(&at).copied().unwrap_or_default()).collect()
    }

    /// What HAProxy counted in so many blocks from this one on: requests and errors. None if a block is not there.
    pub fn counted(&self, block: u64, covers: u64) -> Option<Cell> {
        (block..block + covers).try_fold(Cell::default(), |sum, at| Some(sum.plus(self.rows.get(&at)?.errors)))
    }

    /// The share of `to` that the requests of a row are expected to have, in percent: the real one of the last whole block
    /// after the raise in which requests started, before that the wanted one.
    fn expected_share(&self, raised: Option<u64>, wanted: f64) -> f64 {
        let rows = raised.map(|raised| self.rows_since(raised)).unwrap_or_default();
        let real = rows.iter().rev().find_map(|row| {
            let all = row.to.started.saturating_add(row.from.started);
            (all > 0).then(|| 100.0 * as_f64(row.to.started) / as_f64(all))
        });
        real.unwrap_or(wanted)
    }

    /// The largest share within the longest window.
    fn largest_share(&self) -> f64 {
        self.shares.values().copied().fold(0.0, f64::max)
    }

    /// Applies HARD, SEVERE and HANG, in this order. `raised`: when the last raise was written, unix time; `share`: the
    /// wanted one, in percent; `redirects_up_to`: the share up to which redirects are judged.
    pub fn find(&self, raised: Option<u64>, share: f64, redirects_up_to: f64, wall: u64) -> Option<Found> {
        let since = self.since?;
        let requests = self.usual_requests();
        let expected = self.expected_share(raised, share);
        let mut holds = Vec::new();
        let mut check = |rule, check, trip: Option<Trip>, at: u64| {
            let trip = trip.filter(|_| at + FRESH_SECONDS > wall)?;
            let found = Found { rule, check, trip, at };
            match trip {
                Trip::Rollback => Some(found),
                Trip::Hold => {
                    holds.push(found);
                    None
                }
            }
        };
        // Only nodes with failures publish slots. Without the requests of all nodes their sum would look like the fleet.
        if let (Some((newest, _)), Some(requests)) = (self.slots.last_key_value(), requests) {
            for name in HARD_CHECKS {
                if name == "redirected" && self.largest_share() > redirects_up_to {
                    continue;
                }
                let rows = self.slot_rows(name, since, *newest);
                let trip = trip(&rows, &HARD, usual(requests, expected, 5));
                if let Some(found) = check(RuleName::Hard, name, trip, (newest + 1) * SLOT_SECONDS) {
                    return Some(found);
                }
            }
        }
        let end = self.rows.last_key_value().map_or(0, |(last, _)| (last + 1) * BLOCK_SECONDS);
        let rows: Vec<Cell> = self.rows_since(since).iter().map(|row| row.errors).collect();
        let severe = trip(&rows, &SEVERE, usual(requests.unwrap_or_default(), expected, 1));
        if let Some(found) = check(RuleName::Severe, ERRORS, severe, end) {
            return Some(found);
        }
        if let Some(found) = check(RuleName::Hang, ERRORS, raised.and_then(|raised| self.hang(raised)), end) {
            return Some(found);
        }
        holds.into_iter().next()
    }

    /// The rows of a check up to a slot, without a gap: a node that does not publish has no failure.
    fn slot_rows(&self, check: &str, since: u64, newest: u64) -> Vec<Cell> {
        let first = since.div_ceil(SLOT_SECONDS).max((newest + 1).saturating_sub(SLOTS));
        let row = |slot| {
            let cells = self.slots.get(&slot).into_iter().flat_map(BTreeMap::values);
            cells.filter_map(|cells| cells.get(check)).fold(Cell::default(), |sum, cell| sum.plus(*cell))
        };
        (first..=newest).map(row).collect()
    }

    /// HANG over the last whole blocks after the raise: as few as say something.
    fn hang(&self, raised: u64) -> Option<Trip> {
        let rows = self.rows_since(raised);
        let shortest = hang::window_seconds(rows.last()?.from_rtime);
        let (mut to, mut from, mut seconds) = (Flow::default(), Flow::default(), 0);
        for row in rows.iter().rev() {
            (to, from) = (to.plus(row.to), from.plus(row.from));
            seconds += BLOCK_SECONDS;
            if as_f64(seconds) >= shortest && to.started >= MIN_STARTED {
                return hang(to, from);
            }
        }
        None
    }

    /// Started requests of both sides in the blocks since a time: the real share.
    pub fn started_since(&self, since: u64) -> (u64, u64) {
        let rows = self.rows_since(since);
        rows.iter()
            .fold((0, 0), |(to, from), row| (row.to.started.saturating_add(to), row.from.started.saturating_add(from)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of five minutes")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
