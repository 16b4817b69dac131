//! The verdict of `--wait`: whether every node has the document, from what the nodes said.
//!
//! Nothing that cannot be known counts as done: a missing, unreadable or contradicting report is waited for.

use std::collections::{BTreeMap, BTreeSet};

use super::{BadReport, BadValue, Cut, How, Inventory, Mode, NodeName, NodeReport, Out, Recent};
use crate::model::{BackendName, Escaped};

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    /// The backend.
    pub backend: &'a BackendName,
    /// The `ModifyIndex` of the write.
    pub index: u64,
    /// How many nodes have to have it.
    pub need: Need,
    /// How many backends have a document, as far as the waiter's token shows. A node that reads fewer may not see this one.
    pub documents: Option<u64>,
    /// What a reading of the document says now.
    pub document: DocumentNow,
}

/// How many nodes have to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All that count.
    All,
    /// This many percent of those that count, rounded up; at least one.
    Percent(u8),
}

/// What a reading of the document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentNow {
    /// It was not read again.
    NotRead,
    /// It has this `ModifyIndex`.
    Index(u64),
    /// It is gone.
    Absent,
}

/// Everything that is known of the nodes.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The keys below `nodes/`.
    pub nodes: BTreeMap<NodeName, NodeRead>,
    /// The keys below `inventory/`.
    pub inventory: BTreeMap<NodeName, Result<Inventory, BadValue>>,
    /// How many nodes there should be.
    pub expect: Option<u64>,
}

/// One key below `nodes/`.
#[derive(Debug, Clone)]
pub struct NodeRead {
    /// Its `ModifyIndex`.
    pub index: u64,
    /// Its value.
    pub report: Result<NodeReport, BadReport>,
}

/// How a node stands with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has it.
    Done {
        /// Whether a HAProxy of it has the backend.
        has: bool,
    },
    /// Not yet.
    Waiting(Waiting),
    /// It does not have it, and that does not change by itself: a word.
    Cannot(String),
    /// It is in mode observe.
    DoesNotCount,
}

/// Why a node is waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// It is in the inventory and says nothing.
    #[error("missing: it has no session; weightd, its host or its way to Consul is down")]
    Missing,
    /// Another machine uses its name as well.
    #[error("duplicate_node: the machine {} uses the same name", Escaped(.0))]
    Duplicate(String),
    /// Its report cannot be used.
    #[error("unreadable: {0}")]
    Unreadable(BadReport),
    /// Its report names indexes that Consul had not reached when it was written.
    #[error("its report is of another Consul: it names index {0}")]
    OtherConsul(u64),
    /// It has a mode of a newer version.
    #[error("its mode is of a newer version")]
    Mode,
    /// It said nothing since the write.
    #[error("it said nothing since the write")]
    Silent,
    /// It has an older document.
    #[error("it has the document of index {0}")]
    Older(u64),
    /// It has not read the document, or its token may not.
    #[error("it has not read the document, or its token may not")]
    NotRead,
    /// A list that would say it is cut, or hidden.
    #[error("its report is cut, so that it does not say")]
    Cut,
    /// One of its HAProxy instances is down.
    #[error("HAProxy `{}` is down", Escaped(.0))]
    Down(String),
    /// Not as desired; it may become so by itself. A word.
    #[error("{}", Escaped(.0))]
    Not(String),
}

/// What does not change by itself and ends a wait.
const FINAL: [&str; 5] = ["rejected", "unmatched", "paused", "overridden", "unsupported"];

/// The verdict over all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Each node that is known.
    pub nodes: BTreeMap<NodeName, Standing>,
    /// How many nodes are expected beyond those: hosts without weightd.
    pub unknown: u64,
    /// How many nodes count.
    pub counted: u64,
    /// How many have to be done.
    pub needed: u64,
    /// How many are.
    pub done: u64,
    /// What follows.
    pub overall: Overall,
}

/// What follows from the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overall {
    /// Enough nodes have it, and the document is still that of the write.
    Done,
    /// The wait is over; how it ended shows when the document is read again.
    Confirm,
    /// Not yet.
    Waiting,
    /// It will not be done by itself: the nodes and their reasons.
    Failed(Vec<(NodeName, String)>),
    /// Every node is done, and no HAProxy has the backend.
    NobodyHasIt,
    /// The document is not that of the write any more: its index now, none if it is gone.
    Replaced(Option<u64>),
    /// There is no node that counts.
    NoNodes,
}

