//! What the HAProxies have of a backend before a write, and what the write would do there: for the question, and as JSON.
//! Pure.

use std::fmt::Write as _;

use serde::Serialize;
use weightd_core::{
    desired::Desired,
    expand::expand,
    fleet::{NodeName, counters::Counted},
    forecast::{Forecast, ServerForecast, Spread},
    model::{BackendName, Escaped, ServerName, Weight},
    observed::Observed,
    share::Percent,
};

use super::{
    observing::Answers,
    table::{Align, Cell, Table, Tone},
};
use crate::documents::view::View;

/// What the HAProxies have and would do. Its JSON:
///
/// ```json
/// {
///   "asked": 3,                 nodes that report and enforce weights
///   "answered": 3,              of these, the nodes that answered within 1 s
///   "has": ["lb-1", "lb-2"],    nodes with a HAProxy that has the backend or cannot be read now
///   "lacks": ["lb-3"],          nodes on which no HAProxy has it
///   "silent": [],               nodes that did not answer
///   "no_data": [{"node": "lb-4", "why": "…"}…],      nodes with an answer that cannot be used
///   "algorithms": ["roundrobin"],
///   "servers": [{"server": "green",
///                "total": 2, "usable": 1,            HAProxies that have it, and on which it could serve
///                "weight": [10, 10],                 smallest and largest weight now
///                "unnamed": false,                   whether it serves and the document does not name it
///                "share": {"low": 10.0, "mean": 10.0, "high": 10.0},          percent, over the HAProxies
///                "share_after": {"low": 0.0, "mean": 25.0, "high": 50.0}}…],
///   "refuses": [{"node": "lb-2", "haproxy": "edge", "reason": "guarded", "detail": "…"}…],
///                               HAProxies that would not set it: guarded, unmatched, unsupported
///   "down": [{"node": "lb-1", "haproxy": "spare", "reason": "unreachable"}…],   HAProxies that cannot be read now
///   "caveats": [{"reason": "leastconn", "detail": "…", "haproxies": 2}…]        what makes the shares untrue
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ForecastView {
    asked: usize,
    answered: usize,
    has: Vec<NodeName>,
    lacks: Vec<NodeName>,
    silent: Vec<NodeName>,
    no_data: Vec<NoDataView>,
    algorithms: Vec<String>,
    servers: Vec<ServerView>,
    refuses: Vec<RefusesView>,
    down: Vec<DownView>,
    caveats: Vec<CaveatView>,
    /// How many nodes have a HAProxy that has the backend.
    #[serde(skip)]
    having: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct NoDataView {
    node: NodeName,
    why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ServerView {
    server: ServerName,
    total: usize,
    usable: usize,
    weight: (Weight, Weight),
    unnamed: bool,
    share: SpreadView,
    share_after: SpreadView,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct SpreadView {
    low: f64,
    mean: f64,
    high: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct RefusesView {
    node: NodeName,
    haproxy: String,
    reason: &'static str,
    detail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct DownView {
    node: NodeName,
    haproxy: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct CaveatView {
    reason: &'static str,
    detail: String,
    haproxies: usize,
}

impl From<Spread> for SpreadView {
    fn from(Spread { low, mean, high }: Spread) -> Self {
        let round = |percent: f64| (percent * 10.0).round() / 10.0;
        Self { low: round(low), mean: round(mean), high: round(high) }
    }
}

impl SpreadView {
    /// One share, or the smallest and the largest.
    fn text(self) -> String {
        if (self.high - self.low).abs() < 0.1 {
            Percent(self.mean).to_string()
        } else {
            format!("{}..{}", Percent(self.low), Percent(self.high))
        }
    }
}

/// What a view sets on a HAProxy with these servers; none where it sets no weight, or its patterns do not fit the servers.
fn desired(view: &View, observed: &Observed) -> Option<Desired> {
    let weights = match (&view.weights, &view.split) {
        (Some(weights), _) => weights.clone(),
        (None, Some(split)) => expand(split, observed).ok()?.weights,
        (None, None) => return None,
    };
    Some(Desired { weights, force: view.force, ..Desired::default() })
}

impl ForecastView {
    /// What a change from `before` to `after` would do.
    pub(super) fn of(answers: &Answers, before: Option<&View>, after: &View) -> Self {
        let accepted = |observed: &Observed| before.and_then(|view| desired(view, observed));
        let forecast = Forecast::new(answers.instances(), &|observed| desired(after, observed), &accepted);
        let server = |(name, server): (&ServerName, &ServerForecast)| ServerView {
            server: name.clone(),
            total: server.total,
            usable: server.usable,
            weight: server.weight,
            unnamed: server.unnamed,
            share: server.before.into(),
            share_after: server.after.into(),
        };
        let no_data = |(node, why): (&NodeName, &String)| NoDataView { node: node.clone(), why: why.clone() };
        let reads = |counted: &&Counted| counted.instances.iter().any(|instance| instance.down.is_none());
        Self {
            having: answers.has.values().filter(reads).count(),
            asked: answers.asked.len(),
            answered: answers.answered(),
            has: answers.has.keys().cloned().collect(),
            lacks: answers.lacks.iter().cloned().collect(),
            silent: answers.silent().cloned().collect(),
            no_data: answers.no_data.iter().map(no_data).collect(),
            algorithms: forecast.algorithms.iter().cloned().collect(),
            servers: forecast.servers.iter().map(server).collect(),
            refuses: forecast
                .refusals
                .into_iter()
                .map(|refusal| RefusesView {
                    node: refusal.node,
                    haproxy: refusal.instance,
                    reason: refusal.why.word(),
                    detail: refusal.why.to_string(),
                })
                .collect(),
            down: forecast
                .down
                .into_iter()
                .map(|down| DownView { node: down.node, haproxy: down.instance, reason: down.why })
                .collect(),
            caveats: forecast
                .caveats
                .into_iter()
                .map(|caveat| CaveatView { reason: caveat.word, detail: caveat.detail, haproxies: caveat.instances })
                .collect(),
        }
    }

    /// The lines for a person before a question.
    ///
    /// `columns` is the width of the terminal; none in a pipe.
    pub(super) fn text(&self, backend: &BackendName, columns: Option<usize>) -> String {
        let mut text = format!("haproxy: {}\n", self.sentence(backend));
        if !self.servers.is_empty() {
            text.push_str(&self.table(columns));
        }
        for (word, refuses) in self.refusals_by_detail() {
            let _ = writeln!(text, "  {} {word}: {refuses}", Tone::Warn.paint("would not set it:"));
        }
        for down in &self.down {
            let place = format!("{} on {}", Escaped(&down.haproxy), down.node);
            let _ = writeln!(text, "  cannot be read now: HAProxy {place} ({})", Escaped(&down.reason));
        }
        for NoDataView { node, why } in &self.no_data {
            let _ = writeln!(text, "  no data: {node}: {why}");
        }
        text.push_str(&self.untrue());
        text
    }

    /// The lines on where shares will not be what they say.
    pub(super) fn untrue(&self) -> String {
        let mut text = String::new();
        let unnamed: Vec<_> = self.servers.iter().filter(|s| s.unnamed).map(|s| s.server.as_str()).collect();
        if !unnamed.is_empty() {
            let names = names(unnamed.into_iter());
            let _ = writeln!(text, "  serves and is not in the document: {names}; its weight stays");
        }
        for caveat in &self.caveats {
            let _ = writeln!(text, "  shares: {}", Escaped(&caveat.detail));
        }
        text
    }

    /// Who has the backend, on one line.
    fn sentence(&self, backend: &BackendName) -> String {
        let of = format!("{} of {}", self.answered, nodes(self.asked));
        if self.answered == 0 {
            return format!("no node answered within 1 s; what HAProxy has of {backend} is not known");
        }
        let algorithms: Vec<_> = self.algorithms.iter().map(|name| Escaped(name).to_string()).collect();
        let algorithms = if algorithms.is_empty() { String::new() } else { format!(", {}", algorithms.join(" and ")) };
        let mut parts = vec![format!("{of} answered; {} with {backend}{algorithms}", self.having)];
        if !self.lacks.is_empty() {
            parts.push(format!("without it: {}", names(self.lacks.iter().map(NodeName::as_str))));
        }
        if !self.silent.is_empty() {
            parts.push(format!("no answer within 1 s: {}", names(self.silent.iter().map(NodeName::as_str))));
        }
        parts.join("; ")
    }

    fn table(&self, columns: Option<usize>) -> String {
        let mut table = Table::new([
            ("SERVER", Align::Left),
            ("USABLE", Align::Left),
            ("SHARE NOW", Align::Left),
            ("SHARE AFTER", Align::Left),
        ]);
        for server in &self.servers {
            let usable = format!("{} of {}", server.usable, server.total);
            let tone = if server.usable < server.total { Tone::Warn } else { Tone::Plain };
            let changed = server.share != server.share_after;
            table.row([
                Cell::new(server.server.as_str(), if changed { Tone::Strong } else { Tone::Plain }),
                Cell::new(usable, tone),
                server.share.text().into(),
                server.share_after.text().into(),
            ]);
        }
        table.render_within("  ", columns)
    }

    /// The HAProxies that would not set it, by the reason.
    fn refusals_by_detail(&self) -> Vec<(String, &str)> {
        let mut by: Vec<(Vec<String>, &str)> = Vec::new();
        for refuses in &self.refuses {
            // The name of the HAProxy says something only where the node has several.
            let several = self.refuses.iter().filter(|other| other.node == refuses.node).count() > 1;
            let place = if several {
                format!("{} on {}", Escaped(&refuses.haproxy), refuses.node)
            } else {
                refuses.node.to_string()
            };
            match by.iter_mut().find(|(_, detail)| *detail == refuses.detail) {
                Some((places, _)) => places.push(place),
                None => by.push((vec![place], &refuses.detail)),
            }
        }
        by.into_iter().map(|(places, detail)| (names(places.iter().map(String::as_str)), detail)).collect()
    }
}

fn nodes(count: usize) -> String {
    super::output::counted(count, "node")
}

/// At most five names, and how many more.
fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    weightd_core::reasons::list(names)
}

#[cfg(test)]
mod tests;
