//! The task of one root: reads the observed backends one to four times a second, and writes the report when it is due.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{sync::watch, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use weightd_core::{
    fleet::{
        Identity, Keys, Observations, Observed,
        counters::{Counted, Counters, LeftOut, WhyLeftOut},
        counting::Publication,
    },
    model::{BackendName, Moment, Root},
};

use super::{
    super::publisher,
    observing::{self, Feed},
    source::{Source, wall},
};
use crate::{
    base::{chain::Chain, clock::Clock, retry},
    consul::{Client, ConsulError, session::SessionId},
    weightd::metrics::Metrics,
};

/// Between two looks at whether HAProxy was reloaded, and between two readings of a worker that leaves.
const RELOADED_EVERY: Duration = Duration::from_millis(100);
/// The pause after a write that failed, and after a denial.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_DENIED: Duration = Duration::from_secs(30);
/// A last value of at most this size stays when nobody observes any more.
const MAY_STAY: usize = 4096;

/// What a reporter is made of.
#[derive(Debug)]
pub struct Setup {
    /// Consul.
    pub client: Arc<Client>,
    /// The clock of the sessions.
    pub clock: Clock,
    /// The root of the keys.
    pub root: Root,
    /// This node.
    pub identity: Identity,
    /// Its HAProxy instances that follow the root.
    pub sources: Vec<Source>,
    /// How the key of this node in `nodes/` stands: its session holds this report too.
    pub node: watch::Receiver<publisher::Shown>,
    /// Counts writes and errors.
    pub metrics: Arc<Metrics>,
}

/// Whether the node reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody observes.
    #[default]
    Idle,
    /// The report is written.
    Reporting,
    /// The report is not written yet, or the last write failed.
    Failing,
    /// Consul denies the observations to this token.
    DeniedReading,
    /// Consul denies the report to this token.
    DeniedWriting,
    /// There is no session that could hold the report.
    NoSession,
}

impl State {
    /// The word for status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Reporting => "reporting",
            Self::Failing => "failing",
            Self::DeniedReading | Self::DeniedWriting => "denied",
            Self::NoSession => "no_session",
        }
    }
}

/// How reporting stands, for status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// Whether the node reports.
    pub state: State,
    /// How many backends are observed.
    pub observed: usize,
}

/// A write in progress; its result is the size of the value, or none where another session holds the key.
type Writing = Pin<Box<dyn Future<Output = Result<Option<usize>, ConsulError>> + Send>>;

/// Reports on observed backends.
#[derive(Debug)]
pub struct Reporter {
    setup: Setup,
    observations: Observations,
    observed: Vec<Observed>,
    publication: Publication,
    shown: watch::Sender<Shown>,
    /// The size of the value that was written last.
    size: usize,
    /// The session that it was written with.
    session: Option<SessionId>,
    /// Whether to replace the last value by an empty one.
    clear: bool,
    /// Whether what has no answer yet was read for one.
    answering: bool,
    /// After a denial, nothing is read and written before this moment.
    off_until: Option<Moment>,
    logged: Option<&'static str>,
}

impl Reporter {
    /// The reporter, and how it stands at each moment.
    pub fn new(setup: Setup) -> (Self, watch::Receiver<Shown>) {
        let (shown, receiver) = watch::channel(Shown::default());
        let reporter = Self {
            setup,
            observations: Observations::default(),
            observed: Vec::new(),
            publication: Publication::new(),
            shown,
            size: 0,
            session: None,
            clear: false,
            answering: false,
            off_until: None,
            logged: None,
        };
        (reporter, receiver)
    }

    /// Reports until `stop`. The session of the node takes the report with it.
    pub async fn run(mut self, stop: CancellationToken) {
        let (sender, feed) = watch::channel(Feed::default());
        let Setup { client, root, clock, .. } = &self.setup;
        let following = observing::follow(Arc::clone(client), root.clone(), *clock, sender);
        let work = async {
            tokio::select! {
                () = following => {}
                () = self.report(feed) => {}
            }
        };
        stop.run_until_cancelled(work).await;
    }

