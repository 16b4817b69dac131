//! The observation of one backend: while its rollout needs counts, the nodes report them.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::warn;
use weightd_core::{
    fleet::{Sides, View, ViewId},
    model::BackendName,
    rollout::{Spec, intake::Intake},
};

use crate::{
    base::{chain::Chain, retry::Backoff},
    documents::{Documents, observe::Observer},
};

/// Between two looks whether the key must be renewed.
const LOOK: Duration = Duration::from_secs(5);
/// Shortest and longest pause after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// An observation, and what was read of its answers. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Observing {
    view: ViewId,
    /// What of the reports is new.
    pub(super) intake: Intake,
    /// The `ModifyIndex` of its key; none while it is not written.
    index: watch::Receiver<Option<u64>>,
    _stop: DropGuard,
}

/// The view of a rollout.
fn view(spec: &Spec) -> View {
    View { sides: Some(Sides { from: spec.from.clone(), to: spec.to.clone() }), ..View::default() }
}

impl Observing {
    /// Observes `backend` for `spec`. `by` is the name of the controller.
    pub(super) fn start(
        documents: &Documents,
        backend: &BackendName,
        spec: &Spec,
        by: &str,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let stop = stop.child_token();
        let (sender, index) = watch::channel(None);
        let view = view(spec);
        let id = view.id();
        tasks.spawn(run(documents.clone(), backend.clone(), view, by.to_owned(), sender, stop.clone()));
        Self { view: id, intake: Intake::new(backend.clone(), id), index, _stop: stop.drop_guard() }
    }

    /// The name of the view in reports.
    pub(super) fn view(&self) -> ViewId {
        self.view
    }

    /// Whether it counts the sides of this rollout.
    pub(super) fn is_of(&self, spec: &Spec) -> bool {
        self.view == view(spec).id()
    }

    /// The `ModifyIndex` of the observation. Before it is written, no report answers it.
    pub(super) fn index(&self) -> u64 {
        self.index.borrow().unwrap_or(u64::MAX)
    }
}

async fn run(
    documents: Documents,
    backend: BackendName,
    view: View,
    by: String,
    index: watch::Sender<Option<u64>>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let started = Observer::start(&documents, &backend, view.clone(), Some(by.clone()));
        match stop.run_until_cancelled(started).await {
            None => return,
            Some(Ok(mut observer)) => {
                backoff.reset();
                index.send_replace(Some(observer.index()));
                let failed = renew(&mut observer, &stop).await;
                observer.end().await;
                let Err(error) = failed else { return };
                warn!(%backend, error = %Chain(&error), "the observation of a rollout cannot be renewed");
            }
            Some(Err(error)) => warn!(%backend, error = %Chain(&error), "a rollout cannot be observed"),
        }
        index.send_replace(None);
        if stop.run_until_cancelled(sleep(backoff.next())).await.is_none() {
            return;
        }
    }
}

/// Renews the key until `stop`.
async fn renew(observer: &mut Observer, stop: &CancellationToken) -> Result<(), crate::documents::DocumentsError> {
    while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
        observer.renew().await?;
    }
    Ok(())
}
