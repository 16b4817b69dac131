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
/// Writes a document that releases the backend. Leaves are replaced by it. A backend whose key is gone,
/// so that HAProxy is held at its last weights (orphaned), is released with --create. To manage a backend again, name every server in
/// `weightctl set BACKEND … --create`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// Also if Consul has no key of the backend, or one that is rejected
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    flags: Flags,
}

/// In JSON an [`Outcome`](super::change::Outcome).
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    let documents = context.documents()?;
    let stored = documents.backend(&args.backend).await?;
    match edit::release(&args.backend, stored.as_ref(), &args.flags.intent(false, args.create, context.env)) {
        Ok(edit) => carry_out(context.format, &documents, &args.backend, &edit, &args.flags, None).await,
        Err(error) => Err(refused(&documents, error).await),
    }
}
