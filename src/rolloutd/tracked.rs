//! One rollout as the leader tracks it: which of Consul's values it stands for, and what is under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};
use weightd_core::{
    judge::BLOCK_SECONDS,
    model::{BackendName, Escaped, Timestamp},
    rollout::{
        Event, EventKind, Evidence, Now, Phase, Request, Rollout, Spec, State,
        abort::close,
        begin, digest,
        log::{Entry, Log},
        observe::{Answer, SpecSeen},
    },
};

use super::observing::Observing;
use crate::consul::follow::{Followed, Value};

/// A state in Consul that is older than ours for so long is that of a restored snapshot, and not a slow read.
const RESTORED_SECONDS: u64 = 20;

/// A rollout, and its values in Consul.
#[derive(Debug)]
pub(super) struct Tracked {
    /// The rollout; none while there is no state for its spec, or it cannot be read.
    pub(super) rollout: Option<Rollout>,
    /// The state of an earlier rollout, whose spec is gone.
    ended: Option<State>,
    /// The state of a rollout that has not ended, and whose spec is gone or cannot be read: only an abort ends it.
    orphan: Option<State>,
    /// The spec as it was read last: its `ModifyIndex`, its value, its digest.
    spec: Option<(u64, Result<Spec, String>, String)>,
    /// The `ModifyIndex` of the state that the rollout has.
    pub(super) state_index: u64,
    /// When it was written or read.
    state_at: Instant,
    /// Whether a snapshot was restored: the evidence that this term began with is of later.
    restored: bool,
    /// The transaction under way: its attempt, 0 for the first state.
    pub(super) under_way: Option<u64>,
    /// Nothing is tried before this.
    pub(super) not_before: Option<Instant>,
    /// What became of the last one.
    pub(super) answer: Option<(u64, Answer)>,
    /// What makes the nodes count; none while nobody needs the numbers.
    pub(super) observing: Option<Observing>,
    pub(super) log: Log,
    /// The end of a rollout without a spec, which people were not told yet.
    pub(super) closed: Option<(State, Event)>,
    /// Whether the document is a split of the two sides.
    pub(super) shares: Shares,
    /// Why the rollout cannot be read; reported once.
    pub(super) unreadable: Option<String>,
    /// Evidence that waits to be written.
    pub(super) evidence: Option<Evidence>,
    /// Whether the log changed since it was written.
    pub(super) log_changed: bool,
}

/// Why the document is no split of the two sides, as it was computed last. That takes the shares of each server on each node, so
/// that it is not done at each tick.
#[derive(Debug, Default)]
pub(super) struct Shares(Option<((u64, usize), Instant, Option<String>)>);

impl Shares {
    /// How often the nodes publish which servers they have.
    const EVERY: Duration = Duration::from_secs(BLOCK_SECONDS);

    /// The answer for `of`: the `ModifyIndex` of the document, and how many nodes were heard.
    pub(super) fn not_split(
        &mut self,
        of: (u64, usize),
        now: Instant,
        compute: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        match &self.0 {
            Some((known, at, why)) if *known == of && now.duration_since(*at) < Self::EVERY => why.clone(),
            _ => {
                let why = compute();
                self.0 = Some((of, now, why.clone()));
                why
            }
        }
    }
}

impl Tracked {
    pub(super) fn new(log: Option<Log>) -> Self {
        let log = log.unwrap_or_default();
        Self {
            rollout: None,
            ended: None,
            orphan: None,
            spec: None,
            state_index: 0,
            state_at: Instant::now(),
            restored: false,
            under_way: None,
            not_before: None,
            answer: None,
            observing: None,
            log,
            closed: None,
            shares: Shares::default(),
            unreadable: None,
            evidence: None,
            log_changed: false,
        }
    }

