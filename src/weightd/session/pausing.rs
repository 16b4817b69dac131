//! Where a pause begins and ends.
//!
//! A paused backend is read like any other, and what Consul says about it is kept as desired. But nothing is decided: no
//! document is accepted, nothing is sent, no drift is counted. When the pause ends, the backend is read at once, and only
//! then, by what holds at that moment, it is decided whether the last document is accepted and what is sent.

use std::collections::BTreeMap;

use weightd_core::{
    event::Event,
    model::{BackendName, Moment},
    pauses::{Ended, Pause, Scope},
};

use super::Session;

impl Session {
    /// From now on nothing is sent to the backends of `scope`. A stage that is under way is the last one.
    pub fn pause(&mut self, scope: &Scope, pause: Pause, now: Moment) {
        let lasts = pause.until.since(now);
        self.events.push(Event::Paused { scope: scope.clone(), pause: pause.clone(), lasts });
        self.pauses.start(scope.clone(), pause);
        self.unsaved.server_state = true;
        for name in self.covered(scope) {
            self.report(&name);
        }
    }

    /// Ends the pause of `scope`; with [`Scope::All`] every pause. Returns how many that were.
    pub fn resume(&mut self, scope: &Scope, ended: &Ended) -> usize {
        let lifted = self.pauses.lift(scope);
        self.resumed(&lifted, ended);
        lifted.len()
    }

    /// Ends the pauses whose time is over.
    pub(super) fn expire(&mut self, now: Moment) {
        if self.pauses.next_end().is_some_and(|end| end <= now) {
            let over = self.pauses.expire(now);
            self.resumed(&over, &Ended::Expired);
        }
    }

    fn resumed(&mut self, pauses: &BTreeMap<Scope, Pause>, ended: &Ended) {
        for (scope, pause) in pauses {
            self.events.push(Event::Resumed { scope: scope.clone(), pause: pause.clone(), ended: ended.clone() });
            for name in self.covered(scope) {
                if self.pauses.of(&name).is_none()
                    && let Some(backend) = self.backends.get_mut(&name)
                    && backend.managed()
                {
                    backend.resumed();
                    self.queue.urgent(name.clone());
                }
                self.report(&name);
            }
        }
    }

    fn covered(&self, scope: &Scope) -> Vec<BackendName> {
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
