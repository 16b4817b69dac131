//! What every request must pass, and what every answer carries.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;
use tracing::warn;

use super::{pages::error, shared::Shared};
use crate::base::serve::Peer;

/// The most bytes of a form.
const MAX_FORM: usize = 32 * 1024;
/// Time for the whole form.
const FORM_DEADLINE: Duration = Duration::from_secs(10);
/// The longest path with its query, in bytes.
const MAX_URI: usize = 2048;

/// Nothing inline, nothing from elsewhere, no frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Checks a request and completes its answer.
pub async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match checked(&shared, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => *refused,
    };
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Stricter than this, and browsers would send `Origin: null` with the forms of this page.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if shared.settings.is_secure() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn checked(shared: &Arc<Shared>, request: Request) -> Result<Request, Box<Response>> {
    let refuse = |status, text: &'static str| Err(Box::new((status, text).into_response()));
    if !names_us(shared, request.uri(), request.headers()) {
        // A name that resolves to this address is not this page: without this, a foreign site could read it.
        return refuse(StatusCode::MISDIRECTED_REQUEST, "421: this page does not have the name in the request\n");
    }
    if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > MAX_URI) {
        return refuse(StatusCode::URI_TOO_LONG, "414: the address is too long\n");
    }
    match *request.method() {
        Method::GET | Method::HEAD => Ok(request),
        Method::POST => {
            if !is_from_this_page(shared, request.headers()) {
                shared.metrics.refused();
                return Err(Box::new(error::plain(
                    shared,
                    request.headers(),
                    StatusCode::FORBIDDEN,
                    "This request came from another page",
                    "Nothing was written. Open the page itself, and try again.",
                )));
            }
            with_form(request).await
        }
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "405: only GET and POST\n"),
    }
}

/// Whether the request names one of our hosts, and nothing else.
fn names_us(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else { return false };
    is_ours(shared, host) && uri.authority().is_none_or(|authority| is_ours(shared, authority.as_str()))
}

fn is_ours(shared: &Shared, host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    };
    shared.settings.hosts.iter().any(|own| own.eq_ignore_ascii_case(bare))
}

/// Whether the browser says that the form is one of ours. A browser always says it with a POST.
fn is_from_this_page(shared: &Shared, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin") {
        return false;
    }
    let scheme = if shared.settings.is_secure() { "https://" } else { "http://" };
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.next();
    let Some(authority) = origin.strip_prefix(scheme).filter(|_| origins.next().is_none()) else { return false };
    // A proxy in front may have another port: its name counts.
    if shared.settings.behind_proxy { is_ours(shared, authority) } else { authority.eq_ignore_ascii_case(host) }
}

/// Reads the form, so that no handler waits for a slow client.
async fn with_form(request: Request) -> Result<Request, Box<Response>> {
    let (parts, body) = request.into_parts();
    let read = async {
        let mut stream = body.into_data_stream();
        let mut form = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| (StatusCode::BAD_REQUEST, "400: the form is not complete\n"))?;
            if form.len() + chunk.len() > MAX_FORM {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "413: the form is too large\n"));
            }
            form.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(form))
    };
    match timeout(FORM_DEADLINE, read).await {
        Ok(Ok(form)) => Ok(Request::from_parts(parts, Body::from(form))),
        Ok(Err(refused)) => Err(Box::new(refused.into_response())),
        Err(_) => Err(Box::new((StatusCode::REQUEST_TIMEOUT, "408: the form took too long\n").into_response())),
    }
}

/// The address of the client. Behind a proxy it is the last one that the proxy itself added.
pub fn client(shared: &Shared, peer: ConnectInfo<Peer>, headers: &HeaderMap) -> Option<IpAddr> {
    let ConnectInfo(Peer { address, .. }) = peer;
    if !shared.settings.behind_proxy {
        return address;
    }
    let forwarded = forwarded(headers);
    if forwarded.is_none() && !shared.told_no_client.swap(true, Ordering::Relaxed) {
        warn!(
            hint = "the limit of sign-ins of one address holds for all people together; let the proxy set the header",
            "a sign-in came without a usable X-Forwarded-For"
        );
    }
    forwarded.or(address)
}

/// The last address in `X-Forwarded-For`.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// Whether the client takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| {
        let mut parts = word.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_forwarded_address_counts() {
        let forwarded = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| HeaderValue::from_static(line));
            super::forwarded(&lines.map(|line| (header::HeaderName::from_static("x-forwarded-for"), line)).collect())
        };
        let address = |text: &str| Some(text.parse().unwrap());
        assert_eq!(forwarded(&["192.0.2.1, 192.0.2.2"]), address("192.0.2.2"));
        assert_eq!(forwarded(&["192.0.2.1", "2001:db8::1"]), address("2001:db8::1"));
        for other in [&[][..], &[""], &["unknown"], &["192.0.2.1, unknown"], &["192.0.2.1", ""]] {
            assert_eq!(forwarded(other), None, "{other:?}");
        }
    }
}
