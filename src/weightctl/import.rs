//! Creates documents from the weights of a running HAProxy, or from the keys that a template reads.
//!
//! This module shows the documents, asks, and writes them; [`decide`] decides which documents are written. It must
//! never change HAProxy or the keys that it imports from: other programs continue to use those keys.

mod decide;
mod haproxy;
mod kv;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use weightd_core::{
    history::Way,
    model::{BackendName, Escaped, Root},
    reasons,
};

use self::decide::{Candidates, Decision, NextChange, Skipped};
use super::{
    Exit,
    change::{Flags, confirm, write},
    context::Context,
    failure::Failure,
    outcome::Outcome,
    output,
    preview::preview,
    refusals::not_written,
};
use crate::{
    documents::{
        Context as Known, Documents,
        edit::{Edit, Intent},
    },
    haproxy::Address,
};

const EXAMPLES: &str = "\
Examples:
  weightctl import --from-haproxy /run/haproxy/admin.sock --dry-run    show the change only
  weightctl import --from-haproxy /run/haproxy/admin.sock              show the change, ask, write
  weightctl import app1 --from-haproxy /run/haproxy/admin.sock --yes   one backend, no question
  weightctl import --from-kv traffic                                   keys like traffic/app1/blue

Exit codes: 4 denied, 5 changed by another writer meanwhile, 6 Consul unreachable, 7 refused,
130 Ctrl-C. `weightctl --help` lists all.";

/// Write documents from the current weights of a HAProxy or of other keys
///
/// Reads the weights of a running HAProxy, or of the keys that a template reads. Shows the documents and asks, unless
/// --yes is given. Changes nothing in HAProxy and none of those keys. Skips a backend that has other content in
/// Consul, unless --replace is given. You can run it again at any time.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these backends; nothing is written if one of them cannot be imported
    #[arg(value_name = "BACKEND", value_parser = BackendName::new)]
    backends: Vec<BackendName>,
    #[command(flatten)]
    from: From,
    /// Also replace the content that a backend has in Consul; a server that is not imported keeps its weight there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The source of the weights.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct From {
    /// From the HAProxy with this runtime API, such as /run/haproxy/admin.sock; level operator is enough
    #[arg(long, value_name = "SOCKET")]
    from_haproxy: Option<Address>,
    /// From the keys PREFIX/BACKEND/SERVER, each value a plain number
    #[arg(long, value_name = "PREFIX")]
    from_kv: Option<Root>,
}

/// The result of an import. In JSON:
///
/// ```json
/// {
///   "dry_run": false,      true if nothing was written because of --dry-run
///   "imported": [{…}…],    each in the format of `set`; "changed" is false if Consul already had these weights
///   "left": [{"backend", "key", "reason", "remedy"}…],        what was not imported; backend or key may be null
///   "next": [{"backend", "server", "from", "to", "not_now"}…],   what weightd will set in HAProxy; "not_now": why it is
///                                                             set later; null with --from-kv
///   "unmanaged": ["app9"…]                                    backends without a document; null with --from-kv
/// }
/// ```
#[derive(Debug, Serialize)]
struct Import<'a> {
    dry_run: bool,
    imported: Vec<Outcome<'a>>,
    left: &'a [Skipped],
    next: Option<Vec<NextChange>>,
    unmanaged: Option<Vec<BackendName>>,
}

/// Imports. The JSON output is an [`Import`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    let documents = context.documents()?;
    let candidates = args.from.read(&args.backends, &documents).await?;
    let names = candidates.backends();
    let wanted = candidates.found.iter().map(|found| found.backend.clone()).filter(|backend| args.wants(backend));
    let wanted: Vec<_> = wanted.collect();
    let known = documents.contexts(&wanted).await.map_err(not_written)?;
    let known: BTreeMap<_, _> = wanted.into_iter().zip(known).collect();
    // `create`: an import may write a backend without a key.
    let intent = Intent { create: true, ..args.flags.intent(Way::Import, context.env) };
    let decision = decide::decide(candidates, &args.backends, &known, documents.prefix(), args.replace, &intent);
    show(&decision);
    if !args.backends.is_empty() && !decision.skipped.is_empty() {
        return Err(args.from.refused(decision.skipped.len(), "nothing was written"));
    }

    let mut outcomes: Vec<_> = decision.unchanged.iter().map(|(b, edit)| Outcome::of(b, edit, &args.flags)).collect();
    if decision.writes.is_empty() {
        output::message("nothing to write");
    } else if args.flags.dry_run {
        output::message("dry run: nothing was written");
        outcomes.extend(decision.writes.iter().map(|(b, edit)| Outcome::of(b, edit, &args.flags)));
    } else {
        confirm(&documents, &args.flags).await?;
        outcomes.extend(written(&documents, &decision.writes, &known, &args.flags).await?);
    }
    let next = args.from.next(&decision, &args.flags).await?;
    let unmanaged = args.from.unmanaged(names, &decision, &documents).await?;
    let (dry_run, left) = (args.flags.dry_run, &decision.skipped[..]);
    context.format.json(&Import { dry_run, imported: outcomes, left, next, unmanaged })?;
    match decision.skipped.iter().filter(|skipped| skipped.refused).count() {
        0 => Ok(Exit::Ok),
        refused => Err(args.from.refused(refused, "they are unchanged in Consul")),
    }
}

