//! Rollouts for people. Pure: what was read becomes lines of at most so many columns.

use std::fmt::Write as _;

use weightd_core::{
    desired::Pattern,
    model::{BackendName, Escaped, Timestamp},
    reasons::list,
    rollout::{
        Controller, Latch, Mode, Phase, Plan, Shown, Spec, State,
        log::Entry,
        plan::{OnRegression, Step},
        shown::CheckShown,
    },
};

use super::view;
use crate::{
    documents::rollouts::{KeyRead, RolloutRead, Standing},
    weightctl::table::{Align, Cell, Table, Tone},
};

/// The column where values begin.
const INDENT: usize = 12;

/// What a mode means.
pub(super) const fn meaning(mode: Mode) -> &'static str {
    match mode {
        Mode::Watch => "people move the weights; it judges and only tells",
        Mode::Guard => "people move the weights; it takes them back where the new side is worse",
        Mode::Auto => "it moves the weights by a plan, and takes them back where the new side is worse",
    }
}

/// A phase for people.
pub(super) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Preflight => "preflight",
        Phase::Shift => "shift",
        Phase::Bake => "bake",
        Phase::RollingBack => "rolling back",
        Phase::Done => "done",
        Phase::RolledBack => "rolled back",
        Phase::TakenOver => "taken over",
    }
}

/// Adds a line with a label. What is longer than `width` goes on below, at the same column.
pub(super) fn row(text: &mut String, label: &str, value: &str, width: usize) {
    let mut label = label;
    for line in wrap(value, width.saturating_sub(INDENT).max(20)) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {label:<10}{line}");
        label = "";
    }
}

/// The names of a side.
pub(super) fn side(patterns: &[Pattern]) -> String {
    list(patterns.iter().map(Pattern::as_str))
}

/// The steps of a plan in one line.
pub(super) fn steps(plan: &Plan) -> String {
    if plan.steps.is_empty() {
        return "none: people move the weights".to_owned();
    }
    let step = |step: &Step| {
        let approve = if step.approve { " after an approval" } else { "" };
        format!("{} % {}{approve}", step.share.percent(), step.bake)
    };
    let steps: Vec<_> = plan.steps.iter().map(step).collect();
    format!("{}; {} in all", steps.join(", "), plan.total_bake())
}

/// The checks of a plan in one line.
pub(super) fn checks(plan: &Plan) -> String {
    let slo = plan.errors.slo.map(|slo| format!(", SLO {} %", percent(slo))).unwrap_or_default();
    let others = plan.check_names().filter(|name| *name != "errors").map(str::to_owned);
    let errors =
        format!("errors (over {} times the old side, above {} %{slo})", plan.errors.ratio, percent(plan.errors.floor));
    [errors].into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn percent(rate: f64) -> f64 {
    // Without the last digits of a binary number.
    (rate * 100.0 * 1e6).round() / 1e6
}

/// What a verdict does.
pub(super) const fn regression(mode: Mode, regression: OnRegression) -> &'static str {
    match (mode, regression) {
        (Mode::Watch, _) => "tells people",
        (_, OnRegression::Rollback) => "takes the new side back",
        (_, OnRegression::Hold) => "holds and calls a person; a service that fails hard is taken back at once",
    }
}

/// What a rollout is: the lines above its state.
fn about(text: &mut String, spec: &Spec, width: usize) {
    let reason = spec.reason.as_ref().map(|reason| format!(": {}", Escaped(reason))).unwrap_or_default();
    row(text, "started", &format!("by {} at {}{reason}", Escaped(&spec.by), spec.at), width);
    row(text, "sides", &format!("{} against {}", side(&spec.to), side(&spec.from)), width);
}

/// The steps with the present one marked.
pub(super) fn bar(spec: &Spec, state: &State) -> String {
    let step = |(at, step): (u32, &Step)| {
        let share = step.share.percent();
        let passed = step.share <= state.share && state.phase == Phase::Done;
        match at.cmp(&state.step) {
            _ if passed => format!("[{share}]"),
            std::cmp::Ordering::Less => format!("[{share}]"),
            std::cmp::Ordering::Equal if state.phase.is_moving() => format!(">{share}<"),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => format!("{share}"),
        }
    };
    (1..).zip(&spec.plan.steps).map(step).collect::<Vec<_>>().join(" ")
}

