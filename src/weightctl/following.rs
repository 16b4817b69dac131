//! Follows one backend on all nodes: an observation that goes on, the numbers of each HAProxy, and the sessions that are left
//! where the weight is 0.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;
use weightd_core::{
    desired::{Pattern, PatternShare, Split, Weights},
    fleet::{Heard, NodeName, Per, View as Observed},
    model::{BackendName, Moment},
    reasons::list,
    traffic::{Collector, Drain, Left, Pin},
};

use super::{failure::Failure, observing, output, table::Tone};
use crate::{
    base::config::show_duration,
    documents::{Documents, observe::Observer},
};

/// An observation that goes on until this is dropped.
#[derive(Debug)]
pub(super) struct Following {
    documents: Documents,
    observer: Observer,
    started: Instant,
    /// What the HAProxies counted.
    pub(super) collector: Collector,
    drain: Drain,
    /// The nodes that report and enforce weights.
    pub(super) asked: BTreeSet<NodeName>,
    /// The nodes on which no HAProxy has the backend.
    pub(super) lacks: BTreeSet<NodeName>,
    /// The nodes whose report is no data, and why.
    pub(super) no_data: BTreeMap<NodeName, String>,
    /// The nodes that are gone, though their HAProxies may serve.
    pub(super) missing: BTreeSet<NodeName>,
}

/// Sessions on servers of weight 0. Its JSON:
///
/// ```json
/// {
///   "servers": ["green"],       the servers at 0, or the patterns of a split
///   "sessions": 12,             their sessions, over all nodes that say it
///   "done": false,              whether it is known that nothing is left there
///   "nodes": [{"node": "lb-1", "haproxy": "edge", "sessions": 12, "unread": false, "used": false}…],
///                               where something is left; "used": new requests arrive there, though the weight is 0.
///                               "sessions" is null where it is not known. "unread": a process that was replaced may have
///                               some, and cannot be read
///   "silent": ["lb-2"],         nodes that say nothing that can be used, or are gone
///   "pinned_by": ["cookie"],    cookie, stick_table, sticky, connections
///   "estimate_seconds": 40      at the present rate; null if that is not known, or the sessions do not become fewer
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DrainingView {
    pub(super) servers: Vec<Pattern>,
    pub(super) sessions: u64,
    pub(super) done: bool,
    pub(super) nodes: Vec<LeftView>,
    pub(super) silent: Vec<NodeName>,
    pub(super) pinned_by: Vec<&'static str>,
    pub(super) estimate_seconds: Option<u64>,
    #[serde(skip)]
    pub(super) pins: Vec<Pin>,
}

/// Sessions that are left on one HAProxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LeftView {
    pub(super) node: NodeName,
    pub(super) haproxy: String,
    pub(super) sessions: Option<u64>,
    pub(super) unread: bool,
    pub(super) used: bool,
}

