//! Starts and ends pauses.
//!
//! weightd still reads a paused backend and keeps the latest document of Consul as desired. But it accepts no document,
//! sends no command and counts no drift. When the pause ends, weightd reads the backend at once. It then decides from
//! that reading whether to accept the latest document and what to send.

use std::collections::BTreeMap;

use weightd_core::{
    event::Event,
    model::{BackendName, Moment},
    pauses::{Ended, Pause, Scope},
};

use super::Session;

impl Session {
    /// Pauses `scope`: weightd sends nothing more to its backends. A line that was already sent is the last one.
    pub fn pause(&mut self, scope: &Scope, pause: Pause, now: Moment) {
        let lasts = pause.until.since(now);
        self.events.push(Event::Paused { scope: scope.clone(), pause: pause.clone(), lasts });
        self.pauses.start(scope.clone(), pause);
        self.unsaved.server_state = true;
        for name in self.backends_in(scope) {
            self.report(&name);
        }
    }

    /// Ends the pause and the override of `scope`; with [`Scope::All`], all of them. Returns how many ended.
    pub fn resume(&mut self, scope: &Scope, ended: &Ended) -> usize {
        let lifted = self.pauses.lift(scope);
        self.resumed(&lifted, ended);
        lifted.len() + self.end_overrides(scope, ended)
    }

    /// Ends the expired pauses.
    pub(super) fn expire(&mut self, now: Moment) {
        if self.pauses.next_end().is_some_and(|end| end <= now) {
            let expired = self.pauses.expire(now);
            self.resumed(&expired, &Ended::Expired);
        }
    }

    fn resumed(&mut self, pauses: &BTreeMap<Scope, Pause>, ended: &Ended) {
        for (scope, pause) in pauses {
            self.events.push(Event::Resumed { scope: scope.clone(), pause: pause.clone(), ended: ended.clone() });
            for name in self.backends_in(scope) {
                if self.pauses.of(&name).is_none()
                    && let Some(backend) = self.backends.get_mut(&name)
                    && backend.managed()
                {
                    backend.resumed();
                    self.queue.push_urgent(name.clone());
                }
                self.report(&name);
            }
        }
    }

    pub(super) fn backends_in(&self, scope: &Scope) -> Vec<BackendName> {
        match scope {
            Scope::All => self.backends.keys().cloned().collect(),
            Scope::Backend(name) => {
                self.backends.get_key_value(name).map(|(name, _)| name.clone()).into_iter().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
