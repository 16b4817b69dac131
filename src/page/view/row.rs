//! One application in the list: its group, its glyph, its words.

use weightd_core::{
    judge::ERRORS,
    model::Timestamp,
    rollout::{Latch, Mode, Phase, Shown, Spec, State, plan::Step, shown::CheckShown},
};

use super::{
    Tone,
    facts::{Facts, Stand},
    sides::{Bar, Sides},
    words::{clock, count, counted, percent, rate, when},
};
use crate::documents::view;

/// How long a rollback or a takeover is shown as new, in seconds.
const NEWS_SECONDS: u64 = 86_400;
/// A node that does not have a document for so long is a fault, in seconds.
const LATE_SECONDS: u64 = 60;
/// Nodes that are named before the rest is counted.
const NAMED: usize = 3;

/// Where an application stands in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A person is needed.
    Person,
    /// It moves, or a rollout watches it.
    UnderWay,
    /// Nothing happens.
    Steady,
}

impl Group {
    /// Its name in addresses, classes and scripts.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::UnderWay => "moves",
            Self::Steady => "steady",
        }
    }
}

/// One application in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Who moved it last, and when.
    pub moved: String,
    /// Where it stands.
    pub group: Group,
    /// The glyph of its state.
    pub glyph: &'static str,
    /// How much it asks for.
    pub tone: Tone,
    /// Its state in a few words.
    pub title: String,
    /// The numbers behind it.
    pub detail: String,
    /// The shares.
    pub bar: Bar,
    /// The errors of each side: class and rate.
    pub errors: Vec<(&'static str, String)>,
    /// How many nodes have it: `17/20`.
    pub nodes: String,
    /// What is wrong with the others.
    pub nodes_note: String,
}

/// A state in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// Where it stands.
    pub group: Group,
    /// The glyph.
    pub glyph: &'static str,
    /// How much it asks for.
    pub tone: Tone,
    /// A few words.
    pub title: String,
    /// The numbers behind them.
    pub detail: String,
}

impl Words {
    fn new(group: Group, glyph: &'static str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        let tone = if group == Group::Person { Tone::Attention } else { Tone::Calm };
        Self { group, glyph, tone, title: title.into(), detail: detail.into() }
    }
}

impl Row {
    /// The row of an application.
    pub fn of(facts: &Facts, now: Timestamp) -> Self {
        let sides = Sides::of(facts.document.as_ref(), facts.spec());
        let shown = facts.fresh(now);
        let Words { group, glyph, tone, title, detail } = words(facts, &sides, now);
        let (has, all) = facts.has();
        Self {
            name: facts.name.to_string(),
            moved: moved(facts, now),
            group,
            glyph,
            tone,
            title,
            detail,
            bar: sides.bar(shown.filter(|_| facts.is_active()).and_then(|shown| shown.share)),
            errors: errors(&sides, shown),
            nodes: if all == 0 { "–".to_owned() } else { format!("{has}/{all}") },
            nodes_note: nodes_note(facts),
        }
    }
}

/// The state of an application in words.
pub fn words(facts: &Facts, sides: &Sides, now: Timestamp) -> Words {
    if let Some(rejected) = facts.document.as_ref().and_then(|document| document.rejected.as_ref()) {
        return Words::new(Group::Person, "warn", "Document rejected", &rejected.reason);
    }
    if let Some(why) = facts.unreadable() {
        return Words::new(Group::Person, "warn", "Rollout cannot be read", why);
    }
    if let Some(words) = rollout(facts, sides, now) {
        return words;
    }
    unwatched(facts, now)
}

/// An application without a rollout that says something.
fn unwatched(facts: &Facts, now: Timestamp) -> Words {
    if let Some(words) = refused(facts, now) {
        return words;
    }
    let (has, all) = facts.has();
    let waiting = facts.standing(Stand::Late).count();
    if waiting > 0 {
        return Words::new(Group::UnderWay, "move", "Moves", format!("{has} of {all} nodes have it"));
    }
    if facts.document.as_ref().is_some_and(|document| document.state == view::State::Released) {
        return Words::new(Group::Steady, "steady", "Released", "HAProxy keeps its weights");
    }
    // The freeze of all is on the page of the fleet.
    if let Some(frozen) = &facts.frozen {
        return Words::new(Group::Steady, "lock", "Frozen", frozen_by(frozen));
    }
    Words::new(Group::Steady, "steady", "Steady", ended(facts, now))
}

