//! Traffic as a table for a terminal of any width, and as JSON. Pure.

use std::fmt::Write as _;

use serde::Serialize;
use weightd_core::{
    fleet::{NodeName, counters::Protocol},
    forecast::STICKY,
    model::{BackendName, Escaped, Timestamp},
    reasons::list,
    share::Percent,
    traffic::{Groups, Pin, Rates, Row, Rows},
};

use crate::{
    documents::view::View,
    weightctl::{
        following::{DrainingView, Following},
        output::{self, counted},
        table::Tone,
    },
};

/// The longest bar.
const BAR: usize = 24;
/// The shortest bar that is worth its place.
const SHORT: usize = 5;

/// The traffic of a backend. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "at": "2026-11-21T10:00:00Z",    Consul's time
///   "index": 42,                     ModifyIndex of the document; null without one
///   "asked": 3,                      nodes that report and enforce weights
///   "counted": 3,                    HAProxies with numbers
///   "modes": ["http"],               http, tcp, unknown; in mode tcp requests are connections, and no HTTP error is visible
///   "rows": [<row>…],                over all nodes
///   "unserved_per_second": 0.0,      requests that no server could take: errors beside those of the rows
///   "torn": 0,                       HAProxies of which some requests are missing, because a process ended
///   "sticky": false,                 whether a HAProxy has rules that choose the server: the shares are those of users
///   "nodes": [{"node": "lb-1", "rows": [<row>…]}…],              null without --nodes
///   "lacks": ["lb-3"],               nodes on which no HAProxy has the backend
///   "without": [{"node": "lb-2", "haproxy": "edge", "why": "…"}…],   what has no numbers; haproxy is null for the whole node
///   "draining": {…}                  what is left where the weight is 0; null if no server is at 0
/// }
/// ```
///
/// A row is one server or one side:
///
/// ```json
/// {
///   "side": "green",
///   "desired": 10.0,                 percent, by the document; null where it does not say it
///   "share": 9.8,                    percent of the requests of the block; null without requests
///   "requests_per_second": 9.9,      as users saw them; these five are null without numbers
///   "errors_per_second": 0.1,        of these, those that failed
///   "masked_per_second": 0.0,        failed attempts that another attempt answered
///   "refused_per_second": 0.0,       answers of 4xx
///   "answered_per_second": 9.8,      answers with a status
///   "time_ms": 14.0,                 mean time to an answer; null without answers
///   "sessions": 1,
///   "usable": 3, "total": 3,         servers, over all HAProxies
///   "changed": false                 whether a weight or a usable server changed within the block
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
pub(super) struct TrafficView {
    backend: BackendName,
    at: Option<Timestamp>,
    index: Option<u64>,
    asked: usize,
    counted: usize,
    modes: Vec<Protocol>,
    rows: Vec<RowView>,
    unserved_per_second: f64,
    torn: usize,
    sticky: bool,
    nodes: Option<Vec<NodeRows>>,
    lacks: Vec<NodeName>,
    without: Vec<WithoutView>,
    draining: Option<DrainingView>,
}

#[derive(Debug, Clone, Serialize)]
struct NodeRows {
    node: NodeName,
    rows: Vec<RowView>,
}

#[derive(Debug, Clone, Serialize)]
struct WithoutView {
    node: NodeName,
    haproxy: Option<String>,
    why: String,
}

