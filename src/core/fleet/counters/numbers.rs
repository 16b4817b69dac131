use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The sums of a row since its view began, over all HAProxy processes. Each never goes backwards. In JSON an array in the
/// order of the fields; a reader ignores further numbers.
///
/// `errors` are as users saw them: a failed attempt that another server answered is `masked` and no error. `errors` equals
/// `status_5xx + connect + response`, up to a few that HAProxy counts twice.
///
/// The sums of a row never have more errors than requests, nor more masked attempts than attempts. The difference of two
/// may: an answer that began in one block and broke off in the next is a request of the first and an error of the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests that ended at this row as users saw them: answered or failed. Attempts that were redispatched are not among
    /// them. In mode tcp: connections.
    pub requests: u64,
    /// Of `requests`, those that failed: a 5xx, an answer that broke off, no answer, no connection. At most `requests`.
    pub errors: u64,
    /// Attempts to reach a server: HAProxy's `stot`.
    pub attempts: u64,
    /// Of `attempts`, those that failed and were tried again, on this or another server. At most `attempts`.
    pub masked: u64,
    /// Answers with a status. In mode tcp 0.
    pub answered: u64,
    /// Of `answered`, those with a status of 4xx.
    pub refused: u64,
    /// Of `answered`, those with a status of 3xx.
    pub redirected: u64,
    /// Requests that began, those in flight at the first reading included.
    pub started: u64,
    /// Requests that ended, answered or not, redispatched ones included. At least `answered`.
    pub completed: u64,
    /// Of `answered`, those with a status of 5xx.
    pub status_5xx: u64,
    /// Errors because no connection could be made.
    pub connect: u64,
    /// Errors after the connection was made: no answer, a broken one, or one that came too late.
    pub response: u64,
    /// Failed attempts that another server answered: `wredis`. No errors.
    pub redispatched: u64,
    /// Attempts that were repeated at the same server: `wretr`. No errors.
    pub retried: u64,
}

impl Sums {
    /// How many numbers there are.
    pub const LEN: usize = 14;

    /// The numbers in the order of the fields.
    pub const fn to_array(self) -> [u64; Self::LEN] {
        let Self { requests, errors, attempts, masked, answered, refused, redirected, started, completed, .. } = self;
        let Self { status_5xx, connect, response, redispatched, retried, .. } = self;
        [
            requests,
            errors,
            attempts,
            masked,
            answered,
            refused,
            redirected,
            started,
            completed,
            status_5xx,
            connect,
            response,
            redispatched,
            retried,
        ]
    }

    /// From the numbers in the order of the fields.
    pub const fn from_array(numbers: [u64; Self::LEN]) -> Self {
        let [requests, errors, attempts, masked, answered, refused, redirected, started, completed, ..] = numbers;
        let [.., status_5xx, connect, response, redispatched, retried] = numbers;
        Self {
            requests,
            errors,
            attempts,
            masked,
            answered,
            refused,
            redirected,
            started,
            completed,
            status_5xx,
            connect,
            response,
            redispatched,
            retried,
        }
    }

    /// Combines two number by number.
    #[must_use]
    pub fn with(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        let (mut numbers, others) = (self.to_array(), other.to_array());
        for (number, other) in numbers.iter_mut().zip(others) {
            *number = combine(*number, other);
        }
        Self::from_array(numbers)
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What was counted since `earlier`; none if a number went backwards, which never happens in one incarnation.
    pub fn since(self, earlier: Self) -> Option<Self> {
        let backwards = self.to_array().iter().zip(earlier.to_array()).any(|(now, before)| *now < before);
        (!backwards).then(|| self.with(earlier, u64::saturating_sub))
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_array().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        numbers(deserializer).map(Self::from_array)
    }
}

/// The counts of a side within one slot, as in [`Sums`]. In JSON an array in the order of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Requests that ended.
    pub requests: u64,
    /// Of `requests`, those that failed.
    pub errors: u64,
    /// Attempts.
    pub attempts: u64,
    /// Of `attempts`, those that failed and were tried again.
    pub masked: u64,
    /// Answers with a status.
    pub answered: u64,
    /// Of `answered`, those of 4xx.
    pub refused: u64,
    /// Of `answered`, those of 3xx.
    pub redirected: u64,
}

impl SlotCounts {
    /// How many numbers there are.
    pub const LEN: usize = 7;

    /// What lies between two sums.
    pub fn between(earlier: Sums, later: Sums) -> Self {
        let [requests, errors, attempts, masked, answered, refused, redirected, ..] =
            later.with(earlier, u64::saturating_sub).to_array();
        Self { requests, errors, attempts, masked, answered, refused, redirected }
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            attempts: self.attempts.saturating_add(other.attempts),
            masked: self.masked.saturating_add(other.masked),
            answered: self.answered.saturating_add(other.answered),
            refused: self.refused.saturating_add(other.refused),
            redirected: self.redirected.saturating_add(other.redirected),
        }
    }
}

impl Serialize for SlotCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { requests, errors, attempts, masked, answered, refused, redirected } = *self;
        [requests, errors, attempts, masked, answered, refused, redirected].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SlotCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [requests, errors, attempts, masked, answered, refused, redirected] = numbers(deserializer)?;
        Ok(Self { requests, errors, attempts, masked, answered, refused, redirected })
    }
}

/// The first `N` numbers of an array; a newer version may have more.
fn numbers<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; N], D::Error> {
    let all = Vec::<u64>::deserialize(deserializer)?;
    let first: Option<[u64; N]> = all.get(..N).and_then(|first| first.try_into().ok());
    first.ok_or_else(|| serde::de::Error::custom(format!("{} counts instead of {N}", all.len())))
}

/// The state of a row at the last reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// Sessions on its servers: HAProxy's `scur`, with those of replaced processes that still serve. A weight of 0 does not
    /// end them.
    pub sessions: u64,
    /// Whether a replaced process may have more: it had some, and cannot be read any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// The mean time to an answer, in milliseconds: HAProxy's `rtime`, an exponential mean over about 1,000 requests. Good
    /// for showing and not for judging; 0 where there was no answer.
    #[serde(default)]
    pub rtime: u64,
    /// How many of its servers could serve new traffic.
    pub usable: u64,
    /// How many servers it has, empty slots and backups included.
    pub total: u64,
    /// The sum of the weights of its servers that serve: those that are usable and above 0, or the backups where no other
    /// server serves.
    pub weight: u64,
    /// The percentage of the new requests that this weight gives now, to a hundredth; 0 where no server serves.
    pub share: f64,
}

/// What changed on a row within a block. In JSON the letters `w` and `u`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// A weight.
    pub weight: bool,
    /// Whether a server is usable; a server that came or went too.
    pub usable: bool,
}

impl Changed {
    /// Whether nothing changed.
    pub const fn is_none(self) -> bool {
        !self.weight && !self.usable
    }

    /// What changed in either of two.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self { weight: self.weight || other.weight, usable: self.usable || other.usable }
    }
}

impl Serialize for Changed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match (self.weight, self.usable) {
            (true, true) => "wu",
            (true, false) => "w",
            (false, true) => "u",
            (false, false) => "",
        })
    }
}

impl<'de> Deserialize<'de> for Changed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let letters = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self { weight: letters.contains('w'), usable: letters.contains('u') })
    }
}
