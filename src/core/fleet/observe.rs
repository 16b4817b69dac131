//! The value of `observe/<backend>/<random>`: somebody wants the nodes to report on a backend.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::marks::{BadValue, read, write};
use crate::{desired::Pattern, model::ServerName};

/// A wish for numbers of one backend. In JSON, with `v` first:
///
/// ```json
/// {"v": 1, "sides": {"from": ["blue-*"], "to": ["green-*"]}, "per": "side", "seq": 3, "by": "alice"}
/// ```
///
/// The observer rewrites the key every [`Observation::RENEW_SECONDS`] and deletes it at the end. A node forgets the key
/// [`Observation::FORGET_SECONDS`] after its `ModifyIndex` last moved, by its own monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What is counted together.
    #[serde(flatten)]
    pub view: View,
    /// How often the observer has rewritten the key. It must change with each write: Consul does not move the
    /// `ModifyIndex` of a key that is written with the same bytes.
    #[serde(default)]
    pub seq: u64,
    /// Who observes, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which servers are counted together. Two observations with the same view share one report.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct View {
    /// The two sides; without them every server is in `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sides: Option<Sides>,
    /// Whether there is one row a side or one a server.
    #[serde(default)]
    pub per: Per,
}

/// The two sides of an observation: each is a list of server names or patterns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sides {
    /// The side that gets less, or the one to compare with.
    pub from: Vec<Pattern>,
    /// The side that gets more, or the one that is judged.
    pub to: Vec<Pattern>,
}

/// What a row of a report stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The rows are `from`, `to` and `other`.
    #[default]
    Side,
    /// The rows are the servers, by name.
    Server,
}

/// A side of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// A server that a pattern of `from` matches.
    From,
    /// A server that a pattern of `to` matches.
    To,
    /// A server on neither side.
    Other,
}

impl Side {
    /// The name of its row.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
            Self::Other => "other",
        }
    }
}

impl Sides {
    /// The side of a server.
    ///
    /// # Errors
    /// [`BothSides`]: a pattern of each side matches the server.
    pub fn of(&self, server: &ServerName) -> Result<Side, BothSides> {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(server.as_str()));
        match (matches(&self.from), matches(&self.to)) {
            (true, true) => Err(BothSides(server.clone())),
            (true, false) => Ok(Side::From),
            (false, true) => Ok(Side::To),
            (false, false) => Ok(Side::Other),
        }
    }
}

/// A server is on both sides, so that nothing can be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server {0} is on both sides")]
pub struct BothSides(pub ServerName);

impl View {
    /// The side of each server; without sides all are [`Side::Other`].
    ///
    /// # Errors
    /// [`BothSides`] names the first server that is on both.
    pub fn sides_of<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
    ) -> Result<BTreeMap<&'a ServerName, Side>, BothSides> {
        let side = |server: &ServerName| self.sides.as_ref().map_or(Ok(Side::Other), |sides| sides.of(server));
        servers.into_iter().map(|server| Ok((server, side(server)?))).collect()
    }

    /// The name of the view in a report.
    pub fn id(&self) -> ViewId {
        let mut canonical = self.clone();
        if let Some(sides) = &mut canonical.sides {
            for patterns in [&mut sides.from, &mut sides.to] {
                patterns.sort_unstable();
                patterns.dedup();
            }
        }
        // Names and words: there is nothing that JSON could not hold.
        let digest: [u8; 32] = Sha256::digest(serde_json::to_vec(&canonical).unwrap_or_default()).into();
        let [a, b, c, d, ..] = digest;
        ViewId(u32::from_be_bytes([a, b, c, d]))
    }
}

/// The first 8 hexadecimal digits of the SHA-256 of a [`View`]: of its JSON without spaces, `sides` before `per`, the
/// patterns of each side sorted and without repetition.
///
/// The sides `["blue"]` and `["green"]` per side are the text
/// `{"sides":{"from":["blue"],"to":["green"]},"per":"side"}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(u32);

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ViewId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ViewId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let hexadecimal = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = hexadecimal.then(|| u32::from_str_radix(&text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| de::Error::custom("the name of a view has 8 hexadecimal digits"))
    }
}

impl Observation {
    /// How often the observer rewrites its key.
    pub const RENEW_SECONDS: u64 = 30;
    /// How long a node keeps a key that does not move.
    pub const FORGET_SECONDS: u64 = 60;
    /// The most patterns of a side.
    pub const MAX_PATTERNS: usize = 64;

    /// Reads the value of a key, at most [`BadValue::MAX_BYTES`].
    ///
    /// # Errors
    /// [`BadValue`] says why it is no observation; the nodes ignore it then.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        let observation: Self = read(value)?;
        if let Some(Sides { from, to }) = &observation.view.sides {
            for (name, patterns) in [("from", from), ("to", to)] {
                if patterns.is_empty() || patterns.len() > Self::MAX_PATTERNS {
                    let what =
                        format!("`{name}` has {} patterns; it must have 1 to {}", patterns.len(), Self::MAX_PATTERNS);
                    return Err(BadValue::Malformed(what));
                }
            }
        }
        Ok(observation)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        write(1, self)
    }
}

#[cfg(test)]
mod tests;
