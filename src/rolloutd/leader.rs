//! A term of the leader: looks at what Consul has, calls [`tick`] for each rollout, and does what it asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use weightd_core::{
    model::{BackendName, Root, Timestamp},
    rollout::{Evidence, Now, Observations, Phase, Shown, State, known, log::Log, tick},
};

use super::{
    leadership::Term,
    observing::Observing,
    sources::{self, Sources},
    telling::{self, Teller},
    tracked::{All, Tracked, request},
    window,
    world::World,
};
use crate::{
    base::{
        chain::Chain,
        clock::{self, Clock},
    },
    consul::Client,
    documents::{Documents, DocumentsError, lead::Led},
};

/// The longest pause between two ticks.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// The shortest one: what changes together is looked at once.
const TICK_AFTER: Duration = Duration::from_millis(20);
/// The pause after a read that failed.
const AFTER_LOSS: Duration = Duration::from_secs(1);
/// How long a leader tries to read evidence and logs if its token may not read them.
const NOTES_WITHIN: Duration = Duration::from_secs(10);
/// Minimum interval between two reports of the same problem.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// How long preflight waits for sessions that are left on `to`. HAProxy does not show its `timeout server`; this is longer than
/// most of them.
const SESSION_SECONDS: u64 = 60;
/// Three rollbacks in this time stop every advance.
const BREAKER_SECONDS: u64 = 600;
const BREAKER_ROLLBACKS: usize = 3;

/// What every term of this process has.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) client: Arc<Client>,
    pub(super) root: Root,
    pub(super) name: String,
    pub(super) max_active: usize,
    pub(super) clock: Clock,
    pub(super) tasks: TaskTracker,
    pub(super) teller: Teller,
    pub(super) sources: Arc<Sources>,
    /// What the leader sees, for the API.
    pub(super) seen: Arc<watch::Sender<Option<Seen>>>,
}

/// What the leader saw at its last tick.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Each rollout.
    pub(super) rollouts: BTreeMap<BackendName, (State, Shown)>,
    /// The rollouts that cannot be read, and why.
    pub(super) unreadable: BTreeMap<BackendName, String>,
    /// Why Consul cannot be followed; none if it can.
    pub(super) failed: Option<String>,
    /// How long the last tick of all rollouts took.
    pub(super) took: Duration,
}

/// The answer to a transaction.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) backend: BackendName,
    /// 0 for the first state.
    pub(super) attempt: u64,
    pub(super) done: Result<Led, DocumentsError>,
}

/// One term.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) shared: Shared,
    pub(super) documents: Documents,
    terms: watch::Receiver<Option<Term>>,
    pub(super) stop: CancellationToken,
    pub(super) world: World,
    pub(super) all: All,
    /// The evidence as it was at the start of the term.
    evidence: BTreeMap<BackendName, Evidence>,
    pub(super) outcomes: (mpsc::UnboundedSender<Outcome>, mpsc::UnboundedReceiver<Outcome>),
    /// When the term began.
    since: Timestamp,
    /// Whether a write of evidence and logs is under way.
    pub(super) noting: Arc<tokio::sync::Semaphore>,
    /// What it could not read.
    reported: Reported,
}

/// The problems that were reported, and when.
#[derive(Debug, Default)]
struct Reported(BTreeMap<String, Instant>);

impl Reported {
    /// Logs a problem, once in [`REPORT_EVERY`].
    fn warn(&mut self, problem: String, message: &'static str) {
        self.0.retain(|_, at| at.elapsed() < REPORT_EVERY);
        self.0.entry(problem).or_insert_with_key(|problem| {
            warn!(error = problem, "{message}");
            Instant::now()
        });
    }
}

impl Leader {
    /// A term begins: everything is read anew. It ends with `stop`, or when `terms` says so.
    pub(super) fn new(shared: Shared, terms: watch::Receiver<Option<Term>>, stop: CancellationToken) -> Self {
        let world = World::start(&shared.client, &shared.root, shared.clock, &stop, &shared.tasks);
        let documents = Documents::sharing(Arc::clone(&shared.client), &shared.root).with_tasks(&shared.tasks);
        Self {
            documents,
            terms,
            stop,
            world,
            all: All::new(),
            evidence: BTreeMap::new(),
            outcomes: mpsc::unbounded_channel(),
            noting: Arc::new(tokio::sync::Semaphore::new(1)),
            reported: Reported::default(),
            since: clock::timestamp(),
            shared,
        }
    }

