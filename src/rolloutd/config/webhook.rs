//! Webhooks.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;
use weightd_core::{desired::Pattern, rollout::EventKind};

use super::{
    WebhookConfig, file,
    resolve::{MAX_NAME, TIMEOUT_RANGE},
};
use crate::{
    base::{
        config::{ConfigError, Place, absolute, choose, name},
        secret::SecretSource,
    },
    consul::TokenSource,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The events that a webhook is sent only if it names them: they are frequent, or answer a person who knows.
const ON_REQUEST: [EventKind; 3] = [EventKind::Applied, EventKind::Adopted, EventKind::Answered];

pub(super) fn webhooks(
    sections: Vec<Spanned<file::Webhook>>,
    place: &Place<'_>,
) -> Result<Vec<WebhookConfig>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut webhooks = Vec::with_capacity(sections.len());
    for section in sections {
        let whole = section.span();
        let file::Webhook { name: configured, url, url_file, events, backends, token_file, ca_file, timeout } =
            section.into_inner();
        let name_span = configured.as_ref().map_or_else(|| whole.clone(), Spanned::span);
        let Some(name) = place.read("webhook.name", configured, |text| name(text, MAX_NAME))? else {
            let what = "is missing; write a name for logs and metrics, such as name = \"chat\"";
            return Err(place.invalid_value("webhook.name", whole, what));
        };
        if !names.insert(name.clone()) {
            let what = format!("two webhooks have the name `{name}`; give each [[webhook]] its own name");
            return Err(place.invalid_value("webhook.name", name_span, what));
        }
        let url = place.secret("webhook.url", url, |text| {
            let url = SecretString::from(text);
            check_url(&url).map(|()| url)
        })?;
        let url_file = place.read("webhook.url_file", url_file, absolute)?;
        let url = match (url, url_file) {
            (Some(url), None) => SecretSource::Value(url),
            (None, Some(file)) => SecretSource::File(file),
            (None, None) => {
                let what = "is missing; write the URL, or its file to url_file";
                return Err(place.invalid_value("webhook.url", whole, what));
            }
            (Some(_), Some(_)) => {
                let what = "url and url_file are both set; keep one of them";
                return Err(place.invalid_value("webhook.url", whole, what));
            }
        };
        webhooks.push(WebhookConfig {
            name,
            url,
            events: self::events(events, place)?,
            backends: backends
                .into_iter()
                .map(|pattern| {
                    Pattern::new(pattern.get_ref())
                        .map_err(|error| place.invalid_value("webhook.backends", pattern.span(), error))
                })
                .collect::<Result<_, _>>()?,
            token: place.read("webhook.token_file", token_file, absolute)?.map_or(TokenSource::None, TokenSource::File),
            ca_file: place.read("webhook.ca_file", ca_file, absolute)?,
            timeout: place.duration("webhook.timeout", timeout, &TIMEOUT_RANGE)?.unwrap_or(TIMEOUT),
        });
    }
    Ok(webhooks)
}

fn events(events: Option<Vec<Spanned<String>>>, place: &Place<'_>) -> Result<Vec<EventKind>, ConfigError> {
    let Some(events) = events else {
        return Ok(EventKind::ALL.into_iter().filter(|kind| !ON_REQUEST.contains(kind)).collect());
    };
    let choices = EventKind::ALL.map(|kind| (kind.as_str(), kind));
    let kinds: BTreeSet<_> = events
        .into_iter()
        .map(|event| {
            choose(event.get_ref(), &choices)
                .map_err(|error| place.invalid_value("webhook.events", event.span(), error))
        })
        .collect::<Result<_, _>>()?;
    Ok(kinds.into_iter().collect())
}

/// See [`super::check_webhook_url`].
pub(super) fn check_url(url: &SecretString) -> Result<(), &'static str> {
    let text = url.expose_secret();
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err("the URL contains white space or a character that is invalid in a URL");
    }
    let url = Url::parse(text).map_err(|_| "not a URL; write https://host/path")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("not a URL of HTTP; write https://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL contains a user or a password; write a token to token_file");
    }
    Ok(())
}
