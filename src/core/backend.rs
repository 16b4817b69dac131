//! What is remembered of one backend on one HAProxy, and each decision about it.
//!
//! Owns the order of events for one backend: a document comes, it is accepted or not, weights are sent, the read-back
//! shows what worked. Must never decide when something is read; that is the session's.

mod leaves;
mod states;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use self::states::Progress;
pub use self::states::{Cause, KeyState, Matched, NotAccepted};
use crate::{
    accept::{self, Guarded, Verdict},
    contention::Contention,
    desired::{Desired, Instruction, Published},
    model::{BackendName, Moment, ServerName},
    observed::{Observed, Owner, Roles, SetError},
    plan::{self, Change, Plan, Withheld},
    stored::StoredBackend,
};

/// Oldest observation that the fast path may rely on; must exceed the interval between two readings.
const RECENT: Duration = Duration::from_secs(15);

/// One backend on one HAProxy.
#[derive(Debug)]
pub struct Backend {
    /// What Consul has now.
    pub key: KeyState,
    /// The last valid document, or the accepted one again when its key vanished or became invalid.
    pub desired: Option<Arc<Desired>>,
    /// The last one that passed the guards here: what is enforced.
    pub accepted: Option<Arc<Desired>>,
    /// Why `desired` is not `accepted`.
    pub not_accepted: Option<NotAccepted>,
    /// The servers with a leaf that vanished: their accepted weights stay in force.
    pub vanished: BTreeSet<ServerName>,
    /// Whether HAProxy has it.
    pub matched: Matched,
    /// What HAProxy said last.
    pub observed: Observed,
    /// When it said that.
    pub observed_at: Option<Moment>,
    /// HAProxy's number of it in this process: `be_id`.
    pub id: Option<u32>,
    /// What `show servers state` said in this reading, and when, while the roles needed to interpret it are missing.
    pub unread: Option<(String, Moment)>,
    /// Why HAProxy's answer about it cannot be parsed.
    pub unreadable: Option<String>,
    /// The roles in this process, once they were read.
    pub roles: Option<Roles>,
    /// Why HAProxy rejected the last weight that it rejected, if the read-back still differs.
    pub set_error: Option<SetError>,
    /// Why needed changes are not sent.
    pub withheld: Option<Withheld>,
    /// Whether something else keeps changing its weights.
    pub contention: Contention,
    /// The servers that something else changed, at the last drift.
    pub overwritten: BTreeSet<ServerName>,
    /// Corrections of drift since weightd started.
    pub drift_corrections: u64,
    /// What a node in mode observe would change.
    pub would: Option<Plan>,
    /// When Consul's answer arrived that brought `desired`, until it is sent or deferred.
    arrived: Option<Moment>,
    /// The servers that are new since the last decision.
    added: BTreeSet<ServerName>,
    progress: Progress,
    differs: bool,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            key: KeyState::Unknown,
            desired: None,
            accepted: None,
            not_accepted: None,
            vanished: BTreeSet::new(),
            matched: Matched::Unknown,
            observed: Observed::default(),
            observed_at: None,
            id: None,
            unread: None,
            unreadable: None,
            roles: None,
            set_error: None,
            withheld: None,
            contention: Contention::default(),
            overwritten: BTreeSet::new(),
            drift_corrections: 0,
            would: None,
            arrived: None,
            added: BTreeSet::new(),
            progress: Progress::Fresh(Cause::Start),
            differs: false,
        }
    }
}

impl Backend {
    /// One that is remembered from before weightd started.
    pub fn remembered(stored: StoredBackend) -> Self {
        let accepted = stored.accepted;
        // A document that was guarded when weightd ended has to pass the guards anew.
        let guarded = Guarded { guard: accept::Guard::Settling, usable_since: None };
        let not_accepted = stored.guarded.then_some(NotAccepted::Guarded(guarded));
        let desired = stored.pending.or_else(|| accepted.clone());
        Self { desired, accepted, not_accepted, ..Self::default() }
    }

    /// What must survive a restart of weightd.
    pub fn to_store(&self) -> StoredBackend {
        let accepted = self.accepted.clone();
        let pending = self.desired.clone().filter(|desired| self.accepted.as_ref() != Some(desired));
        StoredBackend { accepted, pending, guarded: self.guarded().is_some() }
    }

