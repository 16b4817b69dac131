use serde::Serialize;
use weightd_core::{
    model::{BackendName, Escaped, Timestamp},
    rollout::{Mode, Phase, Shown, Spec, State, log::Entry, shown::PaidShown},
};

use super::{
    no_rollout, note_unreadable, now, text,
    text::row,
    view::{self, RolloutView},
};
use crate::{
    documents::{
        Documents,
        rollouts::{RolloutRead, Standing},
    },
    weightctl::{Exit, context::Context, failure::Failure, output},
};

/// Show the rollouts: all of them, or one
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Only this backend
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
}

/// Show why a rollout does what it does now
///
/// What was observed and what was allowed, which blocks of 10 s paid, what holds it, and what comes next.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
}

/// Show what happened in a rollout, oldest first
#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// Only the last N events
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = lines)]
    lines: usize,
}

fn lines(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "write a whole number, such as 20")
}

/// Shows the rollouts. The JSON output is a list of [`RolloutView`]; with a backend, one.
pub(super) async fn status(args: &StatusArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    if let Some(backend) = &args.backend {
        let (read, controller) = tokio::try_join!(documents.rollout(backend), documents.controller())?;
        if read.standing() == Standing::None && !exists(&documents, backend).await {
            return Err(no_rollout(&documents, backend).await);
        }
        let now = now(&documents);
        let view = RolloutView::of(backend, &read, &controller, now);
        context.format.data(&view, |_| text::detail(backend, &read, &controller, now, output::width()))?;
        return Ok(Exit::Ok);
    }
    let all = documents.rollouts().await?;
    let now = now(&documents);
    let views: Vec<_> =
        all.rollouts.iter().map(|(backend, read)| RolloutView::of(backend, read, &all.controller, now)).collect();
    context.format.data(&views, |_| {
        let open = |read: &RolloutRead| !matches!(read.standing(), Standing::Ended(_));
        // What is under way comes first.
        let (mut first, then): (Vec<_>, Vec<_>) = all.rollouts.iter().partition(|(_, read)| open(read));
        first.extend(then);
        let table = text::table(first.into_iter(), now, output::columns());
        format!("{table}leader: {}\n", text::leader(&all.controller))
    })?;
    if all.filtered {
        output::note("ACLs hide rollouts from this token");
    }
    Ok(Exit::Ok)
}

/// Whether the backend has a document; also true if that cannot be read.
async fn exists(documents: &Documents, backend: &BackendName) -> bool {
    !matches!(documents.published(backend).await, Ok(None))
}

/// Shows what happened. The JSON output is a list of `{"rollout", "at", "what", "detail", "by"}`.
pub(super) async fn log(args: &LogArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let read = documents.rollout(&args.backend).await?;
    let log = read.log.unwrap_or_default();
    if let Some(bad) = log.unreadable() {
        return Err(Failure::new(Exit::Failure, format!("the log of `{}` cannot be read: {bad}", args.backend)));
    }
    let Some(log) = log.get() else {
        if !exists(&documents, &args.backend).await {
            return Err(no_rollout(&documents, &args.backend).await);
        }
        output::message(&format!("{} has no log of rollouts", args.backend));
        context.format.json::<[Entry; 0]>(&[])?;
        return Ok(Exit::Ok);
    };
    let skip = log.events.len().saturating_sub(args.lines);
    let events: Vec<_> = log.events.iter().skip(skip).collect();
    context.format.data(&events, |_| text::log(&events, output::width()))?;
    Ok(Exit::Ok)
}

/// A rollout with what explains it. Its JSON:
///
/// ```json
/// {
///   "rollout": {…},                  as of `status BACKEND`
///   "next": "step 3, 95 %, …",       what comes next
///   "checks": [{"name": "errors", "evidence": 0.3, "to": [900, 1], "from": [900, 2],
///               "ratio": 1.5, "floor": 0.0002, "slo": 0.001}…],
///                                    requests and errors of both sides in this step; the limits of the plan
///   "paid": [{"at": "…", "check": "errors", "observed": 3.0, "allowed": 1.2}…]
///                                    blocks of 10 s with more errors than were allowed
/// }
/// ```
#[derive(Debug, Serialize)]
struct ExplainView<'a> {
    rollout: RolloutView<'a>,
    next: String,
    checks: Vec<CheckView<'a>>,
    paid: Vec<PaidView<'a>>,
}

#[derive(Debug, Serialize)]
struct CheckView<'a> {
    name: &'a str,
    evidence: f64,
    to: (u64, u64),
    from: (u64, u64),
    ratio: Option<f64>,
    floor: Option<f64>,
    slo: Option<f64>,
}

#[derive(Debug, Serialize)]
struct PaidView<'a> {
    at: Timestamp,
    check: &'a str,
    observed: f64,
    allowed: f64,
}

impl<'a> PaidView<'a> {
    fn of(paid: &'a PaidShown) -> Self {
        let at = Timestamp::from_seconds(paid.block.saturating_mul(weightd_core::judge::BLOCK_SECONDS));
        Self { at, check: &paid.check, observed: paid.observed, allowed: paid.allowed }
    }
}

