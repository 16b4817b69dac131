//! Writes the files of one instance, beside its dialogue and never in its way.
//!
//! Owns when a file is written. The journal is the exception: [`Files::journal`] is written by the task itself, before a
//! command is sent.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};
use weightd_core::{model::BackendName, stored::StoredBackend};

use super::{
    instance::Instance,
    metrics::Metrics,
    session::Session,
    store::{Journal, ServerStateFile, Snapshot, StateFile, StoreError},
};
use crate::base::chain::Chain;

/// How often each file is written at most: a storm of changes costs one write a second.
const EVERY: Duration = Duration::from_secs(1);

/// The files of one instance.
#[derive(Debug)]
pub struct Files {
    /// What weightd remembers.
    pub state: StateFile,
    /// What changed since that was written.
    pub journal: Journal,
    /// What a new HAProxy process starts with, if it is configured.
    pub server_state: Option<ServerStateFile>,
}

/// The journal as the task and the saving share it, each for a moment.
#[derive(Debug, Clone)]
pub struct SharedJournal {
    journal: Arc<Mutex<Journal>>,
    metrics: Arc<Metrics>,
    haproxy: String,
}

impl SharedJournal {
    fn with<T>(&self, work: impl FnOnce(&mut Journal) -> Result<T, StoreError>) -> Option<T> {
        // Nothing can panic while it is held.
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut journal).map_err(|_| self.metrics.persist_failed(&self.haproxy)).ok()
    }

    /// Adds what changed. A journal that cannot be written keeps nothing from being set: the state file follows within a
    /// second, and says so if it cannot be written either.
    pub fn append(&self, changed: Vec<(BackendName, Option<StoredBackend>)>) {
        if !changed.is_empty() {
            self.with(|journal| journal.append(changed));
        }
    }

    fn begin_snapshot(&self) -> u64 {
        self.with(Journal::begin_snapshot).unwrap_or_default()
    }

    /// The state file holds everything, or `session` does: the journal may begin anew.
    fn restart(&self, session: Option<&Session>) {
        self.with(|journal| journal.restart(session.map(Session::to_store)));
    }

    fn is_too_large(&self) -> bool {
        self.with(|journal| Ok(journal.is_too_large())).unwrap_or_default()
    }
}

/// The writing of one instance's files.
#[derive(Debug)]
pub struct Saving {
    state: StateFile,
    journal: SharedJournal,
    server_state: Option<ServerStateFile>,
    metrics: Arc<Metrics>,
    /// The write that runs. It is waited for before another one begins: both would use the same temporary file.
    writing: Option<JoinHandle<Outcome>>,
    next: Instant,
    state_fails: bool,
    server_state_fails: bool,
    /// The process for which the server-state file was last written, and what.
    written: Option<(u32, u64)>,
}

/// What is to be written now.
#[derive(Debug)]
struct Work {
    snapshot: Option<Snapshot>,
    /// The file, its text, and the Pid of the process that it is for.
    server_state: Option<(ServerStateFile, String, u32)>,
}

/// How it ended, for each file that was written.
#[derive(Debug, Default)]
struct Outcome {
    state: Option<Result<(), StoreError>>,
    server_state: Option<Result<(), StoreError>>,
}

impl Saving {
    /// Nothing is written yet.
    pub fn new(files: Files, metrics: Arc<Metrics>, haproxy: &str) -> Self {
        let Files { state, journal, server_state } = files;
        let journal = SharedJournal {
            journal: Arc::new(Mutex::new(journal)),
            metrics: Arc::clone(&metrics),
            haproxy: haproxy.to_owned(),
        };
        let next = Instant::now();
        Self {
            state,
            journal,
            server_state,
            metrics,
            writing: None,
            next,
            state_fails: false,
            server_state_fails: false,
            written: None,
        }
    }