#[derive(Debug, Clone, Serialize)]
struct RowView {
    side: String,
    desired: Option<f64>,
    share: Option<f64>,
    requests_per_second: Option<f64>,
    errors_per_second: Option<f64>,
    masked_per_second: Option<f64>,
    refused_per_second: Option<f64>,
    answered_per_second: Option<f64>,
    time_ms: Option<f64>,
    sessions: u64,
    usable: u64,
    total: u64,
    changed: bool,
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl From<Row> for RowView {
    fn from(row: Row) -> Self {
        let rate = |of: fn(&Rates) -> f64| row.rates.as_ref().map(of).map(round);
        Self {
            desired: row.desired.map(round),
            share: row.share.map(round),
            requests_per_second: rate(|rates| rates.requests),
            errors_per_second: rate(|rates| rates.errors),
            masked_per_second: rate(|rates| rates.masked),
            refused_per_second: rate(|rates| rates.refused),
            answered_per_second: rate(|rates| rates.answered),
            time_ms: row.time.map(round),
            side: row.label,
            sessions: row.sessions,
            usable: row.usable,
            total: row.total,
            changed: row.changed,
        }
    }
}

fn views(rows: Rows) -> Vec<RowView> {
    rows.rows.into_iter().map(RowView::from).collect()
}

impl TrafficView {
    /// What is known now. `document` is the backend in Consul, `nodes` whether each node is shown.
    pub(super) fn of(
        backend: &BackendName,
        at: Option<Timestamp>,
        document: Option<&View>,
        following: &Following,
        groups: &Groups,
        draining: Option<DrainingView>,
        nodes: bool,
    ) -> Self {
        let now = following.now();
        let rows = following.collector.rows(groups, now);
        let of_haproxy = rows.without.iter().map(|(node, haproxy, why)| WithoutView {
            node: node.clone(),
            haproxy: Some(haproxy.clone()),
            why: why.to_string(),
        });
        let of_node =
            |node: &NodeName, why: &str| WithoutView { node: node.clone(), haproxy: None, why: why.to_owned() };
        let no_data = following.no_data.iter().map(|(node, why)| of_node(node, why));
        let silent = following.silent().into_iter().map(|node| of_node(node, "it has not answered"));
        let missing = following.missing.iter().map(|node| of_node(node, "its weightd has ended or lost Consul"));
        let by_node = |node: &NodeName| NodeRows {
            node: node.clone(),
            rows: views(following.collector.rows_of_node(node, groups, now)),
        };
        Self {
            backend: backend.clone(),
            at,
            index: document.and_then(|view| view.index),
            asked: following.asked.len(),
            counted: rows.counted,
            modes: rows.protocols.clone(),
            unserved_per_second: round(rows.unserved),
            torn: rows.torn,
            sticky: following.collector.pins().contains(&Pin::Sticky),
            nodes: nodes.then(|| following.collector.nodes().into_iter().map(by_node).collect()),
            lacks: following.lacks.iter().cloned().collect(),
            without: of_haproxy.chain(no_data).chain(silent).chain(missing).collect(),
            rows: views(rows),
            draining,
        }
    }

    /// The backend.
    pub(super) const fn backend(&self) -> &BackendName {
        &self.backend
    }

    /// How many HAProxies have numbers.
    pub(super) const fn counted(&self) -> usize {
        self.counted
    }

    /// Why there are no numbers.
    pub(super) fn why_not(&self) -> String {
        let reasons: Vec<_> = self.without.iter().map(WithoutView::sentence).collect();
        if reasons.is_empty() { "no node reports".to_owned() } else { list(reasons.iter().map(String::as_str)) }
    }

    fn mode(&self) -> String {
        let word = |protocol: &Protocol| match protocol {
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
            Protocol::Unknown => "unknown mode",
        };
        self.modes.iter().map(word).collect::<Vec<_>>().join(" and ")
    }

