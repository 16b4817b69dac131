//! Each kind of failure, from its first request to the last node. Some minutes: `make rollout-test`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use weightd_core::rollout::Phase;

use super::stage::{Proxied, Stage};
use crate::harness::{
    Behaviour, Side,
    metrics::{Exporter, Kind, MetricsSystem},
    side::Tally,
};

/// Steps of this share and of 100 %, with this bake.
fn plan(share: u32, bake: &str) -> Value {
    let step = |share| json!({"share": share, "bake": bake, "must_exclude": 0});
    json!({"step": [step(share), step(100)]})
}

/// Lets green fail in this way in the first step of the plan, and says how long it takes.
async fn is_taken_back(
    kind: &str,
    stage: Stage,
    plan: &Value,
    fails: impl FnOnce(&Side),
    within: u64,
) -> anyhow::Result<String> {
    stage.start_plan("r1", "auto", plan).await?;
    let share = plan["step"][0]["share"].as_u64().context("a share")?;
    stage.becomes(Phase::Bake, u32::try_from(share)?, 200).await?;
    // The bake has begun: the failure comes in the middle of it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (failed, began) = (stage.failed(), Instant::now());
    fails(&stage.green);
    stage.goes_back(within).await?;
    let verdict = began.elapsed();
    stage.green_is(0, 10).await?;
    let last = began.elapsed();
    stage.becomes(Phase::RolledBack, 0, 70).await?;
    let why = stage.state().await?.why.unwrap_or_default();
    let failed = stage.failed() - failed;
    ensure!(stage.blue.failed() == 0);
    Ok(format!("{kind}: verdict after {verdict:.1?}, last node after {last:.1?}, {failed} requests failed: {why}"))
}

/// The same at 10 % of 200 requests a second on three nodes, for a kind that HAProxy sees.
async fn is_seen(kind: &str, proxied: Proxied, fails: impl FnOnce(&Side), within: u64) -> anyhow::Result<String> {
    is_taken_back(kind, Stage::of(proxied, 3, 67).await?, &plan(10, "1m"), fails, within).await
}

/// The same for a kind that only a metrics system sees, in a check of this name.
async fn is_measured(kind: &str, proxied: Proxied, check: &str, fails: impl FnOnce(&Side)) -> anyhow::Result<String> {
    let stage = Stage::of(proxied, 3, 67).await?;
    let sides = [("blue", stage.blue.tally().clone()), ("green", stage.green.tally().clone())];
    let exporter = Exporter::start(move || sides.iter().map(|(name, tally)| metrics(name, tally)).collect()).await?;
    let system = MetricsSystem::start(Kind::Prometheus, &exporter).await?;
    let query = |counter: &str| format!(r#"'sum(increase({counter}{{cluster="$label"}}[$window]))'"#);
    let named = |name: &str| {
        let (total, bad) = (query("requests_total"), query(&format!("{name}_requests_total")));
        format!("[checks.{name}]\nsource = \"metrics\"\nwindow = \"10s\"\ntotal = {total}\nbad = {bad}\n")
    };
    let checks = named("slow") + &named("failed");
    stage.rolloutd.add(&format!("[sources.metrics]\n{}scrape_interval = \"1s\"\n{checks}", system.source()))?;
    let mut plan = plan(10, "90s");
    plan["protocol"] = if proxied == Proxied::Tcp { "tcp" } else { "http" }.into();
    let labels = json!({"from": "blue", "to": "green"});
    plan["check"]["measured"] = json!({"use": check, "labels": labels, "slo": 0.01, "warm_up": "0s"});
    is_taken_back(kind, stage, &plan, fails, 170).await
}

/// The counters of a side.
fn metrics(name: &str, tally: &Tally) -> String {
    let counters =
        [("requests", tally.requests()), ("slow_requests", tally.slow()), ("failed_requests", tally.failed())];
    let lines = counters.map(|(counter, count)| format!("{counter}_total{{cluster=\"{name}\"}} {count}\n"));
    lines.concat()
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn answers_with_500_are_found() -> anyhow::Result<()> {
    println!("{}", is_seen("500", Proxied::Http, |green| green.behave(Behaviour::Status(500)), 60).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn answers_with_500_are_found_at_one_percent() -> anyhow::Result<()> {
    let (stage, fails) = (Stage::new(3, 34).await?, |green: &Side| green.behave(Behaviour::Status(500)));
    println!("{}", is_taken_back("500, at 1 % of 100 a second", stage, &plan(1, "1m"), fails, 30).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn one_answer_in_twenty_with_500_is_found() -> anyhow::Result<()> {
    println!("{}", is_seen("5 % of 500", Proxied::Http, |green| green.behave(Behaviour::Fails(50)), 180).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn answers_with_404_are_found() -> anyhow::Result<()> {
    println!("{}", is_seen("404", Proxied::Http, |green| green.behave(Behaviour::Status(404)), 120).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn closed_connections_are_found() -> anyhow::Result<()> {
    println!("{}", is_seen("close", Proxied::Http, |green| green.behave(Behaviour::Closes), 60).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn requests_that_never_end_are_found() -> anyhow::Result<()> {
    println!("{}", is_seen("hang", Proxied::Http, |green| green.behave(Behaviour::Hangs), 120).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn refused_connections_are_found_although_no_request_fails() -> anyhow::Result<()> {
    println!("{}", is_seen("refused, with redispatch", Proxied::Http, Side::close, 60).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn refused_connections_are_found_without_redispatch() -> anyhow::Result<()> {
    println!("{}", is_seen("refused, without redispatch", Proxied::WithoutRedispatch, Side::close, 60).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn slow_answers_are_found_by_a_named_check() -> anyhow::Result<()> {
    println!("{}", is_measured("slow", Proxied::Http, "slow", |green| green.behave(Behaviour::Slow)).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn failed_answers_inside_of_tcp_are_found_by_a_named_check() -> anyhow::Result<()> {
    println!(
        "{}",
        is_measured("tcp, 500", Proxied::Tcp, "failed", |green| green.behave(Behaviour::Status(500))).await?
    );
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn refused_connections_are_found_in_mode_tcp() -> anyhow::Result<()> {
    println!("{}", is_measured("tcp, refused", Proxied::Tcp, "failed", Side::close).await?);
    Ok(())
}