/// How the last rollout ended, where that is still what the application is about.
fn ended(facts: &Facts, now: Timestamp) -> String {
    let Some(state) = facts.state().filter(|_| facts.is_last_word()) else { return String::new() };
    match state.phase {
        Phase::Done => format!("rollout done {}", when(state.since, now)),
        Phase::RolledBack => format!("rolled back {}", when(state.since, now)),
        _ => String::new(),
    }
}

/// Nodes that refuse the document, or do not get it.
fn refused(facts: &Facts, now: Timestamp) -> Option<Words> {
    let is_late = |since: Option<Timestamp>| since.is_some_and(|since| now.seconds_since(since) > LATE_SECONDS);
    let out: Vec<_> = facts
        .nodes
        .iter()
        .filter(|node| match node.stand {
            Stand::Guarded => true,
            Stand::Late => is_late(node.since),
            _ => false,
        })
        .collect();
    let first = out.first()?;
    let title = format!("Not applied on {}", counted(out.len(), "node"));
    let detail = format!("{}: {}", names(out.iter().map(|node| node.name.as_str())), first.why);
    Some(Words::new(Group::Person, "warn", title, detail))
}

fn rollout(facts: &Facts, sides: &Sides, now: Timestamp) -> Option<Words> {
    let rollout = facts.rollout.as_ref()?;
    let Some(state) = rollout.state.as_deref() else {
        let waits = now.seconds_since(rollout.spec.at);
        return Some(match &facts.controller {
            _ if waits <= LATE_SECONDS => {
                Words::new(Group::UnderWay, "bake", "Starts", "a controller takes it in a moment")
            }
            Some(leader) => Words::new(Group::Person, "bake", "Starts", format!("{leader} leads and has not begun it")),
            None => Words::new(Group::Person, "bake", "Starts", "no controller leads"),
        });
    };
    let spec = &*rollout.spec;
    let is_new = now.seconds_since(state.since) < NEWS_SECONDS && facts.is_last_word();
    Some(match state.phase {
        Phase::RolledBack | Phase::TakenOver | Phase::Done if !is_new => return None,
        Phase::Done => return None,
        Phase::RolledBack => match ended_by(facts) {
            Some(_) if state.late.is_empty() => return None,
            Some(by) => Words::new(
                Group::Person,
                "back",
                format!("Rolled back by {by}"),
                format!("not applied on {}", names(state.late.iter().map(weightd_core::fleet::NodeName::as_str))),
            ),
            None => Words {
                tone: Tone::Bad,
                ..Words::new(Group::Person, "back", "Rolled back by itself", failed(facts, sides, state, now))
            },
        },
        Phase::TakenOver => {
            let share = sides.to_share().map_or_else(String::new, |share| format!(" at {}", percent(share)));
            Words::new(Group::Person, "taken", format!("Taken over{share}"), why(state, now))
        }
        Phase::RollingBack => {
            let unled = if facts.silent_since(now).is_some() { "; no controller leads" } else { "" };
            let detail = format!("{}{unled}", applied(facts));
            Words { tone: Tone::Bad, ..Words::new(Group::Person, "back", "Rolling back", detail) }
        }
        Phase::Queued if facts.silent_since(now).is_none() => {
            Words::new(Group::UnderWay, "bake", "Queued", "many rollouts are active; it starts by itself")
        }
        Phase::Queued | Phase::Preflight | Phase::Shift | Phase::Bake => active(facts, spec, state, now),
    })
}

/// Title and detail of a rollout of which no controller speaks; none while one does.
fn silent(facts: &Facts, state: &State, now: Timestamp) -> Option<(String, String)> {
    let since = when(facts.silent_since(now)?, now);
    if let Some(leader) = &facts.controller {
        return Some((
            format!("No word from {leader}"),
            format!("since {since}: nobody knows whether it watches the rollout"),
        ));
    }
    let missed = match (state.phase, state.mode) {
        (Phase::Shift | Phase::Bake, Mode::Watch) => "people move it, and nobody watches it",
        (Phase::Shift | Phase::Bake, Mode::Guard) => "people move it, and nothing takes it back by itself",
        (Phase::Shift | Phase::Bake, Mode::Auto) => "nothing moves it or takes it back by itself",
        (Phase::Preflight, _) => "it does not begin",
        // No controller writes anything of it, so the time of the last word is not known.
        _ => return Some(("Holds: no controller".to_owned(), "it does not begin".to_owned())),
    };
    Some(("Holds: no controller".to_owned(), format!("no word since {since}: {missed}")))
}

