//! One application on its own page: what it does, whether anybody is hurt, what comes next, and how to get back.

use std::cmp::Ordering;

use weightd_core::{
    judge::ERRORS,
    model::Timestamp,
    rollout::{Mode, Phase, Spec, State},
};

use super::{
    Tone,
    asked::unanswered,
    checks::{self, CheckRow, Gate},
    facts::{Facts, NodeStand, Stand},
    moves::{Move, moves},
    row::{ended_by, names, sentence_of as sentence, words},
    sides::{Bar, Sides},
    words::{clock, count, counted, length, percent, rate, when},
};

/// Lines of "Who moved it" on the page of an application.
const MOVES: usize = 12;
/// Nodes that are shown one by one.
const NODES: usize = 200;

/// One application on its own page.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each decides one word of the page")]
pub struct Detail {
    /// Its name.
    pub name: String,
    /// `green 10 %`; empty if the document gives no shares.
    pub now: String,
    /// The sides.
    pub sides: Sides,
    /// What it does, as a headline.
    pub say: String,
    /// The glyph before it; empty for none.
    pub glyph: &'static str,
    /// How much it asks for.
    pub tone: Tone,
    /// What somebody asked for, and no controller has answered; empty if there is nothing.
    pub asked: String,
    /// What comes next, and why.
    pub next: String,
    /// Plan, mode, who started it, why.
    pub origin: String,
    /// The evidence of an end, in sentences; empty while it is under way.
    pub lead: String,
    /// Why it went back, in the words of the controller.
    pub why: String,
    /// The steps of the plan.
    pub rail: Vec<Station>,
    /// The conditions of the next step.
    pub gates: Vec<Gate>,
    /// The checks.
    pub checks: Vec<CheckRow>,
    /// All checks together.
    pub total: Option<CheckRow>,
    /// Since when the counts of the checks run.
    pub checks_since: String,
    /// Blocks that paid, as sentences, newest first.
    pub paid: Vec<String>,
    /// The shares.
    pub bar: Bar,
    /// What the document has, server by server or pattern by pattern.
    pub servers: Vec<(String, String)>,
    /// `20 of 20 nodes have it`.
    pub nodes_say: String,
    /// The nodes, those that are out first.
    pub nodes: Vec<NodeStand>,
    /// How many nodes are not shown.
    pub nodes_more: usize,
    /// Who moved it.
    pub moves: Vec<Move>,
    /// Whether there are more.
    pub moves_more: bool,
    /// Whether the evidence takes the rollout back.
    pub takes_back: bool,
    /// Whether it moves the share by itself.
    pub moves_itself: bool,
    /// Whether the document has shares by pattern.
    pub is_split: bool,
}

/// One step of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Station {
    /// `past`, or empty.
    pub class: &'static str,
    /// The glyph.
    pub glyph: &'static str,
    /// What the glyph says.
    pub word: &'static str,
    /// The share.
    pub share: String,
    /// When and how long.
    pub note: String,
    /// Whether it is the present step.
    pub is_now: bool,
}

impl Detail {
    /// The page of an application.
    pub fn of(facts: &Facts, now: Timestamp) -> Self {
        let sides = Sides::of(facts.document.as_ref(), facts.spec());
        let words = words(facts, &sides, now);
        let shown = facts.fresh(now);
        let mut nodes = facts.nodes.clone();
        nodes.sort_by(|a, b| (a.stand, &a.name).cmp(&(b.stand, &b.name)));
        let nodes_more = nodes.len().saturating_sub(NODES);
        nodes.truncate(NODES);
        let (has, all) = facts.has();
        let mut moves = moves(facts, now);
        let moves_more = moves.len() > MOVES;
        moves.truncate(MOVES);
        let (checks, total) = checks::checks(facts, now);
        let is_active = facts.is_active();
        let about_rollout = facts.unreadable().is_none() && (is_active || facts.is_last_word());
        let (lead, why) = if about_rollout { lead(facts, &sides) } else { Default::default() };
        let say = headline(facts, &sides, &words.title, now);
        let glyph = if words.tone == Tone::Calm && is_active { "" } else { words.glyph };
        Self {
            name: facts.name.to_string(),
            now: sides.to_share().map(|share| format!("{} {}", sides.to_name(), percent(share))).unwrap_or_default(),
            say,
            glyph,
            tone: words.tone,
            asked: unanswered(facts, now),
            next: next(facts, &words.detail, now),
            origin: if about_rollout { origin(facts, now) } else { String::new() },
            lead,
            why,
            rail: if about_rollout { rail(facts, now) } else { Vec::new() },
            gates: checks::gates(facts, &sides, now),
            checks: if about_rollout { checks } else { Vec::new() },
            total: total.filter(|_| about_rollout),
            checks_since: if is_active {
                format!("since {}", checks::since(facts, now))
            } else {
                "last step".to_owned()
            },
            paid: if about_rollout { paid(facts, now) } else { Vec::new() },
            bar: sides.bar(shown.filter(|_| is_active).and_then(|shown| shown.share)),
            servers: servers(facts),
            nodes_say: if all == 0 {
                "No node has it".to_owned()
            } else {
                format!("{has} of {} {} it", counted(all, "node"), if all == 1 { "has" } else { "have" })
            },
            nodes,
            nodes_more,
            moves,
            moves_more,
            takes_back: facts.state().is_some_and(|state| state.mode != Mode::Watch),
            moves_itself: facts.state().is_some_and(|state| state.mode == Mode::Auto),
            is_split: facts.document.as_ref().is_some_and(|view| view.split.is_some()),
            sides,
        }
    }
}

