use weightd_core::model::BackendName;

use super::{
    Exit,
    change::{Flags, carry_out},
    context::Context,
    failure::Failure,
    refusals::refused,
};
use crate::documents::edit;

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
}

/// Releases the backend. The JSON output is an [`Outcome`](super::change::Outcome).
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    let documents = context.documents()?;
    let stored = documents.backend(&args.backend).await?;
    match edit::release(&args.backend, stored.as_ref(), &args.flags.intent(false, args.create, context.env)) {
        Ok(edit) => carry_out(context.format, &documents, &args.backend, &edit, &args.flags, None).await,
        Err(error) => Err(refused(&documents, error).await),
    }
}
