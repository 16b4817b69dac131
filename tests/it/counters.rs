//! The report of a node on observed backends: `counters/<node>`, against counts at the client.

mod failing;
mod observing;
mod reloading;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use weightd_core::{
    desired::Pattern,
    fleet::{
        NodeName, Per, Sides, View,
        counters::{Block, Counters, Sums, Viewed},
    },
    model::BackendName,
};

use crate::harness::{Consul, Haproxy, Weightd, eventually, weightd::Settings};

/// The key of the report.
const COUNTERS: &str = "weightd/counters/lb1";
/// How long the end of a block may take, with the time that a busy machine needs.
const A_BLOCK: Duration = Duration::from_secs(16);

/// The view of blue against green.
fn blue_green() -> View {
    let patterns = |name: &str| vec![Pattern::new(name).expect("a valid pattern")];
    View { sides: Some(Sides { from: patterns("blue"), to: patterns("green") }), per: Per::Side }
}

/// A node that follows Consul with this HAProxy, and whose observations can be watched.
async fn node(consul: &Consul, haproxy: &Haproxy) -> anyhow::Result<Weightd> {
    consul.put("weightd/observe/_", "").await?;
    let weightd = Settings::new(consul, haproxy).start().await?;
    published(&weightd).await?;
    Ok(weightd)
}

/// Waits until the session of the node exists: it holds the report.
async fn published(weightd: &Weightd) -> anyhow::Result<()> {
    eventually(Duration::from_secs(10), "the node has a session", async || {
        let fleet = weightd.status().await?["fleet"][0].take();
        ensure!(fleet["state"] == "published", "{fleet}");
        Ok(())
    })
    .await
}

/// Observes a backend, or renews the observation.
async fn observe(consul: &Consul, backend: &str, id: &str, view: &View, seq: u64) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(view)?;
    value["v"] = json!(1);
    value["seq"] = json!(seq);
    consul.put(&format!("weightd/observe/{backend}/{id}"), value.to_string()).await
}

/// The report, checked as a reader checks it.
async fn report(consul: &Consul) -> anyhow::Result<Counters> {
    let value = consul.get(COUNTERS).await?.context("there is no report")?;
    let node = NodeName::new("lb1")?;
    Counters::parse(&node, &value).with_context(|| String::from_utf8_lossy(&value).into_owned())
}

/// Waits until the report satisfies `test`, which returns what it looks for.
async fn reports<T>(
    consul: &Consul,
    within: Duration,
    what: &str,
    test: impl Fn(&Counters) -> Option<T>,
) -> anyhow::Result<T> {
    eventually(within, what, async || {
        let report = report(consul).await?;
        test(&report).with_context(|| format!("{report:?}"))
    })
    .await
}

/// What is reported on a backend for a view, by the only HAProxy of the node.
fn viewed<'a>(report: &'a Counters, backend: &str, view: &View) -> Option<&'a Viewed> {
    let counted = report.backends.iter().find(|counted| counted.backend.as_str() == backend)?;
    counted.instances.first()?.view(view.id())
}

/// The last block of a backend for a view.
fn last<'a>(report: &'a Counters, backend: &str, view: &View) -> Option<&'a Block> {
    viewed(report, backend, view)?.blocks.last()
}

/// Waits for a block of `backend` that satisfies `test` by the sums of its row.
async fn counted(
    consul: &Consul,
    backend: &str,
    view: &View,
    row: &str,
    test: impl Fn(&Sums) -> bool,
) -> anyhow::Result<Sums> {
    reports(consul, A_BLOCK * 2, &format!("the numbers of {backend} are as expected"), |report| {
        last(report, backend, view)?.sums.get(row).copied().filter(|sums| test(sums))
    })
    .await
}

fn name(backend: &str) -> BackendName {
    BackendName::new(backend).expect("a valid name")
}
