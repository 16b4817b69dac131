//! `rollback --all --off`: every backend off a side, one transaction each.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use tokio::signal::ctrl_c;
use weightd_core::{
    desired::Pattern,
    history::Way,
    model::{BackendName, Escaped, nearest},
    rollback::{Decision, decide},
};

use super::{
    ATTEMPTS, Args, Planned, done_by_another,
    side::{Side, of_orphan, of_rejected, of_vanished_leaf, orphans},
};
use crate::{
    documents::{
        Context as Known, Documents, Optional, Written,
        changes::rollback_edit,
        edit::{Edit, Write},
        stored::{Content, Everything},
        view::View,
    },
    weightctl::{
        Exit,
        change::confirm,
        context::Context,
        failure::Failure,
        outcome::{Outcome, Said, say_nodes},
        output,
        preview::preview,
        refusals::not_written,
        wait::wait_for_each,
    },
};

/// Transactions at the same time.
const PARALLEL: usize = 16;

/// A backend that is rolled back.
struct Item {
    backend: BackendName,
    known: Known,
    edit: Edit,
}

/// A backend that is rolled back, by this command or by another writer.
enum Done {
    /// It was written.
    Written(Box<Edit>, u64),
    /// It needs no write.
    Unchanged(Box<Unchanged>),
}

/// A backend that needs no write, because its document gives the side no traffic, or is the rollback of another writer: a node
/// may not have it yet.
struct Unchanged {
    view: View,
    index: u64,
}

/// The backends below the root, by what a rollback does with them.
#[derive(Default)]
struct Backends {
    /// Those to take off the side.
    affected: Vec<BackendName>,
    /// Those that are off it.
    off: Vec<Unchanged>,
    /// Those that cannot be judged.
    failed: Vec<(BackendName, Failure)>,
}

/// Rolls every backend back that has servers named by `--off` with traffic.
pub(super) async fn run(args: &Args, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    let Backends { affected, mut off, mut failed } = backends(args, documents).await?;
    let contexts = documents.contexts(&affected).await.map_err(not_written)?;
    let mut items = Vec::new();
    for (backend, known) in affected.into_iter().zip(contexts) {
        match plan(&backend, &known, args, context) {
            Ok(edit) if edit.write == Write::Nothing => {
                off.extend(known.stored.iter().map(|stored| Unchanged { view: View::of(stored), index: stored.index }));
            }
            Ok(edit) => items.push(Item { backend, known, edit }),
            Err(failure) => failed.push((backend, failure)),
        }
    }
    for Item { backend, edit, .. } in &items {
        output::message(preview(backend, edit, output::message_columns()).trim_end());
    }
    for (backend, failure) in &failed {
        note(backend, failure);
    }
    if items.is_empty() && failed.is_empty() {
        output::message("nothing to change: no document gives these servers traffic");
    }
    let mut outcomes: Vec<_> = items.iter().map(|item| Outcome::of(&item.backend, &item.edit, &args.flags)).collect();
    say_nodes(documents, &args.flags, &args.wait, &mut outcomes).await;
    if args.flags.dry_run {
        output::message("dry run: nothing was written");
        outcomes.extend(off.iter().map(|off| off.outcome(args)));
        print(&outcomes, args, context)?;
        return end(&failed, Ok(Exit::Ok));
    }
    let mut said: BTreeMap<BackendName, Said> =
        outcomes.into_iter().map(|outcome| (outcome.backend().clone(), outcome.into_said())).collect();
    let mut done = Vec::new();
    if !items.is_empty() {
        confirm(documents, &args.flags).await?;
        for (backend, result) in write(items, documents, args, context).await? {
            match result {
                Ok(Done::Written(edit, index)) => done.push((backend, edit, index)),
                Ok(Done::Unchanged(unchanged)) => off.push(*unchanged),
                Err(failure) => {
                    note(&backend, &failure);
                    failed.push((backend, failure));
                }
            }
        }
        output::message(&format!("written: {}", output::counted(done.len(), "backend")));
    }
    let written = done.iter().map(|(backend, edit, index)| {
        let said = said.remove(backend).unwrap_or_default();
        Outcome::of(backend, edit, &args.flags).after(said).written(*index)
    });
    let outcomes: Vec<_> = written.chain(off.iter().map(|off| off.outcome(args))).collect();
    print(&outcomes, args, context)?;
    // Also what needs no write: a node may not have it.
    let written = done.iter().map(|(backend, _, index)| (backend, *index));
    let waits = written.chain(off.iter().map(|off| (&off.view.backend, off.index)));
    end(&failed, wait_for_each(context.format, documents, waits, &args.wait).await)
}

