//! The steps that every verb for many backends has in common: one transaction for each, one question, one wait.

use weightd_core::{model::BackendName, reasons::list};

use super::{
    Exit,
    change::{Options, confirm, frozen_failure, write},
    failure::Failure,
    outcome::{Outcome, say_nodes},
    output::{self, Format},
    preview::preview,
    takeover,
    wait::wait_for_each,
};
use crate::documents::{Context as Known, Documents, edit::Edit};

/// The planned change of one backend.
pub(super) struct Change<'a> {
    pub(super) backend: &'a BackendName,
    pub(super) known: &'a Known,
    pub(super) edit: &'a Edit,
    /// Lines above the preview.
    pub(super) lines: &'a [String],
    pub(super) outcome: Outcome<'a>,
}

/// Shows the changes, asks, writes one after the other, and waits for the nodes: also for those of the backends that need no
/// write. A freeze of one of them stops all. Another failure stops at that backend; the earlier writes stay, because each is
/// correct by itself. Prints the outcomes of all that were written or need no write.
pub(super) async fn carry_out_each(
    format: Format,
    documents: &Documents,
    changes: Vec<Change<'_>>,
    options: &Options<'_>,
) -> Result<Exit, Failure> {
    let Options { flags, waits, take_over, .. } = *options;
    let (differ, same): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.outcome.changes());
    for Change { backend, edit, lines, .. } in &differ {
        lines.iter().for_each(|line| output::message(line));
        output::message(preview(backend, edit, output::message_columns()).trim_end());
    }
    for Change { backend, known, edit, .. } in &differ {
        if let Some(frozen) = known.frozen(backend).filter(|_| !edit.passes_freeze()) {
            return Err(frozen_failure(backend, &frozen, "nothing was written"));
        }
    }
    let (writes, mut planned): (Vec<_>, Vec<_>) =
        differ.into_iter().map(|change| ((change.backend, change.known, change.edit), change.outcome)).unzip();
    say_nodes(documents, flags, waits, &mut planned).await;
    if let Some(take_over) = take_over {
        for (backend, ..) in &writes {
            takeover::ask(documents, backend, take_over, flags.dry_run, flags.asks()).await?;
        }
    }
    output::message(&format!("{} differ, {} are the same", planned.len(), same.len()));
    let unchanged: Vec<_> = same.iter().filter_map(|same| Some((same.backend, same.outcome.index()?))).collect();
    let mut outcomes: Vec<_> = same.into_iter().map(|same| same.outcome).collect();
    let (mut written, mut stopped) = (Vec::new(), None);
    if flags.dry_run {
        output::message("dry run: nothing was written");
        outcomes.extend(planned);
    } else if !planned.is_empty() {
        confirm(documents, flags).await?;
        for ((backend, known, edit), outcome) in writes.into_iter().zip(planned) {
            match write(documents, backend, edit, known).await {
                Ok(index) => {
                    written.push((backend, index));
                    outcomes.push(outcome.written(index));
                }
                Err(failure) => {
                    stopped = Some(if written.is_empty() {
                        failure
                    } else {
                        let done = list(written.iter().map(|(backend, _): &(&BackendName, u64)| backend.as_str()));
                        failure.context(format!("written: {done}; then stopped at {backend}"))
                    });
                    break;
                }
            }
        }
    }
    if waits.is_given() {
        format.json_line(&outcomes)?;
    } else {
        format.json(&outcomes)?;
    }
    match stopped {
        None if flags.dry_run => Ok(Exit::Ok),
        // A node may not have a document that needs no write.
        None => wait_for_each(format, documents, unchanged.into_iter().chain(written), waits).await,
        Some(stopped) if stopped.exit == Exit::Interrupted => Err(stopped),
        Some(stopped) => {
            if let Err(failure) = wait_for_each(format, documents, written, waits).await {
                output::failure(&failure);
            }
            Err(stopped)
        }
    }
}