    /// Takes what Consul has, read at this moment. True if there is something new to decide.
    pub fn take(&mut self, published: Option<&Published>, read_at: Moment) -> bool {
        match published {
            // Absence is no instruction: a narrowed token looks exactly like a deleted prefix.
            None => {
                self.key = KeyState::Absent;
                self.withdraw();
                false
            }
            Some(Published::Rejected(rejected)) => {
                self.key = KeyState::Rejected(Arc::clone(rejected));
                self.withdraw();
                false
            }
            Some(Published::Valid(Instruction::Release { .. })) => {
                let drift_corrections = self.drift_corrections;
                *self = Self { key: KeyState::Released, drift_corrections, ..Self::default() };
                false
            }
            Some(Published::Valid(Instruction::Weights(desired))) => {
                self.vanished.clear();
                self.desire(Arc::clone(desired), read_at)
            }
            Some(Published::Valid(Instruction::Leaves(leaves))) => {
                let (desired, vanished) = leaves::with_vanished(leaves, self.accepted.as_deref());
                self.vanished = vanished;
                self.desire(desired, read_at)
            }
        }
    }

    fn desire(&mut self, desired: Arc<Desired>, read_at: Moment) -> bool {
        self.key = KeyState::Valid;
        // After a restart `accepted` may be equal without being the same object.
        if self.desired.as_deref() == Some(&*desired) {
            return false;
        }
        self.desired = Some(desired);
        self.not_accepted = None;
        self.arrived = Some(read_at);
        true
    }

    /// A document that is gone must not be accepted later: a person who deletes or overwrites a guarded document wants to
    /// stop it.
    fn withdraw(&mut self) {
        self.desired.clone_from(&self.accepted);
        self.not_accepted = None;
        self.arrived = None;
    }

    /// Whether there is anything to enforce or to decide.
    pub fn managed(&self) -> bool {
        self.desired.is_some() || self.accepted.is_some()
    }

    /// Whether its key, or one of its leaves, vanished from Consul while its weights are enforced.
    pub fn orphaned(&self) -> bool {
        self.managed() && (matches!(self.key, KeyState::Absent) || !self.vanished.is_empty())
    }

    /// A new HAProxy process answers: what was read from the old one is void, except for its health.
    pub fn new_process(&mut self) {
        self.id = None;
        self.unreadable = None;
        self.roles = None;
        self.set_error = None;
        self.contention = Contention::default();
        self.overwritten.clear();
        self.added.clear();
        self.matched = Matched::Unknown;
        if !matches!(self.progress, Progress::Fresh(_)) {
            self.progress = Progress::Fresh(Cause::NewProcess);
        }
    }

    /// Start a reading; discard the unfinished one.
    pub fn begin_reading(&mut self) {
        self.unread = None;
        if self.roles.is_none() {
            self.id = None;
        }
    }

    /// Takes a complete reading.
    pub fn read(&mut self, id: Option<u32>, observed: Observed, added: BTreeSet<ServerName>, now: Moment) {
        self.id = id;
        self.observed = observed;
        // At the first reading of a process every server is new, and none of them was added since.
        if self.matched == Matched::Yes {
            self.added.extend(added);
        }
        self.matched = Matched::Yes;
        self.observed_at = Some(now);
        self.unreadable = None;
    }

    /// HAProxy may have been away: what was usable before may have been down meanwhile.
    pub fn interrupted(&mut self) {
        if let Some(NotAccepted::Guarded(guarded)) = &mut self.not_accepted {
            guarded.usable_since = None;
        }
    }

    /// HAProxy's answer about it cannot be parsed: nothing is known, and nothing is sent.
    pub fn unreadable(&mut self, why: String) {
        self.unreadable = Some(why);
        self.unread = None;
        self.matched = Matched::Unknown;
    }

    /// HAProxy has no such backend.
    pub fn unmatched(&mut self, now: Moment) {
        self.matched = Matched::No;
        self.unreadable = None;
        self.observed = Observed::default();
        self.observed_at = Some(now);
        self.withheld = None;
        self.arrived = None;
    }

