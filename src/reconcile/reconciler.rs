//! Everything that is remembered of one HAProxy, and what to look at next. Pure: no I/O, no clock.

mod pausing;
mod server_state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    backend::{Backend, Matched, Why},
    event::Event,
    pauses::Pauses,
    reasons,
};
use crate::{
    desired::DesiredState,
    haproxy::{
        BadReply, Info, Refusal,
        reply::{self, ServersState},
    },
    model::{BackendName, Moment, ServerName},
    observed::{Health, Observed, Roles},
    plan::{Change, Plan},
    store::{Stored, StoredBackend},
};

/// The most backends that one exchange looks at, so that HAProxy serves traffic between two.
pub const MAX_BATCH: usize = 100;

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

/// What to read of HAProxy for a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Backends that servers of the batch track: to be read first, managed or not.
    pub tracked: Vec<BackendName>,
    /// The batch.
    pub looks: Vec<Look>,
}

/// A backend to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The backend.
    pub backend: BackendName,
    /// Its id in this process, if its roles are wanted as well: once per process.
    pub roles: Option<u32>,
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
    urgent: BTreeSet<BackendName>,
    sweep: BTreeSet<BackendName>,
    /// Backends that are only read, because servers track theirs.
    tracked: BTreeMap<BackendName, Observed>,
    events: Vec<Event>,
    /// How many backends one look may take: fewer after one whose answer was too much.
    batch: usize,
    /// How many urgent backends are being looked at: urgent no more, and not yet decided.
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
            let accepted = backend.accepted.as_deref().cloned();
            let pending = backend.desired.as_deref().filter(|d| backend.accepted.as_deref() != Some(*d)).cloned();
            (name.clone(), StoredBackend { accepted, pending, guarded: backend.guarded.is_some() })
        });
        Stored { backends: stored.collect() }
    }

    /// Takes what Consul says. Only the backends that it says something new about become urgent.
    pub fn take(&mut self, state: &Arc<DesiredState>) {
        let before = self.state.replace(Arc::clone(state));
        let before = before.as_deref();
        for (name, source) in &state.backends {
            // Objects are shared between answers, so what did not change is found by its address.
            if before.is_some_and(|b| b.backends.get(name) == Some(source)) {
                continue;
            }
            let backend = self.backends.entry(name.clone()).or_default();
            let news = backend.take(Some(source));
            self.unsaved.memory = true;
            if news {
                self.urgent.insert(name.clone());
            }
            self.tell(name);
        }
        // Also what was released.
        self.unsaved.server_state = true;
        let vanished: Vec<_> =
            self.backends.keys().filter(|name| !state.backends.contains_key(*name)).cloned().collect();
        for name in vanished {
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

    /// Whether something is to be looked at: at once, or in its turn.
    pub fn due(&self) -> Option<Due> {
        if !self.enforcing {
            None
        } else if !self.urgent.is_empty() {
            Some(Due::Now)
        } else if !self.sweep.is_empty() {
            Some(Due::InTurn)
        } else {
            None
        }
    }

    /// The next backends to look at, at most [`MAX_BATCH`]: the urgent ones first.
    pub fn next_batch(&mut self) -> Vec<BackendName> {
        let urgent = !self.urgent.is_empty();
        let mut batch = Vec::new();
        while batch.len() < self.batch {
            let queue = if urgent { &mut self.urgent } else { &mut self.sweep };
            let Some(name) = queue.pop_first() else { break };
            self.sweep.remove(&name);
            if self.backends.get(&name).is_some_and(Backend::managed) {
                batch.push(name);
            }
        }
        self.looking = if urgent { batch.len() } else { 0 };
        batch
    }

    /// A look was answered, or its answer was more than is taken or than HAProxy gives in time.
    pub fn answered(&mut self, in_bounds: bool) {
        self.batch = if in_bounds { (self.batch * 2).min(MAX_BATCH) } else { (self.batch / 2).max(1) };
    }

    /// What to read for `batch`, as far as is known: ids come with the first read of a process, and the servers that
    /// others track with the roles.
    pub fn reads(&self, batch: &[BackendName]) -> Reads {
        let known = |name: &BackendName| self.backends.get(name);
        let looks = batch.iter().map(|name| Look {
            backend: name.clone(),
            roles: known(name).filter(|b| b.roles.is_none()).and_then(|b| b.id),
        });
        let tracked: BTreeSet<&BackendName> = batch
            .iter()
            .filter_map(|name| known(name)?.roles.as_ref())
            .flat_map(|roles| roles.servers.values().filter_map(|role| Some(&role.tracked.as_ref()?.0)))
            .collect();
        Reads { looks: looks.collect(), tracked: tracked.into_iter().cloned().collect() }
    }

    /// The exchange did not happen: the batch is still to be looked at.
    pub fn put_back(&mut self, batch: impl IntoIterator<Item = BackendName>) {
        self.looking = 0;
        self.urgent.extend(batch);
    }

    /// Takes the roles of a backend in this process; none where it is disabled.
    pub fn take_roles(&mut self, name: &BackendName, roles: Option<Roles>) {
        if let Some(backend) = self.backends.get_mut(name) {
            let stick_table = self.stick_tables.contains(name);
            backend.roles = Some(Roles { stick_table, ..roles.unwrap_or_default() });
        }
    }

    /// Takes what HAProxy says about the servers of a backend. What cannot be read, or speaks of another backend, is that
    /// backend's trouble and nobody else's.
    pub fn observe(&mut self, name: &BackendName, frame: &str, now: Moment) {
        let rows = match reply::servers_state(frame) {
            Ok(ServersState::Servers(rows)) if rows.iter().all(|row| row.backend == name.as_str()) => rows,
            Ok(ServersState::NoBackend) => {
                if let Some(backend) = self.backends.get_mut(name) {
                    backend.unmatched(now);
                }
                self.tracked.remove(name);
                return;
            }
            Ok(ServersState::Servers(_)) => {
                let other = BadReply::Value { command: "show servers state", column: "be_name" };
                return self.unreadable(name, other);
            }
            Err(why) => return self.unreadable(name, why),
        };
        let Some(backend) = self.backends.get(name) else {
            let observed = Observed::new(&rows, None, self.tracked.get(name), &|_, _| None);
            self.tracked.insert(name.clone(), observed);
            return;
        };
        let health = |backend: &BackendName, server: &ServerName| self.health(backend, server);
        let observed = Observed::new(&rows, backend.roles.as_ref(), Some(&backend.observed), &health);
        if let Some(backend) = self.backends.get_mut(name) {
            backend.observed = observed;
            backend.observed_at = Some(now);
            backend.matched = Matched::Yes;
            backend.unreadable = None;
            backend.id = rows.first().map(|row| row.backend_id);
        }
    }

    /// Takes note that what HAProxy says about a backend cannot be read.
    pub fn unreadable(&mut self, name: &BackendName, why: BadReply) {
        if let Some(backend) = self.backends.get_mut(name) {
            backend.unreadable(why);
        }
    }

    /// The health of any server that was read.
    fn health(&self, backend: &BackendName, server: &ServerName) -> Option<Health> {
        let observed = self.backends.get(backend).map(|b| &b.observed).filter(|o| !o.servers.is_empty());
        Some(observed.or_else(|| self.tracked.get(backend))?.server(server)?.health)
    }

    /// Decides what to send to the backends that were just looked at.
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
            && self.urgent.is_empty()
            && self.looking == 0
            && self.backends.values().all(|b| !b.rejected() && (!b.managed() || b.converged()))
            && self.state.as_ref().is_none_or(|state| state.stray.is_empty())
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

/// When something is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// In its turn, paced.
    InTurn,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Decoder, Entry};

    fn say(reconciler: &mut Reconciler, decoder: &mut Decoder, index: u64, green: u16) {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let value = STANDARD.encode(format!(r#"{{"weights":{{"green":{green}}}}}"#));
        let entry = Entry { key: "w/app".into(), value: Some(value.into()), modify_index: index };
        reconciler.take(&Arc::new(decoder.decode(index, &[entry]).unwrap()));
    }

    #[test]
    fn what_is_being_looked_at_is_not_converged_before_it_is_decided() {
        let (mut reconciler, mut decoder) = (Reconciler::new(Stored::default(), false), Decoder::new("w/"));
        let app = BackendName::new("app").unwrap();
        reconciler.process(&Info { version: "3".into(), pid: 1, uptime: 1, stopping: false, processes: 1 });
        let row = "1 app 1 green 127.0.0.1 2 0 10 1 0 1 0 2 0 0 0 0 - 80 -";
        let header = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                      srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
                      srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord";
        let mut look = |reconciler: &mut Reconciler, index, green, expected| {
            say(reconciler, &mut decoder, index, green);
            assert!(!reconciler.converged());
            let batch = reconciler.next_batch();
            reconciler.observe(&app, &format!("1\n{header}\n{row}\n"), Moment::default());
            assert!(!reconciler.converged(), "whatever it will be");
            reconciler.put_back(batch);
            assert!(!reconciler.converged(), "it is still to be looked at");
            let batch = reconciler.next_batch();
            let plans = reconciler.decide(&batch, Moment::default());
            assert_eq!((plans.len(), reconciler.converged()), expected);
        };
        look(&mut reconciler, 1, 10, (0, true));
        look(&mut reconciler, 2, 20, (1, false));
        // A look in its turn has nothing new to decide.
        let mut reconciler = Reconciler::new(Stored::default(), false);
        reconciler.process(&Info { version: "3".into(), pid: 1, uptime: 1, stopping: false, processes: 1 });
        look(&mut reconciler, 1, 10, (0, true));
        reconciler.resync();
        assert_eq!(reconciler.next_batch(), [app]);
        assert!(reconciler.converged());
    }
}
