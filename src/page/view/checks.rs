//! The two cards of a rollout: it goes on when all of the one is true, it goes back when the other fills up.

use weightd_core::{
    judge::{ERRORS, GREY, Limits, THRESHOLD, advance::MIN_REQUESTS},
    model::Timestamp,
    rollout::{Mode, Phase, Shown, Spec, State},
};

use super::{
    facts::{Facts, Stand},
    row::{holding_word, latch_detail, latch_word, names},
    sides::Sides,
    words::{clock, count, counted, percent, percent_of, rate, when},
};

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The glyph.
    pub glyph: &'static str,
    /// What the glyph says: `true`, `not yet`, `unknown`.
    pub word: &'static str,
    /// The class of the glyph.
    pub class: &'static str,
    /// What it is.
    pub text: String,
    /// The numbers behind it; may be empty.
    pub small: String,
    /// A meter: value, maximum, width in percent.
    pub meter: Option<(u64, u64, String)>,
}

/// One check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckRow {
    /// The name of the check, as an identifier.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Its limits.
    pub limits: String,
    /// `from`: rate, and the counts behind it.
    pub from: (String, String),
    /// `to`: rate, and the counts behind it.
    pub to: (String, String),
    /// Width of the meter in percent: the logarithm of the evidence, the whole width at the limit.
    pub width: String,
    /// The evidence in words.
    pub evidence: String,
    /// Whether the evidence is over the limit.
    pub is_over: bool,
}

impl Gate {
    fn new(is: Option<bool>, text: impl Into<String>, small: impl Into<String>) -> Self {
        let (glyph, word, class) = match is {
            Some(true) => ("check", "true", ""),
            Some(false) => ("bake", "not yet", ""),
            None => ("eye", "not known", ""),
        };
        Self { glyph, word, class, text: text.into(), small: small.into(), meter: None }
    }

    fn attention(self) -> Self {
        Self { glyph: "hold", word: "holds", class: "att", ..self }
    }
}

/// The conditions of the next step; empty where nothing moves by itself.
pub fn gates(facts: &Facts, sides: &Sides, now: Timestamp) -> Vec<Gate> {
    let (Some(spec), Some(state)) = (facts.spec(), facts.state()) else { return Vec::new() };
    if !matches!(state.phase, Phase::Preflight | Phase::Shift | Phase::Bake) {
        return Vec::new();
    }
    let shown = facts.fresh(now).filter(|shown| shown.seq == state.seq);
    let held = |word: &str| shown.and_then(|shown| shown.holding.iter().find(|held| held.word == word));
    let mut gates = Vec::new();
    if let Some(latch) = state.latched {
        let text = format!("Stopped: {}", latch_word(latch));
        gates.push(Gate::new(Some(false), text, latch_detail(latch)).attention());
    }
    if let Some(paused) = &state.paused {
        let small = paused.reason.clone().unwrap_or_default();
        gates.push(Gate::new(Some(false), format!("Paused by {}", paused.by), small).attention());
    }
    gates.push(bake(shown, state));
    gates.push(nodes(facts, state, held("not_applied").map(|held| held.text.as_str())));
    if state.phase == Phase::Bake {
        gates.push(requests(shown, sides));
    }
    if state.mode == Mode::Auto {
        if state.phase == Phase::Bake {
            gates.push(quiet(shown, sides));
        }
        gates.extend(approval(spec, state));
        gates.push(time(spec, facts, held("window").is_some()));
    }
    let known = [
        "paused",
        "latched",
        "not_applied",
        "requests",
        "grey",
        "calm",
        "approval",
        "window",
        "frozen",
        "baseline",
        "not_excluded",
    ];
    let others = shown.map(|shown| shown.holding.as_slice()).unwrap_or_default();
    for held in others.iter().filter(|held| !known.contains(&held.word.as_str())) {
        let text = format!("Holds: {}", holding_word(&held.word));
        gates.push(Gate::new(Some(false), text, &held.text).attention());
    }
    gates
}

fn bake(shown: Option<&Shown>, state: &State) -> Gate {
    let what = if state.phase == Phase::Preflight { "Watched before it moves" } else { "Baked" };
    let Some(shown) = shown else {
        return Gate::new(None, what, "the controller said nothing for a while");
    };
    let good = shown.good.min(shown.needed);
    let width = 100.0 * super::words::ratio(good, shown.needed.max(1));
    let promoted = state.promoted == Some(state.step);
    let small = if promoted { "promoted: the bake counts as full" } else { "only seconds with good data count" };
    let text = format!("{what} {} of {}", clock(good), clock(shown.needed));
    let gate = Gate::new(Some(good >= shown.needed || promoted), text, small);
    Gate { meter: Some((good, shown.needed, format!("{width:.1}"))), ..gate }
}

fn nodes(facts: &Facts, state: &State, held: Option<&str>) -> Gate {
    let (has, all) = facts.has();
    let share = percent(state.share.percent());
    let out: Vec<_> = facts.nodes.iter().filter(|node| !matches!(node.stand, Stand::Has | Stand::Aside)).collect();
    if out.is_empty() && all > 0 {
        let text = if all == 1 { format!("The node has {share}") } else { format!("All {all} nodes have {share}") };
        return Gate::new(Some(true), text, String::new());
    }
    let small = held.map_or_else(|| names(out.iter().map(|node| node.name.as_str())), str::to_owned);
    Gate::new(Some(false), format!("{has} of {} have {share}", counted(all, "node")), small)
}

