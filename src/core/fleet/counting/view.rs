use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Reading, ServerReading, Wall};
use crate::{
    fleet::{
        Per, Side, View,
        counters::{Block, Changed, Counters, Now, Slot, SlotCounts, Sums, Viewed},
    },
    model::ServerName,
};

/// What was counted and what changed between two readings.
#[derive(Debug, Default)]
pub(super) struct Increment {
    pub(super) servers: BTreeMap<ServerName, Sums>,
    pub(super) changed: BTreeMap<ServerName, Changed>,
    pub(super) unserved: u64,
    pub(super) torn: bool,
    /// Requests of which nothing is known.
    pub(super) lost: u64,
}

impl Increment {
    /// Notes which servers changed between two readings.
    pub(super) fn note_changes(&mut self, before: Option<&Reading>, now: &Reading) {
        let Some(before) = before else { return };
        let same_process = before.process == now.process;
        let found = |reading: &Reading, name: &ServerName| {
            reading.servers.iter().find(|server| server.now.name == *name).cloned()
        };
        for server in &now.servers {
            let name = &server.now.name;
            let changed = match found(before, name) {
                Some(was) => Changed {
                    weight: was.now.weight != server.now.weight,
                    // A server may go down and come back between two readings.
                    usable: was.now.usable() != server.now.usable() || same_process && was.downs != server.downs,
                },
                None => Changed { weight: false, usable: true },
            };
            self.change(name, changed);
        }
        for gone in before.names().filter(|name| found(now, name).is_none()) {
            self.change(gone, Changed { weight: false, usable: true });
        }
    }

    fn change(&mut self, server: &ServerName, changed: Changed) {
        if !changed.is_none() {
            self.changed.insert(server.clone(), changed);
        }
    }
}

/// The rows of one view: their sums, blocks and slots.
#[derive(Debug)]
pub(super) struct ViewCount {
    view: View,
    error: Option<String>,
    rows: BTreeMap<String, Sums>,
    unserved: u64,
    /// Of the running block.
    torn: bool,
    lost: u64,
    changed: BTreeMap<String, Changed>,
    /// The running block, and when the last reading was; none before the first one.
    running: Option<Running>,
    blocks: VecDeque<Block>,
    slots: VecDeque<Slot>,
    /// The sums of `from` and of `to`, and what they were at the last reading.
    sides: [Sums; 2],
    sides_before: [Sums; 2],
    failed: bool,
    closed: bool,
    /// The servers with sessions in a process that was replaced since this view began, and cannot be read.
    unread: BTreeSet<ServerName>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    block: u64,
    read_at: Wall,
}

const BLOCK: Wall = Counters::BLOCK_SECONDS * 1000;
const SLOT: Wall = Counters::SLOT_SECONDS * 1000;
/// How late the reading that closes a block may come. One that comes later would put a part of the next block into it.
const LATE: Wall = 1500;
/// A block is torn if more than one of so many requests is lost.
const LOST_AT_MOST: u64 = 100;