    /// Compares with Consul: loads a rollout that is not known, and takes over a state that somebody else wrote. Returns a
    /// state that must be written: the first one of a new rollout, or the last one of a rollout without a spec that the
    /// person behind `request` aborts.
    pub(super) fn look(
        &mut self,
        backend: &BackendName,
        (specs, states): (&Followed, &Followed),
        document: impl Fn(&Spec) -> weightd_core::rollout::observe::DocumentSeen,
        evidence: Option<&Evidence>,
        request: Option<&Request>,
        now: Now,
    ) -> Option<State> {
        self.take_spec(specs.get(backend.as_str()));
        if self.under_way.is_some() {
            return None;
        }
        let stored = states.get(backend.as_str());
        let index = stored.map_or(0, |value| value.index);
        let read_to = states.keys.as_ref().map_or(0, |keys| keys.index);
        let stale = read_to < self.state_index && self.state_at.elapsed().as_secs() < RESTORED_SECONDS;
        if stale {
            return None;
        }
        if index != self.state_index || (self.rollout.is_none() && self.ended.is_none()) {
            self.load(backend, stored, evidence, now);
        }
        if let Some(state) = &self.orphan {
            return close(state, request?, now.wall);
        }
        let before = self.rollout.as_ref().map(|rollout| &rollout.state).or(self.ended.as_ref());
        // A state that cannot be read is not replaced.
        if before.is_none() && stored.is_some() {
            return None;
        }
        let Some((_, Ok(spec), sha)) = &self.spec else { return None };
        begin(spec, sha, before, || document(spec), now.wall)
    }

    fn take_spec(&mut self, value: Option<&Value>) {
        match value {
            None => self.spec = None,
            Some(value) if self.spec.as_ref().is_some_and(|(index, ..)| *index == value.index) => {}
            Some(value) => {
                let spec = Spec::parse(&value.bytes).map_err(|error| error.to_string());
                self.spec = Some((value.index, spec, digest(&value.bytes)));
            }
        }
    }

    /// Reads the state. What this process knew goes on with it, as far as it is the same rollout. Of a restored snapshot, whose
    /// index is lower, it does not: it was learnt after that moment.
    fn load(&mut self, backend: &BackendName, stored: Option<&Value>, evidence: Option<&Evidence>, now: Now) {
        let restored = stored.map_or(0, |value| value.index) < self.state_index;
        self.restored |= restored;
        let (before, evidence) = (self.rollout.take().filter(|_| !restored), evidence.filter(|_| !self.restored));
        if restored {
            info!(%backend, "Consul has an older state than before: it was restored; the evidence starts anew");
        }
        self.ended = None;
        let orphan = self.orphan.take();
        (self.state_index, self.state_at) = (stored.map_or(0, |value| value.index), Instant::now());
        let Some(value) = stored else { return };
        let state = match State::parse(&value.bytes, value.index) {
            Ok(state) => state,
            Err(error) => return self.cannot_read(backend, &format!("its state: {error}")),
        };
        let known = before.as_ref().filter(|before| before.spec.id == state.id);
        // A spec that was changed or deleted does not end what runs: it is latched.
        let spec = match (&self.spec, known) {
            (Some((_, Ok(spec), _)), _) if spec.id == state.id => spec.clone(),
            (_, Some(before)) => before.spec.clone(),
            (found, None) if !state.phase.is_final() => {
                let why = match found {
                    Some((_, Err(error), _)) => format!("its spec: {error}"),
                    Some(_) => "its spec is that of another rollout".to_owned(),
                    None => "its spec is not there".to_owned(),
                };
                self.orphan = Some(state);
                return self.cannot_read(backend, &why);
            }
            (_, None) => {
                if orphan.is_some_and(|orphan| orphan.id == state.id) {
                    self.closed(backend, &state);
                }
                (self.ended, self.unreadable) = (Some(state), None);
                return;
            }
        };
        let own = before.as_ref().filter(|before| before.spec.id == state.id).map(Rollout::evidence);
        if before.is_some() {
            info!(%backend, seq = state.seq, "the state of the rollout was written by somebody else; it is read again");
        }
        self.unreadable = None;
        self.rollout = Some(Rollout::load(spec, state, own.as_ref().or(evidence), now));
        self.answer = None;
    }

