//! The fleet as `status` and `diff` show it.

use std::collections::BTreeMap;

use super::{
    Fleet, NodeName, Out, Standing, Waiting,
    wait::{DocumentNow, Indexed},
};
use crate::{
    desired::{DesiredState, Instruction, Published},
    model::{BackendName, Escaped, Timestamp},
};

/// The whole fleet.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Each node that is known.
    pub nodes: BTreeMap<NodeName, NodeView>,
    /// Each backend that has a document.
    pub backends: BTreeMap<BackendName, BackendView>,
    /// How many nodes there should be, if that is known.
    pub expected: Option<u64>,
    /// How many nodes count and are in sync.
    pub in_sync: u64,
    /// How many nodes count: those in mode observe do not.
    pub counted: u64,
    /// What a person should look into, in a stable order.
    pub problems: Vec<Problem>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// How it stands.
    pub health: Health,
    /// The version of weightd; none where it says nothing.
    pub version: Option<String>,
    /// The highest index up to which it has everything.
    pub applied_index: Option<u64>,
    /// The names of its HAProxy instances that are down, with the reason if it is known.
    pub down: Vec<(String, Option<String>)>,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has every document.
    InSync,
    /// It does not have these, with the reason and since when.
    Out(Vec<Out>),
    /// It is in the inventory and says nothing.
    Missing,
    /// Another machine uses its name as well.
    Duplicate(String),
    /// Its report cannot be used: a sentence.
    Unreadable(String),
    /// It is in mode observe and does not count.
    Observe,
}

/// A backend.
#[derive(Debug, Clone)]
pub struct BackendView {
    /// What Consul has for it.
    pub desired: Published,
    /// The `ModifyIndex` of that.
    pub index: u64,
    /// How many nodes have it in force.
    pub has: u64,
    /// The nodes on which no HAProxy has the backend.
    pub lacks: Vec<NodeName>,
    /// The nodes that do not have what is desired.
    pub differs: Vec<Difference>,
}

/// A node that does not have what is desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The node.
    pub node: NodeName,
    /// How it stands: waited for, or final.
    pub standing: Standing,
    /// Since when, as the node says.
    pub since: Option<Timestamp>,
}

/// What a person should look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The node that it is about.
    pub node: Option<NodeName>,
    /// The backend that it is about.
    pub backend: Option<BackendName>,
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Overview {
    /// Every difference between what is desired and what a node has: what `diff` shows.
    pub fn differences(&self) -> impl Iterator<Item = (&BackendName, &Difference)> {
        self.backends.iter().flat_map(|(name, backend)| backend.differs.iter().map(move |differs| (name, differs)))
    }
}

/// What the nodes say, beside what is desired.
pub fn overview(fleet: &Fleet, documents: &DesiredState) -> Overview {
    let mut overview = Overview { expected: fleet.expect, ..Overview::default() };
    for (name, published) in &documents.backends {
        let (desired, index) = (published.clone(), published.index());
        let view = BackendView { desired, index, has: 0, lacks: Vec::new(), differs: Vec::new() };
        overview.backends.insert(name.clone(), view);
    }
    for node in fleet.names() {
        let view = view_of(node, fleet, &mut overview.backends);
        overview.counted += u64::from(view.health != Health::Observe);
        overview.in_sync += u64::from(view.health == Health::InSync);
        overview.nodes.insert(node.clone(), view);
    }
    overview.counted += fleet.unknown();
    overview.problems = problems(&overview, fleet);
    overview
}

