//! The fleet as `status`, `diff` and `node` show it: the words for what the nodes say, and the JSON. Pure.

use serde::Serialize;
use weightd_core::{
    desired::{DesiredState, Instruction, Published, Split, Weights},
    fleet::{Difference, Fleet, Health, NodeName, Out, Overview, Standing, Waiting, overview},
    model::{BackendName, Escaped, Root, Timestamp},
};

use super::{Exit, following::DrainingView};
use crate::documents::view::split_summary;

/// The fleet. Its JSON:
///
/// ```json
/// {
///   "root": "weightd/",
///   "expected": 3,              how many nodes there should be; null if nobody said so
///   "counted": 3,               how many nodes count: those in mode observe do not, expected ones that are unknown do
///   "in_sync": 2,
///   "nodes": [<node>…],         by name
///   "backends": [<backend>…],   by name
///   "problems": [{"node": …, "backend": …, "what": …, "remedy": …}…],   node and backend are null if it is of none
///   "off": [{"key": "weightd/inventory/", "effect": …, "why": …, "remedy": …}…],   keys that cannot be read
///   "local": null               without any node: the status of this host's weightd, if there is one
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
pub(super) struct FleetView {
    pub(super) root: String,
    pub(super) expected: Option<u64>,
    pub(super) counted: u64,
    pub(super) in_sync: u64,
    pub(super) nodes: Vec<NodeView>,
    pub(super) backends: Vec<BackendView>,
    pub(super) problems: Vec<ProblemView>,
    pub(super) off: Vec<OffView>,
    pub(super) local: Option<serde_json::Value>,
}

/// A node. Its JSON:
///
/// ```json
/// {
///   "node": "lb-1",
///   "state": "differs",         in_sync, differs, missing, duplicate, unreadable, observe
///   "detail": null,             a sentence for duplicate and unreadable
///   "since": "2026-11-21T10:00:00Z",   the earliest of "out"; null if it is not known
///   "version": "0.1.0 (abc1234)",      null if the node says nothing
///   "applied_index": 4711,
///   "haproxy": [{"name": "edge", "up": true, "version": "2.6.12", "since": …, "why": null}…],
///   "out": [{"backend": "app1", "reason": "guarded", "detail": "guarded", "since": …}…]   a word and a sentence
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeView {
    pub(super) node: NodeName,
    pub(super) state: &'static str,
    pub(super) detail: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) version: Option<String>,
    pub(super) applied_index: Option<u64>,
    pub(super) haproxy: Vec<HaproxyView>,
    pub(super) out: Vec<OutView>,
}

/// A HAProxy of a node.
#[derive(Debug, Clone, Serialize)]
pub(super) struct HaproxyView {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) version: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) why: Option<String>,
}

/// A backend that is not as desired on a node.
#[derive(Debug, Clone, Serialize)]
pub(super) struct OutView {
    pub(super) backend: BackendName,
    /// A word.
    pub(super) reason: String,
    /// A sentence.
    pub(super) detail: String,
    pub(super) since: Option<Timestamp>,
}

/// A backend. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "index": 42,                ModifyIndex
///   "state": "weights",         weights, split, released, rejected
///   "weights": {"blue": 90, "green": 10},     null unless the state is "weights"
///   "split": null,              if the state is "split": {"blue-*": 90, "green-*": 10}, in percent
///   "by": "alice", "reason": "10 % canary", "at": "2026-11-21T10:00:00Z",    null if the document does not say
///   "has": ["lb-1"],            the nodes that have it
///   "lacks": ["lb-3"],          the nodes on which no HAProxy has the backend
///   "differs": [{"node": "lb-2", "reason": "guarded", "detail": "guarded", "final": false, "since": …}…],
///   "unknown": 0,               expected nodes that never reported
///   "draining": {…}             with `status BACKEND`: what is left on the servers at 0, as in `traffic`; else null
/// }
/// ```
///
/// `final` means that it does not change by itself.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BackendView {
    pub(super) backend: BackendName,
    pub(super) index: u64,
    pub(super) state: &'static str,
    pub(super) weights: Option<Weights>,
    pub(super) split: Option<Split>,
    pub(super) by: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) at: Option<String>,
    pub(super) has: Vec<NodeName>,
    pub(super) lacks: Vec<NodeName>,
    pub(super) differs: Vec<DiffersView>,
    pub(super) unknown: u64,
    pub(super) draining: Option<DrainingView>,
}