impl Detail {
    /// Whether the rollout has ended, so that the checks are what it saw.
    pub const fn is_over(&self) -> bool {
        self.gates.is_empty()
    }

    /// Whether the evidence takes it back, and does not only tell.
    pub const fn takes_back(&self) -> bool {
        self.takes_back
    }

    /// The class of `from`.
    pub fn from_hue(&self) -> &'static str {
        self.sides.from.as_ref().map_or("", |side| side.hue.class())
    }

    /// The class of `to`.
    pub fn to_hue(&self) -> &'static str {
        self.sides.to.as_ref().map_or("", |side| side.hue.class())
    }

    /// What the numbers beside the servers are.
    pub const fn unit(&self) -> &'static str {
        if self.is_split { "Share" } else { "Weight" }
    }
}

fn headline(facts: &Facts, sides: &Sides, title: &str, now: Timestamp) -> String {
    let Some(state) = facts.state() else { return title.to_owned() };
    if facts.is_last_word() {
        let at = when(state.since, now);
        match state.phase {
            Phase::Done => return format!("Done: {} has {}", sides.to_name(), percent(state.share.percent())),
            Phase::RolledBack => {
                return match ended_by(facts) {
                    Some(by) => format!("Rolled back by {by} at {at}"),
                    None => format!("Rolled back by itself at {at}"),
                };
            }
            _ => {}
        }
    }
    let is_quiet = facts.fresh(now).is_some_and(|shown| shown.evidence < 2.0 && shown.requests().0 > 0);
    if state.phase == Phase::Bake && title.starts_with("Bakes") && is_quiet {
        return format!("{title}, and {} is no worse", sides.to_name());
    }
    title.to_owned()
}

/// What comes next.
fn next(facts: &Facts, detail: &str, now: Timestamp) -> String {
    let Some(rollout) = facts.rollout.as_ref().filter(|_| facts.is_active()) else {
        return match facts.document.as_ref().filter(|_| detail.is_empty()) {
            Some(_) if facts.history.is_empty() => "Nobody moved it yet.".to_owned(),
            Some(_) => moved_last(facts, now),
            None => sentence(detail),
        };
    };
    let Some(state) = &rollout.state else { return sentence(detail) };
    let shown = facts.fresh(now).filter(|shown| shown.seq == state.seq);
    let following = rollout.spec.next_step(state.share).and_then(|next| rollout.spec.step(next));
    let goes =
        following.map_or_else(|| "It is done".to_owned(), |step| format!("Goes to {}", percent(step.share.percent())));
    match (state.phase, shown) {
        (Phase::Bake, Some(shown)) if state.mode == Mode::Auto && shown.holding.is_empty() => {
            let left = shown.needed.saturating_sub(shown.good);
            let at = Timestamp::from_seconds(now.seconds() + left);
            format!("{goes} at about {}, after {} more good seconds.", &super::words::time(at)[..5], clock(left))
        }
        (Phase::Bake, Some(_)) if state.mode == Mode::Auto => sentence(detail),
        (Phase::Preflight, Some(shown)) => {
            let first = format!("{goes} after {} of data", length(shown.needed));
            shown.holding.first().map_or_else(|| format!("{first}."), |held| format!("{first}. Now: {}.", held.text))
        }
        _ => sentence(detail),
    }
}

