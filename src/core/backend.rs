//! The state of one backend on one HAProxy, and the decisions about it.
//!
//! Owns the order of events for one backend: a document arrives, the guards decide, weights are sent, the read-back
//! shows the result. Must not decide when to read: the session owns that.

mod deciding;
mod expanding;
mod leaves;
mod overriding;
mod released;
mod states;
mod storing;
mod unchanged;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub use self::states::{Cause, KeyState, Matched, NotAccepted};
use self::{deciding::Accepted, overriding::Overriding, states::Progress};
use crate::{
    accept::{self, Guarded, Verdict},
    contention::Contention,
    desired::{Desired, Instruction, Published},
    expand::{Expansion, Groups},
    model::{BackendName, Moment, ServerName},
    observed::{Observed, Owner, Roles, SetError},
    plan::{self, Change, Plan, Withheld},
};

/// Oldest observation that the fast path may use. Must exceed the interval between two readings.
const RECENT: Duration = Duration::from_secs(15);

/// One backend on one HAProxy.
#[derive(Debug, Default)]
pub struct Backend {
    /// The state of the key in Consul.
    pub key: KeyState,
    /// The last valid document. If the key vanished or became invalid, it is the accepted document again.
    pub desired: Option<Arc<Desired>>,
    /// The last document that passed the guards here. weightd enforces it.
    pub accepted: Option<Arc<Desired>>,
    /// Why `desired` is not `accepted`.
    pub not_accepted: Option<NotAccepted>,
    /// The servers with a vanished leaf. Their accepted weights stay in force.
    pub vanished: BTreeSet<ServerName>,
    /// Whether HAProxy has the backend.
    pub matched: Matched,
    /// The last observation.
    pub observed: Observed,
    /// When the last observation was made.
    pub observed_at: Option<Moment>,
    /// The id of the backend in this process: `be_id`.
    pub id: Option<u32>,
    /// The answer to `show servers state` in the current reading and its moment, until the roles are read.
    pub raw_state: Option<(String, Moment)>,
    /// Why HAProxy's answer about the backend cannot be parsed.
    pub unreadable: Option<String>,
    /// The roles in this process; none until they are read.
    pub roles: Option<Roles>,
    /// The last error of HAProxy for `set server … weight`, while the read-back still differs.
    pub set_error: Option<SetError>,
    /// Why needed changes are not sent.
    pub withheld: Option<Withheld>,
    /// Detects that another program or person keeps changing the weights.
    pub contention: Contention,
    /// The servers with drift, at the last drift.
    pub overwritten: BTreeSet<ServerName>,
    /// Number of drift corrections since weightd started.
    pub drift_corrections: u64,
    /// In mode observe, the plan that mode enforce would apply.
    pub observe_plan: Option<Plan>,
    /// When Consul's answer with `desired` arrived. Cleared when the change is sent or deferred.
    arrived_at: Option<Moment>,
    /// The override that stands in place of the document.
    overriding: Option<Box<Overriding>>,
    /// The servers that were added since the last decision.
    added: BTreeSet<ServerName>,
    progress: Progress,
    differs: bool,
    /// HAProxy's answer in the last reading.
    text: Option<Box<str>>,
    /// Whether the last reading showed the same as the one before.
    unchanged: bool,
    /// The last expansion of the desired split, and what it was computed from.
    expanded: Option<(Groups, Expansion)>,
    /// The same of the accepted split, while another document is desired.
    expanded_accepted: Option<(Groups, Expansion)>,
}

