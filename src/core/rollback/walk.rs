//! The way through the history, from the newest entry to the target.

use super::{
    Ask, Asked, Decision, Reason, Refused, State, Target,
    express::{express, shown},
    is_rest,
    shares::{Move, TOLERANCE, gives_less, is_in, moved, share},
};
use crate::{
    desired::Pattern,
    history::{Entry, Way},
};

/// The most states to choose from.
const MOST_STATES: usize = 3;

/// What one change moved: from the entry at `at + 1` to that at `at`.
fn moved_at(history: &[Entry], at: usize) -> Option<Move> {
    moved(&history.get(at + 1)?.to, &history.get(at)?.to)
}

/// The newest entry whose change moved something; the newer ones are the same shares in other numbers.
pub(super) fn newest_change(history: &[Entry]) -> usize {
    let mut at = 0;
    while moved_at(history, at).is_some_and(|moved| moved.deltas.is_empty()) {
        at += 1;
    }
    at
}

/// The rollback whose result the present state is, if it is one: at `change`, or newer with the same shares.
fn present_rollback(history: &[Entry], change: usize) -> Option<usize> {
    (0..=change).find(|at| history.get(*at).is_some_and(|entry| entry.way == Way::Rollback))
}

fn already(history: &[Entry], at: usize) -> Decision {
    let entry = history.get(at);
    Decision::Refuse(Refused::AlreadyRolledBack {
        by: entry.and_then(|entry| entry.by.clone()),
        at: entry.and_then(|entry| entry.at),
    })
}

pub(super) fn one_step(history: &[Entry], asked: &Asked) -> Decision {
    let change = newest_change(history);
    if change + 1 >= history.len() {
        return Decision::Refuse(Refused::NothingBefore);
    }
    match present_rollback(history, change) {
        Some(at) if !asked.again => already(history, at),
        _ => as_asked(history, change + 1),
    }
}

pub(super) fn to_index(history: &[Entry], index: u64) -> Decision {
    match history.iter().position(|entry| entry.index == Some(index)) {
        None => Decision::Refuse(Refused::NoSuchEntry(index)),
        Some(at) => as_asked(history, at),
    }
}

/// The entry that a person names, whatever it moves.
fn as_asked(history: &[Entry], at: usize) -> Decision {
    let raised = raised_since(history, at);
    match target(history, at, raised) {
        None => Decision::Refuse(Refused::NotWritable),
        Some(target) if history.first().is_some_and(|present| present.to == target.document) => {
            Decision::Refuse(Refused::Unchanged)
        }
        Some(target) => Decision::Target(target),
    }
}

/// What has more now than in the entry at this position.
fn raised_since(history: &[Entry], at: usize) -> Vec<Pattern> {
    let (Some(present), Some(then)) = (history.first(), history.get(at)) else { return Vec::new() };
    moved(&then.to, &present.to).map(|moved| moved.gainers().cloned().collect()).unwrap_or_default()
}

pub(super) fn to_start_of_shift(history: &[Entry], asked: &Asked) -> Decision {
    let change = newest_change(history);
    if change + 1 >= history.len() {
        return Decision::Refuse(Refused::NothingBefore);
    }
    let rollback = present_rollback(history, change);
    let given = !asked.off.is_empty();
    let (mut at, raised) = match rollback {
        Some(at) if !asked.again && !given => return already(history, at),
        None if !given => match moved_at(history, change) {
            None => return ask(history, Reason::NotComparable, candidates(history)),
            Some(moved) => (change + 1, moved.gainers().cloned().collect::<Vec<_>>()),
        },
        _ => {
            let raised = if given { asked.off.clone() } else { raised_by(history, rollback) };
            let Some(from) = behind_rollbacks(history, rollback.unwrap_or(change)) else {
                return ask(history, Reason::TargetDropped, candidates(history));
            };
            match first_with_less(history, from, &raised) {
                None => return Decision::Refuse(Refused::NothingLess),
                Some(at) => (at, raised),
            }
        }
    };

    let mut turn = None;
    while at + 1 < history.len() && !is_rest(history, at) {
        if history.get(at + 1).is_some_and(|entry| entry.anchor) {
            at += 1;
            break;
        }
        let Some(moved) = moved_at(history, at) else { break };
        if moved.came_or_went.iter().any(|key| !is_in(&raised, key)) {
            break;
        }
        let gained_inside = moved.gainers().all(|key| is_in(&raised, key));
        let lost_inside = moved.losers().any(|key| is_in(&raised, key));
        let all_inside = moved.deltas.keys().all(|key| is_in(&raised, key));
        if (gained_inside && !lost_inside) || all_inside {
            at += 1;
            continue;
        }
        if lost_inside && moved.gainers().all(|key| !is_in(&raised, key)) {
            turn = Some(moved);
        }
        break;
    }
    conclude(history, at, raised, turn.filter(|_| !given), given)
}

