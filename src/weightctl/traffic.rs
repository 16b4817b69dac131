//! `traffic`: requests per second, errors and shares of a backend, as the nodes count them while this observes.

mod show;

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use weightd_core::{
    desired::{Pattern, Split, Weights},
    fleet::NodeName,
    model::{BackendName, ServerName},
    traffic::{Group, Groups, NoNumbers},
};

use self::show::TrafficView;
use super::{
    Exit,
    context::Context,
    failure::Failure,
    following::{Following, at_zero},
    output,
    output::Format,
    refusals::no_such,
};
use crate::documents::{Documents, view::View};

/// Between two readings.
const PACE: Duration = Duration::from_secs(1);
/// How long a reading waits for the first answer: the nodes may notice the first observation of all only after 5 s.
const ANSWER: Duration = Duration::from_secs(7);
/// How long it then waits for the first numbers: a block of 10 s, and the time until it is published.
const FIRST: Duration = Duration::from_secs(16);
/// How long a line waits for the nodes that publish the same block later.
const LATE: Duration = Duration::from_secs(3);
/// The most servers that are shown one by one.
const SERVERS: usize = 8;

const EXAMPLES: &str = "\
Examples:
  weightctl traffic app1                            the last 10 s, over all nodes
  weightctl traffic app1 --watch                    again and again, until Ctrl-C
  weightctl traffic app1 --nodes                    also each node
  weightctl traffic app1 --sides 'blue*' 'green*'   these servers together

The first numbers come after 10 to 15 s: the nodes count only while somebody observes.
Exit codes: 3 without numbers, 4 denied, 7 no such backend. `weightctl --help` lists all.";

/// Show requests per second, errors and real shares of a backend
///
/// The nodes count only while this runs, in blocks of 10 s. Shows for each server, or each side: requests per second, the
/// real beside the desired share, errors as users saw them, failed attempts that another server answered (masked), answers
/// of 4xx, the mean time to an answer, and the sessions. The document's servers above 0 and at 0 are the sides where there
/// are more than 8 servers; of a split, its patterns are.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// Show it again after each block, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Also show each node
    #[arg(long)]
    nodes: bool,
    /// Servers that are shown together; * and ? are wildcards, a comma joins several
    #[arg(long, value_name = "SERVERS", num_args = 1.., value_parser = side)]
    sides: Vec<Side>,
}

/// One side on the command line.
#[derive(Debug, Clone)]
struct Side {
    label: String,
    patterns: Vec<Pattern>,
}

fn side(text: &str) -> Result<Side, weightd_core::model::InvalidName> {
    let patterns = text.split(',').map(Pattern::new).collect::<Result<_, _>>()?;
    Ok(Side { label: text.to_owned(), patterns })
}