    /// Whether the desired weights may be sent without a reading before them.
    ///
    /// A document without a 0 leaves every server able to serve, whatever happened since the last reading, and its
    /// read-back is the next reading. Everything else is decided on a reading of that moment.
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
        // Where nothing is sent there is no read-back either.
        verdict == Verdict::Accepted && !plan.stages.is_empty() && plan.withheld.is_none()
    }

    /// Decides what to send, after a reading or where none is needed. Returns the cause and the plan.
    pub fn decide(&mut self, name: &BackendName, now: Moment) -> Option<(Cause, Plan)> {
        let decided = self.decide_on_reading(name, now);
        self.added.clear();
        if decided.is_none() {
            self.arrived = None;
        }
        decided
    }

    fn decide_on_reading(&mut self, name: &BackendName, now: Moment) -> Option<(Cause, Plan)> {
        self.withheld = None;
        if self.matched != Matched::Yes {
            return None;
        }
        self.contention.settle(now);
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
            // Also for a document that came meanwhile: it waited for the end of the pause, not for weightd.
            Progress::Fresh(Cause::Resume) => Cause::Resume,
            _ if accepted_now => Cause::Document,
            Progress::Fresh(cause) | Progress::Changing(cause) => cause,
            Progress::Withheld(cause) if plan.withheld.is_none() => cause,
            Progress::Withheld(_) | Progress::Converged => self.cause_of_difference(&plan),
        };
        if accepted_now {
            self.set_error = None;
        }
        self.withheld = plan.withheld.as_ref().map(|(why, _)| *why);
        if plan.stages.is_empty() {
            if !matches!(self.progress, Progress::Withheld(_)) || accepted_now {
                self.progress = Progress::Withheld(cause);
            }
            return None;
        }
        // A static algorithm stays static for as long as the process lives.
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

    /// Why weights differ that were read back as accepted before.
    fn cause_of_difference(&self, plan: &Plan) -> Cause {
        let withheld = plan.withheld.iter().flat_map(|(_, changes)| changes);
        let all_new = plan.changes().chain(withheld).all(|change| self.added.contains(&change.server));
        if all_new { Cause::NewServer } else { Cause::Drift }
    }

    /// Takes note of a reading while the backend is paused: nothing is accepted, nothing is sent.
    pub fn observe_paused(&mut self, name: &BackendName, now: Moment) {
        self.withheld = None;
        self.would = None;
        self.added.clear();
        self.arrived = None;
        self.contention.settle(now);
        // What was usable before and during the pause does not count towards settling afterwards.
        self.interrupted();
        if self.matched != Matched::Yes {
            return;
        }
        // Also against what is desired: it is deferred.
        let [accepted, desired] = [&self.accepted, &self.desired]
            .map(|state| state.as_ref().is_some_and(|state| !plan::plan(name, state, &self.observed).is_empty()));
        self.differs = accepted || desired;
        if !self.differs {
            self.progress = Progress::Converged;
        }
    }

    /// A pause ended: a difference at the next reading is no drift, and is corrected at once.
    pub fn resumed(&mut self) {
        self.progress = Progress::Fresh(Cause::Resume);
    }

    /// Asks the guards. True if a document was accepted.
    fn accept(&mut self, now: Moment) -> bool {
        let Some(desired) = &self.desired else { return false };
        let before = self.guarded();
        let verdict = accept::accept(desired, self.accepted.as_deref(), &self.observed, before, now);
        self.not_accepted = match verdict {
            Verdict::Guarded(guarded) => Some(NotAccepted::Guarded(guarded)),
            Verdict::Unmatched => Some(NotAccepted::Unmatched),
            Verdict::Accepted => None,
        };
        let accepted_now = verdict == Verdict::Accepted && self.accepted != self.desired;
        if accepted_now {
            self.accepted.clone_from(&self.desired);
        }
        accepted_now
    }

    /// Takes note of HAProxy's answer to the changes that were sent; the read-back is in place. Returns the changes that
    /// were read back as done, and the next stage if it may follow.
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
            // The next stage relies on this one: it follows only after a read-back showed all of it done.
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

    /// When Consul's answer arrived that these changes come from, if they were sent without being deferred.
    pub fn arrived(&mut self, cause: Cause) -> Option<Moment> {
        if cause == Cause::Document { self.arrived.take() } else { None }
    }

    /// Why `desired` is guarded, if it is.
    pub fn guarded(&self) -> Option<Guarded> {
        match self.not_accepted {
            Some(NotAccepted::Guarded(guarded)) => Some(guarded),
            Some(NotAccepted::Unmatched) | None => None,
        }
    }

    /// Whether HAProxy was read back as accepted and nothing else is desired. Also where it has no such backend: then
    /// there is nothing to set.
    pub fn converged(&self) -> bool {
        match self.matched {
            Matched::Unknown => false,
            Matched::No => true,
            Matched::Yes => self.progress == Progress::Converged && !self.differs && self.not_accepted.is_none(),
        }
    }

    /// Whether what Consul has for it now is invalid.
    pub fn rejected(&self) -> bool {
        matches!(self.key, KeyState::Rejected(_))
    }

    /// Whether the weights are not, or not known to be, as accepted.
    pub fn differs(&self) -> bool {
        self.differs || self.accepted.is_some() && matches!(self.progress, Progress::Fresh(_))
    }

    /// Whether health decides what happens next, so that it is worth reading more often.
    pub fn awaits_health(&self) -> bool {
        self.managed() && (self.guarded().is_some() || self.withheld == Some(Withheld::NothingUsable))
    }

    /// What HAProxy shows to set the weights of these servers, beside weightd.
    pub fn owner<'s>(&self, servers: impl IntoIterator<Item = &'s ServerName>) -> Option<Owner> {
        servers.into_iter().find_map(|name| self.observed.server(name)?.owner)
    }
}
