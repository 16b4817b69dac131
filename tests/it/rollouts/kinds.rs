//! Each kind of failure, from its first request to the last node. Some minutes: `make rollout-test`.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;
use weightd_core::rollout::Phase;

use super::stage::Stage;
use crate::harness::Behaviour;

/// Lets green fail in this way at 10 % of 200 requests a second on three nodes, and says how long it takes.
async fn is_taken_back(kind: &str, behaviour: Behaviour, within: u64) -> anyhow::Result<String> {
    let stage = Stage::new(3, 67).await?;
    stage.start("r1", "auto", &[(10, "1m"), (100, "1m")]).await?;
    stage.becomes(Phase::Bake, 10, 150).await?;
    // The bake has begun: the failure comes in the middle of it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (failed, began) = (stage.failed(), Instant::now());
    stage.green.behave(behaviour);
    stage.becomes(Phase::RollingBack, 0, within).await.or(stage.becomes(Phase::RolledBack, 0, 5).await)?;
    let verdict = began.elapsed();
    stage.green_is(0, 10).await?;
    let last = began.elapsed();
    stage.becomes(Phase::RolledBack, 0, 70).await?;
    let why = stage.state().await?.why.unwrap_or_default();
    let failed = stage.failed() - failed;
    ensure!(stage.blue.failed() == 0);
    Ok(format!("{kind}: verdict after {verdict:.1?}, last node after {last:.1?}, {failed} requests failed: {why}"))
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn answers_with_500_are_found() -> anyhow::Result<()> {
    println!("{}", is_taken_back("500", Behaviour::Status(500), 60).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn one_answer_in_twenty_with_500_is_found() -> anyhow::Result<()> {
    println!("{}", is_taken_back("5 % of 500", Behaviour::Fails(50), 180).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn answers_with_404_are_found() -> anyhow::Result<()> {
    println!("{}", is_taken_back("404", Behaviour::Status(404), 120).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn closed_connections_are_found() -> anyhow::Result<()> {
    println!("{}", is_taken_back("close", Behaviour::Closes, 60).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn requests_that_never_end_are_found() -> anyhow::Result<()> {
    println!("{}", is_taken_back("hang", Behaviour::Hangs, 120).await?);
    Ok(())
}
