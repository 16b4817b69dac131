//! The result of a writing verb, and what is said of the nodes before the write.

use futures_util::future::join_all;
use serde::Serialize;
use weightd_core::model::BackendName;

use super::{
    change::Flags,
    failure::Failure,
    forecast::ForecastView,
    observing::{self, Answers},
    output::{self, Format},
    reach::{self, Reach},
    refusals,
    shift::ShiftView,
    wait::WaitFlags,
};
use crate::documents::{
    Documents,
    edit::{Edit, Write},
    fleet::{Nodes, Roster},
    view::View,
};

/// The result of a writing verb. In JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "changed": true,      whether "after" differs from "before"
///   "dry_run": false,     true if nothing was written because of --dry-run
///   "index": 43,          ModifyIndex of the backend; null if --dry-run prevented a write
///   "before": {…},        in the format of `get BACKEND`; null if there was no key
///   "after": {…},         in the same format
///   "nodes": {…},         what the nodes say before the write; null if that is not known or not asked for
///   "observed": {…}       what the HAProxies have and would do; null with --yes, and if no node could be asked
///   "shift": {…}          only of `shift`: the shares and their error
/// }
/// ```
#[derive(Debug, Serialize)]
pub(super) struct Outcome<'a> {
    backend: &'a BackendName,
    changed: bool,
    dry_run: bool,
    index: Option<u64>,
    before: Option<&'a View>,
    after: View,
    nodes: Option<Reach>,
    observed: Option<ForecastView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<&'a ShiftView>,
    /// What the nodes answered before, so that they are not asked again.
    #[serde(skip)]
    heard: Option<&'a Answers>,
}

impl<'a> Outcome<'a> {
    /// The result of `edit` before anything is written.
    pub(super) fn of(backend: &'a BackendName, edit: &'a Edit, flags: &Flags) -> Self {
        let changed = edit.write != Write::Nothing;
        let index = edit.before.as_ref().and_then(|view| view.index).filter(|_| !changed);
        Self { changed, index, ..Self::plain(backend, edit.before.as_ref(), &edit.after, flags) }
    }

    /// A backend that was left as it is: `view`, with this `ModifyIndex`.
    pub(super) fn unchanged(backend: &'a BackendName, view: &'a View, index: u64, flags: &Flags) -> Self {
        Self { index: Some(index), ..Self::plain(backend, Some(view), view, flags) }
    }

    /// Nothing is said of the nodes.
    fn plain(backend: &'a BackendName, before: Option<&'a View>, after: &View, flags: &Flags) -> Self {
        let (changed, dry_run, index) = (false, flags.dry_run, None);
        let (nodes, observed, shift, heard) = (None, None, None, None);
        Self { backend, changed, dry_run, index, before, after: after.clone(), nodes, observed, shift, heard }
    }

    /// Whether the nodes are asked before the write: before a question, and, without one, about a new backend, whose name
    /// may be wrong.
    fn asks(&self, flags: &Flags) -> bool {
        self.heard.is_none() && (!flags.yes || self.before.is_none())
    }

    /// Says what the nodes have of the backend before the write.
    fn say_reach(&mut self, known: &(Nodes, Roster)) {
        let reach = Reach::of(known, self.backend, self.before.and_then(|view| view.index));
        output::message(&format!("nodes: {}", reach.sentence(self.backend)));
        self.nodes = Some(reach);
    }

    /// Says what the HAProxies have and would do.
    fn say_forecast(&mut self, answers: &Answers, near: Option<&str>) {
        let forecast = ForecastView::of(answers, self.before, &self.after);
        output::message(forecast.text(self.backend, output::message_columns()).trim_end());
        self.say_missing(answers, near);
        self.observed = Some(forecast);
    }

    /// Says where shares will not be what they say, as far as the nodes have answered already.
    fn say_untrue(&self) {
        let Some(answers) = self.heard else { return };
        let untrue = ForecastView::of(answers, self.before, &self.after).untrue();
        if !untrue.is_empty() {
            output::message(untrue.trim_end());
        }
    }

