//! `--wait=drained` ends with 0 only when nothing is left on the servers at 0, and says what is left and why.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::Value;
use tokio::{net::TcpStream, time::Instant};

use super::{Node, run, run_within};
use crate::{
    common::{SOON, backend},
    fleet_node::destroy,
    harness::{
        Consul, Port, eventually,
        holding::{Holding, UPGRADE, get, open},
    },
};

/// The time limit of a wait for numbers of two whole blocks.
const BLOCKS: &str = "40s";

/// A node with one HAProxy, and an application behind both of its servers.
struct Site {
    consul: Consul,
    node: Node,
    port: Port,
    _app: Holding,
}

impl Site {
    /// Starts it with these lines of the backend, and options of each server.
    async fn start(mode: &str, lines: &str, options: fn(&str) -> String) -> anyhow::Result<Self> {
        let (consul, app, port) = (Consul::start().await?, Holding::start().await?, Port::free()?);
        consul.put("weightd/observe/_", "{}").await?;
        let server = |name: &str| format!("    server {name} 127.0.0.1:{} weight 50 {}\n", app.port(), options(name));
        let body = format!(
            "frontend f\n    mode {mode}\n    bind 127.0.0.1:{port}\n    default_backend app1\n\
             backend app1\n    mode {mode}\n    balance roundrobin\n{lines}{}{}",
            server("blue"),
            server("green"),
        );
        let node = Node::start_with(&consul, "lb1", &body, |settings| settings).await?;
        run(&consul, "set app1 blue=50 green=50 --yes --create --wait").await?.expect(0, &[])?;
        Ok(Self { consul, node, port, _app: app })
    }

    /// Sends this on two connections: roundrobin gives one to each server.
    async fn open(&self, text: &str, answered: bool) -> anyhow::Result<Vec<TcpStream>> {
        let mut streams = Vec::new();
        for _ in 0..2 {
            streams.push(open(self.port.number(), text, answered).await?.0);
        }
        eventually(SOON, "green has a session", async || {
            let stat = self.node.haproxy.command("show stat app1 4 -1").await?;
            let row = stat.lines().find(|line| line.starts_with("app1,green,")).unwrap_or_default().to_owned();
            ensure!(row.split(',').nth(4) == Some("1"), "{stat}");
            Ok(())
        })
        .await?;
        Ok(streams)
    }

    async fn drained(&self, timeout: &str) -> anyhow::Result<super::Said> {
        drained(&self.consul, timeout).await
    }
}

async fn drained(consul: &Consul, timeout: &str) -> anyhow::Result<super::Said> {
    let arguments = format!("set app1 blue=100 green=0 --yes --wait=drained --timeout {timeout}");
    run_within(Duration::from_secs(60), consul, None, &arguments).await
}

#[tokio::test]
async fn a_connection_that_lasts_is_waited_for() -> anyhow::Result<()> {
    let site = Site::start("http", "    timeout tunnel 10m\n", |_| String::new()).await?;
    let streams = site.open(UPGRADE, true).await?;
    let said = site.drained("3s").await?;
    said.expect(3, &["done: 1 of 1 nodes have app1", "app1 is not drained: at 0: green: 1 session left (lb1 1)"])?;
    run(&site.consul, "status app1").await?.expect(0, &["at 0: green: 1 session left (lb1 1)"])?;
    // It ends when the connection ends. The nodes report every 10 s.
    let end = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(streams);
    };
    let (said, ()) = tokio::join!(site.drained(BLOCKS), end);
    said?.expect(0, &["drained: at 0: green: no session left"])?;
    run(&site.consul, "status app1").await?.expect(0, &["at 0: green: no session left"])?;
    Ok(())
}

#[tokio::test]
async fn connections_of_mode_tcp_are_named() -> anyhow::Result<()> {
    let site = Site::start("tcp", "    timeout server 10m\n", |_| String::new()).await?;
    let streams = site.open("x", false).await?;
    let said = site.drained("3s").await?;
    said.expect(3, &["green: 1 session left (lb1 1)", "connections of mode tcp last until one end closes them"])?;
    drop(streams);
    site.drained(BLOCKS).await?.expect(0, &["drained: at 0: green: no session left"])?;
    Ok(())
}

