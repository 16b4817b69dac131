//! What `tick` sees: everything from outside, as values.

use std::collections::BTreeMap;

use super::{plan::Protocol, request::Request};
use crate::{
    desired::PatternShare,
    fleet::NodeName,
    judge::{Cell, Flow},
    model::{Moment, Timestamp},
};

/// The time of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: for waits of this process.
    pub moment: Moment,
    /// Wall clock: for blocks and slots, and for people.
    pub wall: Timestamp,
}

/// Everything that is known at a tick.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a fact of its own")]
pub struct Observations {
    /// Whether this process holds the lock. If not, the tick changes nothing.
    pub leader: bool,
    /// Whether the rollout is one of those that may be active.
    pub active: bool,
    /// What became of the last transaction, and its `attempt`.
    pub answer: Option<(u64, Answer)>,
    /// The spec, compared with the one of the state.
    pub spec: SpecSeen,
    /// The document of the backend.
    pub document: DocumentSeen,
    /// The request of a person.
    pub request: Option<Request>,
    /// The approval of a person.
    pub approval: Option<Request>,
    /// Each node that has the backend, or should have it.
    pub nodes: BTreeMap<NodeName, NodeSeen>,
    /// Why changes are frozen; none if they are not.
    pub frozen: Option<String>,
    /// Whether the window of the plan is closed now.
    pub window_closed: bool,
    /// Whether the breaker of the fleet is open: three rollbacks in ten minutes.
    pub breaker: bool,
    /// Whether the shares of the requests do not follow the weights here: the backend is sticky or uses leastconn.
    pub share_is_free: bool,
    /// The users who may stay on `to` when it goes back, because no weight moves them: words; none if nobody does.
    pub stays: Option<String>,
    /// Whether a HAProxy has the backend in mode tcp: it sees connections and no answers.
    pub is_tcp: bool,
    /// Why the document is no split of the two sides, as [`super::known::Known::not_split`] finds it; needed in preflight.
    pub not_split: Option<String>,
    /// Whether `from` cannot take all requests: a sentence.
    pub from_too_small: Option<String>,
    /// `timeout server` of the backend, in seconds: so long preflight waits for sessions that are left on `to`.
    pub timeout_server: Option<u64>,
    /// Whether somebody watches the rollout now.
    pub watched: bool,
    /// Blocks that nodes published since the last tick. Reading one twice does no harm.
    pub blocks: Vec<NodeBlock>,
    /// Slots that nodes published. Reading one twice does no harm.
    pub slots: Vec<NodeSlot>,
    /// Named checks with an answer since the last tick.
    pub sources: BTreeMap<String, Result<SourceCell, String>>,
}

/// The answer of a named check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCell {
    /// The begin of its window: unix time / 10. The same window counts once.
    pub block: u64,
    /// How many blocks of 10 s the window covers.
    pub covers: u64,
    /// Its counts.
    pub cell: Cell,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It happened; with this index.
    Applied(u64),
    /// A check failed: nothing happened. Everything was read again since.
    Conflict,
    /// `state` was read again, and it did not happen.
    Lost,
}

/// The spec, compared with the one of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SpecSeen {
    /// The same.
    #[default]
    Same,
    /// It has another SHA-256, or is gone.
    Changed,
    /// It cannot be read: a sentence.
    Unreadable(String),
}

/// The document of the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DocumentSeen {
    /// Its `ModifyIndex`; 0 if there is none.
    pub index: u64,
    /// The share of `to`, summed by its patterns; none if the document gives no shares.
    pub share: Option<PatternShare>,
    /// Whether it is exactly the split of the two sides with this share.
    pub is_split: bool,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a fact of its own")]
