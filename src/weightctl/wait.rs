//! `--wait`: ends with 0 only after every node that counts reported that it read the new weights back.
//!
//! The verdict is [`weightd_core::fleet::verdict`]. This module reads for it, shows the progress, and turns the end into an
//! exit code. What cannot be known never counts as done.

mod drained;
mod progress;

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    signal::ctrl_c,
    time::{Instant, sleep_until},
};
use weightd_core::{
    fleet::{DocumentNow, Need, NodeName, Overall, Standing, Verdict, Wait, Waiting, verdict},
    model::{BackendName, Escaped},
};

use self::progress::{Laggard, Progress, Screen};
use super::{Exit, failure::Failure, fleet::reason_of, output::Format};
use crate::{
    base::config::{InvalidDuration, parse_duration, show_duration},
    consul::client::Blocking,
    documents::{
        Documents,
        fleet::{Nodes, Roster},
        stored::Stored,
        view::View,
    },
};

/// Between the starts of two queries: bounds the load on Consul.
const PACE: Duration = Duration::from_millis(100);
/// Longest blocking query, and the greatest age of the inventory.
const REFRESH: Duration = Duration::from_secs(2);

/// The default time limit, and that of `drained`.
const LIMIT: Duration = Duration::from_secs(45);
const DRAIN_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long a wait that failed goes on for the reports of the other nodes: its end names who does not have it, and not who
/// is about to say that it has it.
const OTHERS: Duration = Duration::from_secs(1);

/// The flags of a write that waits for the nodes.
#[derive(Debug, clap::Args)]
pub(super) struct WaitFlags {
    /// Wait until the nodes have it
    #[arg(
        long,
        value_name = "all|N%|drained",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_parser = until,
        help = "Wait until all nodes have read it back in HAProxy, or N % of them; `drained` also waits until no \
                session is left on the servers at 0. Exits with 3 if that does not happen"
    )]
    wait: Option<Until>,
    /// Time limit of --wait
    #[arg(
        long,
        value_name = "DURATION",
        requires = "wait",
        value_parser = time_limit,
        help = "Time limit of --wait [default: 45s, with drained 10m]"
    )]
    timeout: Option<Duration>,
}

impl WaitFlags {
    /// Whether --wait is given.
    pub(super) fn is_given(&self) -> bool {
        self.wait.is_some()
    }

    /// Fails if --wait=drained is given, for a verb that sets no weight to 0.
    pub(super) fn refuse_drained(&self, verb: &str) -> Result<(), Failure> {
        if self.wait != Some(Until::Drained) {
            return Ok(());
        }
        Err(Failure::new(Exit::Usage, format!("`{verb}` sets no weight to 0, so that nothing drains"))
            .hint("use --wait without `=drained`"))
    }

    fn limit(&self, until: Until) -> Duration {
        self.timeout.unwrap_or(if until == Until::Drained { DRAIN_LIMIT } else { LIMIT })
    }
}

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// So many nodes have it.
    Nodes(Need),
    /// All nodes have it, and no session is left on the servers at 0.
    Drained,
}

/// The error for a text that is not what to wait for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write it as --wait, --wait=all, --wait=drained or --wait=N%, such as --wait=90%, from 1% to 100%")]
struct InvalidNeed;

fn until(text: &str) -> Result<Until, InvalidNeed> {
    match text {
        "all" => return Ok(Until::Nodes(Need::All)),
        "drained" => return Ok(Until::Drained),
        _ => {}
    }
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse().ok()).filter(|percent| (1..=100).contains(percent));
    percent.map(|percent| Until::Nodes(Need::Percent(percent))).ok_or(InvalidNeed)
}

fn time_limit(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text, &(Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60)))
}

