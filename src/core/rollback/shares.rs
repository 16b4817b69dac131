//! Shares of a state, and how they move from one state to the next. All numbers are percent.

use std::collections::BTreeMap;

use crate::{
    desired::{Pattern, Split, Weights},
    history::To,
};

/// What counts as no difference, in percentage points.
pub(super) const TOLERANCE: f64 = 0.05;

/// The share of each name, or of each pattern of a split.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shares {
    /// Whether the keys are the patterns of a split, and not the names of servers.
    pub(super) split: bool,
    pub(super) of: BTreeMap<Pattern, f64>,
}

/// The shares of a state; none for a release, for weights that are all zero, and for what cannot be read.
pub(super) fn share(to: &To) -> Option<Shares> {
    match to {
        To::Weights(weights) => of_weights(weights),
        To::Split(split) => Some(of_split(split)),
        To::Release | To::Gone | To::Omitted | To::Unreadable(_) => None,
    }
}

fn of_weights(weights: &Weights) -> Option<Shares> {
    let sum: u32 = weights.values().map(|weight| u32::from(weight.get())).sum();
    if sum == 0 {
        return None;
    }
    let percent = |weight: u16| f64::from(weight) * 100.0 / f64::from(sum);
    let of = weights.iter().map(|(name, weight)| (Pattern::from(name), percent(weight.get()))).collect();
    Some(Shares { split: false, of })
}

fn of_split(split: &Split) -> Shares {
    let of = split.shares().iter().map(|(pattern, share)| (pattern.clone(), share.percent())).collect();
    Shares { split: true, of }
}

/// What one change moved.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Move {
    /// What each name or pattern gained, negative where it lost. Moves that are small beside the largest are dropped.
    pub(super) deltas: BTreeMap<Pattern, f64>,
    /// The names and patterns that only one of the two states has.
    pub(super) came_or_went: Vec<Pattern>,
}

impl Move {
    pub(super) fn gainers(&self) -> impl Iterator<Item = &Pattern> {
        self.deltas.iter().filter(|(_, delta)| **delta > 0.0).map(|(key, _)| key)
    }

    pub(super) fn losers(&self) -> impl Iterator<Item = &Pattern> {
        self.deltas.iter().filter(|(_, delta)| **delta < 0.0).map(|(key, _)| key)
    }
}

/// What the change from `a` to `b` moved; none where they cannot be compared. Where one of them is a split, the other is
/// summed by its patterns.
pub(super) fn moved(a: &To, b: &To) -> Option<Move> {
    let (a, b) = (share(a)?, share(b)?);
    match (a.split, b.split) {
        (false, true) => {
            let (sums, came_or_went) = summed(&a, &b)?;
            Some(difference(&sums, &b.of, came_or_went))
        }
        (true, false) => {
            let (sums, came_or_went) = summed(&b, &a)?;
            Some(difference(&a.of, &sums, came_or_went))
        }
        (both, _) => {
            if both && !disjoint(&a, &b) {
                return None;
            }
            let only = |one: &Shares, other: &Shares| -> Vec<Pattern> {
                one.of.keys().filter(|key| !other.of.contains_key(*key)).cloned().collect()
            };
            let mut came_or_went = only(&a, &b);
            came_or_went.extend(only(&b, &a));
            Some(difference(&a.of, &b.of, came_or_went))
        }
    }
}

/// Whether no name matches two different patterns of these splits.
pub(super) fn disjoint(a: &Shares, b: &Shares) -> bool {
    let mut all: Vec<&Pattern> = a.of.keys().chain(b.of.keys()).collect();
    all.sort_unstable();
    all.dedup();
    all.iter().enumerate().all(|(at, one)| all.iter().skip(at + 1).all(|other| !one.overlaps(other)))
}

/// The shares of `names` summed by the patterns of `split`, and what only one of them has. None where a name that has a
/// share matches no pattern, and where a name matches two.
fn summed(names: &Shares, split: &Shares) -> Option<(BTreeMap<Pattern, f64>, Vec<Pattern>)> {
    let mut sums: BTreeMap<Pattern, f64> = split.of.keys().map(|pattern| (pattern.clone(), 0.0)).collect();
    let mut matched: BTreeMap<&Pattern, bool> = BTreeMap::new();
    let mut only = Vec::new();
    for (name, share) in &names.of {
        match only_pattern(split, name).ok()? {
            Some(pattern) => {
                matched.insert(pattern, true);
                if let Some(sum) = sums.get_mut(pattern) {
                    *sum += share;
                }
            }
            None if *share > 0.0 => return None,
            None => only.push(name.clone()),
        }
    }
    let unmatched = split.of.iter().filter(|(pattern, share)| **share > 0.0 && !matched.contains_key(pattern));
    only.extend(unmatched.map(|(pattern, _)| pattern.clone()));
    Some((sums, only))
}

/// A name matches two patterns of a split, so that its share is not known.
pub(super) struct Ambiguous;

/// The pattern of `split` that a name matches, if there is one.
pub(super) fn only_pattern<'s>(split: &'s Shares, name: &Pattern) -> Result<Option<&'s Pattern>, Ambiguous> {
    let mut matching = split.of.keys().filter(|pattern| pattern.overlaps(name));
    let first = matching.next();
    if matching.next().is_some() { Err(Ambiguous) } else { Ok(first) }
}

fn difference(a: &BTreeMap<Pattern, f64>, b: &BTreeMap<Pattern, f64>, came_or_went: Vec<Pattern>) -> Move {
    let keys = a.keys().chain(b.keys());
    let of = |shares: &BTreeMap<Pattern, f64>, key| shares.get(key).copied().unwrap_or(0.0);
    let mut deltas: BTreeMap<Pattern, f64> = keys.map(|key| (key.clone(), of(b, key) - of(a, key))).collect();
    let largest = deltas.values().fold(0.0_f64, |largest, delta| largest.max(delta.abs()));
    let small = TOLERANCE.max(largest / 10.0);
    deltas.retain(|_, delta| delta.abs() > small);
    Move { deltas, came_or_went }
}

/// Whether a name or a pattern belongs to a side.
pub(super) fn is_in(side: &[Pattern], key: &Pattern) -> bool {
    side.iter().any(|pattern| pattern.overlaps(key))
}

/// What a side gets in a state; none where the state has no shares. A pattern of a split of which only some names can
/// belong to the side counts in full.
pub(super) fn on_side(to: &To, side: &[Pattern]) -> Option<f64> {
    Some(share(to)?.of.iter().filter(|(key, _)| is_in(side, key)).map(|(_, share)| share).sum())
}

/// Whether `to` gives the side less than `present` does.
pub(super) fn gives_less(to: &To, present: &To, side: &[Pattern]) -> bool {
    match (on_side(to, side), on_side(present, side)) {
        (Some(then), Some(now)) => then < now - TOLERANCE,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
