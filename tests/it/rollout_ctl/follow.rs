//! `watch`, and `start --wait`: what they end with, and that the leader knows that somebody watches.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use super::{STATE, baking, controller, evidence, rollout, state, value};
use crate::harness::{Consul, PATIENCE, eventually, program};

#[tokio::test]
async fn a_wait_ends_with_what_became_of_the_rollout() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    rollout(&consul, "watch app1").await?.expect(7, &["has no rollout"])?;
    baking(&consul, "auto").await?;
    controller(&consul).await?;
    let with = async |field: &str, to: Value| {
        let mut next = state("r1", "bake", "auto", 10, 5);
        next[field] = to;
        consul.put(STATE, next.to_string()).await
    };
    for (phase, code, words) in [
        ("done", 0, ["auto: done"].as_slice()),
        ("rolled_back", 9, &["was rolled back: too many errors"]),
        ("taken_over", 5, &["was taken over"]),
    ] {
        let mut next = state("r1", phase, "auto", 10, 5);
        next["why"] = "too many errors".into();
        consul.put(STATE, next.to_string()).await?;
        rollout(&consul, "watch app1 --wait").await?.expect(code, words)?;
        // Without --wait, the end is no failure.
        rollout(&consul, "watch app1").await?.expect(0, &[])?;
    }
    with("latched", json!("inconclusive")).await?;
    rollout(&consul, "watch app1 --wait").await?.expect(10, &["waits for a person: inconclusive"])?;
    with("paused", json!({"by": "bob"})).await?;
    rollout(&consul, "watch app1 --wait").await?.expect(10, &["paused by bob"])?;
    with("why", Value::Null).await?;
    rollout(&consul, "watch app1 --wait --timeout 2s").await?.expect(3, &["has not ended within 2s"])?;
    // An approval is waited for only when nothing else holds.
    evidence(&consul, &[("approval", "step 2 needs an approval"), ("window", "the window is closed")]).await?;
    rollout(&consul, "watch app1 --wait --timeout 2s").await?.expect(3, &["holding: approval, window"])?;
    Ok(())
}

#[tokio::test]
async fn a_watch_prints_each_change_and_observes_while_it_runs() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    controller(&consul).await?;
    let mut command = Command::new(program::binary("weightctl")?);
    program::without_consul(&mut command);
    let mut child = command
        .args(["rollout", "watch", "app1", "-o", "json"])
        .envs([("CONSUL_HTTP_ADDR", consul.address()), ("WEIGHTD_CONFIG", "/nonexistent".to_owned())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut phase = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.context("no line")??.context("it has ended")?;
        let view: Value = serde_json::from_str(&line)?;
        anyhow::Ok(view["state"]["phase"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(phase().await? == "bake");
    let observed = eventually(Duration::from_secs(10), "somebody watches", async || {
        let keys = consul.http().json(Method::GET, "kv/weightd/observe/app1/?keys", &Value::Null).await?;
        Ok(keys[0].as_str().context("no observation")?.to_owned())
    })
    .await?;
    let observation = value(&consul, &observed).await?;
    ensure!(observation["sides"] == json!({"from": ["blue"], "to": ["green"]}), "{observation}");
    let mut next = state("r1", "shift", "auto", 50, 5);
    next["step"] = 2.into();
    consul.put(STATE, next.to_string()).await?;
    ensure!(phase().await? == "shift");
    consul.put(STATE, state("r1", "done", "auto", 100, 5).to_string()).await?;
    ensure!(phase().await? == "done");
    ensure!(timeout(PATIENCE, child.wait()).await??.success());
    ensure!(consul.get(&observed).await?.is_none(), "the observation is left behind");
    Ok(())
}