/// Waits until the nodes have the document of `backend` at `index`, the `ModifyIndex` of the write. Without --wait, ends at
/// once.
///
/// Exits with 0 if they have it; with 3 if a node does not have it and that does not change by itself, if no HAProxy has
/// the backend, if no node counts, or after the time limit; with 4 if the token may not read what is needed; with 5 if
/// another write replaced the document; with 6 if Consul does not answer until the time limit. With --wait=drained, the
/// lines of [`drained::wait`] follow.
///
/// With `-o json`, prints one line on stdout at the start, whenever something changes, and at the end:
///
/// ```json
/// {"wait": "app1", "index": 42,
///  "state": "waiting",        at the end: done, failed, nobody_has_it, replaced, no_nodes or timeout
///  "done": 3, "needed": 5,    nodes that have it, nodes that must have it
///  "counted": 5,              nodes that count, "unknown" ones included
///  "unknown": 0,              expected nodes that never reported
///  "elapsed_seconds": 0.2,
///  "nodes": [{"node": "lb-2", "reason": "guarded", "detail": "guarded", "final": false}…],   nodes that do not have it
///  "lacks": ["lb-3"]}         nodes that are done because no HAProxy there has the backend
/// ```
pub(super) async fn wait(
    format: Format,
    documents: &Documents,
    backend: &BackendName,
    index: u64,
    flags: &WaitFlags,
) -> Result<Exit, Failure> {
    wait_since(Instant::now(), format, documents, backend, index, flags).await
}

/// As [`wait`], for several writes with one time limit. All nodes work at the same time, so the first wait takes nearly all
/// of the time. A backend that some node does not have does not end the wait for the others.
pub(super) async fn wait_for_each<'b>(
    format: Format,
    documents: &Documents,
    writes: impl IntoIterator<Item = (&'b BackendName, u64)>,
    flags: &WaitFlags,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let mut failed: Vec<(&BackendName, Failure)> = Vec::new();
    let mut count = 0;
    for (backend, index) in writes {
        count += 1;
        match wait_since(started, format, documents, backend, index, flags).await {
            Ok(_) => {}
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) => failed.push((backend, failure)),
        }
    }
    if failed.len() == 1
        && let Some((_, only)) = failed.pop()
    {
        return Err(only);
    }
    let Some((_, first)) = failed.first() else { return Ok(Exit::Ok) };
    let exit = first.exit;
    for (_, failure) in &failed {
        super::output::failure(failure);
    }
    let names: Vec<_> = failed.iter().map(|(backend, _)| backend.as_str()).collect();
    Err(Failure::new(exit, format!("{} of {count} backends are not on all nodes: {}", failed.len(), names.join(", "))))
}

async fn wait_since(
    started: Instant,
    format: Format,
    documents: &Documents,
    backend: &BackendName,
    index: u64,
    flags: &WaitFlags,
) -> Result<Exit, Failure> {
    let Some(until) = flags.wait else { return Ok(Exit::Ok) };
    let need = match until {
        Until::Nodes(need) => need,
        Until::Drained => Need::All,
    };
    let limit = flags.limit(until);
    let mut waiter = Waiter {
        documents,
        backend,
        index,
        need,
        started,
        limit,
        screen: Screen::new(format),
        nodes: None,
        roster: None,
        failed_at: None,
    };
    let ended = tokio::select! {
        biased;
        ended = waiter.run() => ended,
        _ = ctrl_c() => Err(Failure::new(
            Exit::Interrupted,
            format!("interrupted; {backend} is written with index {index}, and nodes may not have it yet"),
        )
        .hint(format!("`weightctl status {backend}` shows which nodes have it"))),
    };
    waiter.screen.clear();
    match (until, ended) {
        (Until::Drained, Ok(Exit::Ok)) => drained::wait(format, documents, backend, index, started + limit).await,
        (_, ended) => ended,
    }
}

struct Waiter<'a> {
    documents: &'a Documents,
    backend: &'a BackendName,
    index: u64,
    need: Need,
    started: Instant,
    limit: Duration,
    screen: Screen,
    /// The last reading; none before the first one and after an error.
    nodes: Option<Nodes>,
    roster: Option<(Instant, Roster)>,
    /// When a reading first showed that the wait fails.
    failed_at: Option<Instant>,
}

/// What a reading showed.
struct Seen {
    verdict: Verdict,
    /// The document; none if it was not read again, or is gone.
    document: Option<Stored>,
}

