use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use weightd_core::{
    fleet::{Per, Sides, View as Observed},
    model::{BackendName, Escaped, Timestamp},
    rollout::{Controller, Phase, Spec},
};

use super::{no_rollout, now, text, unreadable, view, view::RolloutView};
use crate::{
    base::config::{InvalidDuration, parse_duration, show_duration},
    documents::{
        Documents, DocumentsError,
        observe::Observer,
        rollouts::{KeyRead, RolloutRead, Standing},
    },
    weightctl::{
        Exit,
        context::Context,
        failure::Failure,
        observing,
        output::{self, Format},
    },
};

/// Between two readings.
const PACE: Duration = Duration::from_secs(1);
/// How long nobody may lead: another controller goes on within 25 s.
const NOBODY: Duration = Duration::from_secs(30);
/// The events below the screen.
const EVENTS: usize = 8;

const EXAMPLES: &str = "\
Examples:
  weightctl rollout watch app1                       live, until it ends
  weightctl rollout watch app1 --wait --timeout 2h   for pipelines
  weightctl rollout watch app1 -o json               one line for each change

Exit codes: 0 when it has ended. With --wait 0 done, 3 not finished in time or nobody leads, 5 somebody else
wrote the weights, 9 rolled back, 10 waits for a person.";

/// Show a rollout live, until it ends
///
/// While this runs, the leader writes what it sees every 10 s instead of once a minute.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// End with an exit code that says how it ended; also end when it waits for a person
    #[arg(long)]
    wait: bool,
    /// Time limit; without it there is none
    #[arg(long, value_name = "DURATION", value_parser = time_limit)]
    timeout: Option<Duration>,
}

/// A time limit of up to a month.
pub(super) fn time_limit(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text, &(Duration::from_secs(1)..=Duration::from_secs(31 * 24 * 60 * 60)))
}

/// When it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// With an exit code that says how it ended, and also when it waits for a person.
    pub(super) wait: bool,
    /// Whether it is shown as data: redrawn on a terminal. If not, its changes are messages.
    pub(super) live: bool,
    /// After this time.
    pub(super) timeout: Option<Duration>,
}

/// Watches a rollout. The JSON output is one [`RolloutView`] for each change, each on one line.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let ends = Ends { wait: args.wait, live: true, timeout: args.timeout };
    follow(&documents, &args.backend, context, ends).await
}

