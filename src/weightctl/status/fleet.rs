//! `status` of the fleet: reads it, selects a part, prints it. The tables are in `tables`.

mod tables;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use weightd_core::model::{BackendName, Escaped, Timestamp, nearest};

use super::{Args, of_this_host, report};
use crate::{
    documents::{Documents, fleet::Hidden, view::View},
    weightctl::{
        Exit,
        context::Context,
        failure::Failure,
        fleet::{BackendView, FleetView, OffView},
        following::{Following, at_zero},
        observing,
        output::{self, Format},
        refusals::no_such,
    },
};

pub(in crate::weightctl) use self::tables::nodes as nodes_table;

/// Between two readings of `--watch`.
const PACE: Duration = Duration::from_secs(1);
/// How long a reading without `--watch` waits for the nodes to say what is left where the weight is 0.
const ANSWERS: Duration = Duration::from_secs(1);
/// Between two readings of their answers.
const POLL: Duration = Duration::from_millis(50);

/// Shows the fleet. The JSON output is a [`FleetView`]; with --watch, one line for each reading.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    if !args.watch {
        return once(args, context).await;
    }
    if context.format == Format::Table && !output::is_screen() {
        return Err(Failure::new(Exit::Usage, "--watch redraws a terminal, and stdout is no terminal")
            .hint("without --watch, or with `-o json`, which prints one line each second"));
    }
    let documents = context.documents()?;
    let mut left = Sessions::default();
    loop {
        let next = Instant::now() + PACE;
        // One failed reading, such as during an election, does not end the watch.
        match read(&documents, context).await.and_then(|view| select(view, args)) {
            Ok(mut view) => {
                left.show(&documents, args, &mut view, Duration::ZERO).await;
                match context.format {
                    Format::Json => context.format.json_line(&view)?,
                    Format::Table => output::redraw_screen(&text(&view, args, documents.time()))?,
                }
            }
            Err(failure) if failure.exit == Exit::Unreachable => output::failure(&failure),
            Err(failure) => return Err(failure),
        }
        sleep_until(next).await;
    }
}

async fn once(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let mut view = read(&documents, context).await?;
    if view.nodes.is_empty() {
        return no_nodes(view, args, context, &documents).await;
    }
    if let Some(backend) = &args.backend
        && !view.backends.iter().any(|known| known.backend == *backend)
    {
        return Err(no_such(&documents, backend, "`weightctl list` shows the backends that exist").await);
    }
    view = select(view, args)?;
    Sessions::default().show(&documents, args, &mut view, ANSWERS).await;
    let exit = if in_sync(&view, args) { view.exit() } else { Exit::NotConverged };
    context.format.data(&view, |view| text(view, args, documents.time()))?;
    if let Some(backend) = args.backend.as_ref().filter(|_| context.format == Format::Table && !args.problems) {
        // The result is printed already: what fails from here on changes no exit code.
        match documents.backend(backend).await {
            Ok(Some(stored)) => observing::say_untrue(&documents, &View::of(&stored)).await,
            Ok(None) => {}
            Err(error) => observing::note(error),
        }
    }
    Ok(exit)
}

/// The sessions that are left where the weight is 0, of the backend that the command names.
#[derive(Default)]
struct Sessions {
    following: Option<Following>,
    /// Whether it cannot be known, and that was said.
    off: bool,
}

impl Sessions {
    /// Adds them to the view. Observes only if a server is at 0, and waits for the nodes for at most `limit`.
    async fn show(&mut self, documents: &Documents, args: &Args, view: &mut FleetView, limit: Duration) {
        let Some(backend) = view.backends.iter_mut().find(|view| Some(&view.backend) == args.backend.as_ref()) else {
            return;
        };
        let zero = at_zero(backend.weights.as_ref(), backend.split.as_ref());
        if zero.is_empty() {
            self.following = None;
            return;
        }
        if self.off {
            return;
        }
        match self.read(documents, &backend.backend, limit).await {
            Ok(following) => backend.draining = following.draining(&zero),
            Err(failure) => {
                (self.following, self.off) = (None, failure.exit == Exit::Denied);
                observing::note(failure);
            }
        }
    }

