//! A released backend: weightd only finds out whether HAProxy has it, once in each process, so that the fleet can tell a
//! release from a name that no HAProxy has.

use super::{Backend, KeyState, Matched};
use crate::observed::Observed;

impl Backend {
    /// Whether the backend is released, and it is unknown whether this HAProxy process has it.
    pub fn is_unread_release(&self) -> bool {
        self.is_only_released() && self.matched == Matched::Unknown
    }

    /// Drops the weights of a released backend: nothing reads them again, so that they would be out of date.
    pub(super) fn forget_if_released(&mut self) {
        if self.is_only_released() {
            (self.observed, self.observed_at) = (Observed::default(), None);
        }
    }

    /// An override manages a released backend as well.
    fn is_only_released(&self) -> bool {
        matches!(self.key, KeyState::Released) && !self.managed()
    }
}
