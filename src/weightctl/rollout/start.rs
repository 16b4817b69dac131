use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};
use weightd_core::{
    desired::Pattern,
    history::Way,
    model::{BackendName, ServerName, Timestamp},
    reasons::list,
    rollout::{
        Controller, Mode, Plan, Spec,
        plan::OnRegression,
        start::{self, Caution, Known, Proposal, Refusal, Wish},
    },
};

use super::{
    gather::{self, Gathered},
    now,
    plan::{self, Choice},
    text, unreadable,
    watch::{self, Ends},
};
use crate::{
    documents::{
        Context as Documented, Documents,
        edit::{self, Edit},
        rollouts::{KeyRead, RolloutRead, Standing, Started, new_id},
    },
    weightctl::{
        Exit,
        change::{self, Flags, changed_by_another, confirm, with_context},
        context::Context,
        failure::Failure,
        output,
        preview::preview,
        refusals::{no_such, refused},
    },
};

/// How long a start waits for a leader to begin it.
const BEGINS: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  weightctl rollout start app1 --to green --mode watch           judge green, and only tell
  weightctl rollout start app1 --to green --mode guard           take it back where it is worse
  weightctl rollout start app1 --to 'green-*' --mode auto --plan careful
  weightctl rollout start app1 --to green --plan plan.toml --yes --wait

Exit codes: 2 without a mode; 7 refused: another rollout runs, the plan is invalid, a side cannot take
requests; with --wait 0 done, 3 not finished in time or nobody leads, 9 rolled back, 10 waits for a person.";

/// Start a rollout of a backend
///
/// Compares the servers of --to with those that serve now. Checks first whether it can begin, shows what it would do, and
/// asks. Presets for --plan are demo, quick, careful and day: `weightctl rollout plan BACKEND` shows what each would see.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// The new servers: names or patterns (* and ?), separated by commas
    #[arg(long, value_name = "SERVERS", required = true, value_delimiter = ',', value_parser = Pattern::new)]
    to: Vec<Pattern>,
    /// The old servers
    #[arg(
        long,
        value_name = "SERVERS",
        value_delimiter = ',',
        value_parser = Pattern::new,
        help = "The old servers, to compare with [default: the others that are above 0 now]"
    )]
    from: Vec<Pattern>,
    /// What it may do: watch, guard or auto
    #[arg(long, value_parser = mode, help = "What it may do: watch, guard or auto; there is no default")]
    mode: Option<Mode>,
    /// The steps and checks: a preset, a plan in Consul, or a file. Mode auto needs one
    #[arg(long, value_name = "NAME|FILE")]
    plan: Option<String>,
    /// Write the split of the two sides first, where the document is another one
    #[arg(long)]
    convert: bool,
    /// Where the old side is above the SLO, set the SLO to twice its error rate
    #[arg(long)]
    slo_from_baseline: bool,
    #[command(flatten)]
    flags: Flags,
    /// Wait until it has ended
    #[arg(long)]
    wait: bool,
    /// Time limit of --wait; without it there is none
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = watch::time_limit)]
    timeout: Option<Duration>,
}

/// Reads a mode.
pub(super) fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "watch" => Ok(Mode::Watch),
        "guard" => Ok(Mode::Guard),
        "auto" => Ok(Mode::Auto),
        _ => Err("write watch, guard or auto".to_owned()),
    }
}

/// Neither --mode nor the plan says what the rollout may do.
fn no_mode() -> Failure {
    let mode = |mode: Mode| format!("\n  --mode {:<6} {}", mode.as_str(), text::meaning(mode));
    let modes: String = [Mode::Watch, Mode::Guard, Mode::Auto].into_iter().map(mode).collect();
    Failure::new(Exit::Usage, format!("say what the rollout may do; there is no default:{modes}"))
        .hint("begin with --mode watch")
}

