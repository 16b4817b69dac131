//! The dialogue with one HAProxy, without I/O and without a clock: what to ask or send next, and what the answer means.
//!
//! [`Session::next`] returns a [`Step`]: a line of reads, a line that sets weights, or a moment to wait for. The answer to
//! a line goes into [`Session::answer`]. What Consul says and what a person asks for go in beside it at any time
//! ([`Session::take`], [`pause`](Session::pause)). Owns everything that is remembered of one HAProxy, and when something is
//! read or set. Must never do I/O, and must never decide what a weight should be: that is [`weightd_core::backend`]'s.
//!
//! ```text
//!            a poll is due                       a new process
//!   Idle ───────────────────▶ Polling ─────────────────────────▶ Greeting
//!    ▲ │                                                            │
//!    │ │ a backend is to be read              all of it was read    │
//!    │ ├───────────────────▶ Reading ──────┐                        │
//!    │ │                                   ▼                        │
//!    │ │ no reading is needed          decided: something to send   │
//!    │ └────────────────────────────────────────▶ Applying          │
//!    └───────────────────────────────────────────────┴──────────────┘
//! ```

mod applying;
mod connection;
pub mod exchange;
mod pausing;
pub mod process;
mod queue;
mod reading;
mod server_state;
mod taking;

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

/// How long Consul's first answer may take before the weights on disk are enforced.
pub const FIRST_READ: Duration = Duration::from_secs(3);
/// How soon a backend is read again that waits for a server's health, or of which something else changed a weight.
const SOON: Duration = Duration::from_secs(1);
/// Shortest and longest pause after HAProxy did not answer: the socket is local, so asking is cheap.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// How often all backends are read, unless that would cost more than [`SERVERS_PER_SECOND`].
const PASS: Duration = Duration::from_secs(1);
/// The most servers that are read per second as a routine: it keeps weightd below 0.5 % of a core.
const SERVERS_PER_SECOND: u32 = 3000;

/// How often things are done. It may be changed at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often everything is read at least; jittered by a tenth.
    pub resync: Duration,
    /// How often to ask which process answers.
    pub process_poll: Duration,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this line, which changes nothing, and give the answer to [`Session::answer`].
    Ask(ReadLine),
    /// Send this line, which sets weights, and give the answer to [`Session::answer`].
    Send(WriteLine),
    /// Nothing until this moment, unless something else comes.
    Wait(Moment),
}

/// What was sent and not answered yet, and what follows it.
#[derive(Debug, Default)]
enum Dialogue {
    /// Nothing.
    #[default]
    Idle,
    /// `show info`.
    Polling,
    /// `show cli level` and `show table`, to a new process.
    Greeting,
    /// Reads of a batch of backends.
    Reading {
        batch: Vec<BackendName>,
        /// What this round reads.
        reads: Reads,
        /// In a new process the first round brings ids, the second roles, the third the health of what is tracked.
        round: usize,
        /// What is still to be sent in this round.
        lines: ReadExchanges,
        /// The frames of the line that is under way.
        frames: Vec<ReadFrame>,
    },
    /// Weights of a batch of backends.
    Applying(Applying),
}

/// What is to be written to disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsaved {
    /// What is remembered differs from what is on disk.
    pub memory: bool,
    /// The file that a new HAProxy process starts with may have to change.
    pub server_state: bool,
}

/// Everything that is remembered of one HAProxy.
#[derive(Debug)]
pub struct Session {
    /// Every backend that Consul or the disk ever mentioned.
    pub backends: BTreeMap<BackendName, Backend>,
    /// The processes that have answered.
    pub processes: Processes,
    /// What Consul said last; none before its first answer.
    pub desired: Option<Arc<DesiredState>>,
    /// Whether anything may be enforced: from Consul's first answer on, or once it is late.
    pub enforcing: bool,
    /// Whether plans are only reported and never sent.
    pub observe_only: bool,
    /// What is paused.
    pub pauses: Pauses,
    /// Why HAProxy cannot be used, if it cannot.
    pub down: Option<Down>,
    /// Whether everything was reconciled once since weightd started: `/ready` becomes true by it.
    pub reconciled_once: bool,
    /// Exchanges that failed since weightd started, by reason.
    pub errors: BTreeMap<&'static str, u64>,
    /// Corrections of drift since weightd started, also of backends that are gone.
    pub drift_corrections: u64,
    /// What is to be written to disk.
    pub unsaved: Unsaved,
    /// The backends whose stored form changed and is not in the journal yet.
    unjournaled: BTreeSet<BackendName>,
    /// The backends that have a stick table in this process.
    stick_tables: BTreeSet<BackendName>,
    /// Backends that are only read because servers track theirs.
    tracked: BTreeMap<BackendName, Observed>,
    /// Backends that are read although they are not managed.
    wanted: BTreeSet<BackendName>,
    queue: Queue,
    dialogue: Dialogue,
    timing: Timing,
    /// The next question which process answers.
    poll_at: Moment,
    /// Nothing is read or set before this moment: an old process still answers.
    not_before: Moment,
    /// What is on disk is enforced from this moment on, if Consul has not answered.
    first_read_by: Moment,
    backoff: Backoff,
    /// The reasons that were reported last, by backend.
    reported: BTreeMap<BackendName, Vec<Reason>>,
    events: Vec<Event>,
}

