//! Everything that is remembered of one HAProxy, and what is decided on it. Pure: no I/O, no clock.

mod looking;
mod pausing;
mod server_state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use looking::{Due, Look, MAX_BATCH, Reads};
use weightd_core::{
    backend::{Backend, Matched, Why},
    desired::DesiredState,
    event::Event,
    model::{BackendName, Moment},
    observed::{Observed, Refusal},
    pauses::Pauses,
    plan::{Change, Plan},
    reasons,
    stored::{Stored, StoredBackend},
};

use crate::haproxy::Info;

/// The HAProxy process that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its Pid.
    pub pid: u32,
    /// Its uptime when it last answered, in seconds.
    pub uptime: u64,
    /// Its version.
    pub version: String,
    /// What its socket permits: `admin` is needed. Empty until it was asked.
    pub level: String,
    /// How many processes share the configuration: 1, but for `nbproc`.
    pub processes: u32,
}

/// What `show info` tells about the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The one known.
    Same,
    /// Another: all weights are the configuration's again.
    New,
    /// An old one that is about to end, after a reload: what it says counts no more.
    Old,
}

/// What is remembered of one HAProxy.
#[derive(Debug, Default)]
pub struct Reconciler {
    /// Every backend that Consul or the disk ever mentioned.
    pub backends: BTreeMap<BackendName, Backend>,
    /// The process that answers.
    pub process: Option<Process>,
    /// How many processes have answered since weightd started.
    pub processes: u64,
    /// The backends that have a stick table in this process.
    pub stick_tables: BTreeSet<BackendName>,
    /// What Consul said last; none before its first answer.
    pub state: Option<Arc<DesiredState>>,
    /// Whether anything may be enforced: from Consul's first answer on, or once it is late.
    pub enforcing: bool,
    /// Whether plans are only told of and never handed out.
    pub observe_only: bool,
    /// Corrections of drift since weightd started, also of backends that are gone.
    pub drift_corrections: u64,
    /// What may lie on disk in another form.
    pub unsaved: Unsaved,
    /// What a person told this node to keep its hands off.
    pub pauses: Pauses,
    /// To be looked at at once.
    urgent: BTreeSet<BackendName>,
    /// To be decided at once, and without a look where that is not needed. What is urgent as well is urgent.
    fresh: BTreeSet<BackendName>,
    /// To be looked at in its turn.
    sweep: BTreeSet<BackendName>,
    /// Backends that are only read, because servers track theirs.
    tracked: BTreeMap<BackendName, Observed>,
    events: Vec<Event>,
    /// How many backends one look may take: fewer after one whose answer was too much.
    batch: usize,
    /// How many backends that were due at once are being worked on, and not yet decided.
    looking: usize,
}

impl Reconciler {
    /// One that remembers what lay on disk.
    pub fn new(stored: Stored, observe_only: bool) -> Self {
        let backends = stored.backends.into_iter().map(|(name, stored)| (name, Backend::remembered(stored))).collect();
        Self { backends, observe_only, batch: MAX_BATCH, ..Self::default() }
    }

    /// What is to lie on disk.
    pub fn to_store(&self) -> Stored {
        let backends = self.backends.iter().filter(|(_, b)| b.managed());
        let stored = backends.map(|(name, backend)| {
            let accepted = backend.accepted.clone();
            let pending = backend.desired.clone().filter(|desired| backend.accepted.as_ref() != Some(desired));
            (name.clone(), StoredBackend { accepted, pending, guarded: backend.guarded.is_some() })
        });
        Stored { backends: stored.collect() }
    }

    /// Takes what Consul says. Only the backends that it says something new about are due at once.
    pub fn take(&mut self, state: &Arc<DesiredState>) {
        let before = self.state.replace(Arc::clone(state));
        // Both are in the order of their names, and what did not change is the same object: one step for each.
        let mut before = before.iter().flat_map(|before| &before.backends).peekable();
        for (name, source) in &state.backends {
            while before.next_if(|(earlier, _)| *earlier < name).is_some() {}
            if before.next_if(|same| *same == (name, source)).is_some() {
                continue;
            }
            let backend = self.backends.entry(name.clone()).or_default();
            let news = backend.take(Some(source));
            self.unsaved.memory = true;
            if news {
                let harmless = backend.desired.as_ref().is_some_and(|desired| desired.stops_no_server());
                let queue = if harmless { &mut self.fresh } else { &mut self.urgent };
                queue.insert(name.clone());
            }
            self.tell(name);
        }
        // Also what was released.
        self.unsaved.server_state = true;
        let mut there = state.backends.keys().peekable();
        let vanished = self.backends.keys().filter(|name| {
            while there.next_if(|earlier| earlier < name).is_some() {}
            there.peek() != Some(name)
        });
        for name in vanished.cloned().collect::<Vec<_>>() {
            let managed = self.backends.get_mut(&name).is_some_and(|backend| {
                self.unsaved.memory |= backend.accepted != backend.desired;
                backend.take(None);
                backend.managed()
            });
            self.tell(&name);
            if !managed {
                self.backends.remove(&name);
            }
        }
        if !self.enforcing {
            self.enforce();
        }
    }

    /// From now on what is accepted is enforced, whether or not Consul has answered.
    pub fn enforce(&mut self) {
        self.enforcing = true;
        self.look_at_all_now();
    }

    /// HAProxy, or what it runs, may be another than before: everything is looked at as soon as can be.
    pub fn look_at_all_now(&mut self) {
        for backend in self.backends.values_mut() {
            backend.interrupted();
        }
        self.sweep.clear();
        self.fresh.clear();
        self.urgent = self.managed().cloned().collect();
    }

