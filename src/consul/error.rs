use std::time::Duration;

use reqwest::StatusCode;
use weightd_core::{desired::BadResponse, model::Escaped};

use super::{Address, tls::TlsError, token::TokenError};
use crate::base::chain::RootCause;

/// The most bytes of an answer.
pub const MAX_RESPONSE: usize = 16 * 1024 * 1024;

/// Why Consul gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// No connection, or it broke.
    #[error("Consul at {address} cannot be reached")]
    Unreachable {
        /// Where it should be.
        address: Address,
        /// What the HTTP client says.
        #[source]
        source: RootCause<reqwest::Error>,
    },
    /// No encrypted connection.
    #[error("there is no encrypted connection to Consul at {address}")]
    Tls {
        /// Where it should be.
        address: Address,
        /// What is wrong with whose certificate.
        #[source]
        source: TlsError,
    },
    /// The connection was closed before an answer.
    #[error("Consul at {0} closed the connection without an answer")]
    Closed(Address),
    /// Connected, but no full answer in time.
    #[error("Consul at {0} did not answer in time")]
    Timeout(Address),
    /// 401 or 403.
    #[error("Consul denies it: {}", Escaped(.0))]
    Denied(String),
    /// Any 5xx: it cannot now, and may later.
    #[error("Consul answered {0}: {text}", text = Escaped(.1))]
    Unavailable(StatusCode, String),
    /// 429: the agent limits its clients.
    #[error("the Consul agent limits requests or connections of this host: {}{}", Escaped(.text), again(*.retry_after))]
    RateLimited {
        /// What it says.
        text: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A compressed answer, which is never asked for.
    #[error("the answer is compressed ({}), which was not asked for", Escaped(.0))]
    Encoded(String),
    /// `X-Consul-KnownLeader: false`.
    #[error("Consul has no leader, so its answer may be out of date")]
    NoLeader,
    /// Any other status.
    #[error("unexpected answer {0}: {text}", text = Escaped(.1))]
    Status(StatusCode, String),
    /// No `X-Consul-Index`, or none that is a number above 0.
    #[error("the answer has no X-Consul-Index; it is not Consul's KV that answers")]
    NoIndex,
    /// More bytes than are taken.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// A write was answered, but not by Consul's words for done or refused.
    #[error("the answer to a write says neither that it was done nor that it was not: `{}`", Escaped(.0))]
    Unclear(String),
    /// The answer is not JSON of the KV store.
    #[error("the answer is not the KV store's JSON")]
    Json(#[source] serde_json::Error),
    /// The answer is JSON, but not Consul's.
    #[error("the answer is not what was asked for")]
    BadResponse(#[source] BadResponse),
    /// The token cannot be read.
    #[error("the ACL token cannot be read")]
    Token(#[source] TokenError),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

fn again(after: Option<Duration>) -> String {
    after.map(|after| format!("; try again in {} s", after.as_secs())).unwrap_or_default()
}

impl ConsulError {
    /// How long Consul asks to wait before the next request; none if it does not say. Never longer than a minute.
    pub fn retry_after(&self) -> Option<Duration> {
        const MOST: Duration = Duration::from_secs(60);
        match self {
            Self::RateLimited { retry_after, .. } => retry_after.map(|after| after.min(MOST)),
            _ => None,
        }
    }

    /// A short word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Setup(_) => "unreachable",
            Self::Closed(_) => "closed",
            Self::RateLimited { .. } => "rate_limited",
            Self::Tls { .. } => "tls",
            Self::Timeout(_) => "timeout",
            Self::Denied(_) => "denied",
            Self::Unavailable(..) => "unavailable",
            Self::NoLeader => "no_leader",
            Self::Status(..) => "status",
            Self::NoIndex => "no_index",
            Self::TooLarge(_) => "too_large",
            Self::Unclear(_) => "unclear",
            Self::Json(_) | Self::BadResponse(_) | Self::Encoded(_) => "bad_response",
            Self::Token(_) => "token",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Timeout(_) | Self::Setup(_) => {
                "see whether the Consul agent runs, and check `address` in [consul] or CONSUL_HTTP_ADDR"
            }
            Self::Tls { source, .. } => source.remedy(),
            Self::Denied(_) => {
                "give the token `key_prefix \"<root>weights/\" { policy = \"read\" }`, or use a valid token"
            }
            Self::Unavailable(..) | Self::NoLeader => "see `consul operator raft list-peers`; it is tried again",
            Self::Closed(_) => {
                "see the agent's log; it closes connections above `limits.http_max_conns_per_client`, 200 per host by default"
            }
            Self::RateLimited { .. } => {
                "raise `limits` in the agent's configuration, or find what else on this host uses the agent: `ss -tnp`"
            }
            Self::Status(..) | Self::NoIndex | Self::Json(_) | Self::BadResponse(_) | Self::Encoded(_) => {
                "check that `address` in [consul] or CONSUL_HTTP_ADDR is a Consul agent and no proxy in front of it"
            }
            Self::Unclear(_) => "check whether something between this program and Consul changes answers",
            Self::TooLarge(_) => "remove large or foreign keys below <root>weights/",
            Self::Token(_) => "check `token_file` in [consul] or CONSUL_HTTP_TOKEN_FILE, and who may read the file",
        }
    }
}
