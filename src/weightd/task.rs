//! The task of one HAProxy: carries out the steps of its [`Session`](super::session::Session). I/O, and nothing else.
//!
//! It is the only writer to its HAProxy. Must never decide what is asked or sent, nor when.

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
    dialogue: Dialogue,
}

/// What one step needs beside the instance.
struct Dialogue {
    journal: Option<SharedJournal>,
    reporter: Reporter,
    pulse: Pulse,
    clock: Clock,
    reported_at: Moment,
}

/// How long reporting waits at most while steps follow each other without a pause.
const REPORT_EVERY: Duration = Duration::from_millis(500);

impl Task {
    /// The task for `instance`. Without `files`, nothing survives a restart.
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
        let dialogue = Dialogue { journal, reporter, pulse, clock, reported_at: clock.now() };
        Self { instance, writer, feed, timing, saving, dialogue }
    }

    /// Carries out steps until `stop`. Leaving changes nothing in HAProxy.
    #[tracing::instrument(skip_all, fields(haproxy = self.instance.name))]
    pub async fn run(mut self, stop: CancellationToken) {
        let instance = Arc::clone(&self.instance);
        let mut saving = self.saving.take();
        let saves = async {
            match &mut saving {
                Some(saving) => saving.run(&instance).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.steps(&stop) => {}
            () = saves => {}
        }
        self.dialogue.report(&self.instance);
        if let Some(saving) = &mut saving {
            saving.finish(&self.instance).await;
        }
    }

    async fn steps(&mut self, stop: &CancellationToken) {
        self.take_feed();
        while !stop.is_cancelled() {
            // What came while a line was under way; waiting for more is below.
            if self.feed.has_changed().unwrap_or_default() {
                self.take_feed();
            }
            if self.timing.has_changed().unwrap_or_default() {
                self.take_timing();
            }
            let Some(until) = self.dialogue.step(&self.instance, &self.writer).await else { continue };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                changed = self.feed.changed() => match changed {
                    Ok(()) => self.take_feed(),
                    // The watch ends only with the daemon.
                    Err(_) => stop.cancelled().await,
                },
                Ok(()) = self.timing.changed() => self.take_timing(),
                () = self.instance.wake.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Reconciles everything once with what the feed says now. True if a reading showed all of it as Consul says.
    pub async fn once(&mut self) -> bool {
        self.take_feed();
        self.instance.lock().enforce();
        loop {
            let Some(until) = self.dialogue.step(&self.instance, &self.writer).await else { continue };
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
            Feed::State { state, read_at } => session.take(&state, read_at),
        }
    }

    fn take_timing(&mut self) {
        let timing = *self.timing.borrow_and_update();
        self.instance.lock().set_timing(timing, self.dialogue.clock.now());
    }
}

impl Dialogue {
    /// Carries out the next step. None if another one follows at once, else the moment to wait for.
    async fn step(&mut self, instance: &Instance, writer: &Writer) -> Option<Instant> {
        // A person who pauses waits for this, and then knows that no command is under way any more.
        let exchange = instance.exchange.lock().await;
        let (step, unjournaled) = {
            let mut session = instance.lock();
            (session.next(self.clock.now()), session.take_unjournaled())
        };
        if let Some(journal) = &self.journal {
            journal.append(unjournaled);
        }
        let answer = match step {
            Step::Ask(line) => writer.reader().ask(&line).await,
            Step::Send(line) => writer.send(&line).await,
            Step::Wait(until) => {
                drop(exchange);
                // What happened is reported after it went to HAProxy.
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

    /// Logs and counts what happened, and wakes the writing of files.
    fn report(&mut self, instance: &Instance) {
        let (events, unsaved) = {
            let mut session = instance.lock();
            (session.take_events(), session.unsaved)
        };
        self.reported_at = self.clock.now();
        self.reporter.report(&events, self.reported_at);
        if unsaved.memory || unsaved.server_state {
            instance.unsaved.notify_one();
        }
    }
}
