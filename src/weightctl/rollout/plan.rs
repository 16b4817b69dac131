use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;
use weightd_core::{
    desired::Pattern,
    model::{BackendName, Escaped, nearest},
    rollout::{
        Plan,
        plan::{Preset, Problem, Protocol, Sight, Traffic, sight},
        start,
    },
};

use super::{gather, text::steps};
use crate::{
    documents::{
        Documents,
        rollouts::{PlanError, parse_plan},
    },
    weightctl::{
        Exit,
        context::Context,
        failure::Failure,
        output,
        refusals::no_such,
        table::{Align, Table, Tone},
    },
};

const EXAMPLES: &str = "\
Examples:
  weightctl rollout plan app1                     what each plan would see at the present traffic
  weightctl rollout plan app1 --plan careful      one of them
  weightctl rollout plan app1 --rate 200          at 200 requests a second, without measuring";

/// Show the plans, and what each step would see at the present traffic
///
/// For each step: the requests of the new side in one bake, how long it takes to find errors of 1 % and five times the errors
/// of the old side, and to exclude "four times worse" while both sides are equal. These are estimates. `-` means never.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PlanArgs {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// Only this plan: the name of a preset or of a plan in Consul, or a file
    #[arg(long, value_name = "NAME|FILE")]
    plan: Option<String>,
    /// Requests a second, instead of measuring for 10 to 15 s
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// With --rate: percent of the requests that fail on the old side
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "rate", default_value = "0")]
    errors: f64,
}

const A_PLAN: &str = "\
Examples:
  weightctl rollout lint plan.toml                check it
  weightctl rollout plan app1 --plan plan.toml    what it would see

A complete plan; everything but the steps can be left out:
  mode = \"auto\"
  [[step]]
  share = 10                # percent of the requests
  bake = \"30m\"              # how long it is judged there
  [[step]]
  share = 50
  bake = \"1h\"
  approve = true            # wait for a person before this step
  must_exclude = 4          # go on when \"4 times worse\" is excluded
  [check.errors]
  ratio = 1.5               # worse: more than this times the old side
  floor = 0.0002            # a lower error rate is good
  slo = 0.001               # the highest error rate of all
  [window]
  allow = [\"Mon-Thu 09:00-16:00\"]
  timezone = \"Europe/Paris\"
  [on]
  regression = \"rollback\"   # or \"hold\": stop and wait for a person

Exit codes: 1 the file cannot be read, 7 the plan is invalid.";

/// Check the file of a plan
///
/// Says what is wrong, with the line, and exits with 7; else shows the plan as a controller reads it. Needs no Consul.
#[derive(Debug, clap::Args)]
#[command(after_long_help = A_PLAN)]
pub(super) struct LintArgs {
    /// The file, TOML
    file: PathBuf,
}

fn number(text: &str, most: f64) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite() && (0.0..=most).contains(number))
}

fn rate(text: &str) -> Result<f64, &'static str> {
    number(text, 1e9).ok_or("write a number, such as 200 or 0.5")
}

fn percent(text: &str) -> Result<f64, &'static str> {
    number(text, 100.0).ok_or("write a percentage from 0 to 100, such as 0.5")
}

/// A plan that a person chose.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Its name or file.
    pub(super) name: String,
    plan: Plan,
    preset: Option<Preset>,
}

impl Choice {
    /// The plan: a preset follows the protocol of the backend.
    pub(super) fn plan(&self, protocol: Protocol) -> Plan {
        self.preset.map_or_else(|| self.plan.clone(), |preset| preset.plan(protocol))
    }

    /// The mode that the plan names.
    pub(super) fn mode(&self) -> Option<weightd_core::rollout::Mode> {
        self.plan.mode
    }

    /// Whether steps without enough requests are left out.
    pub(super) const fn fits(&self) -> bool {
        self.preset.is_some()
    }

    fn of_preset(preset: Preset) -> Self {
        Self { name: preset.as_str().to_owned(), plan: preset.plan(Protocol::Http), preset: Some(preset) }
    }
}

