//! Writes what is remembered to disk, beside the task and never in its way.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::instance::Instance;
use crate::{
    chain::Chain,
    metrics::Metrics,
    store::{Store, StoreError},
};

/// How often the file is written at most: a storm of changes costs one write a second.
const EVERY: Duration = Duration::from_secs(1);

/// The writing of one instance's file.
#[derive(Debug)]
pub struct Saving {
    store: Store,
    metrics: Arc<Metrics>,
    running: Option<JoinHandle<Result<(), StoreError>>>,
    next: Instant,
    failing: bool,
}

impl Saving {
    /// Nothing is being written.
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, running: None, next: Instant::now(), failing: false }
    }

    /// Starts to write if there is something to, or waits for the end of the write that runs. May be
    /// dropped at any point and called again.
    pub async fn step(&mut self, instance: &Instance, dirty: bool) {
        if let Some(running) = &mut self.running {
            let outcome = running.await;
            self.running = None;
            self.ended(instance, outcome.unwrap_or_else(|panic| Err(self.store.interrupted(&panic))));
        } else if dirty {
            sleep_until(self.next).await;
            self.start(instance);
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Writes whatever is not yet written, and waits for it.
    pub async fn finish(&mut self, instance: &Instance) {
        if self.running.is_some() {
            self.step(instance, false).await;
        }
        if instance.lock().reconciler.dirty {
            self.start(instance);
            self.step(instance, false).await;
        }
    }

    fn start(&mut self, instance: &Instance) {
        let stored = {
            let mut inner = instance.lock();
            inner.reconciler.dirty = false;
            inner.reconciler.to_store()
        };
        let store = self.store.clone();
        self.running = Some(spawn_blocking(move || store.save(&stored)));
        self.next = Instant::now() + EVERY;
    }

    fn ended(&mut self, instance: &Instance, outcome: Result<(), StoreError>) {
        let Err(error) = outcome else {
            if std::mem::take(&mut self.failing) {
                info!("the state is written to disk again");
            }
            return;
        };
        self.metrics.persist_failed(&instance.name);
        // It is tried again, and again at most once a second.
        instance.lock().reconciler.dirty = true;
        if !std::mem::replace(&mut self.failing, true) {
            warn!(
                error = %Chain(&error),
                hint = "see whether the disk is full and whether weightd may write to `state_dir`",
                "the state cannot be written to disk; it would not survive a restart"
            );
        }
    }
}
