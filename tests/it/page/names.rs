//! The names of nodes are for those who may read `nodes/`.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{
    reading::words,
    safety::{token, with_acls},
    story,
};
use crate::{common::SOON, harness::eventually};

/// All that a person of an application may read, without `nodes/`.
const WITHOUT_NODES: &str = "key_prefix \"weightd/\" { policy = \"read\" }\n\
                             key_prefix \"weightd/nodes/\" { policy = \"deny\" }\n\
                             key_prefix \"weightd/inventory/\" { policy = \"deny\" }";

#[tokio::test]
async fn nodes_are_named_only_to_those_who_may_read_them() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let text = "no request reaches the new side on lb-01";
    let mut told = story::Told::new("app3").held("unwired", text);
    told.log.push(("holding", text, None, 300));
    told.log.push(("rolled_back", "back at 0 %; not applied on lb-01", None, 200));
    told.write(&consul).await?;
    story::nodes(&consul, &[], &[]).await?;
    let ann = page.person(consul.token().context("no token")?).await?;
    let eve = page.person(&token(&consul, "without-nodes", WITHOUT_NODES).await?).await?;
    for path in ["/", "/app/app3", "/activity"] {
        eventually(SOON, path, async || {
            let shown = words(&ann.page(path).await?);
            ensure!(shown.contains("lb-01"), "{path}: {shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        })
        .await?;
        let shown = words(&eve.page(path).await?);
        ensure!(shown.contains("app3") && !shown.contains("lb-0"), "{path}: {shown}");
    }
    let shown = words(&eve.page("/app/app3").await?);
    ensure!(shown.contains("Holds: no requests arrive"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn the_start_counts_the_nodes_that_another_person_measured() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let ann = page.person(consul.token().context("no token")?).await?;
    let eve = page.person(&token(&consul, "without-nodes", WITHOUT_NODES).await?).await?;
    // No weightd runs here, so that no node answers.
    eventually(Duration::from_secs(15), "the nodes were asked", async || {
        let shown = words(&ann.page("/app/app1/start").await?);
        ensure!(shown.contains("did not say which servers they have: lb-01, lb-02"), "{shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    })
    .await?;
    let shown = words(&eve.page("/app/app1/start").await?);
    ensure!(!shown.contains("lb-0"), "{shown}");
    ensure!(shown.contains("5 nodes did not say which servers they have"), "{shown}");
    Ok(())
}