/// What a rollout waits for: its word, what happened, and what a person can do.
pub(super) fn waits_for(latch: Latch) -> String {
    let what = match latch {
        Latch::Inconclusive => "twice the bake is over without enough evidence; resume or abort it",
        Latch::Slo => "the SLO is broken, and it is not clear that the new side is the cause; resume or abort it",
        Latch::Regression => "the new side is worse, and the plan says hold; resume or abort it",
        Latch::SpecChanged => "its spec was changed or deleted since the start; abort it, and start another",
    };
    format!("{}: {what}", latch.as_str())
}

/// One line: where the rollout is.
pub(super) fn sentence(read: &RolloutRead, now: Timestamp) -> String {
    let (state, spec) = match read.standing() {
        Standing::None => return "no rollout".to_owned(),
        Standing::Unreadable(key, bad) => return format!("its {key} cannot be read: {bad}"),
        Standing::Pending(spec) => {
            return format!("{}: waits for a controller since {}", spec.mode.as_str(), spec.at);
        }
        Standing::Active(state) | Standing::Ended(state) => (state, read.spec.get()),
    };
    let mut text = format!("{}: {}", state.mode.as_str(), phase(state.phase));
    let of = spec.map_or(0, |spec| spec.plan.steps.len());
    if state.phase.is_moving() && state.mode == Mode::Auto && of > 0 {
        let _ = write!(text, ", step {} of {of}", state.step);
    }
    let _ = write!(text, ", {} %", state.share.percent());
    if let Some(why) = state.why.as_ref().filter(|_| state.phase.is_final() || state.phase == Phase::RollingBack) {
        let _ = write!(text, ": {}", Escaped(why));
    }
    if let Some(paused) = &state.paused {
        let _ = write!(text, "; paused by {}", Escaped(&paused.by));
    }
    if let Some(latch) = state.latched {
        let _ = write!(text, "; waits for a person: {}", latch.as_str());
    }
    if let Some(shown) = view::fresh(read, now).filter(|_| !state.phase.is_final()) {
        let _ = write!(text, "; {} of {} s; evidence {:.2} of 100", shown.good, shown.needed, shown.evidence);
    }
    text
}

/// Everything that is known of a rollout, at most `width` columns.
pub(super) fn detail(
    backend: &BackendName,
    read: &RolloutRead,
    controller: &KeyRead<Controller>,
    now: Timestamp,
    width: usize,
) -> String {
    let id = read.spec.get().map(|spec| format!("  rollout {}", spec.id)).unwrap_or_default();
    let mut text = format!("{}{}\n", Tone::Strong.paint(backend.as_str()), Tone::Faint.paint(&id));
    let standing = read.standing();
    if let Some(spec) = read.spec.get() {
        about(&mut text, spec, width);
    }
    match standing {
        Standing::None => row(&mut text, "state", "there is no rollout", width),
        Standing::Unreadable(key, bad) => {
            row(&mut text, "state", &format!("`rollouts/{key}/{backend}` cannot be read: {bad}"), width);
        }
        Standing::Pending(spec) => {
            row(&mut text, "mode", &format!("{}: {}", spec.mode.as_str(), meaning(spec.mode)), width);
            row(&mut text, "state", "no controller has begun it; nothing has moved", width);
        }
        Standing::Active(state) | Standing::Ended(state) => {
            of_state(&mut text, read, state, width);
            match view::shown(read) {
                Some(shown) => seen(&mut text, state, shown, view::fresh(read, now).is_some(), width),
                None if state.phase.is_final() => {}
                None => row(&mut text, "evidence", "the leader has written nothing yet", width),
            }
        }
    }
    if let Some(request) = read.open_request().or_else(|| read.open_approval()) {
        let what = format!("{} by {}: nobody has answered it", request.verb.as_str(), Escaped(&request.by));
        row(&mut text, "request", &what, width);
    }
    row(&mut text, "leader", &leader(controller), width);
    text
}

