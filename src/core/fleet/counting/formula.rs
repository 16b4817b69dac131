use super::Levels;
use crate::fleet::counters::{Protocol, Sums};

/// What one server counted in one process since its base.
///
/// Works on levels against a base and never on differences of two readings: a request that waits in one reading and fails in
/// a later one is lost by differences.
#[derive(Debug, Clone)]
pub(super) struct Formula {
    base: Levels,
    last: Levels,
    /// Requests that failed without an answer. Never falls: an estimate by what is in flight may be lower later.
    failed: u64,
    /// Running maximum of each number.
    sums: Sums,
}

/// A counter fell: counters were cleared, or another server has this name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backwards;

impl Formula {
    /// Counts from this reading on.
    pub(super) fn since(base: Levels) -> Self {
        let sums = Sums { started: base.sessions, ..Sums::default() };
        Self { base, last: base, failed: 0, sums }
    }

    /// Counts from the start of the process, or of the server.
    pub(super) fn from_zero() -> Self {
        Self::since(Levels::default())
    }

    /// What was counted since the last reading. `unassigned` is how many requests of the backend are at no server just now:
    /// one that waits for its next attempt, for a second, looks at its server like one that failed in silence.
    ///
    /// # Errors
    /// [`Backwards`]: the base is worth nothing any more.
    pub(super) fn take(&mut self, levels: Levels, unassigned: u64, protocol: Protocol) -> Result<Sums, Backwards> {
        if levels.rising().iter().zip(self.last.rising()).any(|(now, before)| *now < before) {
            return Err(Backwards);
        }
        self.last = levels;
        let counted = match protocol {
            Protocol::Http => self.http(levels, unassigned),
            Protocol::Tcp | Protocol::Unknown => self.tcp(levels, unassigned),
        };
        let before = self.sums;
        self.sums = before.with(counted, u64::max);
        Ok(self.sums.with(before, u64::saturating_sub))
    }

    /// Each counter since the base.
    fn delta(&self, levels: &Levels) -> Levels {
        let base = &self.base;
        let mut answers = levels.answers;
        for (number, before) in answers.iter_mut().zip(base.answers) {
            *number = number.saturating_sub(before);
        }
        Levels {
            attempts: levels.attempts.saturating_sub(base.attempts),
            balanced: levels.balanced.saturating_sub(base.balanced),
            sessions: levels.sessions,
            client_aborts: levels.client_aborts.saturating_sub(base.client_aborts),
            server_aborts: levels.server_aborts.saturating_sub(base.server_aborts),
            connect_errors: levels.connect_errors.saturating_sub(base.connect_errors),
            response_errors: levels.response_errors.saturating_sub(base.response_errors),
            retries: levels.retries.saturating_sub(base.retries),
            redispatches: levels.redispatches.saturating_sub(base.redispatches),
            answers,
        }
    }

    /// `balanced` is right where attempts are repeated after an answer, which counts `retries` twice; it is 0 for users with
    /// a cookie and low for requests from a queue. `attempts − retries` is right there.
    fn started(&self, delta: &Levels) -> u64 {
        delta.balanced.max(delta.attempts.saturating_sub(delta.retries)) + self.base.sessions
    }

    fn http(&mut self, levels: Levels, unassigned: u64) -> Sums {
        let delta = self.delta(&levels);
        let answered: u64 = delta.answers.iter().sum();
        let started = self.started(&delta);
        // Attempts without an answer, those in flight included.
        let unanswered = started.saturating_sub(answered);
        // Of these, the ones that neither wait nor were given up by the client.
        let waiting = delta.sessions + unassigned;
        let silent = unanswered.saturating_sub(waiting).saturating_sub(delta.client_aborts);
        // The failures that HAProxy names. It may count one twice, which `unanswered` caps.
        let named =
            delta.connect_errors + delta.redispatches + delta.response_errors.saturating_sub(delta.server_aborts);
        self.failed = self.failed.max(silent).max(unanswered.min(named));
        let ended = answered + self.failed;
        let [_, _, redirected, refused, status_5xx, _] = delta.answers;
        let failures = ended.min(status_5xx + self.failed + delta.server_aborts);
        // A failed attempt that another server answered is no request of this one, and no error.
        let masked = self.failed.min(delta.redispatches);
        let errors = failures - masked;
        let connect = delta.connect_errors.min(errors);
        Sums {
            requests: ended - masked,
            errors,
            attempts: delta.attempts,
            masked: delta.attempts.min(delta.retries + delta.redispatches),
            answered,
            refused,
            redirected,
            started,
            completed: ended,
            status_5xx,
            connect,
            response: errors.saturating_sub(status_5xx + connect),
            redispatched: delta.redispatches,
            retried: delta.retries,
        }
    }

    /// Connections only: no answer is visible.
    fn tcp(&self, levels: Levels, unassigned: u64) -> Sums {
        let delta = self.delta(&levels);
        let started = self.started(&delta);
        let requests = delta.attempts.saturating_sub(delta.retries).saturating_sub(delta.redispatches);
        let connect = delta.connect_errors.min(requests);
        Sums {
            requests,
            errors: connect,
            attempts: delta.attempts,
            masked: delta.attempts.min(delta.retries + delta.redispatches),
            started,
            completed: started.saturating_sub(delta.sessions + unassigned),
            connect,
            redispatched: delta.redispatches,
            retried: delta.retries,
            ..Sums::default()
        }
    }
}

#[cfg(test)]
mod tests;
