//! Twenty healthy rollouts at once, while everything around them is disturbed. Many minutes: `make rollout-test`.

mod scene;

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use weightd_core::rollout::{
    Phase, State,
    plan::{Preset, Protocol, Span},
};

use self::scene::{App, Scene};
use crate::harness::traffic::Count;

const BACKENDS: usize = 20;
const NODES: usize = 2;
/// On each node.
const PER_SECOND: u32 = 10;
/// Between two disturbances.
const PACE: Duration = Duration::from_secs(20);
const OUTAGE: Duration = Duration::from_secs(60);
/// Of each step, unless `ROLLOUT_BAKE` says another one; `quick` has 5 minutes. At 10 % of 20 requests a second the 300
/// requests that a step needs take 150 s, and a bake may take twice its length.
const BAKE: &str = "100s";

/// The plan `quick` with this bake, and a named check.
fn quick(bake: Span) -> anyhow::Result<Value> {
    let mut plan = serde_json::to_value(Preset::Quick.plan(Protocol::Http))?;
    for step in plan["step"].as_array_mut().into_iter().flatten() {
        step["bake"] = bake.to_string().into();
    }
    let labels = json!({"from": "blue", "to": "green"});
    plan["check"]["latency"] = json!({"use": "slow", "labels": labels, "slo": 0.01, "warm_up": "20s"});
    Ok(plan)
}

#[tokio::test]
#[ignore = "many minutes; make rollout-test"]
async fn twenty_healthy_rollouts_are_not_taken_back_and_skip_no_step() -> anyhow::Result<()> {
    let bake: Span = std::env::var("ROLLOUT_BAKE").as_deref().unwrap_or(BAKE).parse()?;
    let mut scene = Scene::start(BACKENDS, NODES, PER_SECOND).await?;
    let began = Instant::now();
    scene.start_rollouts(&quick(bake)?).await?;
    let (outage, resumed) = (AtomicBool::new(false), AtomicU32::new(0));
    let Scene { servers, consul, apps, nodes, metrics, rolloutd, .. } = &mut scene;
    let (consul, apps) = (&*consul, &*apps);
    let say = |what: &str| println!("{:5.0} s: {what}", began.elapsed().as_secs_f64());
    let reach = async |step: u32| {
        // A bake takes twice its length at most, and the first step waits for a baseline.
        let within = Duration::from_secs(4 * bake.seconds() + 120);
        let so_far =
            move |state: &State| state.phase == Phase::Done || state.step >= step && state.phase == Phase::Bake;
        let what = format!("all rollouts are at step {step}");
        scene::all(consul, apps, &what, within, so_far).await?;
        say(&what);
        anyhow::Ok(())
    };
    let story = async {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reach(1).await?;
        pace.reset();
        pace.tick().await;
        nodes[0].haproxy.reload_again().await?;
        say("a HAProxy has reloaded");
        pace.tick().await;
        nodes[1].weightd.restart().await?;
        say("a weightd has restarted");
        pace.tick().await;
        metrics.stop().await?;
        say("Prometheus is stopped");
        pace.tick().await;
        metrics.start_again().await?;
        say("Prometheus answers again");
        reach(2).await?;
        pace.reset();
        pace.tick().await;
        let killed = servers.kill_leader(consul).await?;
        say("the leader of Consul is killed, and another server leads");
        pace.tick().await;
        servers.start_again(killed, consul).await?;
        say("the killed server is back");
        scene::common_outage(apps, &outage, OUTAGE).await;
        say("the outage of all sides is over");
        reach(3).await?;
        reach(4).await?;
        let within = Duration::from_secs(4 * bake.seconds() + 120);
        scene::all(consul, apps, "all rollouts are done", within, |state| state.phase == Phase::Done).await?;
        say("all rollouts are done");
        anyhow::Ok(())
    };
    let ended = tokio::select! {
        ended = story => ended,
        trouble = scene::until_trouble(consul, apps, &outage, &resumed) => trouble,
        broken = scene::bursts(consul, apps, &outage) => broken,
    };
    ended.map_err(|error| error.context(rolloutd.log()))?;
    for App { backend, .. } in apps {
        scene::expect_steps(consul, backend, &[10, 50, 95, 100]).await?;
    }
    let count = |count: fn(&Count) -> u64| -> u64 {
        nodes.iter().flat_map(|node| &node.traffic).map(|traffic| count(&traffic.count())).sum()
    };
    let by_sides: u64 = apps.iter().map(|app| app.blue.failed() + app.green.failed()).sum();
    let (answered, failed) = (count(Count::answered), count(|count| count.failed));
    println!("a person resumed {} times after the outage", resumed.load(Ordering::Relaxed));
    println!("{answered} requests answered, {failed} failed; the sides failed {by_sides}");
    ensure!(failed <= by_sides, "requests failed that no side failed");
    Ok(())
}
