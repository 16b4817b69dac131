//! Asks each wanted check once for each of its windows.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use weightd_core::{
    judge::{Cell, Counts},
    model::BackendName,
    rollout::{
        observe::SourceCell,
        source::{Given, NoData, Schedule, Side, Template, Window, answer},
    },
};

use super::{Answers, Results, Rollouts, Wanted, client::Client};
use crate::{
    base::clock,
    rolloutd::config::{CheckConfig, Config, SourceConfig},
};

/// How often the scheduler looks for windows that are complete.
const PERIOD: Duration = Duration::from_secs(1);

/// A backend, and the name of a check in its plan.
type Key = (BackendName, String);

/// The scheduler: one task.
#[derive(Debug)]
pub(super) struct Scheduler {
    wants: watch::Receiver<Rollouts>,
    configs: watch::Receiver<Config>,
    publish: watch::Sender<Answers>,
    results: Arc<Mutex<Results>>,
    config: Config,
    clients: BTreeMap<String, Arc<Client>>,
    jobs: BTreeMap<Key, Job>,
    /// The number of the last job: answers for an older one of the same key are dropped.
    last_job: u64,
    asking: JoinSet<Answer>,
}

/// A check that is asked.
#[derive(Debug)]
struct Job {
    number: u64,
    wanted: Wanted,
    /// The last window that was asked for.
    asked: Option<Window>,
    /// Whether the answer is not there yet.
    under_way: bool,
}

/// The answer for one window.
#[derive(Debug)]
struct Answer {
    key: Key,
    job: u64,
    source: String,
    result: Result<SourceCell, Refused>,
}

/// Why a window has no counts, and which query says so.
#[derive(Debug)]
struct Refused {
    of: String,
    reason: NoData,
}

impl Scheduler {
    pub(super) fn new(
        wants: watch::Receiver<Rollouts>,
        mut configs: watch::Receiver<Config>,
        publish: watch::Sender<Answers>,
        results: Arc<Mutex<Results>>,
    ) -> Self {
        let config = configs.borrow_and_update().clone();
        let clients = clients(&config);
        Self {
            wants,
            configs,
            publish,
            results,
            config,
            clients,
            jobs: BTreeMap::new(),
            last_job: 0,
            asking: JoinSet::new(),
        }
    }

