//! What is remembered of one backend on one HAProxy, and what is decided on it. Pure.

use std::{sync::Arc, time::Duration};

use crate::{
    accept::{self, Guarded, Verdict},
    caveats,
    contention::Contention,
    desired::{Desired, Instruction, Rejected, Source},
    model::{BackendName, Moment},
    observed::{BadReply, Observed, Refusal, Roles},
    plan::{self, Change, Plan, Withheld},
    reasons::Reason,
    stored::StoredBackend,
};

/// How old the last look may be where none is needed before a change: what is told of the change, and whether it is
/// accepted, rests on it. More than a resync, as a rule.
const RECENT: Duration = Duration::from_secs(15);

/// Why weights are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// A document was accepted.
    Document,
    /// The first look since weightd started.
    Start,
    /// A new HAProxy process: its weights are the configuration's.
    NewProcess,
    /// Somebody else changed them.
    Drift,
    /// A pause ended: whatever became due meanwhile.
    Resume,
}

impl Why {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Start => "start",
            Self::NewProcess => "new_process",
            Self::Drift => "drift",
            Self::Resume => "resume",
        }
    }
}

/// What Consul says about the backend now.
#[derive(Debug, Clone, Default)]
pub enum Key {
    /// There is no key, or Consul has not answered since the start.
    #[default]
    Absent,
    /// There is a valid document.
    Valid,
    /// There is something that is refused.
    Rejected(Arc<Rejected>),
    /// There is a release.
    Released,
}

/// Whether this HAProxy has the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matched {
    /// Not looked yet.
    #[default]
    Unknown,
    /// It has.
    Yes,
    /// It has not, which is normal where not every HAProxy has every backend.
    No,
}

/// How far HAProxy's weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// Not compared in this process yet; why it will be changed if it differs.
    Fresh(Why),
    /// They were as accepted once: a difference from now on is drift.
    Converged,
    /// They are being changed, and why.
    Open(Why),
    /// They are as accepted but for changes that are withheld, and why those are due.
    Withheld(Why),
}

/// One backend on one HAProxy.
#[derive(Debug)]
pub struct Backend {
    /// What Consul says now.
    pub key: Key,
    /// The last valid document; that of `accepted` again when its key vanished or is refused.
    pub desired: Option<Arc<Desired>>,
    /// The last one that passed the guards here: what is enforced.
    pub accepted: Option<Arc<Desired>>,
    /// Why `desired` is not `accepted`.
    pub guarded: Option<Guarded>,
    /// Whether HAProxy has it.
    pub matched: Matched,
    /// What HAProxy said last.
    pub observed: Observed,
    /// When it said that.
    pub observed_at: Option<Moment>,
    /// What this HAProxy process calls the backend: `be_id`.
    pub id: Option<u32>,
    /// What `show servers state` said in this look and when, for as long as the roles that it is read with are not known.
    pub unread: Option<(String, Moment)>,
    /// Why what HAProxy says about it cannot be read.
    pub unreadable: Option<BadReply>,
    /// The roles in this process, once they were read.
    pub roles: Option<Roles>,
    /// Why HAProxy refused the last weight that it refused, if the read-back still differs.
    pub refusal: Option<Refusal>,
    /// Why changes that are due are not sent.
    pub withheld: Option<Withheld>,
    /// Whether somebody else keeps changing its weights.
    pub contention: Contention,
    /// Corrections of drift since weightd started.
    pub drift_corrections: u64,
    /// What a node that only observes would change.
    pub would: Option<Plan>,
    /// The reasons that were told of last.
    pub told: Vec<Reason>,
    settled: Settled,
    differs: bool,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            key: Key::Absent,
            desired: None,
            accepted: None,
            guarded: None,
            matched: Matched::Unknown,
            observed: Observed::default(),
            observed_at: None,
            id: None,
            unread: None,
            unreadable: None,
            roles: None,
            refusal: None,
            withheld: None,
            contention: Contention::default(),
            drift_corrections: 0,
            would: None,
            told: Vec::new(),
            settled: Settled::Fresh(Why::Start),
            differs: false,
        }
    }
}

impl Backend {
    /// One that is remembered from before weightd started.
    pub fn remembered(stored: StoredBackend) -> Self {
        let accepted = stored.accepted;
        // A document that was guarded when weightd ended has to prove itself anew.
        let guarded = stored.guarded.then_some(Guarded { guard: accept::Guard::Settling, usable_since: None });
        let desired = stored.pending.or_else(|| accepted.clone());
        Self { desired, accepted, guarded, ..Self::default() }
    }

