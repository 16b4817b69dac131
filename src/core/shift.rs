//! The change of a share: what `shift` writes for the servers that there are.
//!
//! Owns the choice of the weights, and the error that nodes see with them. Must not do I/O. [`crate::apportion`] computes
//! the numbers.
//!
//! A *side* is the servers that one pattern matches; the servers on no side are *the rest*, which takes the remaining
//! share. Within a side servers keep the ratio of their present weights; where all have 0, that of their configured weights,
//! as far as they are known, and else equal parts. A server that only nodes report is on a side too.

mod known;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    apportion::{Side, apportion},
    desired::{Pattern, PatternShare, Split, Weights},
    model::ServerName,
};

/// The largest error of a share that is written without [`Shift::is_close`] being asked, in percentage points.
pub const MOST_ERROR: f64 = 1.0;

/// Shares that differ by less than this are the same, in percentage points. Less than a thousandth of a percent, which is
/// the step of a share.
const SAME: f64 = 1e-6;

pub use self::known::{KnownServer, NodeServers, Reported};

/// The wanted share of one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// This share, in percent.
    Share(f64),
    /// The present share and so many percentage points more, or less. It ends at 0 and at 100.
    Step(f64),
}

/// One side of the result, or the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The pattern; none for the rest.
    pub pattern: Option<Pattern>,
    /// The share now, in percent; none if all weights are 0.
    pub before: Option<f64>,
    /// The wanted share, in percent.
    pub wanted: f64,
    /// The share with the new weights, in percent.
    pub after: f64,
}

/// The computed weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// The weight of each server.
    pub weights: Weights,
    /// The sides, and then the rest if there is one.
    pub sides: Vec<Shown>,
    /// The largest error of a share, in percentage points; over all nodes if their servers are known.
    pub error: f64,
    /// The node with that error; none if all servers count.
    pub worst_node: Option<String>,
    /// The largest error of the ratio within a side, in percentage points of the side.
    pub ratio_error: f64,
    /// Servers that would get 0 only because their part is too small for a weight.
    pub stopped: Vec<ServerName>,
    /// Servers on a side that nodes report and the document does not name.
    pub added: Vec<ServerName>,
    /// Servers that do not count for a share now, such as in maintenance or on no node. They get the weight that fits the
    /// ratio of their side.
    pub uncounted: Vec<ServerName>,
    /// Servers that count on a node, on no side and not in the document: they keep their weights, and take a part of each
    /// share.
    pub unnamed: Vec<ServerName>,
}

impl Shift {
    /// Whether the weights give what is asked for: the error of the shares is at most [`MOST_ERROR`], and rounding stops no
    /// server.
    pub fn is_close(&self) -> bool {
        self.error <= MOST_ERROR && self.stopped.is_empty()
    }
}

/// Why there is no such shift.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// A pattern matches no server.
    #[error("`{pattern}` matches no server; the servers are {}", names(.servers))]
    NoServer {
        /// The pattern.
        pattern: Pattern,
        /// All servers.
        servers: Vec<ServerName>,
    },
    /// Two patterns match the same servers.
    #[error("`{one}` and `{other}` both match {}", names(.servers))]
    Overlap {
        /// The first pattern.
        one: Pattern,
        /// The second pattern.
        other: Pattern,
        /// The servers that match both.
        servers: Vec<ServerName>,
    },
    /// A pattern is given twice.
    #[error("`{0}` is given twice")]
    Twice(Pattern),
    /// Two patterns match some of the same names.
    #[error("some names match both `{0}` and `{1}`")]
    Clash(Pattern, Pattern),
    /// The shares add up to more than 100.
    #[error("the shares add up to {0} %, more than 100 %")]
    TooMuch(f64),
    /// The shares add up to less than 100, and no server is left for the rest.
    #[error("the shares add up to {0} %, and no other server takes the rest")]
    NoRest(f64),
    /// All weights are 0, so that there is no present share.
    #[error("all servers have weight 0, so there is no present share to add to")]
    NoShare,
    /// A pattern is not one of the split.
    #[error("`{pattern}` is no pattern of the split; its patterns are {}", patterns(.known))]
    NoPattern {
        /// The pattern.
        pattern: Pattern,
        /// The patterns of the split.
        known: Vec<Pattern>,
    },
    /// A split needs a pattern for the rest of the servers.
    #[error("a split needs a share for each server; no pattern matches {}", names(.0))]
    RestUnnamed(Vec<ServerName>),
}

