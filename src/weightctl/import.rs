//! What is there today becomes documents: from a HAProxy that runs, or from keys that some template reads.
//!
//! Owns how it is shown, agreed to and written; what is a document and what is left is decided in [`decide`]. Must never
//! change HAProxy, and never the keys it imports from: whoever used them until now goes on with them.

mod decide;
mod haproxy;
mod kv;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use weightd_core::{
    model::{BackendName, Escaped, Root},
    reasons,
};

use self::decide::{Candidates, Decision, Due, Left};
use super::{
    Exit,
    change::{Flags, Outcome, confirm, write},
    context::Context,
    failure::Failure,
    output,
    preview::preview,
};
use crate::{
    documents::{Documents, edit::Edit},
    haproxy::Address,
};

const EXAMPLES: &str = "\
Examples:
  weightctl import --from-haproxy /run/haproxy/admin.sock --dry-run    shows it, writes nothing
  weightctl import --from-haproxy /run/haproxy/admin.sock              shows it, asks, writes
  weightctl import app1 --from-haproxy /run/haproxy/admin.sock --yes   one backend
  weightctl import --from-kv traffic                                   keys as traffic/app1/blue

Exit codes: 4 denied, 5 somebody else changed a backend meanwhile, 6 Consul unreachable, 7 something
was refused, 130 Ctrl-C. `weightctl --help` lists all.";

/// Begin with what is there today: write a document for each backend
///
/// Takes the weights that a HAProxy has now, or those of keys that a template reads. Shows the documents and asks,
/// unless --yes is given. HAProxy is only looked at, and the keys stay as they are. A backend that has something
/// else in Consul already is left as it is, unless --replace is given. May be repeated.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these backends; nothing is written if one of them cannot be imported
    #[arg(value_name = "BACKEND", value_parser = BackendName::new)]
    backends: Vec<BackendName>,
    #[command(flatten)]
    from: From,
    /// Also write over what a backend has in Consul already; servers that are not found keep their weight there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Where from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct From {
    /// From the HAProxy whose runtime API is here, such as /run/haproxy/admin.sock. Level operator is
    /// enough
    #[arg(long, value_name = "SOCKET")]
    from_haproxy: Option<Address>,
    /// From the keys PREFIX/BACKEND/SERVER, each of them a plain number
    #[arg(long, value_name = "PREFIX")]
    from_kv: Option<Root>,
}

/// What an import did. In JSON:
///
/// ```json
/// {
///   "dry_run": false,      if true, nothing was written
///   "imported": [{…}…],    each as `set` prints what it changed; "changed" is false for what was there already
///   "left": [{"backend", "key", "reason", "remedy"}…],        what was not imported; backend or key may be null
///   "next": [{"backend", "server", "from", "to"}…],           what weightd will set on this HAProxy; null from keys
///   "unmanaged": ["app9"…]                                    what HAProxy has without a document; null from keys
/// }
/// ```
#[derive(Debug, Serialize)]
struct Import<'a> {
    dry_run: bool,
    imported: Vec<Outcome<'a>>,
    left: &'a [Left],
    next: Option<Vec<Due>>,
    unmanaged: Option<Vec<BackendName>>,
}

/// In JSON an [`Import`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    let documents = context.documents()?;
    let candidates = args.from.read(&args.backends, &documents).await?;
    let names = candidates.backends();
    let mut stored = BTreeMap::new();
    for found in candidates.found.iter().filter(|found| args.wants(&found.backend)) {
        stored.extend(documents.backend(&found.backend).await?.map(|stored| (found.backend.clone(), stored)));
    }
    // Something comes into being wherever there is nothing.
    let intent = args.flags.intent(false, true, context.env);
    let decision = decide::decide(candidates, &args.backends, &stored, documents.prefix(), args.replace, &intent);
    show(&decision);
    if !args.backends.is_empty() && !decision.left.is_empty() {
        return Err(args.from.refused(decision.left.len(), "nothing was written"));
    }

    let mut outcomes: Vec<_> = decision.same.iter().map(|(b, edit)| Outcome::of(b, edit, &args.flags)).collect();
    if decision.writes.is_empty() {
        output::say("nothing to write");
    } else if args.flags.dry_run {
        output::say("dry run: nothing was written");
        outcomes.extend(decision.writes.iter().map(|(b, edit)| Outcome::of(b, edit, &args.flags)));
    } else {
        confirm(&documents, &args.flags).await?;
        outcomes.extend(written(&documents, &decision.writes, &args.flags).await?);
    }
    let next = args.from.next(&decision, &args.flags).await?;
    let unmanaged = args.from.unmanaged(names, &decision, &documents).await?;
    let (dry_run, left) = (args.flags.dry_run, &decision.left[..]);
    context.format.json(&Import { dry_run, imported: outcomes, left, next, unmanaged })?;
    match decision.left.iter().filter(|left| left.refused).count() {
        0 => Ok(Exit::Ok),
        refused => Err(args.from.refused(refused, "Consul has of them what it had")),
    }
}