/// A node that does not have what is desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct DiffersView {
    pub(super) node: NodeName,
    /// A word.
    pub(super) reason: String,
    /// A sentence.
    pub(super) detail: String,
    /// Whether it does not change by itself.
    #[serde(rename = "final")]
    pub(super) is_final: bool,
    pub(super) since: Option<Timestamp>,
}

/// What a person should look into.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ProblemView {
    pub(super) node: Option<NodeName>,
    pub(super) backend: Option<BackendName>,
    pub(super) what: String,
    pub(super) remedy: String,
}

/// A part that this view lacks, because its key cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OffView {
    pub(super) key: String,
    /// What is unknown without it.
    pub(super) effect: &'static str,
    /// Why it cannot be read: a sentence.
    pub(super) why: String,
    pub(super) remedy: String,
    /// Whether the token may not read it.
    #[serde(skip)]
    pub(super) denied: bool,
}

/// The word and the sentence for a node that does not have a document; none if it does, or does not count.
pub(super) fn reason_of(standing: &Standing) -> Option<(String, String)> {
    let word = match standing {
        Standing::Done { .. } | Standing::DoesNotCount => return None,
        Standing::Cannot(word) => return Some((word.clone(), word.clone())),
        Standing::Waiting(why) => match why {
            Waiting::Missing => "missing",
            Waiting::Duplicate(_) => "duplicate_node",
            Waiting::Unreadable(_) => "unreadable",
            Waiting::OtherConsul(_) => "other_consul",
            Waiting::Mode => "unknown_mode",
            Waiting::Silent => "silent",
            Waiting::Older(_) => "older",
            Waiting::NotRead => "not_read",
            Waiting::Cut => "cut",
            Waiting::Down(_) => "down",
            Waiting::Not(word) => word,
        },
    };
    let Standing::Waiting(why) = standing else { return None };
    Some((word.to_owned(), why.to_string()))
}

impl DiffersView {
    /// The difference of a node; none if it does not differ.
    pub(super) fn of(node: &NodeName, standing: &Standing, since: Option<Timestamp>) -> Option<Self> {
        let (reason, detail) = reason_of(standing)?;
        let is_final = matches!(standing, Standing::Cannot(_));
        Some(Self { node: node.clone(), reason, detail, is_final, since })
    }
}

impl FleetView {
    /// What the nodes say, beside what is desired.
    pub(super) fn of(root: &Root, fleet: &Fleet, documents: &DesiredState) -> Self {
        let overview = overview(fleet, documents);
        let counting: Vec<_> = overview
            .nodes
            .iter()
            .filter(|(_, node)| node.health != Health::Observe)
            .map(|(name, _)| name.clone())
            .collect();
        let problem = |problem: &weightd_core::fleet::Problem| ProblemView {
            node: problem.node.clone(),
            backend: problem.backend.clone(),
            what: problem.what.clone(),
            remedy: problem.remedy.clone(),
        };
        Self {
            root: root.to_string(),
            expected: overview.expected,
            counted: overview.counted,
            in_sync: overview.in_sync,
            nodes: nodes(&overview, fleet),
            backends: overview
                .backends
                .iter()
                .map(|(name, view)| backend(name, view, &counting, fleet.unknown()))
                .collect(),
            problems: overview.problems.iter().map(problem).collect(),
            off: Vec::new(),
            local: None,
        }
    }

    /// Whether every node that counts has everything, and nothing else is wrong.
    pub(super) fn all_in_sync(&self) -> bool {
        self.counted > 0 && self.problems.is_empty()
    }

    /// The exit code of a view without a difference. Without each part, nobody can say that everything is in sync.
    pub(super) fn exit(&self) -> Exit {
        match self.off.iter().map(|off| off.denied).max() {
            None => Exit::Ok,
            Some(true) => Exit::Denied,
            Some(false) => Exit::NotConverged,
        }
    }

    /// Keeps only what is about this backend: also what is about neither a node nor a backend, such as nodes that never
    /// reported.
    pub(super) fn retain_backend(&mut self, backend: &BackendName) {
        self.backends.retain(|view| view.backend == *backend);
        self.problems.retain(|problem| match &problem.backend {
            Some(of) => of == backend,
            None => problem.node.is_none(),
        });
        for node in &mut self.nodes {
            node.out.retain(|out| out.backend == *backend);
        }
    }

    /// Keeps only what is about this node.
    pub(super) fn retain_node(&mut self, node: &NodeName) {
        self.nodes.retain(|view| view.node == *node);
        self.problems.retain(|problem| problem.node.as_ref() == Some(node));
        self.backends.retain(|view| view.differs.iter().any(|differs| differs.node == *node));
    }
}

