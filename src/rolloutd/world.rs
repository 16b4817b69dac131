//! What Consul has, as the leader follows it: one blocking query for each kind of key.
//!
//! It parses what changed and nothing else. What the values mean for a rollout is decided in [`weightd_core::rollout`].

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::future::select_all;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weightd_core::{
    desired::{DesiredState, Published},
    fleet::{
        CountersRead, Fleet, Freeze, Inventory, Keys, NodeName, NodeRead, NodeReport, Observation, counters::Counters,
    },
    model::{BackendName, Root},
    rollout::keys::RolloutKeys,
};

use crate::{
    base::clock::{self, Clock},
    consul::{
        Client, ConsulError,
        follow::{Followed, Follower, Value},
        watch::{Feed, Watch, WatchHandle},
    },
};

/// Between two reads of keys that people write.
const EVERY: Duration = Duration::from_millis(50);
/// Between two reads of the counters, which are the largest.
const COUNTERS_EVERY: Duration = Duration::from_millis(300);
/// The wait of the query of the documents.
const WAIT: Duration = Duration::from_secs(10);
/// A clock is off by more than this, beside the time until a report is read.
const CLOCK_OFF: Duration = Duration::from_secs(2);
/// A report is read at the latest so long after it was made, but for a slow Consul.
const READ_WITHIN: Duration = Duration::from_millis(1500);

/// A followed prefix.
#[derive(Debug)]
pub(super) struct Kind {
    follower: Follower,
    receiver: watch::Receiver<Followed>,
}

impl Kind {
    /// What was read last.
    pub(super) fn now(&self) -> Followed {
        self.receiver.borrow().clone()
    }

    /// What was read last, if it was not taken before.
    fn take_new(&mut self) -> Option<Followed> {
        self.receiver.has_changed().unwrap_or(false).then(|| self.receiver.borrow_and_update().clone())
    }
}

/// Everything that the leader follows.
#[derive(Debug)]
pub(super) struct World {
    root: Root,
    pub(super) specs: Kind,
    pub(super) requests: Kind,
    pub(super) approvals: Kind,
    pub(super) states: Kind,
    freezes: Kind,
    nodes: Kind,
    inventories: Kind,
    counters: Kind,
    observations: Kind,
    documents: WatchHandle,
    /// Parsed: `nodes/` and `inventory/`.
    pub(super) fleet: Fleet,
    /// Parsed: `counters/`.
    pub(super) reports: BTreeMap<NodeName, CountersRead>,
    /// Since when a node of the inventory says nothing.
    missing_since: BTreeMap<NodeName, Instant>,
    /// By how much the clocks of nodes are off, as far as each of the last reports allows: the smallest amount.
    offsets: BTreeMap<NodeName, [Duration; 3]>,
    pub(super) desired: Arc<DesiredState>,
    has_documents: bool,
}

