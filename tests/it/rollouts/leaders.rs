//! Controllers that die, and two at the same time.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use weightd_core::rollout::{Controller, Phase};

use super::stage::Stage;
use crate::harness::{Rolloutd, eventually};

async fn leader(stage: &Stage) -> anyhow::Result<String> {
    let value = stage.consul.get("weightd/controller").await?;
    let value = value.ok_or_else(|| anyhow::anyhow!("nobody leads"))?;
    Ok(Controller::parse(&value)?.name)
}

#[tokio::test]
async fn another_controller_goes_on_within_25_s_and_no_step_is_made_twice() -> anyhow::Result<()> {
    let mut stage = Stage::new(1, 50).await?;
    let _second = Rolloutd::start(&stage.consul, "two").await?;
    ensure!(leader(&stage).await? == "one");
    stage.start("r1", "auto", &[(50, "1m"), (100, "20s")]).await?;
    stage.becomes(Phase::Bake, 50, 90).await?;
    // Some good seconds, which the successor takes over.
    eventually(Duration::from_secs(60), "the bake has begun", async || {
        let good = stage.evidence().await?["good"].as_u64();
        ensure!(good > Some(0), "{good:?}");
        Ok(())
    })
    .await?;
    stage.rolloutd.kill().await?;
    let killed = tokio::time::Instant::now();
    eventually(Duration::from_secs(25), "the other one leads", async || {
        ensure!(leader(&stage).await? == "two");
        Ok(())
    })
    .await?;
    println!("the other one leads after {:?}", killed.elapsed());
    stage.becomes(Phase::Bake, 100, 120).await?;
    ensure!(stage.state().await?.step == 2);
    Ok(())
}

#[tokio::test]
async fn a_controller_that_was_stopped_for_a_while_writes_nothing_afterwards() -> anyhow::Result<()> {
    let mut stage = Stage::new(1, 50).await?;
    let second = Rolloutd::start(&stage.consul, "two").await?;
    stage.start("r1", "auto", &[(50, "1m"), (100, "1m")]).await?;
    stage.becomes(Phase::Bake, 50, 120).await?;
    stage.rolloutd.program().signal(Signal::STOP)?;
    eventually(Duration::from_secs(25), "the other one leads", async || {
        ensure!(leader(&stage).await? == "two");
        Ok(())
    })
    .await?;
    stage.rolloutd.program().signal(Signal::CONT)?;
    eventually(Duration::from_secs(10), "the old one knows that it does not lead", async || {
        let (_, ready) = stage.rolloutd.get("/ready").await?;
        ensure!(ready.contains("another controller leads"), "{ready}");
        Ok(())
    })
    .await?;
    ensure!(second.get("/ready").await?.1.contains("it leads"));
    stage.request("q1", "abort").await?;
    stage.becomes(Phase::RolledBack, 0, 20).await?;
    let by_old = stage.rolloutd.log().lines().any(|line| line.contains("rolled_back"));
    ensure!(!by_old, "{}", stage.rolloutd.log());
    Ok(())
}
