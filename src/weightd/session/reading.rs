//! Reads backends: chooses the next query and evaluates the answers.
//!
//! Must not decide the value of a weight.

use std::collections::BTreeSet;

use weightd_core::{
    backend::{Backend, Matched},
    model::{BackendName, Moment, ServerName},
    observed::{Health, Observed, Roles},
};

use super::{
    Phase, Session, Urgency,
    exchange::{self, BackendRead, ReadFrame, Reads},
};
use crate::haproxy::{
    BadReply,
    reply::{self, ServersState},
};

/// In a new process, round 1 reads the ids, round 2 the roles, round 3 the health of tracked servers.
const ROUNDS: usize = 3;

impl Session {
    /// Returns the backends that are decided now without a reading; see
    /// [`Backend::needs_no_reading`](weightd_core::backend::Backend::needs_no_reading). The others become urgent.
    pub(super) fn next_direct(&mut self, now: Moment) -> Vec<BackendName> {
        let mut direct = Vec::new();
        while direct.len() < self.queue.batch_size()
            && let Some(name) = self.queue.next_direct()
        {
            let needs_no_reading_now = !self.observe_only
                && self.pauses.of(&name).is_none()
                && self.backends.get(&name).is_some_and(|backend| backend.needs_no_reading(&name, now));
            if needs_no_reading_now {
                direct.push(name);
            } else {
                self.queue.push_urgent(name);
            }
        }
        self.queue.in_progress(direct.len());
        direct
    }

    /// Starts to read a batch.
    pub(super) fn start_reading(&mut self, urgency: Urgency, mut batch: Vec<BackendName>) {
        batch.retain(|name| self.backends.get(name).is_some_and(|backend| self.should_read(name, backend)));
        for name in &batch {
            if let Some(backend) = self.backends.get_mut(name) {
                backend.start_reading();
            }
        }
        self.queue.in_progress(if urgency == Urgency::Urgent { batch.len() } else { 0 });
        if !batch.is_empty() {
            let reads = self.reads(&batch);
            let lines = exchange::reads(&reads);
            self.phase = Phase::Reading { batch, reads, round: 1, lines, frames: Vec::new() };
        }
    }

    /// Starts the next round after the last answer of a round, or decides the batch.
    pub(super) fn finish_round(&mut self, batch: Vec<BackendName>, reads: &Reads, round: usize, now: Moment) {
        // Most batches show nothing new. Then the next queries and the decisions are not computed.
        if batch.iter().all(|name| self.has_nothing_to_do(name)) {
            return self.decide(&[], now);
        }
        let next = self.reads(&batch);
        let complete = next.tracked == reads.tracked && next.backends.iter().all(|read| read.roles.is_none());
        if complete || round >= ROUNDS {
            return self.decide(&batch, now);
        }
        let lines = exchange::reads(&next);
        self.phase = Phase::Reading { batch, reads: next, round: round + 1, lines, frames: Vec::new() };
    }

    /// Whether a backend shows what it showed before, and nothing waits for anything.
    fn has_nothing_to_do(&self, name: &BackendName) -> bool {
        let settled = |backend: &Backend| backend.is_unchanged() && !backend.is_split();
        self.backends.get(name).is_some_and(settled) && self.pauses.of(name).is_none()
    }

    /// Queues a batch again that was not read.
    pub(super) fn requeue(&mut self, batch: Vec<BackendName>) {
        self.queue.in_progress(0);
        for name in batch {
            self.queue.push_urgent(name);
        }
    }

    /// Returns the queries for `batch`, as far as they are known. The ids come with the first reading in a process, and
    /// the tracked servers with the roles.
    fn reads(&self, batch: &[BackendName]) -> Reads {
        let backends = batch.iter().map(|name| BackendRead {
            backend: name.clone(),
            roles: self.backends.get(name).filter(|b| b.roles.is_none()).and_then(|b| b.id),
        });
        let tracked: BTreeSet<&BackendName> = batch
            .iter()
            .filter_map(|name| self.backends.get(name)?.roles.as_ref())
            .flat_map(|roles| roles.servers.values().filter_map(|role| Some(&role.tracked.as_ref()?.0)))
            .collect();
        Reads { backends: backends.collect(), tracked: tracked.into_iter().cloned().collect() }
    }

