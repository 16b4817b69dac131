//! Asks metrics systems for the counts of named checks.
//!
//! Owns the connections to the sources, and when each check is asked. What a query is and what an answer is worth is decided
//! in [`weightd_core::rollout::source`]. A source that is slow, broken or absent never delays a tick: the tick reads the
//! newest answers, which say by themselves that there are none.

mod client;
mod scheduler;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use weightd_core::{
    model::{BackendName, Timestamp},
    rollout::observe::SourceCell,
};

use self::scheduler::Scheduler;
use super::config::Config;
use crate::base::shutdown::Tasks;

/// A check that a rollout wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in the plan.
    pub name: String,
    /// The name of the check in the configuration.
    pub uses: String,
    /// The labels of the plan.
    pub labels: BTreeMap<String, String>,
    /// No window that began earlier counts. A leader that takes over writes the time at which it did: the one before it may
    /// have counted the windows until then.
    pub since: Timestamp,
}

/// What each rollout wants.
pub type Rollouts = BTreeMap<BackendName, Vec<Wanted>>;

/// The newest answer for each check of each rollout, by its name in the plan: the counts of its last window, or a sentence
/// that says why there are none. A check that is not wanted has no answer.
pub type Answers = BTreeMap<BackendName, BTreeMap<String, Result<SourceCell, String>>>;

/// How often each source gave each result: `ok`, or a word of [`weightd_core::rollout::source::NoData`].
pub type Results = BTreeMap<(String, &'static str), u64>;

/// The sources. They stop with the tasks that they were started with.
#[derive(Debug)]
pub struct Sources {
    wanted: watch::Sender<Rollouts>,
    config: watch::Sender<Config>,
    answers: watch::Receiver<Answers>,
    results: Arc<Mutex<Results>>,
}

impl Sources {
    /// Starts to ask. Nothing is asked before [`Sources::set`].
    pub fn start(config: &Config, tasks: &Tasks) -> Self {
        let (wanted, wants) = watch::channel(Rollouts::new());
        let (config, configs) = watch::channel(config.clone());
        let (publish, answers) = watch::channel(Answers::new());
        let results = Arc::new(Mutex::new(Results::new()));
        let scheduler = Scheduler::new(wants, configs, publish, Arc::clone(&results));
        tasks.spawn(scheduler.run(tasks.stop_token()));
        Self { wanted, config, answers, results }
    }

    /// Says what the rollouts want now. A check that did not change goes on.
    pub fn set(&self, rollouts: Rollouts) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != rollouts;
            *wanted = rollouts;
            changed
        });
    }

    /// Uses other sources and checks from now on. A check that did not change goes on, with a CA that is read again; for one
    /// that did, an answer that is under way is dropped.
    pub fn reconfigure(&self, config: &Config) {
        self.config.send_replace(config.clone());
    }

    /// The newest answers.
    pub fn latest(&self) -> Answers {
        self.answers.borrow().clone()
    }

    /// Tells about each change of the answers.
    pub fn changes(&self) -> watch::Receiver<Answers> {
        self.answers.clone()
    }

    /// How often each source gave each result since the start.
    pub fn results(&self) -> Results {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What prevents rolloutd from asking a source, by its name: a certificate, token or password that cannot be read. Uses no
/// network.
pub fn problems(config: &Config) -> Vec<(String, String)> {
    let problem = |(name, source): (&String, _)| Some((name.clone(), client::Client::new(source).problem()?));
    config.sources.iter().filter_map(problem).collect()
}

#[cfg(test)]
pub(super) mod tests;
