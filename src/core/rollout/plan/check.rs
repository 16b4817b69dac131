//! Validates a plan and completes it with defaults.

use std::collections::BTreeSet;

use super::{
    CheckFile, Mode, NamedCheck, Place, Plan, PlanFile, Problem, Protocol, Span, Step, StepFile, Window,
    file::default_checks, problem::suggestion,
};
use crate::{
    desired::PatternShare,
    judge::{ERRORS, Limits, Safe},
    model::Escaped,
};

/// The most steps of a plan.
pub const MAX_STEPS: usize = 20;
/// The most checks of a plan.
pub const MAX_CHECKS: usize = 8;
/// The shortest bake: two blocks.
const MIN_BAKE: Span = Span::from_seconds(20);
/// The longest sum of all bakes.
const MAX_BAKES: Span = Span::from_seconds(30 * 86_400);
/// By default the last step up to this share (thousandths of a percent) excludes "four times worse": above it that takes too long.
const EXCLUDED_UP_TO: u32 = 50_000;

impl PlanFile {
    /// The valid and complete plan.
    ///
    /// # Errors
    /// [`Problem`] with the first thing that is wrong. [`Problem::in_text`] finds its line.
    pub fn resolve(&self) -> Result<Plan, Problem> {
        let protocol = self.protocol.unwrap_or_default();
        let steps = steps(&self.step)?;
        if steps.is_empty() && self.mode == Some(Mode::Auto) {
            return Err(Problem::new(Place::Key("mode"), "mode auto has no steps", "add [[step]] sections"));
        }
        let mut plan = Plan { mode: self.mode, steps, ..Plan::without_steps(protocol) };
        if self.check.len() > MAX_CHECKS {
            let what = format!("{} checks; the maximum is {MAX_CHECKS}", self.check.len());
            return Err(Problem::new(Place::Plan, what, "remove some"));
        }
        for (name, check) in &self.check {
            one_check(&mut plan, name, check)?;
        }
        if self.mode == Some(Mode::Auto) && plan.is_blind() {
            let what = "HAProxy sees no failed answers of this protocol, so mode auto would be blind";
            return Err(Problem::new(Place::Key("protocol"), what, "add a named check with `use`, or use mode watch"));
        }
        if let Some(window) = &self.window {
            if window.allow.is_empty() {
                let place = Place::Section("window", "allow");
                let remedy = "write ranges such as \"Mon-Thu 09:00-16:00\", or remove [window]";
                return Err(Problem::new(place, "the window never opens, so the plan never ends", remedy));
            }
            let timezone = window.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
            plan.window = Some(Window { allow: window.allow.clone(), timezone });
        }
        plan.regression = self.on.as_ref().and_then(|on| on.regression);
        Ok(plan)
    }
}

fn steps(files: &[StepFile]) -> Result<Vec<Step>, Problem> {
    if files.len() > MAX_STEPS {
        let what = format!("{} steps; the maximum is {MAX_STEPS}", files.len());
        return Err(Problem::new(Place::Step(MAX_STEPS, "share"), what, "remove some"));
    }
    let (mut steps, mut total): (Vec<Step>, u64) = (Vec::new(), 0);
    let excludes = files.iter().rposition(|file| file.share.is_some_and(|share| share.thousandths() <= EXCLUDED_UP_TO));
    for (at, file) in files.iter().enumerate() {
        let place = |key| Place::Step(at, key);
        let missing = |key, remedy| Problem::new(place(key), "is missing", remedy);
        let share = file.share.ok_or_else(|| missing("share", "write the percent, such as `share = 10`"))?;
        let bake = file.bake.ok_or_else(|| missing("bake", "write how long it is judged, such as `bake = \"30m\"`"))?;
        let before = steps.last().map_or(PatternShare::default(), |step| step.share);
        if share <= before {
            let what = format!("{} is not above the share before it, {}", share.percent(), before.percent());
            return Err(Problem::new(place("share"), what, "let each step raise the share"));
        }
        if bake < MIN_BAKE {
            return Err(Problem::new(
                place("bake"),
                format!("{bake} is too short"),
                format!("write at least {MIN_BAKE}"),
            ));
        }
        total = bake.seconds().saturating_add(total);
        if total > MAX_BAKES.seconds() {
            let remedy = format!("keep the sum of all bakes within {MAX_BAKES}");
            return Err(Problem::new(place("bake"), "the plan never ends", remedy));
        }
        let default = if excludes == Some(at) { Safe::RATIO } else { 0.0 };
        let must_exclude = file.must_exclude.unwrap_or(default);
        if must_exclude != 0.0 && !(1.5..=100.0).contains(&must_exclude) {
            let what = format!("{must_exclude} cannot be excluded");
            return Err(Problem::new(
                place("must_exclude"),
                what,
                "write a ratio from 1.5 to 100, or 0 to turn it off",
            ));
        }
        let must_exclude = (must_exclude != 0.0).then_some(must_exclude);
        steps.push(Step { share, bake, approve: file.approve, must_exclude });
    }
    // One bet for the whole rollout excludes one ratio.
    let mut ratios = steps.iter().enumerate().filter_map(|(at, step)| Some((at, step.must_exclude?)));
    if let Some((_, first)) = ratios.next()
        && let Some((at, other)) = ratios.find(|(_, other)| other.total_cmp(&first).is_ne())
    {
        let what = format!("{other} differs from {first} of an earlier step");
        return Err(Problem::new(Place::Step(at, "must_exclude"), what, "write the same ratio in all steps"));
    }
    Ok(steps)
}

