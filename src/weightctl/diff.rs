use serde::Serialize;
use weightd_core::model::{BackendName, Escaped, Timestamp};

use super::{
    Exit,
    context::Context,
    failure::Failure,
    fleet::{DiffersView, FleetView, OffView, age},
    output,
    refusals::no_such,
    status,
    table::{Align, Cell, Table, Tone},
};

/// Show each node that does not have what Consul has, one line per backend
///
/// Exits with 0 if no node differs, with 8 if one does, and with 3 if no node reports. A node that is missing, or that was
/// expected and never reported, differs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this backend
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
}

/// The differences. Its JSON:
///
/// ```json
/// {
///   "differences": [{"backend": "app1", "index": 42, "node": "lb-2", "reason": "guarded", "detail": "guarded",
///                    "final": false, "since": "2026-11-21T10:00:00Z"}…],
///   "unknown": 0,       how many nodes were expected and never reported
///   "off": []           what the view lacks, as in `status`
/// }
/// ```
#[derive(Debug, Serialize)]
struct Found<'a> {
    differences: Vec<Line<'a>>,
    unknown: u64,
    off: &'a [OffView],
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    backend: &'a BackendName,
    index: u64,
    #[serde(flatten)]
    differs: &'a DiffersView,
}

impl<'a> Found<'a> {
    fn of(view: &'a FleetView) -> Self {
        let lines = view.backends.iter().flat_map(|view| {
            view.differs.iter().map(|differs| Line { backend: &view.backend, index: view.index, differs })
        });
        let known = view.nodes.len() as u64;
        Self { differences: lines.collect(), unknown: view.expected.unwrap_or(0).saturating_sub(known), off: &view.off }
    }
}

/// Shows the differences. The JSON output is a [`Found`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let mut view = status::read_fleet(&documents, context).await?;
    if view.nodes.is_empty() {
        return Err(Failure::new(Exit::NotConverged, format!("no node reports below {}", documents.keys().nodes()))
            .hint("check --root; on a host with weightd, `weightctl check` finds the reason"));
    }
    if let Some(backend) = &args.backend {
        if !view.backends.iter().any(|known| known.backend == *backend) {
            return Err(no_such(&documents, backend, "`weightctl list` shows the backends that exist").await);
        }
        view.retain_backend(backend);
    }
    let found = Found::of(&view);
    context.format.data(&found, |found| table(found, documents.time(), output::columns()))?;
    if found.unknown > 0 {
        output::note(&format!("{} expected nodes never reported", found.unknown));
    }
    if !view.off.is_empty() {
        output::message(status::off_text(&view.off).trim_end());
    }
    if found.differences.is_empty() && found.unknown == 0 {
        output::message("no node differs");
        return Ok(view.exit());
    }
    Ok(Exit::Different)
}

fn table(found: &Found<'_>, now: Option<Timestamp>, columns: Option<usize>) -> String {
    if found.differences.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new([("BACKEND", Align::Left), ("NODE", Align::Left), ("SINCE", Align::Right), ("STATE", Align::Left)]);
    for Line { backend, differs, .. } in &found.differences {
        let tone = if differs.is_final { Tone::Bad } else { Tone::Warn };
        table.row([
            backend.as_str().into(),
            differs.node.as_str().into(),
            age(differs.since, now).into(),
            Cell::new(Escaped(&differs.detail).to_string(), tone),
        ]);
    }
    table.render_within("", columns)
}
