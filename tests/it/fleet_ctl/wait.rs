//! `--wait` ends with 0 only if every node that counts has it, and names exactly the others.

use anyhow::ensure;
use serde_json::json;
use tokio::time::Instant;

use super::{Node, fleet, run};
use crate::{
    common::{SOON, backend, is, state},
    harness::{Apps, Consul, config, eventually, weightd::Settings},
};

const SET: &str = "set app1 blue=90 green=10 --yes --create --wait";

#[tokio::test]
async fn it_ends_with_0_only_when_every_haproxy_has_the_weights() -> anyhow::Result<()> {
    let (consul, nodes) = fleet(3).await?;
    run(&consul, SET).await?.expect(0, &["done: 3 of 3 nodes have app1"])?;
    let mut times = Vec::new();
    for green in 11..=30 {
        let start = Instant::now();
        run(&consul, &format!("set app1 green={green} --yes --wait")).await?.expect(0, &[])?;
        times.push(start.elapsed());
        for node in &nodes {
            is(&node.haproxy, "app1", 90, green).await?;
        }
    }
    times.sort_unstable();
    eprintln!("set --wait with 3 nodes: p50 {:?}, slowest {:?}", times[times.len() / 2], times[times.len() - 1]);

    // A write that changes nothing waits as well, and JSON has one object on each line.
    let same = run(&consul, "set app1 green=30 --yes --wait=50% -o json").await?.expect(0, &["nothing to change"])?;
    let last = same.last()?;
    ensure!(last["state"] == "done" && last["counted"] == 3 && last["needed"] == 2, "{same:?}");
    run(&consul, "release app1 --yes --wait").await?.expect(0, &["done: 3 of 3"])?;
    Ok(())
}

#[tokio::test]
async fn a_guarded_node_is_waited_for() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let mut apps = Apps::start().await?;
    let servers = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0)];
    let checked = config::backend("app1", &["balance roundrobin"], &servers, "check inter 100ms fall 2 rise 1");
    let _plain = Node::start(&consul, "lb1").await?;
    let guarded = Node::start_with(&consul, "lb2", &checked, |settings| settings).await?;
    run(&consul, "set app1 blue=100 green=0 --yes --create --wait").await?.expect(0, &[])?;
    apps.green.stop().await?;
    guarded.sees_down("app1", "green").await?;
    let late = run(&consul, "set app1 blue=0 green=100 --yes --wait --timeout 3s").await?;
    late.expect(3, &["1 of 2 nodes have app1", "not: lb2 (guarded)"])?;
    let again = async {
        state(&guarded.weightd, "app1", "guarded").await?;
        apps.green.start_again().await
    };
    let (said, again) = tokio::join!(run(&consul, "set app1 blue=0 green=100 --yes --wait --timeout 15s"), again);
    again?;
    said?.expect(0, &["not: lb2 (guarded)", "done: 2 of 2"])?;
    is(&guarded.haproxy, "app1", 0, 100).await
}