impl Session {
    /// One that remembers what was on disk. It begins at `now`.
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
            wanted: BTreeSet::new(),
            queue: Queue::default(),
            dialogue: Dialogue::Idle,
            timing,
            poll_at: now,
            not_before: now,
            first_read_by: now + FIRST_READ,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            reported: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// From now on things are done this often.
    pub fn set_timing(&mut self, timing: Timing, now: Moment) {
        self.timing = timing;
        self.poll_at = self.poll_at.min(now + timing.process_poll);
        self.queue.next_pass_by(now + timing.resync);
    }

    fn managed_with(&self) -> impl Iterator<Item = (&BackendName, &Backend)> {
        self.backends.iter().filter(|(_, backend)| backend.managed())
    }

    /// The backends that are read.
    fn read_with(&self) -> impl Iterator<Item = (&BackendName, &Backend)> {
        self.backends.iter().filter(|(name, backend)| self.is_read(name, backend))
    }

    fn is_read(&self, name: &BackendName, backend: &Backend) -> bool {
        backend.managed() || self.wanted.contains(name)
    }

    /// Whether HAProxy can be worked with.
    fn usable(&self) -> bool {
        self.processes.current.is_some() && self.down.as_ref().is_none_or(|down| down.trying)
    }

    /// What to do next. After [`Step::Ask`] and [`Step::Send`], the next call is [`Session::answer`].
    pub fn next(&mut self, now: Moment) -> Step {
        self.pass_time(now);
        loop {
            match std::mem::take(&mut self.dialogue) {
                Dialogue::Reading { batch, reads, round, mut lines, .. } => {
                    if let Some(Exchange { line, frames }) = lines.pop_front() {
                        self.dialogue = Dialogue::Reading { batch, reads, round, lines, frames };
                        return Step::Ask(line);
                    }
                    self.round_ended(batch, &reads, round, now);
                }
                Dialogue::Applying(applying) if applying.covers(|name| self.pauses.of(name).is_some()) => {
                    self.abandon(applying);
                }
                Dialogue::Applying(mut applying) => {
                    if let Some(Exchange { line, frames }) = applying.lines.pop_front() {
                        applying.frames = frames;
                        self.dialogue = Dialogue::Applying(applying);
                        return Step::Send(line);
                    }
                    self.stage_ended(applying, now);
                }
                // The latter two are answered before this is called again.
                Dialogue::Idle | Dialogue::Polling | Dialogue::Greeting => {
                    if let Some(step) = self.begin(now) {
                        return step;
                    }
                }
            }
        }
    }

    /// What happens because time passes.
    fn pass_time(&mut self, now: Moment) {
        self.expire(now);
        if !self.enforcing && now >= self.first_read_by {
            self.events.push(Event::EnforcingFromDisk { failed: false });
            self.enforce();
        }
        if self.enforcing && self.queue.pass_is_due(now) {
            let (names, servers) = self.pass(now);
            let interval = PASS.max(Duration::from_secs(1) * (servers / SERVERS_PER_SECOND)).min(self.timing.resync);
            self.queue.begin_pass(names, retry::jittered(interval, 0.1), now);
        }
    }

    /// What a routine pass reads, and how many servers those are. A backend that HAProxy does not have can hardly appear
    /// without a new process, so that it is read once per resync.
    fn pass(&self, now: Moment) -> (Vec<BackendName>, u32) {
        let due = |backend: &Backend| match (backend.matched, backend.observed_at) {
            (Matched::No, Some(at)) => now.since(at) >= self.timing.resync,
            _ => true,
        };
        let (mut names, mut servers) = (Vec::new(), 0_u32);
        for (name, backend) in self.read_with().filter(|(_, backend)| due(backend)) {
            names.push(name.clone());
            servers = servers.saturating_add(u32::try_from(backend.observed.servers.len().max(1)).unwrap_or(u32::MAX));
        }
        (names, servers)
    }

