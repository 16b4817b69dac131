//! weightctl in front of a fleet: several weightd, each with its own HAProxy, on one Consul.

mod at_once;
mod back;
mod columns;
mod drained;
mod early;
mod first;
mod forecast;
mod reach;
mod servers;
mod shares;
mod shown;
mod traffic;
mod wait;
mod watching;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    common::{SOON, backend, document, key},
    harness::{
        Consul, Haproxy, PATIENCE, Weightd, eventually,
        weightd::{Settings, weightctl, weightctl_within},
    },
};

/// The bound for a node's report. A session that is not renewed ends after at most 20 s.
const REPORTED: Duration = Duration::from_secs(40);

/// A HAProxy and its weightd.
struct Node {
    name: String,
    haproxy: Haproxy,
    weightd: Weightd,
}

impl Node {
    /// Starts a node that follows `consul`, with these further settings, and waits until it reports.
    async fn start_with(
        consul: &Consul,
        name: &str,
        body: &str,
        settings: impl FnOnce(Settings) -> Settings,
    ) -> anyhow::Result<Self> {
        let haproxy = Haproxy::start(body).await?;
        let own = Settings::new(consul, &haproxy).set("node", name).set("reconcile.resync", "1s");
        let node = Self { name: name.to_owned(), weightd: settings(own).start().await?, haproxy };
        node.reports(consul).await?;
        Ok(node)
    }

    /// Starts a node with the backend `app1`, and waits until it reports on the document of that.
    async fn start(consul: &Consul, name: &str) -> anyhow::Result<Self> {
        if consul.get(&key("app1")).await?.is_none() {
            consul.put(&key("app1"), document(9, 1)).await?;
        }
        let node = Self::start_with(consul, name, &backend("app1", 9, 1), |settings| settings).await?;
        node.has_newer(consul, 0).await?;
        Ok(node)
    }

    /// Waits until the node reports that it has a document of `app1` with an index above this one.
    async fn has_newer(&self, consul: &Consul, than: u64) -> anyhow::Result<()> {
        eventually(REPORTED, &format!("{} has app1 above {than}", self.name), async || {
            let report = self.report(consul).await?.context("no report")?;
            let value: Value = serde_json::from_str(&report)?;
            let recent = value["recent"].as_array().context("no recent")?;
            let found = recent.iter().find(|entry| entry[0] == "app1").with_context(|| report.clone())?;
            ensure!(found[1].as_u64().is_some_and(|index| index > than) && found[2] == "set", "{report}");
            Ok(())
        })
        .await
    }

    /// Waits until HAProxy has this server down and weightd has read that: a reading from before would pass the guards.
    async fn sees_down(&self, backend: &str, server: &str) -> anyhow::Result<()> {
        eventually(SOON, &format!("HAProxy has {server} down"), async || {
            let stat = self.haproxy.command(&format!("show stat {backend} 4 -1")).await?;
            let row = |line: &str| line.starts_with(&format!("{backend},{server},")) && line.contains(",DOWN,");
            ensure!(stat.lines().any(row), "{stat}");
            Ok(())
        })
        .await?;
        let down = Instant::now();
        eventually(SOON, &format!("weightd has read that {server} is down"), async || {
            let elapsed = down.elapsed().as_secs_f64();
            let status = self.weightd.backend(backend).await?;
            let age = status["observed_age_seconds"].as_f64().context("never read")?;
            let servers = status["servers"].as_array().context("no servers")?;
            let found = servers.iter().find(|found| found["server"] == server).context("no such server")?;
            ensure!(age < elapsed && found["usable"] == false, "{status}");
            Ok(())
        })
        .await
    }

    /// Waits until the node reports.
    async fn reports(&self, consul: &Consul) -> anyhow::Result<()> {
        eventually(REPORTED, &format!("{} reports", self.name), async || {
            self.report(consul).await?.with_context(|| self.weightd.log()).map(drop)
        })
        .await
    }

    /// Waits until the report of the node has these words.
    async fn says(&self, consul: &Consul, words: &str) -> anyhow::Result<()> {
        eventually(REPORTED, &format!("{} says {words}", self.name), async || {
            let report = self.report(consul).await?.context("no report")?;
            ensure!(report.contains(words), "{report}");
            Ok(())
        })
        .await
    }

    async fn report(&self, consul: &Consul) -> anyhow::Result<Option<String>> {
        let report = consul.get(&format!("weightd/nodes/{}", self.name)).await?;
        Ok(report.map(|report| String::from_utf8_lossy(&report).into_owned()))
    }

    /// Runs a verb of this host.
    async fn local(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let socket = self.weightd.dir().join("run/weightd.sock").display().to_string();
        let environment = [("WEIGHTD_SOCKET", socket.as_str()), ("WEIGHTD_CONFIG", "/nonexistent")];
        let output = weightctl(&environment, arguments).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}

/// A Consul and nodes `lb1`, `lb2`, …, each with the backend `app1`.
async fn fleet(count: usize) -> anyhow::Result<(Consul, Vec<Node>)> {
    let consul = Consul::start().await?;
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(Node::start(&consul, &format!("lb{number}")).await?);
    }
    Ok((consul, nodes))
}

/// What a weightctl said and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// Fails unless it ended with `code` and said each of these words.
    fn expect(self, code: i32, words: &[&str]) -> anyhow::Result<Self> {
        let all = words.iter().all(|word| self.err.contains(word) || self.out.contains(word));
        ensure!(self.code == code && all, "expected {code} and {words:?}: {self:?}");
        Ok(self)
    }

    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {self:?}"))
    }

    /// The last line on stdout.
    fn last(&self) -> anyhow::Result<Value> {
        let line = self.out.lines().last().with_context(|| format!("no output: {self:?}"))?;
        serde_json::from_str(line).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// Runs weightctl as `alice`, with a token if there is one.
async fn run_with(consul: &Consul, token: Option<&str>, arguments: &str) -> anyhow::Result<Said> {
    run_within(PATIENCE, consul, token, arguments).await
}

/// As [`run_with`], for a command that waits longer.
async fn run_within(within: Duration, consul: &Consul, token: Option<&str>, arguments: &str) -> anyhow::Result<Said> {
    let address = consul.address();
    let mut environment = vec![("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    // No weightd of this host.
    environment.extend([("WEIGHTD_API", "http://127.0.0.1:1"), ("WEIGHTD_CONFIG", "/nonexistent")]);
    environment.extend(token.map(|token| ("CONSUL_HTTP_TOKEN", token)));
    let output = weightctl_within(within, &environment, &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    Ok(Said {
        code: output.status.code().context("it was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

async fn run(consul: &Consul, arguments: &str) -> anyhow::Result<Said> {
    run_with(consul, consul.token(), arguments).await
}