    async fn report(&mut self, mut feed: watch::Receiver<Feed>) {
        let mut node = self.setup.node.clone();
        let mut read_at = self.now();
        // Reading goes on while Consul takes the report, so that no block is missed by a slow Consul.
        let mut writing: Option<Writing> = None;
        loop {
            let now = self.now();
            self.forget(now);
            let on = !self.observed.is_empty() && self.off_until.is_none_or(|until| now >= until);
            if on {
                let asked = !self.answering && self.observed.iter().any(|observed| observed.unanswered);
                if asked || now >= read_at || self.setup.sources.iter().any(Source::was_reloaded) {
                    let began = self.now();
                    self.read(asked).await;
                    read_at = self.next_reading(self.now().since(began));
                } else if self.has_leaving() {
                    join_all(self.setup.sources.iter_mut().map(Source::read_leaving)).await;
                }
            }
            // A large value does not stay when nobody needs it.
            let clear = self.observed.is_empty() && std::mem::take(&mut self.clear);
            if writing.is_none() && (clear || on && self.publication.take_due(self.now())) {
                writing = self.write();
            }
            let until = self.wait_until(on, read_at, writing.is_some());
            tokio::select! {
                changed = feed.changed() => match changed {
                    Ok(()) => self.take(&feed.borrow_and_update().clone()),
                    // Following ends only with the daemon.
                    Err(_) => std::future::pending().await,
                },
                written = async { writing.as_mut().expect("polled only while it is some").await }, if writing.is_some() => {
                    writing = None;
                    self.written(written);
                }
                Ok(()) = node.changed() => self.session_changed(&node.borrow_and_update().clone()),
                () = sleep_until(self.setup.clock.instant(until)) => {}
            }
        }
    }

    /// The key vanished with the former session: it is written again with the new one.
    fn session_changed(&mut self, node: &publisher::Shown) {
        if node.session.is_some() && node.session != self.session {
            self.publication.lost(self.now());
        }
    }

    fn now(&self) -> Moment {
        self.setup.clock.now()
    }

    fn has_leaving(&self) -> bool {
        self.setup.sources.iter().any(Source::has_leaving)
    }

    /// When to read next, after a reading that took so long: at a multiple of the interval on the wall clock.
    fn next_reading(&self, took: Duration) -> Moment {
        let every = Publication::read_every(took);
        let every = u64::try_from(every.as_millis()).unwrap_or(1000);
        self.now() + Duration::from_millis(every - wall() % every)
    }

    fn wait_until(&self, on: bool, read_at: Moment, writing: bool) -> Moment {
        let now = self.now();
        if !on {
            // With nothing observed, this only bounds the sleep.
            return self.off_until.filter(|_| !self.observed.is_empty()).unwrap_or(now + Duration::from_secs(3600));
        }
        let due = self.publication.next().filter(|_| !writing);
        let reloaded = self.setup.sources.iter().any(Source::has_master).then(|| now + RELOADED_EVERY);
        [due, reloaded].into_iter().flatten().fold(read_at, Moment::min)
    }

    /// Takes what Consul has.
    fn take(&mut self, feed: &Feed) {
        let now = self.now();
        if feed.denied {
            self.observations = Observations::default();
            self.show_denied(State::DeniedReading);
        } else if let Some(entries) = &feed.entries {
            let prefix = Keys(&self.setup.root).observes();
            let entries = entries.iter().map(|(key, index, value)| (key.as_str(), *index, value.as_slice()));
            self.observations.take(&prefix, entries, now);
            self.answering = false;
            if self.shown.borrow().state == State::DeniedReading {
                self.show(State::Idle);
            }
        }
    }

    /// Drops the observations that nobody renews, and passes the others to the sources.
    fn forget(&mut self, now: Moment) {
        let observed = self.observations.observed(now);
        let wanted = |all: &[Observed]| -> Vec<(BackendName, Vec<_>)> {
            let first = all.iter().take(Counters::MAX_BACKENDS);
            first.map(|observed| (observed.backend.clone(), observed.views.clone())).collect()
        };
        let (before, after) = (wanted(&self.observed), wanted(&observed));
        self.observed = observed;
        if before != after {
            for source in &mut self.setup.sources {
                source.observe(&after);
            }
            if after.is_empty() {
                self.publication.stop();
                self.clear = self.size > MAY_STAY;
            }
            // The borrow must end before `show` replaces the value.
            let state = self.shown.borrow().state;
            self.show(state);
        }
    }

    /// Reads all observed backends. `asked` says that an observation waits for its answer.
    async fn read(&mut self, asked: bool) {
        join_all(self.setup.sources.iter_mut().map(Source::read)).await;
        let now = self.now();
        for source in &mut self.setup.sources {
            if source.take_failed() {
                self.publication.failed(now);
            }
            if source.take_closed() {
                // Nodes close their blocks at the same moment, and do not write at the same moment.
                let jitter = retry::jittered(Publication::BLOCK_WITHIN / 2, 0.99);
                self.publication.closed(now, jitter);
            }
        }
        if asked {
            self.answering = true;
            self.publication.answer(now);
        }
    }

