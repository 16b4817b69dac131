//! The shell around one HAProxy: the only task that talks to it.
//!
//! Owns when something is done, and what is done when an exchange fails. Must never decide what a weight
//! should be.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use weightd_core::{
    backend::Why,
    model::{BackendName, Moment},
    observed::Refusal,
    plan::Plan,
};

use super::{
    exchange::{self, Exchange, Expect},
    instance::{Down, Instance},
    reconciler::{Due, Process, Reads, Seen},
    saving::{Files, Saving},
    telling::Telling,
};
use crate::{
    base::{
        chain::Chain,
        clock::Clock,
        retry::{self, Backoff},
        systemd::Pulse,
    },
    consul::watch::Feed,
    haproxy::{Command, ExchangeError, Info, Line, Runtime, reply},
    weightd::metrics::Metrics,
};

/// How long Consul's first answer may take before what lies on disk is enforced.
pub const FIRST_READ: Duration = Duration::from_secs(3);
/// The most stages that follow each other at once: the two of a plan, and as many again if HAProxy was reloaded in
/// between. Whoever undoes more than that is met at the next resync, and not in a race.
const MAX_STAGES: usize = 4;
/// How often backends are looked at that wait for a server's health.
const RECHECK_EVERY: Duration = Duration::from_secs(1);
/// The pause between two exchanges of a resync, so that HAProxy serves traffic in between.
const PACE: Duration = Duration::from_millis(5);
/// Shortest and longest pause after HAProxy did not answer: the socket is local, asking is cheap.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// How often things are done. It may be changed while the task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often everything is looked at again; jittered by a tenth.
    pub resync: Duration,
    /// How often to ask which process answers.
    pub process_poll: Duration,
}

/// The task of one HAProxy.
pub struct Task {
    instance: Arc<Instance>,
    runtime: Runtime,
    feed: watch::Receiver<Feed>,
    timing: watch::Receiver<Timing>,
    saving: Option<Saving>,
    telling: Telling,
    pulse: Pulse,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// When Consul's answer came whose changes are being set.
    read_at: Option<Moment>,
    /// HAProxy is down but has answered since: work that succeeds makes it up.
    trying: bool,
}

/// Why a piece of work did not come to its end; what was to be looked at is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// HAProxy cannot be used: after a growing pause.
    Down,
    /// A new process answers: at once.
    NewProcess,
    /// An old process still answers: after a short pause.
    OldProcess,
}