/// How one node stands with the document of a backend at `index`, for a question that is no wait. `has` says whether the node is
/// known to have the backend, from elsewhere.
pub fn standing(read: &NodeRead, backend: &BackendName, index: u64, has: bool) -> Standing {
    asked(read, backend, |indexed| Indexed { has, ..indexed }.standing(backend, index, None, DocumentNow::NotRead))
}

/// What `of` says of a report, with its lists for one backend.
fn asked(read: &NodeRead, backend: &BackendName, of: impl FnOnce(Indexed<'_>) -> Standing) -> Standing {
    match &read.report {
        Err(bad) => Standing::Waiting(Waiting::Unreadable(bad.clone())),
        Ok(report) => of(Indexed::only(report, read.index, |name| name == backend)),
    }
}

/// A report with its lists by backend.
pub(super) struct Indexed<'r> {
    report: &'r NodeReport,
    key: u64,
    /// Whether the node is known to have the backend, so that a cut `lacks` hides nothing.
    has: bool,
    recent: BTreeMap<&'r BackendName, &'r Recent>,
    out: BTreeMap<&'r BackendName, &'r Out>,
    lacks: BTreeSet<&'r BackendName>,
}

impl<'r> Indexed<'r> {
    /// For a view of all documents. `key` is the `ModifyIndex` of the report's key.
    pub(super) fn of(report: &'r NodeReport, key: u64) -> Self {
        Self::only(report, key, |_| true)
    }

    /// For questions about these backends only.
    fn only(report: &'r NodeReport, key: u64, asked: impl Fn(&BackendName) -> bool) -> Self {
        let recent = report.recent.iter().filter(|recent| asked(&recent.backend));
        let out = report.out.iter().filter(|out| asked(&out.backend));
        Self {
            report,
            key,
            has: false,
            recent: recent.map(|recent| (&recent.backend, recent)).collect(),
            out: out.map(|out| (&out.backend, out)).collect(),
            lacks: report.lacks.iter().filter(|backend| asked(backend)).collect(),
        }
    }

    pub(super) fn out(&self, backend: &BackendName) -> Option<&'r Out> {
        self.out.get(backend).copied()
    }

    pub(super) fn standing(
        &self,
        backend: &BackendName,
        index: u64,
        documents: Option<u64>,
        document: DocumentNow,
    ) -> Standing {
        let report = self.report;
        match report.mode {
            Mode::Enforce => {}
            Mode::Observe => return Standing::DoesNotCount,
            Mode::Unknown => return Standing::Waiting(Waiting::Mode),
        }
        // A report is written after what it names, so a higher index is that of a Consul which is no more.
        let named = report.recent.iter().map(|recent| recent.index).chain(report.applied_index);
        if let Some(impossible) = named.max().filter(|named| *named >= self.key) {
            return Standing::Waiting(Waiting::OtherConsul(impossible));
        }
        if self.key <= index {
            return Standing::Waiting(Waiting::Silent);
        }
        match self.recent.get(backend) {
            Some(recent) if recent.index < index => Standing::Waiting(Waiting::Older(recent.index)),
            Some(recent) if document == DocumentNow::Index(index) && recent.index > index => {
                Standing::Waiting(Waiting::OtherConsul(recent.index))
            }
            Some(recent) => match &recent.how {
                How::Set => Standing::Done { has: true },
                How::Lacks => Standing::Done { has: false },
                How::Not(reason) => not(reason),
            },
            None => self.older_than_recent(backend, index, documents),
        }
    }

    /// How a document stands that is older than all of `recent`: by what the other lists do not say, if they are complete.
    /// `recent` itself may be cut, as it is on each node of a healthy fleet with long names.
    fn older_than_recent(&self, backend: &BackendName, index: u64, documents: Option<u64>) -> Standing {
        let report = self.report;
        let waiting = |why| Standing::Waiting(why);
        // While `recent` has room, it holds every document that the node has read.
        let oldest = report.recent.iter().map(|recent| recent.index).min();
        if report.cut.recent == 0 && report.recent.len() < NodeReport::MAX_RECENT {
            return waiting(Waiting::NotRead);
        }
        if oldest.is_none_or(|oldest| index >= oldest) || report.applied_index.is_none_or(|applied| applied < index) {
            return waiting(Waiting::NotRead);
        }
        if let Some(out) = self.out(backend) {
            return not(&out.reason);
        }
        if report.filtered || documents.is_some_and(|documents| report.backends < documents) {
            return waiting(Waiting::NotRead);
        }
        let lacks = if self.has { 0 } else { report.cut.lacks };
        if !(Cut { recent: 0, lacks, ..report.cut }).is_none() {
            return waiting(Waiting::Cut);
        }
        if let Some(down) = report.instances.iter().find(|instance| !instance.up) {
            return waiting(Waiting::Down(down.name.clone()));
        }
        Standing::Done { has: !self.lacks.contains(backend) }
    }
}

