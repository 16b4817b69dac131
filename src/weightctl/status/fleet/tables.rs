//! The fleet as tables for a terminal of any width, and complete in a pipe. Pure.
//!
//! `columns` is the width of the terminal; none in a pipe, where nothing is cut.

use std::fmt::Write as _;

use weightd_core::model::{Escaped, Timestamp};

use crate::weightctl::{
    fleet::{BackendView, FleetView, NodeView, age},
    table::{Align, Cell, Table, Tone, cut},
};

/// The widest state of a node.
const STATE: usize = 26;
/// The widest versions of HAProxy.
const HAPROXY: usize = 18;
/// The widest weights of a backend.
const WEIGHTS: usize = 26;
/// The narrowest list of nodes. Where it does not fit either, the table cuts its widest column.
const LIST: usize = 14;

/// The whole fleet: nodes, backends, and the summary.
pub(super) fn fleet(view: &FleetView, now: Option<Timestamp>, columns: Option<usize>) -> String {
    let mut text = nodes(view, now, columns);
    if !view.backends.is_empty() {
        text.push('\n');
        text.push_str(&backends(view, columns));
    }
    let _ = writeln!(text, "\n{}", summary(view));
    text
}

/// One line: how many are in sync.
fn summary(view: &FleetView) -> String {
    let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let mut text = format!("{}: {} of {} in sync", plural(view.nodes.len(), "node"), view.in_sync, view.counted);
    if let Some(expected) = view.expected {
        let _ = write!(text, ", {expected} expected");
    }
    let everywhere = view.backends.iter().filter(|backend| backend.in_sync()).count();
    let _ = write!(text, "; {}: {everywhere} as desired on all nodes", plural(view.backends.len(), "backend"));
    if !view.problems.is_empty() {
        let _ = write!(text, "\n{}: `weightctl status --problems`", plural(view.problems.len(), "problem"));
    }
    text
}

/// One line for each node.
pub(in crate::weightctl) fn nodes(view: &FleetView, now: Option<Timestamp>, columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("NODE", Align::Left),
        ("STATE", Align::Left),
        ("SINCE", Align::Right),
        ("WEIGHTD", Align::Left),
        ("HAPROXY", Align::Left),
    ]);
    for node in &view.nodes {
        let version = node.version.as_deref().map(|version| Escaped(version).to_string()).unwrap_or_default();
        let haproxy = haproxy(node);
        let down = node.haproxy.iter().any(|haproxy| !haproxy.up);
        table.row([
            node.node.as_str().into(),
            Cell::new(within(&state(node), columns.map(|_| STATE)), tone(node)),
            age(node.since, now).into(),
            version.split(' ').next().unwrap_or_default().into(),
            Cell::new(within(&haproxy, columns.map(|_| HAPROXY)), if down { Tone::Bad } else { Tone::Plain }),
        ]);
    }
    if view.nodes.is_empty() { String::new() } else { table.render_within("", columns) }
}