impl Waiter<'_> {
    async fn run(&mut self) -> Result<Exit, Failure> {
        let deadline = self.started + self.limit;
        loop {
            let start = Instant::now();
            let last = start >= deadline;
            match self.read(deadline, last).await {
                Ok(seen) => match &seen.verdict.overall {
                    Overall::Waiting | Overall::Confirm if !last => {
                        let progress = self.progress(&seen.verdict, "waiting");
                        self.screen.show(&progress)?;
                    }
                    Overall::Failed(_) if !last && self.others_may_report(&seen.verdict) => {
                        let progress = self.progress(&seen.verdict, "waiting");
                        self.screen.show(&progress)?;
                    }
                    _ => return self.end(&seen),
                },
                // An election of Consul's leader takes seconds. The write is done: what counts is the time limit.
                Err(failure) if failure.exit == Exit::Unreachable && !last => {
                    (self.nodes, self.roster) = (None, None);
                    self.screen.note("Consul does not answer; trying again");
                }
                Err(failure) => {
                    let (backend, index) = (self.backend, self.index);
                    return Err(failure.context(format!(
                        "{backend} is written with index {index}, but it is unknown whether the nodes have it"
                    )));
                }
            }
            sleep_until((start + PACE).min(deadline)).await;
        }
    }

    /// Whether a node that says nothing about the write yet may do so at once.
    fn others_may_report(&mut self, verdict: &Verdict) -> bool {
        let failed_at = *self.failed_at.get_or_insert_with(Instant::now);
        let silent = |standing: &Standing| matches!(standing, Standing::Waiting(Waiting::Silent | Waiting::Older(_)));
        failed_at.elapsed() < OTHERS && verdict.nodes.values().any(silent)
    }

    /// Reads the nodes. Where the verdict depends on it, and for the `last` reading, also reads the document again.
    async fn read(&mut self, deadline: Instant, last: bool) -> Result<Seen, Failure> {
        let left = deadline.saturating_duration_since(Instant::now()).min(REFRESH);
        // Consul takes a wait of 0 for its default of 5 minutes.
        let blocking = self.nodes.as_ref().filter(|_| !last && left >= PACE);
        let blocking = blocking.map(|nodes| Blocking { index: nodes.index, wait: left });
        let nodes = self.documents.nodes(blocking).await?;
        let fresh = self.roster.as_ref().is_some_and(|(at, _)| at.elapsed() < REFRESH);
        if !fresh || last {
            self.roster = Some((Instant::now(), self.documents.roster().await?));
        }
        let mut verdict = self.judge(&nodes, DocumentNow::NotRead)?;
        let mut document = None;
        if last || verdict.overall == Overall::Confirm || self.is_superseded(&nodes) {
            let stored = self.documents.backend(self.backend).await?;
            // A node that started or died since is in the inventory by now.
            self.roster = Some((Instant::now(), self.documents.roster().await?));
            let now = stored.as_ref().map_or(DocumentNow::Absent, |stored| DocumentNow::Index(stored.index));
            verdict = self.judge(&nodes, now)?;
            document = stored;
        }
        self.nodes = Some(nodes);
        Ok(Seen { verdict, document })
    }

    /// Whether a node has read a newer document of the backend: then there is nothing to wait for any more, also if other
    /// nodes do not answer.
    fn is_superseded(&self, nodes: &Nodes) -> bool {
        let reports = nodes.reports.values().filter_map(|read| read.report.as_ref().ok());
        let mut recent = reports.flat_map(|report| &report.recent);
        recent.any(|recent| recent.backend == *self.backend && recent.index > self.index)
    }

    fn judge(&self, nodes: &Nodes, document: DocumentNow) -> Result<Verdict, Failure> {
        let none = Roster::default();
        let roster = self.roster.as_ref().map_or(&none, |(_, roster)| roster);
        if let Some((_, Err(bad))) = &roster.expect {
            let message = format!("{} cannot be read: {bad}", self.documents.keys().expect());
            return Err(Failure::new(Exit::NotConverged, message)
                .hint("`weightctl node expect N` writes how many nodes there should be"));
        }
        let wait = Wait {
            backend: self.backend,
            index: self.index,
            need: self.need,
            documents: Some(roster.documents),
            document,
        };
        Ok(verdict(&wait, &roster.fleet(nodes)))
    }

    fn progress(&self, verdict: &Verdict, state: &'static str) -> Progress {
        Progress {
            wait: self.backend.clone(),
            index: self.index,
            state,
            done: verdict.done,
            needed: verdict.needed,
            counted: verdict.counted,
            unknown: verdict.unknown,
            elapsed_seconds: (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            nodes: laggards(&verdict.nodes),
            lacks: lacks(&verdict.nodes),
        }
    }

    /// The end: prints it, and returns the exit code.
    fn end(&mut self, seen: &Seen) -> Result<Exit, Failure> {
        let Seen { verdict, document } = seen;
        let state = match &verdict.overall {
            Overall::Done => "done",
            Overall::Failed(_) => "failed",
            Overall::NobodyHasIt => "nobody_has_it",
            Overall::Replaced(_) => "replaced",
            Overall::NoNodes => "no_nodes",
            Overall::Waiting | Overall::Confirm => "timeout",
        };
        let progress = self.progress(verdict, state);
        self.screen.end(&progress)?;
        let (backend, index) = (self.backend, self.index);
        let have = progress.have(&format!("{backend} at index {index}"));
        let failure = |message: String| Failure::new(Exit::NotConverged, message);
        let status = format!("`weightctl status {backend}` shows every node; the document stays as it is written");
        Err(match &verdict.overall {
            Overall::Done => return Ok(Exit::Ok),
            Overall::Failed(_) => {
                failure(format!("{have}; this does not change by itself: {}", progress.final_names())).hint(status)
            }
            Overall::Waiting | Overall::Confirm => {
                failure(format!("{have} after {}; not: {}", show_duration(self.limit), progress.names())).hint(status)
            }
            Overall::NobodyHasIt => failure(format!("no HAProxy of any node has the backend `{backend}`"))
                .hint("compare the name with haproxy.cfg; `weightctl list` shows the backends in Consul"),
            Overall::NoNodes if verdict.nodes.is_empty() => {
                failure(format!("no node reports below {}", self.documents.keys().nodes()))
                    .hint("check --root, and that the token of each weightd may write its own keys: `weightctl check`")
            }
            Overall::NoNodes => failure("every node is in mode observe: no node sets weights".to_owned())
                .hint("set `mode` to \"enforce\" in weightd.toml of the nodes"),
            Overall::Replaced(_) => {
                let now = document.as_ref().map_or_else(
                    || "it has no key now".to_owned(),
                    |stored| {
                        let view = View::of(stored);
                        let origin = view.origin();
                        let separator = if origin.is_empty() { "" } else { ", " };
                        format!("it is now {}, index {}{separator}{origin}", view.summary(), stored.index)
                    },
                );
                Failure::new(
                    Exit::Conflict,
                    format!("another writer replaced {backend} of index {index} during the wait; {now}"),
                )
                .hint(format!("`weightctl get {backend}` shows the backend"))
            }
        })
    }
}

/// The nodes that do not have it, by name.
fn laggards(nodes: &BTreeMap<NodeName, Standing>) -> Vec<Laggard> {
    let laggard = |(node, standing): (&NodeName, &Standing)| {
        let (reason, detail) = reason_of(standing)?;
        let is_final = matches!(standing, Standing::Cannot(_));
        // From a node: escaped here, once for each form of the output.
        let (reason, detail) = (Escaped(&reason).to_string(), Escaped(&detail).to_string());
        Some(Laggard { node: node.clone(), reason, detail, is_final })
    };
    nodes.iter().filter_map(laggard).collect()
}

/// The nodes that have nothing to do, because no HAProxy there has the backend.
fn lacks(nodes: &BTreeMap<NodeName, Standing>) -> Vec<NodeName> {
    let lacks = nodes.iter().filter(|(_, standing)| **standing == Standing::Done { has: false });
    lacks.map(|(node, _)| node.clone()).collect()
}

#[cfg(test)]
mod tests;