fn requests(shown: Option<&Shown>, sides: &Sides) -> Gate {
    let Some(shown) = shown else { return Gate::new(None, "Requests", "no data yet") };
    let (to, _) = shown.requests();
    let text = format!("{} requests on {} in this step", count(to), sides.to_name());
    Gate::new(Some(to >= MIN_REQUESTS), text, format!("at least {} are needed", count(MIN_REQUESTS)))
}

fn quiet(shown: Option<&Shown>, sides: &Sides) -> Gate {
    let to = sides.to_name();
    let Some(shown) = shown else { return Gate::new(None, format!("No evidence against {to}"), "no data yet") };
    let held = |word: &str| shown.holding.iter().find(|held| held.word == word);
    if let Some(held) = held("grey").or_else(|| held("calm")) {
        return Gate::new(Some(false), format!("Evidence against {to}"), &held.text).attention();
    }
    if let Some(held) = held("not_excluded") {
        return Gate::new(Some(false), "\u{201c}Many times worse\u{201d} is not excluded yet", &held.text);
    }
    let small = format!("{}; it must stay below {} to 1", odds(shown.evidence), super::words::number(GREY));
    Gate::new(Some(true), format!("No evidence against {to}"), small)
}

fn approval(spec: &Spec, state: &State) -> Option<Gate> {
    let next = spec.next_step(state.share)?;
    let step = spec.step(next).filter(|step| step.approve)?;
    let share = percent(step.share.percent());
    Some(if state.approved == Some(next) {
        Gate::new(Some(true), format!("{share} is approved"), String::new())
    } else {
        let gate = Gate::new(Some(false), format!("Somebody approves {share}"), "the plan asks for it");
        Gate { glyph: "person", word: "waits for a person", class: "att", ..gate }
    })
}

fn time(spec: &Spec, facts: &Facts, is_closed: bool) -> Gate {
    if facts.is_frozen() {
        let gate = Gate::new(Some(false), "Changes are frozen", facts.frozen_by()).attention();
        return Gate { glyph: "lock", ..gate };
    }
    let Some(window) = &spec.plan.window else {
        return Gate::new(Some(true), "Nothing is frozen, and the plan has no window", String::new());
    };
    let ranges = window.allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let small = format!("{ranges} {}", window.timezone);
    if is_closed {
        Gate::new(Some(false), "The window is closed", small).attention()
    } else {
        Gate::new(Some(true), "The window is open, and nothing is frozen", small)
    }
}

/// The checks of the present step, `errors` first, and all of them together last.
pub fn checks(facts: &Facts, now: Timestamp) -> (Vec<CheckRow>, Option<CheckRow>) {
    let Some(spec) = facts.spec() else { return (Vec::new(), None) };
    let Some(shown) = facts.fresh(now) else { return (Vec::new(), None) };
    let mut names: Vec<&str> = spec.plan.check_names().collect();
    names.sort_by_key(|name| *name != ERRORS);
    let rows = names.into_iter().map(|name| {
        let check = shown.checks.get(name).copied().unwrap_or_default();
        let side = |(n, e): (u64, u64)| {
            (rate(e, n), if n == 0 { String::new() } else { format!("{} of {}", count(e), count(n)) })
        };
        CheckRow {
            id: name.to_owned(),
            name: check_name(name).to_owned(),
            limits: limits(spec, name),
            from: side(check.from),
            to: side(check.to),
            width: meter(check.evidence),
            evidence: odds(check.evidence),
            is_over: check.evidence >= THRESHOLD,
        }
    });
    let total = CheckRow {
        id: "total".to_owned(),
        name: "All together".to_owned(),
        limits: String::new(),
        from: (String::new(), String::new()),
        to: (String::new(), String::new()),
        width: meter(shown.evidence),
        evidence: format!("{}; goes back at {} to 1", odds(shown.evidence), super::words::number(THRESHOLD)),
        is_over: shown.evidence >= THRESHOLD,
    };
    (rows.collect(), Some(total))
}

/// The evidence as odds.
pub fn odds(evidence: f64) -> String {
    match evidence {
        e if e <= 1.0 => "none".to_owned(),
        e if e < 10.0 => format!("{e:.1} to 1"),
        e => format!("{} to 1", super::words::about(e)),
    }
}

/// Width of a meter in percent: evidence grows by factors, so its logarithm is what fills up.
fn meter(evidence: f64) -> String {
    let width = 100.0 * (evidence.max(1.0).ln() / THRESHOLD.ln()).clamp(0.0, 1.0);
    format!("{width:.1}")
}

fn check_name(name: &str) -> &str {
    match name {
        ERRORS => "Errors",
        "masked" => "Failed attempts that HAProxy repeated",
        "refused" => "Refused (4xx)",
        "redirected" => "Redirected (3xx)",
        other => other,
    }
}

fn limits(spec: &Spec, name: &str) -> String {
    let named = spec.plan.named.get(name);
    let of = |limits: &Limits| {
        let slo = limits.slo.map_or_else(String::new, |slo| format!(", or over {}", percent_of(slo)));
        let ratio = super::words::number(limits.ratio);
        format!("worse than {ratio} times, from {}{slo}", percent_of(limits.floor))
    };
    match (name, named) {
        (ERRORS, _) => of(&spec.plan.errors),
        (_, Some(check)) => format!("{}, from {}", of(&check.limits), check.uses),
        (_, None) => spec.plan.counted.get(name).map(of).unwrap_or_default(),
    }
}

/// When the step began, for the heading of the checks.
pub fn since(facts: &Facts, now: Timestamp) -> String {
    facts.state().map_or_else(String::new, |state| when(state.since, now))
}
