//! The structure of the configuration file, before validation. All keys are optional; unknown keys are errors.

use serde::Deserialize;
use toml::Spanned;

use crate::{
    base::{
        config::{Text as DurationText, Value},
        telemetry::settings,
    },
    consul,
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) mode: Value<String>,
    pub(super) node: Value<String>,
    pub(super) state_dir: Value<String>,
    pub(super) run_dir: Value<String>,
    pub(super) consul: consul::Section,
    pub(super) reconcile: Reconcile,
    pub(super) api: Api,
    pub(super) fleet: Fleet,
    pub(super) log: settings::Section,
    pub(super) haproxy: Vec<Spanned<Haproxy>>,
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
#[serde(deny_unknown_fields, default, expecting = "a [[haproxy]] section")]
pub(super) struct Haproxy {
    pub(super) name: Value<String>,
    pub(super) address: Value<String>,
    pub(super) allow_remote: bool,
    pub(super) root: Value<String>,
    pub(super) state_file: Value<String>,
    pub(super) master_socket: Value<String>,
}