    /// Evaluates one frame of a reading. Returns false if the rest of the answer must be ignored.
    pub(super) fn take_read(&mut self, frame: &ReadFrame, text: &str, now: Moment) -> bool {
        match frame {
            ReadFrame::Info => match reply::info(text) {
                Ok(info) => {
                    let same = self.identify_process(&info, now);
                    if same && self.down.is_none() {
                        // As good as a poll.
                        self.poll_at = now + self.timing.process_poll;
                    }
                    return same;
                }
                Err(bad) => {
                    self.not_haproxy(&bad, now);
                    return false;
                }
            },
            ReadFrame::Roles(name) => match reply::roles(text) {
                Ok(roles) => self.take_roles(name, roles),
                Err(bad) => self.unreadable(name, &bad),
            },
            ReadFrame::Servers(name) => self.take_servers(name, text, now),
        }
        true
    }

    /// Evaluates the servers of a backend, unless they are as in the reading before and there is nothing to do.
    fn take_servers(&mut self, name: &BackendName, text: &str, now: Moment) {
        if let Some(backend) = self.backends.get_mut(name)
            && backend.settled_text().is_some_and(|before| reply::same_servers(before, text))
        {
            return backend.read_again(now);
        }
        self.observe(name, text, now);
        if let Some(backend) = self.backends.get_mut(name) {
            backend.set_text(text);
        }
    }

    /// Stores the roles of a backend in this process; `None` if HAProxy reports the backend as disabled. Then evaluates
    /// the servers that waited for the roles.
    fn take_roles(&mut self, name: &BackendName, roles: Option<Roles>) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let stick_table = self.stick_tables.contains(name);
        backend.roles = Some(Roles { stick_table, disabled: roles.is_none(), ..roles.unwrap_or_default() });
        if let Some((text, at)) = backend.raw_state.take() {
            self.observe(name, &text, at);
        }
    }

    /// Evaluates the servers of a backend. They wait in `raw_state` until the roles are known. An answer that cannot be
    /// parsed, or that names another backend, affects this backend only.
    pub(super) fn observe(&mut self, name: &BackendName, text: &str, now: Moment) {
        let rows = match reply::servers_state(text) {
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
                return self.unreadable(name, &other);
            }
            Err(bad) => return self.unreadable(name, &bad),
        };
        let Some(backend) = self.backends.get(name) else {
            let observed = Observed::new(&rows, None, self.tracked.get(name), &|_, _| None);
            self.tracked.insert(name.clone(), observed);
            return;
        };
        let id = rows.first().map(|row| row.backend_id);
        if id.is_some() && backend.roles.is_none() && self.should_read(name, backend) {
            if let Some(backend) = self.backends.get_mut(name) {
                backend.id = id;
                backend.raw_state = Some((text.to_owned(), now));
            }
            return;
        }
        let health = |backend: &BackendName, server: &ServerName| self.health(backend, server);
        let observed = Observed::new(&rows, backend.roles.as_ref(), Some(&backend.observed), &health);
        let added = match (backend.matched, backend.observed_at) {
            (Matched::Yes, Some(at)) => backend.observed.added(&rows, now.since(at)).collect(),
            _ => BTreeSet::new(),
        };
        if let Some(backend) = self.backends.get_mut(name) {
            backend.read(id, observed, added, now);
        }
    }

    /// Records that the answer about a backend cannot be parsed.
    fn unreadable(&mut self, name: &BackendName, bad: &BadReply) {
        if let Some(backend) = self.backends.get_mut(name) {
            backend.unreadable(bad.to_string());
        }
    }

    /// Returns the health of a server from the last reading.
    fn health(&self, backend: &BackendName, server: &ServerName) -> Option<Health> {
        let observed = self.backends.get(backend).map(|b| &b.observed).filter(|o| !o.servers.is_empty());
        Some(observed.or_else(|| self.tracked.get(backend))?.server(server)?.health)
    }
}

#[cfg(test)]
mod tests;
