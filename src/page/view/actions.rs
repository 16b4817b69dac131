//! What a person can do with an application now. Each action names what will change.

use weightd_core::{
    fleet::Frozen,
    model::Timestamp,
    rollback::{Asked, Decision, Refused, Target, decide},
    rollout::{Latch, Mode, Phase, Spec, State},
};

use super::{
    facts::Facts,
    sides::{Sides, shares_of, sum},
    words::{counted, length, number, percent, when},
};

/// What is said where nobody knows which users stay.
const PINNED: &str = "Users whom HAProxy pins by a cookie or a table stay on their side until they leave it.";

/// What a token may do with one application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct May {
    /// Write the document.
    pub weights: bool,
    /// Write the history.
    pub history: bool,
    /// Start a rollout.
    pub spec: bool,
    /// Pause, resume, promote, change the mode, end.
    pub request: bool,
    /// Approve.
    pub approval: bool,
    /// Freeze this application.
    pub freeze: bool,
}

/// One button.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its class: `pause`, `back` or nothing.
    pub class: &'static str,
    /// Its words.
    pub label: String,
    /// Its glyph; empty for none.
    pub glyph: &'static str,
    /// `go`, `stop` or nothing.
    pub style: &'static str,
    /// Its access key; empty for none.
    pub key: &'static str,
    /// What it opens.
    pub opens: Opens,
}

/// What a button opens.
#[derive(Debug, Clone, PartialEq)]
pub enum Opens {
    /// A page below that of the application.
    Page(&'static str),
    /// A confirmation.
    Panel(Box<Panel>),
    /// Nothing: it says why.
    Text(String),
}

/// A confirmation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// Where its form goes, below the page of the application.
    pub verb: &'static str,
    /// What it asks.
    pub title: String,
    /// What will happen.
    pub lines: Vec<String>,
    /// What a person should know.
    pub small: Vec<String>,
    /// The name of the choices; empty for none.
    pub choice: &'static str,
    /// The choices: value, words, more words, whether it is chosen.
    pub choices: Vec<(String, String, String, bool)>,
    /// The words of the button: the result.
    pub button: String,
    /// `go` or `stop`.
    pub style: &'static str,
    /// Whether a reason must be given.
    pub needs_reason: bool,
    /// What the person saw: names and values.
    pub hidden: Vec<(&'static str, String)>,
}

impl Panel {
    fn new(verb: &'static str, title: impl Into<String>, button: impl Into<String>, seen: &Seen) -> Self {
        Self { verb, title: title.into(), button: button.into(), style: "go", hidden: seen.hidden(), ..Self::default() }
    }

    fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// What else the person saw.
    fn saw(mut self, name: &'static str, value: u64) -> Self {
        self.hidden.push((name, value.to_string()));
        self
    }

    fn small(mut self, small: impl Into<String>) -> Self {
        self.small.push(small.into());
        self
    }
}

/// What the person saw, for check-and-set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    document: u64,
    rollout: String,
    seq: u64,
}

impl Seen {
    fn hidden(&self) -> Vec<(&'static str, String)> {
        let mut hidden = vec![("seen", self.document.to_string())];
        if !self.rollout.is_empty() {
            hidden.push(("rollout", self.rollout.clone()));
            hidden.push(("at", self.seq.to_string()));
        }
        hidden
    }
}

impl Action {
    fn new(label: impl Into<String>, glyph: &'static str, opens: Opens) -> Self {
        Self { class: "", label: label.into(), glyph, style: "", key: "", opens }
    }

    fn panel(label: impl Into<String>, glyph: &'static str, panel: Panel) -> Self {
        Self::new(label, glyph, Opens::Panel(Box::new(panel)))
    }

    fn go(self) -> Self {
        Self { style: "go", ..self }
    }
}

/// What a person can do now. Roll back is always there, and always last.
pub fn actions(facts: &Facts, may: May, now: Timestamp) -> Vec<Action> {
    let sides = Sides::of(facts.document.as_ref(), facts.spec());
    let seen = Seen {
        document: facts.index(),
        rollout: facts.spec().map(|spec| spec.id.clone()).unwrap_or_default(),
        seq: facts.state().map_or(0, |state| state.seq),
    };
    let mut actions = Vec::new();
    match (facts.spec(), facts.state()) {
        // Where it stands is not known, so there is nothing to start, steer or withdraw.
        _ if facts.unreadable().is_some() => {}
        (Some(spec), Some(state)) if !state.phase.is_final() => {
            actions.extend(rollout(spec, state, &sides, may, &seen));
        }
        _ if may.spec && may.request && !facts.is_active() => {
            let again = if facts.state().is_some() { "Start again…" } else { "Start a rollout…" };
            actions.push(Action::new(again, "move", Opens::Page("start")).go());
        }
        _ => {}
    }
    if may.weights {
        actions.push(Action::new("Set weights…", "", Opens::Page("weights")));
    }
    if may.freeze {
        actions.push(freeze(facts, &seen));
    }
    actions.push(back(facts, &sides, may, &seen, now));
    actions
}