    /// Takes what Consul says. True if there is something to look at.
    pub fn take(&mut self, source: Option<&Source>) -> bool {
        match source {
            // Absence is no instruction: a narrowed token looks exactly like a deleted prefix.
            None => {
                self.key = Key::Absent;
                self.withdraw();
                false
            }
            Some(Source::Rejected(rejected)) => {
                self.key = Key::Rejected(Arc::clone(rejected));
                self.withdraw();
                false
            }
            Some(Source::Valid(Instruction::Release { .. })) => {
                *self = Self {
                    key: Key::Released,
                    drift_corrections: self.drift_corrections,
                    told: std::mem::take(&mut self.told),
                    ..Self::default()
                };
                false
            }
            Some(Source::Valid(Instruction::Weights(desired))) => {
                self.key = Key::Valid;
                if self.desired.as_deref() != Some(&**desired) {
                    self.desired = Some(Arc::clone(desired));
                    self.guarded = None;
                    // Read from disk, `accepted` may be equal without being the same.
                    return true;
                }
                false
            }
        }
    }

    /// A document that is no longer there must not be accepted later: who deletes or overwrites one that is guarded
    /// wants to stop it.
    fn withdraw(&mut self) {
        self.desired.clone_from(&self.accepted);
        self.guarded = None;
    }

    /// Whether there is anything to enforce or to decide here.
    pub fn managed(&self) -> bool {
        self.desired.is_some() || self.accepted.is_some()
    }

    /// A new HAProxy process answers: what was read of the old one is void, but for its health.
    pub fn new_process(&mut self) {
        self.id = None;
        self.unreadable = None;
        self.roles = None;
        self.refusal = None;
        self.contention = Contention::default();
        self.matched = Matched::Unknown;
        // These are told of once in each process.
        self.told.retain(|reason| !caveats::WORDS.contains(&reason.reason));
        if !matches!(self.settled, Settled::Fresh(_)) {
            self.settled = Settled::Fresh(Why::NewProcess);
        }
    }

    /// A look begins: what an earlier one did not come to the end of counts no more.
    pub fn look_begins(&mut self) {
        self.unread = None;
        if self.roles.is_none() {
            self.id = None;
        }
    }

    /// HAProxy may have been away: what was usable before need not have been so without a break.
    pub fn interrupted(&mut self) {
        if let Some(guarded) = &mut self.guarded {
            guarded.usable_since = None;
        }
    }

    /// What HAProxy says about it cannot be read: nothing is known, and nothing is sent.
    pub fn unreadable(&mut self, why: BadReply) {
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
    }

    /// Whether what Consul says now may be sent without a look before it.
    ///
    /// A document without a 0 leaves every server that could serve able to, whatever happened since the last look, and
    /// its read-back is the look that follows. Everything else is decided on what is there at that moment.
    pub fn needs_no_look(&self, name: &BackendName, now: Moment) -> bool {
        let as_accepted = self.matched == Matched::Yes && self.settled == Settled::Converged && !self.differs;
        let recent = self.observed_at.is_some_and(|at| now.since(at) <= RECENT);
        if !as_accepted || !recent || self.roles.is_none() || self.guarded.is_some() {
            return false;
        }
        let Some(desired) = self.desired.as_ref().filter(|desired| desired.stops_no_server()) else { return false };
        if self.accepted.as_ref() == Some(desired) {
            return false;
        }
        let verdict = accept::accept(desired, self.accepted.as_deref(), &self.observed, None, now);
        let plan = plan::plan(name, desired, &self.observed);
        // Where nothing is to be sent there is no read-back either.
        verdict == Verdict::Accepted && !plan.stages.is_empty() && plan.withheld.is_none()
    }

    /// Decides what to send, after a fresh look or where none is needed. Says why, and what.
    pub fn decide(&mut self, name: &BackendName, now: Moment) -> Option<(Why, Plan)> {
        self.withheld = None;
        if self.matched != Matched::Yes {
            return None;
        }
        self.contention.settle(now);
        let news = self.accept(now);
        let accepted = self.accepted.as_ref()?;
        let plan = plan::plan(name, accepted, &self.observed);
        self.differs = !plan.is_empty();
        if !self.differs {
            self.settled = Settled::Converged;
            self.refusal = None;
            return None;
        }
        let why = match self.settled {
            // Also where it is a document that came meanwhile: it waited for this, and not for weightd.
            Settled::Fresh(Why::Resume) => Why::Resume,
            _ if news => Why::Document,
            Settled::Fresh(why) | Settled::Open(why) => why,
            Settled::Withheld(why) if plan.withheld.is_none() => why,
            Settled::Withheld(_) | Settled::Converged => Why::Drift,
        };
        if news {
            self.refusal = None;
        }
        self.withheld = plan.withheld.as_ref().map(|(why, _)| *why);
        if plan.stages.is_empty() {
            if !matches!(self.settled, Settled::Withheld(_)) || news {
                self.settled = Settled::Withheld(why);
            }
            return None;
        }
        // A static algorithm stays static for as long as the process lives.
        if self.refusal == Some(Refusal::StaticAlgorithm) {
            return None;
        }
        if why == Why::Drift && !self.contention.drifted(now) {
            return None;
        }
        self.settled = Settled::Open(why);
        Some((why, plan))
    }

