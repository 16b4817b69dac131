//! What the nodes report of a backend, read once: its servers, and on request the traffic of one block of 10 s. It never
//! fails: without a right or an answer it says so, and less is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use weightd_core::{
    fleet::{Heard, Mode, NodeName, NodeRead, Per, Standing, View as Observed, counters::Counted, standing},
    model::{BackendName, Moment},
    rollout::start::Baseline,
    shift::{NodeServers, Reported},
    traffic::{Collector, NoNumbers, Source},
};

use super::{Documents, DocumentsError, observe::Observer};

/// Between two readings.
const PACE: Duration = Duration::from_millis(200);
/// How long the nodes may take to answer; longer where they may not notice the first observation of all at once.
const ANSWER: Duration = Duration::from_secs(2);
const SLOW_ANSWER: Duration = Duration::from_secs(7);
/// How long the first numbers take: a block of 10 s, and the time until it is published.
const FIRST: Duration = Duration::from_secs(16);

/// What the nodes report.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Each counting node with a HAProxy that has the backend.
    pub nodes: BTreeMap<NodeName, Counted>,
    /// The counting nodes that did not answer, or whose answer is no data.
    pub silent: Vec<NodeName>,
    /// The traffic; none if it was not measured, or if there are no numbers.
    pub sample: Option<Sample>,
    /// Why less is known.
    pub problem: Option<DocumentsError>,
}

impl Gathered {
    /// The servers as a shift takes them.
    pub fn reported(&self) -> Reported {
        let all =
            || self.nodes.iter().flat_map(|(node, counted)| counted.instances.iter().map(move |each| (node, each)));
        let servers = all().filter_map(|(node, instance)| NodeServers::of(node.as_str(), instance));
        let complete = self.silent.is_empty() && self.problem.is_none() && all().all(|(_, each)| each.down.is_none());
        Reported { nodes: servers.collect(), complete }
    }
}

/// The traffic of one block.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Requests and errors of each server.
    servers: BTreeMap<String, (u64, u64)>,
    /// Requests of all servers in a second.
    pub per_second: f64,
}

impl Sample {
    /// The traffic, with the errors of the servers that `is_from` takes.
    pub fn baseline(&self, is_from: impl Fn(&str) -> bool) -> Baseline {
        let from = self.servers.iter().filter(|(server, _)| is_from(server));
        let (requests, errors) =
            from.fold((0, 0), |(requests, errors), (_, (more, failed))| (requests + more, errors + failed));
        Baseline { per_second: self.per_second, requests, errors }
    }
}

impl Documents {
    /// Asks the counting nodes for their servers of a backend, whose document has the index `document`. `measure`: also for the
    /// traffic of one block, which takes 10 to 15 s. `by` is who asks.
    pub async fn gather(&self, backend: &BackendName, document: u64, measure: bool, by: Option<String>) -> Gathered {
        let with = |problem| Gathered { problem: Some(problem), ..Gathered::default() };
        let nodes = match self.nodes(None).await {
            Ok(nodes) => nodes,
            Err(error) => return with(error),
        };
        let asked: BTreeSet<NodeName> = nodes
            .reports
            .iter()
            .filter(|(_, read)| counts(read, backend, document))
            .map(|(name, _)| name.clone())
            .collect();
        if asked.is_empty() {
            return Gathered::default();
        }
        let view = Observed { sides: None, per: Per::Server };
        let collector = Collector::new(view.id());
        let mut observer = match Observer::start(self, backend, view, by).await {
            Ok(observer) => observer,
            Err(error) => return Gathered { silent: asked.into_iter().collect(), ..with(error) },
        };
        let mut asking = Asking { asked, collector, has: BTreeMap::new(), lacks: BTreeSet::new() };
        let (problem, now) = asking.read(&mut observer, backend, measure).await;
        observer.end().await;
        let silent =
            asking.asked.iter().filter(|node| !asking.has.contains_key(*node) && !asking.lacks.contains(*node));
        Gathered {
            silent: silent.cloned().collect(),
            sample: measure.then(|| sample(&asking.collector, now)).flatten(),
            nodes: asking.has,
            problem,
        }
    }
}

/// The nodes that are asked, and what they said.
struct Asking {
    asked: BTreeSet<NodeName>,
    collector: Collector,
    has: BTreeMap<NodeName, Counted>,
    /// Those that lack the backend.
    lacks: BTreeSet<NodeName>,
}

impl Asking {
    /// Reads until every node has answered, or for the longest time. Returns what stopped it, and when.
    async fn read(
        &mut self,
        observer: &mut Observer,
        backend: &BackendName,
        measure: bool,
    ) -> (Option<DocumentsError>, Moment) {
        let mut problem = observer.take_slow();
        let slow = problem.is_some();
        let started = Instant::now();
        let mut limit = if slow { SLOW_ANSWER } else { ANSWER };
        loop {
            let next = Instant::now() + PACE;
            let now = Moment::after_start(started.elapsed());
            match observer.read().await {
                Ok(reads) => {
                    for (node, read) in reads.iter().filter(|(node, _)| self.asked.contains(*node)) {
                        match (read.heard(backend, observer.index()), &read.report) {
                            (Heard::Has(counted), Ok(report)) => {
                                self.collector.take(node, report, counted, now);
                                self.has.insert(node.clone(), counted.clone());
                            }
                            (Heard::Lacks, _) => {
                                self.has.remove(node);
                                self.lacks.insert(node.clone());
                            }
                            _ => {}
                        }
                    }
                }
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
            if measure && !self.has.is_empty() {
                limit = limit.max(FIRST + if slow { SLOW_ANSWER } else { Duration::ZERO });
            }
            let all = self.has.len() + self.lacks.len() == self.asked.len();
            let waits = |source: &Source| matches!(source.window(now), Err(NoNumbers::NotYet));
            let counted = !measure || !self.collector.sources.values().any(waits);
            if all && counted || started.elapsed() >= limit {
                break;
            }
            sleep_until(next).await;
        }
        (problem, Moment::after_start(started.elapsed()))
    }
}

/// Whether a rollout waits for a node: it does not for one that only observes, is paused or overridden, or lacks the backend.
fn counts(read: &NodeRead, backend: &BackendName, document: u64) -> bool {
    if !read.report.as_ref().is_ok_and(|report| report.mode == Mode::Enforce) {
        return false;
    }
    match standing(read, backend, document, false) {
        Standing::Done { has: false } | Standing::DoesNotCount => false,
        Standing::Cannot(why) => !matches!(why.as_str(), "paused" | "overridden"),
        Standing::Done { has: true } | Standing::Waiting(_) => true,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a block")]
fn sample(collector: &Collector, now: Moment) -> Option<Sample> {
    let mut sample = Sample::default();
    let windows: Vec<_> = collector.sources.values().filter_map(|source| source.window(now).ok()).collect();
    for window in &windows {
        for (server, sums) in &window.rows {
            let row = sample.servers.entry(server.clone()).or_default();
            *row = (row.0 + sums.requests, row.1 + sums.errors);
            sample.per_second += sums.requests as f64 / window.seconds;
        }
    }
    (!windows.is_empty()).then_some(sample)
}
