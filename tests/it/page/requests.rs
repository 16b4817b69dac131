//! What people ask of a rollout while no controller leads.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::StatusCode;
use serde_json::Value;
use weightd_core::rollout::Phase;

use super::{
    reading::words,
    story::{self, Told},
};
use crate::{
    common::{SOON, key},
    harness::{
        Consul, eventually,
        page::{Page, Visitor},
    },
};

/// What somebody asked for.
async fn request(consul: &Consul) -> anyhow::Result<Value> {
    let value = consul.get("weightd/rollouts/request/checkout").await?.context("no request")?;
    Ok(serde_json::from_slice(&value)?)
}

/// Asks for something, and returns the page that says what became of it.
async fn ask(person: &Visitor, verb: &str, mode: &str) -> anyhow::Result<String> {
    let form = [("rollout", "checkout-1"), ("at", "7"), ("mode", mode), ("reason", "")];
    let answer = person.post(&format!("/app/checkout/{verb}"), &form).await?;
    if answer.status == StatusCode::CONFLICT {
        return Ok(answer.text);
    }
    ensure!(answer.status == StatusCode::SEE_OTHER, "{verb}: {}", words(&answer.text));
    person.page("/app/checkout").await
}

/// A rollout that no controller leads, and a page.
async fn stage(told: Told) -> anyhow::Result<(Consul, Page)> {
    let consul = Consul::start().await?;
    told.write(&consul).await?;
    story::nodes(&consul, &[], &[]).await?;
    let page = Page::start(&consul, None).await?;
    Ok((consul, page))
}

#[tokio::test]
async fn an_abort_that_nobody_answered_stays_and_is_shown() -> anyhow::Result<()> {
    let (consul, page) = stage(Told::new("checkout")).await?;
    let (ann, bob) = (page.named("ann").await?, page.named("bob").await?);
    let own = words(&ask(&ann, "abort", "").await?);
    ensure!(own.contains("Rolled back: the new side has 0 %."), "{own}");
    let asked = request(&consul).await?;
    ensure!(asked["verb"] == "abort" && asked["wrote"] == true && asked["by"] == "ann", "{asked}");
    for (verb, mode) in [("pause", ""), ("resume", ""), ("promote", ""), ("mode", "watch")] {
        let answer = words(&ask(&bob, verb, mode).await?);
        ensure!(answer.contains("Nothing was written. ann asked at "), "{verb}: {answer}");
        ensure!(request(&consul).await? == asked, "{verb} replaced it");
    }
    eventually(Duration::from_secs(20), "the page shows what is asked for", async || {
        let shown = words(&bob.page("/app/checkout").await?);
        let told = shown.contains("to roll it back, and wrote the weights. No controller has answered.");
        ensure!(told && !shown.contains("Nothing was written."), "{shown}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_moves_traffic_is_taken_back_and_a_pause_stays() -> anyhow::Result<()> {
    let (consul, page) = stage(Told::new("checkout")).await?;
    let (ann, bob) = (page.named("ann").await?, page.named("bob").await?);
    // Two people at once: only one can ask.
    let (first, second) = tokio::try_join!(ask(&ann, "mode", "guard"), ask(&bob, "promote", ""))?;
    for html in [first, second] {
        let text = words(&html);
        let not_done = ["It was taken back, and nothing will happen.", "Nothing was written. ", "Somebody else asked"];
        ensure!(not_done.iter().any(|part| text.contains(part)) && !html.contains("note done"), "{text}");
    }
    ensure!(request(&consul).await? == serde_json::json!({}), "it stays");
    let pause = words(&ask(&ann, "pause", "").await?);
    ensure!(pause.contains("The request stays, and is done as soon as one does."), "{pause}");
    let promote = words(&ask(&bob, "promote", "").await?);
    ensure!(promote.contains("Nothing was written. ann asked at ") && promote.contains("to pause it."), "{promote}");
    ensure!(request(&consul).await?["verb"] == "pause");
    // A person who goes back always wins.
    let back = words(&ask(&bob, "abort", "").await?);
    ensure!(back.contains("Rolled back: the new side has 0 %."), "{back}");
    ensure!(request(&consul).await?["verb"] == "abort");
    Ok(())
}

#[tokio::test]
async fn an_end_that_no_controller_has_answered_is_no_good_news() -> anyhow::Result<()> {
    let (consul, page) = stage(Told { share: 0, step: 0, phase: Phase::Preflight, ..Told::new("checkout") }).await?;
    let before = consul.index(&key("checkout")).await?;
    let ann = page.named("ann").await?;
    let html = ask(&ann, "abort", "").await?;
    let text = words(&html);
    let expected =
        "No controller answers. The request stays, and the rollout ends as soon as one does. Nothing had moved.";
    ensure!(text.contains(expected) && html.contains("note bad") && !html.contains("note done"), "{text}");
    ensure!(request(&consul).await?["wrote"] != true && consul.index(&key("checkout")).await? == before);
    Ok(())
}

#[tokio::test]
async fn a_request_is_taken_back_although_the_person_has_left() -> anyhow::Result<()> {
    let (consul, page) = stage(Told::new("checkout")).await?;
    let ann = page.named("ann").await?;
    let written = eventually(SOON, "the request is written", async || {
        let request = request(&consul).await?;
        ensure!(request["verb"] == "promote", "{request}");
        Ok(())
    });
    let form = [("rollout", "checkout-1"), ("at", "7")];
    tokio::select! {
        answer = ann.post("/app/checkout/promote", &form) => bail!("answered: {}", words(&answer?.text)),
        written = written => written?,
    }
    // The tab is closed, and the controller that starts hours later must not promote.
    eventually(SOON, "it is taken back", async || {
        ensure!(request(&consul).await? == serde_json::json!({}), "it stays");
        Ok(())
    })
    .await
}