/// Writes the backends one after the other and stops at the first failure. The earlier writes stay: each is correct by
/// itself.
async fn written<'a>(
    documents: &Documents,
    writes: &'a [(BackendName, Edit)],
    known: &BTreeMap<BackendName, Known>,
    flags: &Flags,
) -> Result<Vec<Outcome<'a>>, Failure> {
    let mut outcomes = Vec::with_capacity(writes.len());
    for (backend, edit) in writes {
        // Each backend that is written was read before.
        let Some(known) = known.get(backend) else { continue };
        let index = write(documents, backend, edit, known).await.map_err(|failure| match outcomes.len() {
            0 => failure,
            done => failure.context(format!("stopped after the write of {done} of {} backends", writes.len())),
        })?;
        outcomes.push(Outcome::of(backend, edit, flags).written(index));
    }
    Ok(outcomes)
}

/// Prints the decision. Runs before the question.
fn show(decision: &Decision) {
    for (backend, edit) in &decision.writes {
        output::message(preview(backend, edit, output::message_columns()).trim_end());
    }
    if !decision.unchanged.is_empty() {
        let names = reasons::list(decision.unchanged.iter().map(|(backend, _)| backend.as_str()));
        output::message(&format!("unchanged, already in Consul: {names}"));
    }
    for (detail, backends) in &decision.caveats {
        output::note(&format!("{}: {detail}", reasons::list(backends.iter().map(BackendName::as_str))));
    }
    decision.skipped.iter().for_each(|skipped| output::note(&skipped.sentence()));
}

impl Args {
    fn wants(&self, backend: &BackendName) -> bool {
        self.backends.is_empty() || self.backends.contains(backend)
    }
}

impl From {
    async fn read(&self, wanted: &[BackendName], documents: &Documents) -> Result<Candidates, Failure> {
        if let Some(address) = &self.from_haproxy {
            return Ok(decide::of_haproxy(&haproxy::read(address, wanted).await?));
        }
        let Some(prefix) = &self.from_kv else {
            return Err(Failure::new(Exit::Usage, "neither --from-haproxy nor --from-kv is given"));
        };
        let prefix = prefix.to_string();
        let candidates = documents.read_prefix(&prefix, |entries| kv::candidates(&prefix, entries)).await;
        let (candidates, filtered) = candidates.map_err(not_written)?;
        if filtered {
            output::note(&format!("Consul hides keys below {prefix} that this token may not read"));
        }
        if candidates.found.is_empty() && candidates.skipped.is_empty() {
            let message = format!("there is no key below {}", Escaped(&prefix));
            return Err(Failure::new(Exit::Failure, message).hint("`consul kv get -keys` lists the prefixes"));
        }
        Ok(candidates)
    }

    /// Prints and returns the weights that weightd will set in HAProxy. Reads HAProxy again: it may have changed.
    async fn next(&self, decision: &Decision, flags: &Flags) -> Result<Option<Vec<NextChange>>, Failure> {
        let Some(address) = &self.from_haproxy else {
            output::message(
                "to see what weightd would change, run on each host with HAProxy: `weightd --once --dry-run`",
            );
            return Ok(None);
        };
        if decision.in_consul.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let backends: Vec<_> = decision.in_consul.keys().cloned().collect();
        let now = haproxy::read(address, &backends).await;
        let now = now.map_err(|failure| failure.context("cannot determine what weightd does next"))?;
        let changes = decide::next_changes(&decision.in_consul, &now);
        let (has, sets) = if flags.dry_run { ("would have", "would set") } else { ("has", "will set") };
        if changes.is_empty() {
            output::message(&format!("weightd {has} nothing to do: HAProxy has the weights of these documents"));
        }
        for NextChange { backend, server, from, to, not_now } in &changes {
            let change = format!("weightd {sets} {backend}/{server} from {from} to {to}");
            output::note(&match not_now {
                Some(why) => format!("{change}, but not now: {why}"),
                None => format!("{change}: the document in Consul has {to}"),
            });
        }
        Ok(Some(changes))
    }

    /// Prints and returns the backends of HAProxy that have no document, neither in Consul nor in this import.
    async fn unmanaged(
        &self,
        mut names: BTreeSet<BackendName>,
        decision: &Decision,
        documents: &Documents,
    ) -> Result<Option<Vec<BackendName>>, Failure> {
        if self.from_haproxy.is_none() {
            return Ok(None);
        }
        names.retain(|name| !decision.in_consul.contains_key(name));
        let everything = documents.all().await?;
        for stored in &everything.backends {
            names.remove(&stored.backend);
        }
        if !names.is_empty() {
            let list = reasons::list(names.iter().map(BackendName::as_str));
            output::message(&format!(
                "HAProxy has {} without a document: {list}",
                output::counted(names.len(), "backend")
            ));
        }
        Ok(Some(names.into_iter().collect()))
    }

    fn refused(&self, count: usize, written: &str) -> Failure {
        let subject = match (count, &self.from_haproxy) {
            (1, Some(_)) => "1 backend was".to_owned(),
            (_, Some(_)) => format!("{count} backends were"),
            (1, None) => "1 key was".to_owned(),
            (_, None) => format!("{count} keys were"),
        };
        let failure = Failure::new(Exit::Refused, format!("{subject} not imported, see the notes above; {written}"));
        failure.hint(match self.from_haproxy {
            Some(_) => "correct them as the notes describe, or name only the other backends",
            None => {
                "correct the keys, or import from HAProxy: `weightctl import --from-haproxy /run/haproxy/admin.sock`"
            }
        })
    }
}
