//! Shares that are computed for the servers that the nodes have.

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::reading::{hidden, words};
use crate::{
    common::{SOON, key},
    harness::{Consul, Haproxy, config, eventually, page::Page, weightd::Settings},
};

#[tokio::test]
async fn a_share_is_computed_for_the_servers_that_the_nodes_have() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let document = json!({"weights": {"blue-1": 50, "blue-2": 50, "blue-3": 50, "green-1": 0}, "by": "bob"});
    consul.put(&key("app1"), document.to_string()).await?;
    let servers = [("blue-1", 1, 100), ("blue-2", 2, 100), ("blue-3", 3, 100), ("green-1", 4, 0)];
    let haproxy = Haproxy::start(&config::backend("app1", &[], &servers, "")).await?;
    haproxy.command("set server app1/blue-3 state maint").await?;
    let _weightd = Settings::new(&consul, &haproxy).set("node", "lb1").start().await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let review = eventually(SOON, "the node says which servers it has", async || {
        let review = ann.page("/app/app1/weights?share=50").await?;
        ensure!(
            words(&review).contains("Computed for the servers of the nodes; 1 of 1 node answered."),
            "{}",
            words(&review)
        );
        Ok(review)
    })
    .await?;
    let (seen, sure) = (hidden(&review, "weights", "seen")?, hidden(&review, "weights", "sure")?);
    // Other servers since than those that were looked at.
    let post =
        async |sure: &str| ann.post("/app/app1/weights", &[("share", "50"), ("seen", &seen), ("sure", sure)]).await;
    let other = post("blue-1=1 blue-2=1 blue-3=1 green-1=1").await?;
    ensure!(other.status == StatusCode::CONFLICT, "{}", words(&other.text));
    let written = post(&sure).await?;
    ensure!(written.status == StatusCode::SEE_OTHER, "{}", words(&written.text));
    let document: Value = serde_json::from_slice(&consul.get(&key("app1")).await?.context("no document")?)?;
    let weight = |server: &str| document["weights"][server].as_u64().unwrap_or_default();
    ensure!(weight("green-1") == weight("blue-1") + weight("blue-2") && weight("blue-1") > 0, "{document}");
    Ok(())
}
