//! The task that keeps the report of one root in Consul. I/O, and nothing else that is not in the files beside it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use weightd_core::{
    desired::DesiredState,
    fleet::{self, Identity, InstanceReport, Inventory, Keys, Report, Stand},
    model::{BackendName, Moment, Root, Timestamp},
};

use super::{
    holder::{Answer, Holder, Seen, Standing, Step},
    inventory, stands,
};
use crate::{
    base::{chain::Chain, clock::Clock, retry},
    consul::{
        Client, ConsulError,
        client::Operation,
        session::SessionId,
        watch::{Feed, WatchHandle},
    },
    weightd::{instance::Instance, metrics::Metrics},
};

/// How long what belongs together may take: the sessions take a document at once, and read HAProxy back within
/// milliseconds. Then one change is one write.
const GATHER: Duration = Duration::from_millis(5);
/// Maximum interval between two readings of the sessions, for changes without an event.
const AT_LEAST_EVERY: Duration = Duration::from_secs(3);
/// The pause after a reading is at least this multiple of the CPU time that it took: with very many backends at most 5 % of
/// a core.
const COST: u32 = 20;
/// Interval of the readings while a document is being applied. Not every decision wakes the publisher: a document that
/// changes no weight has no event.
const APPLYING: Duration = Duration::from_millis(10);
/// The same while a report waits for a reading of Consul that confirms it.
const CONFIRMING: Duration = Duration::from_millis(50);
/// Mean of the random pause after an error, beside that of the holder.
const SPREAD: Duration = Duration::from_millis(200);
/// Between two attempts to write the inventory entry.
const INVENTORY_RETRY: Duration = Duration::from_secs(10);
/// Interval of the readings of a correct inventory entry: a person may have deleted it.
const INVENTORY_AGAIN: Duration = Duration::from_secs(30);
/// How long the end of the session may take when weightd stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What a publisher is made of.
#[derive(Debug)]
pub struct Setup {
    /// Consul.
    pub client: Arc<Client>,
    /// The clock of the sessions.
    pub clock: Clock,
    /// The root of the keys.
    pub root: Root,
    /// This node.
    pub identity: Identity,
    /// The HAProxy instances that follow the root.
    pub instances: Vec<Arc<Instance>>,
    /// Its documents.
    pub watch: WatchHandle,
    /// Wakes the publisher: something about an instance changed.
    pub changed: Arc<Notify>,
    /// Whether a clean stop removes the inventory entry.
    pub leave_on_stop: bool,
    /// Counts writes and errors.
    pub metrics: Arc<Metrics>,
}

/// Keeps the report of one root in Consul.
#[derive(Debug)]
pub struct Publisher {
    setup: Setup,
    report: Report,
    pace: fleet::Publisher,
    holder: Holder,
    shown: watch::Sender<Shown>,
    /// What each HAProxy was, and since when.
    known: BTreeMap<String, (InstanceReport, Option<Timestamp>)>,
    /// When the session was made: a plain read that was sent later proves what Consul has now.
    session_since: Moment,
    /// The documents and the flags of the last reading.
    read: Option<(Arc<DesiredState>, bool, bool)>,
    /// How each HAProxy stood with each document in the last reading.
    stood: BTreeMap<String, BTreeMap<BackendName, (u64, Stand)>>,
    /// Whether something changed since the last report was built.
    dirty: bool,
    /// When the report changes by time alone.
    changes_at: Option<Moment>,
    /// No reading before this moment.
    not_before: Moment,
    inventory_at: Moment,
    /// When to read a correct inventory entry again.
    inventory_again: Moment,
    /// The standing for which the inventory entry was last made right.
    inventory_for: Option<Standing>,
    /// Whether this run made the inventory entry right while it held the key.
    held_before: bool,
    /// Whether Consul denies the inventory entry to the token.
    inventory_denied: bool,
    logged: Option<&'static str>,
}

/// How the keys of the node stand, for status and for the report on observed backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The key in `nodes/`.
    pub standing: Standing,
    /// Whether Consul denies the inventory entry to the token.
    pub inventory_denied: bool,
    /// The session that holds the key in `nodes/`.
    pub session: Option<SessionId>,
}