fn not(reason: &str) -> Standing {
    if FINAL.contains(&reason) {
        Standing::Cannot(reason.to_owned())
    } else {
        Standing::Waiting(Waiting::Not(reason.to_owned()))
    }
}

impl Fleet {
    /// Every node that has a report or an inventory entry.
    pub fn names(&self) -> BTreeSet<&NodeName> {
        self.nodes.keys().chain(self.inventory.keys()).collect()
    }

    /// How many nodes are expected beyond those that are known.
    pub fn unknown(&self) -> u64 {
        self.expect.unwrap_or(0).saturating_sub(self.names().len() as u64)
    }

    /// The machine that uses the name of this node as well, as the inventory says.
    pub fn duplicate(&self, node: &NodeName) -> Option<&str> {
        let inventory = self.inventory.get(node)?.as_ref().ok()?;
        inventory.duplicate.as_ref().map(|duplicate| duplicate.machine.as_str())
    }

    /// What is known of a node without its report; none where the report decides.
    pub(super) fn without_report(&self, node: &NodeName) -> Option<Standing> {
        let observes = match self.nodes.get(node) {
            None => self
                .inventory
                .get(node)
                .is_some_and(|entry| entry.as_ref().is_ok_and(|inventory| inventory.mode == Mode::Observe)),
            Some(read) => read.report.as_ref().is_ok_and(|report| report.mode == Mode::Observe),
        };
        if observes {
            return Some(Standing::DoesNotCount);
        }
        if !self.nodes.contains_key(node) {
            return Some(Standing::Waiting(Waiting::Missing));
        }
        self.duplicate(node).map(|machine| Standing::Waiting(Waiting::Duplicate(machine.to_owned())))
    }
}

/// Whether a wait is over, and how.
pub fn verdict(wait: &Wait<'_>, fleet: &Fleet) -> Verdict {
    let of = |node: &NodeName| {
        fleet.without_report(node).or_else(|| {
            let read = fleet.nodes.get(node)?;
            Some(asked(read, wait.backend, |indexed| {
                indexed.standing(wait.backend, wait.index, wait.documents, wait.document)
            }))
        })
    };
    let nodes: BTreeMap<NodeName, Standing> =
        fleet.names().into_iter().filter_map(|node| Some((node.clone(), of(node)?))).collect();
    let count = |wanted: fn(&Standing) -> bool| nodes.values().filter(|standing| wanted(standing)).count() as u64;
    let known = count(|standing| *standing != Standing::DoesNotCount);
    let unknown = fleet.unknown();
    let counted = known + unknown;
    let needed = match wait.need {
        Need::All => counted,
        Need::Percent(percent) => (counted * u64::from(percent.min(100))).div_ceil(100).max(1),
    };
    let done = count(|standing| matches!(standing, Standing::Done { .. }));
    let failed: Vec<_> = nodes
        .iter()
        .filter_map(|(node, standing)| match standing {
            Standing::Cannot(reason) => Some((node.clone(), reason.clone())),
            _ => None,
        })
        .collect();
    let cannot = failed.len() as u64;
    let somebody = count(|standing| *standing == Standing::Done { has: true }) > 0;
    let over = match () {
        () if known == 0 => Overall::NoNodes,
        () if counted - cannot < needed => Overall::Failed(failed),
        () if done + cannot == counted && !somebody => Overall::NobodyHasIt,
        () if done < needed || !somebody => Overall::Waiting,
        () => Overall::Done,
    };
    let overall = match (wait.document, over) {
        (DocumentNow::Absent, _) => Overall::Replaced(None),
        (DocumentNow::Index(now), _) if now != wait.index => Overall::Replaced(Some(now)),
        // Before the end it is not known whether the nodes speak of this document or of a newer one.
        (DocumentNow::NotRead, Overall::Done | Overall::Failed(_) | Overall::NobodyHasIt) => Overall::Confirm,
        (_, over) => over,
    };
    Verdict { nodes, unknown, counted, needed, done, overall }
}

#[cfg(test)]
mod tests;
