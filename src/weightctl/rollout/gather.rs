//! What the nodes report of a backend, read once: its servers, and on request the traffic of one block of 10 s.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use weightd_core::{
    fleet::{DocumentNow, Heard, NodeName, NodeRead, Per, Standing, View as Observed, counters::Counted, standing},
    model::{BackendName, Moment},
    rollout::start::Baseline,
    traffic::{Collector, NoNumbers},
};

use crate::{
    documents::{Documents, observe::Observer},
    weightctl::{failure::Failure, observing, output, reach},
};

/// Between two readings.
const PACE: Duration = Duration::from_millis(200);
/// How long the nodes may take to answer; longer where they may not notice the first observation of all at once.
const ANSWER: Duration = Duration::from_secs(2);
const SLOW_ANSWER: Duration = Duration::from_secs(7);
/// How long the first numbers take: a block of 10 s, and the time until it is published.
const FIRST: Duration = Duration::from_secs(16);

/// What the nodes report.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Each counting node with a HAProxy that has the backend.
    pub(super) nodes: BTreeMap<NodeName, Counted>,
    /// The counting nodes that did not answer, or whose answer is no data.
    pub(super) silent: Vec<NodeName>,
    /// The traffic; none if it was not measured, or if there are no numbers.
    pub(super) sample: Option<Sample>,
}

/// The traffic of one block.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Requests and errors of each server.
    servers: BTreeMap<String, (u64, u64)>,
    per_second: f64,
}

impl Sample {
    /// The traffic, with the errors of the servers that `is_from` takes.
    pub(super) fn baseline(&self, is_from: impl Fn(&str) -> bool) -> Baseline {
        let from = self.servers.iter().filter(|(server, _)| is_from(server));
        let (requests, errors) =
            from.fold((0, 0), |(requests, errors), (_, (more, failed))| (requests + more, errors + failed));
        Baseline { per_second: self.per_second, requests, errors }
    }
}

/// Asks the counting nodes. It never fails: without a right or an answer it says so, and less is known.
pub(super) async fn gather(
    documents: &Documents,
    backend: &BackendName,
    document: u64,
    measure: bool,
) -> Result<Gathered, Failure> {
    let Some((nodes, _)) = reach::read(documents).await else { return Ok(Gathered::default()) };
    let mut asked = observing::counting(&nodes);
    asked.retain(|node| nodes.reports.get(node).is_some_and(|read| counts(read, backend, document)));
    if asked.is_empty() {
        return Ok(Gathered::default());
    }
    let view = Observed { sides: None, per: Per::Server };
    let mut collector = Collector::new(view.id());
    let mut observer = match Observer::start(documents, backend, view, None).await {
        Ok(observer) => observer,
        Err(error) => {
            observing::note(error);
            return Ok(Gathered { silent: asked.into_iter().collect(), ..Gathered::default() });
        }
    };
    let slow = observer.take_slow().is_some();
    if measure && output::is_terminal() {
        output::message(&format!("measuring the traffic of {backend}: 10 to 15 s"));
    }
    let started = Instant::now();
    let mut limit = if slow { SLOW_ANSWER } else { ANSWER };
    let mut gathered = Answers::default();
    loop {
        let next = Instant::now() + PACE;
        let reads = match observer.read().await {
            Ok(reads) => reads,
            Err(error) => {
                observing::note(error);
                break;
            }
        };
        let now = Moment::after_start(started.elapsed());
        for (node, read) in reads.iter().filter(|(node, _)| asked.contains(*node)) {
            match (read.heard(backend, observer.index()), &read.report) {
                (Heard::Has(counted), Ok(report)) => {
                    collector.take(node, report, counted, now);
                    gathered.has.insert(node.clone(), counted.clone());
                }
                (Heard::Lacks, _) => {
                    gathered.has.remove(node);
                    gathered.other.insert(node.clone());
                }
                _ => {}
            }
        }
        let all = gathered.has.len() + gathered.other.len() == asked.len();
        if measure && !gathered.has.is_empty() {
            limit = limit.max(FIRST + if slow { SLOW_ANSWER } else { Duration::ZERO });
        }
        let waits = |source: &weightd_core::traffic::Source| matches!(source.window(now), Err(NoNumbers::NotYet));
        let counted = !measure || !collector.sources.values().any(waits);
        if all && counted || started.elapsed() >= limit {
            break;
        }
        sleep_until(next).await;
    }
    observer.end().await;
    let now = Moment::after_start(started.elapsed());
    let silent = asked.into_iter().filter(|node| !gathered.has.contains_key(node) && !gathered.other.contains(node));
    Ok(Gathered {
        silent: silent.collect(),
        sample: measure.then(|| sample(&collector, now)).flatten(),
        nodes: gathered.has,
    })
}

/// The nodes that answered.
#[derive(Debug, Default)]
struct Answers {
    has: BTreeMap<NodeName, Counted>,
    /// Those that lack the backend.
    other: BTreeSet<NodeName>,
}

/// Whether a rollout waits for a node: it does not for one that is paused or overridden, or lacks the backend.
fn counts(read: &NodeRead, backend: &BackendName, document: u64) -> bool {
    match standing(read, backend, document, None, DocumentNow::NotRead) {
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
