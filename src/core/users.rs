//! Sticky users: the side that a user is on, and from which share on.
//!
//! HAProxy decides it, with the lines of `haproxy/sticky.cfg`. This module computes the same from the same numbers: the
//! bucket of a user is `xxh32("<backend>/<id>") mod 10000`, and the user is on the side `to` while
//! `bucket * weight of all < weight of to * 10000`. So a user who is on `to` stays there when its share rises. Must not
//! do I/O.

use std::fmt;

use serde::Serialize;
use twox_hash::XxHash32;

use crate::{
    desired::{Pattern, Weights},
    model::BackendName,
};

/// The id of a user, as HAProxy reads it: the value of a cookie or a header, not decoded.
///
/// It is personal data. It has no `Display`, and its `Debug` hides the text, so no log line and no error contains it by
/// accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(Box<str>);

/// The text is no id of a user. The messages never contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserId {
    /// The text is empty. HAProxy treats a user without an id as unknown.
    #[error("is empty")]
    Empty,
    /// The text is longer than [`UserId::MAX_LEN`].
    #[error("has {0} bytes; the maximum is {max}", max = UserId::MAX_LEN)]
    TooLong(usize),
    /// The text has a character that no HTTP header can have.
    #[error("contains a control character, which no HTTP header can have")]
    Control,
}

impl UserId {
    /// Maximum length in bytes: that of a cookie in a browser.
    pub const MAX_LEN: usize = 4096;

    /// Takes `text` if HAProxy can read it from a request.
    ///
    /// # Errors
    /// [`InvalidUserId`] with the broken rule.
    pub fn new(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() {
            Err(InvalidUserId::Empty)
        } else if text.len() > Self::MAX_LEN {
            Err(InvalidUserId::TooLong(text.len()))
        } else if text.contains(char::is_control) {
            Err(InvalidUserId::Control)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// Returns the text, to show it to the person who asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(hidden)")
    }
}

/// The text that gives a backend another draw: the same users with other buckets. In HAProxy it stands in
/// `concat(/<salt>/,txn.wd_id)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Salt(Box<str>);

/// The text is no salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a salt has 1 to 64 of the characters A-Z a-z 0-9 _ . -")]
pub struct InvalidSalt;

impl Salt {
    /// Takes `text` if it needs no quotes in haproxy.cfg and cannot be part of an id.
    ///
    /// # Errors
    /// [`InvalidSalt`] names the rule.
    pub fn new(text: &str) -> Result<Self, InvalidSalt> {
        let valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if valid && (1..=64).contains(&text.len()) { Ok(Self(text.into())) } else { Err(InvalidSalt) }
    }
}

/// The place of a user among the users of a backend, from 0 to 9999. It does not depend on the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bucket(u32);

impl Bucket {
    /// The number of buckets.
    pub const COUNT: u32 = 10_000;

    /// Computes the bucket of a user. `salt` is the one in haproxy.cfg, if there is one.
    pub fn of(backend: &BackendName, salt: Option<&Salt>, user: &UserId) -> Self {
        let mut text = format!("{backend}/");
        if let Some(Salt(salt)) = salt {
            text.push_str(salt);
            text.push('/');
        }
        text.push_str(&user.0);
        Self(XxHash32::oneshot(0, text.as_bytes()) % Self::COUNT)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the share of `to`, in percent, above which the user is on `to`: from 0 to 99.99.
    pub fn above(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A side of the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The side that a shift goes to, such as green.
    To,
    /// The other side.
    From,
}

/// The servers of a backend with their weights, on two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// The side that a shift goes to.
    pub to: Weights,
    /// All other servers.
    pub from: Weights,
}

/// The weights cannot be divided into two sides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSides {
    /// No server matches the pattern.
    #[error("`{pattern}` matches no server; the servers are {servers}")]
    NoServer {
        /// The pattern.
        pattern: Pattern,
        /// The names of the servers.
        servers: String,
    },
    /// Every server matches, so there is no other side.
    #[error("every server is on this side; the servers are {0}")]
    NoOther(String),
}

impl Sides {
    /// Divides `weights`: servers that match one of the patterns `to`, and all others.
    ///
    /// # Errors
    /// [`NoSides`] with the servers, if one of the sides has none, or a pattern matches none.
    pub fn new(weights: &Weights, to: &[Pattern]) -> Result<Self, NoSides> {
        let servers = || weights.keys().map(|server| format!("`{server}`")).collect::<Vec<_>>().join(", ");
        let unmatched = |pattern: &&Pattern| !weights.keys().any(|server| pattern.matches(server.as_str()));
        if let Some(pattern) = to.iter().find(unmatched) {
            return Err(NoSides::NoServer { pattern: pattern.clone(), servers: servers() });
        }
        let (to, from): (Weights, Weights) = weights
            .iter()
            .map(|(server, weight)| (server.clone(), *weight))
            .partition(|(server, _)| to.iter().any(|pattern| pattern.matches(server.as_str())));
        if from.is_empty() { Err(NoSides::NoOther(servers())) } else { Ok(Self { to, from }) }
    }

    /// Returns the side of the users in `bucket`. With all weights 0, it is `from`, as in HAProxy.
    pub fn of(&self, bucket: Bucket) -> Side {
        let (to, all) = (sum(&self.to), sum(&self.to) + sum(&self.from));
        if u64::from(bucket.0) * all < to * u64::from(Bucket::COUNT) { Side::To } else { Side::From }
    }

    /// Returns the number of buckets on `to`, the smallest ones. Sides with the same number divide the users in the same
    /// way.
    pub fn buckets(&self) -> u64 {
        let (to, all) = self.weight();
        (to * u64::from(Bucket::COUNT)).div_ceil(all.max(1))
    }

    /// Returns the weight of `to` and of all servers.
    pub fn weight(&self) -> (u64, u64) {
        (sum(&self.to), sum(&self.to) + sum(&self.from))
    }

    /// Returns the part of the users that is on `to`, in percent; none if all weights are 0.
    #[expect(clippy::cast_precision_loss, reason = "sums of at most 1,000 weights of at most 256")]
    pub fn percent(&self) -> Option<f64> {
        let (to, all) = self.weight();
        (all > 0).then(|| to as f64 * 100.0 / all as f64)
    }
}

fn sum(weights: &Weights) -> u64 {
    weights.values().map(|weight| u64::from(weight.get())).sum()
}

#[cfg(test)]
mod tests;