    /// Takes note of a fresh look at it while a person wants hands off: nothing is accepted, nothing sent.
    pub fn watch(&mut self, name: &BackendName, now: Moment) {
        self.withheld = None;
        self.would = None;
        self.contention.settle(now);
        // What was seen of its side before and during the pause counts for nothing once that is over.
        self.interrupted();
        if self.matched != Matched::Yes {
            return;
        }
        // Also what is only desired: it is kept back.
        let [accepted, desired] = [&self.accepted, &self.desired]
            .map(|state| state.as_ref().is_some_and(|state| !plan::plan(name, state, &self.observed).is_empty()));
        self.differs = accepted || desired;
        if !self.differs {
            self.settled = Settled::Converged;
        }
    }

    /// A pause is over: what differs at the next look is nobody's drift, and is put right at once.
    pub fn resumed(&mut self) {
        self.settled = Settled::Fresh(Why::Resume);
    }

    /// Asks the guards where there is something to decide. True if a document was accepted.
    fn accept(&mut self, now: Moment) -> bool {
        let Some(desired) = &self.desired else { return false };
        let verdict = accept::accept(desired, self.accepted.as_deref(), &self.observed, self.guarded, now);
        self.guarded = match verdict {
            Verdict::Guarded(guarded) => Some(guarded),
            Verdict::Accepted | Verdict::Unmatched => None,
        };
        let news = verdict == Verdict::Accepted && self.accepted != self.desired;
        if news {
            self.accepted.clone_from(&self.desired);
        }
        news
    }

    /// Takes note of what HAProxy answered to the changes that were sent. The fresh observation is in place.
    /// Returns the changes that were read back as done, and the next stage if it may follow.
    pub fn applied(
        &mut self,
        name: &BackendName,
        why: Why,
        sent: &[Change],
        refusal: Option<Refusal>,
        now: Moment,
    ) -> (Vec<Change>, Option<Plan>) {
        let is = |change: &Change| self.observed.server(&change.server).is_some_and(|s| s.weight == change.to);
        let (done, open): (Vec<Change>, Vec<Change>) = sent.iter().cloned().partition(is);
        let Some(accepted) = self.accepted.as_ref() else { return (done, None) };
        let rest = plan::plan(name, accepted, &self.observed);
        self.withheld = rest.withheld.as_ref().map(|(why, _)| *why);
        self.differs = !rest.is_empty();
        if self.differs {
            self.refusal = refusal;
            // The next stage rests on this one: only a read-back that shows all of it done lets it follow.
            if open.is_empty() {
                if !rest.stages.is_empty() {
                    return (done, Some(rest));
                }
                self.settled = Settled::Withheld(why);
            }
        } else {
            self.settled = Settled::Converged;
            self.refusal = None;
        }
        if why == Why::Drift && !done.is_empty() {
            self.drift_corrections += 1;
            self.contention.corrected(now);
        }
        (done, None)
    }

    /// Whether HAProxy was read back as accepted, and nothing waits to be accepted but what names none of its servers.
    pub fn converged(&self) -> bool {
        match self.matched {
            Matched::Unknown => false,
            Matched::No => true,
            Matched::Yes => !self.differs() && self.guarded.is_none(),
        }
    }

    /// Whether what Consul has for it now is refused.
    pub fn rejected(&self) -> bool {
        matches!(self.key, Key::Rejected(_))
    }

    /// Whether the last look found weights that are not as accepted.
    pub fn differs(&self) -> bool {
        self.differs || self.accepted.is_some() && matches!(self.settled, Settled::Fresh(_))
    }

    /// Whether health decides what happens next, so that it is worth looking more often.
    pub fn awaits_health(&self) -> bool {
        self.managed() && (self.guarded.is_some() || self.withheld == Some(Withheld::NothingUsable))
    }
}