/// The raised side of a rollback in the history.
fn raised_by(history: &[Entry], rollback: Option<usize>) -> Vec<Pattern> {
    rollback.and_then(|at| history.get(at)).map(|entry| entry.raised.clone()).unwrap_or_default()
}

/// The first position from `at` on that is no rollback, where each rollback stands for the entry that it went back to.
/// None where that entry is gone.
fn behind_rollbacks(history: &[Entry], mut at: usize) -> Option<usize> {
    while let Some(entry) = history.get(at)
        && entry.way == Way::Rollback
    {
        // Only further back, so that it ends whatever the entries say.
        let target = entry.target?;
        let older = history.iter().skip(at + 1).position(|entry| entry.index == Some(target))?;
        at += 1 + older;
    }
    Some(at)
}

/// The first position from `at` on whose state gives the side less than the present one does.
fn first_with_less(history: &[Entry], mut at: usize, raised: &[Pattern]) -> Option<usize> {
    let present = history.first()?;
    while !gives_less(&history.get(at)?.to, &present.to, raised) {
        if at > 0 && is_rest(history, at) {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// The last checks of what the walk found.
fn conclude(history: &[Entry], at: usize, raised: Vec<Pattern>, turn: Option<Move>, given: bool) -> Decision {
    let (Some(present), Some(found)) = (history.first(), history.get(at)) else {
        return Decision::Refuse(Refused::NothingBefore);
    };
    if !gives_less(&found.to, &present.to, &raised) {
        return ask(history, Reason::NotLess, candidates(history));
    }
    if let Some(turn) = turn {
        return ask(history, Reason::Turned, after_turn(history, at, &turn));
    }
    let Some(target) = target(history, at, raised) else {
        return ask(history, Reason::NotExpressible, candidates(history));
    };
    // The same again in the terms of the present document, where names and patterns are alike.
    let less = gives_less(&target.document, &present.to, &target.raised);
    let each = given || no_raised_server_rises(&target, present);
    if less && each { Decision::Target(target) } else { ask(history, Reason::NotLess, candidates(history)) }
}

/// Whether no server of the raised side would get more than it has now.
fn no_raised_server_rises(target: &Target, present: &Entry) -> bool {
    let (Some(then), Some(now)) = (share(&target.document), share(&present.to)) else { return false };
    then.of
        .iter()
        .filter(|(key, _)| is_in(&target.raised, key))
        .all(|(key, share)| *share <= now.of.get(key).copied().unwrap_or(0.0) + TOLERANCE)
}

fn target(history: &[Entry], at: usize, raised: Vec<Pattern>) -> Option<Target> {
    let (present, found) = (history.first()?, history.get(at)?);
    let document = express(&found.to, &present.to, &raised)?;
    Some(Target { document, position: at, index: found.index, at: found.at, raised })
}

fn state(history: &[Entry], at: usize, raised: Vec<Pattern>, off: Vec<Pattern>) -> Option<State> {
    let target = target(history, at, raised)?;
    let shares = shown(&target.document);
    Some(State { shares, by: history.get(at)?.by.clone(), off, target })
}

/// The question, or a refusal where there is nothing to choose.
fn ask(history: &[Entry], reason: Reason, states: Vec<State>) -> Decision {
    let mut chosen: Vec<State> = Vec::new();
    for state in states {
        let known = history.first().is_some_and(|present| present.to == state.target.document)
            || chosen.iter().any(|other| other.target.document == state.target.document);
        if !known && chosen.len() < MOST_STATES {
            chosen.push(state);
        }
    }
    if chosen.is_empty() {
        Decision::Refuse(Refused::NothingBefore)
    } else {
        Decision::Ask(Ask { reason, states: chosen })
    }
}

/// The newest states that have shares, and other ones than now.
fn candidates(history: &[Entry]) -> Vec<State> {
    let differs = |at: &usize| {
        let (Some(present), Some(then)) = (history.first(), history.get(*at)) else { return false };
        share(&then.to).is_some() && moved(&then.to, &present.to).is_none_or(|moved| !moved.deltas.is_empty())
    };
    (1..history.len())
        .filter(differs)
        .filter_map(|at| state(history, at, raised_since(history, at), Vec::new()))
        .collect()
}

/// What can be meant where the shift turned: the state at the turn, and what takes traffic off either side.
fn after_turn(history: &[Entry], at: usize, turn: &Move) -> Vec<State> {
    let mut states: Vec<State> = state(history, at, raised_since(history, at), Vec::new()).into_iter().collect();
    let sides = [turn.losers().cloned().collect::<Vec<_>>(), turn.gainers().cloned().collect()];
    for off in sides {
        let asked = Asked { off: off.clone(), ..Asked::default() };
        if let Decision::Target(target) = to_start_of_shift(history, &asked) {
            match states.iter_mut().find(|state| state.target.position == target.position) {
                Some(state) if state.off.is_empty() => state.off = off,
                Some(_) => {}
                None => states.extend(state(history, target.position, target.raised, off)),
            }
        }
    }
    states
}
