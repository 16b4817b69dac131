//! Every way in which a node can be without a document, all at once.

use anyhow::ensure;
use serde_json::json;

use super::{Node, REPORTED, Said, run};
use crate::{
    common::{SOON, backend, is, state},
    harness::{Apps, Consul, config, eventually, weightd::Settings},
};

/// The nodes of a fleet in which everything is wrong at the same time.
struct Fleet {
    consul: Consul,
    apps: Apps,
    good: [Node; 2],
    down: Node,
    guarded: Node,
    killed: Node,
    paused: Node,
    observer: Node,
    lacks: Node,
}

/// Everything has app1 with 90/10. Then one HAProxy is stopped, one guards, one weightd is killed, one is paused, one is
/// in mode observe, and one does not have the backend.
async fn broken() -> anyhow::Result<Fleet> {
    let consul = Consul::start().await?;
    let mut apps = Apps::start().await?;
    let servers = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0)];
    let checked = config::backend("app1", &["balance roundrobin"], &servers, "check inter 100ms fall 2 rise 1");
    let node = async |name: &str| Node::start(&consul, name).await;
    let good = [node("lb1").await?, node("lb2").await?];
    let mut down = node("lb3").await?;
    let guarded = Node::start_with(&consul, "lb4", &checked, |settings| settings).await?;
    let mut killed = node("lb5").await?;
    let paused = node("lb6").await?;
    let only_reads = |settings: Settings| settings.set("mode", "observe");
    let observer = Node::start_with(&consul, "lb7", &backend("app1", 9, 1), only_reads).await?;
    let lacks = Node::start_with(&consul, "lb8", &backend("other", 1, 1), |settings| settings).await?;
    run(&consul, "set app1 blue=90 green=10 --yes --wait --timeout 20s")
        .await?
        .expect(0, &["done: 6 of 7 nodes have app1, 1 lacks it"])?;

    down.haproxy.stop().await?;
    down.says(&consul, r#""up":false"#).await?;
    apps.green.stop().await?;
    guarded.sees_down("app1", "green").await?;
    killed.weightd.kill().await?;
    paused.local(&["pause", "app1", "--for", "10m"]).await?;
    Ok(Fleet { consul, apps, good, down, guarded, killed, paused, observer, lacks })
}

#[tokio::test]
async fn the_wait_names_exactly_the_nodes_without_it_and_why() -> anyhow::Result<()> {
    let mut fleet = broken().await?;
    let consul = &fleet.consul;
    // A paused node does not change by itself: the wait does not last until its time limit, and names all others.
    let start = tokio::time::Instant::now();
    let said = run(consul, "set app1 blue=0 green=100 --yes --wait --timeout 40s").await?;
    ensure!(start.elapsed() < SOON, "it waited for the time limit");
    let others = "lb3 (down), lb4 (guarded), lb5";
    let message = format!("this does not change by itself: lb6 (paused); waited for: {others}");
    said.expect(3, &["2 of 7 nodes have app1 at index ", ", 1 lacks it; ", &message])?;
    for node in &fleet.good {
        is(&node.haproxy, "app1", 0, 100).await?;
    }
    for node in [&fleet.guarded, &fleet.paused] {
        is(&node.haproxy, "app1", 90, 10).await?;
    }
    is(&fleet.observer.haproxy, "app1", 9, 1).await?;

    eventually(REPORTED, "the session of the killed weightd ends", async || {
        ensure!(fleet.killed.report(consul).await?.is_none());
        Ok(())
    })
    .await?;
    // The others of the fleet commands say the same.
    let status = run(consul, "status").await?.expect(3, &["8 nodes: 3 of 7 in sync", "2/7"])?;
    for (node, words) in [
        ("lb1", "in sync"),
        ("lb3", "down"),
        ("lb4", "guarded"),
        ("lb5", "missing"),
        ("lb6", "paused"),
        ("lb7", "observe, does not count"),
        ("lb8", "in sync"),
    ] {
        let line = status.out.lines().find(|line| line.starts_with(node));
        ensure!(line.is_some_and(|line| line.contains(words)), "{node} {words}: {}", status.out);
    }
    // In a pipe, nothing is cut.
    ensure!(status.out.contains("lb3 down, lb4 guarded, lb5 missing, lb6 paused, lb8 lacks it"), "{}", status.out);
    let diff = run(consul, "diff -o json").await?.expect(8, &[])?.json()?;
    let found = diff["differences"].as_array().into_iter().flatten();
    let found: Vec<_> = found.map(|line| (line["node"].clone(), line["reason"].clone())).collect();
    let expected = [("lb3", "down"), ("lb4", "guarded"), ("lb5", "missing"), ("lb6", "paused")];
    ensure!(found == expected.map(|(node, reason)| (json!(node), json!(reason))), "{diff}");

    // Without the pause, the others are waited for until the time limit.
    fleet.paused.local(&["resume", "app1"]).await?;
    let late = run(consul, "set app1 green=99 --yes --wait --timeout 3s -o json").await?;
    let last = late
        .expect(
            3,
            &[
                "3 of 7 nodes have app1 at index ",
                ", 1 lacks it after 3s; not: lb3 (down), lb4 (guarded), lb5 (missing)",
            ],
        )?
        .last()?;
    ensure!(
        last["state"] == "timeout" && last["done"] == 4 && last["counted"] == 7 && last["lacks"] == json!(["lb8"]),
        "{last}"
    );

    // Each of them comes back, and the wait ends with the last one.
    let again = async {
        fleet.down.haproxy.start_again().await?;
        fleet.apps.green.start_again().await?;
        fleet.killed.weightd.start_again().await
    };
    let wait = run(consul, "set app1 green=98 --yes --wait --timeout 40s");
    let (said, again): (anyhow::Result<Said>, _) = tokio::join!(wait, again);
    again?;
    said?.expect(0, &["done: 6 of 7 nodes have app1, 1 lacks it"])?;
    for node in [&fleet.down, &fleet.guarded, &fleet.killed, &fleet.paused] {
        is(&node.haproxy, "app1", 0, 98).await?;
    }
    state(&fleet.guarded.weightd, "app1", "converged").await?;
    drop(fleet.lacks);
    Ok(())
}
