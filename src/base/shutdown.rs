//! Handles signals and the orderly stop of the tasks. The first signal requests a stop; the second one forces it.

use std::future::Future;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

/// Listens for SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

/// The action that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop the program. The value is the name of the signal.
    Stop(&'static str),
    /// Read the configuration again.
    Reload,
}

impl Signals {
    /// Starts to listen. From now on these signals no longer kill the process by default.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal and returns its action.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            biased;
            _ = self.term.recv() => SignalAction::Stop("SIGTERM"),
            _ = self.int.recv() => SignalAction::Stop("SIGINT"),
            _ = self.hup.recv() => SignalAction::Reload,
        }
    }

    /// Waits for the next stop signal and returns its name.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            if let SignalAction::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

/// The long-running tasks of the program. A stop cancels all of them and waits for each.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Returns the token that is cancelled when the tasks must stop.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task. The task must end when the stop token is cancelled.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Cancels the stop token and waits until all tasks have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        info!("stopped; HAProxy keeps its weights");
    }
}
