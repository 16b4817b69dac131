//! The share of the new traffic that a weight gives.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{desired::Weights, model::Weight};

/// The share of the new traffic that a server gets: its weight divided by the sum of all named weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    weight: u32,
    sum: u32,
}

impl Share {
    /// Computes the share of a server with `weight` among `weights`.
    pub fn of(weight: Weight, weights: &Weights) -> Self {
        Self { weight: u32::from(weight.get()), sum: weights.values().map(|w| u32::from(w.get())).sum() }
    }

    /// Returns the share in percent, rounded to a tenth; none if the sum is 0.
    pub fn percent(self) -> Option<f64> {
        self.tenths().map(|tenths| f64::from(tenths) / 10.0)
    }

    fn tenths(self) -> Option<u32> {
        (self.weight * 1000 + self.sum / 2).checked_div(self.sum)
    }
}

impl Serialize for Share {
    /// Serializes [`Share::percent`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.percent().serialize(serializer)
    }
}

impl fmt::Display for Share {
    /// Writes `50%` or `33.3%`, with a decimal only if the share is not a whole number. A share above 0 is never shown
    /// as 0%, and a share below 100 % is never shown as 100%.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(tenths) = self.tenths() else { return f.pad("-") };
        let whole = (self.weight * 100).is_multiple_of(self.sum).then(|| self.weight * 100 / self.sum);
        f.pad(&shown(tenths, whole))
    }
}

/// A share in percent. Displays in the same form as [`Share`].
#[derive(Debug, Clone, Copy)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0.clamp(0.0, 100.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
        let tenths = (percent * 10.0).round() as u32;
        // Shares are quotients of small integers, so a value this close to a whole percent is a whole percent.
        let whole = (percent - percent.round()).abs() < 1e-9;
        f.pad(&shown(tenths, whole.then_some(tenths / 10)))
    }
}

fn shown(tenths: u32, whole: Option<u32>) -> String {
    match (whole, tenths) {
        (Some(percent), _) => format!("{percent}%"),
        (None, 0) => "<0.1%".to_owned(),
        (None, 1000) => ">99.9%".to_owned(),
        (None, tenths) => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(weight: u32, sum: u32) -> String {
        let share = Share { weight, sum };
        let percent = Percent(f64::from(weight) * 100.0 / f64::from(sum));
        assert!(sum == 0 || percent.to_string() == share.to_string(), "{share} {percent}");
        share.to_string()
    }

    #[test]
    fn a_decimal_is_shown_only_when_needed() {
        assert_eq!(shown(10, 100), "10%");
        assert_eq!(shown(1, 3), "33.3%");
        assert_eq!(shown(2, 3), "66.7%");
        assert_eq!(shown(1, 1), "100%");
        assert_eq!(shown(0, 7), "0%");
    }

    #[test]
    fn without_weights_there_is_no_share() {
        assert_eq!(shown(0, 0), "-");
        assert_eq!(Share { weight: 0, sum: 0 }.percent(), None);
    }

    #[test]
    fn small_and_large_shares_are_not_rounded_to_0_and_100() {
        assert_eq!(shown(1, 10_000), "<0.1%");
        assert_eq!(shown(9_999, 10_000), ">99.9%");
    }

    proptest! {
        #[test]
        fn only_0_shows_as_0_and_only_100_shows_as_100(weight in 0..=256u32, others in 0..=1_000_000u32) {
            let sum = weight + others;
            prop_assert_eq!(shown(weight, sum) == "0%", weight == 0 && sum > 0);
            prop_assert_eq!(shown(weight, sum) == "100%", weight == sum && sum > 0);
        }
    }
}
