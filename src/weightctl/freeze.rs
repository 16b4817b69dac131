//! `freeze` and `unfreeze`: stop changes by weightctl and rollouts, of all backends or of one.

use serde::Serialize;
use weightd_core::{
    fleet::{Freeze, Frozen},
    model::{BackendName, Timestamp},
};

use super::{
    Exit, change::user, context::Context, failure::Failure, output, refusals::not_written, settle::not_marked,
};
use crate::documents::history::Marked;

/// Stop changes, of all backends or of one, until `unfreeze`
///
/// Stops writes by weightctl and by rollouts: they end with exit code 7 and name the author and the reason. `rollback`
/// passes. Nodes keep enforcing the documents.
#[derive(Debug, clap::Args)]
pub(super) struct FreezeArgs {
    /// The backend; without it all backends
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
    /// Reason; shown to everybody who tries to change a backend
    #[arg(long, short = 'm', value_name = "TEXT", required = true)]
    reason: String,
    /// Author
    #[arg(long, value_name = "NAME", help = "Author [default: $SUDO_USER, $USER or the user id]")]
    by: Option<String>,
}

/// Allow changes again, of all backends or of one
#[derive(Debug, clap::Args)]
pub(super) struct UnfreezeArgs {
    /// The backend; without it the freeze of all backends ends
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
}

/// The result. In JSON:
///
/// ```json
/// {"backend": "app1",   null for all backends
///  "frozen": true,
///  "changed": true}     false if it was so already
/// ```
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    backend: Option<&'a BackendName>,
    frozen: bool,
    changed: bool,
}

/// Freezes. The JSON output is an [`Outcome`].
pub(super) async fn freeze(args: &FreezeArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let since = u64::try_from(jiff::Timestamp::now().as_second()).ok().map(Timestamp::from_seconds);
    let by = args.by.clone().or_else(|| user(context.env));
    let frozen = Frozen { by, reason: Some(args.reason.clone()), since };
    write(args.backend.as_ref(), &Freeze { frozen: Some(frozen) }, context).await
}

/// Ends a freeze. The JSON output is an [`Outcome`].
pub(super) async fn unfreeze(args: &UnfreezeArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    write(args.backend.as_ref(), &Freeze::default(), context).await
}

async fn write(backend: Option<&BackendName>, freeze: &Freeze, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    // Nobody could read it: it would freeze nothing.
    if let Err(bad) = Freeze::parse(&freeze.to_value()) {
        return Err(Failure::new(Exit::Refused, format!("this freeze cannot be stored: {bad}; nothing was written"))
            .hint("shorten --reason and --by"));
    }
    let what = backend.map_or_else(|| "all backends".to_owned(), ToString::to_string);
    let frozen = freeze.frozen.is_some();
    let changed = match documents.set_freeze(backend, freeze, None).await.map_err(not_written)? {
        Marked::Yes => true,
        Marked::Nothing => false,
        other => return Err(not_marked(&format!("the freeze of {what}"), other)),
    };
    output::message(&match (frozen, changed) {
        (true, _) => format!("frozen: {what}; only `weightctl rollback` writes until `weightctl unfreeze`"),
        (false, true) => format!("changes are possible again: {what}"),
        (false, false) => format!("nothing to change: {what} was not frozen"),
    });
    context.format.json(&Outcome { backend, frozen, changed })?;
    Ok(Exit::Ok)
}