/// Who leads.
pub(super) fn leader(controller: &KeyRead<Controller>) -> String {
    match (&controller.value, controller.get()) {
        (None, _) => "nobody leads: no controller runs, or none can reach Consul".to_owned(),
        (_, Some(controller)) => format!("{} since {}", Escaped(&controller.name), controller.since),
        (Some(_), None) => "a controller that this version cannot read".to_owned(),
    }
}

fn of_state(text: &mut String, read: &RolloutRead, state: &State, width: usize) {
    row(text, "mode", &format!("{}: {}", state.mode.as_str(), meaning(state.mode)), width);
    let why = state.why.as_ref().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
    row(text, "phase", &format!("{} since {}{why}", phase(state.phase), state.since), width);
    row(text, "share", &format!("{} %; back is {} %", state.share.percent(), state.back.percent()), width);
    let spec = read.spec.get().filter(|spec| spec.id == state.id);
    if let Some(spec) = spec.filter(|spec| !spec.plan.steps.is_empty()) {
        row(text, "steps", &bar(spec, state), width);
    }
    if spec.is_none() && !state.phase.is_final() {
        row(text, "spec", "it was changed or deleted since the start", width);
    }
    if let Some(paused) = &state.paused {
        let reason = paused.reason.as_ref().map(|reason| format!(": {}", Escaped(reason))).unwrap_or_default();
        row(text, "paused", &format!("by {}{reason}", Escaped(&paused.by)), width);
    }
    if let Some(latch) = state.latched {
        row(text, "waits", &format!("for a person: {}", waits_for(latch)), width);
    }
    if !state.late.is_empty() {
        let late = list(state.late.iter().map(weightd_core::fleet::NodeName::as_str));
        row(text, "late", &format!("these nodes had not applied the last document: {late}"), width);
    }
}

/// What the leader sees.
fn seen(text: &mut String, state: &State, shown: &Shown, fresh: bool, width: usize) {
    if state.phase.is_final() {
        row(text, "evidence", &format!("{:.2} of 100 at the end", shown.evidence), width);
        return;
    }
    if !fresh {
        let what = format!("from {}, not of now: the leader has written nothing since", shown.at);
        row(text, "seen", &what, width);
    }
    let what = if state.phase == Phase::Preflight { "baseline" } else { "bake" };
    row(text, what, &format!("{} of {} s", shown.good, shown.needed), width);
    if let Some(real) = shown.share {
        row(text, "real", &format!("{real:.1} % of the requests go to the new side"), width);
    }
    row(text, "nodes", &format!("{} of {} have the document", shown.applied, shown.counting), width);
    row(text, "evidence", &format!("{:.2} of 100 against the new side; 100 is a verdict", shown.evidence), width);
    for (name, check) in &shown.checks {
        row(text, "", &format!("{name}: {}", counts(check)), width);
    }
    if shown.holding.is_empty() {
        row(text, "holding", "no", width);
    }
    for (at, held) in shown.holding.iter().enumerate() {
        row(text, if at == 0 { "holding" } else { "" }, &format!("{}: {}", held.word, Escaped(&held.text)), width);
    }
}

/// Requests and errors of both sides.
fn counts(check: &CheckShown) -> String {
    let rate = |(n, e): (u64, u64)| format!("{e} of {n}");
    format!("{:.2}; new {}, old {}", check.evidence, rate(check.to), rate(check.from))
}

