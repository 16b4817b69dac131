//! The task of one HAProxy: executes the steps of its [`Session`](super::session::Session). It does only I/O.
//!
//! It is the only writer to its HAProxy. Must not decide what to send or when.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use weightd_core::model::Moment;

use super::{
    instance::Instance,
    metrics::Metrics,
    report::Reporter,
    saving::{Files, Saving, SharedJournal},
    session::{Step, Timing},
};
use crate::{
    base::{clock::Clock, systemd::Pulse},
    consul::watch::Feed,
    haproxy::Writer,
};

/// The task of one HAProxy.
pub struct Task {
    instance: Arc<Instance>,
    writer: Writer,
    feed: watch::Receiver<Feed>,
    timing: watch::Receiver<Timing>,
    saving: Option<Saving>,
    stepper: Stepper,
}

/// Executes single steps: everything that a step needs beside the instance.
struct Stepper {
    journal: Option<SharedJournal>,
    reporter: Reporter,
    pulse: Pulse,
    clock: Clock,
    reported_at: Moment,
}

/// Maximum delay of the reports while steps follow each other without a wait.
const REPORT_EVERY: Duration = Duration::from_millis(500);

impl Task {
    /// Creates the task for `instance`. Without `files`, no state survives a restart.
    pub fn new(
        instance: Arc<Instance>,
        feed: watch::Receiver<Feed>,
        timing: watch::Receiver<Timing>,
        files: Option<Files>,
        clock: Clock,
        metrics: Arc<Metrics>,
        pulse: Pulse,
    ) -> Self {
        let writer = Writer::new(instance.address.clone());
        let saving = files.map(|files| Saving::new(files, Arc::clone(&metrics), &instance.name));
        let journal = saving.as_ref().map(Saving::journal);
        let reporter = Reporter::new(instance.name.clone(), metrics);
        let stepper = Stepper { journal, reporter, pulse, clock, reported_at: clock.now() };
        Self { instance, writer, feed, timing, saving, stepper }
    }

    /// Executes steps until `stop`. Stopping changes nothing in HAProxy.
    #[tracing::instrument(skip_all, fields(haproxy = self.instance.name))]
    pub async fn run(mut self, stop: CancellationToken) {
        let instance = Arc::clone(&self.instance);
        let mut saving = self.saving.take();
        let save = async {
            match &mut saving {
                Some(saving) => saving.run(&instance).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.steps(&stop) => {}
            () = save => {}
        }
        self.stepper.report(&self.instance);
        if let Some(saving) = &mut saving {
            saving.finish(&self.instance).await;
        }
    }

    async fn steps(&mut self, stop: &CancellationToken) {
        self.take_feed();
        while !stop.is_cancelled() {
            // Inputs that arrived during the last exchange; the `select!` below waits for the next ones.
            if self.feed.has_changed().unwrap_or_default() {
                self.take_feed();
            }
            if self.timing.has_changed().unwrap_or_default() {
                self.take_timing();
            }
            let Some(until) = self.stepper.step(&self.instance, &self.writer).await else { continue };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                changed = self.feed.changed() => match changed {
                    Ok(()) => self.take_feed(),
                    // The watch stops only when the daemon stops.
                    Err(_) => stop.cancelled().await,
                },
                Ok(()) = self.timing.changed() => self.take_timing(),
                () = self.instance.wake.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Reconciles all backends once with the current feed. Returns whether every weight then matches Consul.
    pub async fn once(&mut self) -> bool {
        self.take_feed();
        self.instance.lock().enforce();
        loop {
            let Some(until) = self.stepper.step(&self.instance, &self.writer).await else { continue };
            let ended = {
                let session = self.instance.lock();
                session.down.is_some() || session.is_settled()
            };
            if ended {
                break;
            }
            sleep_until(until).await;
        }
        if let Some(saving) = &mut self.saving {
            saving.finish(&self.instance).await;
        }
        self.instance.lock().converged()
    }

    fn take_feed(&mut self) {
        let feed = self.feed.borrow_and_update().clone();
        let mut session = self.instance.lock();
        match feed {
            Feed::Waiting => {}
            Feed::Unavailable => session.consul_failed(),
            Feed::State { state, read_at } => session.set_desired(&state, read_at),
        }
    }

    fn take_timing(&mut self) {
        let timing = *self.timing.borrow_and_update();
        self.instance.lock().set_timing(timing, self.stepper.clock.now());
    }
}

impl Stepper {
    /// Executes the next step. Returns the moment to wait for, or `None` if another step follows at once.
    async fn step(&mut self, instance: &Instance, writer: &Writer) -> Option<Instant> {
        // A pause request waits for this lock, so that no command is in progress when it returns.
        let exchange = instance.exchange.lock().await;
        let (step, unjournaled) = {
            let mut session = instance.lock();
            (session.next(self.clock.now()), session.take_unjournaled())
        };
        if self.journal.as_ref().is_some_and(|journal| !journal.append(unjournaled)) {
            instance.lock().unsaved.journal = true;
        }
        let answer = match step {
            Step::Ask(line) => writer.reader().ask(&line).await,
            Step::Send(line) => writer.send(&line).await,
            Step::Wait(until) => {
                drop(exchange);
                // Reports come after the exchanges, so that they do not delay them.
                self.report(instance);
                return Some(self.clock.instant(until));
            }
        };
        let now = self.clock.now();
        instance.lock().answer(answer, now);
        drop(exchange);
        self.pulse.beat();
        if now.since(self.reported_at) >= REPORT_EVERY {
            self.report(instance);
        }
        None
    }

    /// Reports the events to the log and the metrics, and wakes the file writer.
    fn report(&mut self, instance: &Instance) {
        let (events, unsaved) = {
            let mut session = instance.lock();
            (session.take_events(), session.unsaved)
        };
        self.reported_at = self.clock.now();
        self.reporter.report(&events, self.reported_at);
        if !events.is_empty() {
            instance.changed.notify_one();
        }
        if unsaved.state || unsaved.server_state {
            instance.unsaved.notify_one();
        }
    }
}
