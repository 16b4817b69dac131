use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::{BackendName, InvalidSegment, Root, check_segment};

/// The name of a node: 1 to [`NodeName::MAX_LEN`] characters of `[A-Za-z0-9_.-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The longest name, in bytes: what the configuration of weightd takes.
    pub const MAX_LEN: usize = 128;

    /// Takes `name` if a node can have it.
    ///
    /// # Errors
    /// [`InvalidSegment`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, InvalidSegment> {
        check_segment(name, Self::MAX_LEN)?;
        Ok(Self(Arc::from(name)))
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&name).map_err(de::Error::custom)
    }
}

/// The keys of a fleet below its root, as Consul has them: nothing in them needs an escape but what the client of Consul
/// escapes in each URL.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'r>(pub &'r Root);

impl Keys<'_> {
    /// `nodes/`: what each node has now.
    pub fn nodes(&self) -> String {
        self.below("nodes/")
    }

    /// `nodes/<node>`.
    pub fn node(&self, node: &NodeName) -> String {
        self.below(&format!("nodes/{node}"))
    }

    /// `inventory/`: which nodes exist.
    pub fn inventories(&self) -> String {
        self.below("inventory/")
    }

    /// `inventory/<node>`.
    pub fn inventory(&self, node: &NodeName) -> String {
        self.below(&format!("inventory/{node}"))
    }

    /// `history/`.
    pub fn histories(&self) -> String {
        self.below("history/")
    }

    /// `history/<backend>`.
    pub fn history(&self, backend: &BackendName) -> String {
        self.below(&format!("history/{backend}"))
    }

    /// `freeze`: stops changes of all backends.
    pub fn freeze_all(&self) -> String {
        self.below("freeze")
    }

    /// `freeze/<backend>`: stops changes of one.
    pub fn freeze(&self, backend: &BackendName) -> String {
        self.below(&format!("freeze/{backend}"))
    }

    /// `expect`: how many nodes there should be.
    pub fn expect(&self) -> String {
        self.below("expect")
    }

    /// `observe/`: on which backends the nodes report.
    pub fn observes(&self) -> String {
        self.below("observe/")
    }

    /// `observe/<backend>/<id>`.
    pub fn observe(&self, backend: &BackendName, id: &str) -> String {
        self.below(&format!("observe/{backend}/{id}"))
    }

    /// `observe/_`: a key without meaning that the first observer writes and nobody deletes. While it is there, a node can
    /// block on the prefix; an absent prefix wakes on every write of the datacenter.
    pub fn observe_marker(&self) -> String {
        self.below("observe/_")
    }

    /// The backend and the id of a key below `prefix`, that of [`Keys::observes`]; none where it is no observation.
    pub fn observation_of<'k>(prefix: &str, key: &'k str) -> Option<(BackendName, &'k str)> {
        let (backend, id) = key.strip_prefix(prefix)?.split_once('/')?;
        let valid = !id.is_empty() && !id.contains('/');
        valid.then(|| BackendName::new(backend).ok()).flatten().map(|backend| (backend, id))
    }

    /// `counters/`: what the nodes report on observed backends.
    pub fn counters(&self) -> String {
        self.below("counters/")
    }

    /// `counters/<node>`.
    pub fn counter(&self, node: &NodeName) -> String {
        self.below(&format!("counters/{node}"))
    }

    /// The node of a key below `prefix`, such as that of [`Keys::nodes`]; none where it is no node's key.
    pub fn node_of(prefix: &str, key: &str) -> Option<NodeName> {
        NodeName::new(key.strip_prefix(prefix)?).ok()
    }

    /// The backend of a key below `prefix`, such as that of [`Keys::histories`].
    pub fn backend_of(prefix: &str, key: &str) -> Option<BackendName> {
        BackendName::new(key.strip_prefix(prefix)?).ok()
    }

    fn below(self, tail: &str) -> String {
        format!("{}{tail}", self.0.as_str())
    }
}

#[cfg(test)]
mod tests;
