//! A state of the past in the terms of the present document.

use std::collections::BTreeMap;

use super::shares::{Shares, disjoint, is_in, only_pattern, share};
use crate::{
    desired::{Pattern, PatternShare, Split, Weights},
    history::To,
    model::{ServerName, Weight},
};

/// `target` in the terms of `present`; none where that is not possible.
///
/// Everything that `present` names is named: a server that the nodes are not told about keeps what it has. No rounding
/// gives the raised side more.
pub(super) fn express(target: &To, present: &To, raised: &[Pattern]) -> Option<To> {
    match (target, present) {
        (To::Omitted | To::Gone | To::Unreadable(_), _) => None,
        (To::Weights(then), To::Weights(now)) => {
            let mut weights = then.clone();
            for name in now.keys() {
                weights.entry(name.clone()).or_insert(Weight::ZERO);
            }
            Some(To::Weights(weights))
        }
        (To::Weights(_), To::Split(now)) => by_patterns(target, now, raised).map(To::Split),
        (To::Split(_), To::Weights(now)) => by_names(target, now, raised).map(To::Weights),
        (To::Split(then), To::Split(now)) => {
            if !disjoint(&share(target)?, &share(present)?) {
                return None;
            }
            let mut shares = then.shares().clone();
            for pattern in now.shares().keys() {
                shares.entry(pattern.clone()).or_default();
            }
            Split::new(shares).ok().map(To::Split)
        }
        (To::Release | To::Weights(_) | To::Split(_), _) => Some(target.clone()),
    }
}

/// The shares of names, summed by the patterns of a split. None where a name that has a share matches no pattern, and where
/// a name matches two.
fn by_patterns(target: &To, now: &Split, raised: &[Pattern]) -> Option<Split> {
    let patterns = share(&To::Split(now.clone()))?;
    let mut sums: BTreeMap<&Pattern, f64> = now.shares().keys().map(|pattern| (pattern, 0.0)).collect();
    for (name, share) in &share(target)?.of {
        match only_pattern(&patterns, name).ok()? {
            Some(pattern) => *sums.entry(now.shares().get_key_value(pattern)?.0).or_default() += share,
            None if *share > 0.0 => return None,
            None => {}
        }
    }
    let sums: Vec<_> = sums.into_iter().collect();
    let rounded = thousandths(&sums, raised)?;
    let shares = sums.iter().zip(rounded).map(|((pattern, _), share)| ((*pattern).clone(), share));
    Split::new(shares.collect()).ok()
}

/// Shares in thousandths that add up to 100 percent. What rounding leaves over goes to the side that is not raised first.
fn thousandths(sums: &[(&Pattern, f64)], raised: &[Pattern]) -> Option<Vec<PatternShare>> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100,000")]
    let floor = |share: f64| (share.clamp(0.0, 100.0) * 1000.0 + 1e-6).floor() as u32;
    let mut rounded: Vec<u32> = sums.iter().map(|(_, share)| floor(*share)).collect();
    let left = PatternShare::ALL.thousandths().checked_sub(rounded.iter().sum())?;
    let rest = |at: usize| sums[at].1 * 1000.0 - f64::from(rounded[at]);
    let mut order: Vec<usize> = (0..sums.len()).filter(|at| sums[*at].1 > 0.0).collect();
    order.sort_by(|a, b| {
        let side = |at: usize| is_in(raised, sums[at].0);
        side(*a).cmp(&side(*b)).then(rest(*b).total_cmp(&rest(*a)))
    });
    for at in order.into_iter().cycle().take(usize::try_from(left).ok()?) {
        rounded[at] += 1;
    }
    rounded.into_iter().map(PatternShare::from_thousandths).collect()
}

/// The shares of patterns as weights of the servers that the present document names. None where a pattern that has a share
/// matches none of them, where a server matches two patterns, and where weights would miss a share by over one point.
fn by_names(target: &To, now: &Weights, raised: &[Pattern]) -> Option<Weights> {
    let split = share(target)?;
    let mut groups: BTreeMap<&Pattern, Vec<(&ServerName, u16)>> = BTreeMap::new();
    let mut shares: BTreeMap<&ServerName, f64> = now.keys().map(|name| (name, 0.0)).collect();
    for (name, weight) in now {
        if let Some(pattern) = only_pattern(&split, &Pattern::from(name)).ok()? {
            groups.entry(pattern).or_default().push((name, weight.get()));
        }
    }
    for (pattern, share) in split.of.iter().filter(|(_, share)| **share > 0.0) {
        let group = groups.get(pattern)?;
        let sum: u32 = group.iter().map(|(_, weight)| u32::from(*weight)).sum();
        for (name, weight) in group {
            // Servers of a group keep their ratio; where all are at 0, each gets the same.
            #[expect(clippy::cast_precision_loss, reason = "at most 4096 servers")]
            let part = if sum == 0 { 1.0 / group.len() as f64 } else { f64::from(*weight) / f64::from(sum) };
            shares.insert(name, share * part);
        }
    }
    weights(&shares, raised)
}

/// The smallest weights that come closest to the shares.
fn weights(shares: &BTreeMap<&ServerName, f64>, raised: &[Pattern]) -> Option<Weights> {
    const MOST_ERROR: f64 = 1.0;
    let largest = shares.values().fold(0.0_f64, |largest, share| largest.max(*share));
    if largest <= 0.0 {
        return None;
    }
    let sides: Vec<bool> = shares.keys().map(|name| is_in(raised, &Pattern::from(*name))).collect();
    let mut best: Option<(f64, Vec<u16>)> = None;
    for most in 1..=Weight::MAX.get() {
        let candidate: Vec<u16> = shares
            .values()
            .zip(&sides)
            .map(|(share, raised)| {
                let exact = share * f64::from(most) / largest;
                // Rounded this way the side that is to lose traffic never gets more, and no other server is stopped.
                let whole = if *raised { (exact + 1e-9).floor() } else { (exact - 1e-9).ceil() };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 256")]
                let weight = whole.clamp(0.0, f64::from(Weight::MAX.get())) as u16;
                weight
            })
            .collect();
        let sum: u32 = candidate.iter().map(|weight| u32::from(*weight)).sum();
        if sum == 0 {
            continue;
        }
        let error = |(share, weight): (&f64, &u16)| (f64::from(*weight) * 100.0 / f64::from(sum) - share).abs();
        let error = shares.values().zip(&candidate).map(error).fold(0.0_f64, f64::max);
        if best.as_ref().is_none_or(|(least, _)| error < least - 1e-9) {
            best = Some((error, candidate));
        }
    }
    let (error, weights) = best?;
    if error > MOST_ERROR {
        return None;
    }
    let pairs = shares.keys().zip(weights);
    pairs.map(|(name, weight)| Some(((*name).clone(), Weight::new(u64::from(weight)).ok()?))).collect()
}

/// The shares of a state, for display; empty where it has none.
pub(super) fn shown(to: &To) -> BTreeMap<Pattern, f64> {
    share(to).map(|Shares { of, .. }| of).unwrap_or_default()
}

#[cfg(test)]
mod tests;
