//! The decision on the desired document: the guards, after the expansion of a split.

use std::sync::Arc;

use super::{Backend, Matched, NotAccepted};
use crate::{
    accept::{self, Verdict},
    desired::Desired,
    model::Moment,
};

/// What a decision accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// A document.
    Document,
    /// An override.
    Override,
    /// Other weights of the same document: the servers of its split changed.
    Expansion,
}

impl Backend {
    /// Whether the desired document was decided: it is accepted, or [`Backend::not_accepted`] says why not. Without it,
    /// everything that is known is of an older document. If HAProxy does not have the backend, whether that was read since
    /// the document arrived.
    pub fn decided(&self) -> bool {
        match (&self.desired, &self.accepted) {
            _ if self.matched == Matched::No => self.arrived_at.is_none(),
            _ if self.not_accepted.is_some() => true,
            (Some(desired), Some(accepted)) => accepted.is_same_document(desired),
            (desired, accepted) => desired.is_none() && accepted.is_none(),
        }
    }

    /// Applies the guards to `desired`. While it is not accepted, the accepted split follows the servers. Returns what was
    /// accepted; none if nothing was.
    pub(super) fn accept(&mut self, now: Moment) -> Option<Accepted> {
        let accepted = self.accept_desired(now);
        let same = |desired: &Arc<Desired>| self.accepted.as_ref().is_some_and(|own| own.is_same_document(desired));
        let follows = match self.not_accepted {
            None => false,
            Some(NotAccepted::Misfit(_)) => true,
            // If it is the same split, the guards have just rejected this expansion.
            Some(NotAccepted::Guarded(_) | NotAccepted::Unmatched) => !self.desired.as_ref().is_some_and(same),
        };
        if follows && self.expand_accepted(now) {
            return Some(Accepted::Expansion);
        }
        accepted
    }

    fn accept_desired(&mut self, now: Moment) -> Option<Accepted> {
        if let Err(misfit) = self.expand() {
            self.not_accepted = Some(NotAccepted::Misfit(misfit));
            return None;
        }
        let desired = self.desired.as_ref()?;
        let before = self.guarded();
        let verdict = accept::accept(desired, self.accepted.as_deref(), &self.observed, before, now);
        let again = self.accepted.as_ref().is_some_and(|accepted| accepted.is_same_document(desired));
        self.not_accepted = match verdict {
            // The document itself is accepted, and while nothing is usable no other weights help.
            Verdict::Guarded(_) if again && before.is_none() && !self.observed.any_usable() => {
                self.desired.clone_from(&self.accepted);
                return None;
            }
            Verdict::Guarded(guarded) => Some(NotAccepted::Guarded(guarded)),
            Verdict::Unmatched => Some(NotAccepted::Unmatched),
            Verdict::Accepted => None,
        };
        if verdict != Verdict::Accepted || self.accepted == self.desired {
            return None;
        }
        self.accepted.clone_from(&self.desired);
        Some(match (&self.overriding, again) {
            (Some(_), _) => Accepted::Override,
            (None, true) => Accepted::Expansion,
            (None, false) => Accepted::Document,
        })
    }
}