/// Shows the traffic. The JSON output is a [`TrafficView`]; with --watch, one line for each block.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    // A signal that would kill the program must not leave the observation behind.
    let stopped = |error| Failure::caused(Exit::Failure, error);
    let mut term = signal(SignalKind::terminate()).map_err(stopped)?;
    let mut hup = signal(SignalKind::hangup()).map_err(stopped)?;
    tokio::select! {
        biased;
        result = follow(args, &documents, context) => result,
        _ = term.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        _ = hup.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

async fn follow(args: &Args, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    let mut following = Following::start(documents, &args.backend).await?;
    let live = args.watch && context.format == Format::Table && output::is_screen();
    if !args.watch && output::is_terminal() {
        output::message(&format!("observing {}: the first numbers come after 10 to 15 s", args.backend));
    }
    let mut pace = Lines::default();
    let mut deadline = Instant::now() + ANSWER;
    let mut answered = false;
    loop {
        let next = Instant::now() + PACE;
        match reading(args, documents, &mut following).await {
            Ok(view) => {
                if following.asked.is_empty() && !args.watch {
                    return ended(&view);
                }
                if nobody_has_it(&following) {
                    return Err(nobody(args, documents, &following).await);
                }
                if !answered && !following.collector.sources.is_empty() {
                    (answered, deadline) = (true, Instant::now() + FIRST);
                }
                let ends = !args.watch && Instant::now() >= deadline;
                let complete = pace.is_complete(&following);
                if live {
                    output::redraw_screen(&show::screen(&view))?;
                } else if complete || ends {
                    show(&view, args, context)?;
                }
                if ends || complete && !args.watch {
                    return ended(&view);
                }
            }
            // An election of Consul's leader takes seconds.
            Err(failure) if failure.exit == Exit::Unreachable && args.watch => output::failure(&failure),
            Err(failure) => return Err(failure),
        }
        sleep_until(next).await;
    }
}

/// Reads the nodes and the document.
async fn reading(args: &Args, documents: &Documents, following: &mut Following) -> Result<TrafficView, Failure> {
    let (read, stored) = tokio::join!(following.read(), documents.backend(&args.backend));
    read?;
    // Without the right to read the document there is no desired share.
    let view = match stored {
        Ok(stored) => stored.as_ref().map(View::of),
        Err(error) => match Failure::from(error) {
            failure if failure.exit == Exit::Denied => None,
            failure => return Err(failure),
        },
    };
    let weights = view.as_ref().and_then(|view| view.weights.as_ref());
    let split = view.as_ref().and_then(|view| view.split.as_ref());
    let groups = groups(args, weights, split, following)?;
    let draining = following.draining(&at_zero(weights, split));
    Ok(TrafficView::of(&args.backend, documents.time(), view.as_ref(), following, &groups, draining, args.nodes))
}

/// What is shown together.
fn groups(
    args: &Args,
    weights: Option<&Weights>,
    split: Option<&Split>,
    following: &Following,
) -> Result<Groups, Failure> {
    let none = Weights::new();
    let known = weights.unwrap_or(&none);
    if !args.sides.is_empty() {
        let groups = Groups::of(known, args.sides.iter().map(|side| (side.label.clone(), side.patterns.clone())));
        let servers = servers(following);
        return match groups.overlap(servers.iter()) {
            Some((server, sides)) => {
                Err(Failure::new(Exit::Refused, format!("server {server} is on more than one side: {sides}")))
            }
            None => Ok(groups),
        };
    }
    if let Some(split) = split {
        return Ok(Groups::of_split(split));
    }
    Ok(match weights {
        Some(weights) if weights.len() <= SERVERS => Groups::of_servers(weights),
        Some(weights) => Groups::of_weights(weights),
        None => {
            let group = |server: &ServerName| Group {
                label: server.to_string(),
                patterns: vec![Pattern::from(server)],
                desired: None,
            };
            let servers = servers(following);
            Groups::new(if servers.len() <= SERVERS { servers.iter().map(group).collect() } else { Vec::new() })
        }
    })
}

/// The servers that a HAProxy has.
fn servers(following: &Following) -> Vec<ServerName> {
    let rows = following.collector.sources.values().flat_map(|source| source.now.keys());
    let mut servers: Vec<_> = rows.filter_map(|row| ServerName::new(row).ok()).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

fn nobody_has_it(following: &Following) -> bool {
    !following.asked.is_empty() && following.missing.is_empty() && following.lacks.len() == following.asked.len()
}

async fn nobody(args: &Args, documents: &Documents, following: &Following) -> Failure {
    let failure = no_such(documents, &args.backend, "`weightctl list` shows the backends").await;
    let nodes = output::counted(following.asked.len(), "node");
    let message = format!("no HAProxy of {nodes} has the backend `{}`", args.backend);
    Failure { error: anyhow::Error::msg(message), ..failure }
}

fn show(view: &TrafficView, args: &Args, context: &Context<'_>) -> Result<(), Failure> {
    match context.format {
        Format::Json if args.watch => context.format.json_line(view),
        Format::Json => context.format.json(view),
        Format::Table => {
            output::print(&show::text(view, output::width()))?;
            if args.watch { output::print("\n") } else { Ok(()) }
        }
    }
}

/// The end without --watch.
fn ended(view: &TrafficView) -> Result<Exit, Failure> {
    if view.counted() > 0 {
        return Ok(Exit::Ok);
    }
    let message = format!("there are no numbers of {}: {}", view.backend(), view.why_not());
    Err(Failure::new(Exit::NotConverged, message).hint(
        "`weightctl status` shows the nodes; each needs to read `observe/` and to write its own key in `counters/`",
    ))
}

/// When a line is printed: once for each block, after the nodes have published it.
#[derive(Debug, Default)]
struct Lines {
    /// The block of each HAProxy on the last line.
    printed: BTreeMap<(NodeName, String), u64>,
    /// When the first newer block came.
    newer: Option<Instant>,
}

impl Lines {
    fn is_complete(&mut self, following: &Following) -> bool {
        let now = following.now();
        let mut blocks = BTreeMap::new();
        let mut waiting = following.silent().len();
        for (key, source) in &following.collector.sources {
            match source.window(now) {
                Ok(window) if self.printed.get(key) != Some(&window.k) => drop(blocks.insert(key.clone(), window.k)),
                // The next block comes, or the first one.
                Ok(_) | Err(NoNumbers::NotYet) => waiting += 1,
                // Nothing comes from these.
                Err(_) => {}
            }
        }
        if blocks.is_empty() {
            self.newer = None;
            return false;
        }
        let since = *self.newer.get_or_insert_with(Instant::now);
        if waiting > 0 && since.elapsed() < LATE {
            return false;
        }
        self.printed.extend(blocks);
        self.newer = None;
        true
    }
}
