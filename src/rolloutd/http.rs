//! HTTP to servers other than Consul: metrics systems and receivers of webhooks.
//!
//! A request reaches only the configured server: no proxy of the environment, no redirect, and for `https://` a certificate
//! of a trusted CA. A message never contains a URL, which may contain a token.

use std::{error::Error, io, path::Path, time::Duration};

use reqwest::{RequestBuilder, Response, redirect::Policy};
use secrecy::ExposeSecret as _;

use crate::{
    base::chain::{Chain, RootCause},
    consul::{
        TokenSource,
        tls::{self, Ca},
    },
};

/// Deadline of a connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// Creates a client. With `encrypted`, reads the CA, and refuses other connections.
///
/// # Errors
/// A sentence: the CA cannot be read.
pub(super) fn client(encrypted: bool, ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
    let trust = if encrypted {
        let ca = ca_file.map(|file| Ca::File(file.to_owned()));
        tls::trusting(ca.as_ref()).map_err(|error| Chain(&error).to_string())?
    } else {
        tls::without_trust()
    };
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .https_only(encrypted)
        .tls_backend_preconfigured(trust)
        .connect_timeout(CONNECT_DEADLINE)
        .user_agent(concat!("rolloutd/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Chain(&error.without_url()).to_string())
}

/// Adds the token, which a file may have changed since the last request.
///
/// # Errors
/// A sentence: the token cannot be read.
pub(super) fn with_token(request: RequestBuilder, token: &TokenSource) -> Result<RequestBuilder, String> {
    let token = token.read().map_err(|error| Chain(&error).to_string())?;
    Ok(match token {
        Some(token) => request.bearer_auth(token.expose_secret()),
        None => request,
    })
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The certificate of the server is not valid: a sentence.
    Tls(String),
    /// A deadline passed.
    Slow,
    /// Anything else: a sentence.
    Unreachable(String),
}

/// Classifies the error of a request.
pub(super) fn lost(error: reqwest::Error) -> Lost {
    if let Some(cause) = tls_error(&error) {
        Lost::Tls(cause.to_string())
    } else if error.is_timeout() {
        Lost::Slow
    } else {
        Lost::Unreachable(RootCause(error.without_url()).to_string())
    }
}

/// The error of TLS in a chain of errors. The HTTP library packs it into errors of I/O.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| tls_error(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Reads a body of at most `max` bytes in chunks; none if it is larger.
///
/// # Errors
/// [`Lost`] if the connection ends early.
pub(super) async fn body(mut response: Response, max: usize) -> Result<Option<Vec<u8>>, Lost> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
