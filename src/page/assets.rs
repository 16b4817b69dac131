//! Style, script and icon. Each name carries a hash of the content, so a browser may keep them for ever.

use std::{io::Write as _, sync::LazyLock};

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use flate2::{Compression, write::GzEncoder};
use weightd_core::rollout::begin::digest;

/// Characters of the hash in a name.
const HASH: usize = 12;
/// Smaller bodies are not compressed.
const WORTH: usize = 1024;

/// An embedded file.
struct Asset {
    name: String,
    kind: &'static str,
    plain: &'static str,
    gzip: Bytes,
}

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, plain: &'static str) -> Self {
        let hash = digest(plain.as_bytes());
        let name = format!("{stem}-{}.{extension}", hash.get(..HASH).unwrap_or_default());
        Self { name, kind, plain, gzip: gzip(plain.as_bytes(), Compression::best()) }
    }
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "css", "text/css; charset=utf-8", include_str!("static/page.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("live", "js", "text/javascript; charset=utf-8", include_str!("static/live.js")));
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("static/icon.svg")));

/// The name of the style sheet.
pub fn style() -> &'static str {
    &STYLE.name
}

/// The name of the script.
pub fn script() -> &'static str {
    &SCRIPT.name
}

/// The name of the icon.
pub fn icon() -> &'static str {
    &ICON.name
}

/// The file of this name; none if there is none.
pub fn asset(name: &str, takes_gzip: bool) -> Option<Response> {
    let asset = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.name == name)?;
    let body = if takes_gzip { asset.gzip.clone() } else { Bytes::from_static(asset.plain.as_bytes()) };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if takes_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Some(response)
}

/// An HTML page, compressed where the browser takes that. A page has no secret, so its length tells nothing.
pub fn html(text: String, takes_gzip: bool) -> Response {
    let is_packed = takes_gzip && text.len() >= WORTH;
    let body = if is_packed { gzip(text.as_bytes(), Compression::new(5)) } else { Bytes::from(text) };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding, cookie"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Compresses. Writing to memory cannot fail.
fn gzip(bytes: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), level);
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map(Bytes::from).unwrap_or_default()
}
