use std::{ops::RangeInclusive, time::Duration};

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::{Deserialize, Deserializer, de};
use weightd_core::model::Escaped;

/// The text is not a valid duration, or the duration is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A number without a unit.
    #[error("`{}` has no unit; {EXAMPLES}", Escaped(.0))]
    NoUnit(String),
    /// Any other malformed text.
    #[error("`{}` is not a duration; {EXAMPLES}", Escaped(.0))]
    Malformed(String),
    /// Shorter than `least` or longer than `greatest`.
    #[error("{} is out of range; write a duration from {} to {}", show(*.value), show(*.least), show(*.greatest))]
    OutOfRange {
        /// The duration from the text.
        value: Duration,
        /// The shortest allowed duration.
        least: Duration,
        /// The longest allowed duration.
        greatest: Duration,
    },
}

const EXAMPLES: &str = r#"write a duration such as "10s", "200ms" or "1m30s""#;

/// Parses a duration such as `10s`, `200ms` or `1m30s`.
///
/// # Errors
/// [`InvalidDuration`] for a number without a unit, a negative duration, days and longer units, and a duration
/// outside `range`.
pub fn parse(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, InvalidDuration> {
    if text.trim().parse::<f64>().is_ok() {
        return Err(InvalidDuration::NoUnit(text.to_owned()));
    }
    let value =
        SpanParser::new().parse_unsigned_duration(text).map_err(|_| InvalidDuration::Malformed(text.to_owned()))?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(InvalidDuration::OutOfRange { value, least: *range.start(), greatest: *range.end() })
    }
}

/// Formats a duration in the form that [`parse`] reads.
pub fn show(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

/// The text of a duration in a file. A number without a unit gives [`InvalidDuration::NoUnit`] instead of serde's
/// error about a string.
#[derive(Debug)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(r#"a duration such as "10s""#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Err(E::custom(InvalidDuration::NoUnit(number.to_string())))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                Err(E::custom(InvalidDuration::NoUnit(number.to_string())))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations_with_units_are_parsed() {
        let cases = [
            ("10s", 10_000),
            ("200ms", 200),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1h", 3_600_000),
            ("1.5s", 1_500),
            ("2 minutes", 120_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text, &ANY), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_rejected_with_examples() {
        for text in ["10", "0", "1.5", " 10 ", "-1"] {
            let error = parse(text, &ANY).unwrap_err();
            assert!(matches!(error, InvalidDuration::NoUnit(_)), "{text}: {error}");
            assert!(error.to_string().ends_with(r#"write a duration such as "10s", "200ms" or "1m30s""#), "{error}");
        }
    }

    #[test]
    fn malformed_durations_are_rejected() {
        for text in
            ["", " ", "s", "10x", "-10s", "10s ago", "1d", "1mo", "PT10", "10 s\n5", "∞", "99999999999999999999s"]
        {
            assert!(
                matches!(parse(text, &ANY), Err(InvalidDuration::Malformed(_))),
                "{text:?}: {:?}",
                parse(text, &ANY)
            );
        }
    }

    #[test]
    fn the_bounds_of_the_range_are_inclusive() {
        let range = Duration::from_millis(50)..=Duration::from_secs(600);
        assert!(parse("50ms", &range).is_ok() && parse("10m", &range).is_ok());
        let error = parse("49ms", &range).unwrap_err();
        assert_eq!(error.to_string(), "49ms is out of range; write a duration from 50ms to 10m");
        assert!(parse("10m1ms", &range).is_err());
    }
}