fn names(servers: &[ServerName]) -> String {
    crate::reasons::list(servers.iter().map(ServerName::as_str))
}

fn patterns(patterns: &[Pattern]) -> String {
    crate::reasons::list(patterns.iter().map(Pattern::as_str))
}

/// Computes the weights for the wanted shares. `document` are the weights in force. `reported` are the servers that nodes
/// report: those that a pattern matches are on its side, and servers that serve nowhere do not count. Without a report, all
/// servers of the document count, and no others.
///
/// # Errors
/// [`Refused`], with the servers.
pub fn shift(document: &Weights, reported: &Reported, asked: &[(Pattern, Wanted)]) -> Result<Shift, Refused> {
    let all: BTreeSet<&ServerName> = document.keys().chain(reported.names()).collect();
    let side_of = sides(&all.into_iter().collect::<Vec<_>>(), asked)?;
    let servers: BTreeSet<&ServerName> = document.keys().chain(side_of.keys().copied()).collect();
    let rest: Vec<&ServerName> = servers.iter().copied().filter(|name| !side_of.contains_key(name)).collect();
    let mut patterns: Vec<Option<&Pattern>> = asked.iter().map(|(pattern, _)| Some(pattern)).collect();
    let mut members: Vec<Vec<&ServerName>> = (0..asked.len())
        .map(|side| servers.iter().copied().filter(|name| side_of.get(name) == Some(&side)).collect())
        .collect();
    let has_rest = !rest.is_empty();
    if has_rest {
        patterns.push(None);
        members.push(rest);
    }
    let counting: BTreeSet<&ServerName> = members.iter().flat_map(|members| reported.counting(members)).collect();
    let counts = |name: &ServerName| counting.contains(name);
    let present = |members: &[&ServerName]| share(document, members, 0, &counts);
    let mut wanted = Vec::new();
    for ((_, asked), members) in asked.iter().zip(&members) {
        wanted.push(asked.percent(present(members))?);
    }
    let left = left_over(&wanted, has_rest)?;
    if has_rest {
        wanted.push(left);
    }

    let ratios: Vec<Vec<u32>> = members.iter().map(|members| reported.ratio(document, members)).collect();
    let shares = thousandths(&wanted);
    let counted = |(members, ratio): (&Vec<&ServerName>, &Vec<u32>)| -> Vec<u32> {
        members.iter().zip(ratio).filter(|(name, _)| counts(name)).map(|(_, part)| *part).collect()
    };
    let sides: Vec<Side> = members
        .iter()
        .zip(&ratios)
        .zip(&shares)
        .map(|(side, share)| Side { share: *share, ratio: counted(side) })
        .collect();
    // None is impossible: the shares add up to 100, and each side has a server.
    let apportioned = apportion(&sides).ok_or(Refused::NoShare)?;
    let mut weights = Weights::new();
    let mut stopped = Vec::new();
    for ((((members, ratio), share), side), of) in
        members.iter().zip(&ratios).zip(&shares).zip(&sides).zip(&apportioned.weights)
    {
        let all_zero = side.ratio.iter().all(|part| *part == 0);
        let mut of_counted = of.iter();
        for (name, part) in members.iter().zip(ratio) {
            let weight = if counts(name) { of_counted.next().copied() } else { None };
            let weight = weight.unwrap_or_else(|| known::fitting(*part, &side.ratio, of));
            if counts(name) && weight.is_zero() && *share > PatternShare::default() && (*part > 0 || all_zero) {
                stopped.push((*name).clone());
            }
            weights.insert((*name).clone(), weight);
        }
    }
    let added: Vec<ServerName> =
        servers.iter().copied().filter(|name| !document.contains_key(*name)).cloned().collect();
    let mut ratio_error = apportioned.ratio_error;
    let has_shares = |(members, wanted): (&Vec<&ServerName>, &f64)| {
        present(members).is_some_and(|present| (present - wanted).abs() < SAME)
    };
    if added.is_empty() && members.iter().zip(&wanted).all(has_shares) {
        // Other numbers for the same shares would be a write that changes nothing.
        (weights, stopped, ratio_error) = (document.clone(), Vec::new(), 0.0);
    }
    let shown = patterns.iter().zip(&members).zip(&wanted).map(|((pattern, members), wanted)| Shown {
        pattern: pattern.cloned(),
        before: present(members),
        wanted: *wanted,
        after: share(&weights, members, 0, &counts).unwrap_or_default(),
    });
    let shown: Vec<Shown> = shown.collect();
    let (mut error, mut worst_node) = (largest_error(&weights, &members, &wanted, 0, &counts), None);
    let mut unnamed = BTreeSet::new();
    for node in &reported.nodes {
        let others = node.servers.iter().filter(|server| server.counts && !servers.contains(&server.name));
        let others: Vec<_> = others.filter(|server| !server.weight.is_zero()).collect();
        let weight = others.iter().map(|server| u32::from(server.weight.get())).sum();
        unnamed.extend(others.iter().map(|server| server.name.clone()));
        let here = largest_error(&weights, &members, &wanted, weight, &|name| node.counts(name));
        if here > error {
            (error, worst_node) = (here, Some(node.node.clone()));
        }
    }
    let uncounted = servers.iter().copied().filter(|name| !counts(name)).cloned().collect();
    Ok(Shift {
        weights,
        sides: shown,
        error,
        worst_node,
        ratio_error,
        stopped,
        added,
        uncounted,
        unnamed: unnamed.into_iter().collect(),
    })
}