    /// Begins what is due; none if something was begun or decided that needs no step of its own.
    fn begin(&mut self, now: Moment) -> Option<Step> {
        if self.processes.current.as_ref().is_some_and(|process| process.level.is_empty()) && self.usable() {
            self.dialogue = Dialogue::Greeting;
            return Some(Step::Ask(ReadLine::of([Query::ShowCliLevel, Query::ShowTable])));
        }
        if now >= self.poll_at {
            self.poll_at = now + self.timing.process_poll;
            self.dialogue = Dialogue::Polling;
            return Some(Step::Ask(ReadLine::of([Query::ShowInfo])));
        }
        if self.enforcing && self.usable() && now >= self.not_before {
            let direct = self.next_direct(now);
            if !direct.is_empty() {
                self.decide(&direct, now);
                return None;
            }
            if let Some((urgency, batch)) = self.queue.next_batch(now) {
                self.begin_reading(urgency, batch);
                return None;
            }
        }
        Some(Step::Wait(self.wakes_at(now)))
    }

    /// The next moment at which something is due by itself.
    fn wakes_at(&self, now: Moment) -> Moment {
        let mut at = self.poll_at;
        if !self.enforcing {
            at = at.min(self.first_read_by);
        } else if self.usable() {
            let work = if self.queue.has_urgent() { now } else { self.queue.next_at() };
            at = at.min(work.max(self.not_before));
        }
        self.pauses.next_end().map_or(at, |end| at.min(end))
    }

    /// Takes the answer to the line of the last [`Step`].
    pub fn answer(&mut self, answer: Result<Answer, ExchangeError>, now: Moment) {
        match (std::mem::take(&mut self.dialogue), answer) {
            (dialogue, Err(error)) => self.failed(dialogue, &error, now),
            (Dialogue::Idle, Ok(_)) => {}
            (Dialogue::Polling, Ok(answer)) => self.polled(&answer, now),
            (Dialogue::Greeting, Ok(answer)) => self.greeted(&answer, now),
            (Dialogue::Reading { batch, reads, round, lines, frames }, Ok(answer)) => {
                for (text, frame) in answer.frames().zip(&frames) {
                    if !self.take_read(frame, text, now) {
                        // The rest of this answer comes from another process; everything is read anew.
                        return self.put_back(batch);
                    }
                }
                self.queue.answered(true);
                self.dialogue = Dialogue::Reading { batch, reads, round, lines, frames: Vec::new() };
            }
            (Dialogue::Applying(applying), Ok(answer)) => self.stage_answered(applying, &answer, now),
        }
    }

    /// What must survive a restart of weightd.
    pub fn to_store(&self) -> Stored {
        let stored = self.managed_with().map(|(name, backend)| (name.clone(), backend.to_store()));
        Stored { backends: stored.collect() }
    }

    fn stored_form_changed(&mut self, name: &BackendName) {
        self.unsaved.memory = true;
        self.unjournaled.insert(name.clone());
    }

    /// The backends whose stored form changed since this was last called; none in place of one that is not managed any
    /// more. To be on disk before the next line is sent.
    pub fn take_unjournaled(&mut self) -> Vec<(BackendName, Option<StoredBackend>)> {
        if self.unjournaled.is_empty() {
            return Vec::new();
        }
        let changed = std::mem::take(&mut self.unjournaled).into_iter();
        let stored = |name: &BackendName| self.backends.get(name).filter(|b| b.managed()).map(Backend::to_store);
        changed.map(|name| (name.clone(), stored(&name))).collect()
    }

    /// What happened since this was last called.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether a reading showed every managed backend as Consul says, and nothing that Consul says is rejected.
    pub fn converged(&self) -> bool {
        self.enforcing
            && self.down.is_none()
            && self.processes.current.is_some()
            && self.queue.is_settled()
            && self.backends.values().all(|b| !b.rejected() && (!b.managed() || b.converged()))
            && self.desired.as_ref().is_none_or(|state| state.stray.is_empty())
    }

    /// Whether nothing urgent is to be read, decided or sent.
    pub fn is_settled(&self) -> bool {
        self.queue.is_settled() && matches!(self.dialogue, Dialogue::Idle)
    }

    /// Notes which reasons of a backend are new and which are gone.
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
mod tests;
