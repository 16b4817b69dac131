//! `rollout`: rollouts that a controller judges, moves and takes back. These verbs write what people want; the leader does it.
//!
//! | file | owns |
//! |---|---|
//! | `start` | the verb `start` |
//! | `gather` | what the nodes report before a start or a plan |
//! | `plan` | `plan` and `lint`: plans by name or from a file, and what they would see |
//! | `ask` | `pause`, `resume`, `promote`, `approve`, `mode` |
//! | `abort` | `abort` |
//! | `status` | `status`, `explain`, `log` |
//! | `watch` | `watch`, and the wait of `start` |
//! | `view`, `text` | a rollout as JSON, and for people |

mod abort;
mod ask;
mod gather;
mod plan;
mod start;
mod status;
mod text;
mod view;
mod watch;

use clap::Subcommand;
use weightd_core::{
    model::{BackendName, Timestamp},
    rollout::Verb as Asked,
};

pub(super) use self::text::wrap;
use super::{Exit, context::Context, failure::Failure, output, refusals::no_such};
use crate::{
    base::clock,
    documents::{
        Documents,
        rollouts::{RolloutRead, Standing},
    },
};

const EXAMPLES: &str = "\
Examples:
  weightctl rollout start app1 --to green --mode watch   judge green, and only tell
  weightctl rollout start app1 --to 'green-*' --mode auto --plan careful --wait
  weightctl rollout watch app1                           live, until it ends
  weightctl rollout status                               all rollouts, one line each
  weightctl rollout explain app1                         why it does what it does now
  weightctl rollout pause app1 -m 'customers call'       no further step
  weightctl rollout abort app1                           take green back at once
  weightctl rollout plan app1                            what each plan would see

Exit codes: 9 the rollout was rolled back, 10 it waits for a person. `weightctl --help` lists all.";

/// Move a backend to new servers step by step, judged, and taken back if they are worse
///
/// A controller (rolloutd) compares the new side with the old one that runs beside it. In mode watch and guard people move
/// the weights; in mode auto a plan does. Begin with `start --mode watch`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Start(Box<start::Args>),
    Status(status::StatusArgs),
    Watch(watch::Args),
    Pause(ask::PauseArgs),
    /// Go on after `pause`, or after it stopped to wait for a person
    ///
    /// After a regression the evidence starts anew, with another 1 % of false verdicts.
    Resume(ask::AskArgs),
    /// Let the present bake count as full; all other conditions stay
    Promote(ask::AskArgs),
    /// Allow the next step, where the plan asks for an approval
    ///
    /// Writes a key of its own: `rollouts/approval/BACKEND`, so that a policy can separate who approves.
    Approve(ask::AskArgs),
    Abort(abort::Args),
    Mode(ask::ModeArgs),
    Plan(plan::PlanArgs),
    Lint(plan::LintArgs),
    Explain(status::ExplainArgs),
    Log(status::LogArgs),
}

/// Runs a verb of rollouts.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Start(args) => Box::pin(start::run(args, context)).await,
        Verb::Status(args) => status::status(args, context).await,
        Verb::Watch(args) => watch::run(args, context).await,
        Verb::Pause(args) => ask::pause(args, context).await,
        Verb::Resume(args) => ask::ask(Asked::Resume, args, context).await,
        Verb::Promote(args) => ask::ask(Asked::Promote, args, context).await,
        Verb::Approve(args) => ask::ask(Asked::Approve, args, context).await,
        Verb::Abort(args) => abort::run(args, context).await,
        Verb::Mode(args) => ask::mode(args, context).await,
        Verb::Plan(args) => plan::plan(args, context).await,
        Verb::Lint(args) => plan::lint(args, context),
        Verb::Explain(args) => status::explain(args, context).await,
        Verb::Log(args) => status::log(args, context).await,
    }
}

/// The time: Consul's own, or that of this host before its first answer.
fn now(documents: &Documents) -> Timestamp {
    documents.time().unwrap_or_else(clock::timestamp)
}

/// The backend has no rollout, and it may not exist.
async fn no_rollout(documents: &Documents, backend: &BackendName) -> Failure {
    // Without the right to read the document, nothing is said about it.
    if matches!(documents.published(backend).await, Ok(None)) {
        let unknown = no_such(documents, backend, "`weightctl list` shows the backends").await;
        return unknown.context(format!("backend `{backend}` has no rollout"));
    }
    Failure::new(Exit::Refused, format!("backend `{backend}` has no rollout"))
        .hint("`weightctl rollout status` shows the rollouts, `weightctl rollout start --help` how to start one")
}

/// A key of the rollout cannot be read.
fn unreadable(backend: &BackendName, key: &str, bad: &weightd_core::rollout::BadValue) -> Failure {
    let message = format!("`rollouts/{key}/{backend}` cannot be read: {bad}");
    Failure::new(Exit::Refused, message).hint("use the version of weightctl that fits the controller")
}

/// Names what cannot be read of a rollout.
fn note_unreadable(backend: &BackendName, read: &RolloutRead) {
    for (key, bad) in view::unreadable(read) {
        output::note(&format!("`rollouts/{key}/{backend}` cannot be read: {bad}"));
    }
}

/// Whether the rollout is under way or waits for a controller.
fn is_open(read: &RolloutRead) -> bool {
    matches!(read.standing(), Standing::Pending(_) | Standing::Active(_))
}
