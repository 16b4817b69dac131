//! What a rollout needs: nodes, two sides, traffic, a controller.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use weightd_core::rollout::{Phase, State};

use super::stored;
use crate::{
    common::key,
    harness::{
        Consul, Haproxy, Port, Rolloutd, Side, Traffic, Weightd, config, eventually, rolloutd, traffic::Rate,
        weightd::Settings,
    },
};

/// The backend.
pub(super) const APP: &str = "app";

/// How HAProxy treats the requests of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxied {
    /// In mode http. A request that no server took goes to another one.
    Http,
    /// In mode http. A request that no server took fails.
    WithoutRedispatch,
    /// In mode tcp: HAProxy sees connections only.
    Tcp,
}

impl Proxied {
    fn frontend(self, port: u16) -> String {
        match self {
            Self::Http | Self::WithoutRedispatch => config::frontend(port, APP),
            Self::Tcp => {
                format!("frontend f_{APP}\n    mode tcp\n    bind 127.0.0.1:{port}\n    default_backend {APP}\n")
            }
        }
    }

    const fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["balance roundrobin", "retries 1", "option redispatch"],
            Self::WithoutRedispatch => &["balance roundrobin", "retries 1", "no option redispatch"],
            Self::Tcp => &["mode tcp", "balance roundrobin", "retries 1", "option redispatch"],
        }
    }

    /// A connection of mode tcp stays on its server, so each request has its own.
    const fn rate(self, per_second: u32) -> Rate {
        match self {
            Self::Http | Self::WithoutRedispatch => Rate { kept: per_second, fresh: 0 },
            Self::Tcp => Rate { kept: 0, fresh: per_second },
        }
    }
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) haproxy: Haproxy,
    pub(super) weightd: Weightd,
    pub(super) traffic: Traffic,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) consul: Consul,
    pub(super) blue: Side,
    pub(super) green: Side,
    pub(super) nodes: Vec<Node>,
    pub(super) rolloutd: Rolloutd,
}

impl Stage {
    /// So many nodes, each with so many requests a second, a document with everything on blue, and a controller.
    pub(super) async fn new(nodes: usize, per_second: u32) -> anyhow::Result<Self> {
        Self::of(Proxied::Http, nodes, per_second).await
    }

    /// The same with a backend of another kind.
    pub(super) async fn of(proxied: Proxied, nodes: usize, per_second: u32) -> anyhow::Result<Self> {
        let consul = Consul::start().await?;
        consul.put("weightd/observe/_", "{}").await?;
        consul.put(&key(APP), json!({"split": {"blue": 100, "green": 0}, "by": "test"}).to_string()).await?;
        let (blue, green) = (Side::start("blue")?, Side::start("green")?);
        let mut all = Vec::new();
        for number in 1..=nodes {
            let port = Port::free()?;
            let servers = [("blue", blue.port(), 100), ("green", green.port(), 0)];
            let frontend = proxied.frontend(port.number());
            let haproxy = Haproxy::start(&(frontend + &config::backend(APP, proxied.lines(), &servers, ""))).await?;
            let settings = Settings::new(&consul, &haproxy).set("node", format!("lb{number}"));
            let weightd = settings.start().await?;
            let traffic = Traffic::start(port.number(), proxied.rate(per_second));
            all.push(Node { haproxy, weightd, traffic });
        }
        let rolloutd = rolloutd::Rolloutd::start(&consul, "one").await?;
        Ok(Self { consul, blue, green, nodes: all, rolloutd })
    }

    /// Starts a rollout as `weightctl rollout start` does.
    pub(super) async fn start(&self, id: &str, mode: &str, steps: &[(u32, &str)]) -> anyhow::Result<()> {
        let steps = steps.iter().map(|(share, bake)| json!({"share": share, "bake": bake, "must_exclude": 0}));
        self.start_plan(id, mode, &json!({"step": steps.collect::<Vec<_>>()})).await
    }

    /// Starts a rollout with a plan as it is in the spec.
    pub(super) async fn start_plan(&self, id: &str, mode: &str, plan: &Value) -> anyhow::Result<()> {
        self.start_sides(id, mode, ("blue", "green"), plan).await
    }

    /// The same from one side to the other.
    pub(super) async fn start_sides(
        &self,
        id: &str,
        mode: &str,
        (from, to): (&str, &str),
        plan: &Value,
    ) -> anyhow::Result<()> {
        stored::start(&self.consul, APP, id, mode, (from, to), plan).await
    }

    /// The sides of each observation of the backend.
    pub(super) async fn observed(&self) -> anyhow::Result<Vec<Value>> {
        let below = "weightd/observe/app/";
        let keys = self.consul.http().json(Method::GET, &format!("kv/{below}?keys"), &Value::Null).await?;
        let mut observed = Vec::new();
        for key in keys.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let value = self.consul.get(key).await?.unwrap_or_default();
            observed.push(serde_json::from_slice::<Value>(&value)?["sides"].take());
        }
        Ok(observed)
    }

    /// Asks for something as `weightctl rollout` does.
    pub(super) async fn request(&self, id: &str, verb: &str) -> anyhow::Result<()> {
        stored::request(&self.consul, APP, id, verb).await
    }

    /// The state in Consul.
    pub(super) async fn state(&self) -> anyhow::Result<State> {
        stored::state(&self.consul, APP).await
    }

    /// Approves the next step as `weightctl rollout approve` does.
    pub(super) async fn approve(&self, id: &str) -> anyhow::Result<()> {
        let state = self.state().await?;
        let approval = json!({"v": 1, "id": id, "verb": "approve", "rollout": state.id, "at": state.seq, "by": "eve"});
        self.consul.put("weightd/rollouts/approval/app", approval.to_string()).await
    }

    /// Waits until the rollout is in this phase at this share, and returns how long that took.
    pub(super) async fn becomes(&self, phase: Phase, share: u32, within: u64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let what = format!("the rollout is in {} at {share} %", phase.as_str());
        let arrived = eventually(Duration::from_secs(within), &what, async || {
            let state = self.state().await?;
            let there = state.phase == phase && state.share.thousandths() == share * 1000;
            let shown = self.evidence().await.map(|value| value["shown"].to_string()).unwrap_or_default();
            ensure!(there, "{state:?}\n{shown}");
            Ok(())
        })
        .await;
        arrived.with_context(|| self.rolloutd.log())?;
        Ok(began.elapsed())
    }

    /// The evidence in Consul.
    pub(super) async fn evidence(&self) -> anyhow::Result<Value> {
        stored::evidence(&self.consul, APP).await
    }

    /// Waits until the rollout goes back, and returns how long that took.
    pub(super) async fn goes_back(&self, within: u64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let gone = eventually(Duration::from_secs(within), "the rollout goes back", async || {
            let state = self.state().await?;
            let shown = self.evidence().await.map(|value| value["shown"].to_string()).unwrap_or_default();
            ensure!(stored::is_back(&state), "{state:?}\n{shown}");
            Ok(())
        })
        .await;
        gone.with_context(|| self.rolloutd.log())?;
        Ok(began.elapsed())
    }

    /// Waits until each HAProxy has this weight of green.
    pub(super) async fn green_is(&self, weight: u32, within: u64) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.haproxy.until_weights(APP, &[("green", weight)], Duration::from_secs(within)).await?;
        }
        Ok(())
    }

    /// Requests that failed, on all nodes.
    pub(super) fn failed(&self) -> u64 {
        self.nodes.iter().map(|node| node.traffic.count().failed).sum()
    }
}
