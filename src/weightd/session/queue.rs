//! The order in which backends are read, or decided without a reading. No I/O, no clock.
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
//!    decided without a reading                        │ the more urgent state wins
//!                                 ┌─────────┐    ┌─────────┐
//!            its delay is over ──▶│ delayed │    │ routine │ ◀── a new pass starts
//!                                 └─────────┘    └─────────┘
//!                                      └──── read ────┘
//! ```
//!
//! A backend is in at most one of these states; the more urgent one wins. Urgent backends come first, but they do not
//! block the others for ever.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use weightd_core::model::{BackendName, Moment};

/// Maximum number of backends in one exchange, so that HAProxy serves traffic between two exchanges.
pub(super) const MAX_BATCH: usize = 100;
/// Maximum number of backends in one exchange of a routine pass: shorter stalls of HAProxy, but more of them.
const ROUTINE_BATCH: usize = 25;
/// Delay between two exchanges of a pass that a status request waits for.
const FAST_BATCH_DELAY: Duration = Duration::from_millis(5);
/// After this many consecutive urgent batches, a pending routine batch comes first.
const MAX_CONSECUTIVE_URGENT: usize = 8;

/// The urgency of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Read at once.
    Urgent,
    /// Read in a routine pass.
    Routine,
}

/// The backends that wait for a reading or a decision.
#[derive(Debug)]
pub(super) struct Queue {
    urgent: BTreeSet<BackendName>,
    direct: BTreeSet<BackendName>,
    delayed: BTreeMap<BackendName, Moment>,
    routine: VecDeque<BackendName>,
    /// When the next batch of the pass is read.
    routine_at: Moment,
    /// Delay between two batches of this pass.
    batch_delay: Duration,
    /// When the next pass starts.
    next_pass: Moment,
    /// Maximum number of backends in one exchange: lower after an answer that was too large or too slow.
    batch: usize,
    consecutive_urgent: usize,
    /// Number of backends of an urgent batch that are not decided yet.
    in_progress: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            urgent: BTreeSet::new(),
            direct: BTreeSet::new(),
            delayed: BTreeMap::new(),
            routine: VecDeque::new(),
            routine_at: Moment::default(),
            batch_delay: Duration::ZERO,
            next_pass: Moment::default(),
            batch: MAX_BATCH,
            consecutive_urgent: 0,
            in_progress: 0,
        }
    }
}

impl Queue {
    /// Queues a backend for a reading at once.
    pub(super) fn push_urgent(&mut self, name: BackendName) {
        self.direct.remove(&name);
        self.delayed.remove(&name);
        self.urgent.insert(name);
    }

    /// Queues a backend for a decision at once, without a reading if possible.
    pub(super) fn push_direct(&mut self, name: BackendName) {
        if !self.urgent.contains(&name) {
            self.delayed.remove(&name);
            self.direct.insert(name);
        }
    }

    /// Queues a backend for a reading at `at`, unless an earlier one is queued.
    pub(super) fn push_delayed(&mut self, name: &BackendName, at: Moment) {
        if self.urgent.contains(name) || self.direct.contains(name) {
            return;
        }
        let earliest = self.delayed.get(name).map_or(at, |known| at.min(*known));
        self.delayed.insert(name.clone(), earliest);
    }

    /// Replaces the whole queue: all of `names` are read at once.
    pub(super) fn only_urgent(&mut self, names: BTreeSet<BackendName>) {
        self.direct.clear();
        self.delayed.clear();
        self.routine.clear();
        self.urgent = names;
    }

    /// Starts a routine pass over these backends, spread over `interval`. The next pass starts after it.
    pub(super) fn start_pass(&mut self, names: impl IntoIterator<Item = BackendName>, interval: Duration, now: Moment) {
        self.routine = names.into_iter().collect();
        self.routine_at = now;
        self.next_pass = now + interval;
        let batches = u32::try_from(self.routine.len().div_ceil(ROUTINE_BATCH)).unwrap_or(u32::MAX).max(1);
        self.batch_delay = interval / batches;
    }

    /// Starts a fast pass over these backends because a status request waits for it. HAProxy serves traffic between the
    /// batches.
    pub(super) fn start_fast_pass(&mut self, names: impl IntoIterator<Item = BackendName>, now: Moment) {
        self.routine = names.into_iter().collect();
        self.routine_at = now;
        self.batch_delay = FAST_BATCH_DELAY;
    }

    /// Whether the next routine pass is pending.
    pub(super) fn needs_pass(&self, now: Moment) -> bool {
        self.routine.is_empty() && now >= self.next_pass
    }

    /// Moves the start of the next routine pass to `at` if it is later.
    pub(super) fn limit_next_pass(&mut self, at: Moment) {
        self.next_pass = self.next_pass.min(at);
    }

    /// Returns the next backend that may be decided without a reading. `None` while urgent backends wait: a server may
    /// be stopped in one of them.
    pub(super) fn next_direct(&mut self) -> Option<BackendName> {
        if self.urgent.is_empty() { self.direct.pop_first() } else { None }
    }