/// The table of all rollouts.
pub(super) fn table<'a>(
    rollouts: impl Iterator<Item = (&'a BackendName, &'a RolloutRead)>,
    now: Timestamp,
    columns: Option<usize>,
) -> String {
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("MODE", Align::Left),
        ("PHASE", Align::Left),
        ("SHARE", Align::Right),
        ("STEP", Align::Right),
        ("GOOD", Align::Right),
        ("EVID", Align::Right),
        ("WHY", Align::Left),
    ]);
    for (backend, read) in rollouts {
        let blank = Cell::default;
        let (state, spec) = match read.standing() {
            Standing::None => continue,
            Standing::Unreadable(key, bad) => {
                let why = Cell::new(format!("{key} cannot be read: {bad}"), Tone::Bad);
                table.row([
                    backend.as_str().into(),
                    blank(),
                    Cell::new("unreadable", Tone::Bad),
                    blank(),
                    blank(),
                    blank(),
                    blank(),
                    why,
                ]);
                continue;
            }
            Standing::Pending(spec) => {
                let phase = Cell::new("not begun", Tone::Warn);
                let why = Cell::new("waits for a controller", Tone::Warn);
                let mode = spec.mode.as_str().into();
                table.row([backend.as_str().into(), mode, phase, blank(), blank(), blank(), blank(), why]);
                continue;
            }
            Standing::Active(state) | Standing::Ended(state) => (state, read.spec.get()),
        };
        let fresh = view::fresh(read, now).filter(|_| !state.phase.is_final());
        let steps = spec.map_or(0, |spec| spec.plan.steps.len());
        let step = if state.mode == Mode::Auto { format!("{}/{steps}", state.step) } else { state.step.to_string() };
        let good = fresh.map(|shown| format!("{}/{}s", shown.good, shown.needed)).unwrap_or_default();
        let evidence = fresh.map(|shown| format!("{:.1}", shown.evidence)).unwrap_or_default();
        table.row([
            backend.as_str().into(),
            state.mode.as_str().into(),
            Cell::new(phase(state.phase), tone(state)),
            format!("{}%", state.share.percent()).into(),
            step.into(),
            good.into(),
            evidence.into(),
            Cell::new(why(state, fresh), tone(state)),
        ]);
    }
    table.render_within("", columns)
}

/// Why it is where it is, in a few words.
fn why(state: &State, fresh: Option<&Shown>) -> String {
    if let Some(latch) = state.latched {
        return format!("waits for a person: {}", latch.as_str());
    }
    if let Some(paused) = &state.paused {
        return format!("paused by {}", Escaped(&paused.by));
    }
    if let Some(held) = fresh.and_then(|shown| shown.holding.first()) {
        return Escaped(&held.text).to_string();
    }
    state.why.as_ref().map(|why| Escaped(why).to_string()).unwrap_or_default()
}

const fn tone(state: &State) -> Tone {
    match state.phase {
        Phase::Done => Tone::Good,
        Phase::RollingBack | Phase::RolledBack => Tone::Bad,
        Phase::TakenOver => Tone::Warn,
        _ if state.latched.is_some() || state.paused.is_some() => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// Events, oldest first. Where they are of several rollouts, each begins with its identifier.
pub(super) fn log(events: &[&Entry], width: usize) -> String {
    let mut text = String::new();
    let several = events.windows(2).any(|pair| pair[0].rollout != pair[1].rollout);
    let mut of = None;
    for event in events {
        if several && of != Some(&event.rollout) {
            of = Some(&event.rollout);
            let name = format!("rollout {}", Escaped(&event.rollout));
            let _ = writeln!(text, "{}", Tone::Faint.paint(&name));
        }
        let by = event.by.as_ref().map(|by| format!("{}: ", Escaped(by))).unwrap_or_default();
        let head = format!("{}  {:<13}", event.at, Escaped(&event.what).to_string());
        let room = width.saturating_sub(head.chars().count() + 1).max(20);
        let mut first = true;
        for line in wrap(&format!("{by}{}", Escaped(&event.detail)), room) {
            let head = if first { head.clone() } else { " ".repeat(head.chars().count()) };
            let _ = writeln!(text, "{head} {line}");
            first = false;
        }
    }
    text
}

/// The newest of these events that fit into `room` lines, oldest first.
pub(super) fn newest(events: &[&Entry], width: usize, room: usize) -> String {
    let mut texts = (0..events.len()).map(|skip| log(&events[skip..], width));
    texts.find(|text| text.lines().count() <= room).unwrap_or_default()
}

/// The words in lines of at most `room` characters.
pub(in crate::weightctl) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let long = |line: &String| !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room;
        if lines.last().is_some_and(long) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests;
