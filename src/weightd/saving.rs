//! Writes the files of one instance in the background, without delaying its exchanges.
//!
//! Decides when a file is written. The journal is the exception: the task itself writes it through
//! [`SharedJournal::append`] before it sends a command.

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

/// Minimum interval between two writes of a file, so that many changes cost one write per second.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The files of one instance.
#[derive(Debug)]
pub struct Files {
    /// The state file.
    pub state: StateFile,
    /// The journal: the changes since the last write of the state file.
    pub journal: Journal,
    /// The server-state file, which a new HAProxy process loads; `None` if it is not configured.
    pub server_state: Option<ServerStateFile>,
}

/// The journal, shared between the task and [`Saving`]. Each holds the lock only briefly.
#[derive(Debug, Clone)]
pub struct SharedJournal {
    journal: Arc<Mutex<Journal>>,
    metrics: Arc<Metrics>,
    haproxy: String,
}

impl SharedJournal {
    fn with<T>(&self, work: impl FnOnce(&mut Journal) -> Result<T, StoreError>) -> Option<T> {
        // No code panics while it holds the lock.
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut journal).map_err(|_| self.metrics.persist_failed(&self.haproxy)).ok()
    }

    /// Appends changes. Returns whether they are written. A failed write does not block the change: the state file follows
    /// within one second, and reports its own failure.
    pub fn append(&self, changed: Vec<(BackendName, Option<StoredBackend>)>) -> bool {
        changed.is_empty() || self.with(|journal| journal.append(changed)).is_some()
    }

    fn start_snapshot(&self) -> u64 {
        self.with(Journal::start_snapshot).unwrap_or_default()
    }

    /// Truncates the journal. With `session`, its state becomes the new content; without it, the state file has
    /// everything.
    fn restart(&self, session: Option<&Session>) {
        self.with(|journal| journal.restart(session.map(Session::to_store)));
    }

    fn is_too_large(&self) -> bool {
        self.with(|journal| Ok(journal.is_too_large())).unwrap_or_default()
    }
}

/// Writes the files of one instance.
#[derive(Debug)]
pub struct Saving {
    state: StateFile,
    journal: SharedJournal,
    server_state: Option<ServerStateFile>,
    metrics: Arc<Metrics>,
    /// The running write. The next one waits for it, because both use the same temporary file.
    writing: Option<JoinHandle<Outcome>>,
    next_write: Instant,
    state_fails: bool,
    server_state_fails: bool,
    /// Process id and content hash of the last write of the server-state file.
    written: Option<(u32, u64)>,
}

/// The files to write now.
#[derive(Debug)]
struct Work {
    snapshot: Option<Snapshot>,
    /// The file, its content, and the id of the process that it is for.
    server_state: Option<(ServerStateFile, String, u32)>,
}

/// The result for each file that was written.
#[derive(Debug, Default)]
struct Outcome {
    state: Option<Result<(), StoreError>>,
    server_state: Option<Result<(), StoreError>>,
}

impl Saving {
    /// Creates it. Nothing is written yet.
    pub fn new(files: Files, metrics: Arc<Metrics>, haproxy: &str) -> Self {
        let Files { state, journal, server_state } = files;
        let journal = SharedJournal {
            journal: Arc::new(Mutex::new(journal)),
            metrics: Arc::clone(&metrics),
            haproxy: haproxy.to_owned(),
        };
        let next_write = Instant::now();
        Self {
            state,
            journal,
            server_state,
            metrics,
            writing: None,
            next_write,
            state_fails: false,
            server_state_fails: false,
            written: None,
        }
    }

    /// Returns the journal, for the task.
    pub fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    /// Writes unsaved changes until it is dropped. It may be dropped at any point and called again.
    pub async fn run(&mut self, instance: &Instance) {
        loop {
            self.wait(instance).await;
            if self.has_unsaved(&mut instance.lock()) {
                sleep_until(self.next_write).await;
                self.start_write(instance);
            } else {
                instance.unsaved.notified().await;
            }
        }
    }

