//! `rollback --all --off`: every backend off a side, one transaction each.

use futures_util::{StreamExt as _, stream};
use weightd_core::{
    history::Way,
    model::BackendName,
    rollback::{Decision, decide},
};

use super::{Args, edit_of};
use crate::{
    base::chain::Chain,
    documents::{
        Context as Known, Documents, Optional, Written,
        edit::{Edit, Write},
        view::View,
    },
    weightctl::{
        Exit,
        change::{Outcome, confirm},
        context::Context,
        failure::Failure,
        output,
        preview::preview,
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

/// Rolls every backend back that has servers named by `--off` with traffic.
pub(super) async fn run(args: &Args, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    let everything = documents.all().await?;
    let on_side = |view: &View| {
        let of_weights = view.weights.iter().flatten().any(|(server, weight)| {
            !weight.is_zero() && args.off.iter().any(|pattern| pattern.matches(server.as_str()))
        });
        let shares = view.split.iter().flat_map(weightd_core::desired::Split::shares);
        let of_split = shares.filter(|(_, share)| share.thousandths() > 0);
        of_weights || of_split.into_iter().any(|(own, _)| args.off.iter().any(|pattern| pattern.overlaps(own)))
    };
    let affected: Vec<_> = everything
        .backends
        .iter()
        .filter(|stored| on_side(&View::of(stored)))
        .map(|stored| stored.backend.clone())
        .collect();
    if affected.is_empty() {
        output::message("nothing to change: no backend has traffic on these servers");
        context.format.json(&Vec::<Outcome<'_>>::new())?;
        return Ok(Exit::Ok);
    }
    let (mut items, mut failed) = (Vec::new(), Vec::new());
    for backend in affected {
        let known = documents.context(&backend).await?;
        match plan(&backend, &known, args, context) {
            Ok(edit) if edit.write == Write::Nothing => {}
            Ok(edit) => items.push(Item { backend, known, edit }),
            Err(why) => failed.push((backend, why)),
        }
    }
    for Item { backend, edit, .. } in &items {
        output::message(preview(backend, edit).trim_end());
    }
    for (backend, why) in &failed {
        output::note(&format!("not rolled back: {backend}: {why}"));
    }
    let (mut outcomes, mut written) = (Vec::new(), Vec::new());
    if args.flags.dry_run {
        output::message("dry run: nothing was written");
        outcomes.extend(items.iter().map(|item| Outcome::of(&item.backend, &item.edit, &args.flags)));
    } else if !items.is_empty() {
        confirm(documents, &args.flags).await?;
        let results = write(&items, documents).await;
        for (item, result) in items.iter().zip(results) {
            match result {
                Ok(index) => {
                    written.push((item.backend.clone(), index));
                    outcomes.push(Outcome::of(&item.backend, &item.edit, &args.flags).written(index));
                }
                Err(why) => {
                    output::note(&format!("not rolled back: {}: {why}", item.backend));
                    failed.push((item.backend.clone(), why));
                }
            }
        }
        output::message(&format!("written: {}", output::counted(outcomes.len(), "backend")));
    }
    if args.wait.is_given() {
        context.format.json_line(&outcomes)?;
    } else {
        context.format.json(&outcomes)?;
    }
    let writes = written.iter().map(|(backend, index)| (backend, *index));
    let waited = wait_for_each(context.format, documents, writes, &args.wait).await?;
    if failed.is_empty() {
        return Ok(waited);
    }
    let names: Vec<_> = failed.iter().map(|(backend, _)| backend.as_str()).collect();
    Err(Failure::new(
        Exit::Refused,
        format!("not rolled back: {}: {}", output::counted(failed.len(), "backend"), names.join(", ")),
    )
    .hint("see the notes; `weightctl set BACKEND SERVER=WEIGHT …` writes weights by hand"))
}

/// The edit for one backend, or why there is none.
fn plan(backend: &BackendName, known: &Known, args: &Args, context: &Context<'_>) -> Result<Edit, String> {
    if let Optional::Off(why) = &known.history {
        return Err(format!("its history cannot be read: {why}"));
    }
    match decide(&known.entries(), &args.asked()) {
        Decision::Target(target) => edit_of(backend, known, &target, args.flags.intent(Way::Rollback, context.env))
            .map_err(|error| error.to_string()),
        Decision::Refuse(reason) => Err(reason.to_string()),
        Decision::Ask(ask) => Err(ask.reason.to_string()),
    }
}

/// Writes all items, [`PARALLEL`] at a time. The results are in the order of `items`.
async fn write(items: &[Item], documents: &Documents) -> Vec<Result<u64, String>> {
    let writes =
        items.iter().map(async |item| match documents.commit(&item.backend, &item.edit, &item.known, true).await {
            Ok(Written::Yes { index, .. }) => Ok(index),
            Ok(Written::Conflict | Written::Superseded | Written::Frozen(_)) => {
                Err("another writer changed it meanwhile".to_owned())
            }
            Err(error) => Err(Chain(&error).to_string()),
        });
    stream::iter(writes).buffered(PARALLEL).collect().await
}
