//! The structure of the configuration file, before validation. All keys are optional; unknown keys are errors.

use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;

use crate::base::config::Text as DurationText;

/// An optional value with its position in the file.
pub(super) type Value<T> = Option<Spanned<T>>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) mode: Value<String>,
    pub(super) node: Value<String>,
    pub(super) state_dir: Value<String>,
    pub(super) run_dir: Value<String>,
    pub(super) consul: Consul,
    pub(super) reconcile: Reconcile,
    pub(super) api: Api,
    pub(super) fleet: Fleet,
    pub(super) log: Log,
    pub(super) haproxy: Vec<Spanned<Haproxy>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Consul {
    pub(super) address: Value<String>,
    pub(super) token: Value<SecretString>,
    pub(super) token_file: Value<String>,
    pub(super) auth: Value<SecretString>,
    pub(super) datacenter: Value<String>,
    pub(super) namespace: Value<String>,
    pub(super) partition: Value<String>,
    pub(super) root: Value<String>,
    pub(super) wait: Value<DurationText>,
    pub(super) tls: Tls,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Tls {
    pub(super) ca_file: Value<String>,
    pub(super) ca_path: Value<String>,
    pub(super) client_cert: Value<String>,
    pub(super) client_key: Value<String>,
    pub(super) server_name: Value<String>,
    pub(super) verify: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Reconcile {
    pub(super) resync: Value<DurationText>,
    pub(super) process_poll: Value<DurationText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Api {
    pub(super) listen: Value<String>,
    pub(super) allow_remote: bool,
    pub(super) socket: Value<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Fleet {
    pub(super) machine_id: Value<String>,
    pub(super) leave_on_stop: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Log {
    pub(super) level: Value<String>,
    pub(super) format: Value<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a [[haproxy]] section")]
pub(super) struct Haproxy {
    pub(super) name: Value<String>,
    pub(super) address: Value<String>,
    pub(super) allow_remote: bool,
    pub(super) root: Value<String>,
    pub(super) state_file: Value<String>,
    pub(super) master_socket: Value<String>,
}