fn nodes(overview: &Overview, fleet: &Fleet) -> Vec<NodeView> {
    let view = |(name, view): (&NodeName, &weightd_core::fleet::NodeView)| {
        let report = fleet.nodes.get(name).and_then(|read| read.report.as_ref().ok());
        let (state, detail) = match &view.health {
            Health::InSync => ("in_sync", None),
            Health::Out(_) => ("differs", None),
            Health::Missing => ("missing", None),
            Health::Duplicate(machine) => {
                ("duplicate", Some(format!("the machine {} uses the same name", Escaped(machine))))
            }
            Health::Unreadable(why) => ("unreadable", Some(why.clone())),
            Health::Observe => ("observe", None),
        };
        let out: Vec<_> = match &view.health {
            Health::Out(out) => out.iter().map(|out| out_view(name, out, overview)).collect(),
            _ => Vec::new(),
        };
        let haproxy = report.into_iter().flat_map(|report| &report.instances).map(|instance| HaproxyView {
            name: instance.name.clone(),
            up: instance.up,
            version: instance.version.clone(),
            since: instance.since,
            why: instance.why.clone(),
        });
        NodeView {
            node: name.clone(),
            state,
            detail,
            since: out.iter().filter_map(|out| out.since).min(),
            version: view.version.clone(),
            applied_index: view.applied_index,
            haproxy: haproxy.collect(),
            out,
        }
    };
    overview.nodes.iter().map(view).collect()
}

fn out_view(node: &NodeName, out: &Out, overview: &Overview) -> OutView {
    let differs = overview.backends.get(&out.backend).into_iter().flat_map(|backend| &backend.differs);
    let word = differs.filter(|differs| differs.node == *node).find_map(|differs| reason_of(&differs.standing));
    // Without a document there is no verdict, only what the node says.
    let (reason, detail) = word.unwrap_or_else(|| (out.reason.clone(), out.reason.clone()));
    OutView { backend: out.backend.clone(), reason, detail, since: out.since }
}

fn backend(
    name: &BackendName,
    view: &weightd_core::fleet::BackendView,
    counting: &[NodeName],
    unknown: u64,
) -> BackendView {
    let (state, desired) = match &view.desired {
        Published::Valid(Instruction::Weights(desired)) if desired.split.is_some() => ("split", Some(desired)),
        Published::Valid(Instruction::Weights(desired) | Instruction::Leaves(desired)) => ("weights", Some(desired)),
        Published::Valid(Instruction::Release { .. }) => ("released", None),
        Published::Rejected(_) => ("rejected", None),
    };
    let differs =
        view.differs.iter().filter_map(|Difference { node, standing, since }| DiffersView::of(node, standing, *since));
    let differs: Vec<_> = differs.collect();
    let without = |node: &NodeName| view.lacks.contains(node) || differs.iter().any(|differs| differs.node == *node);
    BackendView {
        backend: name.clone(),
        index: view.index,
        state,
        weights: desired.filter(|desired| desired.split.is_none()).map(|desired| desired.weights.clone()),
        split: desired.and_then(|desired| desired.split.clone()),
        by: desired.and_then(|desired| desired.by.clone()),
        reason: desired.and_then(|desired| desired.reason.clone()),
        at: desired.and_then(|desired| desired.at.clone()),
        has: counting.iter().filter(|node| !without(node)).cloned().collect(),
        lacks: view.lacks.clone(),
        differs,
        unknown,
        draining: None,
    }
}

impl BackendView {
    /// Whether at least one node has it, none differs, and none is unknown.
    pub(super) fn in_sync(&self) -> bool {
        !self.has.is_empty() && self.differs.is_empty() && self.unknown == 0
    }

    /// How many nodes count.
    pub(super) fn counted(&self) -> u64 {
        (self.has.len() + self.lacks.len() + self.differs.len()) as u64 + self.unknown
    }

    /// What is desired, on one line.
    pub(super) fn summary(&self) -> String {
        match (&self.weights, &self.split) {
            (Some(weights), _) => {
                weights.iter().map(|(server, weight)| format!("{server}={weight}")).collect::<Vec<_>>().join(" ")
            }
            (None, Some(split)) => split_summary(split),
            (None, None) => self.state.to_owned(),
        }
    }
}

/// A span of time as one number, such as `12s`, `5m`, `3h` or `4d`.
pub(super) fn age(since: Option<Timestamp>, now: Option<Timestamp>) -> String {
    let Some(seconds) = since.zip(now).map(|(since, now)| now.seconds_since(since)) else { return String::new() };
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