impl Backend {
    /// Processes the content of the key, read at `read_at`. Returns true if there is a new document to decide on.
    pub fn update_key(&mut self, published: Option<&Published>, read_at: Moment) -> bool {
        if self.update_behind_override(published) {
            return false;
        }
        match published {
            // An absent key is not an instruction: a token with fewer permissions also hides keys.
            None => {
                self.key = KeyState::Absent;
                self.drop_pending();
                false
            }
            Some(Published::Rejected(rejected)) => {
                self.key = KeyState::Rejected(Arc::clone(rejected));
                self.drop_pending();
                false
            }
            Some(Published::Valid(Instruction::Release { .. })) => {
                let drift_corrections = self.drift_corrections;
                *self = Self { key: KeyState::Released, drift_corrections, ..Self::default() };
                false
            }
            Some(Published::Valid(Instruction::Weights(desired))) => {
                self.vanished.clear();
                self.set_desired(Arc::clone(desired), read_at)
            }
            Some(Published::Valid(Instruction::Leaves(leaves))) => {
                let (desired, vanished) = leaves::with_vanished(leaves, self.accepted.as_deref());
                self.vanished = vanished;
                self.set_desired(desired, read_at)
            }
        }
    }

    fn set_desired(&mut self, desired: Arc<Desired>, read_at: Moment) -> bool {
        self.key = KeyState::Valid;
        // Compare the content: after a restart an equal document is another object.
        if self.desired.as_ref().is_some_and(|known| known.is_same_document(&desired)) {
            return false;
        }
        self.desired = Some(desired);
        self.not_accepted = None;
        self.arrived_at = Some(read_at);
        true
    }

    /// Drops a document that is not accepted yet. A person who deletes or overwrites a guarded document wants to cancel
    /// it, so it must not be accepted later.
    fn drop_pending(&mut self) {
        self.desired.clone_from(&self.accepted);
        self.not_accepted = None;
        self.arrived_at = None;
    }

    /// Whether there is a document to enforce or to decide on.
    pub fn managed(&self) -> bool {
        self.desired.is_some() || self.accepted.is_some()
    }

    /// Whether the key, or a leaf, vanished from Consul while the weights are enforced.
    pub fn orphaned(&self) -> bool {
        self.managed() && (matches!(self.key, KeyState::Absent) || !self.vanished.is_empty())
    }

    /// Handles a new HAProxy process: discards the readings of the old process, except for the health of servers.
    pub fn new_process(&mut self) {
        self.id = None;
        self.unreadable = None;
        self.roles = None;
        self.set_error = None;
        self.contention = Contention::default();
        self.overwritten.clear();
        self.added.clear();
        self.text = None;
        self.matched = Matched::Unknown;
        if !matches!(self.progress, Progress::Fresh(_)) {
            self.progress = Progress::Fresh(Cause::NewProcess);
        }
    }

    /// Starts a reading, and discards an unfinished one.
    pub fn start_reading(&mut self) {
        self.raw_state = None;
        if self.roles.is_none() {
            self.id = None;
        }
    }

    /// Stores a complete reading. `added` are the new servers in it.
    pub fn read(&mut self, id: Option<u32>, observed: Observed, added: BTreeSet<ServerName>, now: Moment) {
        self.id = id;
        self.observed = observed;
        self.text = None;
        self.unchanged = false;
        // In the first reading of a process every server is new, but none was added at runtime.
        if self.matched == Matched::Yes {
            self.added.extend(added);
        }
        self.matched = Matched::Yes;
        self.observed_at = Some(now);
        self.unreadable = None;
    }

    /// Restarts the settling time of a guarded change, because servers may have been down since the last reading.
    pub fn interrupted(&mut self) {
        if let Some(NotAccepted::Guarded(guarded)) = &mut self.not_accepted {
            guarded.usable_since = None;
        }
    }

    /// Handles an answer that cannot be parsed: the weights are unknown, and nothing is sent.
    pub fn unreadable(&mut self, why: String) {
        self.unreadable = Some(why);
        self.raw_state = None;
        self.matched = Matched::Unknown;
    }

    /// Handles the answer that HAProxy does not have the backend.
    pub fn unmatched(&mut self, now: Moment) {
        self.matched = Matched::No;
        self.unreadable = None;
        self.observed = Observed::default();
        self.observed_at = Some(now);
        self.withheld = None;
        self.arrived_at = None;
    }