/// Follows a rollout until it ends.
pub(super) async fn follow(
    documents: &Documents,
    backend: &BackendName,
    context: &Context<'_>,
    ends: Ends,
) -> Result<Exit, Failure> {
    // A signal that would kill the program must not leave the observation behind.
    let stopped = |error| Failure::caused(Exit::Failure, error);
    let mut term = signal(SignalKind::terminate()).map_err(stopped)?;
    let mut hup = signal(SignalKind::hangup()).map_err(stopped)?;
    tokio::select! {
        biased;
        result = until(documents, backend, context, ends) => result,
        _ = term.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        _ = hup.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

/// A broken SLO needs a person only if the evidence against the new side does not follow within this time.
const SLO_ALONE: Duration = Duration::from_secs(60);

async fn until(
    documents: &Documents,
    backend: &BackendName,
    context: &Context<'_>,
    ends: Ends,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let mut watched = Watched::default();
    let mut nobody: Option<Instant> = None;
    let mut slo_since: Option<Instant> = None;
    let mut shown = Shown::default();
    let mut first = true;
    loop {
        let next = Instant::now() + PACE;
        let reading = async { tokio::try_join!(documents.rollout(backend), documents.controller()) };
        match reading.await.map_err(Failure::from) {
            Ok((read, controller)) => {
                if first && read.standing() == Standing::None {
                    return Err(no_rollout(documents, backend).await);
                }
                first = false;
                shown.answered();
                let now = now(documents);
                watched.keep(documents, backend, &read).await;
                show(backend, &read, &controller, now, context, ends, &mut shown)?;
                // The next blocks can show that the new side is the cause: then it is taken back, and nobody is needed.
                let slo = read.state.get().is_some_and(|state| {
                    !state.phase.is_final() && state.latched == Some(weightd_core::rollout::Latch::Slo)
                });
                slo_since = slo_since.filter(|_| slo).or(slo.then(Instant::now));
                let settled = slo_since.is_none_or(|since| since.elapsed() >= SLO_ALONE);
                if let Some(end) = ended(backend, &read, now, ends).filter(|_| settled) {
                    watched.end().await;
                    return end;
                }
                if controller.index != 0 {
                    nobody = None;
                }
                let since = *nobody.get_or_insert_with(Instant::now);
                if ends.wait && controller.index == 0 && since.elapsed() >= NOBODY {
                    watched.end().await;
                    return Err(Failure::new(
                        Exit::NotConverged,
                        "nobody leads: no controller goes on with the rollout",
                    )
                    .hint(format!("start a controller, or take it back: `weightctl rollout abort {backend}`")));
                }
            }
            // An election of Consul's leader takes seconds.
            Err(failure) if failure.exit == Exit::Unreachable && !first => {
                shown.unreachable(&failure, now(documents), redraws(context, ends))?;
            }
            Err(failure) => return Err(failure),
        }
        if let Some(limit) = ends.timeout.filter(|limit| started.elapsed() >= *limit) {
            watched.end().await;
            let what = format!("the rollout of `{backend}` has not ended within {}", show_duration(limit));
            return Err(Failure::new(Exit::NotConverged, what)
                .hint(format!("it goes on; `weightctl rollout status {backend}` shows it")));
        }
        sleep_until(next).await;
    }
}

/// The observation that tells the leader that somebody watches.
#[derive(Debug, Default)]
struct Watched {
    observer: Option<(String, Observer)>,
    /// Whether it cannot be written: it was said once.
    denied: bool,
}

impl Watched {
    /// Keeps the observation of the present rollout alive. Without the right, the view is renewed once a minute.
    async fn keep(&mut self, documents: &Documents, backend: &BackendName, read: &RolloutRead) {
        let Some(spec) = read.spec.get().filter(|_| matches!(read.standing(), Standing::Active(_))) else { return };
        if self.denied {
            return;
        }
        let same = self.observer.as_ref().is_some_and(|(id, _)| *id == spec.id);
        let kept = if same { self.renew().await } else { self.start(documents, backend, spec).await };
        if let Err(error) = kept {
            let denied = Failure::from(error);
            if denied.exit == Exit::Denied {
                self.denied = true;
                observing::note_denied(denied);
            }
        }
    }

    async fn start(&mut self, documents: &Documents, backend: &BackendName, spec: &Spec) -> Result<(), DocumentsError> {
        let sides = Sides { from: spec.from.clone(), to: spec.to.clone() };
        let view = Observed { sides: Some(sides), per: Per::Side };
        let observer = Observer::start(documents, backend, view, None).await?;
        if let Some((_, old)) = self.observer.replace((spec.id.clone(), observer)) {
            old.end().await;
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), DocumentsError> {
        match &mut self.observer {
            Some((_, observer)) => observer.renew().await,
            None => Ok(()),
        }
    }

    async fn end(self) {
        if let Some((_, observer)) = self.observer {
            observer.end().await;
        }
    }
}

/// What is on the terminal.
#[derive(Debug, Default)]
struct Shown {
    /// The last line that says where the rollout is.
    line: String,
    /// The last screen.
    screen: String,
    /// Since when Consul cannot be reached.
    unreachable: Option<Timestamp>,
}

impl Shown {
    /// Consul cannot be reached: said above the last screen, else once.
    fn unreachable(&mut self, failure: &Failure, now: Timestamp, redraws: bool) -> Result<(), Failure> {
        let first = self.unreachable.is_none();
        let since = *self.unreachable.get_or_insert(now);
        if !redraws {
            if first {
                output::failure(failure);
            }
            return Ok(());
        }
        let what = format!("Consul does not answer since {since}; what is below is older: {:#}", failure.error);
        let lines = text::wrap(&what, output::width());
        output::redraw_screen(&format!("{}\n\n{}", lines.join("\n"), self.screen))
    }

    /// Consul has answered.
    fn answered(&mut self) {
        self.unreachable = None;
    }
}

/// Whether the terminal is redrawn.
fn redraws(context: &Context<'_>, ends: Ends) -> bool {
    ends.live && context.format == Format::Table && output::is_screen()
}

/// Shows it: redrawn on a terminal, else one line for each change.
fn show(
    backend: &BackendName,
    read: &RolloutRead,
    controller: &KeyRead<Controller>,
    now: Timestamp,
    context: &Context<'_>,
    ends: Ends,
    before: &mut Shown,
) -> Result<(), Failure> {
    if redraws(context, ends) {
        let (width, height) = output::size();
        before.screen = screen(backend, read, controller, now, width, height);
        return output::redraw_screen(&before.screen);
    }
    let line = change(read, now);
    if before.line == line {
        return Ok(());
    }
    before.line.clone_from(&line);
    match context.format {
        Format::Json => context.format.json_line(&RolloutView::of(backend, read, controller, now)),
        Format::Table if ends.live => output::print(&format!("{now}  {backend}  {line}\n")),
        Format::Table => {
            output::message(&format!("{now}  {backend}  {line}"));
            Ok(())
        }
    }
}

/// The rollout, and as many of its newest events as fit below it.
fn screen(
    backend: &BackendName,
    read: &RolloutRead,
    controller: &KeyRead<Controller>,
    now: Timestamp,
    width: usize,
    height: usize,
) -> String {
    let mut screen = text::detail(backend, read, controller, now, width);
    let id = read.spec.get().map(|spec| spec.id.as_str()).or(read.state.get().map(|state| state.id.as_str()));
    let log = read.log.as_ref().and_then(KeyRead::get).map(|log| log.events.as_slice()).unwrap_or_default();
    let events: Vec<_> = log.iter().filter(|event| Some(event.rollout.as_str()) == id).collect();
    // The cursor has the last row, and a blank line is above the events.
    let room = height.saturating_sub(screen.lines().count() + 2);
    let events = text::newest(&events[events.len().saturating_sub(EVENTS)..], width, room);
    if !events.is_empty() {
        screen = format!("{screen}\n{events}");
    }
    screen
}

/// What counts as a change: where it is and what holds it, without what grows all the time.
fn change(read: &RolloutRead, now: Timestamp) -> String {
    let held = view::fresh(read, now).map(|shown| shown.holding.iter().map(|held| held.word.as_str()));
    let held = held.map(|held| held.collect::<Vec<_>>().join(", ")).unwrap_or_default();
    // Without the leader's numbers.
    let line = text::sentence(&RolloutRead { evidence: KeyRead::default(), ..read.clone() }, now);
    if held.is_empty() { line } else { format!("{line}; holding: {held}") }
}

/// How it ended; none while it goes on.
fn ended(backend: &BackendName, read: &RolloutRead, now: Timestamp, ends: Ends) -> Option<Result<Exit, Failure>> {
    let failed = |exit, what: String| ends.wait.then(|| Err(Failure::new(exit, what))).or(Some(Ok(Exit::Ok)));
    match read.standing() {
        Standing::None => failed(Exit::RolledBack, format!("the rollout of `{backend}` was withdrawn before it began")),
        Standing::Unreadable(key, bad) => Some(Err(unreadable(backend, key, bad))),
        Standing::Ended(state) => {
            let why = state.why.as_ref().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
            match state.phase {
                Phase::RolledBack => {
                    failed(Exit::RolledBack, format!("the rollout of `{backend}` was rolled back{why}"))
                }
                Phase::TakenOver => failed(Exit::Conflict, format!("the rollout of `{backend}` was taken over{why}")),
                _ => Some(Ok(Exit::Ok)),
            }
        }
        Standing::Active(_) if ends.wait => needs_person(read, now).map(|what| {
            Err(Failure::new(Exit::NeedsPerson, format!("the rollout of `{backend}` waits for a person: {what}"))
                .hint(format!("`weightctl rollout explain {backend}` shows why")))
        }),
        Standing::Pending(_) | Standing::Active(_) => None,
    }
}

/// What a person must do; none if it goes on without one.
fn needs_person(read: &RolloutRead, now: Timestamp) -> Option<String> {
    let state = read.state.get()?;
    if let Some(latch) = state.latched {
        return Some(text::waits_for(latch));
    }
    if let Some(paused) = &state.paused {
        return Some(format!("paused by {}", Escaped(&paused.by)));
    }
    let shown = view::fresh(read, now)?;
    // Only where nothing else holds: the approval may come before the bake is full.
    let only = shown.good >= shown.needed && shown.holding.iter().all(|held| held.word == "approval");
    shown.holding.first().filter(|_| only).map(|held| Escaped(&held.text).to_string())
}

#[cfg(test)]
mod tests;
