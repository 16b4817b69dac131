//! The state machine that follows one HAProxy. It does no I/O and reads no clock.
//!
//! [`Session::next`] returns a [`Step`]: a line of queries, a line that sets weights, or a moment to wait for. Pass the
//! answer to a line to [`Session::answer`]. Two inputs can arrive at any time: the state of Consul
//! ([`Session::set_desired`]) and a pause ([`pause`](Session::pause)). The session owns all data about one HAProxy and
//! decides when to read and when to write. It must not decide the value of a weight: [`weightd_core::backend`] does
//! that.
//!
//! ```text
//!             a poll is pending                  a new process
//!   Idle ───────────────────▶ Polling ─────────────────────────▶ Probing
//!    ▲ │                                                            │
//!    │ │ a backend needs a reading            a reading of all of it│
//!    │ ├───────────────────▶ Reading ──────┐                        │
//!    │ │                                   ▼                        │
//!    │ │ no reading is needed          decided: weights to send     │
//!    │ └────────────────────────────────────────▶ Applying          │
//!    └───────────────────────────────────────────────┴──────────────┘
//! ```

mod applying;
mod connection;
pub mod exchange;
mod inputs;
pub mod overriding;
mod pausing;
pub mod process;
mod queue;
mod reading;
mod server_state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use weightd_core::{
    backend::{Backend, Matched},
    desired::DesiredState,
    diagnosis,
    event::Event,
    model::{BackendName, Moment},
    observed::Observed,
    pauses::Pauses,
    reasons::Reason,
    stored::{Stored, StoredBackend},
};

pub use self::connection::Down;
use self::{
    applying::Applying,
    exchange::{Exchange, ReadExchanges, ReadFrame, Reads},
    process::Processes,
    queue::{Queue, Urgency},
};
use crate::{
    base::retry::{self, Backoff},
    haproxy::{Answer, ExchangeError, Query, ReadLine, WriteLine},
};

/// Time that weightd waits for the first answer of Consul before it enforces the weights on disk.
pub const FIRST_READ: Duration = Duration::from_secs(3);
/// Delay before weightd reads a backend again that waits for the health of a server, or after another program changed
/// one of its weights.
const REREAD_DELAY: Duration = Duration::from_secs(1);
/// Minimum and maximum delay before a retry when HAProxy does not answer. The socket is local, so retries are cheap.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Interval of the routine pass over all backends; longer if it would exceed [`COST_PER_SECOND`].
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum cost of the routine passes per second. It keeps weightd below 0.5 % of a core, and HAProxy, which writes the
/// answers, about as low. Reading one server costs 1.
const COST_PER_SECOND: u32 = 3500;
/// The cost of reading a backend, beside its servers.
const BACKEND_COST: u32 = 16;

/// Intervals of the session. They can change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Maximum interval between two readings of a backend; jittered by 10 %.
    pub resync: Duration,
    /// Interval between two queries for the identity of the HAProxy process.
    pub process_poll: Duration,
}

/// The next action of the caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this line of queries, and pass the answer to [`Session::answer`].
    Ask(ReadLine),
    /// Send this line, which sets weights, and pass the answer to [`Session::answer`].
    Send(WriteLine),
    /// Wait until this moment or until another input arrives.
    Wait(Moment),
}

/// The line that waits for its answer, and the lines that follow it.
#[derive(Debug, Default)]
enum Phase {
    /// No line was sent.
    #[default]
    Idle,
    /// `show info`.
    Polling,
    /// `show cli level` and `show table`, to a new process.
    Probing,
    /// Queries about a batch of backends.
    Reading {
        batch: Vec<BackendName>,
        /// The queries of this round.
        reads: Reads,
        /// In a new process, round 1 reads the ids, round 2 the roles, round 3 the health of tracked servers.
        round: usize,
        /// The lines of this round that are not sent yet.
        lines: ReadExchanges,
        /// The expected frames of the line that was sent.
        frames: Vec<ReadFrame>,
    },
    /// Commands that set the weights of a batch of backends.
    Applying(Applying),
}

