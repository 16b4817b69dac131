//! Writes what is remembered to disk, beside the task and never in its way.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::instance::{Inner, Instance};
use crate::{
    base::chain::Chain,
    weightd::{
        metrics::Metrics,
        store::{ServerStateFile, Store, StoreError},
    },
};

/// How often each file is written at most: a storm of changes costs one write a second.
const EVERY: Duration = Duration::from_secs(1);

/// The files of one instance.
#[derive(Debug)]
pub struct Files {
    /// What weightd remembers.
    pub memory: Store,
    /// What a new HAProxy process begins with, if it is asked for.
    pub server_state: Option<ServerStateFile>,
}

/// The writing of one instance's files.
#[derive(Debug)]
pub struct Saving {
    files: Files,
    metrics: Arc<Metrics>,
    running: Option<JoinHandle<Outcome>>,
    next: Instant,
    memory_fails: bool,
    server_state_fails: bool,
    /// For which process, and what, the server-state file was last written.
    written: Option<(u32, u64)>,
}

/// How a write ended, for each file that was written.
#[derive(Debug, Default)]
struct Outcome {
    memory: Option<Result<(), StoreError>>,
    server_state: Option<Result<(), StoreError>>,
}

impl Saving {
    /// Nothing is being written.
    pub fn new(files: Files, metrics: Arc<Metrics>) -> Self {
        let next = Instant::now();
        Self { files, metrics, running: None, next, memory_fails: false, server_state_fails: false, written: None }
    }

    /// Starts to write if there is something to, or waits for the end of the write that runs. May be
    /// dropped at any point and called again.
    pub async fn step(&mut self, instance: &Instance) {
        if let Some(running) = &mut self.running {
            let outcome = running.await;
            self.running = None;
            let outcome = outcome.unwrap_or_else(|panic| Outcome {
                memory: Some(Err(self.files.memory.interrupted(&panic))),
                server_state: None,
            });
            self.ended(instance, &outcome);
        } else if self.due(&instance.lock()) {
            sleep_until(self.next).await;
            self.start(instance);
        } else {
            std::future::pending::<()>().await;
        }
    }

    fn due(&self, inner: &Inner) -> bool {
        inner.reconciler.unsaved.memory || self.files.server_state.is_some() && inner.reconciler.unsaved.server_state
    }

    /// Writes whatever is not yet written, and waits for it.
    pub async fn finish(&mut self, instance: &Instance) {
        if self.running.is_some() {
            self.step(instance).await;
        }
        if self.due(&instance.lock()) {
            self.start(instance);
            self.step(instance).await;
        }
    }

    fn start(&mut self, instance: &Instance) {
        let (memory, server_state) = {
            let reconciler = &mut instance.lock().reconciler;
            let memory = std::mem::take(&mut reconciler.unsaved.memory).then(|| reconciler.to_store());
            let file =
                self.files.server_state.as_ref().filter(|_| std::mem::take(&mut reconciler.unsaved.server_state));
            let text = file.and_then(|_| reconciler.server_state());
            let pid = reconciler.process.as_ref().map_or(0, |process| process.pid);
            (memory, file.cloned().zip(text.and_then(|text| self.news(pid, text))))
        };
        self.next = Instant::now() + EVERY;
        if memory.is_none() && server_state.is_none() {
            return;
        }
        let store = self.files.memory.clone();
        self.running = Some(spawn_blocking(move || Outcome {
            memory: memory.map(|memory| store.save(&memory)),
            server_state: server_state.map(|(file, text)| file.save(&text)),
        }));
    }

    /// `text`, unless it is what was written for this process already. A file that is removed meanwhile stays away until
    /// the next process: who removes it wants HAProxy to begin without it.
    fn news(&mut self, pid: u32, text: String) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let written = Some((pid, hasher.finish()));
        (std::mem::replace(&mut self.written, written) != written).then_some(text)
    }

    /// What could not be written is tried again, and again at most once a second.
    fn ended(&mut self, instance: &Instance, outcome: &Outcome) {
        let failed = |outcome: &Result<(), StoreError>| {
            let failed = outcome.is_err();
            if failed {
                self.metrics.persist_failed(&instance.name);
            }
            failed
        };
        if let Some(outcome) = &outcome.memory {
            instance.lock().reconciler.unsaved.memory |= failed(outcome);
            match (outcome, std::mem::replace(&mut self.memory_fails, outcome.is_err())) {
                (Err(error), false) => warn!(
                    error = %Chain(error),
                    hint = "see whether the disk is full and whether weightd may write to `state_dir`",
                    "the state cannot be written to disk; it would not survive a restart"
                ),
                (Ok(()), true) => info!("the state is written to disk again"),
                _ => {}
            }
        }
        if let Some(outcome) = &outcome.server_state {
            if failed(outcome) {
                self.written = None;
                instance.lock().reconciler.unsaved.server_state = true;
            }
            match (outcome, std::mem::replace(&mut self.server_state_fails, outcome.is_err())) {
                (Err(error), false) => warn!(
                    error = %Chain(error),
                    hint = "make the folder of `state_file` in [[haproxy]], and let weightd write to it",
                    "HAProxy's server-state file cannot be written; a reload begins with what it last said"
                ),
                (Ok(()), true) => info!("HAProxy's server-state file is written again"),
                _ => {}
            }
        }
    }
}
