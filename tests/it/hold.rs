//! If Consul has no usable answer, the last accepted weights stay in force: over a reload of HAProxy, which has the
//! opposite configured weights, and over a restart of weightd.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::{
    common::{
        SOON, backend, becomes, consul_is, converged, document, is, key, lines, logged, metric, put, reason, servers,
        state, stays,
    },
    harness::{Consul, Haproxy, Weightd, always, consul, eventually, weightd::Settings},
};

/// The rule that weightd needs.
const POLICY: &str = r#"key_prefix "weightd/" { policy = "read" }"#;

/// Expects that the accepted weights 100/0 are restored: after a reload, and by a restarted weightd after another
/// reload.
async fn survives(haproxy: &mut Haproxy, weightd: &mut Weightd) -> anyhow::Result<()> {
    becomes(haproxy, "app", 100, 0).await?;
    haproxy.reload_again().await?;
    becomes(haproxy, "app", 100, 0).await?;
    weightd.stop().await?;
    haproxy.reload_completely().await?;
    is(haproxy, "app", 0, 100).await?;
    weightd.start_again().await?;
    becomes(haproxy, "app", 100, 0).await
}

/// Whether Consul answers, in the order in which a process logged it: a reason, or `answers`.
fn reasons(log: &str) -> Vec<String> {
    let reason = |line: &str| Some(line.split_once("reason=")?.1.split_once(' ')?.0.to_owned());
    let of = |line: &str| match line {
        _ if line.contains("Consul answers again") => Some("answers".to_owned()),
        _ if line.contains("Consul gives no usable answer") && line.contains("hint=") => reason(line),
        _ => None,
    };
    log.lines().filter_map(of).collect()
}

/// A Consul with ACLs, a token with the rules of [`POLICY`], and a weightd that reads the token from a file.
async fn with_token() -> anyhow::Result<(Consul, Haproxy, Weightd, PathBuf, String)> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    let haproxy = Haproxy::start(&backend("app", 0, 100)).await?;
    consul.http().set_policy("node", POLICY).await?;
    let token = consul.http().new_token("node").await?;
    let file = haproxy.dir().join("token");
    fs::write(&file, &token)?;
    put(&consul, "app", 100, 0).await?;
    let weightd = Settings::without_haproxy(&consul.address())
        .haproxy("haproxy", &haproxy.address())
        .set("consul.token_file", file.display().to_string())
        .start()
        .await?;
    becomes(&haproxy, "app", 100, 0).await?;
    Ok((consul, haproxy, weightd, file, token))
}

#[tokio::test]
async fn a_deleted_prefix_changes_no_weight() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    consul.delete_tree("weightd/").await?;
    reason(&weightd, "app", "orphaned").await?;
    survives(&mut haproxy, &mut weightd).await?;
    state(&weightd, "app", "orphaned").await?;
    let status = consul_is(&weightd, "following", None).await?;
    assert_eq!(status["empty"], true);
    assert_eq!(weightd.code("/ready").await?, 200);
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    state(&weightd, "app", "converged").await.map(drop)
}

