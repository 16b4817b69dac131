use std::{collections::BTreeMap, fmt};

use super::sides::is_on;
use crate::{
    desired::{Desired, Pattern, PatternShare, Split, Weights},
    expand::expand,
    fleet::{NodeName, counters::Instance},
    forecast::observed,
    model::ServerName,
    observed::Observed,
    rollout::spec,
};

/// How many percentage points a share may be off.
const POINTS: f64 = 1.0;

/// Where a document is not what a split of the sides would give.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The node.
    pub node: NodeName,
    /// The server, or none for the whole new side.
    pub server: Option<ServerName>,
    /// What the document gives, in percent: the part of the server in its side, or the share of the new side.
    pub document: f64,
    /// What the split gives.
    pub split: f64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, server, document, split } = self;
        write!(f, "the document is no split of the two sides: on {node}, ")?;
        match server {
            Some(server) => {
                write!(f, "`{server}` has {document:.1} % of its side, and a split gives it {split:.1} %")
            }
            None => write!(f, "the new side has {document:.1} %, and a split gives it {split:.1} %"),
        }
    }
}

/// The split that gives the new side a share.
pub(super) fn split(to: &[Pattern], from: &[Pattern], share: PatternShare) -> Result<Split, &'static str> {
    spec::split_of(to, from, share)
}

/// The first node on which the document gives other shares than `wanted`: of the new side, or of a server within its side.
pub(in crate::rollout) fn difference<'a>(
    to: &[Pattern],
    from: &[Pattern],
    desired: &Desired,
    wanted: &Split,
    mut instances: impl Iterator<Item = (&'a NodeName, &'a Instance)>,
) -> Option<Difference> {
    if desired.split.as_ref() == Some(wanted) {
        return None;
    }
    instances.find_map(|(node, instance)| {
        let observed = observed(instance);
        let now = match &desired.split {
            Some(split) => expand(split, &observed).ok()?.weights,
            None => desired.weights.clone(),
        };
        // A side without a server is another reason, and comes with its own sentence.
        let then = expand(wanted, &observed).ok()?.weights;
        let (before, after) = (Shares::of(to, from, &observed, &now), Shares::of(to, from, &observed, &then));
        before.difference(&after).map(|(server, document, split)| Difference {
            node: node.clone(),
            server,
            document,
            split,
        })
    })
}

/// The shares of one HAProxy.
struct Shares {
    /// The percentage of the new side.
    to: Option<f64>,
    /// The percentage of each server in its side; empty for a side without a weight.
    within: BTreeMap<ServerName, f64>,
}

impl Shares {
    fn of(to: &[Pattern], from: &[Pattern], observed: &Observed, weights: &Weights) -> Self {
        let weight = |name: &ServerName, own: u32| weights.get(name).map_or(own, |weight| u32::from(weight.get()));
        let side = |patterns: &[Pattern]| -> Vec<(ServerName, f64)> {
            let servers = observed.servers.iter().filter(|server| {
                is_on(patterns, &server.name) && !server.slot && !server.administered && !server.backup
            });
            let own = servers.map(|server| (server.name.clone(), weight(&server.name, u32::from(server.weight.get()))));
            own.map(|(name, weight)| (name, f64::from(weight))).collect()
        };
        let sides = [side(to), side(from)];
        let [to, from] = sides.each_ref().map(|side| side.iter().map(|(_, weight)| weight).sum::<f64>());
        let within = sides
            .into_iter()
            .zip([to, from])
            .filter(|(_, sum)| *sum > 0.0)
            .flat_map(|(side, sum)| side.into_iter().map(move |(server, weight)| (server, 100.0 * weight / sum)));
        Self { to: (to + from > 0.0).then(|| 100.0 * to / (to + from)), within: within.collect() }
    }

    /// The first share that differs by more than [`POINTS`]: of the new side, else of a server.
    fn difference(&self, other: &Self) -> Option<(Option<ServerName>, f64, f64)> {
        let differ = |one: f64, other: f64| (one - other).abs() > POINTS;
        if let (Some(one), Some(other)) = (self.to, other.to)
            && differ(one, other)
        {
            return Some((None, one, other));
        }
        self.within.iter().find_map(|(server, one)| {
            let other = *other.within.get(server)?;
            differ(*one, other).then(|| (Some(server.clone()), *one, other))
        })
    }
}
