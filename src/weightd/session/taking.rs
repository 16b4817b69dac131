//! What comes in beside HAProxy's answers: what Consul says, and requests for a reading.
//!
//! Must never decide what a weight should be, and must never turn what is absent into an instruction.

use std::{sync::Arc, time::Duration};

use weightd_core::{
    backend::{Backend, Matched},
    desired::DesiredState,
    event::Event,
    model::{BackendName, Moment},
};

use super::Session;

impl Session {
    /// Takes what Consul says, read at this moment. Only the backends with something new are decided at once.
    pub fn take(&mut self, state: &Arc<DesiredState>, read_at: Moment) {
        let before = self.desired.replace(Arc::clone(state));
        // Both are ordered by name, and what did not change is the same object: one step for each.
        let mut before = before.iter().flat_map(|before| &before.backends).peekable();
        for (name, published) in &state.backends {
            while before.next_if(|(earlier, _)| *earlier < name).is_some() {}
            if before.next_if(|same| *same == (name, published)).is_some() {
                continue;
            }
            let backend = self.backends.entry(name.clone()).or_default();
            let pending = backend.accepted != backend.desired;
            let changed = backend.update_key(Some(published), read_at);
            let stops_no_server = backend.desired.as_ref().is_some_and(|desired| desired.stops_no_server());
            // A new document is in Consul until it is accepted. What the disk has of an earlier one, or of a backend that is
            // released, must not come back.
            if pending || !backend.managed() {
                self.stored_form_changed(name);
            }
            self.unsaved.memory = true;
            if changed && stops_no_server {
                self.queue.direct(name.clone());
            } else if changed {
                self.queue.urgent(name.clone());
            }
            self.report(name);
        }
        // Also for what was released.
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
                self.stored_form_changed(&name);
            }
            self.report(&name);
            if !managed && !self.wanted.contains(&name) {
                self.backends.remove(&name);
                self.reported.remove(&name);
            }
        }
        if !self.enforcing {
            self.enforce();
        }
    }

    /// Consul's first read failed: the weights on disk are enforced.
    pub fn consul_failed(&mut self) {
        if !self.enforcing {
            self.events.push(Event::EnforcingFromDisk { failed: true });
            self.enforce();
        }
    }

    /// From now on what is accepted is enforced, whether or not Consul has answered.
    pub fn enforce(&mut self) {
        self.enforcing = true;
        self.read_all_now();
    }

    /// Reads these backends as well, whether or not they are managed.
    pub fn want(&mut self, names: impl IntoIterator<Item = BackendName>) {
        for name in names {
            self.backends.entry(name.clone()).or_default();
            self.queue.urgent(name.clone());
            self.wanted.insert(name);
        }
    }

    /// HAProxy, or its servers, may be different from before: everything is read as soon as possible.
    pub(super) fn read_all_now(&mut self) {
        for backend in self.backends.values_mut() {
            backend.interrupted();
        }
        self.queue.only_urgent(self.read_with().map(|(name, _)| name.clone()).collect());
    }

    /// Reads every backend that HAProxy has and whose last reading is older than `age`, as fast as HAProxy's traffic permits.
    pub fn refresh(&mut self, age: Duration, now: Moment) {
        let old = |backend: &Backend| backend.observed_at.is_none_or(|at| now.since(at) > age);
        let names: Vec<_> = self.present().filter(|(_, b)| old(b)).map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            self.queue.hurry(names, now);
        }
    }

    /// Whether the last reading of every backend that HAProxy has was at most `age` old at `asked`.
    pub fn read_within(&self, age: Duration, asked: Moment) -> bool {
        self.present().all(|(_, backend)| backend.observed_at.is_some_and(|at| asked.since(at) <= age))
    }

    /// The backends that are read and that HAProxy has, as far as is known.
    fn present(&self) -> impl Iterator<Item = (&BackendName, &Backend)> {
        self.read_with().filter(|(_, backend)| backend.matched != Matched::No)
    }
}
