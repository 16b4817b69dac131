//! `traffic`, against counts at the client, over several nodes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Node, run, run_with};
use crate::{
    common::{backend, document, key},
    harness::{
        Apps, Consul, Port, Traffic, config, consul, eventually,
        holding::{Holding, get},
        traffic::Rate,
    },
};

/// The row of one side.
fn row<'v>(view: &'v Value, side: &str) -> anyhow::Result<&'v Value> {
    let rows = view["rows"].as_array().context("no rows")?;
    rows.iter().find(|row| row["side"] == side).with_context(|| format!("no {side} in {view}"))
}

fn number(row: &Value, field: &str) -> anyhow::Result<f64> {
    row[field].as_f64().with_context(|| format!("no {field} in {row}"))
}

/// Waits until a block of 10 s has just begun, so that what follows is within it.
async fn begin_of_a_block() -> anyhow::Result<()> {
    eventually(Duration::from_secs(20), "a block begins", async || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() % 10_000;
        ensure!(now < 1_500, "{now} ms of a block have passed");
        Ok(())
    })
    .await
}

/// Waits until somebody observes.
async fn observed(consul: &Consul) -> anyhow::Result<()> {
    eventually(Duration::from_secs(10), "the node answers", async || {
        let counters = consul.get("weightd/counters/lb1").await?.context("no counters")?;
        let text = String::from_utf8_lossy(&counters).into_owned();
        ensure!(text.contains("app1"), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_numbers_over_three_nodes_are_those_of_the_clients() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/observe/_", "{}").await?;
    consul.put(&key("app1"), document(75, 25)).await?;
    let apps = Apps::start().await?;
    let servers = [("blue", apps.blue.port(), 75), ("green", apps.green.port(), 25)];
    let (mut nodes, mut load) = (Vec::new(), Vec::new());
    for name in ["lb1", "lb2", "lb3"] {
        let port = Port::free()?;
        let body =
            config::frontend(port.number(), "app1") + &config::backend("app1", &["balance roundrobin"], &servers, "");
        let node = Node::start_with(&consul, name, &body, |settings| settings).await?;
        node.has_newer(&consul, 0).await?;
        nodes.push((node, port));
    }
    for (_, port) in &nodes {
        load.push(Traffic::start(port.number(), Rate { kept: 20, fresh: 20 }));
    }
    begin_of_a_block().await?;
    let before: Vec<_> = load.iter().map(Traffic::count).collect();
    let started = tokio::time::Instant::now();
    let said = run(&consul, "traffic app1 --nodes -o json").await?.expect(0, &[])?;
    let seconds = started.elapsed().as_secs_f64();
    let counts = load
        .iter()
        .zip(&before)
        .map(|(load, before)| load.since(before))
        .fold(crate::harness::traffic::Count::default(), |sum, count| sum + count);
    let view = said.json()?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let rate = counts.answered() as f64 / seconds;
    let (blue, green) = (row(&view, "blue")?, row(&view, "green")?);
    let shown = number(blue, "requests_per_second")? + number(green, "requests_per_second")?;
    ensure!((shown - rate).abs() < rate * 0.1, "{shown} requests/s instead of {rate}: {view}");
    let share = number(green, "share")?;
    ensure!((share - counts.percent("green")).abs() < 1.5, "{share} % instead of {}", counts.percent("green"));
    ensure!(green["desired"] == 25.0 && number(blue, "errors_per_second")? == 0.0, "{view}");
    ensure!(view["counted"] == 3 && view["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{view}");
    eprintln!("traffic: {shown:.1} of {rate:.1} requests/s, green {share:.2} % of {:.2} %", counts.percent("green"));

    // In a pipe it is a table that fits into 80 columns.
    let said = run(&consul, "traffic app1 --nodes").await?.expect(0, &["3 of 3 HAProxies with numbers, http"])?;
    ensure!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    ensure!(said.out.contains("lb2 green"), "{}", said.out);
    let said = run(&consul, "traffic app1 --sides gr* *ue").await?.expect(0, &[])?;
    ensure!(said.out.lines().any(|line| line.starts_with("gr* ")), "{}", said.out);
    Ok(())
}

#[tokio::test]
async fn errors_are_those_of_the_users() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/observe/_", "{}").await?;
    consul.put(&key("app1"), document(1, 0)).await?;
    let (app, port) = (Holding::start().await?, Port::free()?);
    let servers = [("blue", app.port(), 1), ("green", 9, 0)];
    let body =
        config::frontend(port.number(), "app1") + &config::backend("app1", &["balance roundrobin"], &servers, "");
    let node = Node::start_with(&consul, "lb1", &body, |settings| settings).await?;
    node.has_newer(&consul, 0).await?;
    begin_of_a_block().await?;
    let load = async {
        observed(&consul).await?;
        for _ in 0..20 {
            for status in [200, 200, 404, 500] {
                get(port.number(), status).await?;
            }
        }
        anyhow::Ok(())
    };
    let (said, load) = tokio::join!(run(&consul, "traffic app1 -o json"), load);
    load?;
    let view = said?.expect(0, &[])?.json()?;
    let blue = row(&view, "blue")?;
    let requests = number(blue, "requests_per_second")?;
    for (field, part) in [("errors_per_second", 0.25), ("refused_per_second", 0.25), ("answered_per_second", 1.0)] {
        let ratio = number(blue, field)? / requests;
        ensure!((ratio - part).abs() < 0.01, "{field} is {ratio} of the requests: {view}");
    }
    ensure!(view["draining"]["servers"] == serde_json::json!(["green"]) && view["draining"]["done"] == true, "{view}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_has_no_numbers() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/observe/_", "{}").await?;
    run(&consul, "traffic app1").await?.expect(3, &["there are no numbers of app1: no node reports"])?;
    consul.put(&key("app1"), document(1, 1)).await?;
    let _node = Node::start_with(&consul, "lb1", &backend("other", 1, 1), |settings| settings).await?;
    run(&consul, "traffic app1").await?.expect(7, &["no HAProxy of 1 node has the backend `app1`"])?;
    run(&consul, "traffic ap1").await?.expect(7, &["did you mean `app1`"])?;
    let keys = consul.http().request(reqwest::Method::GET, "kv/weightd/observe/?keys").send().await?.text().await?;
    ensure!(!keys.contains("app1"), "the observation is left: {keys}");
    Ok(())
}

#[tokio::test]
async fn without_the_right_to_observe_it_ends_with_4_and_the_rule() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    consul.http().set_policy("reader", r#"key_prefix "weightd/" { policy = "read" }"#).await?;
    let token = consul.http().new_token("reader").await?;
    let said = run_with(&consul, Some(&token), "traffic app1").await?;
    said.expect(4, &[r#"key_prefix "weightd/observe/app1/" { policy = "write" }"#]).map(drop)
}

#[tokio::test]
async fn a_preview_of_real_nodes_writes_at_most_3_times_and_once_for_each() -> anyhow::Result<()> {
    let (consul, _nodes) = super::fleet(3).await?;
    consul.put("weightd/observe/_", "{}").await?;
    eventually(Duration::from_secs(20), "all nodes answer, with few writes", async || {
        let before = super::forecast::last_index(&consul).await?;
        let said = run(&consul, "set app1 green=20 --dry-run").await?;
        let said = said.expect(0, &["3 of 3 nodes answered; 3 with app1, roundrobin"])?;
        let writes = super::forecast::last_index(&consul).await? - before;
        ensure!(writes <= 6, "{writes} writes: {said:?}");
        eprintln!("a preview with 3 nodes: {writes} writes");
        Ok(())
    })
    .await
}
