//! The servers that nodes report, beside those of the document: which of them count, and in which ratio.

use crate::{
    desired::Weights,
    fleet::counters::{Instance, ServerNow},
    model::{ServerName, Weight},
};

/// A server, as a HAProxy has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// Its name.
    pub name: ServerName,
    /// The configured weight.
    pub configured: Weight,
    /// The weight that it has now.
    pub weight: Weight,
    /// Whether it counts for a share: it is no empty slot, not in maintenance and no backup server.
    pub counts: bool,
}

impl From<&ServerNow> for KnownServer {
    fn from(server: &ServerNow) -> Self {
        let (name, counts) = (server.name.clone(), server.counts());
        Self { name, configured: server.initial, weight: server.weight, counts }
    }
}

/// The servers of one HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeServers {
    /// The name of the node.
    pub node: String,
    /// Its servers.
    pub servers: Vec<KnownServer>,
}

impl NodeServers {
    /// The servers of a HAProxy that was read just now; none if it was not, or if it has none.
    pub fn of(node: &str, instance: &Instance) -> Option<Self> {
        let is_read = instance.down.is_none() && !instance.servers.is_empty();
        let servers = || instance.servers.iter().map(KnownServer::from).collect();
        is_read.then(|| Self { node: node.to_owned(), servers: servers() })
    }

    /// Whether this HAProxy has the server, and it counts for a share.
    pub(super) fn counts(&self, name: &ServerName) -> bool {
        self.servers.iter().any(|server| server.name == *name && server.counts)
    }
}

/// What the nodes report of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// The HAProxies that have the backend; empty if nothing is known of them.
    pub nodes: Vec<NodeServers>,
    /// Whether each HAProxy was read, so that a server that none reports is on none.
    pub complete: bool,
}

impl Reported {
    fn servers(&self) -> impl Iterator<Item = &KnownServer> {
        self.nodes.iter().flat_map(|node| &node.servers)
    }

    /// The names of all servers; some more than once.
    pub(super) fn names(&self) -> impl Iterator<Item = &ServerName> {
        self.servers().map(|server| &server.name)
    }

    /// Those of the servers of a side that count for its share. If none does, all count, so that their weights are right
    /// when they come back.
    pub(super) fn counting<'s>(&self, members: &[&'s ServerName]) -> Vec<&'s ServerName> {
        let counting: Vec<_> = members.iter().copied().filter(|name| self.counts(name)).collect();
        if counting.is_empty() { members.to_vec() } else { counting }
    }

    fn counts(&self, name: &ServerName) -> bool {
        let mut reported = self.servers().filter(|server| server.name == *name).peekable();
        match reported.peek() {
            Some(_) => reported.any(|server| server.counts),
            None => self.nodes.is_empty() || !self.complete,
        }
    }

    fn configured(&self, name: &ServerName) -> Option<u32> {
        let configured = self.servers().find(|server| server.name == *name)?.configured;
        Some(u32::from(configured.get()))
    }

    /// The wanted ratio of the servers of a side: that of their present weights. A server without a present weight has the
    /// part that its configured weight gives it; where that says nothing, the mean of the others.
    pub(super) fn ratio(&self, document: &Weights, members: &[&ServerName]) -> Vec<u32> {
        let present = |name: &ServerName| document.get(name).map(|weight| u32::from(weight.get()));
        let sum: u32 = members.iter().filter_map(|name| present(name)).sum();
        if sum == 0 {
            return members.iter().map(|name| self.configured(name).unwrap_or_default()).collect();
        }
        if members.iter().all(|name| present(name).is_some()) {
            return members.iter().filter_map(|name| present(name)).collect();
        }
        let known = members.iter().filter_map(|name| Some((present(name)?, self.configured(name)?)));
        let (weights, configured) = known.fold((0, 0), |(weights, configured), (w, c)| (weights + w, configured + c));
        let count = members.iter().filter(|name| present(name).is_some()).count();
        let (own, new): (u32, _) = if weights > 0 && configured > 0 {
            (configured, weights)
        } else {
            (u32::try_from(count).unwrap_or(u32::MAX), 0)
        };
        let part = |name: &&ServerName| match present(name) {
            Some(weight) => weight.saturating_mul(own),
            None if new > 0 => self.configured(name).unwrap_or_default().saturating_mul(new),
            None => sum,
        };
        members.iter().map(part).collect()
    }
}

/// The weight of a server that does not count: the one that fits the ratio of the servers of its side that do. At least 1
/// if it has a part of a side with a share.
pub(super) fn fitting(part: u32, counted: &[u32], weights: &[Weight]) -> Weight {
    let sum: u64 = weights.iter().map(|weight| u64::from(weight.get())).sum();
    let ratio: u64 = counted.iter().map(|part| u64::from(*part)).sum();
    let (part, ratio) = if ratio == 0 { (1, counted.len() as u64) } else { (u64::from(part), ratio) };
    if sum == 0 || part == 0 || ratio == 0 {
        return Weight::ZERO;
    }
    Weight::new(((sum * part + ratio / 2) / ratio).max(1)).unwrap_or(Weight::MAX)
}
