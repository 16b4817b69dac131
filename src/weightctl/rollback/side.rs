//! What Consul and the nodes say of the servers that `--off` names. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weightd_core::{
    desired::{Pattern, Split},
    fleet::{Mode, NodeName},
    history::{Entry, Way},
    model::{BackendName, Escaped},
};

use crate::documents::{
    fleet::Nodes,
    view::{State, View},
};

/// What a document says of the servers that `--off` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// It names one of them, and gives it traffic.
    Traffic,
    /// It names some of them, each with 0.
    NoTraffic,
    /// It names none of them.
    NotNamed,
    /// It releases the backend: HAProxy keeps its weights, and nobody manages them.
    Released,
    /// Every weightd rejects it, so that the former weights stay in force: why.
    Rejected(String),
}

impl Side {
    /// What a document says of the servers in `off`.
    pub(super) fn of(view: &View, off: &[Pattern]) -> Self {
        match view.state {
            State::Rejected => {
                let why = view.rejected.as_ref().map(|rejected| rejected.reason.clone());
                return Self::Rejected(why.unwrap_or_default());
            }
            State::Released => return Self::Released,
            State::Weights | State::Split => {}
        }
        let named: Vec<_> = parts(view, off).filter_map(|(_, share, named)| named.then_some(share > 0.0)).collect();
        match (named.is_empty(), named.contains(&true)) {
            (true, _) => Self::NotNamed,
            (false, true) => Self::Traffic,
            (false, false) => Self::NoTraffic,
        }
    }
}

/// What counts as no difference, in percentage points.
const TOLERANCE: f64 = 0.05;

/// Whether `newest`, the entry of the document `now`, is a rollback that did what `--off` asks for: it took traffic off the
/// same servers, or leaves them no more of it than `planned` would.
pub(super) fn is_off(newest: &Entry, now: &View, planned: &View, off: &[Pattern]) -> bool {
    if newest.way != Way::Rollback {
        return false;
    }
    let asked = named(now, off);
    let same = !asked.is_empty() && asked == named(now, &newest.raised);
    let enough = || match (traffic(now, off), traffic(planned, off)) {
        (Some(now), Some(planned)) => now <= planned + TOLERANCE,
        _ => false,
    };
    same || enough()
}

/// The servers of a document, or the patterns of its split, with their weights or shares, and whether `patterns` name them.
fn parts(view: &View, patterns: &[Pattern]) -> impl Iterator<Item = (Pattern, f64, bool)> {
    let weights = view.weights.iter().flatten();
    let weights = weights.map(|(server, weight)| (Pattern::from(server), f64::from(weight.get())));
    let shares = view.split.iter().flat_map(Split::shares).map(|(own, share)| (own.clone(), share.percent()));
    weights.chain(shares).map(|(own, share)| {
        let is_named = patterns.iter().any(|pattern| pattern.overlaps(&own));
        (own, share, is_named)
    })
}

fn named(view: &View, patterns: &[Pattern]) -> BTreeSet<Pattern> {
    parts(view, patterns).filter_map(|(own, _, is_named)| is_named.then_some(own)).collect()
}

/// The share of the servers that these patterns name, in percent; none if no server gets traffic.
fn traffic(view: &View, patterns: &[Pattern]) -> Option<f64> {
    let sum = |(side, all), (_, share, is_named)| (if is_named { side + share } else { side }, all + share);
    let (side, all) = parts(view, patterns).fold((0.0, 0.0), sum);
    (all > 0.0).then(|| side * 100.0 / all)
}

/// The backends of which nodes keep last weights because a key is gone, with these nodes. `complete` has no key that nodes lack.
pub(super) fn orphans(
    nodes: &Nodes,
    complete: impl Fn(&BackendName) -> bool,
) -> BTreeMap<BackendName, BTreeSet<NodeName>> {
    let mut orphans: BTreeMap<BackendName, BTreeSet<NodeName>> = BTreeMap::new();
    let reports = nodes.reports.iter().filter_map(|(node, read)| Some((node, read.report.as_ref().ok()?)));
    for (node, report) in reports.filter(|(_, report)| report.mode != Mode::Observe) {
        let orphaned = report.out.iter().filter(|out| out.reason == "orphaned" && !complete(&out.backend));
        for out in orphaned {
            orphans.entry(out.backend.clone()).or_default().insert(node.clone());
        }
    }
    orphans
}

/// Why an orphan is not rolled back.
pub(super) fn of_orphan(nodes: &BTreeSet<NodeName>) -> String {
    let names = weightd_core::reasons::list(nodes.iter().map(NodeName::as_str));
    format!("it has no document any more, and these nodes keep its last weights: {names}")
}

/// Why a backend with leaves is not rolled back in full.
pub(super) fn of_vanished_leaf(nodes: &BTreeSet<NodeName>) -> String {
    let names = weightd_core::reasons::list(nodes.iter().map(NodeName::as_str));
    format!("one of its leaves is gone, and these nodes keep its last weight: {names}")
}

/// Why a rejected document is not rolled back.
pub(super) fn of_rejected(why: &str) -> String {
    format!("its document is rejected, and nodes keep the weights from before it: {}", Escaped(why))
}

#[cfg(test)]
mod tests;
