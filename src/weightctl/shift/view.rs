//! A computed shift as text and as JSON. Pure.

use serde::Serialize;
use weightd_core::{
    model::{BackendName, ServerName},
    reasons::list,
    share::Percent,
    shift::{MOST_ERROR, Shift, Shown},
};

use super::servers::Servers;
use crate::weightctl::{Exit, failure::Failure, output::counted};

/// What `-o json` adds to the result of the write, under `shift`:
///
/// ```json
/// {
///   "sides": [{"servers": "green", "before": 5.0, "wanted": 10.0, "after": 10.0}…],   in percent; "servers" of the last
///                                    one is null for all other servers; "before" is null if no server had a weight
///   "error_points": 0.0,             the largest error of a share, in percentage points
///   "ratio_error_points": 0.0,       the largest error of the part of a server in its side
///   "stopped": [],                   servers that get 0 only by rounding
///   "added": ["green-3"],            servers that HAProxy has and the document did not name
///   "uncounted": [],                 servers that count for no share now: in maintenance, or in no HAProxy
///   "unnamed": [],                   servers that serve on a node, on no side and not in the document
///   "from": "nodes"                  where the servers come from: "nodes", or "document" if no node answered
/// }
/// ```
#[derive(Debug, Serialize)]
pub(in crate::weightctl) struct ShiftView {
    sides: Vec<SideView>,
    error_points: f64,
    ratio_error_points: f64,
    stopped: Vec<String>,
    added: Vec<String>,
    uncounted: Vec<String>,
    unnamed: Vec<String>,
    from: &'static str,
}

#[derive(Debug, Serialize)]
struct SideView {
    servers: Option<String>,
    before: Option<f64>,
    wanted: f64,
    after: f64,
}

impl ShiftView {
    pub(super) fn of(shift: &Shift, servers: &Servers) -> Self {
        let names = |servers: &[ServerName]| servers.iter().map(ToString::to_string).collect();
        let side = |shown: &Shown| SideView {
            servers: shown.pattern.as_ref().map(ToString::to_string),
            before: shown.before,
            wanted: shown.wanted,
            after: shown.after,
        };
        Self {
            sides: shift.sides.iter().map(side).collect(),
            error_points: shift.error,
            ratio_error_points: shift.ratio_error,
            stopped: names(&shift.stopped),
            added: names(&shift.added),
            uncounted: names(&shift.uncounted),
            unnamed: names(&shift.unnamed),
            from: if servers.are_reported() { "nodes" } else { "document" },
        }
    }
}

/// The lines above the preview.
pub(super) fn lines(backend: &BackendName, shift: &Shift, servers: &Servers) -> Vec<String> {
    let mut lines = vec![summary(backend, shift, servers)];
    for (what, servers) in [
        ("new in the document", &shift.added),
        ("not counted, because they get no traffic in any HAProxy", &shift.uncounted),
        ("serve and are not in the document; they keep their weights", &shift.unnamed),
    ] {
        if !servers.is_empty() {
            lines.push(format!("{what}: {}", list(servers.iter().map(ServerName::as_str))));
        }
    }
    if !shift.stopped.is_empty() {
        lines.push(format!("{} get weight 0 by rounding", counted(shift.stopped.len(), "server")));
    }
    lines
}

/// One line: the shares now, as wanted and as computed.
fn summary(backend: &BackendName, shift: &Shift, servers: &Servers) -> String {
    let side = |shown: &Shown| {
        let name = shown.pattern.as_ref().map_or_else(|| "all others".to_owned(), ToString::to_string);
        let before = shown.before.map_or_else(|| "-".to_owned(), |before| Percent(before).to_string());
        format!("{name} {before} → {}", Percent(shown.after))
    };
    let sides: Vec<_> = shift.sides.iter().map(side).collect();
    format!("{backend}: {}; error {:.2} points; {}", sides.join(", "), shift.error, servers.source())
}

pub(super) fn not_close(backend: &BackendName, shift: &Shift, servers: &Servers) -> Failure {
    let nearest = summary(backend, shift, servers);
    if shift.error > MOST_ERROR && !shift.unnamed.is_empty() {
        let unnamed = list(shift.unnamed.iter().map(ServerName::as_str));
        let message =
            format!("these serve and are not in the document, so that no weights give these shares: {unnamed}");
        return Failure::new(Exit::Refused, format!("{message}; the nearest: {nearest}")).hint(
            "add them to the document with `weightctl set … --create`, or add --approximate to write these weights",
        );
    }
    if shift.error > MOST_ERROR {
        return Failure::new(Exit::Refused, format!("no weights give these shares; the nearest: {nearest}")).hint(
            "use the share that they give, fewer servers on the smaller side, or add --approximate to write them",
        );
    }
    let stopped = counted(shift.stopped.len(), "server");
    Failure::new(Exit::Refused, format!("rounding would stop {stopped}; the nearest: {nearest}"))
        .hint("use a larger share, fewer servers on the smaller side, or add --approximate to write them")
}

#[cfg(test)]
mod tests {
    use weightd_core::{
        desired::Pattern,
        model::Weight,
        shift::{KnownServer, NodeServers, Reported, Wanted, shift},
    };

    use super::*;

    #[test]
    fn servers_beside_the_document_are_named_where_they_are_why_a_share_is_missed() {
        let weight = |weight| Weight::new(weight).unwrap();
        let known = |name: &str, now| KnownServer {
            name: ServerName::new(name).unwrap(),
            configured: weight(100),
            weight: weight(now),
            counts: true,
        };
        let servers = vec![known("blue", 90), known("green", 10), known("red", 100)];
        let reported = Reported { nodes: vec![NodeServers { node: "lb-1".to_owned(), servers }], complete: true };
        let document = [("blue", 90), ("green", 10)].map(|(name, now)| (ServerName::new(name).unwrap(), weight(now)));
        let asked = [(Pattern::new("green").unwrap(), Wanted::Share(20.0))];
        let shift = shift(&document.into(), &reported, &asked).unwrap();
        let refused = not_close(&BackendName::new("app").unwrap(), &shift, &Servers::default());
        let message = refused.error.to_string();
        assert!(
            message.starts_with("these serve and are not in the document, so that no weights give these shares: red; ")
        );
        assert!(refused.hint.unwrap().starts_with("add them to the document with `weightctl set … --create`"));
    }
}
