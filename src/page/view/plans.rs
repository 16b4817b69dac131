//! What a plan means at today's traffic.

use weightd_core::{
    desired::Pattern,
    judge::{HARD, SLOT_SECONDS},
    rollout::plan::{Plan, StepSight, Traffic, sight},
};

use super::{
    facts::Facts,
    sides::{Side, Sides, shares},
    words::{about, length, number, percent},
};

/// A plan to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanView {
    /// Its name.
    pub name: String,
    /// Its steps in one line.
    pub steps: String,
    /// `careful: 3 h 30 min`.
    pub title: String,
    /// What each step sees.
    pub rows: Vec<StepRow>,
    /// What must be said of it; may be empty.
    pub note: String,
    /// Whether it is chosen.
    pub is_chosen: bool,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// Its share.
    pub share: String,
    /// How long it bakes.
    pub bake: String,
    /// Requests of the new side in a second.
    pub per_second: String,
    /// Requests of the new side in a bake.
    pub seen: String,
    /// When errors of 1 % are found.
    pub one_percent: String,
    /// When five times the errors are found.
    pub five_times: String,
    /// When a dead new side is out.
    pub dead: String,
    /// Whether it asks for an approval.
    pub asks: bool,
}

/// A plan at this traffic; without it only its steps.
pub fn plan_view(name: &str, plan: &Plan, traffic: Option<Traffic>, fits: bool, is_chosen: bool) -> PlanView {
    let steps: Vec<_> = plan.steps.iter().map(|step| number(step.share.percent())).collect();
    let bakes: Vec<_> = plan.steps.iter().map(|step| step.bake.seconds()).collect();
    let each = match bakes.as_slice() {
        [first, rest @ ..] if rest.iter().all(|bake| bake == first) => format!(", {} each", length(*first)),
        _ => String::new(),
    };
    let (fitted, left) = match traffic {
        Some(traffic) if fits => plan.fitted(traffic),
        _ => (plan.clone(), Vec::new()),
    };
    let total = length(fitted.total_bake().seconds());
    let mut notes = Vec::new();
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|step| percent(step.share.percent())).collect();
        notes.push(format!("Left out, because too few requests arrive there: {}.", names.join(", ")));
    }
    if fitted.steps.is_empty() && !plan.steps.is_empty() {
        notes.push("This application has too few requests for this plan.".to_owned());
    }
    let rows = match traffic {
        Some(traffic) => {
            let sight = sight(&fitted, traffic);
            if sight.above_slo {
                notes.push("The old side itself has more errors than the plan allows.".to_owned());
            }
            sight.steps.iter().map(|step| row(step, Some(traffic))).collect()
        }
        None => sight(&fitted, Traffic { per_second: 0.0, error_rate: 0.0 })
            .steps
            .iter()
            .map(|step| row(step, None))
            .collect(),
    };
    PlanView {
        name: name.to_owned(),
        steps: format!("{}\u{a0}%{each}", steps.join(", ")),
        title: format!("{name}: {total} of good data at least"),
        rows,
        note: notes.join(" "),
        is_chosen,
    }
}

fn row(step: &StepSight, traffic: Option<Traffic>) -> StepRow {
    let dash = || "–".to_owned();
    let found = |seconds: Option<f64>| match (traffic, seconds) {
        (None, _) => dash(),
        (_, None) => "not in this plan".to_owned(),
        (_, Some(seconds)) => format!("after {}", length(whole(seconds))),
    };
    let per_second = traffic.map(|traffic| traffic.per_second * step.step.share.percent() / 100.0);
    StepRow {
        share: percent(step.step.share.percent()),
        bake: length(step.step.bake.seconds()),
        per_second: per_second.map_or_else(dash, |per_second| {
            if per_second < 10.0 { format!("{per_second:.1}") } else { about(per_second) }
        }),
        seen: if traffic.is_some() { about(step.requests) } else { dash() },
        one_percent: found(step.one_percent),
        five_times: if traffic.is_some_and(|traffic| traffic.error_rate <= 0.0) {
            dash()
        } else {
            found(step.five_times)
        },
        dead: per_second.map_or_else(dash, dead),
        asks: step.step.approve,
    }
}

/// When a side of which all requests fail is out: the shortest window of HARD in which enough requests come, and the slot
/// in which that is reported. An estimate: chance and the other side count too.
fn dead(per_second: f64) -> String {
    let seconds = |window: &usize| *window as u64 * SLOT_SECONDS;
    let enough =
        |window: &&usize| per_second * super::words::float(seconds(window)) >= 2.0 * super::words::float(HARD.errors);
    let found = HARD.windows.iter().find(enough);
    found.map_or_else(
        || "too few requests".to_owned(),
        |window| format!("about {}", length(seconds(window) + SLOT_SECONDS)),
    )
}

fn whole(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and some days")]
    let whole = seconds.clamp(0.0, 1.0e9).ceil() as u64;
    whole
}

/// The sides to choose from: value, name, what it has, whether it has everything already.
pub fn sides_to_choose(facts: &Facts) -> Vec<(String, String, String, bool)> {
    let sides = Sides::of(facts.document.as_ref(), None);
    let names: Vec<String> = facts.document.as_ref().and_then(shares).unwrap_or_default().into_keys().collect();
    let choice = |side: &Side| {
        let share = side.share.unwrap_or_default();
        let all = share >= 99.995;
        let what = if all { "has everything already".to_owned() } else { format!("has {} now", percent(share)) };
        let patterns: Vec<_> = together(side, &names).iter().map(|pattern| pattern.as_str().to_owned()).collect();
        (patterns.join(","), side.name.clone(), what, all)
    };
    sides.from.iter().chain(&sides.to).map(choice).collect()
}

/// The patterns of a side as few as possible: one for all its servers if that matches no other one.
pub fn together(side: &Side, names: &[String]) -> Vec<Pattern> {
    if side.patterns.len() < 2 {
        return side.patterns.clone();
    }
    let own = |name: &String| side.patterns.iter().any(|pattern| pattern.as_str() == name);
    let one = ["-*", "_*", "*"].into_iter().find_map(|end| {
        let pattern = Pattern::new(&format!("{}{end}", side.name)).ok()?;
        names.iter().all(|name| pattern.matches(name) == own(name)).then_some(pattern)
    });
    one.map_or_else(|| side.patterns.clone(), |one| vec![one])
}
