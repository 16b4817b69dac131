use std::collections::{BTreeMap, BTreeSet};

use super::{Refusal, Wish, instances};
use crate::{
    desired::{Desired, Pattern, PatternShare},
    fleet::{NodeName, counters::Counted},
    model::ServerName,
    rollout::Spec,
};

/// Whether a server is on a side.
pub(super) fn is_on(side: &[Pattern], server: &ServerName) -> bool {
    side.iter().any(|pattern| pattern.matches(server.as_str()))
}

/// The old side: as wanted, or what is above 0 now and not on the new side.
pub(super) fn from(
    wish: &Wish,
    desired: &Desired,
    nodes: &BTreeMap<NodeName, Counted>,
) -> Result<Vec<Pattern>, Refusal> {
    if let Some(from) = &wish.from {
        return Ok(from.clone());
    }
    let from = if let Some(split) = &desired.split {
        let above = split.shares().iter().filter(|(_, share)| **share > PatternShare::default());
        let above: Vec<_> = above.map(|(pattern, _)| pattern.clone()).filter(|p| !wish.to.contains(p)).collect();
        let overlaps = |pattern: &Pattern| wish.to.iter().any(|to| to.overlaps(pattern));
        if above.iter().any(overlaps) { serving(&above, &wish.to, nodes) } else { above }
    } else {
        let above = desired.weights.iter().filter(|(server, weight)| !weight.is_zero() && !is_on(&wish.to, server));
        above.map(|(server, _)| Pattern::from(server)).collect()
    };
    if from.is_empty() { Err(Refusal::NoFrom) } else { Ok(from) }
}

/// The names of the servers above 0 that a pattern matches and that are not on the new side.
fn serving(patterns: &[Pattern], to: &[Pattern], nodes: &BTreeMap<NodeName, Counted>) -> Vec<Pattern> {
    let servers = instances(nodes).flat_map(|(_, instance)| &instance.servers);
    let serving = servers.filter(|server| !server.weight.is_zero()).map(|server| &server.name);
    let serving = serving.filter(|name| is_on(patterns, name) && !is_on(to, name));
    serving.map(Pattern::from).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is wrong with the sides.
pub(super) fn check(
    to: &[Pattern],
    from: &[Pattern],
    desired: &Desired,
    nodes: &BTreeMap<NodeName, Counted>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (side, patterns) in [("to", to), ("from", from)] {
        if patterns.is_empty() || patterns.len() > Spec::MAX_PATTERNS {
            refusals.push(Refusal::Patterns(side, patterns.len()));
        }
    }
    let overlap = to.iter().find_map(|to| Some((to, from.iter().find(|from| to.overlaps(from))?)));
    if let Some((to, from)) = overlap {
        refusals.push(Refusal::Overlap(to.clone(), from.clone()));
    }
    let servers = servers(desired, nodes);
    let known_pattern = |pattern: &Pattern| desired.split.as_ref().is_some_and(|s| s.shares().contains_key(pattern));
    // Without a report, a document that names weights is all that is known.
    if instances(nodes).next().is_some() || desired.split.is_none() {
        let matches = |pattern: &Pattern| servers.iter().any(|server| pattern.matches(server.as_str()));
        for (side, patterns) in [("to", to), ("from", from)] {
            if let Some(pattern) = patterns.iter().find(|pattern| !matches(pattern)) {
                let names = servers.iter().map(|server| server.as_str());
                refusals.push(Refusal::Unmatched(side, pattern.clone(), crate::reasons::list(names)));
            }
        }
    } else if let Some(pattern) = to.iter().chain(from).find(|pattern| !known_pattern(pattern)) {
        // Neither a server nor the document says that this exists.
        refusals.push(Refusal::Unknown(pattern.clone()));
    }
    refusals
}

/// The servers that the document names or a HAProxy has.
fn servers<'a>(desired: &'a Desired, nodes: &'a BTreeMap<NodeName, Counted>) -> BTreeSet<&'a ServerName> {
    let reported = instances(nodes).flat_map(|(_, instance)| instance.servers.iter().map(|server| &server.name));
    // The weights of a split are the expansion of one HAProxy.
    let named = desired.weights.keys().filter(|_| desired.split.is_none());
    reported.chain(named).collect()
}

/// The servers on neither side.
pub(super) fn unnamed(
    to: &[Pattern],
    from: &[Pattern],
    desired: &Desired,
    nodes: &BTreeMap<NodeName, Counted>,
) -> Vec<ServerName> {
    let servers = servers(desired, nodes).into_iter();
    servers.filter(|server| !is_on(to, server) && !is_on(from, server)).cloned().collect()
}

/// Those of `names` that have a weight above 0 now.
pub(super) fn above_zero(
    names: &[ServerName],
    desired: &Desired,
    nodes: &BTreeMap<NodeName, Counted>,
) -> Vec<ServerName> {
    let serves = |name: &&ServerName| {
        let mut reported = instances(nodes).flat_map(|(_, instance)| &instance.servers);
        desired.weights.get(*name).is_some_and(|weight| !weight.is_zero())
            || reported.any(|server| server.name == **name && !server.weight.is_zero() && server.usable())
    };
    names.iter().filter(serves).cloned().collect()
}