/// The result of a start. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "rollout": "5f3a…",          its identifier; null with --dry-run
///   "dry_run": false,
///   "mode": "guard",
///   "to": ["green"], "from": ["blue"],
///   "unnamed": ["red"],          servers on neither side
///   "back": 0,                   the share of the new side in percent, to which it goes back
///   "plan": {…},                 complete
///   "regression": "rollback",    or hold: what a verdict by evidence does
///   "converts": false,           whether the split of the sides is written first
///   "cautions": [{"word": "queue", "text": "…"}…],
///   "controller": "ctl-1",       who leads; null if nobody does
///   "begun": true                whether a leader has begun it
/// }
/// ```
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    backend: &'a BackendName,
    rollout: Option<&'a str>,
    dry_run: bool,
    mode: Mode,
    to: &'a [Pattern],
    from: &'a [Pattern],
    unnamed: &'a [ServerName],
    back: weightd_core::desired::PatternShare,
    plan: &'a Plan,
    regression: OnRegression,
    converts: bool,
    cautions: Vec<CautionView>,
    controller: Option<&'a str>,
    begun: bool,
}

#[derive(Debug, Serialize)]
struct CautionView {
    word: &'static str,
    text: String,
}

impl<'a> Outcome<'a> {
    fn of(backend: &'a BackendName, proposal: &'a Proposal, controller: Option<&'a Controller>) -> Self {
        let caution = |caution: &Caution| CautionView { word: caution.word(), text: caution.to_string() };
        Self {
            backend,
            rollout: None,
            dry_run: true,
            mode: proposal.mode,
            to: &proposal.to,
            from: &proposal.from,
            unnamed: &proposal.unnamed,
            back: proposal.back,
            plan: &proposal.plan,
            regression: proposal.regression,
            converts: proposal.convert.is_some(),
            cautions: proposal.cautions.iter().map(caution).collect(),
            controller: controller.map(|controller| controller.name.as_str()),
            begun: false,
        }
    }
}

/// Starts a rollout. The JSON output is an [`Outcome`]; with --wait the lines of the wait follow.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    let documents = context.documents()?;
    let backend = &args.backend;
    let choice = match &args.plan {
        Some(name) => Some(plan::choose(&documents, name).await?),
        None => None,
    };
    let Some(mode) = args.mode.or_else(|| choice.as_ref().and_then(Choice::mode)) else { return Err(no_mode()) };
    if mode == Mode::Auto && choice.is_none() {
        let hint = format!("add --plan careful; `weightctl rollout plan {backend}` shows what each plan would see");
        return Err(Failure::new(Exit::Usage, "mode auto needs a plan").hint(hint));
    }
    let (seen, controller) = tokio::try_join!(documents.rollout(backend), documents.controller())?;
    refuse_second(backend, &seen, &controller)?;
    let known = documents.context(backend).await?;
    let document = known.stored.as_ref().map_or(0, |stored| stored.index);
    // In mode watch nothing is moved, and nothing depends on the traffic before.
    let measure = known.stored.is_some() && (mode != Mode::Watch || args.slo_from_baseline);
    let gathered = gather::gather(&documents, backend, document, measure).await;
    let wish = wish(args, mode, choice.as_ref(), &gathered);
    let proposal = propose(args, &documents, &wish, &gathered, &controller).await?;
    let by = args.flags.intent(Way::Rollout, context.env);
    output::message(about(backend, &proposal, choice.as_ref()).trim_end());
    for caution in &proposal.cautions {
        output::note(&caution.to_string());
    }
    let converted = convert(&documents, backend, &known, &proposal, &by).await?;
    let mut outcome = Outcome::of(backend, &proposal, controller.get());
    if controller.index == 0 {
        output::note("nobody leads: the rollout begins when a controller runs");
    }
    if args.flags.dry_run {
        output::message("dry run: nothing was written");
        context.format.json(&outcome)?;
        return Ok(Exit::Ok);
    }
    confirm(&documents, &args.flags).await?;
    let document = match &converted {
        Some(edit) => change::write(&documents, backend, edit, &known).await?,
        None => document,
    };
    let at = by.at.parse().unwrap_or_else(|_| now(&documents));
    let spec = proposal.spec(new_id(), by.by.clone(), at, by.reason.clone());
    write(&documents, backend, &spec, &seen, document).await?;
    let begun = controller.index != 0 && begins(&documents, backend, &spec).await?;
    (outcome.rollout, outcome.dry_run, outcome.begun) = (Some(spec.id.as_str()), false, begun);
    // The lines of the wait follow.
    let printed = if args.wait { context.format.json_line(&outcome) } else { context.format.json(&outcome) };
    printed?;
    say(backend, &spec, controller.get(), begun);
    if !args.wait {
        return Ok(Exit::Ok);
    }
    if controller.index == 0 {
        return Err(Failure::new(
            Exit::NotConverged,
            "the rollout is started, and nobody leads: no controller begins it",
        )
        .hint(format!("start a controller, or withdraw it: `weightctl rollout abort {backend}`")));
    }
    watch::follow(&documents, backend, context, Ends { wait: true, live: false, timeout: args.timeout }).await
}

