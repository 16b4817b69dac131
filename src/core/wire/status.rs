//! The status of one node: the JSON of `/v1/status`.
//!
//! weightd writes it and weightctl reads it. Their versions may differ: a missing field gets its default, and an
//! unknown field is ignored. Field names and words are stable.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    desired::Desired,
    model::{BackendName, ServerName, Weight},
    reasons::Reason,
};

/// A stable word. Newer versions may add words.
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
    /// The uptime of weightd, in seconds.
    pub uptime_seconds: f64,
    /// The datacenter in the requests of weightd; none for the agent's own.
    pub datacenter: Option<String>,
    /// Problems that disable a part of weightd, such as a port that is in use.
    pub problems: Vec<Reason>,
    /// The configured HAProxy instances.
    pub instances: Vec<InstanceStatus>,
    /// How the fleet sees this node, for each root that it follows.
    pub fleet: Vec<FleetStatus>,
}

/// The key of this node below one root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetStatus {
    /// The root.
    pub root: String,
    /// `published`; `absent` while it is not written; `denied` where the token may not; `duplicate_node` where another
    /// machine has the same name.
    pub state: Word,
    /// The fix.
    pub remedy: Option<String>,
    /// The report on observed backends.
    pub counters: CountersStatus,
}

/// The report of this node on observed backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CountersStatus {
    /// `idle` while nobody observes; `reporting`; `failing` while the last write failed; `denied` where the token may not;
    /// `no_session` while no session holds the key in `nodes/`, which holds this report too.
    pub state: Word,
    /// How many backends are observed.
    pub observed: usize,
    /// The fix.
    pub remedy: Option<String>,
}

/// A HAProxy instance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// The address of its runtime API.
    pub address: String,
    /// The root of its keys in Consul.
    pub root: String,
    /// Whether a reading showed all weights as in Consul, and no document in Consul is rejected or guarded.
    pub converged: bool,
    /// The pause of all backends, if there is one.
    pub paused: Option<PauseStatus>,
    /// The connection to Consul.
    pub consul: ConsulStatus,
    /// The connection to HAProxy.
    pub haproxy: HaproxyStatus,
    /// Number of drift corrections since weightd started.
    pub drift_corrections: u64,
    /// All backends in Consul or on disk.
    pub backends: Vec<BackendStatus>,
    /// Keys with an invalid backend name; the first 100.
    pub stray: Vec<StrayStatus>,
    /// Total number of such keys.
    pub stray_total: usize,
}

/// A pause: until its end weightd accepts nothing and sets nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseStatus {
    /// The remaining time, in seconds.
    pub for_seconds: f64,
    /// The reason in the request.
    pub reason: Option<String>,
    /// The author in the request.
    pub by: Option<String>,
}

/// An override: its weights are enforced in place of the document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverrideStatus {
    /// The time until the alarm, in seconds; 0 when it is over.
    pub for_seconds: f64,
    /// Whether its time is over. The weights stay.
    pub expired: bool,
    /// The reason in the request.
    pub reason: Option<String>,
    /// The author in the request.
    pub by: Option<String>,
    /// The last valid document in Consul.
    pub document: Option<Desired>,
}

/// The connection to Consul.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsulStatus {
    /// The address of the Consul agent.
    pub address: String,
    /// The state of the connection.
    pub state: LinkState,
    /// If held, the reason code.
    pub reason: Option<Word>,
    /// If held, the error, for people.
    pub detail: Option<String>,
    /// If held, the fix.
    pub remedy: Option<Word>,
    /// If held, for how many seconds.
    pub held_seconds: Option<f64>,
    /// `X-Consul-Index` of the last good answer.
    pub index: u64,
    /// The age of the last good answer, in seconds. None before the first.
    pub last_read_age_seconds: Option<f64>,
    /// Whether the last good answer had no key: there is none, or the token may not read any.
    pub empty: bool,
    /// Whether ACLs hid keys in the last good answer.
    pub filtered: bool,
    /// Whether the keys are too large for one answer, so that each backend is read separately.
    pub split: bool,
    /// Number of requests since the start.
    pub requests: u64,
    /// Number of requests without a usable answer since the start, by reason.
    pub errors: BTreeMap<Word, u64>,
}

