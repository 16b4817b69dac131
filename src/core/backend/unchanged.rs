//! A reading that shows what the reading before it showed, of a backend with nothing to do.
//!
//! Most readings are such: a routine pass reads every backend once a second. They are neither parsed nor decided, which
//! takes two thirds of the CPU time of an idle weightd.

use super::{Backend, Matched, states::Progress};
use crate::{model::Moment, observed::Roles};

impl Backend {
    /// HAProxy's answer of the last reading, if that showed the accepted weights and nothing waits for a time, a health or
    /// another backend.
    pub fn settled_text(&self) -> Option<&str> {
        if self.is_settled() { self.text.as_deref() } else { None }
    }

    /// Stores HAProxy's answer after [`Self::read`], which drops the one before.
    pub fn set_text(&mut self, text: &str) {
        self.text = Some(text.into());
    }

    /// Records a reading that shows the same as the one before. The caller has compared it with [`Self::settled_text`].
    pub fn read_again(&mut self, now: Moment) {
        self.observed_at = Some(now);
        self.unchanged = true;
    }

    /// Whether the last reading showed the same as the one before, so that there is nothing to decide.
    pub fn is_unchanged(&self) -> bool {
        self.unchanged && self.is_settled()
    }

    fn is_settled(&self) -> bool {
        let Self { not_accepted, withheld, set_error, overriding, observe_plan, unreadable, .. } = self;
        let waits = not_accepted.is_some()
            || withheld.is_some()
            || set_error.is_some()
            || overriding.is_some()
            || observe_plan.is_some()
            || unreadable.is_some()
            || self.contention.contended()
            || !self.added.is_empty();
        let tracks = |roles: &Roles| roles.servers.values().any(|role| role.tracked.is_some());
        self.matched == Matched::Yes
            && self.progress == Progress::Converged
            && !self.differs
            && !waits
            && self.roles.as_ref().is_some_and(|roles| !tracks(roles))
            && self.desired.is_some()
            && self.desired == self.accepted
    }
}