    /// Leads until the term ends.
    pub(super) async fn run(mut self) {
        let logs = self.load().await;
        let mut next = Instant::now();
        while let Some(term) = self.term() {
            self.pass(&term, &logs);
            let earliest = Instant::now() + TICK_AFTER;
            let late = next.max(earliest);
            let (changes, outcomes) = (self.world.changed(), self.outcomes.1.recv());
            let mut terms = self.terms.clone();
            terms.mark_unchanged();
            let outcome = tokio::select! {
                () = changes => None,
                outcome = outcomes => outcome,
                () = sleep_until(late) => None,
                _ = terms.changed() => None,
            };
            match outcome {
                Some(outcome) => self.settle(outcome),
                None => sleep_until(earliest).await,
            }
            next = Instant::now() + TICK_EVERY;
        }
        self.shared.seen.send_replace(None);
        self.shared.sources.set(sources::Rollouts::new());
        self.stop.cancel();
    }

    /// The present term, if this process may act.
    fn term(&self) -> Option<Term> {
        let term = self.terms.borrow().clone();
        term.filter(|term| term.may_act() && !self.stop.is_cancelled())
    }

    /// Reads evidence and logs as the last leader left them. Without the right to read them it begins with none: a rollout
    /// that nobody judges is worse.
    async fn load(&mut self) -> BTreeMap<BackendName, Log> {
        let began = Instant::now();
        loop {
            let (evidence, logs) = self.documents.notes().await;
            let errors: Vec<_> = [evidence.as_ref().err(), logs.as_ref().err()].into_iter().flatten().collect();
            for error in &errors {
                let what = format!("{}; {}", Chain(*error), telling::rule(error));
                self.reported.warn(what, "the leader cannot read evidence and logs");
            }
            let without = errors.iter().all(|error| error.is_denied()) && began.elapsed() >= NOTES_WITHIN;
            if errors.is_empty() || without {
                if without && !errors.is_empty() {
                    warn!("the leader begins without what it may not read");
                }
                self.evidence = evidence.unwrap_or_default();
                return logs.unwrap_or_default();
            }
            if self.term().is_none() {
                return BTreeMap::new();
            }
            sleep(AFTER_LOSS).await;
        }
    }

    /// One look at everything, and one tick of each rollout.
    fn pass(&mut self, term: &Term, logs: &BTreeMap<BackendName, Log>) {
        let began = Instant::now();
        let reported = self.world.take(began);
        let failed = self.world.failed();
        if let Some(why) = &failed {
            self.reported.warn(why.clone(), "the leader cannot read all keys");
        }
        if !self.world.is_complete() {
            self.shared.seen.send_modify(|seen| seen.get_or_insert_default().failed = failed);
            return;
        }
        let now = Now { moment: self.shared.clock.now(), wall: clock::timestamp() };
        self.look(term, now, logs);
        let active = self.active();
        let breaker = self.breaker(now);
        let (missing, clock_off) = (self.world.missing(began), self.world.clock_off());
        self.want_checks();
        let mut answers = self.shared.sources.latest();
        let names: Vec<BackendName> = self.all.keys().cloned().collect();
        for backend in names {
            self.observe(&backend, now);
            let asked = request(&self.world.requests.now(), &backend);
            let Some(tracked) = self.all.get_mut(&backend).filter(|tracked| !tracked.is_at_rest(asked.as_ref())) else {
                continue;
            };
            let Some(rollout) = tracked.rollout.take() else { continue };
            let mut seen = Observations {
                leader: true,
                active: active.contains(&backend),
                breaker,
                frozen: self.world.frozen(&backend),
                watched: self.world.is_watched(&backend, &self.shared.name),
                spec: tracked.spec_seen(&rollout.state),
                document: known::document(&rollout.spec, self.world.document(&backend)),
                request: asked,
                approval: request(&self.world.approvals.now(), &backend),
                window_closed: rollout.spec.plan.window.as_ref().is_some_and(|window| !window::is_open(window)),
                timeout_server: Some(SESSION_SECONDS),
                sources: answers.remove(&backend).unwrap_or_default(),
                ..Observations::default()
            };
            let ready = tracked.not_before.is_none_or(|at| at <= began);
            if ready {
                seen.answer = tracked.answer.take();
            }
            if let Some(observing) = &mut tracked.observing {
                for name in &reported {
                    if let Some(Ok(report)) = self.world.reports.get(name).map(|read| &read.report) {
                        let taken = observing.intake.take(report);
                        seen.blocks.extend(taken.blocks);
                        seen.slots.extend(taken.slots);
                    }
                }
                let known = known::Known {
                    fleet: &self.world.fleet,
                    counters: &self.world.reports,
                    missing: &missing,
                    clock_off: &clock_off,
                    backend: &backend,
                    view: observing.view(),
                    observed: observing.index(),
                    document: rollout.document(),
                };
                let nodes = known.backend();
                if rollout.state.phase == Phase::Preflight {
                    let heard = nodes.nodes.values().filter(|node| node.heard).count();
                    let of = (seen.document.index, heard);
                    let why = || known.not_split(&nodes, &rollout.spec, self.world.document(&backend));
                    seen.not_split = tracked.shares.not_split(of, began, why);
                }
                seen.nodes = nodes.nodes;
                seen.share_is_free = nodes.share_is_free;
                (seen.is_tcp, seen.stays) = (nodes.is_tcp, nodes.stays);
                seen.from_too_small = nodes.from_too_small;
            }
            let (rollout, actions) = tick(rollout, &seen, now);
            tracked.rollout = Some(rollout);
            for action in actions {
                self.act(term, &backend, action, now);
            }
        }
        self.note(term);
        self.publish(began);
    }

