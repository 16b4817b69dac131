//! The value of `counters/<node>`: what each HAProxy of a node has and counted, for observed backends.
//!
//! | file | owns |
//! |---|---|
//! | `counters` | the report, and how it is read |
//! | `numbers` | the counts of a block, of a slot, and the state of now |
//! | `contradiction` | whether two statements of a report cannot both be true |
//! | `fit` | how the value is kept within its size |

mod contradiction;
mod fit;
mod numbers;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::numbers::{Changed, Now, SlotCounts, Sums};
use super::{BadReport, Mode, NodeName, ViewId, node::parse_version_1};
use crate::model::{BackendName, ServerName, Timestamp, Weight};

/// What a node reports on observed backends. In JSON, with `v` first:
///
/// ```json
/// {"v": 1, "node": "lb-1", "mode": "enforce", "incarnation": "f3…", "at": 1795722436123,
///  "backends": [
///    {"backend": "app1", "instances": [
///      {"name": "edge", "version": "2.6.12", "pid": 17, "since": "2026-11-21T10:00:00Z",
///       "mode": "http", "algorithm": "roundrobin", "flags": ["sticky"],
///       "servers": [["blue", 90, 100, "up"], ["green", 10, 100, "up", ["starting"]]],
///       "views": [
///         {"id": "5c04a7e1",
///          "now": {"from": {"sessions": 4, "rtime": 12, "usable": 1, "total": 1, "weight": 90, "share": 90.0},
///                  "to": {"sessions": 1, "rtime": 14, "usable": 1, "total": 1, "weight": 10, "share": 10.0}},
///          "blocks": [{"k": 179572242, "sums": {"from": [900, 2, 904, 2, 902, 5, 7, 905, 902, 2, 0, 0, 0, 2],
///                                               "to": [100, 0, 100, 0, 100, 0, 1, 101, 100, 0, 0, 0, 0, 0]}}],
///          "slots": [{"k": 897861217, "from": [180, 0, 180, 0, 180, 1, 1], "to": [20, 9, 20, 0, 20, 0, 0]}]}]},
///      {"name": "spare", "down": "unreachable"}]}],
///  "lacks": ["app3"],
///  "left_out": [["app9", "size"]]}
/// ```
///
/// # How to read it
/// - The value answers an observation if the `ModifyIndex` of `counters/<node>` is above that of the observation's key.
///   Each new observation is answered at once, with `blocks` and `slots` still absent. When nobody observes any more, the
///   last value may stay: it is old then.
/// - Sums never go backwards within one `incarnation`, `backend`, instance and view. The numbers of a block are the
///   difference to the block before it in the same view, see [`Block::covers`]. Numbers of two incarnations have nothing
///   in common.
/// - The key is held by the session of the node: it vanishes with the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The node.
    pub node: NodeName,
    /// Whether it enforces; a node in mode observe is shown and never counts.
    pub mode: Mode,
    /// Random for each start of weightd.
    pub incarnation: String,
    /// When the value was made, by the clock of the node: milliseconds of unix time. `k` of blocks and slots is by the same
    /// clock.
    pub at: u64,
    /// The observed backends that a HAProxy here has, longest observed first.
    #[serde(default)]
    pub backends: Vec<Counted>,
    /// The observed backends that no HAProxy here has. While each HAProxy is down, a backend is in `backends`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<BackendName>,
    /// The observed backends of which nothing, or not every view, is reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many more are left out than `left_out` and `lacks` could name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// An observed backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Its name.
    pub backend: BackendName,
    /// Each HAProxy of the node that has it or is down. One that answers and lacks it is not listed.
    pub instances: Vec<Instance>,
}

/// A backend in one HAProxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// The name of the HAProxy in the configuration of the node.
    pub name: String,
    /// Why nothing could be read just now: a word, such as `unreachable` or `columns`. Everything else is then as it was read
    /// last, or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// The version of HAProxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The Pid of the process that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When that process started, by the clock of the node. `pid` and `since` identify it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What HAProxy sees of the requests.
    #[serde(default)]
    pub mode: Protocol,
    /// The balance algorithm, as HAProxy names it; empty if it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub algorithm: String,
    /// What else matters for shares and counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// All its servers, in HAProxy's order.
    #[serde(default)]
    pub servers: Vec<ServerNow>,
    /// One for each distinct view of the observations.
    #[serde(default)]
    pub views: Vec<Viewed>,
}