/// The side of each server that a pattern matches.
fn sides<'s>(
    servers: &[&'s ServerName],
    asked: &[(Pattern, Wanted)],
) -> Result<BTreeMap<&'s ServerName, usize>, Refused> {
    let matching = |pattern: &Pattern| -> Vec<&'s ServerName> {
        servers.iter().copied().filter(|name| pattern.matches(name.as_str())).collect()
    };
    let cloned = |servers: &[&ServerName]| servers.iter().map(|name| (*name).clone()).collect();
    let mut sides = BTreeMap::new();
    for (at, (pattern, _)) in asked.iter().enumerate() {
        let own = matching(pattern);
        if own.is_empty() {
            return Err(Refused::NoServer { pattern: pattern.clone(), servers: cloned(servers) });
        }
        for (other, _) in &asked[..at] {
            let both: Vec<_> = own.iter().copied().filter(|name| other.matches(name.as_str())).collect();
            if other == pattern {
                return Err(Refused::Twice(pattern.clone()));
            }
            if !both.is_empty() {
                let (one, other) = (other.clone(), pattern.clone());
                return Err(Refused::Overlap { one, other, servers: cloned(&both) });
            }
        }
        sides.extend(own.into_iter().map(|name| (name, at)));
    }
    Ok(sides)
}

impl Wanted {
    fn percent(self, present: Option<f64>) -> Result<f64, Refused> {
        match (self, present) {
            (Self::Share(percent), _) => Ok(percent),
            (Self::Step(points), Some(present)) => Ok((present + points).clamp(0.0, 100.0)),
            (Self::Step(_), None) => Err(Refused::NoShare),
        }
    }
}

/// What the shares leave for the rest, in percent.
fn left_over(wanted: &[f64], has_rest: bool) -> Result<f64, Refused> {
    let sum: f64 = wanted.iter().sum();
    if sum > 100.0 + SAME {
        return Err(Refused::TooMuch(sum));
    }
    if !has_rest && sum < 100.0 - SAME {
        return Err(Refused::NoRest(sum));
    }
    Ok((100.0 - sum).max(0.0))
}

/// Percent in thousandths. Rounding changes a share by at most a thousandth.
fn thousandths(percent: &[f64]) -> Vec<PatternShare> {
    let round = |percent: &f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100,000")]
        let thousandths = (percent.clamp(0.0, 100.0) * 1000.0).round() as u32;
        PatternShare::from_thousandths(thousandths).unwrap_or_default()
    };
    percent.iter().map(round).collect()
}

/// The share of these servers among those that count, in percent; none if all of those have weight 0. `others` is the
/// weight of servers that are not among `weights`.
fn share(weights: &Weights, members: &[&ServerName], others: u32, counts: &dyn Fn(&ServerName) -> bool) -> Option<f64> {
    let counted = weights.iter().filter(|(name, _)| counts(name));
    let sum = others + counted.map(|(_, weight)| u32::from(weight.get())).sum::<u32>();
    let own = members.iter().filter(|name| counts(name)).filter_map(|name| weights.get(*name));
    let own: u32 = own.map(|weight| u32::from(weight.get())).sum();
    (sum > 0).then(|| f64::from(own) * 100.0 / f64::from(sum))
}

