use std::time::Duration;

use reqwest::StatusCode;
use weightd_core::{desired::BadResponse, model::Escaped};

use super::{Address, tls::TlsError, token::TokenError};
use crate::base::chain::RootCause;

/// Maximum size of an answer, in bytes.
pub const MAX_RESPONSE: usize = 16 * 1024 * 1024;

/// Consul gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// The connection failed or broke.
    #[error("Consul at {address} cannot be reached")]
    Unreachable {
        /// The address of the agent.
        address: Address,
        /// The error of the HTTP client.
        #[source]
        source: RootCause<reqwest::Error>,
    },
    /// The TLS connection failed.
    #[error("the TLS connection to Consul at {address} failed")]
    Tls {
        /// The address of the agent.
        address: Address,
        /// The problem, for example with a certificate.
        #[source]
        source: TlsError,
    },
    /// Consul closed the connection before it answered.
    #[error("Consul at {0} closed the connection without an answer")]
    Closed(Address),
    /// No complete answer within the deadline.
    #[error("Consul at {0} did not answer in time")]
    Timeout(Address),
    /// 401 or 403.
    #[error("Consul denied the request: {}", Escaped(.0))]
    Denied(String),
    /// Any 5xx: Consul cannot answer now, and may answer later.
    #[error("Consul answered {0}: {text}", text = Escaped(.1))]
    Unavailable(StatusCode, String),
    /// 429: the agent limits its clients.
    #[error("the Consul agent limits requests or connections of this host: {}{}", Escaped(.text), retry_hint(*.retry_after))]
    RateLimited {
        /// The start of the body.
        text: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The answer is compressed, although no request allows that.
    #[error("the answer is compressed ({}), but the request did not allow compression", Escaped(.0))]
    Encoded(String),
    /// `X-Consul-KnownLeader: false`.
    #[error("Consul has no leader, so its answer may be outdated")]
    NoLeader,
    /// Any other HTTP status.
    #[error("unexpected answer {0}: {text}", text = Escaped(.1))]
    Status(StatusCode, String),
    /// No `X-Consul-Index`, or none that is a number above 0.
    #[error("the answer has no X-Consul-Index, so it is not from Consul's KV store")]
    NoIndex,
    /// The answer is larger than the limit. The value is the limit in bytes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer to a write is neither Consul's success nor its conflict.
    #[error("the answer to a write reports neither success nor a conflict: `{}`", Escaped(.0))]
    Unclear(String),
    /// The body is not valid JSON of the KV store.
    #[error("the answer is not valid JSON of the KV store")]
    Json(#[source] serde_json::Error),
    /// The body is valid JSON, but Consul cannot have sent it.
    #[error("the answer does not match the request")]
    BadResponse(#[source] BadResponse),
    /// The token cannot be read.
    #[error("the ACL token cannot be read")]
    Token(#[source] TokenError),
    /// The HTTP client cannot be created.
    #[error("the HTTP client cannot be created")]
    Setup(#[source] reqwest::Error),
}

fn retry_hint(after: Option<Duration>) -> String {
    after.map(|after| format!("; try again in {} s", after.as_secs())).unwrap_or_default()
}

impl ConsulError {
    /// Returns `Retry-After`, at most one minute; none if the answer did not have it.
    pub fn retry_after(&self) -> Option<Duration> {
        const MAX: Duration = Duration::from_secs(60);
        match self {
            Self::RateLimited { retry_after, .. } => retry_after.map(|after| after.min(MAX)),
            _ => None,
        }
    }

    /// Returns the stable reason code for status and metrics.
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

    /// Returns the fix, for hints.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Timeout(_) | Self::Setup(_) => {
                "check that the Consul agent runs, and that `address` in [consul] or CONSUL_HTTP_ADDR is correct"
            }
            Self::Tls { source, .. } => source.remedy(),
            Self::Denied(_) => {
                "give the token `key_prefix \"<root>weights/\" { policy = \"read\" }`, or use a valid token"
            }
            Self::Unavailable(..) | Self::NoLeader => {
                "check the servers with `consul operator raft list-peers`; weightd tries again"
            }
            Self::Closed(_) => {
                "check the agent's log; it closes connections above `limits.http_max_conns_per_client` (default 200 per host)"
            }
            Self::RateLimited { .. } => {
                "raise `limits` in the agent's configuration, or find the other clients on this host: `ss -tnp`"
            }
            Self::Status(..) | Self::NoIndex | Self::Json(_) | Self::BadResponse(_) | Self::Encoded(_) => {
                "check that `address` in [consul] or CONSUL_HTTP_ADDR is a Consul agent and not a proxy"
            }
            Self::Unclear(_) => "check whether a proxy between this program and Consul changes answers",
            Self::TooLarge(_) => "delete large keys, and keys that are not weightd's, below <root>weights/",
            Self::Token(_) => {
                "check `token_file` in [consul] or CONSUL_HTTP_TOKEN_FILE, and the permissions of the file"
            }
        }
    }
}

/// Whether the connection was closed before an answer.
pub(super) fn was_closed(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        cause = current.source();
    }
    false
}

/// Returns the first 1024 bytes of a body, for a message.
pub(super) fn start_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(1024)]).trim().to_owned()
}

/// Returns the error for an unexpected status.
pub(super) fn error_of_status(status: StatusCode, body: &[u8]) -> ConsulError {
    let text = start_of(body);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ConsulError::Denied(text),
        _ if status.is_server_error() => ConsulError::Unavailable(status, text),
        _ => ConsulError::Status(status, text),
    }
}
