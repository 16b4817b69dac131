//! A person always wins.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use weightd_core::rollout::Phase;

use super::stage::{APP, Stage};
use crate::{
    common::key,
    harness::{Behaviour, always, eventually},
};

#[tokio::test]
async fn a_document_of_a_person_ends_a_rollout_and_is_never_overwritten() -> anyhow::Result<()> {
    let stage = Stage::new(1, 50).await?;
    stage.start("r1", "auto", &[(50, "1m"), (100, "1m")]).await?;
    stage.becomes(Phase::Bake, 50, 150).await?;
    let document = json!({"weights": {"blue": 70, "green": 30}, "by": "carol"}).to_string();
    stage.consul.put(&key(APP), document.clone()).await?;
    stage.becomes(Phase::TakenOver, 50, 10).await?;
    ensure!(stage.consul.get(&key(APP)).await?.as_deref() == Some(document.as_bytes()));
    // It is still observed. A rollout in the other direction counts other sides.
    let plan = json!({"step": [{"share": 100, "bake": "20s"}]});
    stage.start_sides("r2", "auto", ("green", "blue"), &plan).await?;
    eventually(Duration::from_secs(20), "the other sides are counted", async || {
        let observed = stage.observed().await?;
        ensure!(observed == [json!({"from": ["green"], "to": ["blue"]})], "{observed:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pause_holds_and_an_abort_takes_back_what_was_moved() -> anyhow::Result<()> {
    let stage = Stage::new(1, 50).await?;
    stage.start("r1", "auto", &[(50, "20s"), (100, "1m")]).await?;
    stage.becomes(Phase::Bake, 50, 150).await?;
    stage.request("q1", "pause").await?;
    // Longer than the bake: without the pause it would be at 100 %.
    always(Duration::from_secs(35), "the rollout stays at 50 %", async || {
        let now = stage.state().await?;
        ensure!(now.phase == Phase::Bake && now.share.percent() < 51.0, "{now:?}");
        Ok(())
    })
    .await?;
    ensure!(stage.state().await?.paused.is_some());
    let held = stage.evidence().await?["shown"]["holding"].to_string();
    ensure!(held.contains("paused"), "{held}");
    stage.request("q2", "abort").await?;
    stage.becomes(Phase::RolledBack, 0, 10).await?;
    ensure!(stage.state().await?.aborted);
    stage.green_is(0, 5).await
}

/// A rollout in which people move the share: at 50 % since a moment.
async fn moved_by_people(mode: &str) -> anyhow::Result<Stage> {
    let stage = Stage::new(1, 100).await?;
    stage.start("r1", mode, &[(50, "20s"), (100, "20s")]).await?;
    stage.becomes(Phase::Bake, 0, 90).await?;
    let document = json!({"split": {"blue": 50, "green": 50}, "by": "carol"}).to_string();
    stage.consul.put(&key(APP), document).await?;
    stage.becomes(Phase::Bake, 50, 20).await?;
    stage.green_is(1, 10).await?;
    Ok(stage)
}

#[tokio::test]
async fn in_mode_guard_people_move_and_the_controller_takes_back() -> anyhow::Result<()> {
    let stage = moved_by_people("guard").await?;
    stage.green.behave(Behaviour::Status(500));
    stage.becomes(Phase::RolledBack, 0, 60).await?;
    stage.green_is(0, 10).await
}

#[tokio::test]
async fn in_mode_watch_the_controller_only_tells() -> anyhow::Result<()> {
    let stage = moved_by_people("watch").await?;
    stage.green.behave(Behaviour::Status(500));
    eventually(Duration::from_secs(60), "people are told", async || {
        let log = stage.consul.get("weightd/rollouts/log/app").await?.unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        ensure!(log.contains("\"warned\""), "{log}");
        Ok(())
    })
    .await?;
    let now = stage.state().await?;
    ensure!(now.phase == Phase::Bake && now.share.percent() > 49.0, "{now:?}");
    Ok(())
}
