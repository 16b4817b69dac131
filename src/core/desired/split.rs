//! Shares by pattern, and the state that a change started from. Types only: which servers a pattern stands for is decided
//! where servers are known.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess},
    ser::SerializeMap,
};

use super::{Invalid, Weights};
use crate::model::{InvalidName, ServerName};

/// The name of a server, or a pattern of names: `*` stands for any characters or none, `?` for exactly one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Takes `text` if a name can match it.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule of names it breaks.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        // A wildcard counts as a character that every name may have.
        let name = ServerName::new(&text.replace(['*', '?'], "_"));
        name.map(|_| Self(Arc::from(text))).map_err(|error| match error {
            InvalidName::TooLong { len, .. } => InvalidName::TooLong { name: text.to_owned(), len },
            InvalidName::Character { found, .. } => InvalidName::Character { name: text.to_owned(), found },
            other => other,
        })
    }

    /// The text as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no wildcard, so that exactly one name matches.
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether the name matches.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }

    /// Whether some name matches both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.is_name(), other.is_name()) {
            (true, true) => self == other,
            (false, true) => self.matches(&other.0),
            (true, false) => other.matches(&self.0),
            (false, false) => overlap(self.0.as_bytes(), other.0.as_bytes()),
        }
    }
}

/// Whether the pattern matches the name: after a `*` that took too little, it is tried again with one character more.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(sign) if *sign == b'?' || *sign == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|sign| *sign == b'*')
}

/// Whether one text matches both patterns.
///
/// The row for `i` says for each `j` whether the ends `a[i..]` and `b[j..]` have a text in common.
fn overlap(a: &[u8], b: &[u8]) -> bool {
    let mut below = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            row[j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some(b'*'), None) => below[j],
                (None, Some(b'*')) => row[j + 1],
                (Some(b'*'), Some(_)) | (Some(_), Some(b'*')) => below[j] || row[j + 1],
                (Some(one), Some(other)) => (one == other || *one == b'?' || *other == b'?') && below[j + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
        below = row;
    }
    below[0]
}

impl From<&ServerName> for Pattern {
    fn from(name: &ServerName) -> Self {
        Self(Arc::from(name.as_str()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// A share of the requests, from 0 to 100 percent in steps of a thousandth of a percent. JSON has it in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PatternShare(u32);

impl PatternShare {
    /// All requests.
    pub const ALL: Self = Self(100_000);

    /// Takes thousandths of a percent, up to those of [`PatternShare::ALL`].
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (thousandths <= Self::ALL.0).then_some(Self(thousandths))
    }

    /// Thousandths of a percent.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// Percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Serialize for PatternShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u32(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.percent())
        }
    }
}

impl<'de> Deserialize<'de> for PatternShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(de::Error::custom("a share is a number from 0 to 100"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100,000")]
        Ok(Self((percent * 1000.0).round() as u32))
    }
}

/// The share of each pattern. The shares add up to 100 percent, but for what rounding to thousandths takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split(BTreeMap<Pattern, PatternShare>);

impl Split {
    /// Takes shares that add up to 100.
    ///
    /// # Errors
    /// A sentence that says what is wrong with them.
    pub fn new(shares: BTreeMap<Pattern, PatternShare>) -> Result<Self, &'static str> {
        if shares.is_empty() {
            return Err("`split` is empty");
        }
        if shares.len() > Invalid::MAX_SERVERS {
            return Err("`split` has more patterns than a backend can have servers");
        }
        let sum: u64 = shares.values().map(|share| u64::from(share.0)).sum();
        if sum.abs_diff(u64::from(PatternShare::ALL.0)) > shares.len() as u64 {
            return Err("the shares of `split` do not add up to 100");
        }
        Ok(Self(shares))
    }

    /// The share of each pattern, ordered by pattern.
    pub fn shares(&self) -> &BTreeMap<Pattern, PatternShare> {
        &self.0
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Split;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of patterns and shares")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Split, A::Error> {
                let mut shares = BTreeMap::new();
                while let Some(pattern) = map.next_key::<Pattern>()? {
                    let share = map.next_value()?;
                    if shares.insert(pattern, share).is_some() {
                        return Err(de::Error::custom("a pattern is there twice"));
                    }
                }
                Split::new(shares).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// The field `back` of a document: where the present shift began, for `override --back` and for display. Enforcement
/// ignores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// A weight for each server: `{"weights": {"blue": 100, "green": 0}}`.
    Weights(Weights),
    /// A share for each pattern: `{"split": {"blue-*": 100, "green-*": 0}}`.
    Split(Split),
}

impl Serialize for Back {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Weights(weights) => map.serialize_entry("weights", weights)?,
            Self::Split(split) => map.serialize_entry("split", split)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Back {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            weights: Option<Weights>,
            split: Option<Split>,
        }

        match Fields::deserialize(deserializer)? {
            Fields { weights: Some(weights), split: None } if !weights.is_empty() => Ok(Self::Weights(weights)),
            Fields { weights: None, split: Some(split) } => Ok(Self::Split(split)),
            _ => Err(de::Error::custom("exactly one of `weights` and `split` is needed")),
        }
    }
}

#[cfg(test)]
mod tests;