/// Reads the plan that a person named.
pub(super) async fn choose(documents: &Documents, text: &str) -> Result<Choice, Failure> {
    if let Some(preset) = Preset::ALL.into_iter().find(|preset| preset.as_str() == text) {
        return Ok(Choice::of_preset(preset));
    }
    let is_file = text.contains(['/', '.']) || Path::new(text).exists();
    let plan = if is_file { read_file(Path::new(text))? } else { read_key(documents, text).await? };
    Ok(Choice { name: text.to_owned(), plan, preset: None })
}

fn read_file(path: &Path) -> Result<Plan, Failure> {
    let name = Escaped(&path.display().to_string()).to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match Preset::ALL.into_iter().find(|preset| preset.as_str() == name) {
            Some(preset) => {
                let preset = preset.as_str();
                format!("`{preset}` is a preset: `weightctl rollout plan BACKEND --plan {preset}` shows it")
            }
            None => "give the path of a TOML file; `weightctl rollout lint --help` shows a complete plan".to_owned(),
        };
        Failure::caused(Exit::Failure, error).context(format!("cannot read the plan {name}")).hint(hint)
    })?;
    parse_plan(&text).map_err(|problem| invalid(&name, &problem))
}

async fn read_key(documents: &Documents, name: &str) -> Result<Plan, Failure> {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if name.is_empty() || !is_word {
        return Err(Failure::new(Exit::Refused, format!("`{}` is no name of a plan", Escaped(name)))
            .hint("use the name of a preset, of a plan in Consul, or a file"));
    }
    match documents.plan(name).await {
        Ok(plan) => Ok(plan),
        Err(PlanError::Read(error)) => Err(error.into()),
        Err(PlanError::Invalid(problem)) => Err(invalid(&format!("plans/{name}"), &problem)),
        Err(missing @ PlanError::Missing(_)) => {
            let stored = documents.plan_names().await.unwrap_or_default();
            let mut names: Vec<&str> = stored.iter().map(String::as_str).collect();
            names.extend(Preset::ALL.map(Preset::as_str));
            let hint = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the plans are {}", names.join(", ")),
            };
            Err(Failure::caused(Exit::Refused, missing).hint(hint))
        }
    }
}

fn invalid(name: &str, problem: &Problem) -> Failure {
    let line = problem.line.map(|line| format!(", line {line}")).unwrap_or_default();
    Failure::new(Exit::Refused, format!("the plan {name}{line}: {}{}", problem.place, problem.what))
        .hint(problem.remedy.clone())
}

/// Checks a file. The JSON output is the plan, complete.
pub(super) fn lint(args: &LintArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let plan = read_file(&args.file)?;
    context.format.data(&plan, |plan| {
        let checks: Vec<_> = plan.check_names().collect();
        format!("valid\n  steps   {}\n  checks  {}\n", steps(plan), checks.join(", "))
    })?;
    Ok(Exit::Ok)
}

/// What a plan would see. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "requests_per_second": 150.0,
///   "error_rate": 0.0,            of the old side, a part of 1
///   "plans": [{
///     "name": "quick",
///     "above_slo": false,         whether the old side is above the SLO of the plan already
///     "steps": [{
///       "share": 10.0, "bake_seconds": 300,
///       "requests": 4500.0,       of the new side in one bake
///       "one_percent_seconds": 40.0, "five_times_seconds": null, "excluded_seconds": 90.0,   null: never
///       "left_out": false         whether it cannot reach 300 requests within two bakes
///     }…]
///   }…]
/// }
/// ```
#[derive(Debug, Serialize)]
struct PlansView<'a> {
    backend: &'a BackendName,
    requests_per_second: f64,
    error_rate: f64,
    plans: Vec<SightView>,
}

#[derive(Debug, Serialize)]
struct SightView {
    name: String,
    above_slo: bool,
    steps: Vec<StepView>,
}

#[derive(Debug, Serialize)]
struct StepView {
    share: f64,
    bake_seconds: u64,
    requests: f64,
    one_percent_seconds: Option<f64>,
    five_times_seconds: Option<f64>,
    excluded_seconds: Option<f64>,
    left_out: bool,
}

impl SightView {
    fn of(name: &str, sight: &Sight) -> Self {
        let steps = sight.steps.iter().map(|step| StepView {
            share: step.step.share.percent(),
            bake_seconds: step.step.bake.seconds(),
            requests: step.requests,
            one_percent_seconds: step.one_percent,
            five_times_seconds: step.five_times,
            excluded_seconds: step.excluded,
            left_out: !step.reachable,
        });
        Self { name: name.to_owned(), above_slo: sight.above_slo, steps: steps.collect() }
    }
}