fn one_check(plan: &mut Plan, name: &str, file: &CheckFile) -> Result<(), Problem> {
    let place = |key| Place::Check(name.to_owned(), key);
    if !is_word(name, 32) {
        let what = format!("`{}` is no name of a check", Escaped(name));
        return Err(Problem::new(Place::Plan, what, "write 1 to 32 of the characters A-Z a-z 0-9 _ . -"));
    }
    if let Some(uses) = &file.uses {
        if Limits::of_default(name).is_some() {
            let what = "a check of HAProxy's own counters takes no `use`";
            return Err(Problem::new(place("use"), what, "give the named check another name, such as [check.latency]"));
        }
        plan.named.insert(name.to_owned(), named(uses, file, &place)?);
        return Ok(());
    }
    let Some(default) = Limits::of_default(name) else {
        let known: Vec<&str> = plan.check_names().collect();
        let remedy = format!("{} A check of a metrics system needs `use`", suggestion(name, &known));
        return Err(Problem::new(place("use"), format!("unknown check `{}`", Escaped(name)), remedy));
    };
    let limits = limits(file, default, &place)?;
    if !file.labels.is_empty() || file.warm_up.is_some() {
        let key = if file.labels.is_empty() { "warm_up" } else { "labels" };
        return Err(Problem::new(place(key), "is only for named checks", "remove it"));
    }
    if name == ERRORS {
        plan.errors = limits;
    } else if plan.protocol == Protocol::Http || default_checks(plan.protocol).contains_key(name) {
        plan.counted.insert(name.to_owned(), limits);
    } else {
        let what = "HAProxy has no such answers in this protocol";
        return Err(Problem::new(place("ratio"), what, "remove the section"));
    }
    Ok(())
}

fn named(uses: &str, file: &CheckFile, place: &dyn Fn(&'static str) -> Place) -> Result<NamedCheck, Problem> {
    const WORD: &str = "write 1 to 64 of the characters A-Z a-z 0-9 _ . -";
    if !is_word(uses, 64) {
        return Err(Problem::new(place("use"), format!("`{}` is no name of a check", Escaped(uses)), WORD));
    }
    let words = file.labels.iter().flat_map(|(label, value)| [label, value]);
    if let Some(wrong) = words.into_iter().find(|word| !is_word(word, 64)) {
        return Err(Problem::new(place("labels"), format!("`{}` is not allowed", Escaped(wrong)), WORD));
    }
    if file.labels.len() > 8 {
        return Err(Problem::new(place("labels"), "more than 8 labels", "remove some"));
    }
    // A rate of slow requests has more noise than a rate of errors.
    let floor = file.slo.map_or(Limits::ERRORS.floor, |slo| 0.4 * slo);
    let default = Limits { slo: None, floor, burst: 2, ..Limits::ERRORS };
    let warm_up = file.warm_up.unwrap_or(Span::from_seconds(120));
    Ok(NamedCheck {
        uses: uses.to_owned(),
        labels: file.labels.clone(),
        limits: limits(file, default, place)?,
        warm_up,
    })
}

fn limits(file: &CheckFile, default: Limits, place: &dyn Fn(&'static str) -> Place) -> Result<Limits, Problem> {
    let limits = file.limits(default);
    let within = |key, value: f64, low: f64, high: f64| {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(Problem::new(
            place(key),
            format!("{value} is out of range"),
            format!("write a number from {low} to {high}"),
        ))
    };
    within("ratio", limits.ratio, 1.0, 100.0)?;
    within("floor", limits.floor, 1e-6, 1.0)?;
    within("slo", limits.slo.unwrap_or(1.0), 1e-6, 1.0)?;
    within("burst", f64::from(limits.burst), 1.0, 360.0)?;
    within("max_share", limits.max_share, 1.0, 100.0)?;
    Ok(limits)
}

/// Whether it is 1 to `most` characters that need no quoting anywhere.
fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

impl Plan {
    /// Compares the named checks with those that the controller has.
    ///
    /// # Errors
    /// [`Problem`] with the first check that it does not have.
    pub fn known_checks<'a>(&self, known: impl Iterator<Item = &'a str> + Clone) -> Result<(), Problem> {
        let unknown = self.named.iter().find(|(_, check)| !known.clone().any(|name| name == check.uses));
        let Some((name, check)) = unknown else { return Ok(()) };
        let known: BTreeSet<_> = known.collect();
        let known: Vec<_> = known.into_iter().collect();
        let remedy = if known.is_empty() {
            "the controller has no named checks; add one to its configuration".to_owned()
        } else {
            suggestion(&check.uses, &known)
        };
        let what = format!("the controller has no check `{}`", Escaped(&check.uses));
        Err(Problem::new(Place::Check(name.clone(), "use"), what, remedy))
    }
}