/// The actions of a rollout that is under way, without going back.
fn rollout(spec: &Spec, state: &State, sides: &Sides, may: May, seen: &Seen) -> Vec<Action> {
    let to = sides.to_name();
    let share = percent(state.share.percent());
    let mut actions = Vec::new();
    let next = spec.next_step(state.share);
    let step = next.and_then(|next| spec.step(next));
    if may.approval
        && state.mode == Mode::Auto
        && state.phase != Phase::RollingBack
        && let (Some(next), Some(step)) = (next, step.filter(|step| step.approve))
        && state.approved != Some(next)
    {
        let after = percent(step.share.percent());
        let panel = Panel::new("approve", format!("{to} from {share} to {after}?"), format!("Approve {after}"), seen)
            .line(format!(
                "It goes there when the bake is over and nothing else holds, and bakes {}.",
                length(step.bake.seconds())
            ));
        actions.push(Action::panel("Approve…", "check", panel).go());
    }
    if !may.request || state.phase == Phase::RollingBack {
        return actions;
    }
    // With another spec it does not go on; the controller refuses it.
    if (state.paused.is_some() || state.latched.is_some()) && state.latched != Some(Latch::SpecChanged) {
        let panel = Panel::new("resume", format!("Go on at {share}?"), format!("Resume at {share}"), seen)
            .line("It goes on with its plan. What the checks saw so far still counts.")
            .small("After a stop for a worse side, the evidence starts anew.");
        actions.push(Action::panel("Resume…", "move", panel).go());
    }
    if state.paused.is_none() {
        let panel = Panel::new("pause", format!("Stay at {share}?"), format!("Pause at {share}"), seen)
            .line(format!("{to} stays at {share} until somebody resumes it."))
            .line(if state.mode == Mode::Watch {
                "It goes on to tell what it sees."
            } else {
                "It still goes back by itself when the new side is worse."
            });
        actions.push(Action { class: "pause", key: "p", ..Action::panel("Pause…", "hold", panel) });
    }
    if state.mode == Mode::Auto && state.phase == Phase::Bake && state.promoted != Some(state.step) {
        let goes = step
            .map_or_else(|| "it is done".to_owned(), |step| format!("{to} goes to {}", percent(step.share.percent())));
        let panel = Panel::new("promote", "Skip the rest of this bake?", "Promote", seen)
            .line(format!("The bake counts as full: {goes} when nothing else holds."))
            .small("An approval, a window, a freeze and missing data still hold. What the checks saw still counts.");
        actions.push(Action::panel("Promote…", "move", panel));
    }
    let choice = |mode: Mode, text: &str| {
        (mode.as_str().to_owned(), format!("Mode {}", mode.as_str()), text.to_owned(), mode == state.mode)
    };
    let auto = spec.plan.steps.is_empty();
    let mut choices = vec![
        choice(Mode::Auto, "It moves the share, and takes it back when the new side is worse."),
        choice(Mode::Guard, "You move the share, it takes it back when the new side is worse."),
        choice(Mode::Watch, "You move the share, it only tells."),
    ];
    if auto {
        choices.remove(0);
    }
    let panel = Panel::new("mode", "What may the rollout do?", "Set the mode", seen);
    actions.push(Action::panel("Mode…", "eye", Panel { choice: "mode", choices, ..panel }));
    actions
}

fn freeze(facts: &Facts, seen: &Seen) -> Action {
    let all = facts.frozen_all.as_ref().map(super::row::frozen_by);
    if let Some(frozen) = &facts.frozen {
        let title = if all.is_some() { "Remove its own freeze?" } else { "Allow changes again?" };
        let panel =
            Panel::new("unfreeze", title, "Unfreeze", seen).line(frozen_line(frozen)).saw("freeze", facts.freeze);
        let panel = match all {
            Some(all) => panel.line(format!("All applications are frozen {all}. That freeze stays.")),
            None => panel,
        };
        return Action::panel("Unfreeze…", "lock", panel);
    }
    let panel = Panel::new("freeze", format!("Stop all changes of {}?", facts.name), "Freeze", seen)
        .line("Nobody can change its weights, and no rollout goes on, until somebody unfreezes it.")
        .small("A roll back passes, and a rollout still goes back by itself.")
        .saw("freeze", facts.freeze);
    let panel = match all {
        Some(all) => {
            panel.small(format!("All applications are frozen {all} now. This freeze stays when that one ends."))
        }
        None => panel,
    };
    Action::panel("Freeze…", "lock", Panel { needs_reason: true, ..panel })
}

