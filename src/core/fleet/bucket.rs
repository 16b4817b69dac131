use std::time::Duration;

use crate::model::Moment;

/// When a report is written: only when something in it changed, and through a token bucket, so that a node that flaps does
/// not write for ever.
#[derive(Debug)]
pub struct Publisher {
    tokens: u32,
    /// When the bucket had that many tokens.
    counted: Moment,
    /// When the next write may be, whatever the tokens.
    next: Moment,
    /// The last value that was written.
    written: Option<Vec<u8>>,
}

/// What to do with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is written already.
    Nothing,
    /// Write it now.
    Write,
    /// Offer it again at that moment; it may have changed until then.
    Later(Moment),
}

impl Publisher {
    /// The most writes at once.
    const TOKENS: u32 = 10;
    /// How long one more takes.
    const REFILL: Duration = Duration::from_secs(1);
    /// The least time between two writes.
    const SPACING: Duration = Duration::from_millis(100);

    /// A full bucket; nothing is written.
    pub fn new(now: Moment) -> Self {
        Self { tokens: Self::TOKENS, counted: now, next: now, written: None }
    }

    /// What to do with this value. [`Step::Write`] takes a token, and counts the value as written until
    /// [`Publisher::lost`].
    pub fn offer(&mut self, value: &[u8], now: Moment) -> Step {
        if self.written.as_deref() == Some(value) {
            return Step::Nothing;
        }
        if now < self.next {
            return Step::Later(self.next);
        }
        self.refill(now);
        if self.tokens == 0 {
            return Step::Later(self.counted + Self::REFILL);
        }
        self.tokens -= 1;
        self.next = now + Self::SPACING;
        self.written = Some(value.to_vec());
        Step::Write
    }

    /// The last write failed, or its key is gone: the same value has to be written again, at the same pace.
    pub fn lost(&mut self) {
        self.written = None;
    }

    fn refill(&mut self, now: Moment) {
        while self.tokens < Self::TOKENS && now >= self.counted + Self::REFILL {
            self.tokens += 1;
            self.counted = self.counted + Self::REFILL;
        }
        // A full bucket gains nothing, and what passes meanwhile does not count later.
        if self.tokens == Self::TOKENS {
            self.counted = now;
        }
    }
}

#[cfg(test)]
mod tests;