/// A backend has one rollout at a time.
fn refuse_second(backend: &BackendName, seen: &RolloutRead, controller: &KeyRead<Controller>) -> Result<(), Failure> {
    let hint = |text: &str| format!("{text}; `weightctl rollout abort {backend}` ends it");
    match seen.standing() {
        Standing::None | Standing::Ended(_) => Ok(()),
        Standing::Unreadable(key, bad) => Err(unreadable(backend, key, bad)),
        Standing::Active(state) => {
            let by = seen.spec.get().map(|spec| format!(", started by {} at {}", spec.by, spec.at)).unwrap_or_default();
            let what = format!(
                "backend `{backend}` has a rollout already: {}, {} since {}{by}",
                state.mode.as_str(),
                text::phase(state.phase),
                state.since
            );
            Err(Failure::new(Exit::Refused, what).hint(hint(&format!("`weightctl rollout watch {backend}` shows it"))))
        }
        Standing::Pending(spec) => {
            let what = format!(
                "backend `{backend}` has a rollout already: started by {} at {}, and no controller has begun it",
                spec.by, spec.at
            );
            let leader = text::leader(controller);
            let who = if controller.index == 0 { leader } else { format!("leader: {leader}") };
            Err(Failure::new(Exit::Refused, what).hint(hint(&who)))
        }
    }
}

fn wish(args: &Args, mode: Mode, choice: Option<&Choice>, gathered: &Gathered) -> Wish {
    let protocol = start::protocol(&gathered.nodes);
    Wish {
        to: args.to.clone(),
        from: (!args.from.is_empty()).then(|| args.from.clone()),
        mode,
        plan: choice.map_or_else(|| Plan::without_steps(protocol), |choice| choice.plan(protocol)),
        fit: choice.is_some_and(Choice::fits),
        convert: args.convert,
        slo_from_baseline: args.slo_from_baseline,
    }
}

async fn propose(
    args: &Args,
    documents: &Documents,
    wish: &Wish,
    gathered: &Gathered,
    controller: &KeyRead<Controller>,
) -> Result<Proposal, Failure> {
    let backend = &args.backend;
    let published = documents.published(backend).await?;
    let on = |side: &[Pattern], server: &str| side.iter().any(|pattern| pattern.matches(server));
    let is_from = |server: &str| match &wish.from {
        Some(from) => on(from, server),
        None => !on(&wish.to, server),
    };
    let known = Known {
        document: published.as_ref(),
        nodes: &gathered.nodes,
        silent: &gathered.silent,
        controller: controller.get(),
        baseline: gathered.sample.as_ref().map(|sample| sample.baseline(is_from)),
    };
    let refusals = match start::propose(wish, &known) {
        Ok(proposal) => return Ok(proposal),
        Err(refusals) => refusals,
    };
    if refusals.contains(&Refusal::NoDocument) {
        let hint = "`weightctl list` shows the backends, `weightctl set --help` how to begin to manage one";
        return Err(no_such(documents, backend, hint).await.context("the rollout cannot begin"));
    }
    for refusal in refusals.iter().skip(1) {
        output::note(&format!("{refusal}; {}", refusal.remedy()));
    }
    Err(match refusals.first() {
        Some(first) => Failure::new(Exit::Refused, format!("the rollout cannot begin: {first}")).hint(first.remedy()),
        None => Failure::new(Exit::Refused, "the rollout cannot begin"),
    })
}