/// Reads what Consul and the nodes have. Fails if nothing names the servers.
async fn backends(args: &Args, documents: &Documents) -> Result<Backends, Failure> {
    let (everything, nodes) = tokio::join!(documents.all(), documents.nodes(None));
    let everything = everything.map_err(not_written)?;
    let (mut backends, mut released) = (Backends::default(), Vec::new());
    for stored in &everything.backends {
        let view = View::of(stored);
        match Side::of(&view, &args.off) {
            Side::Traffic => backends.affected.push(stored.backend.clone()),
            Side::NoTraffic => backends.off.push(Unchanged { view, index: stored.index }),
            Side::NotNamed => {}
            Side::Released => released.push(stored.backend.as_str()),
            Side::Rejected(why) => backends.failed.push((stored.backend.clone(), refused(of_rejected(&why)))),
        }
    }
    match nodes {
        Ok(nodes) => {
            let leaves: BTreeMap<_, _> = everything
                .backends
                .iter()
                .map(|stored| (&stored.backend, matches!(stored.content, Content::Leaves(_))))
                .collect();
            // A document says all that nodes enforce, and a rejected one is named already. Leaves do not show that one is gone.
            for (name, nodes) in orphans(&nodes, |backend| leaves.get(backend) == Some(&false)) {
                let why = if leaves.contains_key(&name) { of_vanished_leaf(&nodes) } else { of_orphan(&nodes) };
                backends.failed.push((name, refused(why)));
            }
        }
        Err(error) => {
            let Failure { error, hint, .. } = Failure::from(error);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            output::note(&format!("whether nodes have backends without a document is not known: {error:#}{hint}"));
        }
    }
    if everything.filtered {
        output::note("Consul hides keys, because this token may not read them; their backends are not rolled back");
    }
    if !released.is_empty() {
        let names = weightd_core::reasons::list(released.into_iter());
        output::note(&format!("left alone, because they are released: {names}; HAProxy keeps their weights"));
    }
    let Backends { affected, off, failed } = &backends;
    if affected.is_empty() && off.is_empty() && failed.is_empty() {
        return Err(names_none(&everything, &args.off));
    }
    Ok(backends)
}

/// The failure where no document names the servers: suggests a similar name.
fn names_none(everything: &Everything, off: &[Pattern]) -> Failure {
    let patterns: Vec<_> = off.iter().map(|pattern| format!("`{}`", pattern.as_str())).collect();
    let failure =
        Failure::new(Exit::Refused, format!("no document names a server that matches {}", patterns.join(", ")));
    let views: Vec<_> = everything.backends.iter().map(View::of).collect();
    let servers = || views.iter().flat_map(|view| view.weights.iter().flatten().map(|(server, _)| server.as_str()));
    failure.hint(match off.iter().find_map(|pattern| nearest(pattern.as_str(), servers())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`weightctl list` shows the servers of each backend".to_owned(),
    })
}

fn refused(why: String) -> Failure {
    Failure::new(Exit::Refused, why)
}

impl Unchanged {
    fn outcome(&self, args: &Args) -> Outcome<'_> {
        Outcome::unchanged(&self.view.backend, &self.view, self.index, &args.flags)
    }
}

