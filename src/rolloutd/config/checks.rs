//! Sources and named checks.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use reqwest::Url;
use secrecy::SecretString;
use toml::Spanned;
use weightd_core::{judge::BLOCK_SECONDS, rollout::source::Template};

use super::{
    CheckConfig, Credentials, SourceConfig,
    file::{self},
    resolve::{MAX_NAME, TIMEOUT_RANGE},
};
use crate::{
    base::{
        config::{ConfigError, Place, absolute, name, quoted, show_duration, suggest},
        secret::SecretSource,
    },
    consul::{TokenSource, settings},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const SCRAPE: Duration = Duration::from_secs(15);
const SCRAPE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// The default window, where four scrapes fit into it.
const WINDOW: Duration = Duration::from_secs(60);
const WINDOW_RANGE: RangeInclusive<Duration> = Duration::from_secs(BLOCK_SECONDS)..=Duration::from_secs(3600);
/// With fewer scrapes in a window, Prometheus gives no counts or invents nearly half of them.
const SCRAPES: u32 = 4;

pub(super) fn sources(
    sections: BTreeMap<String, Spanned<file::Source>>,
    place: &Place<'_>,
) -> Result<BTreeMap<String, SourceConfig>, ConfigError> {
    let mut sources = BTreeMap::new();
    for (source, section) in sections {
        let whole = section.span();
        let key = |key: &str| format!("sources.{source}.{key}");
        name(&source, MAX_NAME).map_err(|error| place.invalid_value("sources", whole.clone(), error))?;
        let file::Source { url, token_file, auth, auth_file, ca_file, timeout, scrape_interval } = section.into_inner();
        let Some(url) = place.read(&key("url"), url, source_url)? else {
            let what = "is missing; write the address, such as url = \"http://127.0.0.1:9090\"";
            return Err(place.invalid_value(&key("url"), whole, what));
        };
        let token = place.read(&key("token_file"), token_file, absolute)?.map(TokenSource::File);
        let auth = place.secret(&key("auth"), auth, basic)?.map(SecretSource::Value);
        let auth_file = place.read(&key("auth_file"), auth_file, absolute)?.map(SecretSource::File);
        let credentials = match (token, auth, auth_file) {
            (None, None, None) => Credentials::None,
            (Some(token), None, None) => Credentials::Bearer(token),
            (None, Some(auth), None) | (None, None, Some(auth)) => Credentials::Basic(auth),
            _ => {
                let what = "more than one of token_file, auth and auth_file; keep one of them";
                return Err(place.invalid_value(&format!("sources.{source}"), whole, what));
            }
        };
        let resolved = SourceConfig {
            credentials,
            ca_file: place.read(&key("ca_file"), ca_file, absolute)?,
            timeout: place.duration(&key("timeout"), timeout, &TIMEOUT_RANGE)?.unwrap_or(TIMEOUT),
            scrape_interval: place.duration(&key("scrape_interval"), scrape_interval, &SCRAPE_RANGE)?.unwrap_or(SCRAPE),
            url,
        };
        if resolved.ca_file.is_some() && !resolved.url.starts_with("https://") {
            let what = "a CA is configured, but the address is not encrypted; write https://, or remove the key";
            return Err(place.invalid_value(&key("ca_file"), whole, what));
        }
        sources.insert(source, resolved);
    }
    Ok(sources)
}

pub(super) fn checks(
    sections: BTreeMap<String, Spanned<file::Check>>,
    sources: &BTreeMap<String, SourceConfig>,
    place: &Place<'_>,
) -> Result<BTreeMap<String, CheckConfig>, ConfigError> {
    let mut checks = BTreeMap::new();
    for (check, section) in sections {
        let whole = section.span();
        let key = |key: &str| format!("checks.{check}.{key}");
        let missing = |missing: &str, what: &str| {
            Err(place.invalid_value(&key(missing), whole.clone(), format!("is missing; {what}")))
        };
        name(&check, MAX_NAME).map_err(|error| place.invalid_value("checks", whole.clone(), error))?;
        let file::Check { source, total, bad, window } = section.into_inner();
        let known = |text: &str| sources.get_key_value(text).ok_or_else(|| unknown_source(text, sources));
        let Some((source, scraped)) = place.read(&key("source"), source, known)? else {
            return missing("source", "write the name of a section [sources.<name>]");
        };
        let Some(total) = place.read(&key("total"), total, Template::parse)? else {
            return missing("total", "write the query for the number of requests");
        };
        let Some(bad) = place.read(&key("bad"), bad, Template::parse)? else {
            return missing("bad", "write the query for the number of bad requests");
        };
        let least = scraped.scrape_interval * SCRAPES;
        let window_span = window.as_ref().map_or_else(|| whole.clone(), Spanned::span);
        let window = place
            .duration(&key("window"), window, &WINDOW_RANGE)?
            .unwrap_or_else(|| Duration::from_secs(blocks(least.max(WINDOW)) * BLOCK_SECONDS));
        let whole_blocks = Duration::from_secs(blocks(window) * BLOCK_SECONDS);
        if window != whole_blocks {
            let what =
                format!("{} is not a multiple of 10 s; write {}", show_duration(window), show_duration(whole_blocks));
            return Err(place.invalid_value(&key("window"), window_span, what));
        }
        if window < least {
            let what = format!(
                "{} has fewer than {SCRAPES} scrapes of `{source}`, so its counts would be invented; write at least {}",
                show_duration(window),
                show_duration(Duration::from_secs(blocks(least) * BLOCK_SECONDS)),
            );
            return Err(place.invalid_value(&key("window"), window_span, what));
        }
        checks.insert(check, CheckConfig { source: source.clone(), total, bad, window });
    }
    Ok(checks)
}

/// The number of blocks that cover `length`.
fn blocks(length: Duration) -> u64 {
    let seconds = length.as_secs() + u64::from(length.subsec_nanos() > 0);
    seconds.div_ceil(BLOCK_SECONDS)
}

fn unknown_source(text: &str, sources: &BTreeMap<String, SourceConfig>) -> String {
    let known: Vec<_> = sources.keys().map(String::as_str).collect();
    if known.is_empty() {
        return format!("there is no source {}; add a section [sources.{}]", quoted(text), text.escape_debug());
    }
    format!("there is no source {}; {}", quoted(text), suggest(text, &known))
}

/// Parses `user:password`.
fn basic(text: &str) -> Result<SecretString, String> {
    check_basic(text)?;
    settings::auth(text).map_err(|error| error.to_string())
}

/// Whether the text is `user:password`.
///
/// # Errors
/// The problem, and the fix. Never contains the text.
pub(in crate::rolloutd) fn check_basic(text: &str) -> Result<(), &'static str> {
    if text.contains(':') { Ok(()) } else { Err("the value has no colon; write user:password") }
}

const FORMS: &str = "write http://host:port or https://host:port, optionally with a path";

/// Parses the address of a metrics system.
fn source_url(text: &str) -> Result<String, String> {
    // The URL parser silently drops some of these characters, and reads a backslash as a slash.
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err(format!("the address contains white space or a character that is invalid in a URL; {FORMS}"));
    }
    if text.contains('@') {
        return Err("the address contains `@`; write user and password to `auth` or `auth_file`".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err(format!("the address contains a query or a fragment; {FORMS}"));
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.port() != Some(0));
    let Some(url) = url.filter(Url::has_host) else { return Err(format!("not an address; {FORMS}")) };
    let text = url.as_str().trim_end_matches('/');
    if text.ends_with("/api/v1") || text.ends_with("/api/v1/query") {
        return Err("the address ends with the path of the API; write only what is in front of /api/v1".to_owned());
    }
    Ok(text.to_owned())
}
