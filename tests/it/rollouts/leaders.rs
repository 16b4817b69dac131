//! Controllers that die, and two at the same time.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use serde_json::json;
use weightd_core::rollout::{Controller, Phase};

use super::{stage::Stage, stored};
use crate::{
    common::{document, key},
    harness::{Consul, Rolloutd, eventually},
};

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

/// Nobody knows its sides, so nothing is written to the document; another rollout can begin then.
#[tokio::test]
async fn a_person_ends_a_rollout_whose_spec_is_gone() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app"), document(90, 10)).await?;
    let index = consul.index(&key("app")).await?;
    let other = json!({
        "v": 1, "id": "r2", "to": ["green"], "from": ["blue"], "back": 0, "mode": "watch", "plan": {},
        "regression": "rollback", "by": "ann", "at": "2026-11-27T10:00:00Z",
    })
    .to_string();
    let rolloutd = Rolloutd::start(&consul, "one").await?;
    for (phase, share, spec, ends) in [
        ("queued", 0, None, Phase::RolledBack),
        ("bake", 10, None, Phase::TakenOver),
        ("bake", 10, Some("no spec"), Phase::TakenOver),
        ("shift", 10, Some(other.as_str()), Phase::TakenOver),
    ] {
        let state = json!({
            "v": 1, "id": "r1", "spec": "abc", "seq": 7, "phase": phase, "step": 1, "mode": "auto", "share": share,
            "back": 0, "document": index, "since": "2026-11-27T10:00:00Z",
        });
        consul.delete("weightd/rollouts/spec/app").await?;
        consul.put("weightd/rollouts/request/app", "{}").await?;
        if let Some(spec) = spec {
            consul.put("weightd/rollouts/spec/app", spec).await?;
        }
        consul.put("weightd/rollouts/state/app", state.to_string()).await?;
        stored::request(&consul, "app", &format!("q-{phase}-{share}"), "abort").await?;
        let log = || rolloutd.log();
        eventually(Duration::from_secs(20), "the rollout is ended", async || {
            let events = stored::log(&consul, "app").await?.events;
            let event = events.iter().rev().find(|event| event.rollout == "r1");
            ensure!(event.is_some_and(|event| event.what == ends.as_str()), "{events:?}\n{}", log());
            Ok(())
        })
        .await?;
        ensure!(consul.index(&key("app")).await? == index, "the document is as it was");
        consul.delete("weightd/rollouts/log/app").await?;
    }
    // The spec of the other rollout is there: it begins.
    eventually(Duration::from_secs(20), "the other one begins", async || {
        let state = stored::state(&consul, "app").await?;
        ensure!(state.id == "r2" && !state.phase.is_final(), "{state:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_approval_is_answered_once_by_the_leader_that_reads_it() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app"), json!({"split": {"blue": 100, "green": 0}, "by": "test"}).to_string()).await?;
    let plan = json!({"step": [{"share": 50, "bake": "1h", "approve": true, "must_exclude": 0}]});
    stored::start(&consul, "app", "r1", "auto", ("blue", "green"), &plan).await?;
    let rolloutd = Rolloutd::start(&consul, "one").await?;
    for id in ["q1", "q2"] {
        let approve = async || {
            let state = stored::state(&consul, "app").await?;
            ensure!(state.phase == Phase::Preflight, "{state:?}");
            let approval = json!({"v": 1, "id": id, "verb": "approve", "rollout": "r1", "at": state.seq, "by": "eve"});
            consul.put("weightd/rollouts/approval/app", approval.to_string()).await
        };
        eventually(Duration::from_secs(20), "it is approved", approve).await?;
        eventually(Duration::from_secs(10), "it is answered", async || {
            let state = stored::state(&consul, "app").await?;
            let answered = state.approval.as_ref().is_some_and(|answer| answer.id == id && answer.refused.is_none());
            ensure!(answered && state.approved == Some(1), "{state:?}\n{}", rolloutd.log());
            Ok(())
        })
        .await?;
    }
    Ok(())
}
