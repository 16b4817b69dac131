//! The small values beside the reports: that a node exists, how many there should be, and what is frozen.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Mode, NodeName};
use crate::model::{Escaped, Timestamp};

/// Why such a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// More bytes than [`BadValue::MAX_BYTES`], and not of a newer version.
    #[error("the value has {0} bytes, more than {max}", max = BadValue::MAX_BYTES)]
    TooLarge(usize),
    /// A version that this program cannot read.
    #[error("the value has version {0}, this program reads version 1")]
    Version(u64),
    /// Not JSON, or not of the right shape.
    #[error("the value is malformed: {}", Escaped(.0))]
    Malformed(String),
}

impl BadValue {
    /// The most bytes of a value.
    pub const MAX_BYTES: usize = 4 * 1024;
}

/// Reads a value; `v` is 1 where it is absent.
pub(super) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, BadValue> {
    #[derive(Deserialize)]
    struct Version {
        v: Option<u64>,
    }

    let malformed = |error: serde_json::Error| BadValue::Malformed(error.to_string());
    // The version comes first: a newer one may allow more bytes.
    match serde_json::from_slice::<Version>(value) {
        Ok(Version { v: Some(other) }) if other != 1 => Err(BadValue::Version(other)),
        _ if value.len() > BadValue::MAX_BYTES => Err(BadValue::TooLarge(value.len())),
        Ok(_) => serde_json::from_slice(value).map_err(malformed),
        Err(error) => Err(malformed(error)),
    }
}

pub(super) fn write<T: Serialize>(v: u64, body: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        v: u64,
        #[serde(flatten)]
        body: &'a T,
    }

    // Texts and numbers in structs: there is nothing that JSON could not hold.
    serde_json::to_vec(&Versioned { v, body }).unwrap_or_default()
}

/// The value of `inventory/<node>`: that the node exists, so that a dead one is missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The node.
    pub node: NodeName,
    /// The machine that holds the name.
    pub machine: String,
    /// Whether it enforces.
    pub mode: Mode,
    /// The names of its HAProxy instances that follow this root.
    #[serde(default)]
    pub instances: Vec<String>,
    /// When it was first there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Another machine that uses the same name, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Duplicate>,
}

/// A machine that uses the name of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The machine.
    pub machine: String,
    /// The start of weightd that wrote this; none of an older version. A copied machine has the machine id of the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Inventory {
    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        read(value)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        write(1, self)
    }
}

/// The value of `expect`: how many nodes there should be, so that hosts without weightd are missed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// How many, nodes in mode observe included.
    pub nodes: u64,
}

impl Expect {
    /// Reads the value of the key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        read(value)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        write(1, self)
    }
}

/// The value of `freeze` and of `freeze/<backend>`. The keys are never deleted: `{}` means that nothing is frozen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Who froze it and why; none where it is not frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
}

/// Who stopped changes, why and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frozen {
    /// Who, as the writer says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Freeze {
    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read; whether something is frozen is then not known.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        read(value)
    }

    /// The value of the key. It has no version, so that `{}` stays what it is.
    pub fn to_value(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