/// A sentence on a freeze.
pub fn frozen_line(frozen: &Frozen) -> String {
    format!("It is frozen {}.", super::row::frozen_by(frozen))
}

/// The only way back: of a rollout, or of the last shift.
fn back(facts: &Facts, sides: &Sides, may: May, seen: &Seen, now: Timestamp) -> Action {
    let there_is = sides.to_share().is_some_and(|share| share > 0.0) || facts.is_active();
    let style = if there_is { "stop" } else { "" };
    let opens = if facts.is_active() && facts.unreadable().is_none() && !is_foreign(facts, sides) {
        of_rollout(facts, sides, may, seen, now)
    } else {
        of_document(facts, sides, may, seen, now)
    };
    let style = if matches!(opens, Opens::Text(_)) { "" } else { style };
    Action { class: "back", style, key: "r", ..Action::new("Roll back…", "back", opens) }
}

/// Whether somebody else wrote the weights of a rollout in mode auto, and no controller has ended it yet: its end would not
/// overwrite them, so going back is that of the document. The same as in [`weightd_core::rollout::abort::abort`].
fn is_foreign(facts: &Facts, sides: &Sides) -> bool {
    let Some(state) = facts.state().filter(|state| state.mode == Mode::Auto && facts.spec().is_some()) else {
        return false;
    };
    let same = |share: f64| (share - state.share.percent()).abs() < 0.05;
    let has_moved = matches!(state.phase, Phase::Shift | Phase::Bake);
    has_moved && state.document != Some(facts.index()) && !sides.to_share().is_some_and(same)
}

fn of_rollout(facts: &Facts, sides: &Sides, may: May, seen: &Seen, now: Timestamp) -> Opens {
    if !may.request {
        return Opens::Text("Your token may not end this rollout.".to_owned());
    }
    let (to, from) = (sides.to_name(), sides.from_name());
    let Some(state) = facts.state() else {
        let panel = Panel::new("abort", "Withdraw this rollout?", "Withdraw it", seen)
            .line("No controller has begun it, and nothing was moved.");
        return Opens::Panel(Box::new(Panel { style: "stop", ..panel }));
    };
    if state.phase == Phase::RollingBack {
        return Opens::Text(format!("It goes back already: to {to} {}.", percent(state.back.percent())));
    }
    let share = sides.to_share().unwrap_or_default();
    let back = state.back.percent();
    if share <= back {
        let panel = Panel::new("abort", "End this rollout?", "End the rollout", seen)
            .line(format!("{to} has {}, as at its start: nothing is moved.", percent(share)));
        return Opens::Panel(Box::new(Panel { style: "stop", ..panel }));
    }
    let started = facts.spec().map_or_else(String::new, |spec| when(spec.at, now));
    let title = format!("Back to {from} {}, {to} {}?", percent(100.0 - back), percent(back));
    let panel = Panel::new("abort", title, format!("Roll back to {from} {}", percent(100.0 - back)), seen)
        .line(format!("That is the state of {started}, before this rollout. {to} has {} now.", percent(share)))
        .line(format!("It changes {}, at once. No freeze stops it.", counted(facts.has().1, "node")))
        .small(stays(facts, to, now));
    Opens::Panel(Box::new(Panel { style: "stop", ..panel }))
}

/// Who stays on the new side `to` when it goes back: what HAProxy has in the backend, where the leader says it.
fn stays(facts: &Facts, to: &str, now: Timestamp) -> String {
    let shown = facts.rollout.as_ref().and_then(|rollout| rollout.shown.as_ref()).filter(|shown| shown.is_fresh(now));
    match shown.and_then(|shown| shown.stays.as_ref()) {
        Some(users) => format!("May stay on {to} until they leave it: {users}."),
        None => PINNED.to_owned(),
    }
}

