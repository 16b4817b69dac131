//! A kill of weightd changes no weight. The next start changes none either, even without Consul.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::{
    common::{SOON, backend, becomes, key, logged, put, servers},
    harness::{Haproxy, Weightd, eventually, gate::Gate, weightd::Settings},
};

/// The number of kills; the variable `KILLS` sets another number.
fn kills() -> u32 {
    std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

async fn green(haproxy: &Haproxy) -> anyhow::Result<u32> {
    haproxy.weights("app").await?.get("green").copied().context("no green")
}

/// Waits until weightd has enforced its state from disk, without Consul.
async fn enforced_from_disk(weightd: &Weightd) -> anyhow::Result<()> {
    eventually(SOON, "weightd has enforced the state on disk", async || weightd.get("/ready").await).await.map(drop)
}

#[tokio::test]
async fn a_crash_moves_no_weight_back() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let mut gate = Gate::open(&consul).await?;
    put(&consul, "app", 1, 0).await?;
    let mut weightd = Settings::without_haproxy(&gate.address()).haproxy("haproxy", &haproxy.address()).start().await?;
    becomes(&haproxy, "app", 1, 0).await?;
    let (mut last, mut applied) = (0, 0);
    for round in 1..=kills() {
        // The time of the kill varies: before Consul's answer, during the exchange with HAProxy, during the write of
        // files, after that.
        let weight = round % 256 + 1;
        put(&consul, "app", 1, weight).await?;
        let delay = Duration::from_micros(fastrand::u64(0..1 << (8 + round % 13)));
        tokio::time::sleep(delay).await;
        weightd.kill().await?;
        // HAProxy answers requests in order: after this answer, weightd's last command has been executed.
        let before = green(&haproxy).await?;
        gate.shut().await;
        weightd.start_again().await?;
        enforced_from_disk(&weightd).await?;
        let after = green(&haproxy).await?;
        let known = [before, weight];
        ensure!(known.contains(&after), "round {round}: {last}, then {before}, and {after} after the next start");
        applied += u32::from(before == weight);
        gate.open_again().await?;
        becomes(&haproxy, "app", 1, weight).await?;
        last = weight;
    }
    // The test is meaningless if every kill came too early or too late.
    ensure!(applied > 0 && applied < kills(), "{applied} of {} kills came after the change", kills());
    Ok(())
}

#[tokio::test]
async fn a_change_just_before_a_kill_survives_the_kill_and_a_reload() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    let mut gate = Gate::open(&consul).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Settings::without_haproxy(&gate.address()).haproxy("haproxy", &haproxy.address()).start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    for (blue, green) in [(50, 50), (0, 100), (100, 0)] {
        put(&consul, "app", blue, green).await?;
        becomes(&haproxy, "app", blue, green).await?;
        weightd.kill().await?;
        gate.shut().await;
        // The same files contain a released backend and other backends.
        haproxy.reload_again().await?;
        weightd.start_again().await?;
        becomes(&haproxy, "app", blue, green).await?;
        gate.open_again().await?;
        eventually(SOON, "weightd follows Consul again", async || {
            let status = weightd.status().await?;
            ensure!(status["instances"][0]["consul"]["state"] == "following", "{status}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_release_just_before_a_kill_survives_the_kill() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let mut gate = Gate::open(&consul).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Settings::without_haproxy(&gate.address()).haproxy("haproxy", &haproxy.address()).start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    consul.put(&key("app"), r#"{"release":true}"#).await?;
    crate::common::state(&weightd, "app", "released").await?;
    weightd.kill().await?;
    gate.shut().await;
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    weightd.start_again().await?;
    enforced_from_disk(&weightd).await?;
    crate::common::stays(&haproxy, "app", 70, 7).await
}

#[tokio::test]
async fn a_change_does_not_wait_for_the_disk() -> anyhow::Result<()> {
    // If the state cannot be written, changes continue, and the log names the consequence.
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &haproxy).bound_by_modes().start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    for folder in ["state", "run"] {
        std::fs::set_permissions(weightd.dir().join(folder), std::os::unix::fs::PermissionsExt::from_mode(0o500))?;
    }
    let start = Instant::now();
    put(&consul, "app", 50, 50).await?;
    becomes(&haproxy, "app", 50, 50).await?;
    ensure!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    logged(&weightd, 1, &["cannot write the state to disk"]).await.map(drop)
}
