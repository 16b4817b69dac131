//! Tells other programs about events of rollouts, by HTTP.
//!
//! Owns the queues and the deliveries. Sending never waits: each webhook has a bounded queue and a task of its own, so that a
//! receiver that is slow or absent delays neither a tick nor another receiver. Must not show a URL, which often is a secret.

mod delivery;
mod message;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tracing::warn;

use self::delivery::{Pace, Worker};
pub use self::message::Message;
use super::{
    config::{Config, WebhookConfig},
    http,
};
use crate::base::shutdown::Tasks;

/// Messages that wait for one webhook at most. What comes when the queue is full is dropped.
const QUEUE: usize = 100;
const PACE: Pace =
    Pace { least: Duration::from_secs(1), greatest: Duration::from_secs(60), give_up: Duration::from_secs(300) };

/// What became of the messages of one webhook since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Messages that the receiver accepted.
    pub sent: u64,
    /// Attempts that failed. A message may fail several times and be sent in the end.
    pub failed: u64,
    /// Messages that the receiver never got: rejected, too old, or the queue was full.
    pub dropped: u64,
}

type Counted = Arc<Mutex<BTreeMap<String, Deliveries>>>;

/// The webhooks. They stop with the tasks that they were started with: what waits then is tried once more, for some seconds.
#[derive(Debug)]
pub struct Webhooks {
    hooks: Mutex<Vec<Hook>>,
    tasks: Tasks,
    counted: Counted,
    pace: Pace,
}

#[derive(Debug)]
struct Hook {
    config: watch::Sender<WebhookConfig>,
    queue: mpsc::Sender<Arc<Message>>,
}

impl Webhooks {
    /// Starts the webhooks of the configuration.
    pub fn start(config: &Config, tasks: &Tasks) -> Self {
        Self::start_with(config, tasks, PACE)
    }

    fn start_with(config: &Config, tasks: &Tasks, pace: Pace) -> Self {
        let hooks = Self { hooks: Mutex::default(), tasks: tasks.clone(), counted: Counted::default(), pace };
        hooks.reconfigure(config);
        hooks
    }

    /// Uses other webhooks from now on. What waits for a webhook of the same name is sent as it is configured now; what
    /// waits for one that is gone is dropped.
    pub fn reconfigure(&self, config: &Config) {
        let mut hooks = self.lock();
        let mut before: BTreeMap<_, _> = hooks
            .drain(..)
            .map(|hook| {
                let name = hook.config.borrow().name.clone();
                (name, hook)
            })
            .collect();
        for webhook in &config.webhooks {
            let hook = match before.remove(&webhook.name) {
                Some(hook) => {
                    hook.config.send_if_modified(|config| {
                        let changed = config != webhook;
                        *config = webhook.clone();
                        changed
                    });
                    hook
                }
                None => self.spawn(webhook.clone()),
            };
            hooks.push(hook);
        }
    }

    fn spawn(&self, webhook: WebhookConfig) -> Hook {
        count(&self.counted, &webhook.name, |_| {});
        let (config, configs) = watch::channel(webhook);
        let (queue, messages) = mpsc::channel(QUEUE);
        let worker = Worker::new(configs, messages, Arc::clone(&self.counted), self.pace);
        self.tasks.spawn(worker.run(self.tasks.stop_token()));
        Hook { config, queue }
    }

    /// Queues the message for each webhook that wants it. Never waits.
    pub fn send(&self, message: Message) {
        let message = Arc::new(message);
        for hook in self.lock().iter() {
            let config = hook.config.borrow();
            if message.is_wanted_by(&config) && hook.queue.try_send(Arc::clone(&message)).is_err() {
                count(&self.counted, &config.name, |deliveries| deliveries.dropped += 1);
                let why = "too many others wait already";
                warn!(webhook = config.name, kind = message.kind.as_str(), why, "dropped a notification");
            }
        }
    }

    /// What became of the messages, by webhook. A webhook that is gone keeps its numbers.
    pub fn deliveries(&self) -> BTreeMap<String, Deliveries> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counted: &Counted, name: &str, change: impl FnOnce(&mut Deliveries)) {
    change(counted.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default());
}

/// What prevents rolloutd from sending to a webhook, by its name: a URL, token or CA that cannot be read. Uses no network.
pub fn problems(config: &Config) -> Vec<(String, String)> {
    let problem = |webhook: &WebhookConfig| Some((webhook.name.clone(), delivery::problem(webhook)?));
    config.webhooks.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests;
