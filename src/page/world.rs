//! What the page shows, read from Consul with a token that can only read.
//!
//! One task follows the prefixes and publishes a [`World`] after each change, at most ten times a second. A world never
//! loses what is known when Consul does not answer: it says how old it is.

mod decode;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use weightd_core::{
    fleet::{Frozen, Keys as FleetKeys},
    model::{BackendName, Root, Timestamp},
    rollout::keys::RolloutKeys,
};

pub use crate::base::clock::timestamp as now;

use self::decode::Decoded;
use super::view::{
    facts::Facts,
    fleet::FleetView,
    row::{Group, Row},
};
use crate::{
    base::{clock::Clock, shutdown::Tasks},
    consul::{
        Client,
        follow::{Followed, Follower},
    },
};

/// Shortest interval between two worlds.
const EVERY: Duration = Duration::from_millis(100);
/// Changes that arrive within this time are shown together.
const TOGETHER: Duration = Duration::from_millis(10);
/// A world is made anew after this time even if nothing changed: ages grow.
const AGES: Duration = Duration::from_secs(10);
/// Interval between two reads of a prefix after a burst.
const READ_EVERY: Duration = Duration::from_millis(100);

/// What the page shows.
#[derive(Debug, Default)]
pub struct World {
    /// Grows by 1 with each world.
    pub seq: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The applications.
    pub apps: BTreeMap<BackendName, Arc<App>>,
    /// When the names of the applications changed.
    pub names_at: Option<Instant>,
    /// The nodes.
    pub fleet: FleetView,
    /// The `seq` of the world in which the nodes changed.
    pub fleet_changed: u64,
    /// The freeze of all applications.
    pub frozen: Option<Frozen>,
    /// The `ModifyIndex` of that freeze; 0 if there is no such key.
    pub freeze: u64,
    /// Who leads: the name of the controller.
    pub controller: Option<String>,
    /// Since when this process sees no controller that leads; none while one does, and until everything was read.
    pub unled_since: Option<Timestamp>,
    /// Whether everything was read once.
    pub is_complete: bool,
    /// Since when Consul does not answer, and why.
    pub away: Option<Away>,
}

/// Consul does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Since when.
    pub since: Timestamp,
    /// Why, in Consul's words.
    pub why: String,
    /// Of when the data are; none if nothing was ever read.
    pub data_of: Option<Timestamp>,
}

impl Away {
    /// Whether Consul answers, and refuses the token of the page.
    pub fn is_denied(&self) -> bool {
        self.why.contains("denied") || self.why.contains("ACL not found")
    }
}

/// One application, with what is shown of it.
#[derive(Debug)]
pub struct App {
    /// What is known of it.
    pub facts: Facts,
    /// Its row in the list.
    pub row: Row,
    /// The `seq` of the world in which its row changed.
    pub row_changed: u64,
    /// The `seq` of the world in which anything of it changed.
    pub changed: u64,
    /// Its row as HTML, made once: without and with the names of nodes.
    pub row_html: [OnceLock<Arc<str>>; 2],
    /// The fragments of its page, made once: without and with the names of nodes.
    pub fragments: [OnceLock<Arc<[Fragment]>>; 2],
}

/// A part of a page that is replaced while somebody looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The id of its element.
    pub id: String,
    /// The element.
    pub html: String,
}

impl App {
    /// An application with its row, in the world `seq`.
    pub fn new(facts: Facts, now: Timestamp, seq: u64) -> Self {
        let row = Row::of(&facts, now);
        Self { facts, row, row_changed: seq, changed: seq, row_html: Default::default(), fragments: Default::default() }
    }

    /// The same after another world: what reads the same keeps its HTML.
    fn after(self, known: Option<&Self>) -> Self {
        match known.filter(|known| known.row == self.row) {
            Some(known) => Self { row_changed: known.row_changed, row_html: known.row_html.clone(), ..self },
            None => self,
        }
    }
}

impl World {
    /// How many applications are in each group: person, under way, steady.
    pub fn counts<'a>(apps: impl IntoIterator<Item = &'a Arc<App>>) -> (usize, usize, usize) {
        apps.into_iter().fold((0, 0, 0), |(person, moves, steady), app| match app.row.group {
            Group::Person => (person + 1, moves, steady),
            Group::UnderWay => (person, moves + 1, steady),
            Group::Steady => (person, moves, steady + 1),
        })
    }
}

