//! The value of `controller`: who leads. The key is held by the leader's session: without the key nobody leads.

use serde::{Deserialize, Serialize};

use super::{
    keys::MAX_REQUEST,
    stored::{self, BadValue},
};
use crate::model::Timestamp;

/// The leader, and what a plan may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Its name.
    pub name: String,
    /// Its version with its commit.
    #[serde(default)]
    pub version: String,
    /// Since when it leads.
    pub since: Timestamp,
    /// The names of its sources.
    #[serde(default)]
    pub sources: Vec<String>,
    /// The names of its checks.
    #[serde(default)]
    pub checks: Vec<String>,
}

impl Controller {
    /// The most bytes of the key: room for some hundred names of checks.
    pub const MAX_BYTES: usize = 8 * MAX_REQUEST;

    /// Reads the value of the key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        stored::read(value, Self::MAX_BYTES)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        stored::write(self)
    }
}