    /// Returns the next backends to read and their urgency; `None` if no reading is pending now.
    pub(super) fn next_batch(&mut self, now: Moment) -> Option<(Urgency, Vec<BackendName>)> {
        let routine = self.has_pending_routine(now);
        let routine_first = routine && self.consecutive_urgent >= MAX_CONSECUTIVE_URGENT;
        if !self.urgent.is_empty() && !routine_first {
            self.consecutive_urgent += 1;
            let size = self.batch.min(self.urgent.len());
            let batch: Vec<_> = std::iter::from_fn(|| self.urgent.pop_first()).take(size).collect();
            self.forget(&batch);
            return Some((Urgency::Urgent, batch));
        }
        if !routine {
            return None;
        }
        self.consecutive_urgent = 0;
        let size = self.batch.min(ROUTINE_BATCH);
        let pending: Vec<_> = self.delayed.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        let mut batch: Vec<_> = pending.into_iter().take(size).collect();
        if now >= self.routine_at && !self.routine.is_empty() {
            while batch.len() < size
                && let Some(name) = self.routine.pop_front()
            {
                if !batch.contains(&name) {
                    batch.push(name);
                }
            }
            self.routine_at = now + self.batch_delay;
        }
        self.forget(&batch);
        Some((Urgency::Routine, batch))
    }

    /// Removes backends that are being read from the other states.
    fn forget(&mut self, batch: &[BackendName]) {
        for name in batch {
            self.direct.remove(name);
            self.delayed.remove(name);
        }
    }

    fn has_pending_routine(&self, now: Moment) -> bool {
        !self.routine.is_empty() && now >= self.routine_at || self.delayed.values().any(|at| *at <= now)
    }

    /// When the next reading is pending if no backend is urgent.
    pub(super) fn next_at(&self) -> Moment {
        let routine = if self.routine.is_empty() { self.next_pass } else { self.routine_at };
        self.delayed.values().copied().chain([routine]).min().unwrap_or(routine)
    }

    /// Sets the number of backends of an urgent batch that are being read or decided.
    pub(super) fn in_progress(&mut self, backends: usize) {
        self.in_progress = backends;
    }

    /// Adjusts the batch size after an answer. `in_bounds` is false if the answer was too large or too slow.
    pub(super) fn answered(&mut self, in_bounds: bool) {
        self.batch = if in_bounds { (self.batch * 2).min(MAX_BATCH) } else { (self.batch / 2).max(1) };
    }

    /// Maximum number of backends in one exchange.
    pub(super) fn batch_size(&self) -> usize {
        self.batch
    }

    /// Whether a backend waits for an urgent reading or a decision.
    pub(super) fn has_urgent(&self) -> bool {
        !self.urgent.is_empty() || !self.direct.is_empty()
    }

    /// Whether no urgent backend waits or is in progress.
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
        queue.push_delayed(&name(1), at(5));
        queue.push_direct(name(1));
        queue.push_urgent(name(1));
        queue.push_direct(name(1));
        queue.push_delayed(&name(1), at(0));
        assert_eq!(queue.next_direct(), None);
        assert_eq!(queue.next_batch(at(0)), Some((Urgency::Urgent, vec![name(1)])));
        assert_eq!(queue.next_batch(at(0)), None);
        assert!(!queue.has_urgent());
    }

    #[test]
    fn a_pass_is_spread_over_its_interval() {
        let mut queue = Queue::default();
        queue.start_pass((0..100).map(name), Duration::from_secs(4), at(0));
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
        assert!(queue.needs_pass(at(4000)) && !queue.needs_pass(at(3999)));
    }

    #[test]
    fn endless_urgent_work_does_not_block_the_routine_pass() {
        let mut queue = Queue::default();
        queue.start_pass([name(999)], Duration::from_secs(1), at(0));
        let mut urgent = 0;
        loop {
            queue.push_urgent(name(1));
            match queue.next_batch(at(0)).unwrap() {
                (Urgency::Urgent, _) => urgent += 1,
                (Urgency::Routine, batch) => break assert_eq!(batch, [name(999)]),
            }
            assert!(urgent < 100, "the routine pass never runs");
        }
        assert_eq!(urgent, MAX_CONSECUTIVE_URGENT);
    }

    #[test]
    fn a_delayed_backend_is_not_read_early() {
        let mut queue = Queue::default();
        queue.start_pass([], Duration::from_secs(10), at(0));
        queue.push_delayed(&name(1), at(500));
        queue.push_delayed(&name(1), at(700));
        assert_eq!(queue.next_batch(at(499)), None);
        assert_eq!(queue.next_at(), at(500));
        assert_eq!(queue.next_batch(at(500)), Some((Urgency::Routine, vec![name(1)])));
        assert_eq!(queue.next_at(), at(10_000));
    }

    #[test]
    fn an_oversized_answer_halves_the_batch_until_answers_fit_again() {
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
