//! Why a named check has no data.

use super::{MissingValue, Side};
use crate::model::Escaped;

/// A reason why there are no counts. Each one holds, and none counts for or against a side.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoData {
    /// No window is complete since the check is wanted.
    #[error("no window is complete yet")]
    Waiting,
    /// The controller has no such check.
    #[error("the controller has no check `{}`", Escaped(.0))]
    Unknown(String),
    /// The plan does not give a value.
    #[error("{0}")]
    Label(MissingValue),
    /// The certificate, token or password of the source cannot be read: a sentence.
    #[error("{0}")]
    Setup(String),
    /// No connection, or it ended early: a sentence.
    #[error("the source cannot be reached: {}", Escaped(.0))]
    Unreachable(String),
    /// The encrypted connection failed: a sentence.
    #[error("the source has no valid certificate: {}", Escaped(.0))]
    Tls(String),
    /// No answer in time.
    #[error("the source did not answer in time")]
    Slow,
    /// An answer larger than 1 MiB.
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
    /// An answer that leads elsewhere. It is not followed, because the token belongs to the configured server.
    #[error("the source answers with a redirect ({0}), which is not followed; write the final address to `url`")]
    Redirect(u16),
    /// The source does not accept the token or the password.
    #[error("the source denies access ({0}); check the token or the password")]
    Denied(u16),
    /// The query is wrong: the status and the text of the source.
    #[error("the source rejects the query ({}): {}", .0, Escaped(.1))]
    Query(u16, String),
    /// The source failed: the status and its text.
    #[error("the source failed ({}): {}", .0, Escaped(.1))]
    Failed(u16, String),
    /// The answer is no JSON of the API.
    #[error("the answer ({}) is not of the API of Prometheus: {}", .0, Escaped(.1))]
    Text(u16, String),
    /// A part of the data is missing.
    #[error("the answer is partial: a part of the storage did not answer")]
    Partial,
    /// The source warns about the answer.
    #[error("the source warns: {}", Escaped(.0))]
    Warning(String),
    /// Neither one number nor a vector.
    #[error("the query gives a {}, not a number; write a query that sums up", Escaped(.0))]
    Shape(String),
    /// No series.
    #[error("the query finds no series; no data is not zero")]
    Empty,
    /// Several series.
    #[error("the query gives {0} series; write one that sums them up")]
    Series(usize),
    /// NaN or infinite, or too large for a count.
    #[error("the query gives {}, not a number of requests", Escaped(.0))]
    NotANumber(String),
    /// A negative count.
    #[error("the query gives {0}; a number of requests cannot be negative")]
    Negative(f64),
    /// The answer is of another time than was asked for.
    #[error("the answer is of another time: {0} s away from the one asked for")]
    OtherTime(f64),
    /// The newest sample is too old.
    #[error("the newest sample is {0} s older than the end of the window")]
    Stale(u64),
    /// More bad requests than requests.
    #[error("{bad} of {total} requests are bad; the two queries count different things")]
    Contradiction {
        /// The rounded number of requests.
        total: u64,
        /// The rounded number of bad ones.
        bad: u64,
    },
    /// The source counts something else than HAProxy.
    #[error("the source counts {counted} requests of `{}`, and HAProxy {haproxy}: over 20 % apart", .side.as_str())]
    Differs {
        /// The side.
        side: Side,
        /// The number of requests of the source.
        counted: u64,
        /// The number of requests of HAProxy.
        haproxy: u64,
    },
}

impl NoData {
    /// The stable word, for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Unknown(_) => "unknown_check",
            Self::Label(_) => "label",
            Self::Setup(_) => "setup",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Slow => "slow",
            Self::TooLarge => "too_large",
            Self::Redirect(_) => "redirect",
            Self::Denied(_) => "denied",
            Self::Query(..) => "query",
            Self::Failed(..) => "failed",
            Self::Text(..) => "text",
            Self::Partial => "partial",
            Self::Warning(_) => "warning",
            Self::Shape(_) => "shape",
            Self::Empty => "empty",
            Self::Series(_) => "series",
            Self::NotANumber(_) => "not_a_number",
            Self::Negative(_) => "negative",
            Self::OtherTime(_) => "other_time",
            Self::Stale(_) => "stale",
            Self::Contradiction { .. } => "contradiction",
            Self::Differs { .. } => "differs",
        }
    }

    /// All words, for the documentation.
    pub const WORDS: [&'static str; 24] = [
        "waiting",
        "unknown_check",
        "label",
        "setup",
        "unreachable",
        "tls",
        "slow",
        "too_large",
        "redirect",
        "denied",
        "query",
        "failed",
        "text",
        "partial",
        "warning",
        "shape",
        "empty",
        "series",
        "not_a_number",
        "negative",
        "other_time",
        "stale",
        "contradiction",
        "differs",
    ];

    /// Whether asking again at once may help: the request was lost on the way.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Failed(500..=599, _))
    }
}

impl From<MissingValue> for NoData {
    fn from(missing: MissingValue) -> Self {
        Self::Label(missing)
    }
}
