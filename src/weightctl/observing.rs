//! One observation before a question: the nodes are asked what their HAProxies have now. It waits at most 1 s and never
//! stops a command: without the right, without an answer, it says so and the command goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use weightd_core::{
    fleet::{
        CountersRead, Heard, Mode, NodeName, Per, View as Observed,
        counters::{Counted, Instance},
    },
    model::BackendName,
};

use super::{Exit, failure::Failure, forecast::ForecastView, output};
use crate::documents::{Documents, DocumentsError, fleet::Nodes, observe::Observer, view::View};

/// The longest time that a question waits for the nodes.
const LIMIT: Duration = Duration::from_secs(1);
/// Between two readings of the answers.
const PACE: Duration = Duration::from_millis(50);
/// The observations of one command at the same time: each of them causes a write of every node.
pub(super) const MOST: usize = 16;

/// What each node said of one backend.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The nodes that were asked: those that report and do not only observe.
    pub(super) asked: BTreeSet<NodeName>,
    /// The nodes with a HAProxy that has the backend or is down.
    pub(super) has: BTreeMap<NodeName, Counted>,
    /// The nodes on which no HAProxy has it.
    pub(super) lacks: BTreeSet<NodeName>,
    /// The nodes whose answer is no data, and why.
    pub(super) no_data: BTreeMap<NodeName, String>,
}

impl Answers {
    /// How many nodes answered.
    pub(super) fn answered(&self) -> usize {
        self.has.len() + self.lacks.len() + self.no_data.len()
    }

    /// The nodes that did not answer.
    pub(super) fn silent(&self) -> impl Iterator<Item = &NodeName> {
        let said = |node: &&NodeName| {
            self.has.contains_key(*node) || self.lacks.contains(*node) || self.no_data.contains_key(*node)
        };
        self.asked.iter().filter(move |node| !said(node))
    }

    /// Each HAProxy that has the backend or is down, with its node.
    pub(super) fn instances(&self) -> impl Iterator<Item = (&NodeName, &Instance)> {
        self.has.iter().flat_map(|(node, counted)| counted.instances.iter().map(move |instance| (node, instance)))
    }

    /// Whether every node says that none of its HAProxies has the backend.
    pub(super) fn nobody_has_it(&self) -> bool {
        !self.asked.is_empty() && self.lacks.len() == self.asked.len()
    }

    fn take(&mut self, reads: &BTreeMap<NodeName, CountersRead>, backend: &BackendName, since: u64) {
        for (node, read) in reads.iter().filter(|(node, _)| self.asked.contains(*node)) {
            match read.heard(backend, since) {
                Heard::Has(counted) => drop(self.has.insert(node.clone(), counted.clone())),
                Heard::Lacks => drop(self.lacks.insert(node.clone())),
                Heard::NoData(why) => drop(self.no_data.insert(node.clone(), why.to_string())),
                Heard::Silent => {}
            }
        }
    }
}

/// The nodes that a question waits for.
pub(super) fn counting(nodes: &Nodes) -> BTreeSet<NodeName> {
    let counts = |read: &weightd_core::fleet::NodeRead| read.report.as_ref().is_ok_and(|r| r.mode == Mode::Enforce);
    nodes.reports.iter().filter(|(_, read)| counts(read)).map(|(node, _)| node.clone()).collect()
}

/// Asks the nodes about `backend`; none without the right, without Consul, or without a node to ask. Says why.
pub(super) async fn ask(
    documents: &Documents,
    backend: &BackendName,
    asked: &BTreeSet<NodeName>,
    by: Option<String>,
) -> Option<Answers> {
    if asked.is_empty() {
        return None;
    }
    match answers(documents, backend, asked.clone(), by).await {
        Ok((answers, slow)) => {
            if answers.answered() == 0
                && let Some(error) = slow
            {
                note(error);
            }
            Some(answers)
        }
        Err(error) => {
            note(error);
            None
        }
    }
}

/// Says where the shares of the document that is in force will not be what they say. Says nothing if the token may not ask the
/// nodes, or if none answers: the command is about the document.
pub(super) async fn say_untrue(documents: &Documents, document: &View) {
    if document.weights.is_none() && document.split.is_none() {
        return;
    }
    let asking = async {
        let asked = counting(&documents.nodes(None).await?);
        if asked.is_empty() {
            return Ok(Answers::default());
        }
        answers(documents, &document.backend, asked, None).await.map(|(answers, _)| answers)
    };
    match asking.await {
        Ok(answers) => {
            let untrue = ForecastView::of(&answers, Some(document), document).untrue();
            if !untrue.is_empty() {
                output::message(untrue.trim_end());
            }
        }
        Err(failure) if failure.exit == Exit::Denied => {}
        Err(failure) => note(failure),
    }
}

/// What these nodes answer within [`LIMIT`], and why they may notice the question too late.
async fn answers(
    documents: &Documents,
    backend: &BackendName,
    asked: BTreeSet<NodeName>,
    by: Option<String>,
) -> Result<(Answers, Option<DocumentsError>), Failure> {
    let (mut answers, mut slow) = (Answers { asked, ..Answers::default() }, None);
    // Not on the time of the limit: the deletion of the key.
    if let Ok(observer) = timeout(LIMIT, collect(documents, backend, by, &mut answers, &mut slow)).await {
        observer?.end().await;
    }
    Ok((answers, slow))
}

/// Observes until every node has answered.
async fn collect(
    documents: &Documents,
    backend: &BackendName,
    by: Option<String>,
    answers: &mut Answers,
    slow: &mut Option<DocumentsError>,
) -> Result<Observer, Failure> {
    let view = Observed { sides: None, per: Per::Side };
    let mut observer = Observer::start(documents, backend, view, by).await?;
    *slow = observer.take_slow();
    loop {
        let next = Instant::now() + PACE;
        answers.take(&observer.read().await?, backend, observer.index());
        if answers.answered() == answers.asked.len() {
            return Ok(observer);
        }
        sleep(next.saturating_duration_since(Instant::now())).await;
    }
}

/// Says that the observation that makes a leader report more often cannot be written.
pub(super) fn note_denied(failure: Failure) {
    let Failure { error, hint, .. } = failure;
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    output::note(&format!("the leader reports once a minute: {error:#}{hint}"));
}

/// Says why nothing is known of the HAProxies.
pub(super) fn note(error: impl Into<Failure>) {
    let Failure { error, hint, .. } = error.into();
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    output::note(&format!("what HAProxy has is not known: {error:#}{hint}"));
}
