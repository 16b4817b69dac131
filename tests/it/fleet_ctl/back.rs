//! `rollback` of a fleet: under traffic, and of many backends at once.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Node, run};
use crate::{
    common::{A_WHILE, SOON, backend, converged, document, key},
    harness::{Apps, Consul, Haproxy, Port, Traffic, Weightd, apps::App, config, traffic::Rate, weightd::Settings},
};

const NODES: usize = 3;
const HISTORY: &str = "weightd/history/app1";
/// Between two readings of the traffic.
const SAMPLE: Duration = Duration::from_millis(5);

/// Nodes with traffic to `app1`, which has the servers blue, green and green2.
struct Busy {
    nodes: Vec<Node>,
    traffic: Vec<Traffic>,
    _ports: Vec<Port>,
}

impl Busy {
    async fn start(consul: &Consul, servers: &[(&str, u16, u16)]) -> anyhow::Result<Self> {
        let (mut nodes, mut ports) = (Vec::new(), Vec::new());
        for number in 1..=NODES {
            let port = Port::free()?;
            let body = config::backend("app1", &["balance roundrobin"], servers, "");
            let body = config::frontend(port.number(), "app1") + &body;
            nodes.push(Node::start_with(consul, &format!("lb{number}"), &body, |settings| settings).await?);
            ports.push(port);
        }
        let rate = Rate { kept: 50, fresh: 50 };
        let traffic = ports.iter().map(|port| Traffic::start(port.number(), rate)).collect();
        Ok(Self { nodes, traffic, _ports: ports })
    }

    /// The answers of each of these servers so far, of all nodes.
    fn answers(&self, server: &str) -> u64 {
        self.traffic.iter().map(|traffic| traffic.count().bodies.get(server).copied().unwrap_or_default()).sum()
    }

    fn expect_no_failure(&self) -> anyhow::Result<()> {
        self.traffic.iter().try_for_each(|traffic| traffic.count().expect_no_failure())
    }
}

/// Waits until this server answers.
async fn until_it_answers(busy: &Busy, server: &str) -> anyhow::Result<()> {
    let before = busy.answers(server);
    crate::harness::eventually(SOON, &format!("{server} answers"), async || {
        ensure!(busy.answers(server) > before);
        Ok(())
    })
    .await
}

/// Dates the entries of the history back, newest first, by these days.
async fn date_back(consul: &Consul, days: &[i64]) -> anyhow::Result<()> {
    let mut history: Value = serde_json::from_slice(&consul.get(HISTORY).await?.context("no history")?)?;
    let entries = history["entries"].as_array_mut().context("no entries")?;
    ensure!(entries.len() == days.len(), "{entries:?}");
    let day = 24 * 60 * 60;
    let now = jiff::Timestamp::now().as_second();
    for (entry, days) in entries.iter_mut().zip(days) {
        entry["at"] = json!(jiff::Timestamp::from_second(now - days * day)?.to_string());
    }
    // The index of the newest entry is that of the key, which this write changes.
    entries[0]["index"] = json!(consul.index(&key("app1")).await?);
    consul.put(HISTORY, history.to_string()).await
}

