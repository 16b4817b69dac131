//! Overrides of a backend: they stand in front of the guards in place of the document.
//!
//! ```text
//!   document in force ──override──▶ overridden ──time is over──▶ overridden, expired: the weights stay
//!          ▲                            │                                │
//!          └── resume, or a document above `over`: it has to pass the guards ──┘
//! ```

use std::sync::Arc;

use super::{Backend, Cause, KeyState, leaves, states::Progress};
use crate::{
    desired::{Desired, Instruction, Published},
    overrides::Override,
};

/// An override, and the documents that it stands in front of.
#[derive(Debug)]
pub(super) struct Overriding {
    over: Override,
    /// The last valid document.
    desired: Option<Arc<Desired>>,
    /// The document that was in force when the override began.
    accepted: Option<Arc<Desired>>,
}

impl Backend {
    /// The override, if there is one.
    pub fn overridden(&self) -> Option<&Override> {
        self.overriding.as_ref().map(|overriding| &overriding.over)
    }

    /// The last valid document, whether it is overridden or not.
    pub fn document(&self) -> Option<&Arc<Desired>> {
        match &self.overriding {
            Some(overriding) => overriding.desired.as_ref(),
            None => self.desired.as_ref(),
        }
    }

    /// The document that is in force, or that was in force before the override.
    pub fn document_in_force(&self) -> Option<&Arc<Desired>> {
        match &self.overriding {
            Some(overriding) => overriding.accepted.as_ref(),
            None => self.accepted.as_ref(),
        }
    }

    /// Starts an override, or replaces one. Like a document, it has to pass the guards.
    pub fn start_override(&mut self, over: Override) {
        let (desired, accepted) = match self.overriding.take() {
            Some(earlier) => (earlier.desired, earlier.accepted),
            None => (self.desired.clone(), self.accepted.clone()),
        };
        self.desired = Some(over.desired());
        self.overriding = Some(Box::new(Overriding { over, desired, accepted }));
        self.not_accepted = None;
        self.arrived_at = None;
    }

    /// Restores an override from disk. `accepted` of the backend is what was in force when weightd stopped.
    pub(super) fn restore_override(&mut self, over: Override) {
        let own = over.desired();
        self.start_override(over);
        if let Some(overriding) = &mut self.overriding {
            // The weights of the override are no document.
            overriding.desired.take_if(|desired| **desired == *own);
            overriding.accepted.take_if(|accepted| **accepted == *own);
        }
    }

    /// Ends the override: the document is decided again. Without a document, the backend is not managed any more, and its
    /// weights stay. Returns the override; none if there is none.
    pub fn end_override(&mut self) -> Option<Override> {
        let Overriding { over, desired, .. } = *self.overriding.take()?;
        if desired.is_none() {
            let (key, drift_corrections) = (std::mem::take(&mut self.key), self.drift_corrections);
            *self = Self { key, drift_corrections, ..Self::default() };
        } else {
            self.desired = desired;
            self.not_accepted = None;
            self.arrived_at = None;
            self.progress = Progress::Fresh(Cause::Resume);
        }
        Some(over)
    }

    /// Handles the end of the override's time. The weights stay. Returns whether that is new.
    pub fn expire_override(&mut self, now: crate::model::Moment) -> bool {
        let over = self.overriding.as_mut().map(|overriding| &mut overriding.over);
        let expired = over.filter(|over| !over.expired && over.until <= now).map(|over| over.expired = true);
        expired.is_some()
    }

    /// Sets the moment at which the time of the override is over, after a restart of weightd.
    pub fn time_override(&mut self, until: crate::model::Moment) {
        if let Some(overriding) = &mut self.overriding {
            overriding.over.until = until;
        }
    }

    /// Takes the content of the key behind an override. Returns false if there is none, or if this content ends it.
    pub(super) fn update_behind_override(&mut self, published: Option<&Published>) -> bool {
        let Some(overriding) = &mut self.overriding else { return false };
        match published {
            Some(Published::Valid(instruction)) if instruction.index() > overriding.over.over => {
                if self.end_override().is_some() {
                    self.progress = Progress::Fresh(Cause::Document);
                }
                return false;
            }
            Some(Published::Valid(Instruction::Weights(desired))) => {
                self.vanished.clear();
                overriding.desired = Some(Arc::clone(desired));
                self.key = KeyState::Valid;
            }
            Some(Published::Valid(Instruction::Leaves(leaves))) => {
                let (desired, vanished) = leaves::with_vanished(leaves, overriding.accepted.as_deref());
                overriding.desired = Some(desired);
                self.vanished = vanished;
                self.key = KeyState::Valid;
            }
            // It is older than the override: a person overrode a released backend.
            Some(Published::Valid(Instruction::Release { .. })) => {
                overriding.desired = None;
                self.key = KeyState::Released;
            }
            Some(Published::Rejected(rejected)) => {
                overriding.drop_pending();
                self.key = KeyState::Rejected(Arc::clone(rejected));
            }
            None => {
                overriding.drop_pending();
                self.key = KeyState::Absent;
            }
        }
        true
    }
}

impl Overriding {
    /// Drops a document that was not accepted: see [`Backend::drop_pending`].
    fn drop_pending(&mut self) {
        if self.accepted.is_some() {
            self.desired.clone_from(&self.accepted);
        }
    }
}
