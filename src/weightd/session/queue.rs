//! Which backends are read next, or decided without a reading. No I/O, no clock.
//!
//! ```text
//!    a document without a 0            a document with a 0, a new process,
//!              │                       the end of a pause, an unread answer
//!              ▼                                      │
//!          ┌────────┐   a reading is needed           ▼
//!          │ direct │ ─────────────────────────▶ ┌────────┐
//!          └────────┘                            │ urgent │──▶ read at once, then decided
//!              │                                 └────────┘
//!              ▼                                      ▲
//!    decided without a reading                        │ more urgent wins
//!                                 ┌──────┐       ┌─────────┐
//!         its moment has come ──▶ │ soon │       │ routine │ ◀── a new pass begins
//!                                 └──────┘       └─────────┘
//!                                     └─── read ──────┘
//! ```
//!
//! A backend is in one of these states at most, and the more urgent one wins. Urgent backends come first, but never keep
//! the others waiting for ever.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use weightd_core::model::{BackendName, Moment};

/// The most backends that one exchange reads at once, so that HAProxy serves traffic between two.
pub(super) const MAX_BATCH: usize = 100;
/// The most backends that one exchange reads in a routine pass: a shorter stall of HAProxy, more often.
const ROUTINE_BATCH: usize = 25;
/// The pause between two exchanges of a pass that somebody waits for.
const PACE: Duration = Duration::from_millis(5);
/// After so many urgent batches in a row, a routine batch that is due comes first.
const URGENT_IN_A_ROW: usize = 8;

/// How urgent a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// At once.
    Urgent,
    /// As part of the routine.
    Routine,
}

/// The backends that wait to be read or decided.
#[derive(Debug)]
pub(super) struct Queue {
    urgent: BTreeSet<BackendName>,
    direct: BTreeSet<BackendName>,
    soon: BTreeMap<BackendName, Moment>,
    routine: VecDeque<BackendName>,
    /// When the routine reads its next batch.
    routine_at: Moment,
    /// The pause between two batches of this pass.
    step: Duration,
    /// When the next pass begins.
    next_pass: Moment,
    /// How many backends one exchange may read: fewer after an answer that was too large or too slow.
    batch: usize,
    urgent_in_a_row: usize,
    /// How many backends of an urgent batch are not decided yet.
    in_progress: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            urgent: BTreeSet::new(),
            direct: BTreeSet::new(),
            soon: BTreeMap::new(),
            routine: VecDeque::new(),
            routine_at: Moment::default(),
            step: Duration::ZERO,
            next_pass: Moment::default(),
            batch: MAX_BATCH,
            urgent_in_a_row: 0,
            in_progress: 0,
        }
    }
}

impl Queue {
    /// To be read at once.
    pub(super) fn urgent(&mut self, name: BackendName) {
        self.direct.remove(&name);
        self.soon.remove(&name);
        self.urgent.insert(name);
    }

    /// To be decided at once, without a reading if none is needed.
    pub(super) fn direct(&mut self, name: BackendName) {
        if !self.urgent.contains(&name) {
            self.soon.remove(&name);
            self.direct.insert(name);
        }
    }

    /// To be read at this moment, unless it is read before.
    pub(super) fn soon(&mut self, name: &BackendName, at: Moment) {
        if self.urgent.contains(name) || self.direct.contains(name) {
            return;
        }
        let earliest = self.soon.get(name).map_or(at, |known| at.min(*known));
        self.soon.insert(name.clone(), earliest);
    }

    /// All of these are to be read at once, and nothing else.
    pub(super) fn only_urgent(&mut self, names: BTreeSet<BackendName>) {
        self.direct.clear();
        self.soon.clear();
        self.routine.clear();
        self.urgent = names;
    }

    /// Begins a routine pass over these backends, which takes `interval`; the next one begins after it.
    pub(super) fn begin_pass(&mut self, names: impl IntoIterator<Item = BackendName>, interval: Duration, now: Moment) {
        self.routine = names.into_iter().collect();
        self.routine_at = now;
        self.next_pass = now + interval;
        let batches = u32::try_from(self.routine.len().div_ceil(ROUTINE_BATCH)).unwrap_or(u32::MAX).max(1);
        self.step = interval / batches;
    }

    /// Reads these backends as fast as HAProxy's traffic permits, because somebody waits for it.
    pub(super) fn hurry(&mut self, names: impl IntoIterator<Item = BackendName>, now: Moment) {
        self.routine = names.into_iter().collect();
        self.routine_at = now;
        self.step = PACE;
    }

    /// Whether a routine pass is to begin.
    pub(super) fn pass_is_due(&self, now: Moment) -> bool {
        self.routine.is_empty() && now >= self.next_pass
    }

    /// The next routine pass begins at this moment at the latest.
    pub(super) fn next_pass_by(&mut self, at: Moment) {
        self.next_pass = self.next_pass.min(at);
    }

    /// The next backend that may be decided without a reading. None while others are urgent: among those are the ones of
    /// which a server is stopped.
    pub(super) fn next_direct(&mut self) -> Option<BackendName> {
        if self.urgent.is_empty() { self.direct.pop_first() } else { None }
    }

