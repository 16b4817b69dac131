//! Where a rollback goes: the state in which the present shift of traffic began.
//!
//! Owns the rule, and the form in which the target is written. It reads no clock: entries carry the times that it needs.
//! The servers whose share rose are *the raised side*. No target gives that side as much as it has now, or more.

mod express;
mod reasons;
mod shares;
mod walk;

use std::collections::BTreeMap;

pub use reasons::{Reason, Refused};

use crate::{
    desired::{Back, Pattern},
    history::{Entry, To, Way},
    model::Timestamp,
};

/// What an operator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// How far.
    pub reach: Reach,
    /// Whether to go further back where the newest entry is a rollback.
    pub again: bool,
    /// The side to take traffic off; empty where the history decides it.
    pub off: Vec<Pattern>,
}

/// How far back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// To where the present shift began.
    #[default]
    Shift,
    /// One write.
    Step,
    /// To the entry of this index.
    To(u64),
}

/// What the rule says.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write this.
    Target(Target),
    /// Several states are possible; a person chooses.
    Ask(Ask),
    /// There is nothing to go back to.
    Refuse(Refused),
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The state, in the terms of the present document: weights, a split or a release. Never with `force`.
    pub document: To,
    /// The position of the entry in the history, 0 for the newest.
    pub position: usize,
    /// The index of that entry; none only where it was never stamped.
    pub index: Option<u64>,
    /// When that entry was written.
    pub at: Option<Timestamp>,
    /// The raised side: what loses traffic.
    pub raised: Vec<Pattern>,
}

impl Target {
    /// The entry that records this rollback.
    pub fn entry(&self) -> Entry {
        Entry { target: self.index, raised: self.raised.clone(), ..Entry::new(Way::Rollback, self.document.clone()) }
    }
}

/// Why the rule does not decide alone, and the states to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Why.
    pub reason: Reason,
    /// One to three states.
    pub states: Vec<State>,
}

/// One state that a rollback could go to.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What would be written.
    pub target: Target,
    /// The share of each server, or of each pattern, in percent.
    pub shares: BTreeMap<Pattern, f64>,
    /// Who wrote that state, as the entry says.
    pub by: Option<String>,
    /// The side to name with `--off` for the same state; empty where it is reached by `--to` only.
    pub off: Vec<Pattern>,
}

/// Where a rollback of this history goes. `history` is newest first, and its first entry says what the present document
/// says: see [`crate::history::History::with_document`].
pub fn decide(history: &[Entry], asked: &Asked) -> Decision {
    match asked.reach {
        Reach::Shift => walk::to_start_of_shift(history, asked),
        Reach::Step => walk::one_step(history, asked),
        Reach::To(index) => walk::to_index(history, index),
    }
}

/// The field `back` for a document whose entry is the first of `history`: where a rollback would go. None where the rule
/// does not decide alone.
pub fn back(history: &[Entry]) -> Option<Back> {
    match decide(history, &Asked::default()) {
        Decision::Target(target) => target.document.as_back(),
        Decision::Ask(_) | Decision::Refuse(_) => None,
    }
}

/// The index of the newest entry with the shares of `to`: what a write of `to` goes back to. None where no entry is known to
/// have them.
pub fn entry_with(history: &[Entry], to: &To) -> Option<u64> {
    let same = |entry: &&Entry| shares::moved(&entry.to, to).is_some_and(|moved| moved.deltas.is_empty());
    history.iter().find(same)?.index
}

/// How long a state is in force until it counts as a resting point, in seconds: 7 days.
const REST_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Whether the entry at this position is a resting point, which a rollback does not go behind.
pub fn is_rest(history: &[Entry], position: usize) -> bool {
    let Some(entry) = history.get(position) else { return false };
    let until = position.checked_sub(1).and_then(|newer| history.get(newer)).and_then(|newer| newer.at);
    let long_in_force = match (entry.at, until) {
        (Some(from), Some(until)) => until.seconds_since(from) >= REST_SECONDS,
        _ => false,
    };
    matches!(entry.way, Way::Create | Way::Import | Way::Rollback) || entry.settled || entry.ended || long_in_force
}

#[cfg(test)]
mod tests;
