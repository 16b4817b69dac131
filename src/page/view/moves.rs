//! Who moved an application: its history and the log of its rollouts as one list.

use weightd_core::{
    history::{Entry, To, Way},
    model::Timestamp,
    rollout::log,
};

use super::{
    Tone,
    facts::Facts,
    sides::{Side, Sides, shares_of, sum},
    words::{percent, when},
};
use crate::documents::lead::ROLLOUTD;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// When, for people; empty if that is not known.
    pub at: String,
    /// When, for the order.
    pub seconds: Option<Timestamp>,
    /// The application.
    pub app: String,
    /// The glyph.
    pub glyph: &'static str,
    /// How much it asks for.
    pub tone: Tone,
    /// What.
    pub what: String,
    /// Why, and how.
    pub why: String,
    /// Who.
    pub who: String,
    /// The token of who.
    pub token: String,
    /// Whether a person did it.
    pub by_person: bool,
}

/// Everything that happened to an application, newest first.
pub fn moves(facts: &Facts, now: Timestamp) -> Vec<Move> {
    of_those(facts, now, |_| true)
}

/// What happened to an application at `since` or later, newest first. Where that is nothing it costs next to nothing.
/// Without `names_nodes` no node is named.
pub fn moves_since(facts: &Facts, names_nodes: bool, since: Timestamp, now: Timestamp) -> Vec<Move> {
    let is_newer = |at: Option<Timestamp>| at.is_some_and(|at| at >= since);
    let mut times = facts.history.iter().map(|entry| entry.at).chain(facts.log.iter().map(|event| Some(event.at)));
    match times.any(is_newer) {
        false => Vec::new(),
        true if names_nodes => of_those(facts, now, is_newer),
        true => of_those(&facts.without_node_names(), now, is_newer),
    }
}

fn of_those(facts: &Facts, now: Timestamp, wanted: impl Fn(Option<Timestamp>) -> bool) -> Vec<Move> {
    let sides = Sides::of(facts.document.as_ref(), facts.spec());
    let entries = facts.history.iter().enumerate().filter(|(_, entry)| wanted(entry.at)).map(|(at, entry)| {
        let before = facts.history.get(at + 1);
        of_entry(facts, &sides, entry, before, now)
    });
    // A step of a rollout is in both; the history has the shares.
    let logged = facts.log.iter().rev().filter(|event| wanted(Some(event.at)));
    let logged = logged.filter(|event| !matches!(event.what.as_str(), "advanced" | "applied"));
    let mut all: Vec<Move> = entries.chain(logged.map(|event| of_event(facts, event, now))).collect();
    all.sort_by_key(|each| std::cmp::Reverse(each.seconds));
    all
}

fn of_entry(facts: &Facts, sides: &Sides, entry: &Entry, before: Option<&Entry>, now: Timestamp) -> Move {
    let (glyph, how) = match &entry.way {
        Way::Rollback => ("back", "roll back"),
        Way::Rollout => ("move", "rollout"),
        Way::Shift => ("move", "shift"),
        Way::Set => ("move", "set"),
        Way::Create => ("move", "first weights"),
        Way::Release => ("steady", "release"),
        Way::Apply => ("move", "apply"),
        Way::Import => ("move", "import"),
        Way::Convert => ("move", "converted"),
        Way::Observed => ("eye", "what the nodes had"),
        Way::Direct => ("warn", "past these tools"),
        Way::Other(_) => ("move", entry.way.as_str()),
    };
    let token = entry.token.as_ref().map_or("", |token| {
        if token.description.is_empty() { token.accessor.as_str() } else { token.description.as_str() }
    });
    let why = entry.why.as_ref().map_or_else(|| how.to_owned(), |why| format!("{how}: {why}"));
    Move {
        at: entry.at.map(|at| when(at, now)).unwrap_or_default(),
        seconds: entry.at,
        app: facts.name.to_string(),
        glyph,
        tone: Tone::Calm,
        what: change(sides, &entry.to, before.map(|before| &before.to)),
        why,
        who: entry.by.clone().unwrap_or_else(|| "unknown".to_owned()),
        token: token.to_owned(),
        by_person: !matches!(entry.way, Way::Rollout | Way::Observed)
            && !entry.by.as_ref().is_some_and(|by| by.starts_with(ROLLOUTD)),
    }
}

/// `green 5 → 10 %`.
fn change(sides: &Sides, to: &To, before: Option<&To>) -> String {
    let Some(side) = &sides.to else { return summary(to) };
    let Some(after) = share(side, to) else { return summary(to) };
    match before.and_then(|before| share(side, before)) {
        Some(before) if (before - after).abs() < 0.005 => format!("{} stays at {}", side.name, percent(after)),
        Some(before) => {
            format!("{} {} → {}", side.name, super::words::number(before), percent(after))
        }
        None => format!("{} {}", side.name, percent(after)),
    }
}

fn share(side: &Side, to: &To) -> Option<f64> {
    shares_of(to).map(|shares| sum(&shares, &side.patterns))
}

fn summary(to: &To) -> String {
    match to {
        To::Weights(weights) => crate::documents::view::weights_summary(weights),
        To::Split(split) => crate::documents::view::split_summary(split),
        To::Release => "released".to_owned(),
        To::Gone => "deleted".to_owned(),
        To::Omitted => "too large to be shown".to_owned(),
        To::Unreadable(_) => "not readable".to_owned(),
    }
}

fn of_event(facts: &Facts, event: &log::Entry, now: Timestamp) -> Move {
    let (glyph, tone, what) = match event.what.as_str() {
        "started" => ("bake", Tone::Calm, "Rollout started"),
        "holding" => ("hold", Tone::Attention, "Holds"),
        "latched" => ("hold", Tone::Attention, "Stopped"),
        "approval" => ("person", Tone::Attention, "Waits for approval"),
        "warned" => ("warn", Tone::Attention, "Warned"),
        "rolling_back" => ("back", Tone::Bad, "Rolling back"),
        "rolled_back" => ("back", Tone::Bad, "Rolled back"),
        "done" => ("check", Tone::Calm, "Done"),
        "taken_over" => ("taken", Tone::Attention, "Taken over"),
        "adopted" => ("move", Tone::Calm, "Adopted as a new step"),
        "answered" => ("person", Tone::Calm, "Request answered"),
        other => ("eye", Tone::Calm, other),
    };
    // What a person asked for is no alarm.
    let tone = if event.by.is_some() && tone == Tone::Bad { Tone::Calm } else { tone };
    Move {
        at: when(event.at, now),
        seconds: Some(event.at),
        app: facts.name.to_string(),
        glyph,
        tone,
        what: what.to_owned(),
        why: event.detail.clone(),
        who: event.by.clone().unwrap_or_else(|| "rolloutd".to_owned()),
        token: String::new(),
        by_person: event.by.is_some(),
    }
}