/// A rollout that is under way.
fn active(facts: &Facts, spec: &Spec, state: &State, now: Timestamp) -> Words {
    let shown = facts.fresh(now).filter(|shown| shown.seq == state.seq);
    if let Some(latch) = state.latched {
        return Words::new(Group::Person, "hold", format!("Stopped: {}", latch_word(latch)), latch_detail(latch));
    }
    let silent = silent(facts, state, now);
    let only_told = state.mode == Mode::Watch && matches!(state.phase, Phase::Shift | Phase::Bake);
    if let Some((title, detail)) = silent.as_ref().filter(|_| !only_told) {
        let paused = state.paused.as_ref().map_or_else(String::new, |paused| format!("; {} paused it", paused.by));
        return Words::new(Group::Person, "hold", title, format!("{detail}{paused}"));
    }
    if let Some(paused) = &state.paused {
        let why = paused.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        return Words::new(Group::UnderWay, "hold", "Holds: paused", format!("by {}{why}", paused.by));
    }
    let held = shown.map(|shown| shown.holding.as_slice()).unwrap_or_default();
    if let Some(held) = held.iter().find(|held| needs_a_person(&held.word)) {
        if held.word == "approval" {
            let next = spec.next_step(state.share).and_then(|next| spec.step(next));
            let to = next.map_or_else(String::new, |step| format!(" of {}", percent(step.share.percent())));
            return Words::new(Group::Person, "person", format!("Waits for approval{to}"), baked(shown, spec, state));
        }
        // A share that has just moved is late everywhere for a moment.
        if held.word != "not_applied" || now.seconds_since(state.since) > LATE_SECONDS {
            return Words::new(Group::Person, "hold", format!("Holds: {}", holding_word(&held.word)), &held.text);
        }
    }
    let share = percent(state.share.percent());
    match state.phase {
        Phase::Preflight => Words::new(Group::UnderWay, "bake", "Checks before it starts", baked(shown, spec, state)),
        Phase::Shift => Words::new(Group::UnderWay, "move", format!("Moves to {share}"), applied(facts)),
        _ if state.mode != Mode::Auto => {
            let title = format!("Mode {} at {share}", state.mode.as_str());
            let does = if state.mode == Mode::Guard { "takes it back" } else { "only tells" };
            let detail = match silent {
                Some((_, detail)) => detail,
                None => format!("people move it, rolloutd {does}"),
            };
            Words::new(Group::UnderWay, "eye", title, detail)
        }
        _ => {
            if let Some(held) = held.iter().find(|held| matches!(held.word.as_str(), "window" | "frozen")) {
                let glyph = if held.word == "frozen" { "lock" } else { "hold" };
                return Words::new(Group::UnderWay, glyph, format!("Holds: {}", holding_word(&held.word)), &held.text);
            }
            Words::new(Group::UnderWay, "bake", format!("Bakes at {share}"), baked(shown, spec, state))
        }
    }
}

/// `12:48 of 30:00, then 25 %`.
fn baked(shown: Option<&Shown>, spec: &Spec, state: &State) -> String {
    let Some(shown) = shown else { return "no word from the controller yet".to_owned() };
    let done = format!("{} of {}", clock(shown.good.min(shown.needed)), clock(shown.needed));
    if shown.good >= shown.needed
        && let Some(held) = shown.holding.first()
    {
        return format!("{done}; {}", held.text);
    }
    match spec.next_step(state.share).and_then(|next| spec.step(next)) {
        Some(Step { share, .. }) if state.mode == Mode::Auto => format!("{done}, then {}", percent(share.percent())),
        _ if state.mode == Mode::Auto => format!("{done}, then done"),
        _ => done,
    }
}

fn applied(facts: &Facts) -> String {
    let (has, all) = facts.has();
    format!("{has} of {} have it", counted(all, "node"))
}

/// What failed, in rates; the words of the controller where it has no counts of errors.
fn failed(facts: &Facts, sides: &Sides, state: &State, now: Timestamp) -> String {
    let shown = facts.rollout.as_ref().and_then(|rollout| rollout.shown.as_ref());
    let check = shown.and_then(|shown| shown.checks.get(ERRORS)).filter(|check| check.to.1 > 0);
    check.map_or_else(
        || why(state, now),
        |CheckShown { to, from, .. }| {
            let (to, from) = (rate(to.1, to.0), rate(from.1, from.0));
            format!("{}: {} failed {to}, {} {from}", when(state.since, now), sides.to_name(), sides.from_name())
        },
    )
}

