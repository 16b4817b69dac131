use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The weight of a server in HAProxy: a whole number from 0 to 256. A server with weight 0 gets new traffic only from
/// users that are pinned to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u16);

/// The value is not a valid weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a weight is a whole number from 0 to 256, written without quotes, sign or percent")]
pub struct InvalidWeight;

impl Weight {
    /// No new traffic.
    pub const ZERO: Self = Self(0);
    /// The greatest weight in HAProxy (`SRV_UWGHT_MAX`).
    pub const MAX: Self = Self(256);

    /// Creates a weight if `value` is in 0..=256. Never clamps.
    ///
    /// # Errors
    /// [`InvalidWeight`] for anything greater.
    pub fn new(value: u64) -> Result<Self, InvalidWeight> {
        u16::try_from(value).ok().filter(|v| *v <= Self::MAX.0).map(Self).ok_or(InvalidWeight)
    }

    /// Parses a weight in the JSON form of a whole number: no sign, no leading zero, no fraction, no quotes. White
    /// space around it is allowed, as in JSON.
    ///
    /// # Errors
    /// [`InvalidWeight`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidWeight> {
        serde_json::from_str(text).map_err(|_| InvalidWeight)
    }

    /// Whether the weight is 0.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the weight as a number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        // serde calls `visit_u64` only for whole numbers without a sign. The other methods return an error by default.
        impl de::Visitor<'_> for Visitor {
            type Value = Weight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a weight: a whole number from 0 to 256, written without quotes, sign or percent")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Weight, E> {
                Weight::new(value).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
        }

        deserializer.deserialize_u64(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_from_0_to_256_are_weights() {
        for n in 0..=256u64 {
            assert_eq!(Weight::parse(&n.to_string()).unwrap().get(), u16::try_from(n).unwrap());
        }
        assert_eq!(Weight::parse(" 50\n"), Ok(Weight(50)));
    }

    #[test]
    fn other_values_are_rejected_and_never_clamped() {
        let not = [
            "",
            " ",
            "-1",
            "-0",
            "257",
            "65536",
            "18446744073709551616",
            "1.5",
            "1e2",
            "1.0",
            "\"50\"",
            "50%",
            "+5",
            "007",
            "null",
            "true",
            "NaN",
            "0x10",
            "50 50",
            "[50]",
            "{}",
            "５",
        ];
        for text in not {
            assert_eq!(Weight::parse(text), Err(InvalidWeight), "{text:?}");
        }
    }
}