impl ViewCount {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            error: None,
            rows: BTreeMap::new(),
            unserved: 0,
            torn: false,
            lost: 0,
            changed: BTreeMap::new(),
            running: None,
            blocks: VecDeque::new(),
            slots: VecDeque::new(),
            sides: [Sums::default(); 2],
            sides_before: [Sums::default(); 2],
            failed: false,
            closed: false,
            unread: BTreeSet::new(),
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Takes the servers with sessions in a process that cannot be read any more.
    pub(super) fn cannot_read<'s>(&mut self, servers: impl Iterator<Item = &'s ServerName>) {
        self.unread.extend(servers.cloned());
    }

    pub(super) fn take_failed(&mut self) -> bool {
        std::mem::take(&mut self.failed)
    }

    pub(super) fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.closed)
    }

    /// Takes a reading of the current process with what was counted since the one before.
    pub(super) fn take(&mut self, increment: &Increment, reading: &Reading, at: Wall) {
        if let Err(both) = self.view.sides_of(reading.names()) {
            *self = Self { error: Some(both.to_string()), ..Self::new(self.view.clone()) };
            return;
        }
        self.error = None;
        let Some(Running { block, read_at }) = self.running else {
            self.begin(reading, at);
            return;
        };
        self.add(increment);
        // A row of a side stays: its sums must not vanish with its last server.
        if self.view.per == Per::Server {
            self.rows.retain(|row, _| reading.names().any(|name| name.as_str() == row));
        }
        self.put_in_slot(read_at.midpoint(at) / SLOT, at / SLOT);
        let now = at / BLOCK;
        if now != block {
            self.close(now, at);
        }
        self.running = Some(Running { block: now, read_at: at });
    }

    /// The first reading: everything is 0, but for the requests in flight.
    fn begin(&mut self, reading: &Reading, at: Wall) {
        for ServerReading { now, levels, .. } in &reading.servers {
            let started = Sums { started: levels.sessions, ..Sums::default() };
            if let Some(row) = self.row_of(&now.name) {
                let sums = self.rows.entry(row).or_default();
                *sums = sums.plus(started);
            }
        }
        self.running = Some(Running { block: at / BLOCK, read_at: at });
    }

    /// The row of a server; none where it is on both sides.
    fn row_of(&self, server: &ServerName) -> Option<String> {
        match self.view.per {
            Per::Server => Some(server.as_str().to_owned()),
            Per::Side => self.side(server).map(|side| side.as_str().to_owned()),
        }
    }

    fn side(&self, server: &ServerName) -> Option<Side> {
        self.view.sides.as_ref().map_or(Some(Side::Other), |sides| sides.of(server).ok())
    }

    /// Adds what was counted.
    pub(super) fn add(&mut self, increment: &Increment) {
        if self.running.is_none() {
            return;
        }
        for (server, counted) in &increment.servers {
            if let Some(row) = self.row_of(server) {
                let sums = self.rows.entry(row).or_default();
                *sums = sums.plus(*counted);
            }
            let side = match self.side(server) {
                Some(Side::From) => 0,
                Some(Side::To) => 1,
                Some(Side::Other) | None => continue,
            };
            self.sides[side] = self.sides[side].plus(*counted);
        }
        for (server, changed) in &increment.changed {
            if let Some(row) = self.row_of(server) {
                let noted = self.changed.entry(row).or_default();
                *noted = noted.or(*changed);
            }
        }
        self.unserved += increment.unserved;
        self.torn |= increment.torn;
        self.lost += increment.lost;
    }

    /// Puts what both sides counted since the last reading into a slot.
    fn put_in_slot(&mut self, k: u64, running: u64) {
        let before = std::mem::replace(&mut self.sides_before, self.sides);
        if self.view.sides.is_none() {
            return;
        }
        let [from, to] = [0, 1].map(|side| SlotCounts::between(before[side], self.sides[side]));
        match self.slots.iter_mut().find(|slot| slot.k == k) {
            Some(slot) => (slot.from, slot.to) = (slot.from.plus(from), slot.to.plus(to)),
            None => self.slots.push_back(Slot { k, from, to }),
        }
        // After a jump of the clock, older slots may have higher numbers.
        let last = running.saturating_sub(Counters::MAX_SLOTS as u64 - 1)..=running;
        self.slots.retain(|slot| last.contains(&slot.k));
        self.slots.make_contiguous().sort_unstable_by_key(|slot| slot.k);
        self.failed |= fails(&to, self.total());
    }

    /// What both sides counted in the last slots.
    fn total(&self) -> (SlotCounts, SlotCounts) {
        let none = SlotCounts::default();
        self.slots.iter().fold((none, none), |(from, to), slot| (from.plus(slot.from), to.plus(slot.to)))
    }

    /// Closes the block before `now`, if its end was read in time. Otherwise its counts and marks go into the next one.
    fn close(&mut self, now: u64, at: Wall) {
        let k = now.saturating_sub(1);
        if self.blocks.back().is_some_and(|last| last.k >= k) {
            // The clock was set back: the next block is the first one again.
            self.blocks.clear();
            return;
        }
        if at.saturating_sub(now * BLOCK) >= LATE {
            return;
        }
        // A worker exits with its last request, which is never seen to end: a few lost ones say nothing of the block.
        let requests = |rows: &BTreeMap<String, Sums>| rows.values().map(|sums| sums.requests).sum::<u64>();
        let counted = requests(&self.rows).saturating_sub(self.blocks.back().map_or(0, |last| requests(&last.sums)));
        self.torn |= std::mem::take(&mut self.lost) * LOST_AT_MOST > counted;
        let covers = self.blocks.back().map_or(0, |last| k - last.k);
        self.blocks.push_back(Block {
            k,
            covers,
            torn: std::mem::take(&mut self.torn),
            changed: std::mem::take(&mut self.changed),
            sums: self.rows.clone(),
            unserved: self.unserved,
        });
        self.blocks.drain(..self.blocks.len().saturating_sub(Counters::MAX_BLOCKS));
        self.closed = true;
    }

    /// What is reported, with the servers as they were read last. `leaving` are the sessions of processes that were replaced
    /// and are read to their end.
    pub(super) fn report(&self, last: &Reading, leaving: &BTreeMap<ServerName, u64>, at: Wall) -> Viewed {
        let id = self.view.id();
        if let Some(error) = &self.error {
            let (now, blocks, slots) = (BTreeMap::new(), Vec::new(), Vec::new());
            return Viewed { id, error: Some(error.clone()), now, blocks, slots };
        }
        let total = self.total();
        let kept = (at / SLOT).saturating_sub(Counters::MAX_SLOTS as u64 - 1);
        let failing = fails(&total.1, total);
        let slots = self.slots.iter().filter(|slot| failing && slot.k >= kept).cloned().collect();
        Viewed { id, error: None, now: self.now(last, leaving), blocks: self.blocks.iter().cloned().collect(), slots }
    }

    /// The state of each row. A server that is gone has a row while it has sessions in an earlier process.
    fn now(&self, last: &Reading, leaving: &BTreeMap<ServerName, u64>) -> BTreeMap<String, Now> {
        let active = last.servers.iter().any(|server| server.now.usable() && !server.now.weight.is_zero());
        let weight = |server: &ServerReading| {
            let serves = if active { server.now.usable() } else { server.now.serves_as_backup() };
            if serves { u64::from(server.now.weight.get()) } else { 0 }
        };
        let all: u64 = last.servers.iter().map(weight).sum();
        let mut rows: BTreeMap<String, (Now, u64, u64)> = BTreeMap::new();
        for server in &last.servers {
            let Some(row) = self.row_of(&server.now.name) else { continue };
            let (now, times, rates) = rows.entry(row).or_default();
            now.sessions += server.levels.sessions;
            now.usable += u64::from(server.now.usable());
            now.total += 1;
            now.weight += weight(server);
            if server.levels.answers.iter().any(|answers| *answers > 0) {
                // By the requests of the last second, so that a server without traffic does not count with what was.
                *times += server.rtime * (server.rate + 1);
                *rates += server.rate + 1;
            }
        }
        for (server, sessions) in leaving {
            let Some(row) = self.row_of(server) else { continue };
            rows.entry(row).or_default().0.sessions += sessions;
        }
        for server in &self.unread {
            let Some(row) = self.row_of(server) else { continue };
            rows.entry(row).or_default().0.unread = true;
        }
        let finish = |(row, (now, times, rates)): (String, (Now, u64, u64))| {
            #[expect(clippy::cast_precision_loss, reason = "hundredths of a percent are below 2^53")]
            let share = (now.weight * 10_000 + all / 2).checked_div(all).unwrap_or_default() as f64 / 100.0;
            (row, Now { rtime: times.checked_div(rates).unwrap_or_default(), share, ..now })
        };
        rows.into_iter().map(finish).collect()
    }
}

/// Whether `to` fails with these counts of its own. `total` is what both sides counted in the last slots.
///
/// Answers of 4xx and 3xx count only while they are at least half of the answers of `to` and more than five times as
/// frequent as on `from`: a healthy site with many of them must not be written about for ever.
fn fails(to: &SlotCounts, (all_from, all_to): (SlotCounts, SlotCounts)) -> bool {
    let differs = |of: fn(&SlotCounts) -> u64| {
        let often = of(&all_to).saturating_mul(2) >= all_to.answered;
        // of(from) / answered(from) < of(to) / answered(to) / 5
        let [left, right] = [(&all_from, &all_to), (&all_to, &all_from)]
            .map(|(one, other)| u128::from(of(one)) * u128::from(other.answered));
        of(to) > 0 && often && left * 5 < right
    };
    to.errors > 0 || to.masked > 0 || differs(|counts| counts.refused) || differs(|counts| counts.redirected)
}

#[cfg(test)]
mod tests;