#[tokio::test]
async fn a_consul_that_lost_its_data_changes_no_weight() -> anyhow::Result<()> {
    let (mut consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    // The index is then higher than that of the new data.
    for number in 0..50 {
        consul.put("other", number.to_string()).await?;
    }
    put(&consul, "app", 100, 0).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    consul.kill().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    consul.start_again().await?;
    consul_is(&weightd, "following", None).await?;
    reason(&weightd, "app", "orphaned").await?;
    survives(&mut haproxy, &mut weightd).await?;
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn a_token_with_fewer_rights_changes_no_weight() -> anyhow::Result<()> {
    let (consul, mut haproxy, mut weightd, _file, _token) = with_token().await?;
    consul.http().set_policy("node", r#"key_prefix "elsewhere/" { policy = "read" }"#).await?;
    // A blocked query keeps the old rights when it is woken. The next query waits for a write.
    let mut weight = 0;
    eventually(SOON, "the loss of rights is visible", async || {
        weight = (weight + 1) % 100;
        put(&consul, "other", weight, 0).await?;
        ensure!(weightd.backend("app").await?["orphaned"] == true, "not orphaned");
        Ok(())
    })
    .await?;
    reason(&weightd, "app", "orphaned").await?;
    survives(&mut haproxy, &mut weightd).await?;
    reason(&weightd, "app", "orphaned").await?;

    consul.http().set_policy("node", POLICY).await?;
    put(&consul, "app", 70, 30).await?;
    eventually(SOON, "the new rights are visible", async || {
        weight = (weight + 1) % 100;
        put(&consul, "other", weight, 0).await?;
        is(&haproxy, "app", 70, 30).await
    })
    .await?;
    state(&weightd, "app", "converged").await.map(drop)
}

#[tokio::test]
async fn a_deleted_token_changes_no_weight_and_a_new_token_is_read_from_its_file() -> anyhow::Result<()> {
    let (consul, mut haproxy, mut weightd, file, token) = with_token().await?;
    consul.http().delete_token(&token).await?;
    put(&consul, "other", 1, 2).await?;
    consul_is(&weightd, "held", Some("denied")).await?;
    survives(&mut haproxy, &mut weightd).await?;
    consul_is(&weightd, "held", Some("denied")).await?;
    assert!(weightd.code("/ready").await? == 200, "weightd stays ready without Consul");

    put(&consul, "app", 70, 30).await?;
    fs::write(&file, consul.http().new_token("node").await?)?;
    consul_is(&weightd, "following", None).await?;
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn a_stopped_consul_changes_no_weight() -> anyhow::Result<()> {
    let mut consul = Consul::start_with(consul::Options { durable: true, acl: false, ..Default::default() }).await?;
    let mut haproxy = Haproxy::start(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    consul.stop().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    survives(&mut haproxy, &mut weightd).await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    eventually(SOON, "weightd is ready without Consul", async || {
        let code = weightd.code("/ready").await?;
        ensure!(code == 200, "{code}");
        Ok(())
    })
    .await?;
    assert_eq!(metric(&weightd, "weightd_consul_up", "").await?, 0);
    // Retried after at least 100 ms. Each of the two processes logs a reason once until it changes. A Consul that
    // stops can first close the connection, answer another request, or answer without a leader.
    let uptime = weightd.status().await?["uptime_seconds"].as_f64().context("no uptime")?;
    let errors = metric(&weightd, "weightd_consul_errors_total", ",reason=\"unreachable\"").await?;
    assert!(f64::from(u32::try_from(errors)?) <= 1.0 + uptime * 10.0, "{errors} in {uptime} s");
    let log = weightd.log();
    let processes: Vec<_> = log.split("weightd starts").skip(1).map(reasons).collect();
    assert_eq!(processes.len(), 2, "{log}");
    for mut reasons in processes {
        assert_eq!(reasons.last().map(String::as_str), Some("unreachable"), "{log}");
        let logged = reasons.len();
        reasons.dedup();
        assert_eq!(logged, reasons.len(), "{log}");
    }

    consul.start_again().await?;
    put(&consul, "app", 70, 30).await?;
    consul_is(&weightd, "following", None).await?;
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn the_state_on_disk_is_enforced_three_seconds_after_a_start_while_consul_hangs() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    weightd.stop().await?;
    haproxy.reload_again().await?;
    put(&consul, "app", 70, 30).await?;

    let paused = consul.pause()?;
    let start = Instant::now();
    weightd.start_again().await?;
    always(Duration::from_secs(2), "weightd waits for Consul", async || is(&haproxy, "app", 0, 100).await).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    let after = start.elapsed();
    assert!((Duration::from_millis(2900)..Duration::from_secs(6)).contains(&after), "{after:?}");
    drop(paused);
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn a_valid_document_overrides_the_state_on_disk() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    weightd.stop().await?;
    put(&consul, "app", 70, 30).await?;
    haproxy.reload_again().await?;
    let before = lines(&weightd, &["weight set"]).len();
    weightd.start_again().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    let set = logged(&weightd, before + 2, &["weight set"]).await?.split_off(before);
    assert!(
        set.iter().all(|line| line.contains("=70") || line.contains("=30")),
        "straight to what is desired: {set:#?}"
    );
    Ok(())
}

/// The only state file of a weightd.
fn state_file(weightd: &Weightd) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(weightd.dir().join("state"))?.collect::<Result<Vec<_>, _>>()?;
    let files = files.into_iter().map(|file| file.path());
    let mut files = files.filter(|file| file.extension().is_some_and(|extension| extension == "state"));
    files.next().context("no state file")
}

#[tokio::test]
async fn a_corrupt_state_file_is_renamed_and_nothing_is_enforced_before_the_first_valid_read() -> anyhow::Result<()> {
    let (mut consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    weightd.stop().await?;
    let file = state_file(&weightd)?;
    let mut bytes = fs::read(&file)?;
    let at = bytes.len() - 20;
    bytes[at] ^= 0x10;
    fs::write(&file, bytes)?;
    haproxy.reload_again().await?;
    consul.kill().await?;

    weightd.start_again().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    stays(&haproxy, "app", 0, 100).await?;
    assert!(file.with_extension("state.corrupt").exists());
    assert!(weightd.logs_contain(&[" WARN", "cannot use the state on disk", "is damaged"]), "{}", weightd.log());
    consul.start_again().await?;
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn weightd_runs_without_a_writable_state_directory_and_writes_the_state_later() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    eventually(SOON, "the state is written", async || state_file(&weightd)).await?;
    // A file in place of the directory also stops root.
    let dir = weightd.dir().join("state");
    fs::remove_dir_all(&dir)?;
    fs::write(&dir, "")?;
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let errors = eventually(SOON, "more than one error is counted", async || {
        let errors = metric(&weightd, "weightd_state_persist_errors_total", "").await?;
        ensure!(errors > 1, "{errors}");
        Ok(errors)
    })
    .await?;
    let logged = lines(&weightd, &["cannot write the state to disk", "hint="]).len();
    assert_eq!(logged, 1, "logged once and counted {errors} times");
    assert_eq!(weightd.code("/ready").await?, 200);
    fs::remove_file(&dir)?;
    eventually(SOON, "the state is written again", async || state_file(&weightd)).await.map(drop)
}

#[tokio::test]
async fn a_release_deletes_the_accepted_state_and_changes_no_weight() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&(backend("app", 0, 100) + &backend("other", 0, 100))).await?;
    put(&consul, "app", 100, 0).await?;
    put(&consul, "other", 100, 0).await?;
    let mut weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    consul.put(&key("app"), r#"{"release": true}"#).await?;
    let status = state(&weightd, "app", "released").await?;
    assert_eq!((&status["accepted"], &status["desired"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    is(&haproxy, "app", 100, 0).await?;
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    stays(&haproxy, "app", 100, 7).await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "other", 100, 0).await?;
    stays(&haproxy, "app", 0, 100).await?;
    weightd.restart().await?;
    converged(&weightd).await?;
    // The weights do not return from the disk after the release document is deleted.
    consul.delete(&key("app")).await?;
    eventually(SOON, "the state on disk is deleted", async || {
        ensure!(weightd.backend("app").await.is_err(), "still there");
        Ok(())
    })
    .await?;
    weightd.restart().await?;
    converged(&weightd).await?;
    is(&haproxy, "app", 0, 100).await?;
    consul.put(&key("app"), document(70, 30)).await?;
    becomes(&haproxy, "app", 70, 30).await
}
