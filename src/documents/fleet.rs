//! Reads the keys of a fleet: what the nodes say of themselves, which nodes there are, and how many there should be.
//!
//! A key that cannot be read is an error and never an empty answer: without it nothing can be said about the fleet. The
//! verdicts over the values are in [`weightd_core::fleet`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weightd_core::{
    desired::{Decoder, DesiredState},
    fleet::{BadValue, Expect, Fleet, Inventory, Keys, Mode, NodeName, NodeRead, NodeReport},
    model::{BackendName, Timestamp},
};

use super::{Documents, DocumentsError, MAX_BACKEND, read_error, single::KeyWrite};
use crate::consul::client::{Blocking, ConsulError};

/// The keys below `nodes/`, from one answer.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// `X-Consul-Index`, for the next blocking query.
    pub index: u64,
    /// The report of each node.
    pub reports: BTreeMap<NodeName, NodeRead>,
}

/// A key or a prefix that the token may not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// The key, or the prefix with a final slash.
    pub key: String,
    /// The ACL rule that the token needs.
    pub rule: String,
}

/// Which nodes there are, and what they should have.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// The entry of each node and its `ModifyIndex`.
    pub inventory: BTreeMap<NodeName, (u64, Result<Inventory, BadValue>)>,
    /// How many nodes there should be, and the `ModifyIndex` of the key; none if nobody said so.
    pub expect: Option<(u64, Result<Expect, BadValue>)>,
    /// How many backends have a key, as far as the token shows.
    pub documents: u64,
}

impl Roster {
    /// Everything that is known of the nodes. An unreadable `expect` counts as none.
    pub fn fleet(&self, nodes: &Nodes) -> Fleet {
        let inventory = self.inventory.iter().map(|(node, (_, entry))| (node.clone(), entry.clone()));
        let expect = self.expect.as_ref().and_then(|(_, expect)| expect.as_ref().ok());
        Fleet {
            nodes: nodes.reports.clone(),
            inventory: inventory.collect(),
            expect: expect.map(|expect| expect.nodes),
        }
    }
}

