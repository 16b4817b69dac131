//! What the task of one HAProxy shares with those who show it.
//!
//! Locked for moments only, never across an await: nobody who looks can hold up the task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{self, Notify, watch};
use weightd_core::model::Moment;

use crate::{consul::watch::Link, haproxy::Address, weightd::reconciler::Reconciler};

/// One HAProxy.
#[derive(Debug)]
pub struct Instance {
    /// The name from the configuration.
    pub name: String,
    /// Where its runtime API is.
    pub address: Address,
    /// The root of the keys it follows.
    pub root: String,
    /// How Consul is.
    pub link: watch::Receiver<Link>,
    /// Wakes the task, when something is due that it did not cause itself.
    pub wake: Notify,
    /// Held from a decision to the read-back of all that it sends.
    pub sending: sync::Mutex<()>,
    inner: Mutex<Inner>,
}

/// The part of an [`Instance`] that changes.
#[derive(Debug)]
pub struct Inner {
    /// What is remembered.
    pub reconciler: Reconciler,
    /// Why HAProxy cannot be used, if it cannot.
    pub down: Option<Down>,
    /// Whether everything was reconciled once since weightd started: what `/ready` is earned by.
    pub reconciled_once: bool,
}

/// Why HAProxy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// A short word.
    pub reason: &'static str,
    /// A sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Since when.
    pub since: Moment,
}

impl Instance {
    /// An instance that has not been looked at.
    pub fn new(
        name: String,
        address: Address,
        root: String,
        link: watch::Receiver<Link>,
        reconciler: Reconciler,
    ) -> Self {
        let inner = Inner { reconciler, down: None, reconciled_once: false };
        let (wake, sending) = (Notify::new(), sync::Mutex::new(()));
        Self { name, address, root, link, wake, sending, inner: Mutex::new(inner) }
    }

    /// What is known now.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the program: see `panic` in Cargo.toml. In a test that panics, what is shown does not matter.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
