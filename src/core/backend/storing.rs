//! The stored form of a backend.

use super::{Backend, NotAccepted};
use crate::{
    accept::{self, Guarded},
    stored::StoredBackend,
};

impl Backend {
    /// Restores a backend from the state on disk.
    pub fn from_stored(stored: StoredBackend) -> Self {
        let accepted = stored.accepted;
        // A document that was guarded when weightd stopped must pass the guards again.
        let guarded = Guarded { guard: accept::Guard::Settling, usable_since: None };
        let not_accepted = stored.guarded.then_some(NotAccepted::Guarded(guarded));
        let desired = stored.pending.or_else(|| accepted.clone());
        let mut backend = Self { desired, accepted, not_accepted, ..Self::default() };
        if let Some(over) = stored.overridden {
            backend.restore_override(over);
        }
        backend
    }

    /// Returns the part of the state that is stored on disk.
    pub fn to_store(&self) -> StoredBackend {
        let accepted = self.accepted.clone();
        let pending = self.document().cloned().filter(|desired| self.accepted.as_ref() != Some(desired));
        let overridden = self.overridden().cloned();
        StoredBackend { accepted, pending, guarded: self.guarded().is_some(), overridden }
    }
}