    fn is_tcp(&self) -> bool {
        self.modes.contains(&Protocol::Tcp)
    }
}

impl WithoutView {
    fn sentence(&self) -> String {
        format!("{}: {}", self.node, self.why)
    }
}

/// The screen of a terminal: no line is longer, and no more lines than it has.
pub(super) fn screen(view: &TrafficView) -> String {
    let (width, height) = output::size();
    let text = text(view, width);
    let lines: Vec<_> = text.lines().collect();
    if lines.len() < height {
        return text;
    }
    let shown = height.saturating_sub(2);
    let mut cut = lines.iter().take(shown).fold(String::new(), |text, line| text + line + "\n");
    let _ = writeln!(cut, "… {} more lines: a higher terminal, or without --watch", lines.len() - shown);
    cut
}

/// The table and what must be known about it; at most `width` characters a line where that is possible.
pub(super) fn text(view: &TrafficView, width: usize) -> String {
    let haproxies = counted(view.counted + view.without.len(), "HAProxy").replace("HAProxys", "HAProxies");
    let mut text = format!(
        "{}  {} of {haproxies} with numbers{}\n",
        Tone::Strong.paint(view.backend.as_str()),
        view.counted,
        if view.modes.is_empty() { String::new() } else { format!(", {}", view.mode()) },
    );
    let rows = view.rows.iter().map(|row| (None, row));
    let by_node = view.nodes.iter().flatten().flat_map(|of| of.rows.iter().map(|row| (Some(&of.node), row)));
    text.push_str(&table(&rows.chain(by_node).collect::<Vec<_>>(), view.is_tcp(), width));
    let mut note = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    if let Some(draining) = &view.draining {
        note(draining.text().trim_end());
    }
    if view.sticky {
        note(STICKY);
    }
    if view.is_tcp() {
        note("mode tcp: these are connections; HTTP errors are not visible");
    }
    if view.unserved_per_second > 0.0 {
        let rate = rate(Some(view.unserved_per_second));
        note(&format!("{rate} requests a second failed because no server could take them"));
    }
    let changed: Vec<_> = view.rows.iter().filter(|row| row.changed).map(|row| row.side.as_str()).collect();
    if !changed.is_empty() {
        note(&format!("changed within the block, so that the shares are mixed: {}", list(changed.into_iter())));
    }
    if view.torn > 0 {
        note(&format!("a HAProxy process ended: some requests of {} are missing", counted(view.torn, "HAProxy")));
    }
    if !view.lacks.is_empty() {
        note(&format!("without {}: {}", view.backend, list(view.lacks.iter().map(NodeName::as_str))));
    }
    for without in &view.without {
        note(&cut(&format!("no numbers: {}", without.sentence()), width));
    }
    text
}

/// One column: its header, its cells, and how soon it is left out where space is short; 0 stays.
struct Column {
    header: &'static str,
    cells: Vec<String>,
    leave: u8,
}

impl Column {
    fn new(header: &'static str, leave: u8, cells: impl Iterator<Item = String>) -> Self {
        Self { header, cells: cells.collect(), leave }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default().max(self.header.len())
    }
}

fn table(rows: &[(Option<&NodeName>, &RowView)], tcp: bool, width: usize) -> String {
    let each = |of: fn(&RowView) -> String| rows.iter().map(move |(_, row)| of(row));
    let mut names: Vec<_> = rows
        .iter()
        .map(|(node, row)| node.map_or_else(|| row.side.clone(), |node| format!("{node} {}", row.side)))
        .collect();
    let mut columns = vec![
        Column::new(if tcp { "CONN/S" } else { "REQ/S" }, 0, each(|row| rate(row.requests_per_second))),
        Column::new("SHARE", 0, each(|row| percent(row.share))),
        Column::new("DESIRED", 0, each(|row| percent(row.desired))),
        Column::new("ERRORS", 0, each(|row| part(row.errors_per_second, row.requests_per_second))),
        Column::new("MASKED/S", 2, each(|row| rate(row.masked_per_second))),
        Column::new("4XX", 4, each(|row| part(row.refused_per_second, row.answered_per_second))),
        Column::new("TIME", 3, each(|row| row.time_ms.map_or_else(|| "-".to_owned(), |time| format!("{time:.0} ms")))),
        Column::new("SESSIONS", 1, each(|row| row.sessions.to_string())),
    ];
    // The name needs at least 8 characters.
    let used = |columns: &[Column]| columns.iter().map(|column| column.width() + 2).sum::<usize>();
    while used(&columns) + 8 > width {
        let Some((at, _)) = columns.iter().enumerate().filter(|(_, c)| c.leave > 0).max_by_key(|(_, c)| c.leave) else {
            break;
        };
        columns.remove(at);
    }
    let room = width.saturating_sub(used(&columns)).max(8);
    for name in &mut names {
        *name = cut(name, room);
    }
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().max(4);
    let bar = width.saturating_sub(used(&columns) + widest + 2).min(BAR);
    let mut text = String::new();
    let mut line = |name: &str, cells: Vec<&str>, rest: &str, tone: Tone| {
        let mut line = format!("{name:widest$}");
        for (column, cell) in columns.iter().zip(cells) {
            let width = column.width();
            let _ = write!(line, "  {cell:>width$}");
        }
        if !rest.is_empty() {
            let _ = write!(line, "  {rest}");
        }
        text.push_str(&tone.paint(line.trim_end()));
        text.push('\n');
    };
    line("SIDE", columns.iter().map(|column| column.header).collect(), "", Tone::Strong);
    for (at, (name, (_, row))) in names.iter().zip(rows).enumerate() {
        let cells = columns.iter().map(|column| column.cells.get(at).map_or("", String::as_str)).collect();
        let failing = row.errors_per_second.is_some_and(|errors| errors > 0.0);
        line(name, cells, &bar_of(row.share, bar), if failing { Tone::Warn } else { Tone::Plain });
    }
    text
}

/// A bar for a share; empty where there is no place for it.
fn bar_of(share: Option<f64>, width: usize) -> String {
    if width < SHORT {
        return String::new();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a width")]
    let filled = share.map_or(0, |share| (share.clamp(0.0, 100.0) * width as f64 / 100.0).round() as usize);
    // A share above 0 is visible.
    let filled = if share.is_some_and(|share| share > 0.0) { filled.max(1) } else { filled };
    "#".repeat(filled)
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate >= 100.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

fn percent(percent: Option<f64>) -> String {
    percent.map_or_else(|| "-".to_owned(), |percent| Percent(percent).to_string())
}

/// The part of `all` in percent; `-` where nothing was counted.
fn part(part: Option<f64>, all: Option<f64>) -> String {
    match (part, all) {
        (Some(part), Some(all)) if all > 0.0 => Percent(part * 100.0 / all).to_string(),
        (Some(part), _) if part > 0.0 => format!("{}/s", rate(Some(part))),
        _ => "-".to_owned(),
    }
}

/// The text, cut with an ellipsis where it is longer.
fn cut(text: &str, width: usize) -> String {
    let text = Escaped(text).to_string();
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
