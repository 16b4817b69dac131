//! The servers that the nodes report of a backend, for a shift.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use weightd_core::{
    desired::Kind,
    fleet::{NodeName, counters::Instance},
    model::BackendName,
    shift::{NodeServers, Reported},
};

use crate::{
    documents::{Context as Known, Documents, stored::Content},
    weightctl::{
        observing::{self, Answers},
        output::{self, counted},
    },
};

/// The servers of one backend.
#[derive(Debug, Default)]
pub(super) struct Servers {
    /// None if no node was asked.
    answers: Option<Answers>,
}

impl Servers {
    /// Asks the nodes about these backends, for at most 1 s. Says where the servers can only be those of the document. The
    /// result has the order of `backends`.
    pub(super) async fn ask<'b>(
        documents: &Documents,
        backends: impl IntoIterator<Item = (&'b BackendName, &'b Known)>,
        by: &str,
    ) -> Vec<Self> {
        let backends: Vec<_> = backends.into_iter().collect();
        let unknown = || backends.iter().map(|_| Self::default()).collect();
        let count = backends.iter().filter(|(_, known)| has_weights(known)).count();
        if count == 0 {
            return unknown();
        }
        if count > observing::MOST {
            output::note(&format!(
                "more than {} backends: the servers are those of the documents, not those that HAProxy has",
                observing::MOST
            ));
            return unknown();
        }
        let asked = match documents.nodes(None).await {
            Ok(nodes) => observing::counting(&nodes),
            Err(error) => {
                observing::note(error);
                return unknown();
            }
        };
        let asking = backends.iter().map(|(backend, known)| Self::ask_one(documents, backend, known, &asked, by));
        join_all(asking).await
    }

    async fn ask_one(
        documents: &Documents,
        backend: &BackendName,
        known: &Known,
        asked: &BTreeSet<NodeName>,
        by: &str,
    ) -> Self {
        // Each node computes the weights of a split for its own servers.
        if !has_weights(known) {
            return Self::default();
        }
        let servers = Self { answers: observing::ask(documents, backend, asked, Some(by.to_owned())).await };
        if !asked.is_empty() && !servers.are_reported() {
            output::note(&format!("{backend}: {}; the servers are those of the document", servers.why_not()));
        }
        servers
    }

    /// Why no server is reported.
    fn why_not(&self) -> &'static str {
        match &self.answers {
            None => "the nodes cannot be asked",
            Some(answers) if answers.nobody_has_it() => "no HAProxy of any node has it",
            Some(answers) if answers.answered() == 0 => "no node answered within 1 s",
            Some(_) => "no node that answered has data",
        }
    }

    /// What the nodes answered; none if nobody was asked.
    pub(super) const fn answers(&self) -> Option<&Answers> {
        self.answers.as_ref()
    }

    /// Whether a HAProxy has said which servers it has.
    pub(super) fn are_reported(&self) -> bool {
        self.servers().next().is_some()
    }

    fn servers(&self) -> impl Iterator<Item = NodeServers> {
        let all = self.answers.iter().flat_map(Answers::instances);
        all.filter_map(|(node, instance)| NodeServers::of(node.as_str(), instance))
    }

    /// The servers as the arithmetic takes them.
    pub(super) fn reported(&self) -> Reported {
        let complete = self.answers.as_ref().is_some_and(|answers| {
            let read = |(_, instance): (&NodeName, &Instance)| instance.down.is_none();
            answers.silent().next().is_none() && answers.no_data.is_empty() && answers.instances().all(read)
        });
        Reported { nodes: self.servers().collect(), complete }
    }

    /// Where the servers come from, as the end of a sentence.
    pub(super) fn source(&self) -> String {
        match &self.answers {
            Some(answers) if self.are_reported() => format!(
                "servers of {} of {}, weights from the document in force",
                answers.answered(),
                counted(answers.asked.len(), "node")
            ),
            _ => "servers and weights from the document in force".to_owned(),
        }
    }
}

fn has_weights(known: &Known) -> bool {
    match known.stored.as_ref().map(|stored| &stored.content) {
        Some(Content::Document(document)) => matches!(document.kind, Kind::Weights(_)),
        Some(Content::Leaves(_)) => true,
        Some(Content::Rejected(_)) | None => false,
    }
}
