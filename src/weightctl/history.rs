use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use serde::Serialize;
use weightd_core::{
    history::{Entry, To},
    model::{BackendName, Escaped, Timestamp},
};

use super::{
    Exit,
    context::Context,
    failure::Failure,
    output,
    refusals::no_such,
    table::{Align, Cell, Table},
};
use crate::{
    base::config::{InvalidDuration, parse_duration},
    documents::view::{split_summary, weights_summary},
};

/// Show who changed a backend, when, how and why; newest first
///
/// A write without weightctl is shown as `direct`. `settled` marks a resting point, which a rollback does not go behind.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend; without it all backends
    #[arg(value_parser = BackendName::new, required_unless_present = "since")]
    backend: Option<BackendName>,
    /// Only changes of this period, such as 2h: 1s to 8760h
    #[arg(long, value_name = "DURATION", value_parser = period)]
    since: Option<Duration>,
}

fn period(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text, &(Duration::from_secs(1)..=Duration::from_secs(8760 * 3600)))
}

/// One change. In JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "index": 43,                 ModifyIndex of the document; null if it is not known
///   "at": "2026-11-27T10:00:00Z",
///   "by": "alice",
///   "way": "set",                create, set, shift, release, apply, import, convert, rollback, rollout, direct, observed
///   "to": {"weights": {…}},      or {"split": {…}}, {"release": true}, {"gone": true}
///   "why": "10 % canary",
///   "token": {…},                accessor and description, where ACLs are on
///   "settled": true,             a resting point
///   "target": 12                 of a rollback: the index it went back to
/// }
/// ```
///
/// Fields without a value are absent.
#[derive(Debug, Serialize)]
struct Change<'a> {
    backend: &'a BackendName,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Shows the history. The JSON output is a list of [`Change`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let mut changes: Vec<(BackendName, Entry)> = Vec::new();
    let unreadable = |backend: &BackendName, why: &str| {
        output::note(&format!("the history of {backend} cannot be read: {}", Escaped(why)));
    };
    match &args.backend {
        Some(backend) => match documents.history(backend).await? {
            Ok(entries) if entries.is_empty() => {
                return Err(no_such(&documents, backend, "`weightctl list` shows the backends").await);
            }
            Ok(entries) => changes.extend(entries.into_iter().map(|entry| (backend.clone(), entry))),
            Err(why) => {
                let message = format!("the history of `{backend}` cannot be read: {}", Escaped(&why));
                return Err(Failure::new(Exit::Failure, message).hint("writes are possible; they go without a history"));
            }
        },
        None => {
            for (backend, history) in documents.histories().await? {
                match history {
                    Ok(entries) => changes.extend(entries.into_iter().map(|entry| (backend.clone(), entry))),
                    Err(why) => unreadable(&backend, &why),
                }
            }
        }
    }
    if args.backend.is_none() {
        changes = newest_first(changes);
    }
    if let Some(since) = args.since {
        // Consul's clock, as in the entries.
        let now = documents.time().map(Timestamp::seconds);
        let now = now.or_else(|| u64::try_from(jiff::Timestamp::now().as_second()).ok()).unwrap_or_default();
        changes = within(changes, now.saturating_sub(since.as_secs()));
    }
    let shown: Vec<_> = changes.iter().map(|(backend, entry)| Change { backend, entry }).collect();
    context.format.data(&shown, |changes| table(changes, args.backend.is_none(), output::columns()))?;
    if changes.is_empty() {
        output::message("no change in this period");
    }
    Ok(Exit::Ok)
}

/// The changes of all backends in the order of Consul's indexes, newest first. `changes` has the entries of each backend
/// together, newest first. A deletion has no index: it stands above the write before it. Entry 0 stands below the first write.
fn newest_first(changes: Vec<(BackendName, Entry)>) -> Vec<(BackendName, Entry)> {
    let index = |at: usize| changes.get(at).and_then(|(_, entry)| entry.index).filter(|index| *index > 0);
    let rank = |at: usize| {
        let own = |other: &usize| changes.get(*other).map(|(name, _)| name) == changes.get(at).map(|(name, _)| name);
        let older = || (at..changes.len()).take_while(own).find_map(index);
        let newer = || (0..at).rev().take_while(own).find_map(index);
        let first = changes.get(at).is_some_and(|(_, entry)| entry.index == Some(0));
        if first { newer() } else { older().or_else(newer) }
    };
    let ranks: Vec<_> = (0..changes.len()).map(rank).collect();
    let mut ranked: Vec<_> = ranks.into_iter().zip(changes).collect();
    // It keeps the order of entries with the same rank.
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    ranked.into_iter().map(|(_, change)| change).collect()
}

/// The changes since `from`, in seconds since 1970. `changes` has the entries of each backend newest first. A write without
/// weightctl may have no time: it counts unless a newer change of its backend is older than `from`.
fn within(mut changes: Vec<(BackendName, Entry)>, from: u64) -> Vec<(BackendName, Entry)> {
    let mut older: BTreeSet<BackendName> = BTreeSet::new();
    changes.retain(|(backend, entry)| match entry.at {
        Some(at) if at.seconds() >= from => true,
        Some(_) => {
            older.insert(backend.clone());
            false
        }
        None => !older.contains(backend),
    });
    changes
}

/// What a backend went to, on one line.
pub(super) fn summary(to: &To) -> String {
    match to {
        To::Weights(weights) => weights_summary(weights),
        To::Split(split) => split_summary(split),
        To::Release => "released".to_owned(),
        To::Gone => "deleted".to_owned(),
        To::Omitted => "too large to keep".to_owned(),
        To::Unreadable(_) => "unreadable".to_owned(),
    }
}

const COLUMNS: [(&str, Align); 6] = [
    ("INDEX", Align::Right),
    ("AT", Align::Left),
    ("BY", Align::Left),
    ("WAY", Align::Left),
    ("TO", Align::Left),
    ("WHY", Align::Left),
];

/// The changes of one backend, which a person named, or of all: then each line names its backend.
fn table(changes: &[Change<'_>], of_all: bool, columns: Option<usize>) -> String {
    if changes.is_empty() {
        return String::new();
    }
    if !of_all {
        let mut table = Table::new(COLUMNS);
        for Change { entry, .. } in changes {
            table.row(cells(entry));
        }
        return table.render_within("", columns);
    }
    let [index, at, by, way, to, why] = COLUMNS;
    let mut table = Table::new([("BACKEND", Align::Left), index, at, by, way, to, why]);
    for Change { backend, entry } in changes {
        let [index, at, by, way, to, why] = cells(entry);
        table.row([backend.as_str().into(), index, at, by, way, to, why]);
    }
    table.render_within("", columns)
}

fn cells(entry: &Entry) -> [Cell; 6] {
    let mut way = entry.way.as_str().to_owned();
    if entry.settled {
        way.push_str(" (settled)");
    }
    if let Some(target) = entry.target {
        let _ = write!(way, " to {target}");
    }
    if entry.anchor {
        way.push_str(" …");
    }
    let text = |text: &Option<String>| text.as_ref().map_or_else(String::new, |text| Escaped(text).to_string());
    [
        entry.index.map_or_else(String::new, |index| index.to_string()).into(),
        entry.at.map_or_else(String::new, |at| at.to_string()).into(),
        text(&entry.by).into(),
        Escaped(&way).to_string().into(),
        summary(&entry.to).into(),
        text(&entry.why).into(),
    ]
}

#[cfg(test)]
mod tests;
