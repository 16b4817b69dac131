//! Inputs other than the answers of HAProxy: the state of Consul, and requests for a reading.
//!
//! Must not decide the value of a weight, and must not treat an absent key as an instruction.

use std::{sync::Arc, time::Duration};

use weightd_core::{
    backend::{Backend, Matched},
    desired::DesiredState,
    event::Event,
    model::{BackendName, Moment},
};

use super::Session;

impl Session {
    /// Stores the state of Consul that was read at `read_at`. Only backends with a change are decided at once.
    pub fn set_desired(&mut self, state: &Arc<DesiredState>, read_at: Moment) {
        let before = self.desired.replace(Arc::clone(state));
        // Both maps are ordered by name, and an unchanged document is the same object: one step for each backend.
        let mut before = before.iter().flat_map(|before| &before.backends).peekable();
        for (name, published) in &state.backends {
            while before.next_if(|(earlier, _)| *earlier < name).is_some() {}
            if before.next_if(|same| *same == (name, published)).is_some() {
                continue;
            }
            let backend = self.backends.entry(name.clone()).or_default();
            let pending = backend.accepted != backend.desired;
            let overridden = backend.overridden().cloned();
            let changed = backend.update_key(Some(published), read_at);
            let over = overridden.filter(|_| backend.overridden().is_none());
            let is_unread_release = backend.is_unread_release();
            let stops_no_server = backend.desired.as_ref().is_some_and(|desired| desired.stops_no_server());
            // A new document stays in Consul until it is accepted, so that only these need a new stored form: a pending
            // document that was replaced, and the old document of a released backend. The next start must not enforce
            // those.
            if pending || over.is_some() || !backend.managed() {
                self.mark_changed(name);
            }
            if let Some(over) = over {
                self.override_ended(name, over, None);
            }
            self.unsaved.state = true;
            if changed && stops_no_server {
                self.queue.push_direct(name.clone());
            } else if changed {
                self.queue.push_urgent(name.clone());
            } else if is_unread_release {
                // Nothing waits for it: no weight depends on it.
                self.queue.push_delayed(name, read_at);
            }
            self.report(name);
        }
        // Released backends change the file as well.
        self.unsaved.server_state = true;
        let mut found = state.backends.keys().peekable();
        let vanished = self.backends.keys().filter(|name| {
            while found.next_if(|earlier| earlier < name).is_some() {}
            found.peek() != Some(name)
        });
        for name in vanished.cloned().collect::<Vec<_>>() {
            let Some(backend) = self.backends.get_mut(&name) else { continue };
            let withdrawn = backend.accepted != backend.desired;
            backend.update_key(None, read_at);
            let managed = backend.managed();
            if withdrawn {
                self.mark_changed(&name);
            }
            self.report(&name);
            if !managed && !self.also_read.contains(&name) {
                self.backends.remove(&name);
                self.reported.remove(&name);
            }
        }
        if !self.enforcing {
            self.enforce();
        }
    }

    /// Enforces the weights on disk because the first read of Consul failed.
    pub fn consul_failed(&mut self) {
        if !self.enforcing {
            self.events.push(Event::EnforcingFromDisk { failed: true });
            self.enforce();
        }
    }

    /// Starts to enforce the accepted weights, with or without an answer of Consul.
    pub fn enforce(&mut self) {
        self.enforcing = true;
        self.read_all_now();
    }

    /// Adds backends that are read although no document manages them.
    pub fn also_read(&mut self, names: impl IntoIterator<Item = BackendName>) {
        for name in names {
            self.backends.entry(name.clone()).or_default();
            self.queue.push_urgent(name.clone());
            self.also_read.insert(name);
        }
    }

    /// Queues all backends for an urgent reading, because HAProxy or its servers may have changed.
    pub(super) fn read_all_now(&mut self) {
        for backend in self.backends.values_mut() {
            backend.interrupted();
        }
        self.queue.only_urgent(self.routine_backends().map(|(name, _)| name.clone()).collect());
    }

    /// Starts a fast pass over all existing backends with a last reading older than `age`.
    pub fn refresh(&mut self, age: Duration, now: Moment) {
        let old = |backend: &Backend| backend.observed_at.is_none_or(|at| now.since(at) > age);
        let names: Vec<_> = self.existing_backends().filter(|(_, b)| old(b)).map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            self.queue.start_fast_pass(names, now);
        }
    }

    /// Whether the last reading of every existing backend was at most `age` old at `asked`.
    pub fn read_within(&self, age: Duration, asked: Moment) -> bool {
        self.existing_backends().all(|(_, backend)| backend.observed_at.is_some_and(|at| asked.since(at) <= age))
    }

    /// The backends of the routine pass that HAProxy has, as far as is known.
    fn existing_backends(&self) -> impl Iterator<Item = (&BackendName, &Backend)> {
        self.routine_backends().filter(|(_, backend)| backend.matched != Matched::No)
    }
}