fn of_document(facts: &Facts, sides: &Sides, may: May, seen: &Seen, now: Timestamp) -> Opens {
    if !may.weights {
        return Opens::Text("Your token may not write the weights of this application.".to_owned());
    }
    match decide(&facts.history, &Asked::default()) {
        Decision::Target(target) => {
            let began = target.at.map_or_else(
                || "That is the state before the present shift.".to_owned(),
                |at| format!("That is the state of {}, where the present shift began.", when(at, now)),
            );
            let title = format!("Back to {}?", shares(&target, sides));
            Opens::Panel(Box::new(to_target(facts, &target, sides, seen, title).line(began)))
        }
        Decision::Ask(ask) if !ask.states.is_empty() => {
            // None is chosen beforehand: what is written must be what a person wanted.
            let choices = ask.states.iter().filter_map(|state| {
                let (index, at) = (state.target.index?, state.target.at);
                let by = state.by.as_deref().unwrap_or("somebody");
                let of = at.map_or_else(String::new, |at| format!("The state of {}, by {by}.", when(at, now)));
                Some((index.to_string(), shares(&state.target, sides), of, false))
            });
            let panel = Panel::new("roll-back", "Which state?", "Roll back to it", seen)
                .line(super::row::sentence_of(&ask.reason.to_string()));
            Opens::Panel(Box::new(Panel { style: "stop", choice: "to", choices: choices.collect(), ..panel }))
        }
        Decision::Ask(ask) => Opens::Text(format!("Nothing to roll back: {}.", ask.reason)),
        Decision::Refuse(reason) => further(facts, sides, seen, &reason),
    }
}

/// The panel that goes back to `target`.
fn to_target(facts: &Facts, target: &Target, sides: &Sides, seen: &Seen, title: String) -> Panel {
    let mut panel = Panel::new("roll-back", title, format!("Roll back to {}", shares(target, sides)), seen)
        .line(format!("It changes {}, at once. No freeze stops it.", counted(facts.has().1, "node")))
        .small(PINNED);
    panel.hidden.extend(target.index.map(|index| ("target", index.to_string())));
    Panel { style: "stop", ..panel }
}

/// After a rollback that left some traffic on the new side: the way further back, if there is one.
fn further(facts: &Facts, sides: &Sides, seen: &Seen, reason: &Refused) -> Opens {
    let again = Asked { again: true, ..Asked::default() };
    match (reason, decide(&facts.history, &again)) {
        (Refused::AlreadyRolledBack { .. }, Decision::Target(target)) => {
            let title = format!("Further back to {}?", shares(&target, sides));
            let mut panel = to_target(facts, &target, sides, seen, title).line(super::row::sentence_of(&format!(
                "{reason}, and some traffic is still on the side that had more"
            )));
            panel.hidden.push(("again", "yes".to_owned()));
            Opens::Panel(Box::new(panel))
        }
        _ => Opens::Text(format!("Nothing to roll back: {reason}.")),
    }
}

/// `blue 100 %, green 0 %`.
fn shares(target: &Target, sides: &Sides) -> String {
    let Some(shares) = shares_of(&target.document) else {
        return "the weights that HAProxy is configured with".to_owned();
    };
    let of = |side: &super::sides::Side| format!("{} {}", side.name, percent(sum(&shares, &side.patterns)));
    let named: Vec<_> = sides.from.iter().chain(&sides.to).map(of).collect();
    if named.is_empty() {
        return shares
            .iter()
            .map(|(name, share)| format!("{name} {}\u{a0}%", number(*share)))
            .collect::<Vec<_>>()
            .join(", ");
    }
    named.join(", ")
}

/// Which right is missing, for one line below the buttons; empty if none is.
pub fn missing(may: May, root: &str, name: &str) -> String {
    let rights = [
        (may.weights, "set weights and roll back", "weights"),
        (may.history, "note who moved it", "history"),
        (may.spec && may.request, "start and steer rollouts", "rollouts/spec"),
        (may.approval, "approve steps", "rollouts/approval"),
    ];
    let missing: Vec<_> = rights.iter().filter(|(may, ..)| !may).collect();
    if missing.is_empty() {
        return String::new();
    }
    let what: Vec<_> = missing.iter().map(|(_, what, _)| *what).collect();
    let rules = missing.iter().flat_map(|(_, _, kind)| match *kind {
        "rollouts/spec" => vec!["rollouts/spec", "rollouts/request"],
        kind => vec![kind],
    });
    let rules: Vec<_> = rules.map(|kind| format!("key \"{root}{kind}/{name}\" {{ policy = \"write\" }}")).collect();
    format!("Your token may not {}. It needs {}.", what.join(", or "), rules.join(" "))
}

#[cfg(test)]
mod tests;