/// One node; what it has and lacks is added to the backends.
fn view_of(node: &NodeName, fleet: &Fleet, backends: &mut BTreeMap<BackendName, BackendView>) -> NodeView {
    let read = fleet.nodes.get(node);
    let report = read.and_then(|read| read.report.as_ref().ok());
    let without_report = fleet.without_report(node);
    let unreadable = match read.map(|read| &read.report) {
        Some(Err(bad)) => Some(bad.clone()),
        _ => None,
    };
    let indexed = read.zip(report).map(|(read, report)| Indexed::of(report, read.index));
    let documents = backends.len() as u64;
    let mut out = Vec::new();
    for (name, backend) in backends.iter_mut() {
        let standing = match (&without_report, &unreadable, &indexed) {
            (Some(standing), ..) => standing.clone(),
            (None, Some(bad), _) => Standing::Waiting(Waiting::Unreadable(bad.clone())),
            (None, None, Some(indexed)) => {
                indexed.standing(name, backend.index, Some(documents), DocumentNow::Index(backend.index))
            }
            (None, None, None) => Standing::Waiting(Waiting::Missing),
        };
        let since = indexed.as_ref().and_then(|indexed| indexed.out(name)).and_then(|out| out.since);
        match &standing {
            Standing::DoesNotCount => continue,
            Standing::Done { has: true } => backend.has += 1,
            Standing::Done { has: false } => backend.lacks.push(node.clone()),
            Standing::Cannot(reason) => out.push(Out { backend: name.clone(), reason: reason.clone(), since }),
            Standing::Waiting(why) => out.push(Out { backend: name.clone(), reason: why.to_string(), since }),
        }
        if matches!(standing, Standing::Cannot(_) | Standing::Waiting(_)) {
            backend.differs.push(Difference { node: node.clone(), standing, since });
        }
    }
    // What the node says of backends that have no document any more, such as orphans.
    let others = report.into_iter().flat_map(|report| &report.out);
    out.extend(others.filter(|other| !backends.contains_key(&other.backend)).cloned());
    let health = match (without_report, unreadable) {
        (Some(Standing::DoesNotCount), _) => Health::Observe,
        (Some(Standing::Waiting(Waiting::Duplicate(machine))), _) => Health::Duplicate(machine),
        (Some(_), _) => Health::Missing,
        (None, Some(bad)) => Health::Unreadable(bad.to_string()),
        (None, None) if out.is_empty() => Health::InSync,
        (None, None) => Health::Out(out),
    };
    let down = report.into_iter().flat_map(|report| &report.instances).filter(|instance| !instance.up);
    NodeView {
        health,
        version: report.map(|report| report.version.clone()),
        applied_index: report.and_then(|report| report.applied_index),
        down: down.map(|instance| (instance.name.clone(), instance.why.clone())).collect(),
    }
}

fn problems(overview: &Overview, fleet: &Fleet) -> Vec<Problem> {
    let mut problems = Vec::new();
    let unknown = fleet.unknown();
    if unknown > 0 {
        problems.push(Problem {
            node: None,
            backend: None,
            what: format!("{unknown} of {} expected nodes never reported", fleet.expect.unwrap_or(0)),
            remedy: "start weightd on them, or correct the number with `weightctl node expect N`".to_owned(),
        });
    }
    for (node, view) in &overview.nodes {
        let of_node = |what: String, remedy: String| Problem { node: Some(node.clone()), backend: None, what, remedy };
        match &view.health {
            Health::InSync | Health::Observe => {}
            Health::Missing => problems.push(of_node(
                "missing: it has no session; weightd, its host or its way to Consul is down".to_owned(),
                format!("start weightd there; if the host is gone for good: `weightctl node forget {node}`"),
            )),
            Health::Duplicate(machine) => problems.push(of_node(
                format!("duplicate_node: the machine {} uses the same name", Escaped(machine)),
                "give each host its own `node` in weightd.toml".to_owned(),
            )),
            Health::Unreadable(why) => problems.push(of_node(
                why.clone(),
                "use the same version of weightd and weightctl; if they are the same, find who else writes the key"
                    .to_owned(),
            )),
            Health::Out(out) => problems.extend(out.iter().map(|out| Problem {
                node: Some(node.clone()),
                backend: Some(out.backend.clone()),
                what: Escaped(&out.reason).to_string(),
                remedy: format!("on {node}: `weightctl status {} --local`", out.backend),
            })),
        }
        problems.extend(view.down.iter().map(|(instance, why)| {
            let why = why.as_ref().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
            of_node(
                format!("HAProxy `{}` is down{why}", Escaped(instance)),
                format!("on {node}: `weightctl status --local`"),
            )
        }));
        if fleet.inventory.get(node).is_some_and(Result::is_err) {
            problems.push(of_node(
                "its inventory entry cannot be read".to_owned(),
                format!("`weightctl node forget {node}`; a node that is alive writes it again"),
            ));
        }
    }
    let reporting = overview.nodes.values().any(|view| matches!(view.health, Health::InSync | Health::Out(_)));
    for (name, backend) in &overview.backends {
        // Release documents stay after the backend is gone from haproxy.cfg.
        let released = matches!(backend.desired, Published::Valid(Instruction::Release { .. }));
        if reporting && !released && backend.has == 0 && backend.differs.is_empty() && !backend.lacks.is_empty() {
            problems.push(Problem {
                node: None,
                backend: Some(name.clone()),
                what: "no node has this backend".to_owned(),
                remedy: "compare the name with haproxy.cfg".to_owned(),
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests;
