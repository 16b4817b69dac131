//! `rollback --all --off`: every backend off a side, one transaction each.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use tokio::signal::ctrl_c;
use weightd_core::{
    history::Way,
    model::{BackendName, Escaped},
    rollback::{Decision, decide},
};

use super::{ATTEMPTS, Args, rolled_back_by_another};
use crate::{
    documents::{
        Context as Known, Documents, Optional, Written,
        changes::rollback_edit,
        edit::{Edit, Write},
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

/// A backend that is rolled back, or has no traffic on the side any more.
enum Done {
    /// It was written.
    Written(Box<Edit>, u64),
    /// Another writer was faster: the index of that write.
    ByAnother(u64),
}

/// Rolls every backend back that has servers named by `--off` with traffic.
pub(super) async fn run(args: &Args, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    let everything = documents.all().await.map_err(not_written)?;
    let affected: Vec<_> = everything
        .backends
        .iter()
        .filter(|stored| on_side(&View::of(stored), args))
        .map(|stored| stored.backend.clone())
        .collect();
    if affected.is_empty() {
        output::message("nothing to change: no backend has traffic on these servers");
        context.format.json(&Vec::<Outcome<'_>>::new())?;
        return Ok(Exit::Ok);
    }
    let contexts = documents.contexts(&affected).await.map_err(not_written)?;
    let (mut items, mut failed) = (Vec::new(), Vec::new());
    for (backend, known) in affected.into_iter().zip(contexts) {
        match plan(&backend, &known, args, context) {
            Ok(edit) if edit.write == Write::Nothing => {}
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
    let mut outcomes: Vec<_> = items.iter().map(|item| Outcome::of(&item.backend, &item.edit, &args.flags)).collect();
    say_nodes(documents, &args.flags, &args.wait, &mut outcomes).await;
    if args.flags.dry_run {
        output::message("dry run: nothing was written");
        print(&outcomes, args, context)?;
        return end(&failed, Ok(Exit::Ok));
    }
    let mut said: BTreeMap<BackendName, Said> =
        outcomes.into_iter().map(|outcome| (outcome.backend().clone(), outcome.into_said())).collect();
    if !items.is_empty() {
        confirm(documents, &args.flags).await?;
    }
    let (mut done, mut written) = (Vec::new(), Vec::new());
    for (backend, result) in write(items, documents, args, context).await? {
        match result {
            Ok(Done::Written(edit, index)) => {
                written.push((backend.clone(), index));
                done.push((backend, edit, index));
            }
            Ok(Done::ByAnother(index)) => written.push((backend, index)),
            Err(failure) => {
                note(&backend, &failure);
                failed.push((backend, failure));
            }
        }
    }
    output::message(&format!("written: {}", output::counted(done.len(), "backend")));
    let outcomes = done.iter().map(|(backend, edit, index)| {
        let said = said.remove(backend).unwrap_or_default();
        Outcome::of(backend, edit, &args.flags).after(said).written(*index)
    });
    print(&outcomes.collect::<Vec<_>>(), args, context)?;
    let writes = written.iter().map(|(backend, index)| (backend, *index));
    end(&failed, wait_for_each(context.format, documents, writes, &args.wait).await)
}

/// Whether a server that `--off` names has traffic.
fn on_side(view: &View, args: &Args) -> bool {
    let of_weights =
        view.weights.iter().flatten().any(|(server, weight)| {
            !weight.is_zero() && args.off.iter().any(|pattern| pattern.matches(server.as_str()))
        });
    let shares = view.split.iter().flat_map(weightd_core::desired::Split::shares);
    let mut of_split = shares.filter(|(_, share)| share.thousandths() > 0);
    of_weights || of_split.any(|(own, _)| args.off.iter().any(|pattern| pattern.overlaps(own)))
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
        "see the notes; `weightctl set BACKEND SERVER=WEIGHT …` writes weights by hand"
    } else {
        "see the notes; run the same command again: it leaves alone what is rolled back already"
    }))
}

/// The edit for one backend, or why there is none.
fn plan(backend: &BackendName, known: &Known, args: &Args, context: &Context<'_>) -> Result<Edit, Failure> {
    let refused = |why: String| Failure::new(Exit::Refused, why);
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

/// Writes one item. After a conflict, the rollback is computed again, unless the other write was a rollback.
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
        known = documents.context(&backend).await?;
        let Some(stored) = &known.stored else { break };
        if let Some(done) = rolled_back_by_another(&known) {
            output::message(&format!("another rollback of {backend} was faster: {done}"));
            return Ok(Done::ByAnother(stored.index));
        }
        if !on_side(&View::of(stored), args) {
            output::message(&format!("another writer took {backend} off these servers"));
            return Ok(Done::ByAnother(stored.index));
        }
        edit = plan(&backend, &known, args, context)?;
        output::message(preview(&backend, &edit, output::message_columns()).trim_end());
    }
    Err(Failure::new(Exit::Conflict, "another writer changed it in each attempt"))
}
