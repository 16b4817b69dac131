//! Random numbers for tests: the same ones for the same seed, on every machine.

/// A generator (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` to `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// From 0 to `end` − 1; `end` is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with that mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Poisson; above a mean of 60 the rounded normal one.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 60.0 {
            return whole(mean + mean.sqrt() * self.normal());
        }
        let (end, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > end {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// Successes of `n` trials. Exact; takes time for each success.
    pub(crate) fn binomial(&mut self, n: u64, probability: f64) -> u64 {
        if probability <= 0.0 || n == 0 {
            return 0;
        }
        if probability > 0.5 {
            return n - self.binomial(n, 1.0 - probability);
        }
        let step = (1.0 - probability).ln();
        let (mut at, mut count) = (0, 0);
        loop {
            // Trials until the next success.
            at += 1 + whole(((1.0 - self.unit()).ln() / step).floor());
            if at > n {
                return count;
            }
            count += 1;
        }
    }
}

/// The nearest whole number that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
pub(crate) fn whole(x: f64) -> u64 {
    x.round() as u64
}