impl Documents {
    /// Returns the names of the fleet's keys.
    pub fn keys(&self) -> Keys<'_> {
        Keys(&self.root)
    }

    /// Returns Consul's own time; none before its first answer.
    pub fn time(&self) -> Option<Timestamp> {
        self.client.time()
    }

    /// Reads `nodes/`. With `blocking`, Consul answers after a change or when the wait is over.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], also if the token may not read the prefix: a listing would silently be empty.
    pub async fn nodes(&self, blocking: Option<Blocking>) -> Result<Nodes, DocumentsError> {
        let prefix = self.keys().nodes();
        let read = async {
            let listing = self.client.list(&prefix, blocking).await?;
            let entries = listing.entries()?;
            if blocking.is_none() || entries.is_empty() {
                self.client.may_read(&prefix).await?;
            }
            let mut reports = BTreeMap::new();
            for entry in &entries {
                // No weightd has another name, so another key is none of a node.
                let Some(node) = Keys::node_of(&prefix, &entry.key) else { continue };
                let value = entry.bytes().map_err(ConsulError::BadResponse)?;
                let report = NodeReport::parse(&node, &value);
                reports.insert(node, NodeRead { index: entry.modify_index, report });
            }
            Ok(Nodes { index: listing.index, reports })
        };
        read.await.map_err(|source| read_error(&prefix, source))
    }

    /// Reads `inventory/` and `expect`, and counts the backends.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], also if the token may not read one of them.
    pub async fn roster(&self) -> Result<Roster, DocumentsError> {
        let (inventory, expect, documents) = tokio::join!(self.inventory(), self.expected(), self.count());
        Ok(Roster { inventory: inventory?, expect: expect?, documents: documents? })
    }

    /// As [`Self::roster`], but without the parts that the token may not read: with the key and the rule of each.
    ///
    /// # Errors
    /// [`DocumentsError::Read`] for any other reason.
    pub async fn roster_in_view(&self) -> Result<(Roster, Vec<Hidden>), DocumentsError> {
        let mut hidden = Vec::new();
        let (inventory, expect, documents) = tokio::join!(self.inventory(), self.expected(), self.count());
        let mut off = |error: DocumentsError| match error {
            DocumentsError::Read { below, rule, source: ConsulError::Denied(_) } => {
                hidden.push(Hidden { key: below, rule });
                Ok(())
            }
            error => Err(Box::new(error)),
        };
        let inventory = match inventory {
            Ok(inventory) => inventory,
            Err(error) => off(error).map(|()| BTreeMap::new()).map_err(|error| *error)?,
        };
        let expect = match expect {
            Ok(expect) => expect,
            Err(error) => off(error).map(|()| None).map_err(|error| *error)?,
        };
        Ok((Roster { inventory, expect, documents: documents? }, hidden))
    }

    /// The nodes of the inventory that enforce weights, or whose entry cannot be read; none if the token may not read it.
    ///
    /// # Errors
    /// [`DocumentsError::Read`] for any other reason.
    pub async fn inventory_in_view(&self) -> Result<Option<BTreeSet<NodeName>>, DocumentsError> {
        let enforces = |entry: &Result<Inventory, BadValue>| entry.as_ref().map_or(true, |e| e.mode == Mode::Enforce);
        match self.inventory().await {
            Ok(all) => {
                let enforcing = all.into_iter().filter(|(_, (_, entry))| enforces(entry));
                Ok(Some(enforcing.map(|(node, _)| node).collect()))
            }
            Err(error) if error.is_denied() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn inventory(&self) -> Result<BTreeMap<NodeName, (u64, Result<Inventory, BadValue>)>, DocumentsError> {
        let prefix = self.keys().inventories();
        let read = async {
            let (listing, allowed) = tokio::join!(self.client.list(&prefix, None), self.client.may_read(&prefix));
            allowed?;
            let listing = listing?;
            let mut inventory = BTreeMap::new();
            for entry in listing.entries()? {
                let Some(node) = Keys::node_of(&prefix, &entry.key) else { continue };
                let value = entry.bytes().map_err(ConsulError::BadResponse)?;
                inventory.insert(node, (entry.modify_index, Inventory::parse(&value)));
            }
            Ok(inventory)
        };
        read.await.map_err(|source| read_error(&prefix, source))
    }

    /// Reads how many nodes there should be; none if nobody said so.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn expected(&self) -> Result<Option<(u64, Result<Expect, BadValue>)>, DocumentsError> {
        let key = self.keys().expect();
        let read = async {
            let listing = self.client.get_at_most(&key, MAX_BACKEND).await?;
            let entries = listing.entries()?;
            let Some(entry) = entries.first() else { return Ok(None) };
            let value = entry.bytes().map_err(ConsulError::BadResponse)?;
            Ok(Some((entry.modify_index, Expect::parse(&value))))
        };
        read.await.map_err(|source| read_error(&key, source))
    }

    /// Counts the backends with a key, without reading the values.
    async fn count(&self) -> Result<u64, DocumentsError> {
        let read = async {
            let keys = self.client.children(&self.prefix, None).await?.keys()?;
            let names = keys.iter().filter_map(|key| {
                let name = key.strip_prefix(&self.prefix)?;
                BackendName::new(name.strip_suffix('/').unwrap_or(name)).ok()
            });
            Ok(names.collect::<std::collections::BTreeSet<_>>().len() as u64)
        };
        match read.await {
            // A team may not list the backends of others: a lower count only makes the verdict less strict.
            Err(ConsulError::Denied(_)) => Ok(0),
            read => read.map_err(|source| read_error(&self.prefix, source)),
        }
    }

    /// Reads what is desired for all backends.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn desired(&self) -> Result<Arc<DesiredState>, DocumentsError> {
        let prefix = self.prefix.clone();
        self.read_prefix(&self.prefix, |entries| Decoder::new(prefix).decode(entries)).await.map(|(state, _)| state)
    }

    /// Deletes the inventory entry of a node if its `ModifyIndex` still is `index`.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] and [`DocumentsError::UnknownResult`].
    pub async fn forget(&self, node: &NodeName, index: u64) -> Result<KeyWrite, DocumentsError> {
        let hint = "`weightctl node list` shows whether it is forgotten";
        self.delete_one(&self.keys().inventory(node), index, hint).await
    }

    /// Writes the inventory entry of a node, if it has none.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] and [`DocumentsError::UnknownResult`].
    pub async fn remember(&self, inventory: &Inventory) -> Result<(), DocumentsError> {
        let hint = "`weightctl node list` shows whether the node is known";
        // An entry that is there already, or again, is the node's own.
        self.put_one(&self.keys().inventory(&inventory.node), inventory.to_value(), 0, hint).await.map(drop)
    }

    /// Writes how many nodes there should be, if the `ModifyIndex` of the key still is `index`; 0 means that there is no
    /// key.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] and [`DocumentsError::UnknownResult`].
    pub async fn expect(&self, expect: Expect, index: u64) -> Result<KeyWrite, DocumentsError> {
        let hint = "`weightctl status` shows how many are expected";
        self.put_one(&self.keys().expect(), expect.to_value(), index, hint).await
    }
}
