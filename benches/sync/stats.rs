//! Figures from samples.

use std::time::Duration;

/// Times, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds one, if there is one.
    pub fn extend(&mut self, time: Option<Duration>) {
        if let Some(time) = time {
            self.push(time);
        }
    }

    /// Adds those of `other`.
    pub fn append(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// The smallest sample that at least `percent` of them do not exceed; none without samples.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nobody measures 2^52 times"
    )]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// The greatest.
    pub fn max(&self) -> Option<f64> {
        self.percentile(100.0)
    }
}

/// Numbers of things.
#[derive(Debug, Clone, Default)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// Adds one.
    pub fn push(&mut self, count: u64) {
        self.0.push(count);
    }

    /// A count as a figure.
    #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^52")]
    pub fn figure(count: u64) -> f64 {
        count as f64
    }

    /// The mean; none without counts.
    pub fn mean(&self) -> Option<f64> {
        let count = u64::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        Some(Self::figure(self.0.iter().sum()) / Self::figure(count))
    }

    /// The greatest.
    pub fn max(&self) -> Option<f64> {
        self.0.iter().max().copied().map(Self::figure)
    }
}