pub struct NodeSeen {
    /// Whether it counts: in the inventory, in mode enforce, with the backend, not paused or overridden, not missing for
    /// ten minutes.
    pub counts: bool,
    /// Whether its key in `nodes/` exists.
    pub live: bool,
    /// The index of the newest document that it was seen to have; 0 if not known.
    pub applied: u64,
    /// Why it rejects the document or is guarded against it; none if it does not.
    pub refuses: Option<String>,
    /// Whether it answers the observation of this rollout: without that nothing else is known of its servers.
    pub heard: bool,
    /// Whether a server of `to` is usable in each of its HAProxy instances.
    pub to_usable: bool,
    /// Sessions that `to` still has.
    pub to_sessions: u64,
    /// Whether its clock is more than 2 s off.
    pub clock_off: bool,
}

/// One closed block of 10 s of one HAProxy instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBlock {
    /// The node and the instance.
    pub source: Source,
    /// unix time / 10; the last one, if it covers several.
    pub block: u64,
    /// How many blocks the counts cover: more than 1 where a publication was missed.
    pub covers: u64,
    /// The counts of each check.
    pub cells: BTreeMap<String, Cell>,
    /// Started and completed requests of `to`.
    pub to: Flow,
    /// Started and completed requests of `from`.
    pub from: Flow,
    /// Requests of both sides. Those of servers on neither side belong to no share of this rollout.
    pub all: u64,
    /// The response time of `from`, in milliseconds.
    pub from_rtime: u64,
    /// What makes the cells useless for the evidence.
    pub marks: Marks,
}

impl NodeBlock {
    /// The first block that the counts cover.
    pub fn begins(&self) -> u64 {
        (self.block + 1).saturating_sub(self.covers.max(1))
    }
}

/// A HAProxy instance of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The node.
    pub node: NodeName,
    /// The instance.
    pub instance: String,
}

/// What a node says of a block that makes its cells useless for the evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a fact of its own")]
pub struct Marks {
    /// A weight changed in the block.
    pub weights: bool,
    /// A usable server of `to` changed in the block.
    pub to_usable: bool,
    /// A usable server of `from` changed in the block.
    pub from_usable: bool,
    /// A process ended in it unread, or the node restarted.
    pub torn: bool,
}

impl Marks {
    /// Whether the cells are of no use.
    pub const fn any(self) -> bool {
        self.weights || self.to_usable || self.from_usable || self.torn
    }
}

/// One slot of 2 s of one HAProxy instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSlot {
    /// The node and the instance.
    pub source: Source,
    /// unix time / 2.
    pub slot: u64,
    /// The counts of each check.
    pub cells: BTreeMap<String, Cell>,
}

impl Observations {
    /// The nodes that count.
    pub fn counting(&self) -> impl Iterator<Item = (&NodeName, &NodeSeen)> {
        self.nodes.iter().filter(|(_, node)| node.counts)
    }

    /// The counting nodes that have not applied a document.
    pub fn not_applied(&self, document: u64) -> Vec<NodeName> {
        let late = self.counting().filter(|(_, node)| node.applied < document || node.refuses.is_some());
        late.map(|(name, _)| name.clone()).collect()
    }

    /// The nodes for which going back waits: those that count, live and do not refuse.
    pub fn not_gone_back(&self, document: u64) -> Vec<NodeName> {
        let late = self.counting().filter(|(_, node)| node.live && node.refuses.is_none() && node.applied < document);
        late.map(|(name, _)| name.clone()).collect()
    }

    /// The counting nodes that do not answer the observation.
    pub fn unheard(&self) -> impl Iterator<Item = &NodeName> {
        self.counting().filter(|(_, node)| !node.heard).map(|(name, _)| name)
    }

    /// The counting nodes on which no server of `to` is usable.
    pub fn unusable(&self) -> Vec<NodeName> {
        self.counting().filter(|(_, node)| node.heard && !node.to_usable).map(|(name, _)| name.clone()).collect()
    }

    /// Sessions that are left on `to`.
    pub fn to_sessions(&self) -> u64 {
        self.counting().map(|(_, node)| node.to_sessions).sum()
    }
}

/// The checks of a backend that HAProxy's counters feed, in the order of outputs.
pub fn counted_checks(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Http => &["errors", "masked", "refused", "redirected"],
        Protocol::Grpc | Protocol::Tcp => &["errors", "masked"],
    }
}
