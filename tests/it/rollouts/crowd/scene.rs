//! Many backends on few nodes, each with two sides and traffic of its own.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{bail, ensure};
use serde_json::{Value, json};
use tokio::time::interval;
use weightd_core::rollout::{Latch, Phase, State};

use crate::{
    common::{SOON, key},
    harness::{
        Behaviour, Consul, Haproxy, Port, Rolloutd, Side, Traffic, Weightd, config,
        consul_servers::Servers,
        eventually,
        metrics::{Exporter, Kind, MetricsSystem},
        rolloutd,
        side::Tally,
        traffic::Rate,
        weightd::Settings,
    },
    rollouts::stored,
};

/// A backend and its two sides.
#[derive(Debug)]
pub(super) struct App {
    pub(super) backend: String,
    pub(super) blue: Side,
    pub(super) green: Side,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) haproxy: Haproxy,
    pub(super) weightd: Weightd,
    pub(super) traffic: Vec<Traffic>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) servers: Servers,
    /// The agent of Consul that all programs use.
    pub(super) consul: Consul,
    pub(super) apps: Vec<App>,
    pub(super) nodes: Vec<Node>,
    pub(super) metrics: MetricsSystem,
    pub(super) rolloutd: Rolloutd,
    _exporter: Exporter,
}

impl Scene {
    /// So many backends with everything on blue, each with so many requests a second on each node.
    pub(super) async fn start(backends: usize, nodes: usize, per_second: u32) -> anyhow::Result<Self> {
        let (servers, consul) = Servers::start().await?;
        consul.put("weightd/observe/_", "{}").await?;
        let mut apps = Vec::new();
        for number in 1..=backends {
            let backend = format!("app{number:02}");
            let document = json!({"split": {"blue": 100, "green": 0}, "by": "test"});
            consul.put(&key(&backend), document.to_string()).await?;
            apps.push(App { backend, blue: Side::start("blue")?, green: Side::start("green")? });
        }
        let mut all = Vec::new();
        for number in 1..=nodes {
            let (mut body, mut ports) = (String::new(), Vec::new());
            for App { backend, blue, green } in &apps {
                let port = Port::free()?;
                let servers = [("blue", blue.port(), 100), ("green", green.port(), 0)];
                let lines = ["balance roundrobin", "retries 1", "option redispatch"];
                body += &config::frontend(port.number(), backend);
                body += &config::backend(backend, &lines, &servers, "");
                ports.push(port);
            }
            let haproxy = Haproxy::start(&body).await?;
            let weightd = Settings::new(&consul, &haproxy).set("node", format!("lb{number}")).start().await?;
            let rate = Rate { kept: per_second, fresh: 0 };
            let traffic = ports.iter().map(|port| Traffic::start(port.number(), rate)).collect();
            all.push(Node { haproxy, weightd, traffic });
        }
        let tallies = |app: &App| {
            [("blue", &app.blue), ("green", &app.green)]
                .map(|(side, counts)| (app.backend.clone(), side, counts.tally().clone()))
        };
        let tallies: Vec<_> = apps.iter().flat_map(tallies).collect();
        let exporter = Exporter::start(move || exposition(&tallies)).await?;
        let metrics = MetricsSystem::start(Kind::Prometheus, &exporter).await?;
        let rolloutd = rolloutd::Settings::new(&consul, "one").start().await?;
        let scene = Self { servers, consul, apps, nodes: all, metrics, rolloutd, _exporter: exporter };
        scene.configure()?;
        Ok(scene)
    }

