//! A deleted leaf is no instruction: its last weight stays in force.

use anyhow::ensure;

use crate::{
    common::{SOON, backend, becomes, converged, instance, key, put, reason, servers, state, stays},
    harness::{Consul, Haproxy, Weightd, consul::Options, eventually, weightd::Settings},
};

/// A HAProxy with configured weights 50 and 50, and Consul with two leaves: 0 and 100.
async fn shifted() -> anyhow::Result<(Consul, Haproxy, Weightd)> {
    let (consul, haproxy) = servers(&backend("app", 50, 50)).await?;
    leaf(&consul, "blue", 0).await?;
    leaf(&consul, "green", 100).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 0, 100).await?;
    converged(&weightd).await?;
    Ok((consul, haproxy, weightd))
}

async fn leaf(consul: &Consul, server: &str, weight: u32) -> anyhow::Result<()> {
    consul.put(&key(&format!("app/{server}")), weight.to_string()).await
}

#[tokio::test]
async fn a_deleted_leaf_keeps_its_weight_over_reloads_and_restarts() -> anyhow::Result<()> {
    let (consul, mut haproxy, mut weightd) = shifted().await?;
    consul.delete(&key("app/blue")).await?;
    state(&weightd, "app", "orphaned").await?;
    let why = reason(&weightd, "app", "orphaned").await?;
    assert!(why["detail"].as_str().is_some_and(|detail| detail.contains("blue")), "{why}");
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 100).await?;
    stays(&haproxy, "app", 0, 100).await?;
    weightd.restart().await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 100).await?;
    state(&weightd, "app", "orphaned").await?;
    haproxy.set_weight_by_hand("app", "blue", 50).await?;
    becomes(&haproxy, "app", 0, 100).await?;
    // The other leaf is followed, and blue stays.
    leaf(&consul, "green", 90).await?;
    becomes(&haproxy, "app", 0, 90).await?;
    state(&weightd, "app", "orphaned").await?;
    // A new value of the leaf ends this.
    leaf(&consul, "blue", 10).await?;
    becomes(&haproxy, "app", 10, 90).await?;
    state(&weightd, "app", "converged").await.map(drop)
}

#[tokio::test]
async fn a_leaf_that_the_token_may_no_longer_read_keeps_its_weight() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    let mut haproxy = Haproxy::start(&backend("app", 50, 50)).await?;
    leaf(&consul, "blue", 0).await?;
    leaf(&consul, "green", 100).await?;
    consul.http().set_policy("node", r#"key_prefix "weightd/weights/" { policy = "read" }"#).await?;
    let token = consul.http().new_token("node").await?;
    let weightd = Settings::new(&consul, &haproxy).env("CONSUL_HTTP_TOKEN", &token).start().await?;
    becomes(&haproxy, "app", 0, 100).await?;
    let narrow =
        r#"key_prefix "weightd/weights/" { policy = "read" } key "weightd/weights/app/blue" { policy = "deny" }"#;
    consul.http().set_policy("node", narrow).await?;
    // Consul does not wake a blocked query for a change of rights. The plain read finds it.
    eventually(std::time::Duration::from_secs(20), "the missing leaf is reported", async || {
        let app = weightd.backend("app").await?;
        ensure!(app["orphaned"] == true && app["state"] == "orphaned", "{app}");
        Ok(())
    })
    .await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 100).await?;
    stays(&haproxy, "app", 0, 100).await
}

#[tokio::test]
async fn a_leaf_after_a_deleted_document_changes_only_its_server() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 50, 50)).await?;
    put(&consul, "app", 0, 100).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 0, 100).await?;
    consul.delete(&key("app")).await?;
    state(&weightd, "app", "orphaned").await?;
    leaf(&consul, "green", 80).await?;
    becomes(&haproxy, "app", 0, 80).await?;
    state(&weightd, "app", "orphaned").await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 80).await?;
    assert_eq!(instance(&weightd, 0).await?["converged"], true, "every weight that Consul has is in force");
    eventually(SOON, "the orphaned leaf is reported", async || {
        let app = weightd.backend("app").await?;
        ensure!(app["reasons"].to_string().contains("blue"), "{app}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_document_replaces_the_leaves_completely() -> anyhow::Result<()> {
    let (consul, haproxy, weightd) = shifted().await?;
    consul.delete(&key("app/blue")).await?;
    state(&weightd, "app", "orphaned").await?;
    consul.delete(&key("app/green")).await?;
    state(&weightd, "app", "orphaned").await?;
    consul.put(&key("app"), r#"{"weights":{"green":60}}"#).await?;
    becomes(&haproxy, "app", 0, 60).await?;
    let app = state(&weightd, "app", "converged").await?;
    assert_eq!(app["orphaned"], false, "{app}");
    // From now on, weightd does not manage the servers that the document does not name.
    haproxy.set_weight_by_hand("app", "blue", 7).await?;
    stays(&haproxy, "app", 7, 60).await
}