fn moved_last(facts: &Facts, now: Timestamp) -> String {
    let Some(entry) = facts.history.first() else { return String::new() };
    let by = entry.by.clone().unwrap_or_else(|| "Somebody".to_owned());
    let at = entry.at.map(|at| format!(" at {}", when(at, now))).unwrap_or_default();
    let why = entry.why.as_ref().map(|why| format!(": \u{201c}{why}\u{201d}")).unwrap_or_default();
    format!("{by} moved it last{at}{why}.")
}

/// Plan, mode, who started it, why.
fn origin(facts: &Facts, now: Timestamp) -> String {
    let Some(spec) = facts.spec() else { return String::new() };
    let mode = facts.state().map_or(spec.mode, |state| state.mode);
    let steps = spec.plan.steps.iter().map(|step| super::words::number(step.share.percent())).collect::<Vec<_>>();
    let plan = if steps.is_empty() { String::new() } else { format!("Plan {}\u{a0}%, ", steps.join(", ")) };
    let why = spec.reason.as_ref().map(|why| format!(": \u{201c}{why}\u{201d}")).unwrap_or_default();
    let text = format!("{plan}mode {}, started by {} at {}{why}.", mode.as_str(), spec.by, when(spec.at, now));
    sentence(&text)
}

/// What it saw, where it went back: the counts, and the words of the controller.
fn lead(facts: &Facts, sides: &Sides) -> (String, String) {
    let (Some(state), Some(rollout)) = (facts.state(), &facts.rollout) else { return Default::default() };
    if !matches!(state.phase, Phase::RollingBack | Phase::RolledBack) {
        return Default::default();
    }
    let why = state.why.as_ref().map(|why| sentence(why)).unwrap_or_default();
    let shown = rollout.shown.as_ref().and_then(|shown| shown.checks.get(ERRORS));
    let counts = shown.filter(|check| check.to.0 > 0 && !state.aborted).map(|check| {
        let ((n, e), (m, f)) = (check.to, check.from);
        let (to, from) = (sides.to_name(), sides.from_name());
        let (n, e, m, f) = (count(n), count(e), count(m), count(f));
        let rates = (rate(check.to.1, check.to.0), rate(check.from.1, check.from.0));
        format!(
            "In the last step {to} failed {e} of {n} requests ({}). Beside it, {from} failed {f} of {m} ({}).",
            rates.0, rates.1
        )
    });
    let late = if state.late.is_empty() {
        String::new()
    } else {
        format!(" Not applied on {}.", names(state.late.iter().map(weightd_core::fleet::NodeName::as_str)))
    };
    match counts {
        Some(counts) => (format!("{counts}{late}"), why),
        None => (format!("{why}{late}"), String::new()),
    }
}

/// The steps of the plan.
fn rail(facts: &Facts, now: Timestamp) -> Vec<Station> {
    let Some(rollout) = &facts.rollout else { return Vec::new() };
    let (spec, state) = (&*rollout.spec, rollout.state.as_deref());
    let mode = state.map_or(spec.mode, |state| state.mode);
    if mode != Mode::Auto || spec.plan.steps.is_empty() {
        return Vec::new();
    }
    let mut stations: Vec<_> = (1..)
        .zip(&spec.plan.steps)
        .map(|(at, step)| {
            let share = percent(step.share.percent());
            let bake = length(step.bake.seconds());
            let station =
                |class, glyph, word, note: String, is_now| Station { class, glyph, word, share, note, is_now };
            match state.map(|state| place(spec, state, at)) {
                Some(Place::Past) => {
                    let note = raised_at(facts, at)
                        .map_or_else(|| format!("baked {bake}"), |at| format!("{}, baked {bake}", when(at, now)));
                    station("past", "check", "done", note, false)
                }
                Some(Place::Now) => station("", "bake", "now", now_note(facts, now, &bake), true),
                Some(Place::Left) => station("", "back", "went back", "went back from here".to_owned(), true),
                _ if step.approve => {
                    station("", "person", "asks first", format!("asks for approval, bakes {bake}"), false)
                }
                _ => station("", "steady", "to come", format!("bakes {bake}"), false),
            }
        })
        .collect();
    let done = state.is_some_and(|state| state.phase == Phase::Done);
    stations.push(Station {
        class: if done { "past" } else { "" },
        glyph: if done { "check" } else { "eye" },
        word: if done { "done" } else { "to come" },
        share: "Done".to_owned(),
        note: state
            .filter(|_| done)
            .map_or_else(|| "nothing moves by itself after it".to_owned(), |state| when(state.since, now)),
        is_now: false,
    });
    stations
}

