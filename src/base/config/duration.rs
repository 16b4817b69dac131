use std::{ops::RangeInclusive, time::Duration};

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::{Deserialize, Deserializer, de};
use weightd_core::model::Escaped;

/// Text that is no duration, or none that can stand there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A number alone.
    #[error("`{}` has no unit; {EXAMPLES}", Escaped(.0))]
    NoUnit(String),
    /// Anything else.
    #[error("`{}` is not a duration; {EXAMPLES}", Escaped(.0))]
    Malformed(String),
    /// Too short or too long.
    #[error("{} is out of range; write a duration from {} to {}", show(*.value), show(*.least), show(*.greatest))]
    OutOfRange {
        /// What was written.
        value: Duration,
        /// The shortest that can stand there.
        least: Duration,
        /// The longest that can stand there.
        greatest: Duration,
    },
}

const EXAMPLES: &str = r#"write a duration such as "10s", "200ms" or "1m30s""#;

/// Reads a duration such as `10s`, `200ms` or `1m30s`.
///
/// # Errors
/// [`InvalidDuration`] for a bare number, a negative duration, days and longer units, and for what lies
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

/// Writes a duration the way it is read.
pub fn show(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

/// The text of a duration in a file: tells those who forget the unit, where serde would ask for a string.
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
    fn durations_are_written_with_units() {
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
    fn a_bare_number_is_told_to_carry_a_unit() {
        for text in ["10", "0", "1.5", " 10 ", "-1"] {
            let error = parse(text, &ANY).unwrap_err();
            assert!(matches!(error, InvalidDuration::NoUnit(_)), "{text}: {error}");
            assert!(error.to_string().ends_with(r#"write a duration such as "10s", "200ms" or "1m30s""#), "{error}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
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
    fn bounds_belong_to_the_range() {
        let range = Duration::from_millis(50)..=Duration::from_secs(600);
        assert!(parse("50ms", &range).is_ok() && parse("10m", &range).is_ok());
        let error = parse("49ms", &range).unwrap_err();
        assert_eq!(error.to_string(), "49ms is out of range; write a duration from 50ms to 10m");
        assert!(parse("10m1ms", &range).is_err());
    }
}