    /// Gives the controller the check `slow`.
    fn configure(&self) -> anyhow::Result<()> {
        let query =
            |counter: &str| format!(r#"'sum(increase({counter}_total{{app="$backend", cluster="$label"}}[$window]))'"#);
        self.rolloutd.add(&format!(
            "[sources.metrics]\n{}scrape_interval = \"1s\"\n\
             [checks.slow]\nsource = \"metrics\"\nwindow = \"1m\"\ntotal = {}\nbad = {}\n",
            self.metrics.source(),
            query("requests"),
            query("slow_requests")
        ))
    }

    /// Starts a rollout of each backend.
    pub(super) async fn start_rollouts(&self, plan: &Value) -> anyhow::Result<()> {
        for App { backend, .. } in &self.apps {
            stored::start(&self.consul, backend, "r1", "auto", ("blue", "green"), plan).await?;
        }
        Ok(())
    }
}

/// The counters of all sides.
fn exposition(tallies: &[(String, &'static str, Tally)]) -> String {
    let mut text = String::new();
    for (app, side, tally) in tallies {
        for (counter, count) in [("requests", tally.requests()), ("slow_requests", tally.slow())] {
            let _infallible = writeln!(text, "{counter}_total{{app=\"{app}\",cluster=\"{side}\"}} {count}");
        }
    }
    text
}

/// The states of all rollouts.
pub(super) async fn states(consul: &Consul, apps: &[App]) -> anyhow::Result<Vec<State>> {
    let mut states = Vec::new();
    for App { backend, .. } in apps {
        states.push(stored::state(consul, backend).await?);
    }
    Ok(states)
}

/// Waits until each rollout is so far.
pub(super) async fn all(
    consul: &Consul,
    apps: &[App],
    what: &str,
    within: Duration,
    so_far: impl Fn(&State) -> bool,
) -> anyhow::Result<()> {
    let mut polls = interval(Duration::from_millis(500));
    eventually(within, what, async || {
        polls.tick().await;
        let states = states(consul, apps).await?;
        for (app, state) in apps.iter().zip(&states) {
            if !so_far(state) {
                let shown = stored::evidence(consul, &app.backend).await?["shown"].take();
                bail!("{}: {state:?}\n{shown}", app.backend);
            }
        }
        Ok(())
    })
    .await
}

/// Ends with an error as soon as a rollout goes back, is taken over, or waits for a person. Consul may be without a leader.
/// An outage of both sides breaks the SLO, which waits for a person by design: a person resumes the rollout after the outage,
/// and `resumed` counts that.
pub(super) async fn until_trouble(
    consul: &Consul,
    apps: &[App],
    outage: &AtomicBool,
    resumed: &AtomicU32,
) -> anyhow::Result<()> {
    let mut polls = interval(Duration::from_secs(1));
    loop {
        polls.tick().await;
        let Ok(states) = states(consul, apps).await else { continue };
        for (App { backend, .. }, state) in apps.iter().zip(&states) {
            let waits = state.latched.is_some_and(|why| why != Latch::Slo);
            if stored::is_back(state) || state.phase == Phase::TakenOver || waits {
                let log = stored::log(consul, backend).await;
                bail!("{backend}: {state:?}\n{log:?}");
            }
            if state.latched == Some(Latch::Slo) && !outage.load(Ordering::Relaxed) {
                let id = format!("{backend}-{}", state.seq);
                if stored::request(consul, backend, &id, "resume").await.is_ok() {
                    resumed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Errors that come in bursts of one second: half of the requests of one side fail. A side has as many bursts as it has
/// requests, in proportion: what a healthy backend shows. During an `outage` it does nothing.
pub(super) async fn bursts(consul: &Consul, apps: &[App], outage: &AtomicBool) -> anyhow::Result<()> {
    let (mut begins, mut seed) = (interval(Duration::from_secs(8)), 1_u64);
    loop {
        begins.tick().await;
        // Knuth's generator: the same bursts in each run.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let app = &apps[usize::try_from(seed >> 33)? % apps.len()];
        let chance = f64::from(u32::try_from((seed >> 20) % 1000)?) / 10.0;
        let Ok(state) = stored::state(consul, &app.backend).await else { continue };
        let side = if chance < state.share.percent() { &app.green } else { &app.blue };
        if outage.load(Ordering::Relaxed) {
            continue;
        }
        side.behave(Behaviour::Fails(500));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !outage.load(Ordering::Relaxed) {
            side.behave(Behaviour::Status(200));
        }
    }
}

/// Both sides of all backends fail for so long.
pub(super) async fn common_outage(apps: &[App], outage: &AtomicBool, lasts: Duration) {
    outage.store(true, Ordering::Relaxed);
    let behave =
        |behaviour| apps.iter().flat_map(|app| [&app.blue, &app.green]).for_each(|side| side.behave(behaviour));
    behave(Behaviour::Status(503));
    tokio::time::sleep(lasts).await;
    behave(Behaviour::Status(200));
    outage.store(false, Ordering::Relaxed);
}

/// Fails unless a rollout wrote each of these shares once and in this order, and each was applied before the next one. The log
/// is written soon after the end.
pub(super) async fn expect_steps(consul: &Consul, backend: &str, shares: &[u64]) -> anyhow::Result<()> {
    let written = stored::written(consul, backend, "green").await?;
    ensure!(written == shares, "{backend}: {written:?}");
    let steps = (1..).zip(shares).flat_map(|(step, share)| {
        [("advanced", format!("step {step}: {share} %")), ("applied", format!("all nodes have {share} %"))]
    });
    let end = shares.last().map(|share| ("done", format!("done at {share} %")));
    let expected: Vec<_> = steps.chain(end).collect();
    eventually(SOON, "the log has each step once", async || {
        let log = stored::log(consul, backend).await?;
        let events = log.events.iter().map(|event| (event.what.as_str(), event.detail.clone()));
        let steps: Vec<_> = events.filter(|(what, _)| ["advanced", "applied", "done"].contains(what)).collect();
        ensure!(steps == expected, "{backend}: {log:?}");
        Ok(())
    })
    .await
}
