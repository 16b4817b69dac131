//! One HAProxy of this host: the state that its task shares with status readers and pause requests.
//!
//! The lock is held briefly and never across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{self, Notify, watch};

use super::session::Session;
use crate::{
    consul::watch::{Feed, Link, WatchHandle},
    haproxy::Address,
};

/// One HAProxy.
#[derive(Debug)]
pub struct Instance {
    /// The name from the configuration.
    pub name: String,
    /// The address of its runtime API.
    pub address: Address,
    /// The root of its keys in Consul.
    pub root: String,
    /// The latest state of Consul.
    pub feed: watch::Receiver<Feed>,
    /// The status of the connection to Consul.
    pub link: watch::Receiver<Link>,
    /// Wakes the task after a change by another part.
    pub wake: Notify,
    /// Wakes the publisher of the root: the state of this HAProxy or of a backend changed.
    pub changed: Arc<Notify>,
    /// Wakes the file writer when there may be unsaved changes.
    pub unsaved: Notify,
    /// Held from a decision until the answer to its line.
    pub exchange: sync::Mutex<()>,
    session: Mutex<Session>,
}

impl Instance {
    /// Creates an instance that was not read yet.
    pub fn new(
        name: String,
        address: Address,
        root: String,
        followed: &WatchHandle,
        changed: Arc<Notify>,
        session: Session,
    ) -> Self {
        Self {
            name,
            address,
            root,
            feed: followed.feed.clone(),
            link: followed.link.clone(),
            wake: Notify::new(),
            changed,
            unsaved: Notify::new(),
            exchange: sync::Mutex::new(()),
            session: Mutex::new(session),
        }
    }

    /// Whether the session has the latest state of Consul. Between an answer of Consul and the next step of the task it
    /// does not have it.
    pub fn has_taken_feed(&self, session: &Session) -> bool {
        match &*self.feed.borrow() {
            Feed::Waiting | Feed::Unavailable => true,
            Feed::State { state, .. } => session.desired.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, state)),
        }
    }

    /// Locks and returns the session.
    pub fn lock(&self) -> MutexGuard<'_, Session> {
        // A panic ends the program (see `panic` in Cargo.toml), so that only a panicking test can poison the lock.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
