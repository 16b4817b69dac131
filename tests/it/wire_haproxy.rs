//! The reconcile task with a fake runtime API: its answers do not occur with a real HAProxy.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use weightd::{
    base::{clock::Clock, systemd::Watchdog},
    consul::watch::{Feed, Link, WatchHandle},
    weightd::{
        instance::Instance,
        metrics::Metrics,
        session::{Session, Timing},
        task::Task,
    },
};
use weightd_core::{
    desired::{Decoder, Entry},
    diagnosis,
    reasons::Reason,
};

use crate::{
    fakes::{FakeHaproxy, Model, haproxy::Reply},
    harness::{always, eventually},
};

mod broken;
mod process;
mod sets;

const SOON: Duration = Duration::from_secs(5);
/// Long enough for several polls, resyncs and retries.
const A_WHILE: Duration = Duration::from_millis(400);

/// A running task with a fake HAProxy. The test supplies Consul's data.
struct Rig {
    haproxy: FakeHaproxy,
    instance: Arc<Instance>,
    feed: watch::Sender<Feed>,
    clock: Clock,
    decoder: Decoder,
    index: u64,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rig {
    /// Starts the task without desired weights.
    fn start(model: Model) -> anyhow::Result<Self> {
        let haproxy = FakeHaproxy::start(model)?;
        let (feed, receiver) = watch::channel(Feed::default());
        let (_, link) = watch::channel(Link::default());
        let followed = WatchHandle { feed: receiver.clone(), link, refresh: Arc::new(watch::channel(()).0) };
        let address = haproxy.address().parse()?;
        let timing = Timing { resync: Duration::from_millis(150), process_poll: Duration::from_millis(50) };
        let (clock, metrics, stop) = (Clock::start(), Arc::new(Metrics::new()), CancellationToken::new());
        let session = Session::new(weightd_core::stored::Stored::default(), false, timing, clock.now());
        let instance = Arc::new(Instance::new(
            "edge".to_owned(),
            address,
            "weightd/".to_owned(),
            &followed,
            Arc::default(),
            session,
        ));
        let task = Task::new(
            Arc::clone(&instance),
            receiver,
            watch::channel(timing).1,
            None,
            clock,
            metrics,
            Watchdog::pulses(1).remove(0),
        );
        let task = tokio::spawn(task.run(stop.clone()));
        Ok(Self { haproxy, instance, feed, clock, decoder: Decoder::new("w/"), index: 1, task, stop })
    }

    /// Sets the desired weights: only these.
    fn desire(&mut self, documents: &[(&str, &str)]) -> anyhow::Result<()> {
        self.index += 1;
        let entries: Vec<_> = documents
            .iter()
            .map(|(backend, document)| Entry {
                key: format!("w/{backend}").into(),
                value: Some(BASE64.encode(document).into()),
                modify_index: self.index,
            })
            .collect();
        let state = self.decoder.decode(&entries)?;
        self.feed.send_replace(Feed::State { state, read_at: self.clock.now() });
        Ok(())
    }

    fn session<T>(&self, read: impl FnOnce(&Session) -> T) -> T {
        read(&self.instance.lock())
    }

    fn converged(&self) -> bool {
        self.session(|session| session.down.is_none() && session.converged())
    }

    /// The reason why HAProxy cannot be used.
    fn down(&self) -> Option<&'static str> {
        self.session(|session| session.down.as_ref().map(|down| down.reason))
    }

    /// The reasons of a backend.
    fn reasons(&self, backend: &str) -> Vec<String> {
        self.reasons_of(backend).into_iter().map(|reason| reason.reason.into_owned()).collect()
    }

    fn reasons_of(&self, backend: &str) -> Vec<Reason> {
        let of = |session: &Session| session.backends.get(backend).map(|b| diagnosis::reasons(b, None));
        self.session(of).unwrap_or_default()
    }

    /// Waits until the backend is reported as unreadable, with this detail.
    async fn until_unreadable(&self, backend: &str) -> anyhow::Result<String> {
        eventually(SOON, "status reports that the backend is unreadable", async || {
            let found = self.reasons_of(backend).into_iter().find(|reason| reason.reason == "unreadable");
            found.map(|reason| reason.detail).context("not reported")
        })
        .await
    }

    /// Waits until the fake has these weights of this backend.
    async fn until_weights_of(&self, backend: &str, expected: &[u16]) -> anyhow::Result<()> {
        eventually(SOON, "the weights are set", async || {
            let weights = self.haproxy.model(|m| m.weights(backend));
            ensure!(weights == expected, "{weights:?}");
            Ok(())
        })
        .await
    }

    /// Waits until the fake has these weights, and the status shows it.
    async fn until_weights(&self, backend: &str, expected: &[u16]) -> anyhow::Result<()> {
        eventually(SOON, "the weights are in force", async || {
            let weights = self.haproxy.model(|m| m.weights(backend));
            ensure!(weights == expected, "{weights:?}, reasons {:?}, down {:?}", self.reasons(backend), self.down());
            ensure!(self.converged(), "not reported as converged");
            Ok(())
        })
        .await
    }

    /// Expects that the fake keeps these weights for a while, and that the backend is never converged.
    async fn never_converges(&self, backend: &str, weights: &[u16]) -> anyhow::Result<()> {
        always(A_WHILE, "no set has an effect", async || {
            let now = self.haproxy.model(|m| m.weights(backend));
            ensure!(now == weights, "{now:?}");
            ensure!(!self.converged(), "reported as converged");
            Ok(())
        })
        .await
    }

    /// Waits until HAProxy cannot be used for this reason.
    async fn until_down(&self, reason: &str) -> anyhow::Result<()> {
        eventually(SOON, "status reports that HAProxy cannot be used", async || {
            ensure!(self.down() == Some(reason), "{:?}", self.down());
            Ok(())
        })
        .await
    }

    async fn until_up(&self) -> anyhow::Result<()> {
        eventually(SOON, "HAProxy can be used again", async || {
            ensure!(self.down().is_none(), "{:?}", self.down());
            Ok(())
        })
        .await
    }

    /// Waits until the fake has received this command.
    async fn until_heard(&self, text: &str) -> anyhow::Result<()> {
        eventually(SOON, "HAProxy received the command", async || {
            ensure!(self.haproxy.model(|m| m.received(text)), "{:?}", self.haproxy.model(|m| m.lines.clone()));
            Ok(())
        })
        .await
    }

    /// Ends the task. Fails if it sent a line that a correct client never sends.
    async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        (&mut self.task).await?;
        self.haproxy.expect_no_violation();
        Ok(())
    }
}

/// A document with these weights.
fn weights(weights: &[(&str, u16)]) -> String {
    let weights: Vec<_> = weights.iter().map(|(server, weight)| format!(r#""{server}":{weight}"#)).collect();
    format!(r#"{{"weights":{{{}}}}}"#, weights.join(","))
}