#[tokio::test]
async fn what_does_not_change_by_itself_ends_it_at_once() -> anyhow::Result<()> {
    let (consul, nodes) = fleet(2).await?;
    run(&consul, SET).await?.expect(0, &[])?;
    nodes[1].local(&["pause", "app1", "--for", "10m"]).await?;
    let start = Instant::now();
    let said = run(&consul, "set app1 green=50 --yes --wait --timeout 15s -o json").await?;
    ensure!(start.elapsed() < SOON, "it waited for the time limit");
    said.expect(3, &["does not change by itself: lb2 (paused)"])?;
    // It does not wait for the report of the other node; a later one has it.
    eventually(SOON, "only the paused node does not have it", async || {
        let said = run(&consul, "set app1 green=50 --yes --wait --timeout 15s -o json").await?;
        let said = said.expect(3, &["1 of 2 nodes have app1", "does not change by itself: lb2 (paused)"])?;
        let last = said.last()?;
        let paused = json!([{"node": "lb2", "reason": "paused", "detail": "paused", "final": true}]);
        ensure!(last["state"] == "failed" && last["nodes"] == paused, "{last}");
        Ok(())
    })
    .await?;
    // Half of the nodes have it.
    run(&consul, "set app1 green=51 --yes --wait=50%").await?.expect(0, &["1 of 2 nodes have app1; not: lb2"])?;
    // The wait does not last until the other half has reported; a later one names its reason.
    eventually(SOON, "the other half has its reason", async || {
        run(&consul, "set app1 green=51 --yes --wait=50%").await?.expect(0, &["not: lb2 (paused)"]).map(drop)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_haproxy_that_is_down_and_a_weightd_that_is_gone_are_named() -> anyhow::Result<()> {
    let (consul, mut nodes) = fleet(3).await?;
    run(&consul, SET).await?.expect(0, &[])?;
    nodes[1].haproxy.stop().await?;
    let said = run(&consul, "set app1 green=50 --yes --wait --timeout 4s").await?;
    said.expect(3, &["2 of 3 nodes have app1", "not: lb2 (down)"])?;
    nodes[1].haproxy.start_again().await?;
    nodes[2].weightd.kill().await?;
    let silent = run(&consul, "set app1 green=51 --yes --wait --timeout 3s").await?;
    silent.expect(3, &["2 of 3 nodes have app1", "not: lb3 (silent)"])?;
    eventually(super::REPORTED, "the session of the killed weightd ends", async || {
        ensure!(nodes[2].report(&consul).await?.is_none());
        Ok(())
    })
    .await?;
    let missing = run(&consul, "set app1 green=52 --yes --wait --timeout 3s").await?;
    missing.expect(3, &["2 of 3 nodes have app1", "not: lb3 (missing)"])?;
    run(&consul, "status").await?.expect(3, &["lb3   missing", "lb3 missing"])?;
    run(&consul, "diff").await?.expect(8, &["missing: it has no session"])?;
    run(&consul, "node forget lb1 --yes").await?.expect(7, &["`lb1` reports now"])?;
    run(&consul, "node forget lb33 --yes").await?.expect(7, &["did you mean `lb3`"])?;
    run(&consul, "node forget --missing").await?.expect(2, &["--yes"])?;
    run(&consul, "node forget --missing --yes").await?.expect(0, &["forgotten: lb3"])?;
    run(&consul, "node forget --missing --yes").await?.expect(0, &["nothing to forget"])?;
    run(&consul, "set app1 green=53 --yes --wait").await?.expect(0, &["done: 2 of 2"])?;
    Ok(())
}

#[tokio::test]
async fn a_node_without_the_backend_has_nothing_to_do_but_somebody_must_have_it() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    let other = Node::start_with(&consul, "lb2", &backend("other", 1, 1), |settings| settings).await?;
    run(&consul, SET).await?.expect(0, &["done: 1 of 2 nodes have app1, 1 lacks it"])?;
    run(&consul, "status app1").await?.expect(0, &["lb2          lacks the backend", "1/2 have it"])?;
    let nobody = run(&consul, "set ap1 blue=1 --yes --create --wait").await?;
    nobody.expect(3, &["no HAProxy of any node has the backend `ap1`"])?;
    run(&consul, "status ap1").await?.expect(3, &["0/2 have it"])?;
    drop(other);
    Ok(())
}

#[tokio::test]
async fn a_node_in_mode_observe_does_not_count() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let mode = |settings: Settings| settings.set("mode", "observe");
    let observer = Node::start_with(&consul, "lb1", &backend("app1", 9, 1), mode).await?;
    run(&consul, SET).await?.expect(3, &["every node is in mode observe"])?;
    let node = Node::start(&consul, "lb2").await?;
    run(&consul, "set app1 green=20 --yes --wait").await?.expect(0, &["done: 1 of 1"])?;
    is(&node.haproxy, "app1", 90, 20).await?;
    is(&observer.haproxy, "app1", 9, 1).await?;
    run(&consul, "status").await?.expect(0, &["observe, does not count"])?;
    Ok(())
}

#[tokio::test]
async fn without_a_node_it_is_not_done() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    run(&consul, SET).await?.expect(3, &["no node reports below weightd/nodes/"])?;
    run(&consul, "status").await?.expect(3, &["no node reports below weightd/nodes/"])?;
    run(&consul, "diff").await?.expect(3, &["no node reports below weightd/nodes/"])?;
    run(&consul, "node list").await?.expect(0, &["no node reports"])?;
    run(&consul, "set app1 green=1 --yes --timeout 3s").await?.expect(2, &["--wait"])?;
    run(&consul, "set app1 green=1 --yes --wait=drain").await?.expect(2, &["--wait=N%"])?;
    Ok(())
}
