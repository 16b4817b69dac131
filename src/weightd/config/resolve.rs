//! Validates the file: applies defaults, ranges and environment variables.

use std::{collections::HashSet, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::Spanned;

use super::{
    Config, DEFAULT_SOCKET, Env, FleetConfig, HaproxyConfig,
    file::{self, File},
};
use crate::{
    base::config::{ConfigError, OFF, Place, Value, absolute, host_name, listen_address, name},
    consul,
    haproxy::{self, address::InvalidAddress},
};

const STATE_DIR: &str = "/var/lib/weightd";
const RUN_DIR: &str = "/run/weightd";
const INSTANCE_NAME: &str = "haproxy";
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9110);
/// The environment variable of the log level.
const LOG_VARIABLE: &str = "WEIGHTD_LOG";
/// The name of the local socket in the run directory.
const SOCKET: &str = "weightd.sock";

const RESYNC: Duration = Duration::from_secs(10);
const RESYNC_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const PROCESS_POLL: Duration = Duration::from_millis(200);
const PROCESS_POLL_RANGE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(10);

pub(super) fn resolve(file: File, place: &Place<'_>, env: &Env<'_>) -> Result<Config, ConfigError> {
    let File { mode, node, state_dir, run_dir, consul, reconcile, api, fleet, log, haproxy } = file;
    let mode = place.read("mode", mode, str::parse)?.unwrap_or_default();
    let node = place.read("node", node, |text| name(text, Config::MAX_NODE))?.map_or_else(|| host_name("node"), Ok)?;
    let state_dir = directory(place, "state_dir", state_dir, env, "STATE_DIRECTORY", STATE_DIR)?;
    let run_dir = directory(place, "run_dir", run_dir, env, "RUNTIME_DIRECTORY", RUN_DIR)?;

    let consul::Connection { settings: consul, root, wait } = consul.resolve(place, env)?;

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
        api: place
            .read("api.listen", api.listen, |text| listen_address(text, api.allow_remote, API))?
            .unwrap_or(Some(API)),
        socket: place.read("api.socket", api.socket, socket_path)?.unwrap_or_else(|| Some(run_dir.join(SOCKET))),
        fleet: FleetConfig {
            machine_id: place.read("fleet.machine_id", fleet.machine_id, |text| name(text, Config::MAX_NODE))?,
            leave_on_stop: fleet.leave_on_stop,
        },
        log: log.resolve(place, env, LOG_VARIABLE)?,
        haproxy: instances(haproxy, &root, place)?,
        root,
        run_dir,
    })
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

fn socket_path(text: &str) -> Result<Option<PathBuf>, &'static str> {
    if text == OFF { Ok(None) } else { absolute(text).map(Some) }
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
