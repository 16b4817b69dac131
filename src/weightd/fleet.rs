//! What the fleet knows of this node: its key in `nodes/`, its inventory entry, and whether that works.
//!
//! | file | owns |
//! |---|---|
//! | `stands` | from a session to how a HAProxy stands with each document |
//! | `holder` | how the key is kept in Consul; no I/O |
//! | `inventory` | what the inventory entry says; no I/O |
//! | `publisher` | the task of one root: carries out what the others decide |
//! | `machine` | which machine this is |
//! | `counters` | the report on observed backends |
//!
//! Publishes what was decided and read back. Never changes a weight, and never delays one: without the rights for it, or
//! without Consul, only the fleet's view of this node is lost.

pub mod counters;
pub mod holder;
pub mod inventory;
pub mod machine;
pub mod publisher;
pub mod stands;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{Notify, watch};
use weightd_core::{
    fleet::{Identity, Mode, NodeName},
    model::Root,
    wire::status::{CountersStatus, FleetStatus},
};

use self::publisher::{Setup, Shown, inventory_policy, policy};
pub use self::{holder::Standing, publisher::Publisher};
use super::{config::Config, instance::Instance, metrics::Metrics};
use crate::{
    base::clock::Clock,
    consul::{Client, watch::WatchHandle},
};

/// How the key of one root stands.
#[derive(Debug)]
pub struct Published {
    root: Root,
    node: String,
    shown: watch::Receiver<Shown>,
    counters: watch::Receiver<counters::Shown>,
}

/// The tasks of all roots that this node follows.
#[derive(Debug, Default)]
pub struct Parts {
    /// They keep the reports in `nodes/`.
    pub publishers: Vec<Publisher>,
    /// They report on observed backends.
    pub reporters: Vec<counters::Reporter>,
    /// How all these keys stand.
    pub published: Vec<Published>,
}

/// The tasks of all roots that this node follows.
///
/// # Errors
/// The name of the node cannot be a key.
pub fn publishers(
    config: &Config,
    observe_only: bool,
    client: &Arc<Client>,
    clock: Clock,
    instances: &[Arc<Instance>],
    metrics: &Arc<Metrics>,
    roots: impl IntoIterator<Item = (Root, (WatchHandle, Arc<Notify>))>,
) -> anyhow::Result<Parts> {
    let identity = Identity {
        node: NodeName::new(&config.node).context("the name of the node cannot be a key of Consul")?,
        version: crate::VERSION.to_owned(),
        mode: if observe_only { Mode::Observe } else { Mode::Enforce },
        machine: config.fleet.machine_id.clone().unwrap_or_else(|| machine::machine_id(&config.state_dir)),
        incarnation: machine::incarnation(),
    };
    let mut parts = Parts::default();
    for (root, (watch, changed)) in roots {
        let own = instances.iter().filter(|instance| instance.root == root.as_str());
        let (publisher, shown) = Publisher::new(Setup {
            client: Arc::clone(client),
            clock,
            root: root.clone(),
            identity: identity.clone(),
            instances: own.map(Arc::clone).collect(),
            watch,
            changed,
            leave_on_stop: config.fleet.leave_on_stop,
            metrics: Arc::clone(metrics),
        });
        let own = instances.iter().filter(|instance| instance.root == root.as_str());
        let source = |instance: &Arc<Instance>| {
            let configured = config.haproxy.iter().find(|haproxy| haproxy.name == instance.name);
            counters::Source::new(Arc::clone(instance), configured.and_then(|haproxy| haproxy.master_socket.clone()))
        };
        let (reporter, counters) = counters::Reporter::new(counters::Setup {
            client: Arc::clone(client),
            clock,
            root: root.clone(),
            identity: identity.clone(),
            sources: own.map(source).collect(),
            node: shown.clone(),
            metrics: Arc::clone(metrics),
        });
        parts.publishers.push(publisher);
        parts.reporters.push(reporter);
        parts.published.push(Published { root, node: config.node.clone(), shown, counters });
    }
    Ok(parts)
}

impl Published {
    /// As it is shown.
    pub fn status(&self) -> FleetStatus {
        let Shown { standing, inventory_denied, .. } = *self.shown.borrow();
        let counters::Shown { state, observed } = *self.counters.borrow();
        let remedy = match standing {
            Standing::Held if inventory_denied => Some(inventory_policy(&self.root, &self.node)),
            Standing::Held | Standing::Absent => None,
            Standing::Denied => Some(policy(&self.root, &self.node)),
            Standing::Duplicate => Some("give each machine a `node` of its own in weightd.toml".to_owned()),
        };
        let counters = CountersStatus {
            state: state.as_str().into(),
            observed,
            remedy: counters::remedy(state, &self.root, &self.node),
        };
        FleetStatus { root: self.root.to_string(), state: standing.as_str().into(), remedy, counters }
    }
}