#[tokio::test]
async fn after_days_of_a_shift_one_command_takes_all_traffic_back_without_a_failed_request() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (apps, third) = tokio::try_join!(Apps::start(), App::start("green2"))?;
    let servers = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0), ("green2", third.port(), 0)];
    let busy = Busy::start(&consul, &servers).await?;
    let set = async |weights: &str| {
        run(&consul, &format!("set app1 {weights} --yes --create --wait")).await?.expect(0, &["done: 3 of 3"]).map(drop)
    };
    for (weights, answers) in [
        ("blue=100 green=0", "blue"),
        ("blue=90 green=10", "green"),
        // A third server appears.
        ("blue=50 green=25 green2=25", "green2"),
        ("blue=0 green=50 green2=50", "green2"),
    ] {
        set(weights).await?;
        until_it_answers(&busy, answers).await?;
    }
    date_back(&consul, &[3, 4, 5, 20]).await?;

    let start = Instant::now();
    let (mut last, mut seen) = (Duration::ZERO, busy.answers("green") + busy.answers("green2"));
    let watch = async {
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < A_WHILE {
            let now = busy.answers("green") + busy.answers("green2");
            if now != seen {
                (seen, last, quiet_since) = (now, start.elapsed(), Instant::now());
            }
            sleep(SAMPLE).await;
        }
    };
    let (said, ()) = tokio::join!(run(&consul, "rollback app1 --yes --wait"), watch);
    said?.expect(0, &["written: app1 blue=100 green=0 green2=0", "done: 3 of 3 nodes have app1"])?;
    eprintln!("last answer of green {last:?} after the start of the rollback, with {NODES} nodes");
    ensure!(last < SOON, "{last:?}");
    for node in &busy.nodes {
        let weights = node.haproxy.weights("app1").await?;
        let expected = [("blue", 100), ("green", 0), ("green2", 0)];
        ensure!(expected.iter().all(|(server, weight)| weights.get(*server) == Some(weight)), "{weights:?}");
    }
    until_it_answers(&busy, "blue").await?;
    busy.expect_no_failure()
}

#[tokio::test]
async fn forty_backends_leave_a_side_on_every_node_with_one_command() -> anyhow::Result<()> {
    const BACKENDS: usize = 40;
    let consul = Consul::start().await?;
    let names: Vec<_> = (0..BACKENDS).map(|number| format!("app{number}")).collect();
    let mut body = String::new();
    for name in &names {
        write!(body, "{}", backend(name, 100, 0))?;
    }
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let haproxy = Haproxy::start(&body).await?;
        let settings = Settings::new(&consul, &haproxy).set("node", format!("lb{number}"));
        let weightd: Weightd = settings.start().await?;
        nodes.push((haproxy, weightd));
    }
    for name in &names {
        // The first document, then a shift.
        consul.put(&key(name), document(100, 0)).await?;
        let first = json!({"v": 1, "entries": [{"way": "create", "to": {"weights": {"blue": 100, "green": 0}}}]});
        consul.put(&format!("weightd/history/{name}"), first.to_string()).await?;
        consul.put(&key(name), document(20, 80)).await?;
    }
    for (_, weightd) in &nodes {
        converged(weightd).await?;
    }
    let start = Instant::now();
    let said = run(&consul, "rollback --all --off green* --yes --wait").await?;
    let took = start.elapsed();
    said.expect(0, &["written: 40 backends", "done: 3 of 3 nodes have app39"])?;
    eprintln!("rollback --all of {BACKENDS} backends on {NODES} nodes: {took:?}");
    for (haproxy, _) in &nodes {
        for name in &names {
            let weights = haproxy.weights(name).await?;
            ensure!(weights.get("green") == Some(&0) && weights.get("blue") == Some(&100), "{name}: {weights:?}");
        }
    }

    // One node does not have one backend: the wait goes on for the others, and names that one.
    for name in &names {
        consul.put(&key(name), document(20, 80)).await?;
    }
    let (_, paused) = &nodes[0];
    let socket = paused.dir().join("run/weightd.sock").display().to_string();
    let environment = [("WEIGHTD_SOCKET", socket.as_str()), ("WEIGHTD_CONFIG", "/nonexistent")];
    for name in ["app3", "app7"] {
        let output = crate::harness::weightd::weightctl(&environment, &["pause", name, "--for", "1h"]).await?;
        ensure!(output.status.success(), "{output:?}");
    }
    let said = run(&consul, "rollback --all --off green* --yes --wait --timeout 20s").await?;
    said.expect(3, &["2 of 40 backends are not on all nodes: app3, app7", "lb0 (paused)", "have app39"])?;
    Ok(())
}