/// What HAProxy sees of the requests: `mode` in haproxy.cfg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Requests and answers with their status.
    Http,
    /// Connections only: no HTTP error is visible. `answered`, `refused`, `redirected`, `status_5xx` and `response` stay 0.
    Tcp,
    /// HAProxy did not say it, or a word of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What else matters for the shares and the counts of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The backend is disabled in HAProxy.
    Disabled,
    /// A cookie pins users to servers.
    Cookie,
    /// The backend has a stick table, which may pin users or only count them.
    StickTable,
    /// Requests reach servers past the balancing, and neither a cookie nor a stick table explains it: `use-server`, such as
    /// the sticky snippet. Shares are then of users.
    Sticky,
    /// A server has a `maxconn`: requests may wait in the queue.
    Maxconn,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// A server as it was read last. In JSON `["green", 10, 100, "up", ["starting"]]`, the last part absent where it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNow {
    /// Its name.
    pub name: ServerName,
    /// The weight that was set last.
    pub weight: Weight,
    /// The weight in haproxy.cfg.
    pub initial: Weight,
    /// Its health.
    pub health: Health,
    /// What else it is.
    pub marks: Vec<Mark>,
}

/// The health of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It runs.
    Up,
    /// It does not run.
    Down,
    /// No check has completed in this process, and what it was before is not known. A weight above 0 lets it serve.
    #[serde(other)]
    Unknown,
}

/// What a server is beside up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// In maintenance.
    Maint,
    /// In drain.
    Drain,
    /// An empty slot without an address.
    Slot,
    /// A backup server.
    Backup,
    /// In slow start: it gets less than its weight gives.
    Starting,
    /// Something else may set its weight: an agent check.
    Agent,
    /// Something else may set its weight: a DNS SRV record.
    Srv,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl ServerNow {
    /// Whether it could serve new traffic with a weight above 0: it runs, is not in maintenance or drain, is no empty slot
    /// and no backup.
    pub fn usable(&self) -> bool {
        let runs = match self.health {
            Health::Up => true,
            Health::Down => false,
            Health::Unknown => !self.weight.is_zero(),
        };
        runs && self.counts()
    }

    /// Whether it counts for a share: HAProxy sends it new traffic where its weight is above 0. One that is down counts: it
    /// comes back.
    pub fn counts(&self) -> bool {
        let out = |mark: &Mark| matches!(mark, Mark::Maint | Mark::Drain | Mark::Slot | Mark::Backup);
        !self.marks.iter().any(out)
    }

    /// Whether it is a backup that would serve if no other server did.
    pub(super) fn serves_as_backup(&self) -> bool {
        let out = |mark: &Mark| matches!(mark, Mark::Maint | Mark::Drain | Mark::Slot);
        self.health == Health::Up && self.marks.contains(&Mark::Backup) && !self.marks.iter().any(out)
    }
}

impl Serialize for ServerNow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, weight, initial, health, marks } = self;
        if marks.is_empty() {
            (name, weight, initial, health).serialize(serializer)
        } else {
            (name, weight, initial, health, marks).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ServerNow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ServerNow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server: name, weight, configured weight, health, marks")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<ServerNow, A::Error> {
                let missing = |at: usize| move || de::Error::invalid_length(at, &Self);
                let server = ServerNow {
                    name: parts.next_element()?.ok_or_else(missing(0))?,
                    weight: parts.next_element()?.ok_or_else(missing(1))?,
                    initial: parts.next_element()?.ok_or_else(missing(2))?,
                    health: parts.next_element()?.ok_or_else(missing(3))?,
                    marks: parts.next_element()?.unwrap_or_default(),
                };
                // A newer version may say more.
                while parts.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(server)
            }
        }

        deserializer.deserialize_seq(Visitor)
    }
}

