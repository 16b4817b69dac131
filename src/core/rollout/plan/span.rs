use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in whole seconds, written as `20s`, `5m`, `24h` or `2d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

/// Text that is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is a number and a unit: \"20s\", \"5m\", \"24h\" or \"2d\"")]
pub struct InvalidSpan;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl Span {
    /// That many seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.into_iter().find(|(_, seconds)| self.0 > 0 && self.0.is_multiple_of(*seconds));
        let (unit, seconds) = unit.unwrap_or(('s', 1));
        f.pad(&format!("{}{unit}", self.0 / seconds))
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let unit = text.chars().last().ok_or(InvalidSpan)?;
        let (_, seconds) = UNITS.into_iter().find(|(known, _)| *known == unit).ok_or(InvalidSpan)?;
        let digits = text.strip_suffix(unit).ok_or(InvalidSpan)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidSpan);
        }
        let number: u64 = digits.parse().map_err(|_| InvalidSpan)?;
        number.checked_mul(seconds).map(Self).ok_or(InvalidSpan)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