#[tokio::test]
async fn a_kept_alive_connection_without_a_request_is_no_session() -> anyhow::Result<()> {
    let site = Site::start("http", "", |_| String::new()).await?;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(open(site.port.number(), "GET /200 HTTP/1.1\r\nhost: x\r\n\r\n", true).await?);
    }
    let start = Instant::now();
    site.drained("9s").await?.expect(0, &["drained: at 0: green: no session left"])?;
    ensure!(start.elapsed() < Duration::from_secs(9), "it waited for a block");
    Ok(())
}

#[tokio::test]
async fn users_with_a_cookie_are_waited_for_until_none_came_for_a_whole_block() -> anyhow::Result<()> {
    let site = Site::start("http", "    cookie SRV insert indirect nocache\n", |name| format!("cookie {name}")).await?;
    get(site.port.number(), 200).await?;
    let start = Instant::now();
    let early = site.drained("3s").await?;
    early.expect(3, &["a cookie pins users, also at weight 0"])?;
    let said = site.drained(BLOCKS).await?.expect(0, &["drained: at 0: green: no session left"])?;
    ensure!(start.elapsed() > Duration::from_secs(10), "a user could come back: {said:?}");
    Ok(())
}

#[tokio::test]
async fn where_nothing_is_at_zero_nothing_drains() -> anyhow::Result<()> {
    let site = Site::start("http", "", |_| String::new()).await?;
    let said = run(&site.consul, "set app1 green=40 --yes --wait=drained").await?;
    said.expect(0, &["no server of app1 is at 0, so that nothing drains"])?;
    run(&site.consul, "release app1 --yes --wait=drained").await?.expect(2, &["`release` sets no weight to 0"])?;
    Ok(())
}

/// A node that is gone may still have sessions: its HAProxy goes on.
#[tokio::test]
async fn a_node_that_vanishes_is_not_drained() -> anyhow::Result<()> {
    let mut site = Site::start("http", "    timeout tunnel 10m\n", |_| String::new()).await?;
    let _streams = site.open(UPGRADE, true).await?;
    let _second = Node::start_with(&site.consul, "lb2", &backend("app1", 50, 50), |settings| settings).await?;
    run(&site.consul, "set app1 blue=60 green=40 --yes --wait").await?.expect(0, &["2 of 2 nodes have app1"])?;
    let ends = async {
        observed(&site.consul).await?;
        site.node.weightd.kill().await?;
        // The key goes with its session, at the latest after 20 s.
        let entry = site.consul.http().json(Method::GET, "kv/weightd/nodes/lb1", &Value::Null).await?;
        destroy(&site.consul, entry[0]["Session"].as_str().context("no session")?).await
    };
    let (said, ended) = tokio::join!(drained(&site.consul, "8s"), ends);
    ended?;
    said?.expect(3, &["done: 2 of 2 nodes have app1", "lb1 has not answered"])?;
    run(&site.consul, "traffic app1").await?.expect(0, &["lb1: its weightd has ended or lost Consul"])?;
    Ok(())
}

/// Waits until the node reports each server: the wait for its sessions has begun.
async fn observed(consul: &Consul) -> anyhow::Result<()> {
    eventually(SOON, "the node reports each server", async || {
        let report = consul.get("weightd/counters/lb1").await?.context("no report")?;
        let report: Value = serde_json::from_slice(&report)?;
        ensure!(report.to_string().contains(r#""now":{"blue":"#), "{report}");
        Ok(())
    })
    .await
}

/// Without the socket of the master nobody can ask the worker that a reload has replaced.
#[tokio::test]
async fn a_reload_during_the_wait_leaves_sessions_that_are_not_known() -> anyhow::Result<()> {
    let mut site = Site::start("http", "    timeout tunnel 10m\n", |_| String::new()).await?;
    let _streams = site.open(UPGRADE, true).await?;
    let reload = async {
        observed(&site.consul).await?;
        site.node.haproxy.reload_again().await
    };
    let (said, reloaded) = tokio::join!(drained(&site.consul, "20s"), reload);
    reloaded?;
    said?.expect(3, &["not known on lb1: HAProxy was reloaded, and weightd cannot read the process before"])?;
    Ok(())
}
