//! `shift --wait`: both kinds of document are on every HAProxy when it ends with 0.

use anyhow::ensure;
use serde_json::json;

use super::{Node, fleet, run};
use crate::{
    common::{backend, is, key},
    harness::Consul,
};

#[tokio::test]
async fn a_shift_ends_with_0_when_every_haproxy_has_the_share() -> anyhow::Result<()> {
    let (consul, nodes) = fleet(2).await?;
    let shifted = run(&consul, "shift app1 green=25% --yes --wait").await?;
    shifted.expect(0, &["green 10% → 25%", "error 0.00 points", "done: 2 of 2 nodes have app1"])?;
    for node in &nodes {
        is(&node.haproxy, "app1", 3, 1).await?;
    }
    run(&consul, "shift app1 blue*=50% green*=50% --split --yes --wait").await?.expect(0, &["done: 2 of 2"])?;
    for node in &nodes {
        is(&node.haproxy, "app1", 1, 1).await?;
    }
    run(&consul, "shift app1 green* --step -30% --yes --wait").await?.expect(0, &["done: 2 of 2"])?;
    for node in &nodes {
        is(&node.haproxy, "app1", 4, 1).await?;
    }
    let status = run(&consul, "status app1 -o json").await?.json()?;
    let app1 = &status["backends"][0];
    ensure!(app1["state"] == "split" && app1["split"] == json!({ "blue*": 80, "green*": 20 }), "{status}");
    run(&consul, "status app1").await?.expect(0, &["split blue*=80% green*=20%"])?;
    Ok(())
}

#[tokio::test]
async fn a_split_that_fits_no_server_of_a_node_ends_the_wait() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), json!({ "split": { "blue": 100, "green": 0, "gray": 0 } }).to_string()).await?;
    let node = Node::start_with(&consul, "lb1", &backend("app1", 9, 1), |settings| settings).await?;
    node.has_newer(&consul, 0).await?;
    run(&consul, "shift app1 gray=10% --yes --wait").await?.expect(3, &["lb1", "unmatched"])?;
    Ok(())
}
