//! A Consul that is restored from a snapshot: the sessions and keys of an earlier time come back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use tokio::time::Instant;

use crate::{
    common::{SOON, backend, becomes, key, put},
    fleet_node::{destroy, is_back, says, session, stands},
    harness::{Consul, Haproxy, Weightd, consul, consul::expect_ok, eventually},
};

#[tokio::test]
async fn after_a_restored_snapshot_the_key_is_back_without_a_false_duplicate() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { durable: true, ..Default::default() });
    let haproxy = async { Haproxy::start(&backend("app", 0, 100)).await };
    let (consul, haproxy) = tokio::try_join!(consul, haproxy)?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    says(&consul, "app", "set").await?;
    let former = session(&consul).await?;
    let snapshot = consul.http().request(Method::GET, "snapshot").send().await?.bytes().await?;

    // The snapshot has a session that this weightd has not any more, and an older document.
    destroy(&consul, &former).await?;
    is_back(&consul, &former).await?;
    put(&consul, "app", 80, 20).await?;
    says(&consul, "app", "set").await?;
    let present = session(&consul).await?;
    expect_ok(consul.http().request(Method::PUT, "snapshot").body(snapshot)).await?;
    let start = Instant::now();
    eventually(Duration::from_secs(15), "a session of now holds the key", async || {
        let now = session(&consul).await?;
        ensure!(now != former && now != present, "{now}");
        Ok(())
    })
    .await?;
    eprintln!("the key is back {:?} after the restore", start.elapsed());
    // The older document counts again: a restore is an instruction of the operator.
    let restored = consul.get(&key("app")).await?.context("no document")?;
    ensure!(String::from_utf8(restored)?.contains("90"), "the snapshot has the older document");
    eventually(Duration::from_secs(60), "the report has the restored document", async || {
        says(&consul, "app", "set").await
    })
    .await?;
    becomes(&haproxy, "app", 90, 10).await?;
    stands(&weightd, SOON, "published").await?;
    ensure!(!weightd.log().contains("another machine publishes"), "{}", weightd.log());
    Ok(())
}