    /// Whether the desired weights may be sent without a new reading before them (the fast path).
    ///
    /// A document without a 0 cannot stop a server, even if the last observation is outdated, and its read-back is the
    /// next reading. Every other document is decided on a new reading.
    pub fn needs_no_reading(&self, name: &BackendName, now: Moment) -> bool {
        let as_accepted = self.matched == Matched::Yes && self.progress == Progress::Converged && !self.differs;
        let recent = self.observed_at.is_some_and(|at| now.since(at) <= RECENT);
        if !as_accepted || !recent || self.roles.is_none() || self.not_accepted.is_some() {
            return false;
        }
        let Some(desired) = self.desired.as_ref().filter(|desired| desired.stops_no_server()) else { return false };
        if self.accepted.as_ref() == Some(desired) {
            return false;
        }
        let verdict = accept::accept(desired, self.accepted.as_deref(), &self.observed, None, now);
        let plan = plan::plan(name, desired, &self.observed);
        // Without a command there is no read-back, so a reading is needed.
        verdict == Verdict::Accepted && !plan.stages.is_empty() && plan.withheld.is_none()
    }

    /// Decides what to send, after a reading or on the fast path. Returns the cause and the plan; none if nothing is
    /// sent.
    pub fn decide(&mut self, name: &BackendName, now: Moment) -> Option<(Cause, Plan)> {
        let decided = self.decide_on_reading(name, now);
        self.forget_if_released();
        self.added.clear();
        if decided.is_none() {
            self.arrived_at = None;
        }
        decided
    }

    fn decide_on_reading(&mut self, name: &BackendName, now: Moment) -> Option<(Cause, Plan)> {
        self.withheld = None;
        if self.matched != Matched::Yes {
            return None;
        }
        self.contention.clear_if_quiet(now);
        let accepted_now = self.accept(now);
        let accepted = self.accepted.as_ref()?;
        let plan = plan::plan(name, accepted, &self.observed);
        self.differs = !plan.is_empty();
        if !self.differs {
            self.progress = Progress::Converged;
            self.set_error = None;
            return None;
        }
        let cause = match self.progress {
            // Also for a document that arrived during the pause.
            Progress::Fresh(Cause::Resume) => Cause::Resume,
            _ if accepted_now == Some(Accepted::Override) => Cause::Override,
            _ if accepted_now == Some(Accepted::Document) => Cause::Document,
            Progress::Fresh(cause) => cause,
            _ if accepted_now == Some(Accepted::Expansion) => Cause::Servers,
            Progress::Changing(cause) => cause,
            Progress::Withheld(cause) if plan.withheld.is_none() => cause,
            Progress::Withheld(_) | Progress::Converged => self.cause_of_difference(&plan),
        };
        if accepted_now.is_some() {
            self.set_error = None;
        }
        self.withheld = plan.withheld.as_ref().map(|(why, _)| *why);
        if plan.stages.is_empty() {
            if !matches!(self.progress, Progress::Withheld(_)) || accepted_now.is_some() {
                self.progress = Progress::Withheld(cause);
            }
            return None;
        }
        // The algorithm of a process never changes, so sending the weights again is useless.
        if self.set_error == Some(SetError::StaticAlgorithm) {
            return None;
        }
        if cause == Cause::Drift {
            self.overwritten = plan.changes().map(|change| change.server.clone()).collect();
            if !self.contention.drifted(now) {
                return None;
            }
        }
        self.progress = Progress::Changing(cause);
        Some((cause, plan))
    }

    /// Returns why the weights differ although an earlier read-back showed the accepted ones.
    fn cause_of_difference(&self, plan: &Plan) -> Cause {
        let withheld = plan.withheld.iter().flat_map(|(_, changes)| changes);
        let all_new = plan.changes().chain(withheld).all(|change| self.added.contains(&change.server));
        if all_new { Cause::NewServer } else { Cause::Drift }
    }

