use reqwest::StatusCode;
use weightd_core::{desired::BadResponse, model::Escaped};

use super::{Address, tls::TlsError, token::TokenError};

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
        source: reqwest::Error,
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
    /// Connected, but no full answer in time.
    #[error("Consul at {0} did not answer in time")]
    Timeout(Address),
    /// 401 or 403.
    #[error("Consul denies it: {}", Escaped(.0))]
    Denied(String),
    /// 429 or any 5xx: it cannot now, and may later.
    #[error("Consul answered {0}: {text}", text = Escaped(.1))]
    Unavailable(StatusCode, String),
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

impl ConsulError {
    /// A short word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Setup(_) => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Timeout(_) => "timeout",
            Self::Denied(_) => "denied",
            Self::Unavailable(..) => "unavailable",
            Self::NoLeader => "no_leader",
            Self::Status(..) => "status",
            Self::NoIndex => "no_index",
            Self::TooLarge(_) => "too_large",
            Self::Unclear(_) => "unclear",
            Self::Json(_) | Self::BadResponse(_) => "bad_response",
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
            Self::Status(..) | Self::NoIndex | Self::Json(_) | Self::BadResponse(_) => {
                "check that `address` in [consul] or CONSUL_HTTP_ADDR is a Consul agent and no proxy in front of it"
            }
            Self::Unclear(_) => "check whether something between this program and Consul changes answers",
            Self::TooLarge(_) => "remove large or foreign keys below <root>weights/",
            Self::Token(_) => "check `token_file` in [consul] or CONSUL_HTTP_TOKEN_FILE, and who may read the file",
        }
    }
}