/// The state of the connection to Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The first read has not finished.
    Starting,
    /// Consul's answers are usable.
    Following,
    /// Consul gives no usable answer. The accepted weights stay in force.
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
    /// Whether HAProxy can be used.
    pub state: ProcessState,
    /// If down, the reason code.
    pub reason: Option<Word>,
    /// If down, the error, for people.
    pub detail: Option<String>,
    /// If down, the fix.
    pub remedy: Option<Word>,
    /// If down, for how many seconds.
    pub down_seconds: Option<f64>,
    /// Its version.
    pub version: Option<String>,
    /// The Pid of the process that answers.
    pub pid: Option<u32>,
    /// Number of different processes that answered since weightd started.
    pub processes_seen: u64,
    /// Number of failed exchanges since the start, by reason.
    pub errors: BTreeMap<Word, u64>,
}

/// Whether HAProxy can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// HAProxy has not answered yet.
    Starting,
    /// HAProxy answers and accepts weights.
    Up,
    /// HAProxy cannot be used.
    Down,
    /// A word of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The state of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// A reading showed the accepted weights, and no other document is desired.
    Converged,
    /// weightd is setting weights.
    Pending,
    /// The backend is paused.
    Paused,
    /// An override is in force in place of the document.
    Overridden,
    /// A guard rejects the desired document for now.
    Guarded,
    /// The document or a leaf in Consul is invalid.
    Rejected,
    /// The key, or a leaf, is missing in Consul. The accepted weights stay in force.
    Orphaned,
    /// This HAProxy does not have the backend, or has none of the servers in the document.
    Unmatched,
    /// The balance algorithm accepts no weights at runtime.
    Unsupported,
    /// Another program or a person keeps changing the weights.
    Contended,
    /// No server is usable with a weight above 0: new requests fail.
    NoUsableServer,
    /// The backend is released.
    Released,
    /// The weights are unknown: HAProxy cannot be used, or the backend was not read yet.
    #[default]
    #[serde(other)]
    Unknown,
}

impl BackendState {
    /// Returns the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Pending => "pending",
            Self::Paused => "paused",
            Self::Overridden => "overridden",
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
    /// Its name; none only if the status could not be parsed.
    pub backend: Option<BackendName>,
    /// Its state.
    pub state: BackendState,
    /// All reasons for the state.
    pub reasons: Vec<Reason>,
    /// Its pause: its own pause or the pause of all backends, whichever ends later.
    pub paused: Option<PauseStatus>,
    /// Its override.
    pub overridden: Option<OverrideStatus>,
    /// Whether its key, or a leaf, is missing in Consul.
    pub orphaned: bool,
    /// The last valid document; while the backend is overridden, the override.
    pub desired: Option<Desired>,
    /// The last document, or override, that passed the guards. weightd enforces it.
    pub accepted: Option<Desired>,
    /// Its servers: those in the documents and those in HAProxy.
    pub servers: Vec<ServerStatus>,
    /// Whether the shares follow exactly from the weights. If not, the reasons explain the difference.
    pub shares_exact: bool,
    /// The age of the observation, in seconds; none before the first.
    pub observed_age_seconds: Option<f64>,
    /// Number of drift corrections since weightd started.
    pub drift_corrections: u64,
    /// In mode observe, the plan that mode enforce would apply.
    pub would: Option<String>,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// Its name; none only if the status could not be parsed.
    pub server: Option<ServerName>,
    /// Its weight in the last valid document.
    pub desired: Option<Weight>,
    /// Its enforced weight.
    pub accepted: Option<Weight>,
    /// Its weight in HAProxy; none if HAProxy has no such server.
    pub observed: Option<Weight>,
    /// Its weight in HAProxy's configuration.
    pub configured: Option<Weight>,
    /// Whether it could serve new traffic with a weight above 0.
    pub usable: bool,
    /// Whether it is a backup server, which gets traffic only if all active servers are down.
    pub backup: bool,
    /// Its current share of the new traffic, in percent; none if it gets no traffic or the share is unknown. See
    /// [`BackendStatus::shares_exact`].
    pub share: Option<f64>,
}

/// A key with an invalid backend name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrayStatus {
    /// The key, escaped.
    pub key: String,
    /// The problem with the key.
    pub reason: String,
    /// The fix.
    pub remedy: Word,
}
