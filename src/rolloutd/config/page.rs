//! The page.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustls::pki_types::DnsName;
use toml::Spanned;

use super::{PageConfig, PageTls, file, resolve::loopback};
use crate::{
    base::config::{ConfigError, Place, absolute, is_loopback, listen_address},
    consul::TokenSource,
};

const LISTEN: SocketAddr = loopback(9111);
const METRICS: SocketAddr = loopback(9113);
/// The hosts of a page that only this machine can reach.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// Maximum length of the base path, in bytes.
const MAX_PATH: usize = 128;

pub(super) fn page(section: file::Page, place: &Place<'_>) -> Result<PageConfig, ConfigError> {
    let file::Page { listen, token_file, key_file, hosts, base_path, behind_proxy, metrics_listen, tls } = section;
    let tls = self::tls(tls, place)?;
    let safe = tls.is_some() || behind_proxy;
    let listen = place.read("page.listen", listen, |text| listen_on(text, safe))?.unwrap_or(LISTEN);
    let hosts = match hosts {
        Some(hosts) => hosts
            .into_iter()
            .map(|host| self::host(host.get_ref()).map_err(|what| place.invalid_value("page.hosts", host.span(), what)))
            .collect::<Result<Vec<_>, _>>()?,
        None if is_loopback(listen) && !behind_proxy => HOSTS.map(str::to_owned).to_vec(),
        None => Vec::new(),
    };
    if hosts.is_empty() {
        let what = "`hosts` is missing, so the page would answer nobody; write the names under which people reach it, \
                    such as hosts = [\"rollouts.example\"]";
        return Err(ConfigError::Contradiction { section: "page", what: what.to_owned() });
    }
    Ok(PageConfig {
        listen,
        token: place.read("page.token_file", token_file, absolute)?.map_or(TokenSource::None, TokenSource::File),
        key_file: place.read("page.key_file", key_file, absolute)?,
        hosts,
        base_path: place.read("page.base_path", base_path, self::base_path)?.unwrap_or_default(),
        behind_proxy,
        tls,
        metrics: place
            .read("page.metrics_listen", metrics_listen, |text| {
                listen_address(text, true, METRICS).and_then(|address| match address {
                    Some(address) if !is_loopback(address) => {
                        Err("other machines can reach this address; write a loopback address".to_owned())
                    }
                    address => Ok(address),
                })
            })?
            .unwrap_or(Some(METRICS)),
    })
}

fn tls(tls: file::PageTls, place: &Place<'_>) -> Result<Option<PageTls>, ConfigError> {
    let span = tls.cert_file.as_ref().or(tls.key_file.as_ref()).map_or(0..0, Spanned::span);
    let cert_file = place.read("page.tls.cert_file", tls.cert_file, absolute)?;
    let key_file = place.read("page.tls.key_file", tls.key_file, absolute)?;
    match (cert_file, key_file) {
        (None, None) => Ok(None),
        (Some(cert_file), Some(key_file)) => Ok(Some(PageTls { cert_file, key_file })),
        _ => {
            let what = "a certificate needs its key, and a key needs its certificate; set cert_file and key_file";
            Err(place.invalid_value("page.tls", span, what))
        }
    }
}

fn listen_on(text: &str, safe: bool) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| format!(r#"not an IP address with a port; write for example "{LISTEN}""#))?;
    if !safe && !is_loopback(address) {
        let what = "other machines can reach this address without TLS, and people type tokens there; write a loopback \
                    address, set cert_file and key_file in [page.tls], or set behind_proxy = true if a proxy has TLS";
        return Err(what.to_owned());
    }
    Ok(address)
}

/// Parses a host without a port.
fn host(text: &str) -> Result<String, &'static str> {
    const WHAT: &str = "not a host; write a name such as rollouts.example, or an IP address, without a port";
    let lower = text.to_ascii_lowercase();
    let inside = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid = match inside {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => lower.parse::<Ipv4Addr>().is_ok() || DnsName::try_from(lower.as_str()).is_ok(),
    };
    if valid { Ok(lower) } else { Err(WHAT) }
}

fn base_path(text: &str) -> Result<String, &'static str> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() {
        return Ok(String::new());
    }
    let Some(segments) = path.strip_prefix('/') else { return Err("the path has no slash in front; write /path") };
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'~');
    let valid = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(fits);
    if path.len() > MAX_PATH || !segments.split('/').all(valid) {
        return Err("not a path; write /path of A-Z a-z 0-9 _ . - ~");
    }
    Ok(path.to_owned())
}
