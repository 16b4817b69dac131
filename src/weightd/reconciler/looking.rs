//! What to look at next, and what was seen. Pure.
//!
//! Takes from the queues: what is urgent, what has its turn, and what need not be looked at before it is changed. Must
//! never decide what a weight should be.

use std::collections::BTreeSet;

use weightd_core::{
    backend::Matched,
    model::{BackendName, Moment, ServerName},
    observed::{BadReply, Health, Observed, Roles},
};

use super::Reconciler;
use crate::haproxy::reply::{self, ServersState};

/// The most backends that one exchange looks at, so that HAProxy serves traffic between two.
pub const MAX_BATCH: usize = 100;

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
    /// Its id in this process, if its roles are wanted: once per process, after its servers.
    pub roles: Option<u32>,
}

/// When something is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// In its turn, paced.
    InTurn,
}

impl Reconciler {
    /// Whether something is to be looked at: at once, or in its turn.
    pub fn due(&self) -> Option<Due> {
        if !self.enforcing {
            None
        } else if !self.urgent.is_empty() || !self.fresh.is_empty() {
            Some(Due::Now)
        } else if !self.sweep.is_empty() {
            Some(Due::InTurn)
        } else {
            None
        }
    }

    /// Backends that are to be decided without a look before it, at most [`MAX_BATCH`]; see
    /// [`needs_no_look`](weightd_core::backend::Backend::needs_no_look). None for as long as others are urgent: among
    /// those is whatever takes the traffic from a server.
    pub fn next_unseen(&mut self, now: Moment) -> Vec<BackendName> {
        let mut unseen = Vec::new();
        while self.urgent.is_empty()
            && unseen.len() < self.batch
            && let Some(name) = self.fresh.pop_first()
        {
            let needs_none = !self.observe_only
                && self.pauses.of(&name).is_none()
                && self.backends.get(&name).is_some_and(|backend| backend.needs_no_look(&name, now));
            if needs_none {
                unseen.push(name);
            } else {
                self.urgent.insert(name);
            }
        }
        self.looking = unseen.len();
        unseen
    }

    /// The next backends to look at, at most [`MAX_BATCH`]: the urgent ones first.
    pub fn next_batch(&mut self) -> Vec<BackendName> {
        let urgent = !self.urgent.is_empty();
        let mut batch = Vec::new();
        while batch.len() < self.batch {
            let queue = if urgent { &mut self.urgent } else { &mut self.sweep };
            let Some(name) = queue.pop_first() else { break };
            self.sweep.remove(&name);
            self.fresh.remove(&name);
            if let Some(backend) = self.backends.get_mut(&name).filter(|backend| backend.managed()) {
                backend.look_begins();
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

    /// Takes the roles of a backend in this process; none where it is disabled. What was read of its servers in this look
    /// is read with them.
    pub fn take_roles(&mut self, name: &BackendName, roles: Option<Roles>) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let stick_table = self.stick_tables.contains(name);
        backend.roles = Some(Roles { stick_table, ..roles.unwrap_or_default() });
        if let Some((frame, at)) = backend.unread.take() {
            self.observe(name, &frame, at);
        }
    }

    /// Takes what HAProxy says about the servers of a backend; it waits for the roles where those are not known yet. What
    /// cannot be read, or speaks of another backend, is that backend's trouble and nobody else's.
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
        let id = rows.first().map(|row| row.backend_id);
        if id.is_some() && backend.roles.is_none() && backend.managed() {
            if let Some(backend) = self.backends.get_mut(name) {
                backend.id = id;
                backend.unread = Some((frame.to_owned(), now));
            }
            return;
        }
        let health = |backend: &BackendName, server: &ServerName| self.health(backend, server);
        let observed = Observed::new(&rows, backend.roles.as_ref(), Some(&backend.observed), &health);
        if let Some(backend) = self.backends.get_mut(name) {
            backend.observed = observed;
            backend.observed_at = Some(now);
            backend.matched = Matched::Yes;
            backend.unreadable = None;
            backend.id = id;
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
}

#[cfg(test)]
mod tests;
