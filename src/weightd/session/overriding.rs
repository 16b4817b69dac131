//! Starts and ends overrides, and raises the alarm when the time of one is over.

use std::{sync::Arc, time::Duration};

use weightd_core::{
    backend::Backend,
    desired::Published,
    event::Event,
    model::{BackendName, Moment},
    overrides::Override,
    pauses::{Ended, Scope},
};

use super::Session;

impl Session {
    /// The highest `ModifyIndex` that is known of a backend: an override is over all documents up to it.
    pub fn highest_index(&self, name: &BackendName) -> u64 {
        let published = self.desired.as_ref().and_then(|state| state.backends.get(name)).map(Published::index);
        let backend = self.backends.get(name);
        let known = [backend.and_then(Backend::document), backend.and_then(Backend::document_in_force)];
        let known = known.into_iter().flatten().map(|document| document.index);
        let over = backend.and_then(Backend::overridden).map(|over| over.over);
        published.into_iter().chain(known).chain(over).max().unwrap_or(0)
    }

    /// Overrides a known backend. Returns false if the backend is unknown.
    pub fn start_override(&mut self, name: &BackendName, over: Override, now: Moment) -> bool {
        let Some(backend) = self.backends.get_mut(name) else { return false };
        let lasts = over.until.since(now);
        backend.start_override(over.clone());
        self.events.push(Event::Overridden { backend: name.clone(), over, lasts });
        self.mark_changed(name);
        self.unsaved.server_state = true;
        self.queue.push_urgent(name.clone());
        self.next_override_end();
        self.report(name);
        true
    }

    /// Sets the ends of the overrides from disk. `wall_second` is the present time in seconds since 1970. An override whose
    /// time is over stays: only a person or a newer document ends it.
    pub fn restore_overrides(&mut self, wall_second: i64, now: Moment) {
        for backend in self.backends.values_mut() {
            let Some(over) = backend.overridden() else { continue };
            let left = u64::try_from(over.until_second.saturating_sub(wall_second)).unwrap_or(0);
            backend.time_override(now + Duration::from_secs(left));
        }
        self.next_override_end();
    }

    /// Ends the overrides of `scope`. Returns how many ended.
    pub fn end_overrides(&mut self, scope: &Scope, ended: &Ended) -> usize {
        let mut count = 0;
        for name in self.backends_in(scope) {
            let Some(over) = self.backends.get_mut(&name).and_then(Backend::end_override) else { continue };
            count += 1;
            self.override_ended(&name, over, Some(ended.clone()));
            self.mark_changed(&name);
            self.queue.push_urgent(name.clone());
            self.report(&name);
        }
        count
    }

    pub(super) fn override_ended(&mut self, name: &BackendName, over: Override, ended: Option<Ended>) {
        self.events.push(Event::OverrideEnded { backend: name.clone(), over, ended });
        self.unsaved.server_state = true;
        self.next_override_end();
    }

    /// Raises the alarm for each override whose time is over.
    pub(super) fn expire_overrides(&mut self, now: Moment) {
        if self.override_ends.is_none_or(|end| end > now) {
            return;
        }
        let expired =
            self.backends.iter_mut().filter_map(|(name, backend)| backend.expire_override(now).then(|| name.clone()));
        for name in expired.collect::<Vec<_>>() {
            self.report(&name);
        }
        self.next_override_end();
    }

    fn next_override_end(&mut self) {
        let overrides = self.backends.values().filter_map(Backend::overridden);
        self.override_ends = overrides.filter(|over| !over.expired).map(|over| over.until).min();
    }
}

/// Whether a backend has the weights of its override, read back.
pub fn in_force(backend: &Backend, over: &Override) -> bool {
    let own: Arc<_> = over.desired();
    backend.accepted.as_ref() == Some(&own) && backend.converged()
}

#[cfg(test)]
mod tests;