    /// The report as of now.
    fn counters(&self) -> Counters {
        let at = wall();
        let Identity { node, mode, incarnation, .. } = &self.setup.identity;
        let mut counters = Counters {
            node: node.clone(),
            mode: *mode,
            incarnation: incarnation.clone(),
            at,
            backends: Vec::new(),
            lacks: Vec::new(),
            left_out: Vec::new(),
            more: 0,
        };
        for (place, Observed { backend, more_views, .. }) in self.observed.iter().enumerate() {
            if place >= Counters::MAX_BACKENDS {
                counters.left_out.push(LeftOut(backend.clone(), WhyLeftOut::Backends));
                continue;
            }
            if *more_views {
                counters.left_out.push(LeftOut(backend.clone(), WhyLeftOut::Views));
            }
            let instances: Vec<_> = self.setup.sources.iter().filter_map(|source| source.report(backend, at)).collect();
            if instances.is_empty() {
                counters.lacks.push(backend.clone());
            } else {
                counters.backends.push(Counted { backend: backend.clone(), instances });
            }
        }
        counters
    }

    /// Starts to write the report, held by the session of the node.
    fn write(&mut self) -> Option<Writing> {
        self.session.clone_from(&self.setup.node.borrow().session);
        let Some(session) = self.session.clone() else {
            self.show(State::NoSession);
            self.publication.lost(self.now() + retry::jittered(RETRY, 0.5));
            return None;
        };
        let value = self.counters().to_value();
        let key = Keys(&self.setup.root).counter(&self.setup.identity.node);
        let client = Arc::clone(&self.setup.client);
        Some(Box::pin(async move {
            let size = value.len();
            client.acquire(&key, value, &session).await.map(|written| written.then_some(size))
        }))
    }

    /// Takes the answer to a write.
    fn written(&mut self, written: Result<Option<usize>, ConsulError>) {
        match written {
            Ok(Some(size)) => {
                self.setup.metrics.counters_written(self.setup.root.as_str());
                self.size = size;
                self.logged = None;
                self.observations.answered();
                self.answering = false;
                self.show(State::Reporting);
            }
            // An earlier run of this node holds it until its session ends.
            Ok(None) => self.failed("held", None),
            Err(error) => {
                // A token that was replaced on disk is read again. If that fails, the next request says so.
                if let Err(error) = self.setup.client.refresh(&error) {
                    debug!(error = %Chain(&error), "failed to read the token again");
                }
                self.failed(error.reason(), Some(&error));
            }
        }
    }

    fn failed(&mut self, reason: &'static str, error: Option<&ConsulError>) {
        let now = self.now();
        self.setup.metrics.counters_failed(self.setup.root.as_str(), reason);
        if matches!(error, Some(ConsulError::Denied(_))) {
            self.off_until = Some(now + RETRY_DENIED);
            self.show_denied(State::DeniedWriting);
            // What was counted meanwhile is not known: everything begins anew.
            for source in &mut self.setup.sources {
                source.observe(&[]);
            }
            self.publication.stop();
            self.observed = Vec::new();
            self.observations.unanswered();
            return;
        }
        if self.logged.replace(reason) != Some(reason) {
            let error = error.map(|error| Chain(error).to_string());
            debug!(reason, error, "the numbers of the observed backends are not written");
        }
        self.show(State::Failing);
        self.publication.lost(now + retry::jittered(RETRY, 0.5));
    }

    fn show_denied(&mut self, state: State) {
        if self.logged.replace(state.as_str()) != Some(state.as_str()) {
            warn!(
                hint = remedy(state, &self.setup.root, self.setup.identity.node.as_str()),
                "the token may not report on observed backends; only these numbers are missing"
            );
        }
        self.show(state);
    }

    fn show(&self, state: State) {
        let observed = self.observed.len();
        let state = match state {
            State::Reporting | State::Failing | State::NoSession if observed == 0 => State::Idle,
            other => other,
        };
        let before = self.shown.send_replace(Shown { state, observed });
        if before.observed == 0 && observed > 0 {
            info!(observed, root = %self.setup.root, "somebody observes; weightd reads these backends up to four times a second");
        } else if before.observed > 0 && observed == 0 {
            info!(root = %self.setup.root, "nobody observes any more");
        }
    }
}

/// The fix for a state; none where nothing is to be fixed here.
pub fn remedy(state: State, root: &Root, node: &str) -> Option<String> {
    match state {
        State::DeniedReading => Some(format!("give its token key_prefix \"{root}observe/\" {{ policy = \"read\" }}")),
        State::DeniedWriting => Some(format!("give its token {}", publisher::key_rule(root, "counters", node))),
        State::Idle | State::Reporting | State::Failing | State::NoSession => None,
    }
}
