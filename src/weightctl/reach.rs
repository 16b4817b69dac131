//! What the nodes say of a backend before a write: how many follow, where the backend is missing, which nodes would not do
//! what is written. It is what is known at that moment, and no promise: the promise is `--wait`.

use serde::Serialize;
use weightd_core::{
    fleet::{DocumentNow, Need, NodeName, Overall, Standing, Wait, Waiting, verdict},
    model::{BackendName, Escaped},
};

use super::{failure::Failure, fleet::DiffersView, output};
use crate::documents::{
    Documents,
    fleet::{Nodes, Roster},
};

/// What the nodes say of the document that is in Consul before the write. Its JSON:
///
/// ```json
/// {
///   "counted": 20,              nodes that count: also missing ones, and expected ones that never reported
///   "follows": 18,              of these, the nodes that report
///   "unknown": 1,               expected nodes that never reported
///   "has": 18,                  nodes that have the document before the write; 0 if there is none
///   "lacks": ["lb-3"],          nodes on which no HAProxy has the backend
///   "differs": [{"node": "lb-2", "reason": "paused", "detail": "paused", "final": true, "since": null}…]
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reach {
    counted: u64,
    follows: u64,
    unknown: u64,
    has: u64,
    lacks: Vec<NodeName>,
    differs: Vec<DiffersView>,
    /// Whether there was a document, so that the nodes could say how they stand with it.
    #[serde(skip)]
    had_document: bool,
}

impl Reach {
    /// What the nodes say of the document with this `ModifyIndex`; none if there is no document.
    pub(super) fn of(known: &(Nodes, Roster), backend: &BackendName, index: Option<u64>) -> Self {
        let (nodes, roster) = known;
        let at = index.unwrap_or_default();
        let wait = Wait {
            backend,
            index: at,
            need: Need::All,
            documents: Some(roster.documents),
            document: DocumentNow::Index(at),
        };
        let verdict = verdict(&wait, &roster.fleet(nodes));
        if verdict.overall == Overall::NoNodes {
            return Self {
                counted: 0,
                follows: 0,
                unknown: verdict.unknown,
                has: 0,
                lacks: Vec::new(),
                differs: Vec::new(),
                had_document: index.is_some(),
            };
        }
        let follows = verdict.nodes.values().filter(|standing| {
            !matches!(standing, Standing::DoesNotCount | Standing::Waiting(Waiting::Missing | Waiting::Unreadable(_)))
        });
        let follows = follows.count() as u64;
        let (mut has, mut lacks, mut differs) = (0, Vec::new(), Vec::new());
        for (node, standing) in &verdict.nodes {
            match standing {
                Standing::Done { has: true } => has += 1,
                Standing::Done { has: false } => lacks.push(node.clone()),
                // Without a document, a node has nothing to say about the backend.
                Standing::Waiting(Waiting::NotRead | Waiting::Silent | Waiting::Older(_)) if index.is_none() => {}
                standing => differs.extend(DiffersView::of(node, standing, None)),
            }
        }
        let (counted, unknown) = (verdict.counted, verdict.unknown);
        Self { counted, follows, unknown, has, lacks, differs, had_document: index.is_some() }
    }

    /// One line for a person, without a full stop.
    pub(super) fn sentence(&self, backend: &BackendName) -> String {
        if self.counted == 0 {
            return "none reports: it is not known whether any HAProxy follows".to_owned();
        }
        let mut parts = vec![match self.follows {
            1 => "1 follows".to_owned(),
            follows => format!("{follows} follow"),
        }];
        if self.unknown > 0 {
            parts.push(format!("expected but never reported: {}", self.unknown));
        }
        match (self.had_document, self.has) {
            (false, _) => parts.push(format!("which of them have {backend} shows after the write")),
            (true, has) if has == self.counted => parts.push("as desired before the change".to_owned()),
            (true, 0) if self.differs.is_empty() => parts.push(format!("no HAProxy of any node has {backend}")),
            (true, has) => {
                parts.push(format!("{has} as desired before the change"));
                let lacks = self.lacks.iter().map(NodeName::to_string).collect();
                parts.extend(some(lacks).map(|names| format!("without {backend}: {names}")));
            }
        }
        let differs = self.differs.iter().map(|differs| format!("{} ({})", differs.node, Escaped(&differs.reason)));
        parts.extend(some(differs.collect()).map(|names| format!("not as desired: {names}")));
        parts.join("; ")
    }
}

/// Reads the nodes once. Without an answer, says why and returns none: a write needs nothing of it.
pub(super) async fn read(documents: &Documents) -> Option<(Nodes, Roster)> {
    let (nodes, roster) = tokio::join!(documents.nodes(None), documents.roster());
    match (nodes, roster) {
        (Ok(nodes), Ok(roster)) => Some((nodes, roster)),
        (Err(error), _) | (_, Err(error)) => {
            let Failure { error, hint, .. } = Failure::from(error);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            output::note(&format!("what the nodes have is not known: {error:#}{hint}"));
            None
        }
    }
}

/// At most five names, and how many more; none without a name.
fn some(names: Vec<String>) -> Option<String> {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown: Vec<_> = names.into_iter().take(SHOWN).collect();
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}