fn why(state: &State, now: Timestamp) -> String {
    let at = when(state.since, now);
    state.why.as_ref().map_or_else(|| at.clone(), |why| format!("{at}: {why}"))
}

/// The person who took the rollout back; none if it went back by itself.
pub fn ended_by(facts: &Facts) -> Option<&str> {
    let state = facts.state().filter(|state| state.aborted)?;
    let mut events = facts.log.iter().rev().filter(|event| event.rollout == state.id);
    let said = || state.why.as_deref()?.split_once(" aborted it").map(|(by, _)| by);
    Some(events.find_map(|event| event.by.as_deref()).or_else(said).unwrap_or("somebody"))
}

/// Whether a reason waits for a person. The others end by themselves.
fn needs_a_person(word: &str) -> bool {
    matches!(
        word,
        "approval"
            | "not_applied"
            | "unusable"
            | "unwired"
            | "no_data"
            | "dropped"
            | "flapping"
            | "source"
            | "breaker"
            | "share"
            | "no_control"
            | "not_split"
            | "protocol"
            | "from_too_small"
            | "above_slo"
    )
}

/// The reason in words, for a title.
pub fn holding_word(word: &str) -> &str {
    match word {
        "not_applied" => "not applied",
        "no_data" => "no data",
        "no_control" => "nothing to compare with",
        "not_split" => "other shares in the document",
        "protocol" => "mode tcp in HAProxy",
        "from_too_small" => "the old side is too small",
        "above_slo" => "the old side has too many errors",
        "dropped" => "late nodes",
        "unusable" => "no usable server",
        "unwired" => "no requests arrive",
        "flapping" => "servers come and go",
        "source" => "a check has no data",
        "unmeasured" => "a check has judged nothing yet",
        "share" => "another share than wanted",
        "breaker" => "many rollbacks",
        "window" => "window",
        other => other,
    }
}

/// Why it stopped, in a few words.
pub const fn latch_word(latch: Latch) -> &'static str {
    match latch {
        Latch::Inconclusive => "not enough evidence",
        Latch::Slo => "errors above the limit on both sides",
        Latch::Regression => "the new side is worse",
        Latch::SpecChanged => "the plan was changed",
    }
}

/// What that means for a person.
pub const fn latch_detail(latch: Latch) -> &'static str {
    match latch {
        Latch::Inconclusive => "twice the bake is over; resume or roll back",
        Latch::Slo => "the fault is not clearly on the new side; resume or roll back",
        Latch::Regression => "the plan says hold; resume or roll back",
        Latch::SpecChanged => "somebody wrote the spec while it ran; roll back and start again",
    }
}

/// Who froze it, and why.
pub fn frozen_by(frozen: &weightd_core::fleet::Frozen) -> String {
    let by = frozen.by.as_ref().map(|by| format!("by {by}"));
    let parts: Vec<_> = by.into_iter().chain(frozen.reason.clone()).collect();
    parts.join(": ")
}

/// The errors of both sides in this step; empty where nothing is observed.
fn errors(sides: &Sides, shown: Option<&Shown>) -> Vec<(&'static str, String)> {
    let Some(check) = shown.and_then(|shown| shown.checks.get(ERRORS)) else { return Vec::new() };
    let (Some(from), Some(to)) = (&sides.from, &sides.to) else { return Vec::new() };
    let side = |hue: super::sides::Hue, (n, e): (u64, u64)| (hue.class(), rate(e, n));
    vec![side(from.hue, check.from), side(to.hue, check.to)]
}

/// Who moved it last.
fn moved(facts: &Facts, now: Timestamp) -> String {
    let Some(entry) = facts.history.first() else { return String::new() };
    let by = entry.by.clone().unwrap_or_else(|| "unknown".to_owned());
    entry.at.map_or_else(|| by.clone(), |at| format!("{by}, {}", when(at, now)))
}

fn nodes_note(facts: &Facts) -> String {
    // A node that says nothing is a fault of the fleet, and is said once, above the list.
    for stand in [Stand::Guarded, Stand::Late] {
        let nodes: Vec<_> = facts.standing(stand).collect();
        match nodes.as_slice() {
            [] => {}
            [one] => return format!("{} {}", one.name, stand.word()),
            more => return format!("{} {}", count(more.len() as u64), stand.word()),
        }
    }
    String::new()
}

/// A text as a sentence: a capital letter first, a full stop last.
pub fn sentence_of(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), letters.as_str())
}

/// The first names, and the number of the others.
pub fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.collect();
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
pub(in crate::page) mod tests;