    /// Compares every rollout with Consul.
    fn look(&mut self, term: &Term, now: Now, logs: &BTreeMap<BackendName, Log>) {
        let (specs, states) = (self.world.specs.now(), self.world.states.now());
        let requests = self.world.requests.now();
        let tails: BTreeSet<&String> = specs.iter().chain(states.iter()).map(|(tail, _)| tail).collect();
        let names: BTreeSet<BackendName> = tails.into_iter().filter_map(|tail| BackendName::new(tail).ok()).collect();
        self.all.retain(|backend, tracked| names.contains(backend) || tracked.under_way.is_some());
        for backend in names {
            let tracked = self.all.entry(backend.clone()).or_insert_with(|| Tracked::new(logs.get(&backend).cloned()));
            let published = self.world.document(&backend);
            let document = |spec: &_| known::document(spec, published);
            let (evidence, asked) = (self.evidence.get(&backend), request(&requests, &backend));
            let first_or_last = tracked.look(&backend, (&specs, &states), document, evidence, asked.as_ref(), now);
            if let Some((state, event)) = tracked.closed.take() {
                let entry = self.shared.teller.notify(&backend, &state.id, state.share, &event, now.wall);
                tracked.log(entry);
            }
            if let Some(state) = first_or_last
                && tracked.not_before.is_none_or(|at| at <= Instant::now())
            {
                tracked.under_way = Some(0);
                let lead = self.lead(term, &backend);
                self.begin(lead, state);
            }
        }
    }

    /// Starts or ends the observation of a backend. A rollout after another one can have other sides.
    fn observe(&mut self, backend: &BackendName, now: Now) {
        let Some(tracked) = self.all.get_mut(backend) else { return };
        let Some(rollout) = tracked.rollout.as_ref().filter(|_| tracked.is_observed(now.wall)) else {
            tracked.observing = None;
            return;
        };
        if tracked.observing.as_ref().is_none_or(|observing| !observing.is_of(&rollout.spec)) {
            let Shared { name, tasks, .. } = &self.shared;
            let observing = Observing::start(&self.documents, backend, &rollout.spec, name, &self.stop, tasks);
            tracked.observing = Some(observing);
        }
    }

    /// Says which named checks are wanted: those of the rollouts under way.
    fn want_checks(&self) {
        let wanted = self.all.iter().filter_map(|(backend, tracked)| {
            let rollout = tracked.rollout.as_ref().filter(|rollout| rollout.state.phase.is_moving())?;
            let checks = rollout.spec.plan.named.iter().map(|(name, check)| sources::Wanted {
                name: name.clone(),
                uses: check.uses.clone(),
                labels: check.labels.clone(),
                since: self.since,
            });
            Some((backend.clone(), checks.collect()))
        });
        self.shared.sources.set(wanted.collect());
    }

    /// The rollouts that may be active: those that are, and then the oldest ones that wait.
    fn active(&self) -> BTreeSet<BackendName> {
        let running = self.all.iter().filter_map(|(backend, tracked)| {
            let state = &tracked.rollout.as_ref()?.state;
            (!state.phase.is_final()).then_some((state.phase == Phase::Queued, state.since, backend))
        });
        let mut running: Vec<_> = running.collect();
        running.sort();
        running.into_iter().take(self.shared.max_active).map(|(_, _, backend)| backend.clone()).collect()
    }

    /// Whether so many rollouts were taken back by verdicts in so short a time that something else may be wrong.
    fn breaker(&self, now: Now) -> bool {
        let since = Timestamp::from_seconds(now.wall.seconds().saturating_sub(BREAKER_SECONDS));
        let back: usize = self.all.values().map(|tracked| tracked.taken_back(since).len()).sum();
        back >= BREAKER_ROLLBACKS
    }

    /// Says what was seen, for the API.
    fn publish(&self, began: Instant) {
        let rollouts = self.all.iter().filter_map(|(backend, tracked)| {
            let rollout = tracked.rollout.as_ref()?;
            Some((backend.clone(), (rollout.state.clone(), rollout.shown().clone())))
        });
        let unreadable =
            self.all.iter().filter_map(|(backend, tracked)| Some((backend.clone(), tracked.unreadable.clone()?)));
        self.shared.seen.send_replace(Some(Seen {
            rollouts: rollouts.collect(),
            unreadable: unreadable.collect(),
            failed: self.world.failed(),
            took: began.elapsed(),
        }));
    }
}