/// The followed prefixes.
pub(super) struct Sources {
    pub(super) weights: watch::Receiver<Followed>,
    pub(super) history: watch::Receiver<Followed>,
    pub(super) freeze: watch::Receiver<Followed>,
    pub(super) nodes: watch::Receiver<Followed>,
    pub(super) inventory: watch::Receiver<Followed>,
    pub(super) expect: watch::Receiver<Followed>,
    pub(super) spec: watch::Receiver<Followed>,
    pub(super) state: watch::Receiver<Followed>,
    pub(super) evidence: watch::Receiver<Followed>,
    pub(super) log: watch::Receiver<Followed>,
    pub(super) request: watch::Receiver<Followed>,
    pub(super) controller: watch::Receiver<Followed>,
}

impl Sources {
    fn all(&self) -> [&watch::Receiver<Followed>; 12] {
        let Self {
            weights,
            history,
            freeze,
            nodes,
            inventory,
            expect,
            spec,
            state,
            evidence,
            log,
            request,
            controller,
        } = self;
        [weights, history, freeze, nodes, inventory, expect, spec, state, evidence, log, request, controller]
    }
}

/// Follows Consul below `root` until `tasks` stop. The receiver has the newest world.
pub fn follow(client: &Arc<Client>, root: &Root, tasks: &Tasks) -> watch::Receiver<Arc<World>> {
    let clock = Clock::start();
    let changed = Arc::new(Notify::new());
    let start = |prefix: String| {
        let follower = Follower::new(Arc::clone(client), prefix);
        let (stop, running) = (tasks.stop_token(), follower.clone());
        tasks.spawn(async move { stop.run_until_cancelled(running.run(READ_EVERY, clock)).await });
        let (mut receiver, notify, stop) = (follower.subscribe(), Arc::clone(&changed), tasks.stop_token());
        tasks.spawn(async move {
            let wake = async {
                while receiver.changed().await.is_ok() {
                    notify.notify_one();
                }
            };
            stop.run_until_cancelled(wake).await;
        });
        follower.subscribe()
    };
    let (fleet, rollouts) = (FleetKeys(root), RolloutKeys(root));
    let below = |kind: &str| rollouts.specs().replace("/spec/", kind);
    let sources = Sources {
        weights: start(root.weights_prefix()),
        history: start(fleet.histories()),
        freeze: start(fleet.freeze_all()),
        nodes: start(fleet.nodes()),
        inventory: start(fleet.inventories()),
        expect: start(fleet.expect()),
        spec: start(rollouts.specs()),
        state: start(below("/state/")),
        evidence: start(below("/evidence/")),
        log: start(below("/log/")),
        request: start(below("/request/")),
        controller: start(rollouts.controller()),
    };
    let (sender, worlds) = watch::channel(Arc::new(World::default()));
    let (stop, root) = (tasks.stop_token(), root.clone());
    tasks.spawn(async move {
        let build = async {
            let mut decoded = Decoded::new(&root);
            let mut seq = 0;
            loop {
                // The clock is no cause: a world is only published if something is different.
                let _ = timeout(AGES, changed.notified()).await;
                sleep(TOGETHER).await;
                seq += 1;
                let world = decoded.world(&sources, &sender.borrow(), seq, now());
                let known = sender.borrow().clone();
                let names_at =
                    if known.apps.keys().eq(world.apps.keys()) { known.names_at } else { Some(Instant::now()) };
                sender.send_replace(Arc::new(World { away: away(&sources), names_at, ..world }));
                sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(build).await;
    });
    worlds
}

/// The time of day of a moment that is over.
fn at(instant: Instant) -> Timestamp {
    Timestamp::from_seconds(now().seconds().saturating_sub(instant.elapsed().as_secs()))
}

/// Since when reads fail.
fn away(sources: &Sources) -> Option<Away> {
    let failed =
        sources.all().into_iter().filter_map(|source| source.borrow().failed.clone()).min_by_key(|(since, _)| *since);
    let (since, why) = failed?;
    let read = sources.all().into_iter().map(|source| source.borrow().read_at).min().flatten();
    Some(Away { since: at(since), why, data_of: read.map(at) })
}