impl Following {
    /// Starts to observe `backend`.
    pub(super) async fn start(documents: &Documents, backend: &BackendName) -> Result<Self, Failure> {
        let view = Observed { sides: None, per: Per::Server };
        let id = view.id();
        let mut observer = Observer::start(documents, backend, view, None).await?;
        if let Some(slow) = observer.take_slow() {
            observing::note(slow);
            output::note("the nodes notice the observation within 5 s");
        }
        Ok(Self {
            documents: documents.clone(),
            observer,
            started: Instant::now(),
            collector: Collector::new(id),
            drain: Drain::default(),
            asked: BTreeSet::new(),
            lacks: BTreeSet::new(),
            no_data: BTreeMap::new(),
            missing: BTreeSet::new(),
        })
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads what the nodes report now.
    pub(super) async fn read(&mut self) -> Result<(), Failure> {
        let (nodes, inventory, reads) =
            tokio::join!(self.documents.nodes(None), self.documents.inventory_in_view(), self.observer.read());
        let (nodes, inventory, reads) = (nodes?, inventory?, reads?);
        let asked = observing::counting(&nodes);
        let now = self.now();
        // Without the inventory, a node that was there is gone for as long as this runs.
        let expected: BTreeSet<_> = match inventory {
            Some(enforcing) => enforcing,
            None => self.asked.union(&self.missing).cloned().collect(),
        };
        self.missing = expected.into_iter().filter(|node| !nodes.reports.contains_key(node)).collect();
        for gone in self.asked.iter().filter(|node| !asked.contains(*node)) {
            self.collector.forget(gone);
        }
        self.asked = asked;
        self.lacks.clear();
        self.no_data.clear();
        for (node, read) in &nodes.reports {
            if let Err(bad) = &read.report {
                self.no_data.insert(node.clone(), bad.to_string());
            }
        }
        for (node, read) in reads.iter().filter(|(node, _)| self.asked.contains(*node)) {
            match read.heard(self.observer.backend(), self.observer.index()) {
                Heard::Has(counted) => {
                    if let Ok(report) = &read.report {
                        self.collector.take(node, report, counted, now);
                        let mut sources = self.collector.sources.iter().filter(|((of, _), _)| of == node);
                        if sources.any(|(_, source)| !source.viewed)
                            && let Some(why) = report.why_left_out(self.observer.backend())
                        {
                            self.no_data.insert(node.clone(), why.to_string());
                        }
                    }
                }
                Heard::Lacks => {
                    self.collector.forget(node);
                    self.lacks.insert(node.clone());
                }
                Heard::NoData(why) => {
                    self.collector.forget(node);
                    self.no_data.insert(node.clone(), why.to_string());
                }
                Heard::Silent => {}
            }
        }
        Ok(())
    }

    /// The nodes that have not answered.
    pub(super) fn silent(&self) -> Vec<&NodeName> {
        let having = self.collector.nodes();
        let said =
            |node: &NodeName| having.contains(node) || self.lacks.contains(node) || self.no_data.contains_key(node);
        self.asked.iter().filter(|node| !said(node)).collect()
    }

    /// What is left on the servers at 0; none if no server is at 0.
    pub(super) fn draining(&mut self, at_zero: &[Pattern]) -> Option<DrainingView> {
        if at_zero.is_empty() {
            return None;
        }
        let now = self.now();
        let is_at_zero = |row: &str| at_zero.iter().any(|pattern| pattern.matches(row));
        let left = self.collector.left(&is_at_zero, Moment::default(), now);
        let sessions = left.iter().filter_map(|left| left.sessions).sum();
        let known = left.iter().all(|left| left.sessions.is_some());
        if known && !left.is_empty() {
            self.drain.take(now, sessions);
        }
        let silent = self.silent().into_iter().chain(self.no_data.keys()).chain(&self.missing);
        let silent: Vec<_> = silent.cloned().collect();
        let pins = self.collector.pins();
        Some(DrainingView {
            servers: at_zero.to_vec(),
            sessions,
            done: silent.is_empty() && !left.is_empty() && left.iter().all(|left| left.done),
            nodes: left.into_iter().filter(|left| !left.done).map(LeftView::from).collect(),
            silent,
            pinned_by: pins.iter().map(|pin| pin.word()).collect(),
            estimate_seconds: self.drain.estimate().filter(|_| known).map(whole_seconds),
            pins,
        })
    }
}

/// The servers, or the patterns of a split, that a document gives 0.
pub(super) fn at_zero(weights: Option<&Weights>, split: Option<&Split>) -> Vec<Pattern> {
    let servers = weights.into_iter().flatten().filter(|(_, weight)| weight.is_zero());
    let patterns = split.into_iter().flat_map(Split::shares).filter(|(_, share)| **share == PatternShare::default());
    servers.map(|(server, _)| Pattern::from(server)).chain(patterns.map(|(pattern, _)| pattern.clone())).collect()
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl From<Left> for LeftView {
    fn from(left: Left) -> Self {
        let Left { node, instance, sessions, unread, used, .. } = left;
        Self { node, haproxy: instance, sessions, unread, used }
    }
}

impl DrainingView {
    /// One line: what is left where.
    pub(super) fn sentence(&self) -> String {
        let servers = list(self.servers.iter().map(Pattern::as_str));
        if self.done {
            return format!("at 0: {servers}: no session left");
        }
        let mut text = format!("at 0: {servers}: {} left", output::counted_u64(self.sessions, "session"));
        let place = |left: &LeftView| match (left.sessions, left.used) {
            (None, _) if left.unread => Some(format!(
                "not known on {}: HAProxy was reloaded, and weightd cannot read the process before",
                left.node
            )),
            (None, _) => Some(format!("{} does not say", left.node)),
            (Some(0), true) => Some(format!("{} still gets requests", left.node)),
            (Some(0), false) => None,
            (Some(sessions), _) => Some(format!("{} {sessions}", left.node)),
        };
        let places: Vec<_> = self.nodes.iter().filter_map(place).collect();
        let silent = self.silent.iter().map(|node| format!("{node} has not answered"));
        let places: Vec<_> = places.into_iter().chain(silent).collect();
        if !places.is_empty() {
            let _ = write!(text, " ({})", list(places.iter().map(String::as_str)));
        }
        match self.estimate_seconds {
            Some(seconds) if self.sessions > 0 => {
                let _ = write!(text, "; about {} at the present rate", show_duration(Duration::from_secs(seconds)));
            }
            _ => {}
        }
        text
    }

    /// The lines for a person: what is left, and what pins users.
    pub(super) fn text(&self) -> String {
        let tone = if self.done { Tone::Good } else { Tone::Warn };
        let mut text = tone.paint(&self.sentence()) + "\n";
        for pin in self.pins.iter().filter(|_| !self.done) {
            let _ = writeln!(text, "  {pin}");
        }
        text
    }
}