/// Ticks at once and then in these steps, without making up for what was missed.
fn every(step: Duration) -> Interval {
    let mut ticks = interval(step);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

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
        let runtime = Runtime::new(instance.address.clone());
        let saving = files.map(|files| Saving::new(files, Arc::clone(&metrics)));
        let telling = Telling::new(instance.name.clone(), Arc::clone(&metrics));
        Self { instance, runtime, feed, timing, saving, telling, pulse, clock, metrics, read_at: None, trying: false }
    }

    /// Reconciles until `stop`. Leaving changes nothing in HAProxy.
    #[tracing::instrument(skip_all, fields(haproxy = self.instance.name))]
    pub async fn run(mut self, stop: CancellationToken) {
        let mut poll = every(self.timing.borrow_and_update().process_poll);
        let mut recheck = every(RECHECK_EVERY);
        let first_read = sleep_until(Instant::now() + FIRST_READ);
        tokio::pin!(first_read);
        let mut resync_at = self.next_resync();
        // Before this nothing is looked at in its turn, or at all.
        let (mut in_turn_at, mut not_before) = (Instant::now(), Instant::now());
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        self.take_feed();
        loop {
            let (due, enforcing, usable) = self.standing();
            // What is due at once goes to HAProxy first, and is told of after it.
            let mut at_once = false;
            let work_at = if due == Some(Due::Now) { not_before } else { in_turn_at.max(not_before) };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = self.feed.changed() => {
                    if changed.is_err() {
                        // The watch ends only with the daemon.
                        stop.cancelled().await;
                        break;
                    }
                    // What was set until now comes from the answer before.
                    self.tell();
                    self.take_feed();
                    at_once = self.standing().0 == Some(Due::Now);
                }
                () = &mut first_read, if !enforcing => {
                    info!("Consul's first answer is late; what lies on disk is enforced");
                    self.instance.lock().reconciler.enforce();
                }
                _ = poll.tick() => {
                    if self.poll().await.is_err() {
                        poll.reset_after(backoff.next());
                    }
                }
                () = sleep_until(work_at), if usable && due.is_some() => {
                    let now = Instant::now();
                    in_turn_at = now + PACE;
                    match self.work().await {
                        Ok(()) => {
                            backoff.reset();
                            at_once = self.standing().0 == Some(Due::Now);
                        }
                        Err(Failed::NewProcess) => {}
                        Err(Failed::OldProcess) => not_before = now + backoff.next(),
                        Err(Failed::Down) => {
                            self.trying = false;
                            poll.reset_after(backoff.next());
                        }
                    }
                }
                () = sleep_until(resync_at) => {
                    self.instance.lock().reconciler.resync();
                    resync_at = self.next_resync();
                }
                Ok(()) = self.timing.changed() => {
                    poll = every(self.timing.borrow_and_update().process_poll);
                    resync_at = self.next_resync();
                }
                _ = recheck.tick() => self.instance.lock().reconciler.recheck(self.clock.now()),
                () = self.instance.wake.notified() => {}
                () = async { self.saving.as_mut().expect("only polled where there is one").step(&self.instance).await },
                    if self.saving.is_some() => {}
            }
            if !at_once {
                self.tell();
            }
            self.pulse.beat();
        }
        self.tell();
        self.finish().await;
    }

    /// What is due, whether anything may be enforced, whether HAProxy can be worked with.
    fn standing(&self) -> (Option<Due>, bool, bool) {
        let inner = self.instance.lock();
        let reconciler = &inner.reconciler;
        let usable = reconciler.process.is_some() && (inner.down.is_none() || self.trying);
        (reconciler.due(), reconciler.enforcing, usable)
    }

    /// Reconciles everything once with what the feed says now. True if all is as Consul says.
    pub async fn once(&mut self) -> bool {
        self.take_feed();
        self.instance.lock().reconciler.enforce();
        let mut outcome = self.poll().await;
        while outcome != Err(Failed::Down) && self.standing().0.is_some() && self.standing().2 {
            outcome = self.work().await;
            if outcome == Err(Failed::OldProcess) {
                sleep(BACKOFF.0).await;
            }
        }
        self.tell();
        self.finish().await;
        let inner = self.instance.lock();
        inner.down.is_none() && inner.reconciler.converged()
    }

    fn next_resync(&self) -> Instant {
        Instant::now() + retry::jittered(self.timing.borrow().resync, 0.1)
    }

    fn take_feed(&mut self) {
        let feed = self.feed.borrow_and_update().clone();
        let mut inner = self.instance.lock();
        match feed {
            Feed::Waiting => {}
            Feed::Unavailable => {
                if !inner.reconciler.enforcing {
                    info!("Consul's first read failed; what lies on disk is enforced");
                    inner.reconciler.enforce();
                }
            }
            Feed::State { state, read_at } => {
                self.read_at = Some(read_at);
                inner.reconciler.take(&state);
            }
        }
    }

    /// Asks which process answers.
    async fn poll(&mut self) -> Result<(), Failed> {
        let answer = self.ask(&Line::of([Command::ShowInfo])).await?;
        let info = reply::info(answer.frames().next().unwrap_or_default());
        let info = info.map_err(|source| self.down(&self.runtime.bad(source)))?;
        if self.meet(&info).await? == Seen::Old {
            return Ok(());
        }
        let mut inner = self.instance.lock();
        if inner.down.is_some() && !self.trying {
            // Whatever it was, something may have been missed.
            self.trying = true;
            inner.reconciler.look_at_all_now();
        }
        drop(inner);
        self.recover();
        Ok(())
    }

    /// Takes note of the process that answers. A new one is asked what its socket permits.
    async fn meet(&mut self, info: &Info) -> Result<Seen, Failed> {
        let (seen, process) = {
            let mut inner = self.instance.lock();
            (inner.reconciler.process(info), inner.reconciler.process.clone())
        };
        if seen == Seen::New {
            info!(pid = info.pid, version = info.version, uptime_seconds = info.uptime, "a HAProxy process answers");
        }
        if let Some(mut process) = process.filter(|process| process.level.is_empty()) {
            let answer = self.ask(&Line::of([Command::ShowCliLevel, Command::ShowTable])).await?;
            let mut frames = answer.frames();
            frames.next().unwrap_or_default().trim().clone_into(&mut process.level);
            let tables = reply::stick_tables(frames.next().unwrap_or_default());
            let mut inner = self.instance.lock();
            (inner.reconciler.process, inner.reconciler.stick_tables) = (Some(process), tables);
        }
        let unusable = {
            let reconciler = &self.instance.lock().reconciler;
            reconciler.process.as_ref().and_then(|process| unusable(process, reconciler.observe_only))
        };
        match unusable {
            Some((reason, detail, remedy)) => Err(self.unusable(reason, detail, remedy)),
            None => Ok(seen),
        }
    }

    /// Looks at the next batch where that is needed, decides, sends, reads back.
    async fn work(&mut self) -> Result<(), Failed> {
        let mut batch = self.instance.lock().reconciler.next_unseen(self.clock.now());
        if batch.is_empty() {
            batch = self.look().await?;
        }
        // Whoever pauses waits for this, and then knows that nothing is on its way any more.
        let instance = Arc::clone(&self.instance);
        let _sending = instance.sending.lock().await;
        let plans = {
            let mut inner = self.instance.lock();
            inner.reconciler.decide(&batch, self.clock.now())
        };
        self.apply(plans).await?;
        self.recover();
        Ok(())
    }

    /// Looks at the next batch. One that could not be read is still to be looked at.
    async fn look(&mut self) -> Result<Vec<BackendName>, Failed> {
        let batch = self.instance.lock().reconciler.next_batch();
        let outcome = self.read_batch(&batch).await;
        let reconciler = &mut self.instance.lock().reconciler;
        match outcome {
            Ok(()) => {
                reconciler.answered(true);
                Ok(batch)
            }
            Err(failed) => {
                reconciler.put_back(batch);
                Err(failed)
            }
        }
    }

    /// Reads a batch: what is known of it once each of its backends has its id, its roles and the health it tracks.
    async fn read_batch(&mut self, batch: &[BackendName]) -> Result<(), Failed> {
        let mut reads = self.instance.lock().reconciler.reads(batch);
        // In a new process the first read brings ids, the second roles, the third the health of what is tracked.
        for _ in 0..3 {
            self.read(&reads).await?;
            let next = self.instance.lock().reconciler.reads(batch);
            if next.tracked == reads.tracked && next.looks.iter().all(|look| look.roles.is_none()) {
                break;
            }
            reads = next;
        }
        Ok(())
    }

    async fn read(&mut self, reads: &Reads) -> Result<(), Failed> {
        for Exchange { line, expect } in exchange::reads(reads) {
            let answer = self.ask(&line).await?;
            for (frame, expect) in answer.frames().zip(&expect) {
                match expect {
                    Expect::Info => {
                        let info = reply::info(frame).map_err(|source| self.down(&self.runtime.bad(source)))?;
                        // The rest of this answer is another process's; everything is looked at anew.
                        match self.meet(&info).await? {
                            Seen::Same => {}
                            Seen::New => return Err(Failed::NewProcess),
                            Seen::Old => return Err(Failed::OldProcess),
                        }
                    }
                    Expect::Roles(name) => {
                        let mut inner = self.instance.lock();
                        match reply::roles(frame) {
                            Ok(roles) => inner.reconciler.take_roles(name, roles),
                            Err(why) => inner.reconciler.unreadable(name, why),
                        }
                    }
                    Expect::Servers(name) => self.observe(name, frame),
                    Expect::Set(_) | Expect::ReadBack(_) => {}
                }
            }
        }
        Ok(())
    }

    fn observe(&self, name: &BackendName, frame: &str) {
        self.instance.lock().reconciler.observe(name, frame, self.clock.now());
    }

    /// Sends the plans stage by stage. A stage follows only when the one before it was read back as done.
    async fn apply(&mut self, mut plans: Vec<(BackendName, Why, Plan)>) -> Result<(), Failed> {
        for _ in 0..MAX_STAGES {
            if plans.is_empty() {
                break;
            }
            let mut refusals: Vec<Option<Refusal>> = vec![None; plans.len()];
            let mut next = Vec::new();
            for Exchange { line, expect } in exchange::writes(&plans) {
                // If this fails, what of the line ran is unknown: all is looked at again once HAProxy can be used.
                let answer = self.ask(&line).await?;
                for (frame, expect) in answer.frames().zip(&expect) {
                    match *expect {
                        Expect::Set(number) => {
                            if let Err(refusal) = reply::set_weight(frame) {
                                debug!(backend = %plans[number].0, error = %refusal, "a weight was refused");
                                refusals[number] = Some(refusal);
                            }
                        }
                        Expect::ReadBack(number) => {
                            let (name, why, plan) = &plans[number];
                            self.observe(name, frame);
                            let sent = plan.stages.first().map_or(&[][..], Vec::as_slice);
                            let refusal = refusals[number].take();
                            let stage =
                                self.instance.lock().reconciler.applied(name, *why, sent, refusal, self.clock.now());
                            next.extend(stage.map(|plan| (name.clone(), *why, plan)));
                        }
                        Expect::Info | Expect::Roles(_) | Expect::Servers(_) => {}
                    }
                }
            }
            plans = next;
        }
        Ok(())
    }

    async fn ask(&self, line: &Line) -> Result<crate::haproxy::Answer, Failed> {
        self.runtime.ask(line).await.map_err(|error| self.down(&error))
    }

    fn down(&self, error: &ExchangeError) -> Failed {
        if matches!(error, ExchangeError::TooLarge(_) | ExchangeError::Timeout(..)) {
            self.instance.lock().reconciler.answered(false);
        }
        self.unusable(error.reason(), Chain(error).to_string(), error.remedy())
    }

    /// Takes note of why HAProxy cannot be used; tells of it once.
    fn unusable(&self, reason: &'static str, detail: String, remedy: &'static str) -> Failed {
        self.metrics.haproxy_error(&self.instance.name, reason);
        let mut inner = self.instance.lock();
        if inner.down.as_ref().is_none_or(|down| down.reason != reason) {
            warn!(reason, error = detail, hint = remedy, "HAProxy cannot be used");
        }
        let since = inner.down.as_ref().map_or(self.clock.now(), |down| down.since);
        inner.down = Some(Down { reason, detail, remedy, since });
        Failed::Down
    }

    /// HAProxy is up again once it answers and nothing is due at once any more.
    fn recover(&mut self) {
        let mut inner = self.instance.lock();
        if inner.reconciler.due() == Some(Due::Now) {
            return;
        }
        inner.reconciled_once |= inner.reconciler.enforcing;
        self.trying = false;
        if let Some(down) = inner.down.take() {
            info!(after_seconds = self.clock.now().since(down.since).as_secs(), "HAProxy can be used again");
        }
    }

    /// Logs and counts what happened.
    fn tell(&mut self) {
        let (events, at_once) = {
            let mut inner = self.instance.lock();
            let at_once = inner.down.is_none() && inner.reconciler.due() == Some(Due::Now);
            (inner.reconciler.take_events(), at_once)
        };
        self.telling.tell(&events, self.read_at, self.clock.now());
        // What is set later than in one go was kept back, and tells nothing of how fast a change arrives.
        if !at_once {
            self.read_at = None;
        }
    }

    /// Writes what is still to be written.
    async fn finish(&mut self) {
        if let Some(saving) = &mut self.saving {
            saving.finish(&self.instance).await;
        }
    }
}

/// Why a process that answers cannot be used all the same.
fn unusable(process: &Process, observe_only: bool) -> Option<(&'static str, String, &'static str)> {
    if process.processes > 1 {
        return Some((
            "nbproc",
            format!("HAProxy runs {} processes, and a socket speaks for one of them only", process.processes),
            "use `nbthread` in place of `nbproc` in haproxy.cfg",
        ));
    }
    (process.level != "admin" && !observe_only).then(|| {
        (
            "not_admin",
            format!(
                "the socket's level is {}, setting a weight needs admin",
                weightd_core::model::Escaped(&process.level)
            ),
            "add `level admin` to the `stats socket` line in haproxy.cfg and reload HAProxy",
        )
    })
}
