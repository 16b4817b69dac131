//! The nodes.

use weightd_core::{
    fleet::{Fleet, Health, NodeName, Overview},
    model::Timestamp,
};

use super::{
    Tone,
    words::{counted, when},
};

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// The glyph.
    pub glyph: &'static str,
    /// How much it asks for.
    pub tone: Tone,
    /// Its state.
    pub state: String,
    /// The numbers behind it.
    pub detail: String,
    /// The version of weightd.
    pub version: String,
    /// The versions of its HAProxies.
    pub haproxy: String,
    /// Since when its HAProxy runs.
    pub since: String,
    /// Whether it is not as it should be.
    pub is_out: bool,
}

/// The fleet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetView {
    /// `17 of 20 nodes are in sync`.
    pub headline: String,
    /// What is wrong, in one line.
    pub sum: String,
    /// The nodes, those that are out first.
    pub nodes: Vec<NodeRow>,
    /// The nodes that say nothing, for the note on top of the list of applications.
    pub missing: Vec<String>,
}

/// The fleet as its overview says.
pub fn fleet(overview: &Overview, fleet: &Fleet, now: Timestamp) -> FleetView {
    let mut nodes: Vec<NodeRow> =
        overview.nodes.iter().map(|(name, view)| node(name, &view.health, fleet, overview, now)).collect();
    nodes.sort_by(|a, b| (!a.is_out, &a.name).cmp(&(!b.is_out, &b.name)));
    let missing: Vec<_> = overview
        .nodes
        .iter()
        .filter(|(_, view)| view.health == Health::Missing)
        .map(|(name, _)| name.to_string())
        .collect();
    let out = nodes.iter().filter(|node| node.is_out).count();
    let late = out.saturating_sub(missing.len());
    let mut parts = Vec::new();
    if late > 0 {
        parts.push(format!("{} not in sync", counted(late, "node")));
    }
    if !missing.is_empty() {
        parts.push(format!("{} missing", missing.len()));
    }
    let known = overview.nodes.len() as u64;
    if let Some(more) = overview.expected.map(|expected| expected.saturating_sub(known)).filter(|more| *more > 0) {
        parts.push(format!("{more} expected and never seen"));
    }
    let all = usize::try_from(overview.counted).unwrap_or(usize::MAX);
    FleetView {
        headline: match all {
            0 => "No node reports".to_owned(),
            _ => format!("{} of {} in sync", overview.in_sync, counted(all, "node")),
        },
        sum: parts.join(", "),
        nodes,
        missing,
    }
}

fn node(name: &NodeName, health: &Health, fleet: &Fleet, overview: &Overview, now: Timestamp) -> NodeRow {
    let report = fleet.nodes.get(name).and_then(|read| read.report.as_ref().ok());
    let down = overview.nodes.get(name).map(|view| view.down.as_slice()).unwrap_or_default();
    let (glyph, tone, state, detail) = match health {
        Health::InSync if down.is_empty() => ("dot", Tone::Calm, "In sync".to_owned(), String::new()),
        Health::InSync => {
            let (instance, why) = &down[0];
            let why = why.clone().unwrap_or_default();
            ("warn", Tone::Attention, "HAProxy is down".to_owned(), format!("{instance} {why}"))
        }
        Health::Out(out) => {
            let what = out.first().map_or_else(String::new, |first| format!("{}: {}", first.backend, first.reason));
            let more = out.len().saturating_sub(1);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            ("half", Tone::Attention, format!("{} not applied", counted(out.len(), "change")), format!("{what}{more}"))
        }
        Health::Missing => {
            let inventory = fleet.inventory.get(name).and_then(|entry| entry.as_ref().ok());
            let since = inventory.and_then(|inventory| inventory.since);
            let known = since.map_or_else(String::new, |since| format!("known since {}", when(since, now)));
            ("cross", Tone::Bad, "Missing".to_owned(), known)
        }
        Health::Duplicate(machine) => {
            ("warn", Tone::Attention, "Two machines use this name".to_owned(), machine.clone())
        }
        Health::Unreadable(why) => ("warn", Tone::Attention, "Its report cannot be read".to_owned(), why.clone()),
        Health::Observe => ("eye", Tone::Calm, "Observes only".to_owned(), String::new()),
    };
    let instances = report.map(|report| report.instances.as_slice()).unwrap_or_default();
    let mut versions: Vec<_> = instances.iter().filter_map(|instance| instance.version.clone()).collect();
    versions.sort();
    versions.dedup();
    let since = instances.iter().filter_map(|instance| instance.since).max();
    let dash = || "–".to_owned();
    NodeRow {
        name: name.to_string(),
        glyph,
        tone,
        state,
        detail,
        version: report.map_or_else(dash, |report| report.version.clone()),
        haproxy: if versions.is_empty() { dash() } else { versions.join(", ") },
        since: since.map_or_else(dash, |since| when(since, now)),
        is_out: !matches!(health, Health::InSync | Health::Observe) || !down.is_empty(),
    }
}
