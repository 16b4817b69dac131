//! Hands off and hands on again: where a pause enters. Pure.
//!
//! While a backend is paused it is watched like any other, and what Consul says about it is kept as desired.
//! But nothing is decided: no document is accepted, nothing is sent, no drift is counted. When the pause ends,
//! the backend is looked at at once, and only then is it decided, by what holds at that moment, whether the last
//! document is accepted and what is to be sent.

use std::collections::BTreeMap;

use weightd_core::{
    model::{BackendName, Moment},
    pauses::{Ended, Pause, Scope},
};

use super::{Event, Reconciler};

impl Reconciler {
    /// From now on nothing is sent to what `scope` is about. A stage that is on its way is the last one.
    pub fn pause(&mut self, scope: &Scope, pause: Pause, now: Moment) {
        let lasts = pause.until.since(now);
        self.events.push(Event::Paused { scope: scope.clone(), pause: pause.clone(), lasts });
        self.pauses.begin(scope.clone(), pause);
        self.unsaved.server_state = true;
        for name in self.covered(scope) {
            self.tell(&name);
        }
    }

    /// Hands are on again: with [`Scope::All`] wherever they are off. Returns how many pauses that ended.
    pub fn resume(&mut self, scope: &Scope, ended: &Ended) -> usize {
        let lifted = self.pauses.lift(scope);
        self.hands_on(&lifted, ended);
        lifted.len()
    }

    /// Ends the pauses whose time is over.
    pub fn expire(&mut self, now: Moment) {
        let over = self.pauses.expire(now);
        self.hands_on(&over, &Ended::Expired);
    }

    fn hands_on(&mut self, pauses: &BTreeMap<Scope, Pause>, ended: &Ended) {
        for (scope, pause) in pauses {
            self.events.push(Event::Resumed { scope: scope.clone(), pause: pause.clone(), ended: ended.clone() });
            for name in self.covered(scope) {
                if self.pauses.of(&name).is_none()
                    && let Some(backend) = self.backends.get_mut(&name)
                    && backend.managed()
                {
                    backend.resumed();
                    self.urgent.insert(name.clone());
                }
                self.tell(&name);
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