    /// Works until the stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut period = time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.wants.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.adopt();
                }
                changed = self.configs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.configure();
                }
                Some(done) = self.asking.join_next(), if !self.asking.is_empty() => self.answered(done),
                _ = period.tick(), if !self.jobs.is_empty() => self.ask(),
            }
        }
    }

    /// Takes over the configuration. A check that changed, or whose source did, is asked anew; the others go on.
    fn configure(&mut self) {
        let config = self.configs.borrow_and_update().clone();
        self.clients = clients(&config);
        let before = mem::replace(&mut self.config, config);
        for (key, job) in mem::take(&mut self.jobs) {
            if asked_by(&before, &job) == asked_by(&self.config, &job) {
                self.jobs.insert(key, job);
            } else {
                self.begin(key, job.wanted, job.asked);
            }
        }
    }

    /// Takes over what is wanted now. What did not change goes on.
    fn adopt(&mut self) {
        let rollouts = self.wants.borrow_and_update().clone();
        let mut wanted = BTreeMap::new();
        for (backend, checks) in rollouts {
            for check in checks {
                wanted.insert((backend.clone(), check.name.clone()), check);
            }
        }
        self.jobs.retain(|key, job| wanted.get(key) == Some(&job.wanted));
        self.publish.send_if_modified(|answers| {
            let mut removed = false;
            answers.retain(|backend, checks| {
                let before = checks.len();
                checks.retain(|name, _| wanted.contains_key(&(backend.clone(), name.clone())));
                removed |= checks.len() != before;
                !checks.is_empty()
            });
            removed
        });
        for (key, check) in wanted {
            if !self.jobs.contains_key(&key) {
                self.begin(key, check, None);
            }
        }
        self.ask();
    }

    fn begin(&mut self, key: Key, wanted: Wanted, asked: Option<Window>) {
        self.last_job += 1;
        let known = self.config.checks.contains_key(&wanted.uses);
        let reason = if known { NoData::Waiting } else { NoData::Unknown(wanted.uses.clone()) };
        self.answer(&key, Err(reason.to_string()));
        self.jobs.insert(key, Job { number: self.last_job, wanted, asked, under_way: false });
    }

    fn answer(&self, (backend, name): &Key, answer: Result<SourceCell, String>) {
        self.publish.send_modify(|answers| {
            answers.entry(backend.clone()).or_default().insert(name.clone(), answer);
        });
    }

    /// Asks for each window that is complete and was not asked for.
    fn ask(&mut self) {
        let now = clock::wall().as_secs();
        let mut late = Vec::new();
        for (key, job) in &mut self.jobs {
            let Some(check) = self.config.checks.get(&job.wanted.uses) else { continue };
            let Some(client) = self.clients.get(&check.source) else { continue };
            let schedule = Schedule {
                window: check.window.as_secs(),
                scrape_interval: client.scrape_interval,
                since: job.wanted.since.seconds(),
            };
            // A clock that went back must not make a window count twice.
            let asked = job.asked.map_or(0, |window| window.end);
            let Some(window) = schedule.newest(now).filter(|window| window.end > asked) else { continue };
            if job.under_way {
                late.push(key.clone());
                continue;
            }
            job.asked = Some(window);
            job.under_way = true;
            let (client, check, key) = (Arc::clone(client), check.clone(), key.clone());
            let (number, labels) = (job.number, job.wanted.labels.clone());
            self.asking.spawn(async move {
                let result = cell(&client, &check, &key.0, &labels, window).await;
                Answer { key, job: number, source: check.source, result }
            });
        }
        for key in late {
            self.answer(&key, Err(NoData::Slow.to_string()));
        }
    }

    fn answered(&mut self, done: Result<Answer, JoinError>) {
        let Answer { key, job: number, source, result } = match done {
            Ok(answer) => answer,
            Err(error) => {
                warn!(%error, "a query of a named check ended early");
                return;
            }
        };
        let word = result.as_ref().err().map_or("ok", |refused| refused.reason.word());
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        *results.entry((source.clone(), word)).or_default() += 1;
        drop(results);
        let Some(job) = self.jobs.get_mut(&key).filter(|job| job.number == number) else { return };
        job.under_way = false;
        let answer = result.map_err(|Refused { of, reason }| format!("{of}: {reason}"));
        if let Err(reason) = &answer {
            debug!(backend = %key.0, check = key.1, source, reason, "a named check has no data");
        }
        self.answer(&key, answer);
    }
}

fn clients(config: &Config) -> BTreeMap<String, Arc<Client>> {
    config.sources.iter().map(|(name, source)| (name.clone(), Arc::new(Client::new(source)))).collect()
}

/// The check of a job and its source.
fn asked_by<'a>(config: &'a Config, job: &Job) -> Option<(&'a CheckConfig, Option<&'a SourceConfig>)> {
    let check = config.checks.get(&job.wanted.uses)?;
    Some((check, config.sources.get(&check.source)))
}

/// The counts of both sides in one window.
async fn cell(
    client: &Client,
    check: &CheckConfig,
    backend: &BackendName,
    labels: &BTreeMap<String, String>,
    window: Window,
) -> Result<SourceCell, Refused> {
    let side = async |side: Side| -> Result<Counts, Refused> {
        let given = Given { backend, side, labels, window: window.end - window.begin };
        let refused = |what: &str| {
            let of = format!("{what} of `{}`", side.as_str());
            move |reason: NoData| Refused { of, reason }
        };
        let number = async |query: Result<String, _>, what: &str| {
            let query = query.map_err(|missing| refused(what)(NoData::Label(missing)))?;
            client.number(&query, window.end).await.map_err(refused(what))
        };
        let newest = number(check.total.newest(&given), "the newest sample").await?;
        answer::fresh(newest, window.end, client.scrape_interval).map_err(refused("the newest sample"))?;
        let query = |template: &Template| template.query(&given);
        let total = number(query(&check.total), "`total`").await?;
        let bad = number(query(&check.bad), "`bad`").await?;
        answer::counts(total, bad).map_err(refused("the counts"))
    };
    Ok(SourceCell {
        block: window.block(),
        covers: window.blocks(),
        cell: Cell { to: side(Side::To).await?, from: side(Side::From).await? },
    })
}