fn largest_error(
    weights: &Weights,
    members: &[Vec<&ServerName>],
    wanted: &[f64],
    others: u32,
    counts: &dyn Fn(&ServerName) -> bool,
) -> f64 {
    let error = |(members, wanted): (&Vec<&ServerName>, &f64)| {
        share(weights, members, others, counts).map_or(0.0, |share| (share - wanted).abs())
    };
    members.iter().zip(wanted).map(error).fold(0.0, f64::max)
}

/// The split with the wanted shares. The patterns that are not named share the rest, in their present ratio; if that is 0,
/// in equal parts.
///
/// # Errors
/// [`Refused`] if a pattern is not one of the split, or the shares are more than 100 percent.
pub fn shift_split(split: &Split, asked: &[(Pattern, Wanted)]) -> Result<Split, Refused> {
    disjoint(asked)?;
    let shares = split.shares();
    let mut new: BTreeMap<Pattern, f64> = BTreeMap::new();
    for (pattern, wanted) in asked {
        let Some(present) = shares.get(pattern) else {
            return Err(Refused::NoPattern { pattern: pattern.clone(), known: shares.keys().cloned().collect() });
        };
        new.insert(pattern.clone(), wanted.percent(Some(present.percent()))?);
    }
    let others: Vec<(&Pattern, &PatternShare)> =
        shares.iter().filter(|(pattern, _)| !new.contains_key(*pattern)).collect();
    let wanted: Vec<f64> = new.values().copied().collect();
    let left = left_over(&wanted, !others.is_empty())?;
    let sum: f64 = others.iter().map(|(_, share)| share.percent()).sum();
    #[expect(clippy::cast_precision_loss, reason = "at most 4096 patterns")]
    let count = others.len() as f64;
    for (pattern, share) in others {
        let part = if sum > 0.0 { share.percent() / sum } else { 1.0 / count };
        new.insert(pattern.clone(), left * part);
    }
    split_of(new)
}

/// A split of these servers. Each server must match exactly one of the patterns; one server alone takes the rest under its
/// own name.
///
/// # Errors
/// [`Refused`], with the servers.
pub fn split_from(document: &Weights, asked: &[(Pattern, Wanted)]) -> Result<Split, Refused> {
    disjoint(asked)?;
    let servers: Vec<&ServerName> = document.keys().collect();
    let side_of = sides(&servers, asked)?;
    let mut new = BTreeMap::new();
    for (side, (pattern, wanted)) in asked.iter().enumerate() {
        let members: Vec<_> = servers.iter().copied().filter(|name| side_of.get(name) == Some(&side)).collect();
        new.insert(pattern.clone(), wanted.percent(share(document, &members, 0, &|_| true))?);
    }
    let rest: Vec<&ServerName> = servers.iter().copied().filter(|name| !side_of.contains_key(name)).collect();
    let wanted: Vec<f64> = new.values().copied().collect();
    let left = left_over(&wanted, !rest.is_empty())?;
    match rest.as_slice() {
        [] => {}
        [name] => {
            new.insert(Pattern::from(*name), left);
        }
        many => return Err(Refused::RestUnnamed(many.iter().map(|name| (*name).clone()).collect())),
    }
    split_of(new)
}

/// A split with exactly these shares, for a backend without a document.
///
/// # Errors
/// [`Refused`] if the shares do not add up to 100 percent.
pub fn split_given(asked: &[(Pattern, Wanted)]) -> Result<Split, Refused> {
    disjoint(asked)?;
    let mut new = BTreeMap::new();
    for (pattern, wanted) in asked {
        new.insert(pattern.clone(), wanted.percent(None)?);
    }
    let percent: Vec<f64> = new.values().copied().collect();
    left_over(&percent, false)?;
    split_of(new)
}

/// No server has two patterns, also none that comes later.
fn disjoint(asked: &[(Pattern, Wanted)]) -> Result<(), Refused> {
    for (at, (pattern, _)) in asked.iter().enumerate() {
        match asked[..at].iter().find(|(other, _)| other.overlaps(pattern)) {
            Some((other, _)) if other == pattern => return Err(Refused::Twice(pattern.clone())),
            Some((other, _)) => return Err(Refused::Clash(other.clone(), pattern.clone())),
            None => {}
        }
    }
    Ok(())
}

fn split_of(shares: BTreeMap<Pattern, f64>) -> Result<Split, Refused> {
    let percent: Vec<f64> = shares.values().copied().collect();
    let sum: f64 = percent.iter().sum();
    let shares = shares.into_keys().zip(thousandths(&percent)).collect();
    Split::new(shares).map_err(|_| Refused::NoRest(sum))
}

#[cfg(test)]
mod tests;