    /// Processes a reading while the backend is paused: accepts nothing and sends nothing.
    pub fn observe_paused(&mut self, name: &BackendName, now: Moment) {
        self.withheld = None;
        self.observe_plan = None;
        self.added.clear();
        self.arrived_at = None;
        self.contention.clear_if_quiet(now);
        // The time before and during the pause does not count for settling.
        self.interrupted();
        if self.matched != Matched::Yes {
            return;
        }
        // The desired weights are deferred changes, so they count too. The end of the pause reports a misfit.
        let _ = self.expand();
        let [accepted, desired] = [&self.accepted, &self.desired]
            .map(|state| state.as_ref().is_some_and(|state| !plan::plan(name, state, &self.observed).is_empty()));
        self.differs = accepted || desired;
        if !self.differs {
            self.progress = Progress::Converged;
        }
    }

    /// Handles the end of a pause: a difference in the next reading is not drift, and is corrected at once.
    pub fn resumed(&mut self) {
        self.progress = Progress::Fresh(Cause::Resume);
    }

    /// Processes HAProxy's answer to the changes in `sent`. `observed` already has the read-back. Returns the changes
    /// that the read-back confirms, and the plan of the next stage if it may follow.
    pub fn applied(
        &mut self,
        name: &BackendName,
        cause: Cause,
        sent: &[Change],
        set_error: Option<SetError>,
        now: Moment,
    ) -> (Vec<Change>, Option<Plan>) {
        self.added.clear();
        let is_set = |change: &Change| self.observed.server(&change.server).is_some_and(|s| s.weight == change.to);
        let (done, open): (Vec<Change>, Vec<Change>) = sent.iter().cloned().partition(is_set);
        let Some(accepted) = self.accepted.as_ref() else { return (done, None) };
        let rest = plan::plan(name, accepted, &self.observed);
        self.withheld = rest.withheld.as_ref().map(|(why, _)| *why);
        self.differs = !rest.is_empty();
        if self.differs {
            self.set_error = set_error;
            // The next stage depends on this one: it may follow only if the read-back confirms all changes.
            if open.is_empty() {
                if !rest.stages.is_empty() {
                    return (done, Some(rest));
                }
                self.progress = Progress::Withheld(cause);
            }
        } else {
            self.progress = Progress::Converged;
            self.set_error = None;
        }
        if cause == Cause::Drift && !done.is_empty() {
            self.drift_corrections += 1;
            self.contention.corrected(now);
        }
        (done, None)
    }

    /// Returns when Consul's answer with the document arrived, and clears it. None for another cause or a deferred
    /// change.
    pub fn take_arrival(&mut self, cause: Cause) -> Option<Moment> {
        if cause == Cause::Document { self.arrived_at.take() } else { None }
    }

    /// Returns the guard that rejects `desired`; none if it is not guarded.
    pub fn guarded(&self) -> Option<Guarded> {
        match self.not_accepted {
            Some(NotAccepted::Guarded(guarded)) => Some(guarded),
            Some(NotAccepted::Unmatched | NotAccepted::Misfit(_)) | None => None,
        }
    }

    /// Whether a reading showed the accepted weights and there is no other desired document. True if HAProxy does not
    /// have the backend, because there is nothing to set.
    pub fn converged(&self) -> bool {
        match self.matched {
            Matched::Unknown => false,
            Matched::No => self.decided(),
            Matched::Yes => {
                self.progress == Progress::Converged && !self.differs && self.not_accepted.is_none() && self.decided()
            }
        }
    }

    /// Whether the current key in Consul is invalid.
    pub fn rejected(&self) -> bool {
        matches!(self.key, KeyState::Rejected(_))
    }

    /// Whether the weights differ from the accepted ones, or were not compared yet.
    pub fn differs(&self) -> bool {
        self.differs || self.accepted.is_some() && matches!(self.progress, Progress::Fresh(_))
    }

    /// Whether the next step depends on the health of servers, so that more frequent readings are useful.
    pub fn awaits_health(&self) -> bool {
        self.managed() && (self.guarded().is_some() || self.withheld == Some(Withheld::NothingUsable))
    }

    /// Returns the other owner of these servers' weights, if HAProxy reports one.
    pub fn owner<'s>(&self, servers: impl IntoIterator<Item = &'s ServerName>) -> Option<Owner> {
        servers.into_iter().find_map(|name| self.observed.server(name)?.owner)
    }
}
