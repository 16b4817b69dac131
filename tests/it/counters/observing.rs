//! Who observes: nobody, one, two, one that leaves; and a node that may not report.

use anyhow::ensure;
use weightd_core::fleet::{
    Per, View,
    counters::{Flag, Health},
};

use super::{COUNTERS, blue_green, name, node, observe, published, report, reports, viewed};
use crate::{
    common::{A_WHILE, SOON, backend, servers},
    fakes::{FakeHaproxy, Model},
    harness::{Consul, Weightd, always, eventually, weightd::Settings},
};

const WRITES: &str = r#"weightd_counters_writes_total{root="weightd/"}"#;

/// Waits until the status of the report is this word with so many backends.
async fn stands(weightd: &Weightd, word: &str, observed: u64) -> anyhow::Result<String> {
    eventually(SOON, &format!("the report is {word} of {observed}"), async || {
        let counters = weightd.status().await?["fleet"][0]["counters"].take();
        ensure!(counters["state"] == word && counters["observed"] == observed, "{counters}");
        Ok(counters["remedy"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

#[tokio::test]
async fn nothing_is_read_and_written_while_nobody_observes() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 90, 10)).await?;
    let weightd = node(&consul, &haproxy).await?;
    stands(&weightd, "idle", 0).await?;
    // The inventory entry is the last write of a start.
    eventually(SOON, "the start is over", async || {
        let index = consul.index("weightd/").await?;
        always(A_WHILE, "nothing is written", async || {
            ensure!(consul.index("weightd/").await? == index, "something was written");
            Ok(())
        })
        .await
    })
    .await?;
    let index = consul.index("weightd/").await?;
    always(A_WHILE * 2, "nothing is written", async || {
        ensure!(consul.index("weightd/").await? == index, "something was written");
        ensure!(weightd.metric(WRITES).await? < 0.5);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_new_observation_is_answered_at_once_with_the_servers() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 90, 10)).await?;
    let _weightd = node(&consul, &haproxy).await?;
    let view = blue_green();
    let start = tokio::time::Instant::now();
    observe(&consul, "app", "1", &view, 1).await?;
    observe(&consul, "nowhere", "1", &view, 1).await?;
    let instance = reports(&consul, SOON, "both are answered", |report| {
        ensure_lacks(report)?;
        report.instance(&name("app"), "haproxy").cloned()
    })
    .await?;
    println!("the first answer after {} ms", start.elapsed().as_millis());
    ensure!(instance.down.is_none() && instance.algorithm == "roundrobin", "{instance:?}");
    let servers: Vec<_> =
        instance.servers.iter().map(|s| (s.name.as_str(), s.weight.get(), s.initial.get(), s.health)).collect();
    ensure!(servers == [("blue", 90, 90, Health::Up), ("green", 10, 10, Health::Up)], "{servers:?}");
    let now = &instance.views[0].now;
    ensure!((now["from"].share - 90.0).abs() < 0.01 && now["to"].usable == 1, "{now:?}");
    ensure!(!instance.flags.contains(&Flag::Sticky), "{instance:?}");
    Ok(())
}

fn ensure_lacks(report: &weightd_core::fleet::counters::Counters) -> Option<()> {
    report.lacks.contains(&name("nowhere")).then_some(())
}

#[tokio::test]
async fn the_first_observer_ever_is_found_within_the_poll() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 90, 10)).await?;
    let weightd = Settings::new(&consul, &haproxy).start().await?;
    published(&weightd).await?;
    let view = View::default();
    observe(&consul, "app", "1", &view, 1).await?;
    reports(&consul, SOON, "it is answered", |report| viewed(report, "app", &view).map(drop)).await
}

#[tokio::test]
async fn observers_share_a_view_and_a_backend_is_forgotten_with_the_last_of_them() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 90, 10)).await?;
    let weightd = node(&consul, &haproxy).await?;
    let (one, other) = (blue_green(), View { per: Per::Server, ..blue_green() });
    let views =
        |report: &weightd_core::fleet::counters::Counters| Some(report.backends.first()?.instances[0].views.len());
    observe(&consul, "app", "1", &one, 1).await?;
    observe(&consul, "app", "2", &one, 1).await?;
    reports(&consul, SOON, "one view", |report| views(report).filter(|n| *n == 1)).await?;
    observe(&consul, "app", "3", &other, 1).await?;
    reports(&consul, SOON, "two views", |report| views(report).filter(|n| *n == 2)).await?;
    let report = report(&consul).await?;
    let rows: Vec<_> = viewed(&report, "app", &other).into_iter().flat_map(|view| view.now.keys()).collect();
    ensure!(rows == ["blue", "green"], "{rows:?}");

    for id in ["1", "3"] {
        consul.delete(&format!("weightd/observe/app/{id}")).await?;
    }
    stands(&weightd, "reporting", 1).await?;
    consul.delete("weightd/observe/app/2").await?;
    stands(&weightd, "idle", 0).await?;
    let writes = weightd.metric(WRITES).await?;
    always(A_WHILE, "nothing is written any more", async || {
        ensure!(weightd.metric(WRITES).await? <= writes + 0.5);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_report_vanishes_with_the_session_of_the_node_and_comes_back() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 90, 10)).await?;
    let mut weightd = node(&consul, &haproxy).await?;
    let view = blue_green();
    observe(&consul, "app", "1", &view, 1).await?;
    reports(&consul, SOON, "it is answered", |report| viewed(report, "app", &view).map(drop)).await?;
    let session = crate::fleet_node::session(&consul).await?;
    crate::fleet_node::destroy(&consul, &session).await?;
    crate::fleet_node::is_back(&consul, &session).await?;
    reports(&consul, SOON, "it is back", |report| viewed(report, "app", &view).map(drop)).await?;
    weightd.stop().await?;
    ensure!(consul.get(COUNTERS).await?.is_none(), "a node that stops takes its report with it");
    Ok(())
}

#[tokio::test]
async fn a_haproxy_without_the_columns_gives_no_numbers() -> anyhow::Result<()> {
    // Its `show stat` has the roles of the servers and no counters.
    let fake = FakeHaproxy::start(Model::with("app", "roundrobin", &[("blue", 90), ("green", 10)]))?;
    let consul = Consul::start().await?;
    consul.put("weightd/observe/_", "").await?;
    let weightd = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &fake.address()).start().await?;
    published(&weightd).await?;
    observe(&consul, "app", "1", &blue_green(), 1).await?;
    let instance =
        reports(&consul, SOON, "it is answered", |report| report.instance(&name("app"), "haproxy").cloned()).await?;
    ensure!(instance.down.as_deref() == Some("columns") && instance.views.is_empty(), "{instance:?}");
    Ok(())
}
