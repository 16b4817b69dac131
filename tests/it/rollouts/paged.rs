//! A start on the page, with nodes that count.

use anyhow::ensure;
use reqwest::StatusCode;

use super::stage::{APP, Proxied, Stage};
use crate::{
    common::key,
    harness::{
        page::{Answer, Page, Visitor},
        side::Behaviour,
    },
};

async fn start(stage: &Stage, ann: &Visitor, mode: &str, extra: &[(&str, &str)]) -> anyhow::Result<Answer> {
    let seen = stage.consul.index(&key(APP)).await?.to_string();
    let form = [&[("to", "green"), ("mode", mode), ("plan", "careful"), ("seen", &seen)], extra].concat();
    ann.post("/app/app/start", &form).await
}

#[tokio::test]
async fn a_start_before_the_traffic_is_measured_waits_for_it() -> anyhow::Result<()> {
    let stage = Stage::new(1, 100).await?;
    stage.blue.behave(Behaviour::Fails(50));
    let page = Page::start(&stage.consul, None).await?;
    let ann = page.named("ann").await?;
    // The page measures for 10 to 16 s; the person does not wait.
    ann.page("/app/app/start").await?;
    let answer = start(&stage, &ann, "guard", &[]).await?;
    ensure!(answer.status == StatusCode::UNPROCESSABLE_ENTITY, "{}: {}", answer.status, answer.text);
    ensure!(answer.text.contains("It cannot begin, and nothing was written."), "{}", answer.text);
    // The old side itself is above the limit: the page offers twice its errors.
    ensure!(answer.text.contains("name=\"slo\""), "{}", answer.text);
    ensure!(stage.consul.get("weightd/rollouts/spec/app").await?.is_none());
    let answer = start(&stage, &ann, "guard", &[("slo", "yes")]).await?;
    ensure!(answer.status == StatusCode::SEE_OTHER, "{}: {}", answer.status, answer.text);
    let shown = ann.page("/app/app").await?;
    ensure!(shown.contains("Started: mode guard."), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_backend_of_mode_tcp_can_be_watched() -> anyhow::Result<()> {
    let stage = Stage::of(Proxied::Tcp, 1, 20).await?;
    let page = Page::start(&stage.consul, None).await?;
    let ann = page.named("ann").await?;
    let answer = start(&stage, &ann, "watch", &[]).await?;
    ensure!(answer.status == StatusCode::SEE_OTHER, "{}: {}", answer.status, answer.text);
    let shown = ann.page("/app/app").await?;
    ensure!(shown.contains("Started: mode watch."), "{shown}");
    let spec = stage.consul.get("weightd/rollouts/spec/app").await?.unwrap_or_default();
    let spec: serde_json::Value = serde_json::from_slice(&spec)?;
    ensure!(spec["plan"]["protocol"] == "tcp", "{spec}");
    Ok(())
}