    /// Warns of a backend that no HAProxy has.
    fn say_missing(&self, answers: &Answers, near: Option<&str>) {
        if answers.nobody_has_it() {
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            output::note(&format!("no HAProxy of any node has the backend `{}`{near}", self.backend));
        }
    }

    /// Whether something is to be written.
    pub(super) const fn changes(&self) -> bool {
        self.changed
    }

    /// The `ModifyIndex` of the backend, where nothing is left to write.
    pub(super) const fn index(&self) -> Option<u64> {
        self.index
    }

    /// The backend.
    pub(super) const fn backend(&self) -> &'a BackendName {
        self.backend
    }

    /// The same with the shares that it gives.
    pub(super) fn shifted(self, shift: Option<&'a ShiftView>) -> Self {
        Self { shift, ..self }
    }

    /// The same with what the nodes answered before.
    pub(super) fn heard(self, heard: Option<&'a Answers>) -> Self {
        Self { heard, ..self }
    }

    /// What was said of the nodes and their HAProxies before the write.
    pub(super) fn into_said(self) -> Said {
        Said { nodes: self.nodes, observed: self.observed }
    }

    /// The same with what was said before the write.
    pub(super) fn after(self, Said { nodes, observed }: Said) -> Self {
        Self { nodes, observed, ..self }
    }

    /// The result after a read-back with this `ModifyIndex`.
    pub(super) fn written(mut self, index: u64) -> Self {
        self.index = Some(index);
        self.after.index = Some(index);
        self
    }

    /// Prints it with `-o json`; on one line with --wait, because the lines of the wait follow.
    pub(super) fn print(&self, format: Format, waits: &WaitFlags) -> Result<(), Failure> {
        if waits.is_given() { format.json_line(self) } else { format.json(self) }
    }
}

/// What was said of the nodes and their HAProxies before a write.
#[derive(Debug, Default)]
pub(super) struct Said {
    nodes: Option<Reach>,
    observed: Option<ForecastView>,
}

/// Says what is known of the nodes before these writes: what they report, and, before a question, what their HAProxies have
/// and would do. With --yes, they are asked only about new backends; with --wait and --yes, the wait says the rest.
pub(super) async fn say_nodes(documents: &Documents, flags: &Flags, waits: &WaitFlags, outcomes: &mut [Outcome<'_>]) {
    let brief = flags.yes && waits.is_given();
    if flags.yes {
        outcomes.iter().for_each(Outcome::say_untrue);
    }
    let count = outcomes.iter().filter(|outcome| outcome.asks(flags)).count();
    if outcomes.is_empty() || brief && outcomes.iter().all(|outcome| outcome.before.is_some()) {
        return;
    }
    let Some(known) = reach::read(documents).await else { return };
    let asked = observing::counting(&known.0);
    let observed = count <= observing::MOST;
    let ask = async |backend, by, is_new, asks: bool| {
        let answers = async { if asks { observing::ask(documents, backend, &asked, by).await } else { None } };
        let near =
            async { if is_new && observed { refusals::nearest_backend(documents, backend).await } else { None } };
        tokio::join!(answers, near)
    };
    let asking: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let asks = observed && outcome.asks(flags);
            ask(outcome.backend, outcome.after.by.clone(), outcome.before.is_none(), asks)
        })
        .collect();
    for (outcome, (answers, near)) in outcomes.iter_mut().zip(join_all(asking).await) {
        if !brief {
            outcome.say_reach(&known);
        }
        match answers.as_ref().or(outcome.heard) {
            Some(answers) if flags.yes => outcome.say_missing(answers, near.as_deref()),
            Some(answers) => outcome.say_forecast(answers, near.as_deref()),
            None => {}
        }
    }
    if !observed && !flags.yes {
        output::note(&format!("more than {} backends: what HAProxy has of them is not shown", observing::MOST));
    }
}