    /// A rollout without a spec has ended.
    fn closed(&mut self, backend: &BackendName, state: &State) {
        let kind = if state.phase == Phase::RolledBack { EventKind::RolledBack } else { EventKind::TakenOver };
        let detail = state.why.clone().unwrap_or_default();
        let (event, share) = (kind.as_str(), state.share.percent());
        warn!(%backend, rollout = state.id, event, phase = state.phase.as_str(), share, "{}", Escaped(&detail));
        self.closed = Some((state.clone(), Event::new(kind, detail)));
    }

    /// Adds an entry to the log of the rollouts of this backend.
    pub(super) fn log(&mut self, entry: Entry) {
        self.log = std::mem::take(&mut self.log).append(entry);
        self.log_changed = true;
    }

    fn cannot_read(&mut self, backend: &BackendName, why: &str) {
        if self.unreadable.as_deref() != Some(why) {
            warn!(%backend, why, hint = "weights stay as they are; write the key again, use a controller that can read it, or abort the rollout", "the rollout cannot be read");
            self.unreadable = Some(why.to_owned());
        }
    }

    /// A transaction happened: the state in Consul has this index.
    pub(super) fn written(&mut self, index: u64) {
        (self.state_index, self.state_at) = (index, Instant::now());
    }

    /// The `ModifyIndex` of the spec; 0 if there is none.
    pub(super) fn spec_index(&self) -> u64 {
        self.spec.as_ref().map_or(0, |(index, ..)| *index)
    }

    /// The spec in Consul, compared with the one of the rollout.
    pub(super) fn spec_seen(&self, state: &State) -> SpecSeen {
        match &self.spec {
            Some((_, _, sha)) if *sha == state.spec => SpecSeen::Same,
            Some((_, Err(error), _)) => SpecSeen::Unreadable(error.clone()),
            Some(_) | None => SpecSeen::Changed,
        }
    }

    /// The rollouts of this backend that the controller took back at this time or later: also those after which another one was
    /// started.
    pub(super) fn taken_back(&self, since: Timestamp) -> BTreeSet<&str> {
        let state = self.rollout.as_ref().map(|rollout| &rollout.state).or(self.ended.as_ref());
        let back = state.filter(|state| {
            let is_back = matches!(state.phase, Phase::RollingBack | Phase::RolledBack);
            is_back && !state.aborted && state.since >= since
        });
        self.log.taken_back(since).chain(back.map(|state| state.id.as_str())).collect()
    }

    /// Whether a tick cannot have an effect: it has ended, nobody counts, and its last request was answered.
    pub(super) fn is_at_rest(&self, request: Option<&Request>) -> bool {
        let Some(rollout) = &self.rollout else { return true };
        let answered = rollout.state.answered.as_ref().map(|answered| &answered.id);
        let open = request.is_some_and(|request| request.rollout == rollout.spec.id && Some(&request.id) != answered);
        let waits = self.under_way.is_some() || self.answer.is_some() || self.observing.is_some();
        rollout.state.phase.is_final() && !open && !waits
    }

    /// Whether people want it to be counted: it is under way, or has ended a moment ago.
    pub(super) fn is_observed(&self, now: Timestamp) -> bool {
        /// An ended rollout tells what it sees for so long.
        const AFTERWARDS: u64 = 30 * 60;
        self.rollout.as_ref().is_some_and(|rollout| {
            use weightd_core::rollout::Phase;
            match rollout.state.phase {
                Phase::Queued | Phase::RolledBack => false,
                Phase::Done | Phase::TakenOver => {
                    now.seconds().saturating_sub(rollout.state.since.seconds()) < AFTERWARDS
                }
                Phase::Preflight | Phase::Shift | Phase::Bake | Phase::RollingBack => true,
            }
        })
    }
}

/// The request in a key; none if there is none, or it cannot be read.
pub(super) fn request(followed: &Followed, backend: &BackendName) -> Option<Request> {
    Request::parse(&followed.get(backend.as_str())?.bytes).ok().flatten()
}

/// All rollouts that the leader tracks.
pub(super) type All = BTreeMap<BackendName, Tracked>;

#[cfg(test)]
mod tests;
