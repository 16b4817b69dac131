//! The status of one node: the JSON of `/v1/status`.
//!
//! weightd writes it, weightctl reads it, and they need not be of the same version: a field that is missing has its
//! default, an unknown one is ignored. Field names and words are stable.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    desired::Desired,
    model::{BackendName, ServerName, Weight},
    reasons::Reason,
};

/// A word that a newer version may extend.
pub type Word = Cow<'static, str>;

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of weightd with its commit, such as `0.1.0 (abc1234)`.
    pub version: Word,
    /// The node's name.
    pub node: String,
    /// `enforce` or `observe`.
    pub mode: Word,
    /// How long weightd has been running, in seconds.
    pub uptime_seconds: f64,
    /// The datacenter that weightd asks for; none for the agent's own.
    pub datacenter: Option<String>,
    /// The problems of weightd itself that leave a part of it off, such as a port that is taken.
    pub problems: Vec<Reason>,
    /// One for each configured HAProxy.
    pub instances: Vec<InstanceStatus>,
}

/// A HAProxy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Where its runtime API is.
    pub address: String,
    /// The root of the keys that it follows.
    pub root: String,
    /// Whether a reading showed every weight as Consul says, and nothing that Consul says is rejected or guarded.
    pub converged: bool,
    /// The pause of all backends, if there is one.
    pub paused: Option<PauseStatus>,
    /// The connection to Consul.
    pub consul: ConsulStatus,
    /// The connection to HAProxy.
    pub haproxy: HaproxyStatus,
    /// Corrections of drift since weightd started.
    pub drift_corrections: u64,
    /// Every backend that Consul or the disk mentions.
    pub backends: Vec<BackendStatus>,
    /// Keys that belong to no backend that HAProxy could have; the first hundred.
    pub stray: Vec<StrayStatus>,
    /// How many such keys there are.
    pub stray_total: usize,
}

/// A pause: nothing is accepted and nothing is set until it ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseStatus {
    /// How long it still lasts.
    pub for_seconds: f64,
    /// Why, as the person says.
    pub reason: Option<String>,
    /// Who, as the person says.
    pub by: Option<String>,
}

/// The connection to Consul.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsulStatus {
    /// Where it is.
    pub address: String,
    /// Whether it follows.
    pub state: LinkState,
    /// Why it is held: a word.
    pub reason: Option<Word>,
    /// Why it is held: a sentence.
    pub detail: Option<String>,
    /// What to do about it.
    pub remedy: Option<Word>,
    /// For how long it has been held.
    pub held_seconds: Option<f64>,
    /// `X-Consul-Index` of the last good answer.
    pub index: u64,
    /// How old the last good answer is: the last proof that Consul answers. None before the first.
    pub last_read_age_seconds: Option<f64>,
    /// Whether there was no key, or none that the token may read.
    pub empty: bool,
    /// Whether Consul said that ACLs hid keys.
    pub filtered: bool,
    /// Backends whose keys are too large to be read with all others, and which are read on their own.
    pub split: bool,
    /// Requests sent since the start.
    pub requests: u64,
    /// Requests without a usable answer since the start, by reason.
    pub errors: BTreeMap<Word, u64>,
}

/// Whether Consul is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The first read has not ended.
    Starting,
    /// Its answers are usable.
    Following,
    /// There is no usable answer; what was accepted stays in force.
    Held,
    /// A word of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The connection to HAProxy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HaproxyStatus {
    /// Whether it can be used.
    pub state: ProcessState,
    /// Why it cannot be used: a word.
    pub reason: Option<Word>,
    /// Why it cannot be used: a sentence.
    pub detail: Option<String>,
    /// What to do about it.
    pub remedy: Option<Word>,
    /// For how long it could not be used.
    pub down_seconds: Option<f64>,
    /// Its version.
    pub version: Option<String>,
    /// The Pid of the process that answers.
    pub pid: Option<u32>,
    /// How many processes have answered since weightd started.
    pub processes_seen: u64,
    /// Exchanges that failed since the start, by reason.
    pub errors: BTreeMap<Word, u64>,
}

/// Whether HAProxy can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// It has not answered yet.
    Starting,
    /// It answers and takes weights.
    Up,
    /// It cannot be used.
    Down,
    /// A word of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a backend stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// A reading showed the accepted weights, and nothing else is desired.
    Converged,
    /// Weights are being set.
    Pending,
    /// It is paused.
    Paused,
    /// What is desired is guarded.
    Guarded,
    /// What Consul has for it is invalid.
    Rejected,
    /// Its key, or a leaf, is gone; the accepted weights stay in force.
    Orphaned,
    /// This HAProxy has no such backend, or none of the servers that the document names.
    Unmatched,
    /// Its algorithm takes no weights at runtime.
    Unsupported,
    /// Something else keeps changing its weights.
    Contended,
    /// New requests fail.
    NoUsableServer,
    /// It is released.
    Released,
    /// Its weights are not known: HAProxy cannot be used, or the backend was not read yet.
    #[default]
    #[serde(other)]
    Unknown,
}

impl BackendState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Pending => "pending",
            Self::Paused => "paused",
            Self::Guarded => "guarded",
            Self::Rejected => "rejected",
            Self::Orphaned => "orphaned",
            Self::Unmatched => "unmatched",
            Self::Unsupported => "unsupported",
            Self::Contended => "contended",
            Self::NoUsableServer => "no_usable_server",
            Self::Released => "released",
            Self::Unknown => "unknown",
        }
    }
}

/// A backend.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendStatus {
    /// Its name; none only where the status could not be parsed.
    pub backend: Option<BackendName>,
    /// How it stands.
    pub state: BackendState,
    /// Every reason for it.
    pub reasons: Vec<Reason>,
    /// The pause that it is under, its own or that of all backends: the one that ends later.
    pub paused: Option<PauseStatus>,
    /// Whether its key, or a leaf, is gone from Consul.
    pub orphaned: bool,
    /// The last valid document.
    pub desired: Option<Desired>,
    /// The last one that passed the guards: what is enforced.
    pub accepted: Option<Desired>,
    /// Its servers, named or observed.
    pub servers: Vec<ServerStatus>,
    /// Whether the shares follow from the weights alone; else the reasons say what they depend on.
    pub shares_exact: bool,
    /// How old the observation is; none before the first.
    pub observed_age_seconds: Option<f64>,
    /// How often it was corrected because something else had changed it.
    pub drift_corrections: u64,
    /// What would be sent, on a node in mode observe.
    pub would: Option<String>,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// Its name; none only where the status could not be parsed.
    pub server: Option<ServerName>,
    /// Its weight in the last valid document.
    pub desired: Option<Weight>,
    /// The weight that is enforced.
    pub accepted: Option<Weight>,
    /// Its weight in HAProxy; none if HAProxy has no such server.
    pub observed: Option<Weight>,
    /// Its weight in HAProxy's configuration.
    pub configured: Option<Weight>,
    /// Whether it takes new traffic when its weight is above 0.
    pub usable: bool,
    /// Whether it is a backup server, which takes traffic only when all active servers are down.
    pub backup: bool,
    /// The part of the new traffic that it gets now, in percent; none where it gets none or where that is not known. See
    /// [`BackendStatus::shares_exact`].
    pub share: Option<f64>,
}

/// A key that belongs to no backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrayStatus {
    /// The key, escaped.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub remedy: Word,
}