impl Publisher {
    /// The publisher, and how its key stands at each moment.
    pub fn new(setup: Setup) -> (Self, watch::Receiver<Shown>) {
        let now = setup.clock.now();
        let (shown, receiver) =
            watch::channel(Shown { standing: Standing::Absent, inventory_denied: false, session: None });
        let instances = setup.instances.iter().map(|instance| starting(&instance.name)).collect();
        let publisher = Self {
            report: Report::new(setup.identity.clone(), instances),
            pace: fleet::Publisher::new(now),
            holder: Holder::new(setup.identity.machine.clone(), setup.identity.incarnation.clone()),
            shown,
            known: BTreeMap::new(),
            session_since: now,
            read: None,
            stood: BTreeMap::new(),
            dirty: true,
            changes_at: None,
            not_before: now,
            inventory_at: now,
            inventory_again: now,
            inventory_for: None,
            held_before: false,
            inventory_denied: false,
            logged: None,
            setup,
        };
        (publisher, receiver)
    }

    /// Publishes until `stop`, and then ends the session, so that the fleet sees at once that this node left.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.clone().run_until_cancelled(self.publish()).await;
        if timeout(STOP_WITHIN, self.leave()).await.is_err() {
            debug!("Consul did not end the fleet session in time; it ends by itself");
        }
    }

    async fn publish(&mut self) {
        loop {
            let until = self.offer();
            let now = self.setup.clock.now();
            match self.holder.next(now) {
                Step::Wait(at) => {
                    self.inventory(now).await;
                    let until = self.setup.clock.instant(until.min(at));
                    tokio::select! {
                        () = self.setup.changed.notified() => sleep(GATHER).await,
                        changed = self.setup.watch.feed.changed() => match changed {
                            Ok(()) => sleep(GATHER).await,
                            // The watch ends only with the daemon.
                            Err(_) => std::future::pending().await,
                        },
                        () = sleep_until(until) => {}
                    }
                }
                step => self.ask(step).await,
            }
        }
    }

    /// Reads the sessions, builds the report if something changed, and hands it to the holder if it may be written now.
    /// Returns when to do that again.
    fn offer(&mut self) -> Moment {
        let now = self.setup.clock.now();
        if now < self.not_before {
            return self.not_before;
        }
        let started = cpu_time();
        self.gather(now);
        // CPU time and not time: a process that waits for a processor must not wait even longer.
        self.not_before = now + cpu_time().saturating_sub(started) * COST;
        self.dirty |= self.changes_at.is_some_and(|at| now >= at);
        let mut until = now + AT_LEAST_EVERY;
        if !self.dirty {
            return self.next_reading(until, now);
        }
        if let Some(until) = self.holder.unconfirmed_until(now) {
            if !self.read.as_ref().is_some_and(|(_, plain, _)| *plain) {
                return until.min(now + CONFIRMING);
            }
            self.holder.confirm(now);
        }
        let value = self.report.value(now).to_value();
        self.not_before = now + cpu_time().saturating_sub(started) * COST;
        self.dirty = false;
        match self.pace.offer(&value, now) {
            fleet::Step::Nothing => {}
            fleet::Step::Write => self.holder.want(value),
            fleet::Step::Later(at) => {
                self.dirty = true;
                until = until.min(at);
            }
        }
        self.changes_at = self.report.next_change(now);
        self.next_reading(until, now)
    }

    /// When to read the sessions again, at the latest at `until`.
    fn next_reading(&self, until: Moment, now: Moment) -> Moment {
        match self.changes_at {
            Some(at) => until.min(at).min(now + APPLYING),
            None => until,
        }
    }

    /// Reads the watch and the sessions.
    fn gather(&mut self, now: Moment) {
        let time = self.setup.client.time();
        if let Feed::State { state, .. } = &*self.setup.watch.feed.borrow_and_update() {
            let link = self.setup.watch.link.borrow();
            let plain = link.plain_read_sent.is_some_and(|sent| sent >= self.session_since);
            let same = self.read.as_ref().is_some_and(|(read, was_plain, filtered)| {
                Arc::ptr_eq(read, state) && *was_plain == plain && *filtered == link.filtered
            });
            if !same {
                let documents = state.backends.iter().map(|(name, published)| (name, published.index()));
                self.report.answer(documents, fleet::Answer { plain, filtered: link.filtered, now, at: time });
                self.read = Some((Arc::clone(state), plain, link.filtered));
                self.dirty = true;
            }
        }
        for instance in &self.setup.instances {
            let session = instance.lock();
            let mut report = stands::instance(&instance.name, &session);
            let same = self.known.get(&instance.name).filter(|(known, _)| *known == report).map(|(_, since)| *since);
            self.dirty |= same.is_none();
            let since = same.unwrap_or(time);
            self.known.insert(instance.name.clone(), (report.clone(), since));
            report.since = since;
            self.report.instance(report);
            let stood = self.stood.entry(instance.name.clone()).or_default();
            for (backend, index, stand) in stands::of(&session) {
                let Some(stand) = stand else {
                    stood.remove(backend);
                    self.dirty |= self.report.withdraw(&instance.name, backend, now, time);
                    continue;
                };
                if stood.get(backend).is_some_and(|(known, was)| *known == index && *was == stand) {
                    continue;
                }
                stood.insert(backend.clone(), (index, stand.clone()));
                self.report.stands(&instance.name, backend, index, stand, time);
                self.dirty = true;
            }
        }
    }

    /// Asks Consul, and takes the answer.
    async fn ask(&mut self, step: Step) {
        let answer = match self.answer(&step).await {
            Ok(answer) => answer,
            Err(error) => {
                let denied = matches!(error, ConsulError::Denied(_));
                self.failed(&step, &error);
                // The nodes of a fleet lose Consul together: they do not ask again together.
                sleep(retry::jittered(SPREAD, 0.9)).await;
                // A token that was replaced on disk is read again. If that fails, the next request says so.
                let _ = self.setup.client.refresh(&error);
                Answer::Failed { denied }
            }
        };
        let now = self.setup.clock.now();
        if answer == Answer::Acquired(true) {
            self.setup.metrics.fleet_written(self.setup.root.as_str());
        }
        if matches!(answer, Answer::Created(_)) {
            self.session_since = now;
            self.report.new_session();
            self.read = None;
            self.stood.clear();
            self.dirty = true;
            // Where the session was lost, the inventory may be lost too, such as with the data of Consul.
            self.inventory_for = None;
            // Asks for the plain read that confirms what Consul has; a watch that ended has no use for it.
            self.setup.watch.refresh.send_replace(());
        }
        self.holder.answer(step, answer, now);
        self.show();
    }

    async fn answer(&self, step: &Step) -> Result<Answer, ConsulError> {
        let client = &self.setup.client;
        let key = || Keys(&self.setup.root).node(&self.setup.identity.node);
        Ok(match step {
            Step::Create => {
                Answer::Created(client.create_session(&format!("weightd {}", self.setup.identity.node)).await?)
            }
            Step::Renew(session) => Answer::Renewed(client.renew_session(session).await?),
            Step::Acquire(session, value) => Answer::Acquired(client.acquire(&key(), value.clone(), session).await?),
            Step::Read => Answer::Key(client.held_key(&key()).await?.map(|held| Seen::of(held.session, held.value))),
            Step::Destroy(session) => {
                info!("the session of an earlier run of this machine holds the key of this node; weightd ends it");
                client.destroy_session(session).await?;
                Answer::Destroyed
            }
            Step::Wait(_) => Answer::Failed { denied: false },
        })
    }

    /// Counts an error, and logs it once, until another one or a success.
    fn failed(&mut self, step: &Step, error: &ConsulError) {
        self.setup.metrics.fleet_failed(self.setup.root.as_str(), error.reason());
        if self.logged == Some(error.reason()) {
            return;
        }
        self.logged = Some(error.reason());
        let (root, node) = (&self.setup.root, &self.setup.identity.node);
        if matches!(error, ConsulError::Denied(_)) {
            warn!(
                hint = policy(root, &node.to_string()),
                "the token may not publish this node's state; only the fleet's view of it is missing"
            );
        } else {
            debug!(?step, error = %Chain(error), "this node's state is not published");
        }
    }

    /// Shows how the key stands, and logs when that changes.
    fn show(&mut self) {
        let standing = self.holder.standing();
        let session = self.holder.session().filter(|_| standing == Standing::Held).cloned();
        let now = Shown { standing, inventory_denied: self.inventory_denied, session };
        let before = self.shown.send_replace(now);
        if standing == before.standing {
            return;
        }
        let node = &self.setup.identity.node;
        match standing {
            Standing::Held => {
                self.logged = None;
                debug!(%node, root = %self.setup.root, "the fleet sees this node");
            }
            Standing::Duplicate => error!(
                %node,
                hint = "give each machine a `node` of its own in weightd.toml",
                "another machine publishes under the name of this node; this one still enforces its weights"
            ),
            Standing::Absent | Standing::Denied => {}
        }
    }

    /// Makes the inventory entry right, if the standing changed, and now and then.
    async fn inventory(&mut self, now: Moment) {
        let standing = self.holder.standing();
        let holds = match standing {
            Standing::Held => true,
            Standing::Duplicate => false,
            Standing::Absent | Standing::Denied => return,
        };
        if now < self.inventory_at || (self.inventory_for == Some(standing) && now < self.inventory_again) {
            return;
        }
        (self.inventory_at, self.inventory_again) = (now + INVENTORY_RETRY, now + INVENTORY_AGAIN);
        match self.write_inventory(holds).await {
            Ok(true) => {
                (self.inventory_for, self.inventory_denied) = (Some(standing), false);
                self.held_before |= holds;
            }
            // Another writer was faster.
            Ok(false) => self.inventory_at = now,
            Err(error) => {
                self.inventory_denied = matches!(error, ConsulError::Denied(_));
                self.failed(&Step::Read, &error);
            }
        }
        self.show();
    }

    /// Reads the inventory entry, and writes it if it is not right. False if another writer was faster.
    async fn write_inventory(&self, holds: bool) -> Result<bool, ConsulError> {
        let Setup { client, root, identity, instances, .. } = &self.setup;
        let key = Keys(root).inventory(&identity.node);
        let existing = client.held_key(&key).await?;
        let index = existing.as_ref().map_or(0, |key| key.modify_index);
        let existing = existing.and_then(|key| Inventory::parse(&key.value).ok());
        let own = Inventory {
            node: identity.node.clone(),
            machine: identity.machine.clone(),
            mode: identity.mode,
            instances: instances.iter().map(|instance| instance.name.clone()).collect(),
            since: None,
            duplicate: None,
        };
        let run = inventory::Run { incarnation: &identity.incarnation, holds, held_before: self.held_before };
        match inventory::wanted(existing.as_ref(), &own, run, client.time()) {
            Some(wanted) => {
                let written = client.put(&key, wanted.to_value(), index).await?;
                if written {
                    self.setup.metrics.fleet_written(root.as_str());
                }
                Ok(written)
            }
            None => Ok(true),
        }
    }

    /// Ends the session, and with it the key. With `leave_on_stop` the inventory entry goes too; a duplicate removes its
    /// note.
    async fn leave(&self) {
        let Setup { client, root, identity, leave_on_stop, .. } = &self.setup;
        let key = Keys(root).inventory(&identity.node);
        let standing = self.holder.standing();
        if (standing == Standing::Held && *leave_on_stop) || standing == Standing::Duplicate {
            let left = async {
                let Some(existing) = client.held_key(&key).await? else { return Ok(()) };
                let index = existing.modify_index;
                if standing == Standing::Held {
                    client.transact(&[Operation::DeleteCas { key: key.clone(), index }]).await?;
                } else if let Some(entry) = Inventory::parse(&existing.value).ok()
                    && let Some(without) = inventory::without_note(&entry, &identity.machine, &identity.incarnation)
                {
                    client.put(&key, without.to_value(), index).await?;
                }
                Ok::<_, ConsulError>(())
            };
            if let Err(error) = left.await {
                warn!(error = %Chain(&error), "the inventory entry of this node stays in Consul");
            }
        }
        if let Some(session) = self.holder.session()
            && let Err(error) = client.destroy_session(session).await
        {
            debug!(error = %Chain(&error), "the fleet session ends by itself");
        }
    }
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A HAProxy that has not answered yet.
fn starting(name: &str) -> InstanceReport {
    InstanceReport { name: name.to_owned(), up: false, version: None, pid: None, since: None, why: None }
}

/// The policy that a node's token needs beside reading the documents.
pub fn policy(root: &Root, node: &str) -> String {
    let keys = ["nodes", "inventory"].map(|kind| key_rule(root, kind, node));
    format!(
        "give its token {} session \"NODE\" {{ policy = \"write\" }}, where NODE is the name of its agent in `consul members`",
        keys.join(" ")
    )
}

/// The rule for the inventory entry of a node.
pub fn inventory_policy(root: &Root, node: &str) -> String {
    format!("give its token {}", key_rule(root, "inventory", node))
}

/// The rule for a key of a node.
pub(super) fn key_rule(root: &Root, kind: &str, node: &str) -> String {
    format!("key \"{root}{kind}/{node}\" {{ policy = \"write\" }}")
}