/// Shows the plans. The JSON output is a [`PlansView`].
pub(super) async fn plan(args: &PlanArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let choices = if let Some(name) = &args.plan {
        vec![choose(&documents, name).await?]
    } else {
        let presets = Preset::ALL.into_iter().map(Choice::of_preset);
        presets.chain(stored(&documents).await).collect()
    };
    let (traffic, protocol) = match args.rate {
        Some(per_second) => (Traffic { per_second, error_rate: args.errors / 100.0 }, Protocol::Http),
        None => measured(&documents, &args.backend).await?,
    };
    let plans = choices.iter().map(|choice| SightView::of(&choice.name, &sight(&choice.plan(protocol), traffic)));
    let view = PlansView {
        backend: &args.backend,
        requests_per_second: traffic.per_second,
        error_rate: traffic.error_rate,
        plans: plans.collect(),
    };
    context.format.data(&view, table)?;
    Ok(Exit::Ok)
}

/// The plans in Consul; without the right to read them, or where one is invalid, it says so.
async fn stored(documents: &Documents) -> Vec<Choice> {
    let names = documents.plan_names().await.unwrap_or_default();
    let mut choices = Vec::new();
    for name in names {
        match documents.plan(&name).await {
            Ok(plan) => choices.push(Choice { name, plan, preset: None }),
            Err(error) => output::note(&format!("the plan {} is left out: {error}", Escaped(&name))),
        }
    }
    choices
}

/// The present traffic: the errors are those of the servers above 0.
async fn measured(documents: &Documents, backend: &BackendName) -> Result<(Traffic, Protocol), Failure> {
    let published = documents.published(backend).await?;
    let index = published.as_ref().map_or(0, weightd_core::desired::Published::index);
    let gathered = gather::gather(documents, backend, index, true).await;
    let serves: Vec<Pattern> = gathered
        .nodes
        .values()
        .flat_map(|counted| &counted.instances)
        .flat_map(|instance| &instance.servers)
        .filter(|server| !server.weight.is_zero())
        .map(|server| Pattern::from(&server.name))
        .collect();
    let Some(sample) = &gathered.sample else {
        if published.is_none() {
            return Err(no_such(documents, backend, "`weightctl list` shows the backends").await);
        }
        return Err(Failure::new(Exit::NotConverged, format!("there are no numbers of {backend}"))
            .hint("`weightctl status` shows the nodes; add --rate 100 to assume 100 requests a second"));
    };
    let baseline = sample.baseline(|server| serves.iter().any(|pattern| pattern.matches(server)));
    Ok((baseline.traffic(), start::protocol(&gathered.nodes)))
}

fn table(view: &PlansView<'_>) -> String {
    let mut text = format!(
        "{}: {:.1} requests a second, {:.3} % errors\n",
        view.backend,
        view.requests_per_second,
        100.0 * view.error_rate
    );
    for plan in &view.plans {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{}", Tone::Strong.paint(&plan.name));
        let mut table = Table::new([
            ("SHARE", Align::Right),
            ("BAKE", Align::Right),
            ("REQUESTS", Align::Right),
            ("FINDS 1 %", Align::Right),
            ("5 TIMES", Align::Right),
            ("EXCLUDES 4x", Align::Right),
            ("", Align::Left),
        ]);
        for step in &plan.steps {
            let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), span);
            table.row([
                format!("{} %", step.share).into(),
                weightd_core::rollout::plan::Span::from_seconds(step.bake_seconds).to_string().into(),
                format!("{:.0}", step.requests).into(),
                seconds(step.one_percent_seconds).into(),
                seconds(step.five_times_seconds).into(),
                seconds(step.excluded_seconds).into(),
                if step.left_out { "left out" } else { "" }.into(),
            ]);
        }
        text += &table.render("  ");
        if plan.above_slo {
            text += "  the old side itself is above the SLO: every rollout would hold\n";
        }
    }
    text + "\nSteps that cannot reach 300 requests within two bakes are left out of presets.\n"
}

/// Seconds for people: `40s`, `12m`, `3h`.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7200.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests;