    async fn read(
        &mut self,
        documents: &Documents,
        backend: &BackendName,
        limit: Duration,
    ) -> Result<&mut Following, Failure> {
        let following = match self.following.take() {
            Some(following) => following,
            None => Following::start(documents, backend).await?,
        };
        let following = self.following.insert(following);
        loop {
            following.read().await?;
            if following.silent().is_empty() || following.elapsed() >= limit {
                return Ok(following);
            }
            sleep(POLL).await;
        }
    }
}

/// Reads the fleet.
pub(in crate::weightctl) async fn read(documents: &Documents, context: &Context<'_>) -> Result<FleetView, Failure> {
    // The documents last: a node with a newer document than the one read here would seem to be of another Consul.
    let (nodes, roster) = tokio::join!(documents.nodes(None), documents.roster_in_view());
    let (nodes, (roster, hidden)) = (nodes?, roster?);
    let desired = documents.desired().await?;
    let expect = documents.keys().expect();
    let effect = |key: &str| {
        if key == expect { "unknown how many nodes there should be" } else { "unknown which nodes are missing" }
    };
    let hidden = hidden.into_iter().map(|Hidden { key, rule }| OffView {
        effect: effect(&key),
        why: "the token may not read it".to_owned(),
        remedy: format!("the token needs {rule}"),
        key,
        denied: true,
    });
    let bad = roster.expect.as_ref().and_then(|(_, expect)| expect.as_ref().err()).map(|bad| OffView {
        effect: effect(&expect),
        why: bad.to_string(),
        remedy: "`weightctl node expect N` writes it".to_owned(),
        key: expect.clone(),
        denied: false,
    });
    let off = hidden.chain(bad).collect();
    Ok(FleetView { off, ..FleetView::of(&context.root(), &roster.fleet(&nodes), &desired) })
}

/// Without any node: says so, and shows this host if it has a weightd.
async fn no_nodes(
    mut view: FleetView,
    args: &Args,
    context: &Context<'_>,
    documents: &Documents,
) -> Result<Exit, Failure> {
    let local = of_this_host(args, context).await.ok();
    let text = local.as_ref().map_or_else(String::new, |(_, status)| report::text(status, output::columns()));
    view.local = local.map(|(value, _)| value);
    context.format.data(&view, |_| text)?;
    let here = if view.local.is_some() { "; this is the weightd of this host" } else { "" };
    output::note(&format!(
        "no node reports below {}{here}; for the reason: `weightctl check` on a host with weightd",
        documents.keys().nodes()
    ));
    Ok(Exit::NotConverged)
}

/// The part that the command asks for.
fn select(mut view: FleetView, args: &Args) -> Result<FleetView, Failure> {
    if let Some(node) = &args.node {
        if !view.nodes.iter().any(|known| known.node == *node) {
            let near = nearest(node.as_str(), view.nodes.iter().map(|known| known.node.as_str()));
            return Err(Failure::new(Exit::Refused, format!("no node `{node}` is known")).hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`weightctl node list` shows the nodes".to_owned(),
            }));
        }
        view.retain_node(node);
    }
    if let Some(backend) = &args.backend {
        view.retain_backend(backend);
    }
    Ok(view)
}

fn in_sync(view: &FleetView, args: &Args) -> bool {
    match (&args.backend, &args.node) {
        (Some(_), _) => view.problems.is_empty() && view.backends.iter().all(BackendView::in_sync),
        (None, Some(_)) => view.problems.is_empty(),
        (None, None) => view.all_in_sync(),
    }
}

/// The text of the part that the command asks for.
fn text(view: &FleetView, args: &Args, now: Option<Timestamp>) -> String {
    let columns = output::columns();
    let text = match (&args.backend, &args.node) {
        _ if args.problems => tables::problems(view),
        (Some(_), _) => view.backends.iter().map(|backend| tables::backend(backend, now, columns)).collect(),
        (None, Some(_)) => view.nodes.iter().map(|node| tables::node(node, now, columns)).collect::<String>(),
        (None, None) => tables::fleet(view, now, columns),
    };
    text + &off_text(&view.off)
}

/// The parts that the view lacks, and what to do about each.
pub(in crate::weightctl) fn off_text(off: &[OffView]) -> String {
    let lines =
        |off: &OffView| format!("off: {}: {}\n  {}\n  {}\n", off.key, off.effect, Escaped(&off.why), off.remedy);
    off.iter().map(lines).collect()
}