enum Place {
    Past,
    Now,
    Left,
    Ahead,
}

/// Where a step stands, counted from 1.
fn place(spec: &Spec, state: &State, at: u32) -> Place {
    let share = spec.step(at).map(|step| step.share);
    match state.phase {
        Phase::Done => Place::Past,
        Phase::RollingBack | Phase::RolledBack if state.step == at => Place::Left,
        Phase::Shift | Phase::Bake if state.step == at => Place::Now,
        Phase::Queued | Phase::Preflight => Place::Ahead,
        _ if at < state.step || share.is_some_and(|share| share < state.share) => Place::Past,
        _ => Place::Ahead,
    }
}

fn now_note(facts: &Facts, now: Timestamp, bake: &str) -> String {
    let Some(state) = facts.state() else { return String::new() };
    let since = format!("since {}", when(state.since, now));
    match facts.fresh(now).filter(|shown| shown.seq == state.seq) {
        Some(shown) if state.phase == Phase::Bake => {
            format!("{since}, baked {} of {}", clock(shown.good.min(shown.needed)), clock(shown.needed))
        }
        _ => format!("{since}, bakes {bake}"),
    }
}

/// When a step was raised, as the log says.
fn raised_at(facts: &Facts, step: u32) -> Option<Timestamp> {
    let id = &facts.state()?.id;
    let mut raised = facts.log.iter().filter(|event| event.rollout == *id && event.what == "advanced");
    raised.nth(usize::try_from(step.checked_sub(1)?).ok()?).map(|event| event.at)
}

fn paid(facts: &Facts, now: Timestamp) -> Vec<String> {
    let Some(shown) = facts.rollout.as_ref().and_then(|rollout| rollout.shown.as_ref()) else { return Vec::new() };
    let sentence = |paid: &weightd_core::rollout::shown::PaidShown| {
        let at = Timestamp::from_seconds(paid.block * weightd_core::judge::BLOCK_SECONDS);
        let number = super::words::number;
        format!(
            "{}: {} showed {}, {} were allowed",
            when(at, now),
            paid.check,
            number(paid.observed),
            number(paid.allowed)
        )
    };
    shown.paid.iter().rev().map(sentence).collect()
}

/// What the document has.
fn servers(facts: &Facts) -> Vec<(String, String)> {
    let Some(view) = &facts.document else { return Vec::new() };
    if let Some(split) = &view.split {
        let row = |(pattern, share): (&weightd_core::desired::Pattern, &weightd_core::desired::PatternShare)| {
            (pattern.as_str().to_owned(), percent(share.percent()))
        };
        return split.shares().iter().map(row).collect();
    }
    view.weights.iter().flatten().map(|(server, weight)| (server.to_string(), weight.to_string())).collect()
}

/// A sentence on the nodes after a write: how many have the document with the index `written`, and who has not. Without
/// `names_nodes` they are not named.
pub fn reach(facts: &Facts, names_nodes: bool, written: u64) -> String {
    match facts.index().cmp(&written) {
        Ordering::Less => "It is not known yet which nodes have it.".to_owned(),
        Ordering::Equal if names_nodes => applied(facts),
        Ordering::Equal => applied(&facts.without_node_names()),
        Ordering::Greater => "Another change was written since.".to_owned(),
    }
}

fn applied(facts: &Facts) -> String {
    let (has, all) = facts.has();
    if all == 0 {
        return "No node reports this application.".to_owned();
    }
    let out: Vec<_> = facts.nodes.iter().filter(|node| !matches!(node.stand, Stand::Has | Stand::Aside)).collect();
    let first = if has == all && all > 1 {
        format!("All {all} nodes have it.")
    } else {
        format!("{has} of {} have it.", counted(all, "node"))
    };
    if out.is_empty() {
        return first;
    }
    format!("{first} Not yet: {}.", names(out.iter().map(|node| node.name.as_str())))
}

#[cfg(test)]
mod tests;
