//! Validates the file: applies defaults, ranges and environment variables.

use std::{collections::HashSet, fmt::Display, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;
use weightd_core::model::{InvalidSegment, check_segment};

use super::{
    Config, DEFAULT_SOCKET, Env, FleetConfig, HaproxyConfig,
    file::{self, File, Value},
};
use crate::{
    base::{
        config::{ConfigError, Place, Text as DurationText, parse_duration},
        telemetry::settings::{InvalidFilter, Log},
    },
    consul::{
        self, TokenSource, settings,
        tls::{self, Ca},
    },
    haproxy::{self, address::InvalidAddress},
};

const STATE_DIR: &str = "/var/lib/weightd";
const RUN_DIR: &str = "/run/weightd";
const INSTANCE_NAME: &str = "haproxy";
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9110);
/// The value that turns off the API or the local socket.
const OFF: &str = "off";
/// The name of the local socket in the run directory.
const SOCKET: &str = "weightd.sock";

const WAIT: Duration = Duration::from_secs(55);
/// Consul accepts at most 10 minutes. A shorter wait than 10 s would be polling.
const WAIT_RANGE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);
const RESYNC: Duration = Duration::from_secs(10);
const RESYNC_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const PROCESS_POLL: Duration = Duration::from_millis(200);
const PROCESS_POLL_RANGE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(10);

pub(super) fn resolve(file: File, place: &Place<'_>, env: &Env<'_>) -> Result<Config, ConfigError> {
    let File { mode, node, state_dir, run_dir, consul, reconcile, api, fleet, log, haproxy } = file;
    let mode = place.read("mode", mode, str::parse)?.unwrap_or_default();
    let node = place.read("node", node, |text| name(text, Config::MAX_NODE))?.map_or_else(host_name, Ok)?;
    let state_dir = directory(place, "state_dir", state_dir, env, "STATE_DIRECTORY", STATE_DIR)?;
    let run_dir = directory(place, "run_dir", run_dir, env, "RUNTIME_DIRECTORY", RUN_DIR)?;

    let file::Consul { address, token, token_file, auth, datacenter, namespace, partition, root, wait, tls } = consul;
    let root = place.read("consul.root", root, str::parse)?.unwrap_or_default();
    let wait = place.duration("consul.wait", wait, &WAIT_RANGE)?.unwrap_or(WAIT);
    let token = place.secret("consul.token", token, TokenSource::value)?;
    let token_file = place.read("consul.token_file", token_file, absolute)?.map(TokenSource::File);
    let configured = consul::Layer {
        address: place.read("consul.address", address, str::parse)?,
        token: token_file.or(token),
        auth: place.secret("consul.auth", auth, settings::auth)?,
        datacenter: place.read("consul.datacenter", datacenter, settings::name)?,
        namespace: place.read("consul.namespace", namespace, settings::name)?,
        partition: place.read("consul.partition", partition, settings::name)?,
        tls: resolve_tls(tls, place)?,
    };
    let consul = consul::Layer::default()
        .over_env(env)
        .map_err(|error| ConfigError::Environment { variable: error.variable, what: error.problem.to_string() })?
        .over(configured)
        .settings()
        .map_err(|error| ConfigError::Contradiction { section: "consul", what: error.to_string() })?;

    Ok(Config {
        mode,
        node,
        state_dir,
        consul,
        wait,
        resync: place.duration("reconcile.resync", reconcile.resync, &RESYNC_RANGE)?.unwrap_or(RESYNC),
        process_poll: place
            .duration("reconcile.process_poll", reconcile.process_poll, &PROCESS_POLL_RANGE)?
            .unwrap_or(PROCESS_POLL),
        api: place.read("api.listen", api.listen, |text| listen_address(text, api.allow_remote))?.unwrap_or(Some(API)),
        socket: place.read("api.socket", api.socket, socket_path)?.unwrap_or_else(|| Some(run_dir.join(SOCKET))),
        fleet: FleetConfig {
            machine_id: place.read("fleet.machine_id", fleet.machine_id, |text| name(text, Config::MAX_NODE))?,
            leave_on_stop: fleet.leave_on_stop,
        },
        log: resolve_log(log, place, env)?,
        haproxy: instances(haproxy, &root, place)?,
        root,
        run_dir,
    })
}

fn resolve_tls(tls: file::Tls, place: &Place<'_>) -> Result<consul::TlsLayer, ConfigError> {
    let file::Tls { ca_file, ca_path, client_cert, client_key, server_name, verify } = tls;
    let ca_file = place.read("consul.tls.ca_file", ca_file, absolute)?.map(Ca::File);
    let ca_path = place.read("consul.tls.ca_path", ca_path, absolute)?.map(Ca::Directory);
    Ok(consul::TlsLayer {
        ssl: false,
        ca: ca_file.or(ca_path),
        client_cert: place.read("consul.tls.client_cert", client_cert, absolute)?,
        client_key: place.read("consul.tls.client_key", client_key, absolute)?,
        server_name: place.read("consul.tls.server_name", server_name, tls::server_name)?,
        verify,
    })
}

impl Place<'_> {
    /// Converts a value with `read`, if it is set.
    fn read<T, E: Display>(
        &self,
        key: &str,
        value: Value<String>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        value
            .map(|value| read(value.get_ref()).map_err(|error| self.invalid_value(key, value.span(), error)))
            .transpose()
    }

    /// Like [`Place::read`], for a secret. `E` must not show the secret.
    fn secret<T, E: Display>(
        &self,
        key: &str,
        value: Value<SecretString>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        value
            .map(|value| {
                read(value.get_ref().expose_secret()).map_err(|error| self.invalid_value(key, value.span(), error))
            })
            .transpose()
    }

    fn duration(
        &self,
        key: &str,
        value: Value<DurationText>,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        value
            .map(|value| {
                parse_duration(&value.get_ref().0, range).map_err(|error| self.invalid_value(key, value.span(), error))
            })
            .transpose()
    }
}

