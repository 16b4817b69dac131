//! Splits on real servers: each HAProxy gets the weights for the servers that it has, and the traffic follows the shares.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    common::{SOON, converged, key, logged, reason, state},
    harness::{
        Apps, Consul, Haproxy, Port, Traffic, Weightd,
        dns::Dns,
        eventually,
        haproxy::version,
        traffic::{Count, Rate},
    },
};

/// How many responses each share is counted from; `SPLIT_RESPONSES` sets another number.
fn responses() -> u64 {
    std::env::var("SPLIT_RESPONSES").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

const RATE: Rate = Rate { kept: 400, fresh: 0 };

fn split(blue: u32, green: u32) -> String {
    json!({ "split": { "blue-*": blue, "green-*": green } }).to_string()
}

/// A backend with so many servers a side, and a frontend at `port`.
fn body(port: u16, apps: &Apps, blue: u16, green: u16) -> String {
    let mut text = format!("frontend web\n    bind 127.0.0.1:{port}\n    default_backend app\n");
    text += "backend app\n    balance roundrobin\n";
    for (name, app, count) in [("blue", apps.blue.port(), blue), ("green", apps.green.port(), green)] {
        for number in 1..=count {
            let _ = writeln!(text, "    server {name}-{number} 127.0.0.1:{app} weight 100");
        }
    }
    text
}

/// The share of green among these servers, by their weights in HAProxy, in percent.
fn share(weights: &BTreeMap<String, u32>, away: &[&str]) -> f64 {
    let counted = || weights.iter().filter(|(name, _)| !away.contains(&name.as_str()));
    let sum: u32 = counted().map(|(_, weight)| weight).sum();
    let green: u32 = counted().filter(|(name, _)| name.starts_with("green")).map(|(_, weight)| weight).sum();
    100.0 * f64::from(green) / f64::from(sum.max(1))
}

/// Waits until the weights give green this share, without the servers in `away`.
async fn gives(haproxy: &Haproxy, percent: f64, away: &[&str]) -> anyhow::Result<()> {
    eventually(SOON, &format!("green has {percent} %"), async || {
        let weights = haproxy.weights("app").await?;
        ensure!((share(&weights, away) - percent).abs() < 0.01, "{weights:?}");
        Ok(())
    })
    .await
}

/// Counts responses from now on: none fails, and green has this share.
async fn counted(traffic: &Traffic, percent: f64) -> anyhow::Result<()> {
    // Requests that were sent before a change are answered first.
    let start = traffic.count();
    eventually(SOON, "later responses", async || {
        ensure!(traffic.since(&start).answered() >= 50, "{:?}", traffic.count());
        Ok(())
    })
    .await?;
    let before = traffic.count();
    let count: Count = eventually(Duration::from_secs(120), "enough responses", async || {
        let count = traffic.since(&before);
        ensure!(count.answered() + count.failed >= responses(), "{} responses", count.answered());
        Ok(count)
    })
    .await?;
    count.expect_no_failure()?;
    let green = count.percent("green");
    ensure!((green - percent).abs() <= 1.0, "green has {green} % and not {percent} %: {:?}", count.bodies);
    ensure!(percent > 0.0 || !count.bodies.contains_key("green"), "{:?}", count.bodies);
    Ok(())
}

#[tokio::test]
async fn one_split_gives_the_same_share_on_haproxies_with_different_servers() -> anyhow::Result<()> {
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    consul.put(&key("app"), split(90, 10)).await?;
    for (blue, green) in [(2, 2), (5, 5), (9, 9), (2, 9), (9, 2)] {
        let port = Port::free()?;
        let haproxy = Haproxy::start(&body(port.number(), &apps, blue, green)).await?;
        let weightd = Weightd::start(&consul, &haproxy).await?;
        gives(&haproxy, 10.0, &[]).await?;
        converged(&weightd).await?;
        counted(&Traffic::start(port.number(), RATE), 10.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn servers_come_and_go_under_traffic() -> anyhow::Result<()> {
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let (port, green) = (Port::free()?, apps.green.port());
    let mut text = body(port.number(), &apps, 3, 1);
    // The first slot comes up when its name resolves. The name has one address, so that the second one stays empty.
    let resolver = Port::free()?;
    write!(
        text,
        "    server-template green-slot- 2 green.test:{green} weight 100 init-addr none resolvers local resolve-prefer ipv4\n\
         resolvers local\n    nameserver one 127.0.0.1:{}\n    resolve_retries 3\n    timeout resolve 100ms\n\
         \x20   timeout retry 100ms\n    hold valid 100ms\n",
        resolver.number()
    )?;
    let haproxy = Haproxy::start(&text).await?;
    let node = Weightd::start(&consul, &haproxy).await?;
    consul.put(&key("app"), split(90, 10)).await?;
    let slots = ["green-slot-1", "green-slot-2"];
    gives(&haproxy, 10.0, &slots).await?;
    let weights = haproxy.weights("app").await?;
    assert_eq!(weights["green-slot-1"], weights["green-1"], "a slot that comes up serves like the others: {weights:?}");
    let traffic = Traffic::start(port.number(), RATE);
    counted(&traffic, 10.0).await?;

    let _dns = Dns::start_at(resolver.number(), &[]).await?;
    let empty = eventually(SOON, "one slot has an address", async || {
        let state = haproxy.command("show servers state app").await?;
        let administered =
            |slot: &str| state.lines().any(|line| line.contains(slot) && line.split(' ').nth(6) == Some("32"));
        let empty: Vec<_> = slots.into_iter().filter(|slot| administered(slot)).collect();
        ensure!(empty.len() == 1, "{state}");
        Ok(empty[0])
    })
    .await?;
    gives(&haproxy, 10.0, &[empty]).await?;
    counted(&traffic, 10.0).await?;

    haproxy.command("set server app/blue-2 state maint").await?;
    gives(&haproxy, 10.0, &[empty, "blue-2"]).await?;
    counted(&traffic, 10.0).await?;

    // From HAProxy 2.5 on, servers can be added at runtime.
    if version()? >= (2, 6) {
        let added = haproxy.command(&format!("add server app/green-9 127.0.0.1:{green} weight 100")).await?;
        ensure!(added.contains("New server registered"), "{added}");
        eventually(SOON, "the added server has its weight", async || {
            let weights = haproxy.weights("app").await?;
            ensure!(weights.get("green-9") == weights.get("green-1"), "{weights:?}");
            Ok(())
        })
        .await?;
        haproxy.command("enable server app/green-9").await?;
        gives(&haproxy, 10.0, &[empty, "blue-2"]).await?;
        counted(&traffic, 10.0).await?;
        haproxy.command("disable server app/green-9").await?;
        gives(&haproxy, 10.0, &[empty, "blue-2", "green-9"]).await?;
        counted(&traffic, 10.0).await?;
    }
    let status = node.backend("app").await?;
    assert_eq!((&status["state"], &status["drift_corrections"]), (&json!("converged"), &json!(0)), "{status}");
    logged(&node, 1, &["weight set", "why=servers"]).await.map(drop)
}

#[tokio::test]
async fn a_group_in_maintenance_during_a_rollback_gets_nothing_afterwards() -> anyhow::Result<()> {
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let port = Port::free()?;
    let haproxy = Haproxy::start(&body(port.number(), &apps, 2, 3)).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    consul.put(&key("app"), split(50, 50)).await?;
    gives(&haproxy, 50.0, &[]).await?;
    let traffic = Traffic::start(port.number(), RATE);
    counted(&traffic, 50.0).await?;
    for number in 1..=3 {
        haproxy.command(&format!("set server app/green-{number} state maint")).await?;
    }
    counted(&traffic, 0.0).await?;
    consul.put(&key("app"), split(100, 0)).await?;
    gives(&haproxy, 0.0, &[]).await?;
    for number in 1..=3 {
        haproxy.command(&format!("set server app/green-{number} state ready")).await?;
    }
    counted(&traffic, 0.0).await?;
    converged(&weightd).await
}

#[tokio::test]
async fn a_split_survives_restarts_and_reloads_without_consul() -> anyhow::Result<()> {
    let (mut consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let port = Port::free()?;
    let text = body(port.number(), &apps, 2, 2);
    let mut haproxy = Haproxy::start(&text).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    consul.put(&key("app"), split(90, 10)).await?;
    gives(&haproxy, 10.0, &[]).await?;
    converged(&weightd).await?;
    consul.stop().await?;
    weightd.restart().await?;
    haproxy.reload(&body(port.number(), &apps, 2, 5)).await?;
    gives(&haproxy, 10.0, &[]).await?;
    state(&weightd, "app", "converged").await.map(drop)
}

#[tokio::test]
async fn a_split_that_does_not_fit_is_reported_and_changes_nothing() -> anyhow::Result<()> {
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let haproxy = Haproxy::start(&body(Port::free()?.number(), &apps, 2, 1)).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    consul.put(&key("app"), split(90, 10)).await?;
    gives(&haproxy, 10.0, &[]).await?;

    consul.put(&key("app"), json!({ "split": { "blue-*": 50, "gray-*": 50 } }).to_string()).await?;
    state(&weightd, "app", "unmatched").await?;
    let unmatched = reason(&weightd, "app", "split_unmatched").await?;
    assert!(unmatched["detail"].as_str().is_some_and(|detail| detail.contains("`gray-*`")), "{unmatched}");

    consul.put(&key("app"), json!({ "split": { "blue-*": 50, "*-1": 50 } }).to_string()).await?;
    state(&weightd, "app", "rejected").await?;
    let overlap = reason(&weightd, "app", "split_overlap").await?;
    assert!(overlap["detail"].as_str().is_some_and(|detail| detail.contains("`blue-1`")), "{overlap}");

    consul.put(&key("app"), json!({ "split": { "blue-*": 50, "green-*": 40 } }).to_string()).await?;
    reason(&weightd, "app", "rejected").await?;
    gives(&haproxy, 10.0, &[]).await?;

    consul.put(&key("app"), split(50, 50)).await?;
    gives(&haproxy, 50.0, &[]).await?;
    let status: Value = weightd.backend("app").await?;
    assert_eq!(status["desired"]["split"]["green-*"], 50, "{status}");
    converged(&weightd).await
}