    /// The journal, for the task.
    pub fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    /// Writes whatever is unsaved, whenever something is. May be dropped at any point and called again.
    pub async fn run(&mut self, instance: &Instance) {
        loop {
            self.wait(instance).await;
            if self.is_due(&instance.lock()) {
                sleep_until(self.next).await;
                self.begin(instance);
            } else {
                instance.unsaved.notified().await;
            }
        }
    }

    /// Writes what is still unsaved.
    pub async fn finish(&mut self, instance: &Instance) {
        self.wait(instance).await;
        if self.is_due(&instance.lock()) {
            self.begin(instance);
            self.wait(instance).await;
        }
    }

    fn is_due(&self, session: &Session) -> bool {
        session.unsaved.memory || self.server_state.is_some() && session.unsaved.server_state
    }

    /// Waits for the end of the write that runs.
    async fn wait(&mut self, instance: &Instance) {
        let Some(writing) = &mut self.writing else { return };
        let outcome = writing.await;
        self.writing = None;
        let outcome = outcome
            .unwrap_or_else(|panic| Outcome { state: Some(Err(self.state.interrupted(&panic))), server_state: None });
        self.ended(instance, &outcome);
    }

    fn begin(&mut self, instance: &Instance) {
        let work = self.work(&mut instance.lock());
        self.next = Instant::now() + EVERY;
        if work.snapshot.is_none() && work.server_state.is_none() {
            return;
        }
        let file = self.state.clone();
        self.writing = Some(spawn_blocking(move || Outcome {
            state: work.snapshot.map(|snapshot| file.save(&snapshot)),
            server_state: work.server_state.map(|(file, text, pid)| file.save(&text, pid)),
        }));
    }

    /// Takes what is to be written out of the session.
    fn work(&mut self, session: &mut Session) -> Work {
        let snapshot = std::mem::take(&mut session.unsaved.memory).then(|| {
            // What is not in the journal yet is in the snapshot.
            self.journal.append(session.take_unjournaled());
            Snapshot { number: self.journal.begin_snapshot(), stored: session.to_store() }
        });
        let file = self.server_state.clone().filter(|_| std::mem::take(&mut session.unsaved.server_state));
        let server_state = file.and_then(|file| {
            let (text, pid) = (session.server_state()?, session.processes.current.as_ref()?.pid);
            self.is_new(pid, &text).then_some((file, text, pid))
        });
        Work { snapshot, server_state }
    }

    /// Whether `text` differs from what was written for this process last.
    fn is_new(&mut self, pid: u32, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let written = Some((pid, hasher.finish()));
        std::mem::replace(&mut self.written, written) != written
    }

    /// What could not be written is tried again, at most once a second, and reported once.
    fn ended(&mut self, instance: &Instance, outcome: &Outcome) {
        if let Some(result) = &outcome.state {
            match (result, std::mem::replace(&mut self.state_fails, result.is_err())) {
                (Err(error), false) => warn!(
                    error = %Chain(error),
                    hint = "see whether the disk is full and whether weightd may write to `state_dir`",
                    "the state cannot be written to disk; it would not survive a restart"
                ),
                (Ok(()), true) => info!("the state is written to disk again"),
                _ => {}
            }
            let mut session = instance.lock();
            if result.is_err() {
                self.metrics.persist_failed(&instance.name);
                session.unsaved.memory = true;
                if self.journal.is_too_large() {
                    self.journal.restart(Some(&session));
                }
            } else if !session.unsaved.memory {
                self.journal.restart(None);
            }
        }
        if let Some(result) = &outcome.server_state {
            match (result, std::mem::replace(&mut self.server_state_fails, result.is_err())) {
                (Err(error), false) => warn!(
                    error = %Chain(error),
                    hint = "make the folder of `state_file` in [[haproxy]], and let weightd write to it",
                    "HAProxy's server-state file cannot be written; a reload starts with its former content"
                ),
                (Ok(()), true) => info!("HAProxy's server-state file is written again"),
                _ => {}
            }
            if result.is_err() {
                self.metrics.persist_failed(&instance.name);
                self.written = None;
                instance.lock().unsaved.server_state = true;
            }
        }
    }
}
