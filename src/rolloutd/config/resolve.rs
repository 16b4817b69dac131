//! Validates the file: applies defaults, ranges and environment variables.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use super::{Config, Env, checks, file::File, page, webhook};
use crate::{
    base::config::{ConfigError, MAX_NODE, Place, host_name, listen_address, name},
    consul,
};

const MAX_ACTIVE: u32 = 50;
/// More is tested in the simulator only.
const MAX_ACTIVE_RANGE: RangeInclusive<u32> = 1..=500;
const API: SocketAddr = loopback(9112);
/// The environment variable of the log level.
const LOG_VARIABLE: &str = "ROLLOUTD_LOG";
/// Deadline of one request to a source or a webhook. Longer ones would overlap.
pub(super) const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// Maximum length of the name of a source, a check or a webhook, in characters.
pub(super) const MAX_NAME: usize = 64;

pub(super) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

pub(super) fn resolve(file: File, place: &Place<'_>, env: &Env<'_>) -> Result<Config, ConfigError> {
    let File { name: configured, consul, controller, api, log, sources, checks, webhook, page } = file;
    let configured = place.read("name", configured, |text| name(text, MAX_NODE))?;
    let consul::Connection { settings: consul, root, wait } = consul.resolve(place, env)?;
    let max_active = match controller.max_active {
        Some(value) if !MAX_ACTIVE_RANGE.contains(value.get_ref()) => {
            let (least, greatest) = (MAX_ACTIVE_RANGE.start(), MAX_ACTIVE_RANGE.end());
            let what = format!("{} is out of range; write a number from {least} to {greatest}", value.get_ref());
            return Err(place.invalid_value("controller.max_active", value.span(), what));
        }
        value => value.map_or(MAX_ACTIVE, toml::Spanned::into_inner),
    };
    let sources = checks::sources(sources, place)?;
    Ok(Config {
        name: configured.map_or_else(|| host_name("name"), Ok)?,
        consul,
        root,
        wait,
        max_active: max_active as usize,
        api: place
            .read("api.listen", api.listen, |text| listen_address(text, api.allow_remote, API))?
            .unwrap_or(Some(API)),
        log: log.resolve(place, env, LOG_VARIABLE)?,
        checks: checks::checks(checks, &sources, place)?,
        sources,
        webhooks: webhook::webhooks(webhook, place)?,
        page: page::page(page, place)?,
    })
}