fn name(text: &str, max: usize) -> Result<String, InvalidSegment> {
    check_segment(text, max)?;
    Ok(text.to_owned())
}

/// Returns the host name of this machine. It comes from the kernel and not from /proc/sys, which a hardened unit hides.
fn host_name() -> Result<String, ConfigError> {
    let system = rustix::system::uname();
    name(&system.nodename().to_string_lossy(), Config::MAX_NODE)
        .map_err(|error| ConfigError::HostName(error.to_string()))
}

fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    if text.contains(char::is_control) {
        return Err("the path contains a control character; remove it");
    }
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("the path is relative; write an absolute path") }
}

/// Returns a directory that systemd may have created. The variable of systemd overrides the file.
fn directory(
    place: &Place<'_>,
    key: &str,
    value: Value<String>,
    env: &Env<'_>,
    variable: &'static str,
    default: &str,
) -> Result<PathBuf, ConfigError> {
    let configured = place.read(key, value, absolute)?;
    let Some(directories) = env(variable).filter(|directories| !directories.is_empty()) else {
        return Ok(configured.unwrap_or_else(|| PathBuf::from(default)));
    };
    // systemd separates the directories of a unit with colons.
    let first = directories.split(':').next().unwrap_or_default();
    absolute(first).map_err(|what| ConfigError::Environment { variable, what: what.to_owned() })
}

fn listen_address(text: &str, allow_remote: bool) -> Result<Option<SocketAddr>, &'static str> {
    if text == OFF {
        return Ok(None);
    }
    let address: SocketAddr =
        text.parse().map_err(|_| r#"not an IP address with a port; write for example "127.0.0.1:9110", or "off""#)?;
    if !allow_remote && !address.ip().to_canonical().is_loopback() {
        return Err("other machines can reach this address; write a loopback address, or set allow_remote = true");
    }
    Ok(Some(address))
}

fn socket_path(text: &str) -> Result<Option<PathBuf>, &'static str> {
    if text == OFF { Ok(None) } else { absolute(text).map(Some) }
}

fn resolve_log(log: file::Log, place: &Place<'_>, env: &Env<'_>) -> Result<Log, ConfigError> {
    const VARIABLE: &str = "WEIGHTD_LOG";
    let configured = place.read("log.level", log.level, str::parse)?;
    let set = env(VARIABLE).filter(|value| !value.is_empty()).map(|value| value.parse()).transpose();
    let set =
        set.map_err(|error: InvalidFilter| ConfigError::Environment { variable: VARIABLE, what: error.to_string() })?;
    Ok(Log {
        level: set.or(configured).unwrap_or_default(),
        format: place.read("log.format", log.format, str::parse)?.unwrap_or_default(),
    })
}

fn instances(
    mut sections: Vec<Spanned<file::Haproxy>>,
    root: &weightd_core::model::Root,
    place: &Place<'_>,
) -> Result<Vec<HaproxyConfig>, ConfigError> {
    if sections.is_empty() {
        sections.push(Spanned::new(0..0, file::Haproxy::default()));
    }
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    let mut files = HashSet::new();
    let mut instances = Vec::with_capacity(sections.len());
    for section in sections {
        let whole = section.span();
        let file::Haproxy { name: configured_name, address, allow_remote, root: own_root, state_file, master_socket } =
            section.into_inner();
        let span_of = |value: &Value<String>| value.as_ref().map_or_else(|| whole.clone(), Spanned::span);
        let (name_span, address_span, file_span) = (span_of(&configured_name), span_of(&address), span_of(&state_file));

        let name = place
            .read("haproxy.name", configured_name, |text| name(text, HaproxyConfig::MAX_NAME))?
            .unwrap_or_else(|| INSTANCE_NAME.to_owned());
        let address = place
            .read("haproxy.address", address, |text| runtime_api(text, allow_remote))?
            .unwrap_or_else(|| haproxy::Address::Unix(PathBuf::from(DEFAULT_SOCKET)));
        let root = place.read("haproxy.root", own_root, str::parse)?.unwrap_or_else(|| root.clone());

        let state_file = place.read("haproxy.state_file", state_file, absolute)?;
        let master_socket =
            place.read("haproxy.master_socket", master_socket, |text| runtime_api(text, allow_remote))?;

        if !names.insert(name.clone()) {
            let what = format!("two instances have the name `{name}`; give each [[haproxy]] its own name");
            return Err(place.invalid_value("haproxy.name", name_span, what));
        }
        if !addresses.insert(address.clone()) {
            let what =
                format!("two instances have the address {address}; write one [[haproxy]] section for each HAProxy");
            return Err(place.invalid_value("haproxy.address", address_span, what));
        }
        if let Some(file) = state_file.as_ref().filter(|file| !files.insert((*file).clone())) {
            let what = format!("two instances write the file {}; give each [[haproxy]] its own file", file.display());
            return Err(place.invalid_value("haproxy.state_file", file_span, what));
        }
        instances.push(HaproxyConfig { name, address, root, state_file, master_socket });
    }
    Ok(instances)
}

fn runtime_api(text: &str, allow_remote: bool) -> Result<haproxy::Address, String> {
    let address: haproxy::Address = text.parse().map_err(|error: InvalidAddress| error.to_string())?;
    if !allow_remote && !address.is_loopback() {
        return Err(format!(
            "{address} may be on another machine, and the runtime API has neither password nor encryption; \
             use a Unix socket, or set allow_remote = true for this instance"
        ));
    }
    Ok(address)
}
