use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{
    desired::{Back, Kind, Pattern, Split, Weights},
    model::Timestamp,
};

/// One write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The `ModifyIndex` of the document that was written; none for the newest until the next writer stamps it. 0 for what
    /// was before the first document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// When, by the writer's clock or Consul's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub at: Option<Timestamp>,
    /// Who, as the writer says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub by: Option<String>,
    /// The writer's token, where ACLs are on: a statement by the writer's tool, not evidence.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub token: Option<Token>,
    /// By which way.
    pub way: Way,
    /// What the backend went to.
    pub to: To,
    /// Why, as the writer says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub why: Option<String>,
    /// Whether an operator marked it as a resting point.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Whether it is the end of a rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Of a rollback: the index of the entry that it went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u64>,
    /// Of a rollback: the servers, or patterns of servers, that it took traffic from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raised: Vec<Pattern>,
    /// Whether entries between this one and the one before it in the list were dropped; only the last one can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anchor: bool,
    /// Fields of a newer version, kept.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// What cannot be read is absent: one field of a history is never worth more than the rest of it.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Value::deserialize(deserializer).map(|value| T::deserialize(value).ok())
}

impl Entry {
    /// An entry that says no more than the way and what it went to.
    pub fn new(way: Way, to: To) -> Self {
        Self {
            index: None,
            at: None,
            by: None,
            token: None,
            way,
            to,
            why: None,
            settled: false,
            ended: false,
            target: None,
            raised: Vec::new(),
            anchor: false,
            unknown: BTreeMap::new(),
        }
    }
}

/// What Consul says of the token that wrote. Never its secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    /// Its accessor id.
    pub accessor: String,
    /// Its description.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// By which way something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// `set --create`: the first document.
    Create,
    /// `set`.
    Set,
    /// `shift`.
    Shift,
    /// `release`.
    Release,
    /// `apply`.
    Apply,
    /// `import`.
    Import,
    /// Leaves became a document, or the reverse.
    Convert,
    /// `rollback`.
    Rollback,
    /// A step of a rollout.
    Rollout,
    /// Nothing was written: what the nodes had before the first document.
    Observed,
    /// A write past these tools, such as `consul kv put`.
    Direct,
    /// A word of a newer version.
    Other(String),
}

impl Way {
    const WORDS: [(Self, &'static str); 11] = [
        (Self::Create, "create"),
        (Self::Set, "set"),
        (Self::Shift, "shift"),
        (Self::Release, "release"),
        (Self::Apply, "apply"),
        (Self::Import, "import"),
        (Self::Convert, "convert"),
        (Self::Rollback, "rollback"),
        (Self::Rollout, "rollout"),
        (Self::Observed, "observed"),
        (Self::Direct, "direct"),
    ];

    /// The word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => Self::WORDS.iter().find(|(way, _)| way == known).map_or("", |(_, word)| word),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Way {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Cow::<'de, str>::deserialize(deserializer)?;
        let known = Self::WORDS.into_iter().find(|(_, text)| *text == word);
        Ok(known.map_or_else(|| Self::Other(word.into_owned()), |(way, _)| way))
    }
}

/// What a backend went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A weight for each named server.
    Weights(Weights),
    /// A share for each pattern.
    Split(Split),
    /// The backend was released.
    Release,
    /// The document was deleted.
    Gone,
    /// It was too large for a history.
    Omitted,
    /// Something invalid, or of a newer version.
    Unreadable(Value),
}

impl To {
    /// The same as the field `back` of a document; none for what is no state of servers.
    pub fn as_back(&self) -> Option<Back> {
        match self {
            Self::Weights(weights) => Some(Back::Weights(weights.clone())),
            Self::Split(split) => Some(Back::Split(split.clone())),
            _ => None,
        }
    }
}

impl From<&Kind> for To {
    fn from(kind: &Kind) -> Self {
        match kind {
            Kind::Weights(weights) => Self::Weights(weights.clone()),
            Kind::Split(split) => Self::Split(split.clone()),
            Kind::Release => Self::Release,
        }
    }
}

fn flag(word: &str) -> BTreeMap<&str, bool> {
    BTreeMap::from([(word, true)])
}

impl Serialize for To {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Weights(weights) => BTreeMap::from([("weights", weights)]).serialize(serializer),
            Self::Split(split) => BTreeMap::from([("split", split)]).serialize(serializer),
            Self::Release => flag("release").serialize(serializer),
            Self::Gone => flag("gone").serialize(serializer),
            Self::Omitted => flag("omitted").serialize(serializer),
            Self::Unreadable(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok(back) = Back::deserialize(&value) {
            return Ok(match back {
                Back::Weights(weights) => Self::Weights(weights),
                Back::Split(split) => Self::Split(split),
            });
        }
        let is = |word: &str| value.get(word) == Some(&Value::Bool(true));
        Ok(match () {
            () if is("release") => Self::Release,
            () if is("gone") => Self::Gone,
            () if is("omitted") => Self::Omitted,
            () => Self::Unreadable(value),
        })
    }
}