impl World {
    /// Follows everything until `stop`.
    pub(super) fn start(
        client: &Arc<Client>,
        root: &Root,
        clock: Clock,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (keys, rollouts) = (Keys(root), RolloutKeys(root));
        let kind = |prefix: String, every: Duration| {
            let follower = Follower::new(Arc::clone(client), prefix);
            let (running, stop) = (follower.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(running.run(every, clock)).await });
            Kind { receiver: follower.subscribe(), follower }
        };
        let (watch, documents) = Watch::new(Arc::clone(client), root.weights_prefix(), WAIT, clock);
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(watch.run()).await });
        Self {
            specs: kind(rollouts.specs(), EVERY),
            requests: kind(rollouts.requests(), EVERY),
            approvals: kind(rollouts.approvals(), EVERY),
            states: kind(rollouts.states(), EVERY),
            freezes: kind(keys.freeze_all(), EVERY),
            nodes: kind(keys.nodes(), EVERY),
            inventories: kind(keys.inventories(), EVERY),
            counters: kind(keys.counters(), COUNTERS_EVERY),
            observations: kind(keys.observes(), EVERY),
            root: root.clone(),
            documents,
            fleet: Fleet::default(),
            reports: BTreeMap::new(),
            missing_since: BTreeMap::new(),
            offsets: BTreeMap::new(),
            desired: Arc::default(),
            has_documents: false,
        }
    }

    /// All kinds, each with its keys below the root.
    fn kinds(&self) -> [(&'static str, &Kind); 9] {
        [
            ("rollouts/spec/", &self.specs),
            ("rollouts/request/", &self.requests),
            ("rollouts/approval/", &self.approvals),
            ("rollouts/state/", &self.states),
            ("freeze", &self.freezes),
            ("nodes/", &self.nodes),
            ("inventory/", &self.inventories),
            ("counters/", &self.counters),
            ("observe/", &self.observations),
        ]
    }

    /// Waits until something changed that [`World::take`] has not taken.
    pub(super) async fn changed(&self) {
        // Of a clone, a change that the original has not seen is new as well.
        let mut feed = self.documents.feed.clone();
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = vec![Box::pin(async move {
            change(&mut feed).await;
        })];
        for (_, kind) in self.kinds() {
            let mut receiver = kind.receiver.clone();
            waits.push(Box::pin(async move { change(&mut receiver).await }));
        }
        select_all(waits).await;
    }

    /// Whether each kind was read at least once.
    pub(super) fn is_complete(&self) -> bool {
        self.has_documents && self.kinds().iter().all(|(_, kind)| kind.receiver.borrow().keys.is_some())
    }

    /// Why a kind of keys cannot be read; none if all can.
    pub(super) fn failed(&self) -> Option<String> {
        self.kinds().iter().find_map(|(name, kind)| {
            let followed = kind.receiver.borrow();
            followed.failed.as_ref().map(|(_, why)| format!("{}{name}: {why}", self.root.as_str()))
        })
    }

    /// Takes over what changed since the last call. Returns the names of the nodes with a new report on counters.
    pub(super) fn take(&mut self, now: Instant) -> Vec<NodeName> {
        if let Feed::State { state, .. } = &*self.documents.feed.borrow_and_update() {
            self.desired = Arc::clone(state);
            self.has_documents = true;
        }
        for kind in [&mut self.specs, &mut self.requests, &mut self.approvals, &mut self.states, &mut self.freezes] {
            kind.receiver.mark_unchanged();
        }
        self.observations.receiver.mark_unchanged();
        self.take_fleet(now);
        self.take_counters()
    }

    fn take_fleet(&mut self, now: Instant) {
        let (nodes, inventories) = (self.nodes.take_new(), self.inventories.take_new());
        if nodes.is_none() && inventories.is_none() {
            return;
        }
        if let Some(nodes) = nodes {
            let mut known = std::mem::take(&mut self.fleet.nodes);
            for (tail, value) in nodes.iter() {
                let Ok(name) = NodeName::new(tail) else { continue };
                let same = known.remove(&name).filter(|read| read.index == value.index);
                let parsed = || NodeRead { index: value.index, report: NodeReport::parse(&name, &value.bytes) };
                let read = same.unwrap_or_else(parsed);
                self.fleet.nodes.insert(name, read);
            }
        }
        if let Some(inventories) = inventories {
            let names = inventories.iter().filter_map(|(tail, value)| Some((NodeName::new(tail).ok()?, value)));
            self.fleet.inventory = names.map(|(name, value)| (name, Inventory::parse(&value.bytes))).collect();
        }
        let missing: BTreeSet<NodeName> =
            self.fleet.inventory.keys().filter(|name| !self.fleet.nodes.contains_key(*name)).cloned().collect();
        self.missing_since.retain(|name, _| missing.contains(name));
        for name in missing {
            self.missing_since.entry(name).or_insert(now);
        }
    }

    fn take_counters(&mut self) -> Vec<NodeName> {
        let mut new = Vec::new();
        let Some(followed) = self.counters.take_new() else { return new };
        let mut reports = BTreeMap::new();
        for (tail, value) in followed.iter() {
            let Ok(name) = NodeName::new(tail) else { continue };
            let known = self.reports.remove(&name).filter(|read| read.index == value.index);
            let read = known.unwrap_or_else(|| {
                let report = Counters::parse(&name, &value.bytes);
                if let Ok(report) = &report {
                    let offsets = self.offsets.entry(name.clone()).or_default();
                    offsets.rotate_left(1);
                    offsets[2] = clock_offset(report.at);
                }
                new.push(name.clone());
                CountersRead { index: value.index, report }
            });
            reports.insert(name, read);
        }
        self.reports = reports;
        new
    }

    /// For how many seconds each node of the inventory has said nothing.
    pub(super) fn missing(&self, now: Instant) -> BTreeMap<NodeName, u64> {
        self.missing_since.iter().map(|(name, since)| (name.clone(), now.duration_since(*since).as_secs())).collect()
    }

    /// The nodes whose clock is off: each of the last three reports says so.
    pub(super) fn clock_off(&self) -> BTreeSet<NodeName> {
        let off = self.offsets.iter().filter(|(_, offsets)| offsets.iter().all(|offset| *offset > CLOCK_OFF));
        off.map(|(name, _)| name.clone()).collect()
    }

    /// The document of a backend.
    pub(super) fn document(&self, backend: &BackendName) -> Option<&Published> {
        self.desired.backends.get(backend)
    }

    /// Why changes of a backend are frozen; none if they are not.
    pub(super) fn frozen(&self, backend: &BackendName) -> Option<String> {
        let followed = self.freezes.receiver.borrow();
        let of = |value: Option<&Value>| match Freeze::parse(&value?.bytes) {
            Ok(freeze) => freeze.frozen.map(|frozen| {
                let by = frozen.by.unwrap_or_else(|| "somebody".to_owned());
                frozen.reason.map_or_else(|| by.clone(), |reason| format!("{by}: {reason}"))
            }),
            // What cannot be read may be a freeze.
            Err(error) => Some(format!("the freeze cannot be read: {error}")),
        };
        of(followed.get("")).or_else(|| of(followed.get(&format!("/{backend}"))))
    }

    /// Whether somebody other than the controllers observes the backend: a person who watches it.
    pub(super) fn is_watched(&self, backend: &BackendName, own: &str) -> bool {
        let prefix = format!("{backend}/");
        let followed = self.observations.receiver.borrow();
        let of_backend = followed.below(&prefix);
        of_backend.map(|(_, value)| Observation::parse(&value.bytes)).any(|observation| {
            let by = observation.ok().and_then(|observation| observation.by);
            by.as_deref() != Some(own)
        })
    }

    /// Reads everything that a transaction depends on again.
    pub(super) fn reading(&self) -> impl Future<Output = Result<(), ConsulError>> + Send + use<> {
        let kinds = [&self.specs, &self.requests, &self.approvals, &self.states, &self.freezes];
        let followers = kinds.map(|kind| kind.follower.clone());
        let refresh = Arc::clone(&self.documents.refresh);
        async move {
            refresh.send_replace(());
            for follower in followers {
                // Its future is large, and those of all transactions contain it.
                Box::pin(follower.refresh()).await?;
            }
            Ok(())
        }
    }
}

/// Waits for a change. The sender ends with this process only.
async fn change<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// By how much the clock that made a report is off at least. A report that is read late is not a clock that is off.
fn clock_offset(made: u64) -> Duration {
    let now = clock::wall();
    let made = Duration::from_millis(made);
    if made > now { made.saturating_sub(now) } else { (now.saturating_sub(made)).saturating_sub(READ_WITHIN) }
}