/// The files on disk that may be out of date.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsaved {
    /// The state differs from the state file.
    pub state: bool,
    /// The server-state file, which a new HAProxy process loads, may be out of date.
    pub server_state: bool,
    /// The journal lacks a change, so only a write of the state file saves it.
    pub journal: bool,
}

/// All data about one HAProxy.
#[derive(Debug)]
pub struct Session {
    /// Every backend that Consul or the state file named.
    pub backends: BTreeMap<BackendName, Backend>,
    /// The HAProxy processes that answered.
    pub processes: Processes,
    /// The last state that was read from Consul; `None` before the first answer.
    pub desired: Option<Arc<DesiredState>>,
    /// Whether weightd enforces weights: true after the first answer of Consul, or when that answer is late or fails.
    pub enforcing: bool,
    /// Whether weightd only reports plans and never sends them.
    pub observe_only: bool,
    /// The pauses in force.
    pub pauses: Pauses,
    /// Why HAProxy cannot be used; `None` if it can.
    pub down: Option<Down>,
    /// Whether all backends were reconciled since weightd started. `/ready` becomes true with it.
    pub reconciled_once: bool,
    /// Failed exchanges since weightd started, by reason code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Drift corrections since weightd started. The count includes backends that no longer exist.
    pub drift_corrections: u64,
    /// The files on disk that may be out of date.
    pub unsaved: Unsaved,
    /// The backends with a change that is not in the journal yet.
    unjournaled: BTreeSet<BackendName>,
    /// The backends with a stick table in this process.
    stick_tables: BTreeSet<BackendName>,
    /// Backends that weightd reads only because managed servers track servers in them.
    tracked: BTreeMap<BackendName, Observed>,
    /// Backends that weightd reads although no document manages them.
    also_read: BTreeSet<BackendName>,
    queue: Queue,
    phase: Phase,
    timing: Timing,
    /// When the next process query is sent.
    poll_at: Moment,
    /// No read and no write before this moment, because an old process still answers.
    not_before: Moment,
    /// When the time of the next override is over.
    override_ends: Option<Moment>,
    /// Weights on disk are enforced from this moment on if Consul has not answered.
    first_read_by: Moment,
    backoff: Backoff,
    /// The last reported reasons of each backend.
    reported: BTreeMap<BackendName, Vec<Reason>>,
    events: Vec<Event>,
}

