//! Rollouts that move by themselves, and go back by themselves.

use std::time::Duration;

use anyhow::ensure;
use weightd_core::rollout::Phase;

use super::{stage::Stage, verbs::rollout};
use crate::harness::{Behaviour, always};

#[tokio::test]
async fn a_healthy_side_climbs_to_the_end_of_the_plan_and_no_request_fails() -> anyhow::Result<()> {
    let stage = Stage::new(2, 60).await?;
    stage.start("r1", "auto", &[(50, "20s"), (100, "20s")]).await?;
    let baseline = stage.becomes(Phase::Bake, 50, 150).await?;
    // A busy machine loses a block now and then, and two of fewer than ten are too many to go on.
    let first = stage.becomes(Phase::Bake, 100, 150).await?;
    let (code, out, err) = rollout(&stage, 120, "watch app --wait").await?;
    ensure!(code == 0 && out.contains("auto: done, 100 %"), "{code}: {out}\n{err}\n{}", stage.rolloutd.log());
    stage.becomes(Phase::Done, 100, 5).await?;
    println!("50 % after {baseline:?}, 100 % after {first:?} more");
    let (code, out, _) = rollout(&stage, 20, "log app").await?;
    ensure!(code == 0 && out.contains("started") && out.contains("done"), "{out}");
    stage.green_is(1, 5).await?;
    ensure!(stage.failed() == 0, "{} requests failed", stage.failed());
    Ok(())
}

#[tokio::test]
async fn a_side_that_fails_is_taken_back_on_every_node() -> anyhow::Result<()> {
    let stage = Stage::new(2, 100).await?;
    stage.start("r1", "auto", &[(10, "1m"), (100, "1m")]).await?;
    stage.becomes(Phase::Bake, 10, 90).await?;
    stage.green.behave(Behaviour::Status(500));
    let verdict = stage.becomes(Phase::RolledBack, 0, 60).await?;
    stage.green_is(0, 5).await?;
    println!("back after {verdict:?}; {} requests failed", stage.failed());
    Ok(())
}

#[tokio::test]
async fn an_outage_of_both_sides_takes_nothing_back_and_skips_nothing() -> anyhow::Result<()> {
    let mut stage = Stage::new(2, 60).await?;
    stage.start("r1", "auto", &[(50, "40s"), (100, "20s")]).await?;
    stage.becomes(Phase::Bake, 50, 90).await?;
    stage.blue.behave(Behaviour::Status(503));
    stage.green.behave(Behaviour::Status(503));
    let outage = Duration::from_secs(15);
    let stays = always(outage, "the rollout stays at 50 %", async || {
        let now = stage.state().await?;
        ensure!(now.phase == Phase::Bake && now.step == 1, "{now:?}");
        Ok(())
    });
    stays.await?;
    stage.blue.behave(Behaviour::Status(200));
    stage.green.behave(Behaviour::Status(200));
    // A node that restarts, and a reload, in the same step.
    stage.nodes[0].weightd.restart().await?;
    stage.nodes[1].haproxy.reload_again().await?;
    stage.becomes(Phase::Bake, 100, 400).await?;
    ensure!(stage.state().await?.step == 2);
    Ok(())
}
