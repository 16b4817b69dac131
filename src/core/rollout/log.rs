//! The value of `rollouts/log/<b>`: what happened in a rollout, newest last.

use serde::{Deserialize, Serialize};

use super::{
    EventKind,
    keys::MAX_LOG,
    stored::{self, BadValue},
};
use crate::model::Timestamp;

/// What happened in a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Oldest first.
    pub events: Vec<Entry>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The rollout.
    pub rollout: String,
    /// When.
    pub at: Timestamp,
    /// The kind: a stable word, see [`super::EventKind`].
    pub what: String,
    /// For people, with the numbers.
    pub detail: String,
    /// Who caused it; none if it was the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Log {
    /// The most events that are kept.
    pub const MAX_EVENTS: usize = 100;

    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        stored::read(value, MAX_LOG)
    }

    /// The rollouts that the controller itself took back at this time or later.
    pub fn taken_back(&self, since: Timestamp) -> impl Iterator<Item = &str> {
        let back = EventKind::RollingBack.as_str();
        let events =
            self.events.iter().filter(move |event| event.what == back && event.by.is_none() && event.at >= since);
        events.map(|event| event.rollout.as_str())
    }

    /// The log with one more event, within [`Log::MAX_EVENTS`] and [`MAX_LOG`]: the oldest ones are dropped.
    #[must_use]
    pub fn append(mut self, entry: Entry) -> Self {
        self.events.push(entry);
        let more = self.events.len().saturating_sub(Self::MAX_EVENTS);
        self.events.drain(..more);
        while self.events.len() > 1 && self.to_value().len() > MAX_LOG {
            self.events.remove(0);
        }
        self
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        stored::write(self)
    }
}