/// What was counted for one view. The rows are `from`, `to` and `other`, or the names of the servers, see
/// [`super::Per`]; a side without a server has no row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Viewed {
    /// Which view: that of [`super::View::id`].
    pub id: ViewId,
    /// Why this view cannot be counted, such as a server on both sides. Everything else is then empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The state of each row at the last reading.
    #[serde(default)]
    pub now: BTreeMap<String, Now>,
    /// The last closed blocks, at most [`Counters::MAX_BLOCKS`], oldest first. Absent until the first one is closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
    /// The last [`Counters::MAX_SLOTS`] slots, oldest first, the running one included. Only for a view with sides, while `to`
    /// fails: absent at other times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

/// The sums at the end of a block of 10 s.
///
/// Blocks end at wall-clock multiples of 10 s and never because of what they contain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its number: unix time / 10, at its begin.
    pub k: u64,
    /// How many blocks of 10 s have passed since the block before it in this view: 1, and more where HAProxy could not be
    /// read at the end of one. The counts and marks of such a block are within this one. 0 for the first block of a view,
    /// which is incomplete: it began at the first reading, where all sums are 0.
    ///
    /// A reader that does not have block `k - covers` missed a block, and its marks with it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub covers: u64,
    /// Whether a HAProxy process ended in it before its last counts were read, or counters were cleared: some requests are
    /// missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub torn: bool,
    /// The rows of which a weight or a usable server changed in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<String, Changed>,
    /// The sums of each row at its end, since the view began.
    #[serde(default)]
    pub sums: BTreeMap<String, Sums>,
    /// Errors that HAProxy answered itself because no server could take the request: none was up, or the queue timed out. A
    /// sum like the others, over all servers.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unserved: u64,
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &u64) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

/// The counts within a slot of 2 s. A later copy of the same slot replaces it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number: unix time / 2, at its begin.
    pub k: u64,
    /// What `from` counted within it.
    #[serde(default)]
    pub from: SlotCounts,
    /// What `to` counted within it.
    #[serde(default)]
    pub to: SlotCounts,
}

/// A backend of which nothing, or not every view, is reported. In JSON `["app9", "size"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut(pub BackendName, pub WhyLeftOut);

/// Why a backend is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyLeftOut {
    /// The value would be larger than [`Counters::MAX_BYTES`].
    Size,
    /// More than [`Counters::MAX_BACKENDS`] are observed.
    Backends,
    /// It has more than [`Counters::MAX_VIEWS`] views; the later ones are left out.
    Views,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl Counters {
    /// The most bytes of the value.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// The length of a block.
    pub const BLOCK_SECONDS: u64 = 10;
    /// The length of a slot.
    pub const SLOT_SECONDS: u64 = 2;
    /// The most blocks of a view. Where space is short there is one.
    pub const MAX_BLOCKS: usize = 3;
    /// The most slots of a view.
    pub const MAX_SLOTS: usize = 5;
    /// The most backends that a node reads.
    pub const MAX_BACKENDS: usize = 64;
    /// The most views of one backend.
    pub const MAX_VIEWS: usize = 8;

    /// Reads the value of `counters/<node>`. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`BadReport`] says why it is no data.
    pub fn parse(node: &NodeName, value: &[u8]) -> Result<Self, BadReport> {
        let report: Self = parse_version_1(value, Self::MAX_BYTES)?;
        report.contradiction(node).map_or(Ok(report), |what| Err(BadReport::Contradicts(what)))
    }

    /// What is reported on a backend in one HAProxy.
    pub fn instance(&self, backend: &BackendName, instance: &str) -> Option<&Instance> {
        let counted = self.backends.iter().find(|counted| counted.backend == *backend)?;
        counted.instances.iter().find(|found| found.name == instance)
    }
}

impl Instance {
    /// One of which nothing is known.
    pub fn unread(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            down: None,
            version: String::new(),
            pid: None,
            since: None,
            mode: Protocol::Unknown,
            algorithm: String::new(),
            flags: Vec::new(),
            servers: Vec::new(),
            views: Vec::new(),
        }
    }

    /// What was counted for a view.
    pub fn view(&self, id: ViewId) -> Option<&Viewed> {
        self.views.iter().find(|view| view.id == id)
    }
}

#[cfg(test)]
mod tests;