fn tone(node: &NodeView) -> Tone {
    match node.state {
        "in_sync" => Tone::Good,
        "observe" => Tone::Faint,
        "differs" => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// The state on a few words.
fn state(node: &NodeView) -> String {
    match node.state {
        "in_sync" => "in sync".to_owned(),
        "observe" => "observe, does not count".to_owned(),
        "duplicate" => "two machines, one name".to_owned(),
        "differs" => {
            let mut reasons: Vec<_> = node.out.iter().map(|out| Escaped(&out.reason).to_string()).collect();
            reasons.sort_unstable();
            reasons.dedup();
            format!("{} not: {}", node.out.len(), reasons.join(", "))
        }
        other => other.to_owned(),
    }
}

/// The versions, and the names of those that are down.
fn haproxy(node: &NodeView) -> String {
    let mut parts: Vec<String> = Vec::new();
    for haproxy in &node.haproxy {
        let part = match (&haproxy.version, haproxy.up) {
            (_, false) => format!("{} down", Escaped(&haproxy.name)),
            (Some(version), true) => Escaped(version.split('-').next().unwrap_or_default()).to_string(),
            (None, true) => "up".to_owned(),
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(", ")
}

/// One line for each backend.
fn backends(view: &FleetView, columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("DESIRED", Align::Left),
        ("NODES", Align::Right),
        ("NOT AS DESIRED", Align::Left),
    ]);
    let name = view.backends.iter().map(|backend| backend.backend.as_str().chars().count()).max().unwrap_or(0).max(7);
    let weights = view.backends.iter().map(|backend| backend.summary().chars().count()).max().unwrap_or(0);
    let count = view.backends.iter().map(|backend| nodes_of(backend).len()).max().unwrap_or(0).max(5);
    let used = name + weights.clamp(7, WEIGHTS) + count + 6;
    for backend in &view.backends {
        let others = others(backend);
        let tone = match (backend.in_sync(), backend.differs.is_empty() && backend.unknown == 0) {
            (true, _) => Tone::Good,
            (false, true) => Tone::Warn,
            (false, false) => Tone::Bad,
        };
        table.row([
            backend.backend.as_str().into(),
            within(&backend.summary(), columns.map(|_| WEIGHTS)).into(),
            Cell::new(nodes_of(backend), tone),
            list(&others, columns.map(|columns| columns.saturating_sub(used).max(LIST))).into(),
        ]);
    }
    table.render_within("", columns)
}

/// How many nodes have it, of those that count.
fn nodes_of(backend: &BackendView) -> String {
    format!("{}/{}", backend.has.len(), backend.counted())
}

/// The nodes that do not have it, with the reason.
fn others(backend: &BackendView) -> Vec<String> {
    let differs = backend.differs.iter().map(|differs| format!("{} {}", differs.node, Escaped(&differs.reason)));
    differs.chain(backend.lacks.iter().map(|node| format!("{node} lacks it"))).collect()
}

/// The text, cut where it is wider.
fn within(text: &str, width: Option<usize>) -> String {
    width.map_or_else(|| text.to_owned(), |width| cut(text, width))
}

/// As many items as fit, and the number of the others; all of them without a width.
fn list(items: &[String], width: Option<usize>) -> String {
    let Some(width) = width else { return items.join(", ") };
    let mut text = String::new();
    for (position, item) in items.iter().enumerate() {
        let more = items.len() - position;
        let item = if position == 0 { item.clone() } else { format!(", {item}") };
        let reserve = if more > 1 { format!(", +{more}").len() } else { 0 };
        if position > 0 && text.chars().count() + item.chars().count() + reserve > width {
            let _ = write!(text, ", +{more}");
            break;
        }
        text.push_str(&item);
    }
    cut(&text, width)
}

/// One backend: what is desired, and each node.
pub(super) fn backend(view: &BackendView, now: Option<Timestamp>, columns: Option<usize>) -> String {
    let mut text = format!("{}  {}, index {}", Tone::Strong.paint(view.backend.as_str()), view.summary(), view.index);
    for (word, value) in [("by", &view.by), ("at", &view.at)] {
        if let Some(value) = value {
            let _ = write!(text, ", {word} {}", Escaped(value));
        }
    }
    text.push('\n');
    if let Some(reason) = &view.reason {
        let _ = writeln!(text, "  reason: {}", Escaped(reason));
    }
    let mut table = Table::new([("NODE", Align::Left), ("SINCE", Align::Right), ("STATE", Align::Left)]);
    let mut rows: Vec<_> = view.has.iter().map(|node| (node, Cell::new("has it", Tone::Good), None)).collect();
    rows.extend(view.lacks.iter().map(|node| (node, Cell::new("lacks the backend", Tone::Warn), None)));
    let names = view.differs.iter().map(|differs| differs.node.as_str().chars().count());
    let used = names.max().unwrap_or(0).max(4) + 11;
    let room = columns.map(|columns| columns.saturating_sub(used).max(24));
    rows.extend(view.differs.iter().map(|differs| {
        let tone = if differs.is_final { Tone::Bad } else { Tone::Warn };
        (&differs.node, Cell::new(within(&Escaped(&differs.detail).to_string(), room), tone), differs.since)
    }));
    rows.sort_by_key(|(node, ..)| *node);
    for (node, state, since) in rows {
        table.row([node.as_str().into(), age(since, now).into(), state]);
    }
    text.push_str(&table.render_within("  ", columns));
    let unknown = match view.unknown {
        0 => String::new(),
        unknown => format!("; expected but never reported: {unknown}"),
    };
    let _ = writeln!(text, "{} have it{unknown}", nodes_of(view));
    if let Some(draining) = &view.draining {
        text.push_str(&draining.text());
    }
    text
}

/// One node: its versions, its HAProxy instances, and what it does not have.
pub(super) fn node(view: &NodeView, now: Option<Timestamp>, columns: Option<usize>) -> String {
    let mut text = format!("{}  {}", Tone::Strong.paint(view.node.as_str()), tone(view).paint(&state(view)));
    text.push('\n');
    if let Some(version) = &view.version {
        let index = view.applied_index.map(|index| format!(", everything up to index {index}")).unwrap_or_default();
        let _ = writeln!(text, "  weightd {}{index}", Escaped(version));
    }
    if let Some(detail) = &view.detail {
        let _ = writeln!(text, "  {}", Escaped(detail));
    }
    for haproxy in &view.haproxy {
        let version = haproxy.version.as_deref().map(|version| format!(" {}", Escaped(version))).unwrap_or_default();
        let state = if haproxy.up { "up" } else { "down" };
        let since = age(haproxy.since, now);
        let since = if since.is_empty() { since } else { format!(" for {since}") };
        let why = haproxy.why.as_deref().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
        let _ = writeln!(text, "  HAProxy {}{version} {state}{since}{why}", Escaped(&haproxy.name));
    }
    if !view.out.is_empty() {
        let mut table = Table::new([("BACKEND", Align::Left), ("STATE", Align::Left), ("SINCE", Align::Right)]);
        for out in &view.out {
            table.row([
                out.backend.as_str().into(),
                Escaped(&out.reason).to_string().into(),
                age(out.since, now).into(),
            ]);
        }
        text.push_str(&table.render_within("  ", columns));
    }
    text
}

/// Each problem, and what to do about it.
pub(super) fn problems(view: &FleetView) -> String {
    if view.problems.is_empty() {
        return "no problems\n".to_owned();
    }
    let mut text = String::new();
    for problem in &view.problems {
        let subject = match (&problem.node, &problem.backend) {
            (Some(node), Some(backend)) => format!("{node} {backend}"),
            (Some(node), None) => node.to_string(),
            (None, Some(backend)) => backend.to_string(),
            (None, None) => "fleet".to_owned(),
        };
        let _ = writeln!(text, "{}: {}\n  {}", Tone::Strong.paint(&subject), problem.what, problem.remedy);
    }
    text
}

#[cfg(test)]
mod tests;