fn checks<'a>(spec: Option<&'a Spec>, shown: &'a Shown) -> Vec<CheckView<'a>> {
    let limits = |name: &str| {
        let plan = &spec?.plan;
        if name == "errors" {
            return Some(plan.errors);
        }
        plan.counted.get(name).copied().or_else(|| plan.named.get(name).map(|named| named.limits))
    };
    let check = |(name, check): (&'a String, &weightd_core::rollout::shown::CheckShown)| {
        let limits = limits(name);
        CheckView {
            name,
            evidence: check.evidence,
            to: check.to,
            from: check.from,
            ratio: limits.map(|limits| limits.ratio),
            floor: limits.map(|limits| limits.floor),
            slo: limits.and_then(|limits| limits.slo),
        }
    };
    shown.checks.iter().map(check).collect()
}

/// What comes next.
fn next(read: &RolloutRead, shown: Option<&Shown>) -> String {
    let state = match read.standing() {
        Standing::None => return "there is no rollout".to_owned(),
        Standing::Unreadable(..) => return "nothing moves until the keys can be read".to_owned(),
        Standing::Pending(_) => return "a controller begins it: preflight".to_owned(),
        Standing::Ended(_) => return "nothing: it has ended".to_owned(),
        Standing::Active(state) => state,
    };
    match state.phase {
        Phase::RollingBack => return "it ends when every live node has the old shares, or after 60 s".to_owned(),
        Phase::Shift => return "the bake begins when every counting node has the document".to_owned(),
        _ => {}
    }
    if state.latched.is_some() || state.paused.is_some() {
        return "it waits for a person: resume or abort".to_owned();
    }
    let after = match shown {
        Some(shown) if !shown.holding.is_empty() => "when nothing holds it",
        Some(shown) if shown.good < shown.needed => "when the seconds are full",
        _ => "at once",
    };
    match (state.mode, state.phase, step_after(read.spec.get(), state)) {
        (Mode::Watch | Mode::Guard, Phase::Bake, _) => {
            "people move the weights; it judges until it is aborted".to_owned()
        }
        (Mode::Auto, _, Some((step, share))) => format!("step {step}, {share} %, {after}"),
        (Mode::Auto, Phase::Bake, None) => format!("done, {after}"),
        _ => format!("it begins to judge, {after}"),
    }
}

fn step_after(spec: Option<&Spec>, state: &State) -> Option<(u32, f64)> {
    let spec = spec.filter(|spec| spec.id == state.id)?;
    let step = spec.next_step(state.share)?;
    Some((step, spec.step(step)?.share.percent()))
}

/// Explains a rollout. The JSON output is an [`ExplainView`].
pub(super) async fn explain(args: &ExplainArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let backend = &args.backend;
    let (read, controller) = tokio::try_join!(documents.rollout(backend), documents.controller())?;
    note_unreadable(backend, &read);
    if read.standing() == Standing::None {
        return Err(no_rollout(&documents, backend).await);
    }
    let now = now(&documents);
    let shown = view::shown(&read);
    let view = ExplainView {
        rollout: RolloutView::of(backend, &read, &controller, now),
        next: next(&read, shown),
        checks: shown.map(|shown| checks(read.spec.get(), shown)).unwrap_or_default(),
        paid: shown.map(|shown| shown.paid.iter().map(PaidView::of).collect()).unwrap_or_default(),
    };
    context.format.data(&view, |view| {
        let width = output::width();
        let mut lines = text::detail(backend, &read, &controller, now, width);
        row(&mut lines, "next", &view.next, width);
        explained(&mut lines, view, width);
        lines
    })?;
    Ok(Exit::Ok)
}

fn explained(lines: &mut String, view: &ExplainView<'_>, width: usize) {
    let percent = |rate: f64| format!("{:.3} %", 100.0 * rate);
    for check in &view.checks {
        let rate = |(n, e): (u64, u64)| if n == 0 { "no request".to_owned() } else { percent(ratio(e, n)) };
        let ratio = check.ratio.map(|ratio| format!("{ratio} times the old side")).unwrap_or_default();
        let floor = check.floor.map(|floor| format!(" or {}", percent(floor))).unwrap_or_default();
        let slo = check.slo.map(|slo| format!("; SLO {}", percent(slo))).unwrap_or_default();
        let what =
            format!("{}: new {}, old {}; allowed {ratio}{floor}{slo}", check.name, rate(check.to), rate(check.from));
        row(lines, "observed", &what, width);
    }
    for (at, paid) in view.paid.iter().enumerate() {
        let what =
            format!("{} {}: {:.1} errors, {:.1} allowed", paid.at, Escaped(paid.check), paid.observed, paid.allowed);
        row(lines, if at == 0 { "paid" } else { "" }, &what, width);
    }
    if view.paid.is_empty() && !view.checks.is_empty() {
        row(lines, "paid", "no block had more errors than were allowed", width);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a step, for people")]
fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all as f64
}