impl Session {
    /// Creates a session from the stored state. `now` is its start.
    pub fn new(stored: Stored, observe_only: bool, timing: Timing, now: Moment) -> Self {
        let backends = stored.backends.into_iter().map(|(name, stored)| (name, Backend::from_stored(stored))).collect();
        Self {
            backends,
            processes: Processes::default(),
            desired: None,
            enforcing: false,
            observe_only,
            pauses: Pauses::default(),
            down: None,
            reconciled_once: false,
            errors: BTreeMap::new(),
            drift_corrections: 0,
            unsaved: Unsaved::default(),
            unjournaled: BTreeSet::new(),
            stick_tables: BTreeSet::new(),
            tracked: BTreeMap::new(),
            also_read: BTreeSet::new(),
            queue: Queue::default(),
            phase: Phase::Idle,
            timing,
            poll_at: now,
            not_before: now,
            override_ends: None,
            first_read_by: now + FIRST_READ,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            reported: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Replaces the intervals.
    pub fn set_timing(&mut self, timing: Timing, now: Moment) {
        self.timing = timing;
        self.poll_at = self.poll_at.min(now + timing.process_poll);
        self.queue.limit_next_pass(now + timing.resync);
    }

    fn managed_backends(&self) -> impl Iterator<Item = (&BackendName, &Backend)> {
        self.backends.iter().filter(|(_, backend)| backend.managed())
    }

    /// The backends that the routine pass reads.
    fn routine_backends(&self) -> impl Iterator<Item = (&BackendName, &Backend)> {
        self.backends.iter().filter(|(name, backend)| self.should_read(name, backend))
    }

    fn should_read(&self, name: &BackendName, backend: &Backend) -> bool {
        backend.managed() || backend.is_unread_release() || self.also_read.contains(name)
    }

    /// Whether HAProxy answers and its weights can be set.
    fn usable(&self) -> bool {
        self.processes.current.is_some() && self.down.as_ref().is_none_or(|down| down.answered_since)
    }

    /// Returns the next action. After [`Step::Ask`] and [`Step::Send`], the next call must be [`Session::answer`].
    pub fn next(&mut self, now: Moment) -> Step {
        self.handle_time(now);
        loop {
            match std::mem::take(&mut self.phase) {
                Phase::Reading { batch, reads, round, mut lines, .. } => {
                    if let Some(Exchange { line, frames }) = lines.pop_front() {
                        self.phase = Phase::Reading { batch, reads, round, lines, frames };
                        return Step::Ask(line);
                    }
                    self.finish_round(batch, &reads, round, now);
                }
                Phase::Applying(applying) if applying.has_pending(|name| self.pauses.of(name).is_some()) => {
                    self.abort(applying);
                }
                Phase::Applying(mut applying) => {
                    if let Some(Exchange { line, frames }) = applying.lines.pop_front() {
                        applying.frames = frames;
                        self.phase = Phase::Applying(applying);
                        return Step::Send(line);
                    }
                    self.finish_stage(applying, now);
                }
                // `answer` resets `Polling` and `Probing` before the next call.
                Phase::Idle | Phase::Polling | Phase::Probing => {
                    if let Some(step) = self.start_next(now) {
                        return step;
                    }
                }
            }
        }
    }

    /// Handles everything that depends on time alone.
    fn handle_time(&mut self, now: Moment) {
        self.expire(now);
        self.expire_overrides(now);
        if !self.enforcing && now >= self.first_read_by {
            self.events.push(Event::EnforcingFromDisk { failed: false });
            self.enforce();
        }
        if self.enforcing && self.queue.needs_pass(now) {
            let (names, cost) = self.routine_pass(now);
            let interval = PASS_INTERVAL.max(Duration::from_secs(1) * cost / COST_PER_SECOND).min(self.timing.resync);
            self.queue.start_pass(names, retry::jittered(interval, 0.1), now);
        }
    }

    /// Returns the backends of a routine pass and their cost. A backend that HAProxy does not have rarely appears without a
    /// new process, so that a pass reads it only once per resync.
    fn routine_pass(&self, now: Moment) -> (Vec<BackendName>, u32) {
        let included = |backend: &Backend| match (backend.matched, backend.observed_at) {
            (Matched::No, Some(at)) => now.since(at) >= self.timing.resync,
            _ => true,
        };
        let (mut names, mut cost) = (Vec::new(), 0_u32);
        for (name, backend) in self.routine_backends().filter(|(_, backend)| included(backend)) {
            names.push(name.clone());
            let servers = u32::try_from(backend.observed.servers.len()).unwrap_or(u32::MAX);
            cost = cost.saturating_add(servers).saturating_add(BACKEND_COST);
        }
        (names, cost)
    }

    /// Starts the next pending work. Returns `None` if that needs no step of its own.
    fn start_next(&mut self, now: Moment) -> Option<Step> {
        if self.processes.current.as_ref().is_some_and(|process| process.level.is_empty()) && self.usable() {
            self.phase = Phase::Probing;
            return Some(Step::Ask(ReadLine::of([Query::ShowCliLevel, Query::ShowTable])));
        }
        if now >= self.poll_at {
            self.poll_at = now + self.timing.process_poll;
            self.phase = Phase::Polling;
            return Some(Step::Ask(ReadLine::of([Query::ShowInfo])));
        }
        if self.enforcing && self.usable() && now >= self.not_before {
            let direct = self.next_direct(now);
            if !direct.is_empty() {
                self.decide(&direct, now);
                return None;
            }
            if let Some((urgency, batch)) = self.queue.next_batch(now) {
                self.start_reading(urgency, batch);
                return None;
            }
        }
        Some(Step::Wait(self.next_wake(now)))
    }

    /// When the session has to continue if no input arrives.
    fn next_wake(&self, now: Moment) -> Moment {
        let mut at = self.poll_at;
        if !self.enforcing {
            at = at.min(self.first_read_by);
        } else if self.usable() {
            let work = if self.queue.has_urgent() { now } else { self.queue.next_at() };
            at = at.min(work.max(self.not_before));
        }
        self.pauses.next_end().into_iter().chain(self.override_ends).fold(at, Moment::min)
    }

    /// Handles the answer to the line of the last [`Step`].
    pub fn answer(&mut self, answer: Result<Answer, ExchangeError>, now: Moment) {
        match (std::mem::take(&mut self.phase), answer) {
            (phase, Err(error)) => self.exchange_failed(phase, &error, now),
            (Phase::Idle, Ok(_)) => {}
            (Phase::Polling, Ok(answer)) => self.take_info(&answer, now),
            (Phase::Probing, Ok(answer)) => self.take_process_details(&answer, now),
            (Phase::Reading { batch, reads, round, lines, frames }, Ok(answer)) => {
                for (text, frame) in answer.frames().zip(&frames) {
                    if !self.take_read(frame, text, now) {
                        // The rest of the answer comes from another process: read everything again.
                        return self.requeue(batch);
                    }
                }
                self.queue.answered(true);
                self.phase = Phase::Reading { batch, reads, round, lines, frames: Vec::new() };
            }
            (Phase::Applying(applying), Ok(answer)) => self.take_stage_answer(applying, &answer, now),
        }
    }

    /// Returns the state that must survive a restart of weightd.
    pub fn to_store(&self) -> Stored {
        let stored = self.managed_backends().map(|(name, backend)| (name.clone(), backend.to_store()));
        Stored { backends: stored.collect() }
    }

    fn mark_changed(&mut self, name: &BackendName) {
        self.unsaved.state = true;
        self.unjournaled.insert(name.clone());
    }

    /// Returns the stored form of each backend that changed since the last call; `None` for a backend that is no longer
    /// managed. The caller must write them to disk before it sends the next line.
    pub fn take_unjournaled(&mut self) -> Vec<(BackendName, Option<StoredBackend>)> {
        if self.unjournaled.is_empty() {
            return Vec::new();
        }
        let changed = std::mem::take(&mut self.unjournaled).into_iter();
        let stored = |name: &BackendName| self.backends.get(name).filter(|b| b.managed()).map(Backend::to_store);
        changed.map(|name| (name.clone(), stored(&name))).collect()
    }

    /// Whether a restart of weightd finds the last change of this backend on disk, as far as the writes until now show.
    pub fn is_stored(&self, name: &BackendName) -> bool {
        !self.unsaved.journal && !self.unjournaled.contains(name)
    }

    /// Returns the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether the last reading of every managed backend matches Consul, and Consul has no rejected key.
    pub fn converged(&self) -> bool {
        self.enforcing
            && self.down.is_none()
            && self.processes.current.is_some()
            && self.queue.is_settled()
            && self
                .backends
                .values()
                .all(|b| !b.rejected() && b.overridden().is_none() && (!b.managed() || b.converged()))
            && self.desired.as_ref().is_none_or(|state| state.stray.is_empty())
    }

    /// Whether no urgent reading, decision or write is pending.
    pub fn is_settled(&self) -> bool {
        self.queue.is_settled() && matches!(self.phase, Phase::Idle)
    }

    /// Emits events for the new and the cleared reasons of a backend.
    fn report(&mut self, name: &BackendName) {
        let Some(backend) = self.backends.get(name) else { return };
        let reasons = diagnosis::reasons(backend, self.pauses.of(name));
        let reported = self.reported.entry(name.clone()).or_default();
        if reasons == *reported {
            return;
        }
        let gone = reported.iter().filter(|was| !reasons.iter().any(|is| is.reason == was.reason));
        let cleared = |was: &Reason| Event::Cleared { backend: name.clone(), reason: was.reason.to_string() };
        self.events.extend(gone.map(cleared));
        let new = reasons.iter().filter(|is| !reported.contains(is));
        self.events.extend(new.map(|is| Event::Reason { backend: name.clone(), reason: is.clone() }));
        *reported = reasons;
    }
}

#[cfg(test)]
pub(super) mod tests;
