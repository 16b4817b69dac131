use weightd_core::{history::Way, model::BackendName};

use super::{
    Exit,
    change::{Flags, Options, carry_out, with_context},
    context::Context,
    failure::Failure,
    refusals::{not_written, refused_after_asking},
    wait::WaitFlags,
};
use crate::documents::edit::{self, Intent};

/// Stop managing a backend; HAProxy keeps the weights it has
///
/// Writes a document that releases the backend; it also replaces leaves. Use --create if the backend is orphaned: its key
/// was deleted from Consul and weightd keeps its last weights. To manage a backend again, name every server in
/// `weightctl set BACKEND … --create`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// Allow a backend without a key in Consul or with a rejected document
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Releases the backend. The JSON output is an [`Outcome`](super::outcome::Outcome).
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    args.wait.refuse_drained("release")?;
    let documents = context.documents()?;
    let known = documents.context(&args.backend).await.map_err(not_written)?;
    let intent = with_context(args.flags.intent(Way::Release, context.env), &known);
    match edit::release(&args.backend, known.stored.as_ref(), &Intent { create: args.create, ..intent }) {
        Ok(edit) => {
            let options = Options {
                flags: &args.flags,
                waits: &args.wait,
                serving: None,
                shift: None,
                heard: None,
                take_over: None,
            };
            carry_out(context.format, &documents, &args.backend, &edit, &known, &options).await
        }
        Err(error) => Err(refused_after_asking(&documents, error, &args.flags).await),
    }
}