/// What the rollout would be.
fn about(backend: &BackendName, proposal: &Proposal, choice: Option<&Choice>) -> String {
    let width = output::width();
    let mut lines = format!("{backend}  a new rollout\n");
    let mut row = |label: &str, value: &str| text::row(&mut lines, label, value, width);
    let mode = proposal.mode;
    row("mode", &format!("{}: {}", mode.as_str(), text::meaning(mode)));
    row("new side", &text::side(&proposal.to));
    row("old side", &text::side(&proposal.from));
    if !proposal.unnamed.is_empty() {
        row("neither", &list(proposal.unnamed.iter().map(ServerName::as_str)));
    }
    row("share", &format!("the new side has {} % now, and goes back to that", proposal.back.percent()));
    if let Some(choice) = choice {
        row("plan", &format!("{}: {}", choice.name, text::steps(&proposal.plan)));
    }
    row("checks", &text::checks(&proposal.plan));
    row("verdict", text::regression(mode, proposal.regression));
    if let Some(window) = &proposal.plan.window {
        let ranges: Vec<_> = window.allow.iter().map(ToString::to_string).collect();
        row("window", &format!("{} ({})", ranges.join(", "), window.timezone));
    }
    lines
}

/// The edit that makes the document a split of the sides; none if it is one. Shows it.
async fn convert(
    documents: &Documents,
    backend: &BackendName,
    known: &Documented,
    proposal: &Proposal,
    by: &edit::Intent,
) -> Result<Option<Edit>, Failure> {
    let Some(split) = &proposal.convert else { return Ok(None) };
    let reason = Some("the split of the sides of a rollout".to_owned());
    let intent = with_context(edit::Intent { way: Way::Convert, reason, create: true, ..by.clone() }, known);
    match edit::split(backend, known.stored.as_ref(), split, &intent) {
        Ok(edit) => {
            output::message("first, the document becomes a split of the two sides:");
            output::message(preview(backend, &edit, output::message_columns()).trim_end());
            Ok(Some(edit))
        }
        Err(error) => Err(refused(documents, error).await),
    }
}

async fn write(
    documents: &Documents,
    backend: &BackendName,
    spec: &Spec,
    seen: &RolloutRead,
    document: u64,
) -> Result<(), Failure> {
    match documents.start_rollout(backend, spec, seen, document).await? {
        Started::Yes(_) => Ok(()),
        Started::Conflict => {
            let now = documents.rollout(backend).await?;
            if let Err(second) = refuse_second(backend, &now, &KeyRead::default()) {
                return Err(second.context("another person was faster; nothing was written"));
            }
            Err(changed_by_another(documents, backend, "nothing was written").await)
        }
        Started::Superseded => {
            let what = format!("Consul accepted the start, but another start of `{backend}` replaced it since");
            Err(Failure::new(Exit::Conflict, what).hint(format!("`weightctl rollout status {backend}` shows it")))
        }
        Started::Invalid(bad) => Err(Failure::new(
            Exit::Refused,
            format!("no controller could read the rollout: {bad}; nothing was written"),
        )
        .hint("use fewer patterns, or a shorter plan")),
    }
}

/// Waits until a leader has begun it.
async fn begins(documents: &Documents, backend: &BackendName, spec: &Spec) -> Result<bool, Failure> {
    let deadline = Instant::now() + BEGINS;
    loop {
        let read = documents.rollout_state(backend).await?;
        if read.get().is_some_and(|state| state.id == spec.id) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn say(backend: &BackendName, spec: &Spec, controller: Option<&Controller>, begun: bool) {
    let (id, mode) = (&spec.id, spec.mode.as_str());
    let leader = controller.map_or("a controller", |controller| controller.name.as_str());
    output::message(&if begun {
        format!("started: rollout {id} of {backend}, mode {mode}; {leader} has begun it")
    } else {
        format!("started: rollout {id} of {backend}, mode {mode}; no controller has begun it yet")
    });
    output::message(&format!(
        "`weightctl rollout watch {backend}` shows it, `weightctl rollout abort {backend}` ends it"
    ));
}

/// The time of a person's request.
pub(super) fn at(documents: &Documents) -> Timestamp {
    now(documents)
}
