//! What a backend has before its first document: without it, nothing could go back to the state before the first shift.

use std::collections::BTreeSet;

use weightd_core::{
    desired::Weights,
    fleet::NodeName,
    model::{BackendName, Escaped, ServerName},
};

use super::{
    Exit,
    failure::Failure,
    observing::{self, Answers},
    output,
    set::{Assignment, unique},
};
use crate::documents::{Context as Known, Documents, Optional, fleet::Nodes, view::weights_summary};

/// The weights before the first document, as a person names them.
#[derive(Debug, clap::Args)]
pub(super) struct From {
    /// With --create: the weights before the first document, to which a rollback goes back
    #[arg(
        long,
        value_name = "SERVER=WEIGHT,…",
        value_delimiter = ',',
        requires = "create",
        help = "With --create: the weights before the first document, for a rollback [default: what all nodes report]"
    )]
    from: Vec<Assignment>,
}

impl From {
    /// The weights; none if they are not given.
    pub(super) fn weights(&self) -> Result<Option<Weights>, Failure> {
        if self.from.is_empty() {
            return Ok(None);
        }
        let weights = unique(&self.from)?;
        if weights.values().all(|weight| weight.is_zero()) {
            let message = "--from gives every server weight 0: a rollback cannot go back to that";
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Some(weights))
    }
}

/// `known` with the weights before the first document: those of --from, or what all nodes report if the verb creates the
/// backend. Also the answers of the nodes, if they were asked. `servers` are those of the new document.
pub(super) async fn known(
    documents: &Documents,
    backend: &BackendName,
    known: Known,
    from: Option<Weights>,
    create: bool,
    servers: BTreeSet<ServerName>,
    by: &str,
) -> Result<(Known, Option<Answers>), Failure> {
    match from {
        Some(weights) => Ok((named(backend, known, weights, by)?, None)),
        None if create && known.is_new() => {
            Ok(observed(documents, backend, known, &nodes(documents).await, &servers, by).await)
        }
        None => Ok((known, None)),
    }
}

/// `known` with the weights that `by` names. A history that cannot be read does not stop the write: it goes without them.
fn named(backend: &BackendName, known: Known, weights: Weights, by: &str) -> Result<Known, Failure> {
    if let (None, Optional::Off(why)) = (&known.stored, &known.history) {
        let message = "no rollback goes back to before the first document: the history cannot be read";
        output::note(&format!("{backend}: {message}: {}", Escaped(why)));
        return Ok(known);
    }
    if !known.is_new() {
        let message = format!("--from is for a first document, and `{backend}` has a document or a history");
        return Err(Failure::new(Exit::Refused, format!("{message}; nothing was written")).hint("remove --from"));
    }
    say(backend, &weights, "as --from says");
    Ok(known.with_first(weights, Some(by.to_owned())))
}

/// The nodes to ask about new backends.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Those that report and do not only observe.
    nodes: BTreeSet<NodeName>,
    /// Those that enforce weights and do not report, or not readably.
    missing: BTreeSet<NodeName>,
    /// Why it is not known which nodes are missing.
    unknown: Option<String>,
}

impl Asked {
    /// `inventory` are the nodes that enforce weights; none if the token may not read it.
    fn of(nodes: &Nodes, inventory: Result<Option<BTreeSet<NodeName>>, String>) -> Self {
        let unreadable = nodes.reports.iter().filter(|(_, read)| read.report.is_err()).map(|(node, _)| node.clone());
        let (mut missing, mut unknown): (BTreeSet<_>, _) = (unreadable.collect(), None);
        match inventory {
            Ok(Some(all)) => missing.extend(all.into_iter().filter(|node| !nodes.reports.contains_key(node))),
            Ok(None) => unknown = Some("the token may not read the inventory".to_owned()),
            Err(why) => unknown = Some(why),
        }
        Self { nodes: observing::counting(nodes), missing, unknown }
    }
}

/// The nodes to ask about new backends; empty if they cannot be read. What is said of the nodes says why.
pub(super) async fn nodes(documents: &Documents) -> Asked {
    let (nodes, inventory) = tokio::join!(documents.nodes(None), documents.inventory_in_view());
    let inventory = inventory.map_err(|error| format!("{:#}", Failure::from(error).error));
    nodes.map_or_else(|_| Asked::default(), |nodes| Asked::of(&nodes, inventory))
}

/// `known` with what all of these nodes have, if the backend is new, and their answers. `servers` are those of the new
/// document. Says so if the nodes do not agree.
pub(super) async fn observed(
    documents: &Documents,
    backend: &BackendName,
    known: Known,
    asked: &Asked,
    servers: &BTreeSet<ServerName>,
    by: &str,
) -> (Known, Option<Answers>) {
    if !known.is_new() {
        return (known, None);
    }
    let answers = observing::ask(documents, backend, &asked.nodes, Some(by.to_owned())).await;
    // Without a node, and without an answer to the question, it is said elsewhere.
    if answers.is_none() && (!asked.nodes.is_empty() || asked.missing.is_empty()) {
        return (known, None);
    }
    let known = match agreed(answers.as_ref().unwrap_or(&Answers::default()), asked, servers) {
        Ok(weights) => {
            say(backend, &weights, "as all nodes report");
            known.with_first(weights, None)
        }
        Err(why) => {
            let hint = "`weightctl set` with --from names the weights";
            output::note(&format!("{backend}: no rollback goes back to before the first document: {why}; {hint}"));
            known
        }
    };
    (known, answers)
}

fn say(backend: &BackendName, weights: &Weights, whence: &str) {
    output::message(&format!("{backend} before the first document: {}, {whence}", weights_summary(weights)));
}

/// The weights that every HAProxy has; or why there are no such ones. A server that gets no traffic whatever its weight
/// counts only if it is one of `servers`: it would change the shares.
fn agreed(answers: &Answers, asked: &Asked, servers: &BTreeSet<ServerName>) -> Result<Weights, String> {
    let names = |nodes: BTreeSet<&NodeName>| weightd_core::reasons::list(nodes.into_iter().map(NodeName::as_str));
    let silent: BTreeSet<_> = answers.silent().chain(answers.no_data.keys()).chain(&asked.missing).collect();
    if !silent.is_empty() {
        return Err(format!("these nodes do not say what they have: {}", names(silent)));
    }
    if let Some(why) = &asked.unknown {
        return Err(format!("which nodes are missing is not known: {why}"));
    }
    let mut agreed: Option<Weights> = None;
    for (node, instance) in answers.instances() {
        if instance.down.is_some() {
            return Err(format!("a HAProxy of {node} cannot be read"));
        }
        let known = instance.servers.iter().filter(|server| servers.contains(&server.name) || server.counts());
        let weights: Weights = known.map(|server| (server.name.clone(), server.weight)).collect();
        match &agreed {
            Some(agreed) if *agreed != weights => return Err("the nodes have different weights".to_owned()),
            _ => agreed = Some(weights),
        }
    }
    match agreed {
        None => Err("no HAProxy of any node has it".to_owned()),
        Some(weights) if weights.values().all(|weight| weight.is_zero()) => Err("every server has weight 0".to_owned()),
        Some(weights) => Ok(weights),
    }
}

#[cfg(test)]
mod tests;
