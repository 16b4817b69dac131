use clap::Subcommand;
use serde::Serialize;
use weightd_core::{
    fleet::{Expect, NodeName},
    model::nearest,
};

use super::{Exit, change::confirm_write, context::Context, failure::Failure, output, refusals::not_written, status};
use crate::documents::{
    Documents, DocumentsError,
    fleet::{Nodes, Roster},
    single::KeyWrite,
};

const EXAMPLES: &str = "\
Examples:
  weightctl node list                every node: state and versions
  weightctl node forget lb-3         the host is gone for good
  weightctl node forget --missing    forget every node that does not report
  weightctl node expect 20           20 nodes must report; hosts without weightd are missed too";

/// List the nodes, forget those that are gone, and say how many there should be
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the nodes: state and versions
    List,
    /// Forget a node that is gone for good
    ///
    /// A node that no longer reports is `missing` until it is forgotten. Refuses a node that reports now. A node that
    /// comes back is known again.
    Forget(Forget),
    /// Say how many nodes there should be
    ///
    /// `status` and `--wait` then also miss a host on which weightd never ran.
    Expect {
        /// The number of nodes; 0 if it does not matter
        #[arg(value_name = "N")]
        nodes: u64,
    },
}

#[derive(Debug, clap::Args)]
struct Forget {
    /// The node
    #[arg(value_name = "NAME", value_parser = NodeName::new, required_unless_present = "missing")]
    node: Option<NodeName>,
    /// Every node that does not report
    #[arg(long, conflicts_with = "node")]
    missing: bool,
    /// Write without a question
    #[arg(long, short)]
    yes: bool,
}

/// The JSON of `list` is `{"nodes": [<node>…], "off": […]}`, each as in `status`; of `forget` `{"forgotten": ["lb-3"]}`; of `expect`
/// `{"nodes": 20, "changed": true}`.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    match &args.verb {
        Verb::List => list(&documents, context).await,
        Verb::Forget(forget) => forget.run(&documents, context).await,
        Verb::Expect { nodes } => expect(*nodes, &documents, context).await,
    }
}

async fn list(documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    #[derive(Debug, Serialize)]
    struct List<'a> {
        nodes: &'a [super::fleet::NodeView],
        off: &'a [super::fleet::OffView],
    }

    let view = status::read_fleet(documents, context).await?;
    let table = || status::nodes_table(&view, documents.time(), output::columns()) + &status::off_text(&view.off);
    context.format.data(&List { nodes: &view.nodes, off: &view.off }, |_| table())?;
    if view.nodes.is_empty() {
        output::note(&format!("no node reports below {}", documents.keys().nodes()));
    }
    Ok(view.exit())
}

async fn expect(nodes: u64, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    #[derive(Debug, Serialize)]
    struct Expected {
        nodes: u64,
        changed: bool,
    }

    let before = documents.expected().await.map_err(not_written)?;
    let wanted = Expect { nodes };
    let index = before.as_ref().map_or(0, |(index, _)| *index);
    let changed = before.is_none_or(|(_, now)| now != Ok(wanted));
    let conflict = |what: &str| {
        Failure::new(Exit::Conflict, format!("another writer changed the number meanwhile; {what}"))
            .hint("run the command again if the number is still correct")
    };
    if changed {
        match documents.expect(wanted, index).await? {
            KeyWrite::Yes(_) => {}
            KeyWrite::Conflict => return Err(conflict("nothing was written")),
            KeyWrite::Superseded => return Err(conflict("Consul accepted the write, but another one replaced it")),
        }
    }
    output::message(&format!("{}: {nodes} nodes expected", if changed { "written" } else { "nothing to change" }));
    context.format.json(&Expected { nodes, changed })?;
    Ok(Exit::Ok)
}

/// The result of `forget`.
#[derive(Debug, Serialize)]
struct Forgotten {
    forgotten: Vec<NodeName>,
}

impl Forget {
    async fn run(&self, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
        if !self.yes && !output::can_ask() {
            return Err(Failure::new(Exit::Usage, "cannot ask: stdin or stderr is no terminal")
                .hint("add --yes to forget without a question"));
        }
        let (nodes, roster) = tokio::join!(documents.nodes(None), documents.roster());
        let (nodes, roster) = (nodes.map_err(not_written)?, roster.map_err(not_written)?);
        let gone = self.gone(&nodes, &roster)?;
        if gone.is_empty() {
            output::message("nothing to forget: every node reports");
            context.format.json(&Forgotten { forgotten: gone })?;
            return Ok(Exit::Ok);
        }
        let names = gone.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
        output::message(&format!("forget: {names}"));
        if !self.yes {
            confirm_write(documents).await?;
        }
        let mut forgotten = Vec::new();
        let mut end = Ok(Exit::Ok);
        for node in gone {
            // What is done so far is said, also if the next one fails.
            match forget(documents, &node, &roster).await {
                Ok(()) => {
                    output::message(&format!("forgotten: {node}"));
                    forgotten.push(node);
                }
                Err(failure) => {
                    end = Err(failure);
                    break;
                }
            }
        }
        context.format.json(&Forgotten { forgotten })?;
        end
    }

    /// The nodes to forget: in the inventory, and without a report.
    fn gone(&self, nodes: &Nodes, roster: &Roster) -> Result<Vec<NodeName>, Failure> {
        let Some(node) = &self.node else {
            let missing = roster.inventory.keys().filter(|node| !nodes.reports.contains_key(*node));
            return Ok(missing.cloned().collect());
        };
        if nodes.reports.contains_key(node) {
            return Err(Failure::new(Exit::Refused, format!("`{node}` reports now; nothing was written"))
                .hint("stop weightd there first; its report ends with its session, after at most 30 s"));
        }
        if !roster.inventory.contains_key(node) {
            let near = nearest(node.as_str(), roster.inventory.keys().map(NodeName::as_str));
            return Err(Failure::new(Exit::Refused, format!("no node `{node}` is known")).hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`weightctl node list` shows the nodes".to_owned(),
            }));
        }
        Ok(vec![node.clone()])
    }
}

/// Forgets one node. Fails if it reports by now.
async fn forget(documents: &Documents, node: &NodeName, roster: &Roster) -> Result<(), Failure> {
    let reported = || {
        Failure::new(Exit::Conflict, format!("`{node}` reported meanwhile; it is not forgotten"))
            .hint("`weightctl node list` shows the nodes")
    };
    let Some((index, entry)) = roster.inventory.get(node) else { return Err(reported()) };
    // An entry that changed, or is there again, is from the node.
    if !matches!(documents.forget(node, *index).await?, KeyWrite::Yes(_)) {
        return Err(reported());
    }
    // A node that started in this moment found its entry and does not write it again.
    let since = |error: DocumentsError| {
        Failure::from(error).context(format!("`{node}` is forgotten, but it is unknown whether it reports since"))
    };
    if documents.nodes(None).await.map_err(since)?.reports.contains_key(node) {
        if let Ok(entry) = entry {
            documents.remember(entry).await.map_err(since)?;
        }
        return Err(reported());
    }
    Ok(())
}