    /// The next backends to read, and how urgent they are; none if nothing is to be read now.
    pub(super) fn next_batch(&mut self, now: Moment) -> Option<(Urgency, Vec<BackendName>)> {
        let routine = self.routine_is_due(now);
        let fair = routine && self.urgent_in_a_row >= URGENT_IN_A_ROW;
        if !self.urgent.is_empty() && !fair {
            self.urgent_in_a_row += 1;
            let size = self.batch.min(self.urgent.len());
            let batch: Vec<_> = std::iter::from_fn(|| self.urgent.pop_first()).take(size).collect();
            self.forget(&batch);
            return Some((Urgency::Urgent, batch));
        }
        if !routine {
            return None;
        }
        self.urgent_in_a_row = 0;
        let size = self.batch.min(ROUTINE_BATCH);
        let due: Vec<_> = self.soon.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        let mut batch: Vec<_> = due.into_iter().take(size).collect();
        if now >= self.routine_at && !self.routine.is_empty() {
            while batch.len() < size
                && let Some(name) = self.routine.pop_front()
            {
                if !batch.contains(&name) {
                    batch.push(name);
                }
            }
            self.routine_at = now + self.step;
        }
        self.forget(&batch);
        Some((Urgency::Routine, batch))
    }

    /// A reading of these is under way: they need no other one.
    fn forget(&mut self, batch: &[BackendName]) {
        for name in batch {
            self.direct.remove(name);
            self.soon.remove(name);
        }
    }

    fn routine_is_due(&self, now: Moment) -> bool {
        !self.routine.is_empty() && now >= self.routine_at || self.soon.values().any(|at| *at <= now)
    }

    /// When something is to be read next, if nothing is urgent.
    pub(super) fn next_at(&self) -> Moment {
        let routine = if self.routine.is_empty() { self.next_pass } else { self.routine_at };
        self.soon.values().copied().chain([routine]).min().unwrap_or(routine)
    }

    /// So many backends of an urgent batch are being read or decided.
    pub(super) fn in_progress(&mut self, backends: usize) {
        self.in_progress = backends;
    }

    /// A reading was answered; or, if not `in_bounds`, its answer was too large or took too long.
    pub(super) fn answered(&mut self, in_bounds: bool) {
        self.batch = if in_bounds { (self.batch * 2).min(MAX_BATCH) } else { (self.batch / 2).max(1) };
    }

    /// The most backends that one exchange may read.
    pub(super) fn batch_size(&self) -> usize {
        self.batch
    }

    /// Whether something is to be read or decided at once.
    pub(super) fn has_urgent(&self) -> bool {
        !self.urgent.is_empty() || !self.direct.is_empty()
    }

    /// Whether nothing is urgent, and nothing urgent is still undecided.
    pub(super) fn is_settled(&self) -> bool {
        !self.has_urgent() && self.in_progress == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> BackendName {
        BackendName::new(&format!("b{number:03}")).unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    #[test]
    fn the_more_urgent_state_wins() {
        let mut queue = Queue::default();
        queue.soon(&name(1), at(5));
        queue.direct(name(1));
        queue.urgent(name(1));
        queue.direct(name(1));
        queue.soon(&name(1), at(0));
        assert_eq!(queue.next_direct(), None);
        assert_eq!(queue.next_batch(at(0)), Some((Urgency::Urgent, vec![name(1)])));
        assert_eq!(queue.next_batch(at(0)), None);
        assert!(!queue.has_urgent());
    }

    #[test]
    fn a_pass_is_spread_over_its_interval() {
        let mut queue = Queue::default();
        queue.begin_pass((0..100).map(name), Duration::from_secs(4), at(0));
        let mut read = Vec::new();
        let mut now = at(0);
        while now < at(4000) {
            if let Some((urgency, batch)) = queue.next_batch(now) {
                assert_eq!(urgency, Urgency::Routine);
                read.push((now, batch.len()));
            }
            now = queue.next_at();
        }
        assert_eq!(read, [0, 1000, 2000, 3000].map(|millis| (at(millis), 25)));
        assert!(queue.pass_is_due(at(4000)) && !queue.pass_is_due(at(3999)));
    }

    #[test]
    fn what_is_urgent_without_end_does_not_keep_the_routine_waiting() {
        let mut queue = Queue::default();
        queue.begin_pass([name(999)], Duration::from_secs(1), at(0));
        let mut urgent = 0;
        loop {
            queue.urgent(name(1));
            match queue.next_batch(at(0)).unwrap() {
                (Urgency::Urgent, _) => urgent += 1,
                (Urgency::Routine, batch) => break assert_eq!(batch, [name(999)]),
            }
            assert!(urgent < 100, "the routine never gets its turn");
        }
        assert_eq!(urgent, URGENT_IN_A_ROW);
    }

    #[test]
    fn soon_is_not_before_its_moment() {
        let mut queue = Queue::default();
        queue.begin_pass([], Duration::from_secs(10), at(0));
        queue.soon(&name(1), at(500));
        queue.soon(&name(1), at(700));
        assert_eq!(queue.next_batch(at(499)), None);
        assert_eq!(queue.next_at(), at(500));
        assert_eq!(queue.next_batch(at(500)), Some((Urgency::Routine, vec![name(1)])));
        assert_eq!(queue.next_at(), at(10_000));
    }

    #[test]
    fn an_answer_that_is_too_large_makes_batches_smaller_for_a_while() {
        let mut queue = Queue::default();
        queue.only_urgent((0..300).map(name).collect());
        let size = |queue: &mut Queue| queue.next_batch(at(0)).map_or(0, |(_, batch)| batch.len());
        assert_eq!(size(&mut queue), MAX_BATCH);
        queue.answered(false);
        queue.answered(false);
        assert_eq!(size(&mut queue), MAX_BATCH / 4);
        queue.answered(true);
        assert_eq!(size(&mut queue), MAX_BATCH / 2);
    }
}