/// Prints the outcomes; on one line with --wait, because the lines of the wait follow.
fn print(outcomes: &[Outcome<'_>], args: &Args, context: &Context<'_>) -> Result<(), Failure> {
    if args.wait.is_given() { context.format.json_line(&outcomes) } else { context.format.json(&outcomes) }
}

fn note(backend: &BackendName, failure: &Failure) {
    output::note(&format!("not rolled back: {backend}: {:#}", failure.error));
}

/// The end: `waited` if no backend failed.
fn end(failed: &[(BackendName, Failure)], waited: Result<Exit, Failure>) -> Result<Exit, Failure> {
    if failed.is_empty() {
        return waited;
    }
    if let Err(failure) = waited {
        output::failure(&failure);
    }
    // What the rule refuses is a matter of the backend; any other failure may be over at the next attempt.
    let mut exits = failed.iter().map(|(_, failure)| failure.exit);
    let exit = exits.find(|exit| *exit != Exit::Refused).unwrap_or(Exit::Refused);
    let names: Vec<_> = failed.iter().map(|(backend, _)| backend.as_str()).collect();
    let message = format!("not rolled back: {}: {}", output::counted(failed.len(), "backend"), names.join(", "));
    Err(Failure::new(exit, message).hint(if exit == Exit::Refused {
        "see the notes; `weightctl set BACKEND SERVER=WEIGHT … --create` writes weights by hand"
    } else {
        "see the notes; run the same command again: it leaves alone what is rolled back already"
    }))
}

/// The edit for one backend, or why there is none.
fn plan(backend: &BackendName, known: &Known, args: &Args, context: &Context<'_>) -> Result<Edit, Failure> {
    if let Optional::Off(why) = &known.history {
        return Err(refused(format!("its history cannot be read: {}", Escaped(why))));
    }
    match decide(&known.entries(), &args.asked()) {
        Decision::Target(target) => {
            rollback_edit(backend, known, &target, args.flags.intent(Way::Rollback, context.env))
                .map_err(|error| refused(error.to_string()))
        }
        Decision::Refuse(reason) => Err(refused(reason.to_string())),
        Decision::Ask(ask) => Err(refused(ask.reason.to_string())),
    }
}

/// Writes all items, [`PARALLEL`] at a time. The results are in the order of `items`.
async fn write(
    items: Vec<Item>,
    documents: &Documents,
    args: &Args,
    context: &Context<'_>,
) -> Result<Vec<(BackendName, Result<Done, Failure>)>, Failure> {
    let writes = items.into_iter().map(async |item| {
        let backend = item.backend.clone();
        (backend, write_one(item, documents, args, context).await)
    });
    tokio::select! {
        biased;
        results = stream::iter(writes).buffered(PARALLEL).collect() => Ok(results),
        _ = ctrl_c() => {
            Err(Failure::new(Exit::Interrupted, "interrupted during the writes; some backends may have changed")
                .hint("run the same command again: it leaves alone what is rolled back already"))
        }
    }
}

/// Writes one item. After a conflict, the rollback is computed again, unless the other write did what is asked for.
async fn write_one(item: Item, documents: &Documents, args: &Args, context: &Context<'_>) -> Result<Done, Failure> {
    let Item { backend, mut known, mut edit } = item;
    for _ in 0..ATTEMPTS {
        match documents.commit(&backend, &edit, &known, true).await? {
            Written::Yes { index, without } => {
                for without in &without {
                    output::note(&format!("{backend}: {}", without.sentence()));
                }
                return Ok(Done::Written(Box::new(edit), index));
            }
            Written::Conflict | Written::Superseded | Written::Frozen(_) => {}
        }
        let planned =
            Planned { index: known.stored.as_ref().map_or(0, |stored| stored.index), after: edit.after.clone() };
        known = documents.context(&backend).await?;
        let Some(stored) = &known.stored else {
            return Err(Failure::new(Exit::Conflict, "another writer deleted its document"));
        };
        let view = View::of(stored);
        if let Some(done) = done_by_another(&backend, &known, &view, &args.off, &planned) {
            output::message(&done);
            return Ok(Done::Unchanged(Box::new(Unchanged { view, index: stored.index })));
        }
        match Side::of(&view, &args.off) {
            // The rule decides. A server that is not named keeps its weight.
            Side::Traffic | Side::NotNamed | Side::NoTraffic => {}
            Side::Released => return Err(Failure::new(Exit::Conflict, "another writer released it")),
            Side::Rejected(why) => return Err(refused(of_rejected(&why))),
        }
        edit = plan(&backend, &known, args, context)?;
        output::message(preview(&backend, &edit, output::message_columns()).trim_end());
    }
    Err(Failure::new(Exit::Conflict, "another writer changed it in each attempt"))
}
