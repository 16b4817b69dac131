//! The structure of the configuration file, before validation. Unknown keys are errors.

use std::collections::BTreeMap;

use secrecy::SecretString;
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
    pub(super) name: Value<String>,
    pub(super) consul: consul::Section,
    pub(super) controller: Controller,
    pub(super) api: Api,
    pub(super) log: settings::Section,
    pub(super) sources: BTreeMap<String, Spanned<Source>>,
    pub(super) checks: BTreeMap<String, Spanned<Check>>,
    pub(super) webhook: Vec<Spanned<Webhook>>,
    pub(super) page: Page,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Controller {
    pub(super) max_active: Value<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Api {
    pub(super) listen: Value<String>,
    pub(super) allow_remote: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Source {
    pub(super) url: Value<String>,
    pub(super) token_file: Value<String>,
    pub(super) auth: Value<SecretString>,
    pub(super) auth_file: Value<String>,
    pub(super) ca_file: Value<String>,
    pub(super) timeout: Value<DurationText>,
    pub(super) scrape_interval: Value<DurationText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Check {
    pub(super) source: Value<String>,
    pub(super) total: Value<String>,
    pub(super) bad: Value<String>,
    pub(super) window: Value<DurationText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a [[webhook]] section")]
pub(super) struct Webhook {
    pub(super) name: Value<String>,
    pub(super) url: Value<SecretString>,
    pub(super) url_file: Value<String>,
    pub(super) events: Option<Vec<Spanned<String>>>,
    pub(super) backends: Vec<Spanned<String>>,
    pub(super) token_file: Value<String>,
    pub(super) ca_file: Value<String>,
    pub(super) timeout: Value<DurationText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct Page {
    pub(super) listen: Value<String>,
    pub(super) token_file: Value<String>,
    pub(super) key_file: Value<String>,
    pub(super) hosts: Option<Vec<Spanned<String>>>,
    pub(super) base_path: Value<String>,
    pub(super) behind_proxy: bool,
    pub(super) metrics_listen: Value<String>,
    pub(super) tls: PageTls,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct PageTls {
    pub(super) cert_file: Value<String>,
    pub(super) key_file: Value<String>,
}