    /// Everything is looked at again, in its turn.
    pub fn resync(&mut self) {
        self.sweep = self.managed().cloned().collect();
    }

    /// What waits for a server's health or for the end of a pause is looked at soon.
    pub fn recheck(&mut self, now: Moment) {
        self.expire(now);
        let waiting = self.backends.iter().filter(|(_, b)| b.awaits_health() && b.matched != Matched::No);
        self.sweep.extend(waiting.map(|(name, _)| name.clone()));
    }

    fn managed(&self) -> impl Iterator<Item = &BackendName> {
        self.backends.iter().filter(|(_, b)| b.managed()).map(|(name, _)| name)
    }

    /// Tells by `show info` which process answers.
    pub fn process(&mut self, info: &Info) -> Seen {
        if info.stopping {
            return Seen::Old;
        }
        if let Some(process) = &mut self.process
            && process.pid == info.pid
            // A HAProxy that was starved of its processor corrects its clock, which may look like a new process too:
            // looking at everything once more is harmless, missing a new process is not.
            && process.uptime <= info.uptime
        {
            process.uptime = info.uptime;
            return Seen::Same;
        }
        self.process = Some(Process {
            pid: info.pid,
            uptime: info.uptime,
            version: info.version.clone(),
            level: String::new(),
            processes: info.processes,
        });
        self.processes += 1;
        self.tracked.clear();
        for backend in self.backends.values_mut() {
            backend.new_process();
        }
        self.look_at_all_now();
        Seen::New
    }

    /// Decides what to send to the backends that were just looked at, or need no look.
    pub fn decide(&mut self, batch: &[BackendName], now: Moment) -> Vec<(BackendName, Why, Plan)> {
        let mut plans = Vec::new();
        self.looking = 0;
        self.unsaved.server_state = true;
        self.expire(now);
        for name in batch {
            let Some(backend) = self.backends.get_mut(name) else { continue };
            if self.pauses.of(name).is_some() {
                backend.watch(name, now);
                self.tell(name);
                continue;
            }
            let before = (backend.accepted.clone(), backend.guarded.is_some());
            let plan = backend.decide(name, now);
            self.unsaved.memory |= before != (backend.accepted.clone(), backend.guarded.is_some());
            match plan {
                Some((why, plan)) if self.observe_only => {
                    if backend.would.as_ref() != Some(&plan) {
                        self.events.push(Event::Would { backend: name.clone(), why, plan: plan.clone() });
                        backend.would = Some(plan);
                    }
                    self.tell(name);
                }
                Some((why, plan)) => plans.push((name.clone(), why, plan)),
                None => {
                    backend.would = None;
                    self.tell(name);
                }
            }
        }
        plans
    }

    /// Takes note of what HAProxy answered to one stage. Returns the next one if it may follow.
    pub fn applied(
        &mut self,
        name: &BackendName,
        why: Why,
        sent: &[Change],
        refusal: Option<Refusal>,
        now: Moment,
    ) -> Option<Plan> {
        self.unsaved.server_state = true;
        let backend = self.backends.get_mut(name)?;
        let corrected = backend.drift_corrections;
        let (done, next) = backend.applied(name, why, sent, refusal, now);
        // What was on its way when a pause began is the last; the rest is decided anew when that is over.
        let next = next.filter(|_| self.pauses.of(name).is_none());
        self.drift_corrections += backend.drift_corrections - corrected;
        let accepted = backend.accepted.clone();
        if let Some(accepted) = accepted {
            self.events.extend(done.into_iter().map(|change| Event::Changed {
                backend: name.clone(),
                change,
                why,
                accepted: Arc::clone(&accepted),
                at: now,
            }));
        }
        if next.is_none() {
            self.tell(name);
        }
        next
    }

    /// What happened since this was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether every managed backend is as Consul says, and nothing that Consul says is refused.
    pub fn converged(&self) -> bool {
        self.enforcing
            && self.process.is_some()
            && self.settled()
            && self.backends.values().all(|b| !b.rejected() && (!b.managed() || b.converged()))
            && self.state.as_ref().is_none_or(|state| state.stray.is_empty())
    }

    /// Whether nothing is due at once, and nothing that was is still to be decided.
    fn settled(&self) -> bool {
        self.urgent.is_empty() && self.fresh.is_empty() && self.looking == 0
    }

    /// Whether Consul has answered and does not mention a backend that is still enforced.
    pub fn orphaned(&self, name: &BackendName, backend: &Backend) -> bool {
        backend.managed() && self.state.as_ref().is_some_and(|s| !s.backends.contains_key(name))
    }

    /// Notes which reasons of a backend are new and which are gone.
    fn tell(&mut self, name: &BackendName) {
        let Some(backend) = self.backends.get(name) else { return };
        let reasons = reasons::of(backend, self.orphaned(name, backend), self.pauses.of(name));
        let Some(backend) = self.backends.get_mut(name) else { return };
        if reasons == backend.told {
            return;
        }
        let gone = backend.told.iter().filter(|was| !reasons.iter().any(|is| is.reason == was.reason));
        self.events.extend(gone.map(|was| Event::Cleared { backend: name.clone(), reason: was.reason }));
        let news = reasons.iter().filter(|is| !backend.told.contains(is));
        self.events.extend(news.map(|is| Event::Reason { backend: name.clone(), reason: is.clone() }));
        backend.told = reasons;
    }
}

/// What is to be written to disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsaved {
    /// What is remembered differs from what lies there.
    pub memory: bool,
    /// The file that a new HAProxy process begins with may have to say something else.
    pub server_state: bool,
}
