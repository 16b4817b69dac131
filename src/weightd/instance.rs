//! One HAProxy of this host: what its task shares with those who read its status or pause it.
//!
//! Locked for moments only, never across an await.

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
    /// Where its runtime API is.
    pub address: Address,
    /// The root of the keys that it follows.
    pub root: String,
    /// What Consul says.
    pub feed: watch::Receiver<Feed>,
    /// The connection to Consul.
    pub link: watch::Receiver<Link>,
    /// Wakes the task: something is to be done that it did not cause itself.
    pub wake: Notify,
    /// Wakes the writing of files: something may be unsaved.
    pub unsaved: Notify,
    /// Held from a decision until the answer to the line that it sends.
    pub exchange: sync::Mutex<()>,
    session: Mutex<Session>,
}

impl Instance {
    /// An instance that was not read yet.
    pub fn new(name: String, address: Address, root: String, followed: &WatchHandle, session: Session) -> Self {
        Self {
            name,
            address,
            root,
            feed: followed.feed.clone(),
            link: followed.link.clone(),
            wake: Notify::new(),
            unsaved: Notify::new(),
            exchange: sync::Mutex::new(()),
            session: Mutex::new(session),
        }
    }

    /// Whether the session knows what Consul says by now. Between an answer of Consul and the next step of the task it does
    /// not.
    pub fn has_taken_feed(&self, session: &Session) -> bool {
        match &*self.feed.borrow() {
            Feed::Waiting | Feed::Unavailable => true,
            Feed::State { state, .. } => session.desired.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, state)),
        }
    }

    /// The dialogue with it.
    pub fn lock(&self) -> MutexGuard<'_, Session> {
        // A panic ends the program: see `panic` in Cargo.toml. In a test that panics, what is shown does not matter.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