    /// Writes the remaining unsaved changes.
    pub async fn finish(&mut self, instance: &Instance) {
        self.wait(instance).await;
        if self.has_unsaved(&mut instance.lock()) {
            self.start_write(instance);
            self.wait(instance).await;
        }
    }

    /// Whether there is something to write. Forgets a file that is not configured: its mark would wake the writer for nothing.
    fn has_unsaved(&self, session: &mut Session) -> bool {
        session.unsaved.server_state &= self.server_state.is_some();
        session.unsaved.state || session.unsaved.server_state
    }

    /// Waits for the running write.
    async fn wait(&mut self, instance: &Instance) {
        let Some(writing) = &mut self.writing else { return };
        let outcome = writing.await;
        self.writing = None;
        let outcome = outcome
            .unwrap_or_else(|panic| Outcome { state: Some(Err(self.state.interrupted(&panic))), server_state: None });
        self.finish_write(instance, &outcome);
    }

    fn start_write(&mut self, instance: &Instance) {
        let work = self.collect(&mut instance.lock());
        self.next_write = Instant::now() + MIN_INTERVAL;
        if work.snapshot.is_none() && work.server_state.is_none() {
            return;
        }
        let file = self.state.clone();
        self.writing = Some(spawn_blocking(move || Outcome {
            state: work.snapshot.map(|snapshot| file.save(&snapshot)),
            server_state: work.server_state.map(|(file, text, pid)| file.save(&text, pid)),
        }));
    }

    /// Collects the unsaved changes of the session, and marks them as saved.
    fn collect(&mut self, session: &mut Session) -> Work {
        let snapshot = std::mem::take(&mut session.unsaved.state).then(|| {
            // The snapshot includes changes that are not in the journal yet.
            session.unsaved.journal |= !self.journal.append(session.take_unjournaled());
            Snapshot { number: self.journal.start_snapshot(), stored: session.to_store() }
        });
        let file = self.server_state.clone().filter(|_| session.unsaved.server_state);
        let server_state = file.and_then(|file| {
            // If the content is unknown, the mark stays, and the file is written later.
            let (text, pid) = (session.server_state()?, session.processes.current.as_ref()?.pid);
            session.unsaved.server_state = false;
            self.is_new(pid, &text).then_some((file, text, pid))
        });
        Work { snapshot, server_state }
    }

    /// Whether `text` differs from the last write for this process.
    fn is_new(&mut self, pid: u32, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let written = Some((pid, hasher.finish()));
        std::mem::replace(&mut self.written, written) != written
    }

    /// Logs the first failure and the recovery of each file. A failed write is retried at most once per second.
    fn finish_write(&mut self, instance: &Instance, outcome: &Outcome) {
        if let Some(result) = &outcome.state {
            match (result, std::mem::replace(&mut self.state_fails, result.is_err())) {
                (Err(error), false) => warn!(
                    error = %Chain(error),
                    hint = "check that the disk is not full and that weightd can write to `state_dir`",
                    "cannot write the state to disk; a restart of weightd would lose it"
                ),
                (Ok(()), true) => info!("writing the state to disk works again"),
                _ => {}
            }
            let mut session = instance.lock();
            if result.is_err() {
                self.metrics.persist_failed(&instance.name);
                session.unsaved.state = true;
                if self.journal.is_too_large() {
                    self.journal.restart(Some(&session));
                }
            } else if !session.unsaved.state {
                session.unsaved.journal = false;
                self.journal.restart(None);
            }
        }
        if let Some(result) = &outcome.server_state {
            match (result, std::mem::replace(&mut self.server_state_fails, result.is_err())) {
                (Err(error), false) => warn!(
                    error = %Chain(error),
                    hint = "create the directory of `state_file` in [[haproxy]], and give weightd write permission for it",
                    "cannot write the server-state file of HAProxy; a reload of HAProxy loads its old content"
                ),
                (Ok(()), true) => info!("writing the server-state file of HAProxy works again"),
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
