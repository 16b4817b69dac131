use weightd_core::model::BackendName;

use super::{
    Exit,
    context::Context,
    failure::Failure,
    output,
    refusals::{no_such, not_written},
};
use crate::documents::history::Marked;

/// Mark the present state of a backend as a resting point: a rollback does not go behind it
///
/// Writes the history only; no weight changes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
}

/// Settles the backend. Prints no data.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let backend = &args.backend;
    match documents.settle(backend).await.map_err(not_written)? {
        Marked::Yes => {
            output::message(&format!("settled: the next rollback of {backend} goes back to its present state at most"));
            Ok(Exit::Ok)
        }
        Marked::Nothing => Err(no_such(&documents, backend, "`weightctl list` shows the backends").await),
        other => Err(not_marked(&format!("the history of `{backend}`"), other)),
    }
}

/// A small key was not written.
pub(super) fn not_marked(what: &str, marked: Marked) -> Failure {
    match marked {
        Marked::Unreadable(why) => {
            Failure::new(Exit::Failure, format!("{what} cannot be read, so nothing was written: {why}"))
        }
        Marked::Superseded => {
            Failure::new(Exit::Conflict, format!("Consul accepted the write, but another write replaced {what} since"))
                .hint("run it again")
        }
        Marked::Yes | Marked::Nothing | Marked::Conflict => {
            let message = format!("other writers changed {what} in each attempt; nothing was written");
            Failure::new(Exit::Conflict, message).hint("run it again")
        }
    }
}