/// Writes one after the other. What was written before one that fails stays: it is what HAProxy has, or what was asked for.
async fn written<'a>(
    documents: &Documents,
    writes: &'a [(BackendName, Edit)],
    flags: &Flags,
) -> Result<Vec<Outcome<'a>>, Failure> {
    let mut outcomes = Vec::with_capacity(writes.len());
    for (backend, edit) in writes {
        let index = write(documents, backend, edit).await.map_err(|failure| match outcomes.len() {
            0 => failure,
            done => failure.context(format!("{done} of {} backends were written before", writes.len())),
        })?;
        outcomes.push(Outcome::of(backend, edit, flags).written(index));
    }
    Ok(outcomes)
}

/// Everything that was decided, before anybody is asked.
fn show(decision: &Decision) {
    for (backend, edit) in &decision.writes {
        output::say(preview(backend, edit).trim_end());
    }
    if !decision.same.is_empty() {
        let names = reasons::list(decision.same.iter().map(|(backend, _)| backend.as_str()));
        output::say(&format!("in Consul already, just so: {names}"));
    }
    for (detail, backends) in &decision.caveats {
        output::note(&format!("{}: {detail}", reasons::list(backends.iter().map(BackendName::as_str))));
    }
    decision.left.iter().for_each(|left| output::note(&left.sentence()));
}

/// A number and its noun.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
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
        let (candidates, filtered) = documents.read_prefix(&prefix, |entries| kv::candidates(&prefix, entries)).await?;
        if filtered {
            output::note(&format!("Consul hides keys below {prefix} that this token may not read"));
        }
        if candidates.found.is_empty() && candidates.left.is_empty() {
            let message = format!("there is no key below {}", Escaped(&prefix));
            return Err(
                Failure::new(Exit::Failure, message).hint("`consul kv get -keys` shows which prefixes there are")
            );
        }
        Ok(candidates)
    }

    /// Says what weightd does next with what Consul says now. HAProxy is read again: it may have changed meanwhile.
    async fn next(&self, decision: &Decision, flags: &Flags) -> Result<Option<Vec<Due>>, Failure> {
        let Some(address) = &self.from_haproxy else {
            output::say("what weightd would change, on each host with HAProxy: `weightd --once --dry-run`");
            return Ok(None);
        };
        if decision.says.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let backends: Vec<_> = decision.says.keys().cloned().collect();
        let now = haproxy::read(address, &backends).await;
        let now = now.map_err(|failure| failure.context("cannot tell what weightd does next"))?;
        let due = decide::due(&decision.says, &now);
        let would = if flags.dry_run { "would have" } else { "has" };
        if due.is_empty() {
            output::say(&format!("weightd {would} nothing to do: HAProxy is as these documents say"));
        }
        for Due { backend, server, from, to } in &due {
            output::note(&format!("weightd {would} to set {backend}/{server} from {from} to {to}, as Consul says"));
        }
        Ok(Some(due))
    }

    /// Says what HAProxy has that has no document, now or once this is written.
    async fn unmanaged(
        &self,
        mut names: BTreeSet<BackendName>,
        decision: &Decision,
        documents: &Documents,
    ) -> Result<Option<Vec<BackendName>>, Failure> {
        if self.from_haproxy.is_none() {
            return Ok(None);
        }
        names.retain(|name| !decision.says.contains_key(name));
        let everything = documents.all().await?;
        for stored in &everything.backends {
            names.remove(&stored.backend);
        }
        if !names.is_empty() {
            let list = reasons::list(names.iter().map(BackendName::as_str));
            output::say(&format!("HAProxy has {} without a document: {list}", counted(names.len(), "backend")));
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
        let failure = Failure::new(Exit::Refused, format!("{subject} not imported, see the notes; {written}"));
        failure.hint(match self.from_haproxy {
            Some(_) => "name the backends to import, or do what the notes say",
            None => {
                "correct the keys, or import from HAProxy: `weightctl import --from-haproxy /run/haproxy/admin.sock`"
            }
        })
    }
}
