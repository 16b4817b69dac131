//! Break-glass: weights that a person sets on this host without Consul are enforced like a document, until that is over.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    common::{SOON, backend, becomes, is, key, lines, put, reason, servers, state, stays},
    harness::{Consul, Haproxy, Weightd, eventually, weightd::weightctl},
};

/// Runs weightctl on the socket of this weightd, without any Consul, and expects its exit code. Returns what it said on
/// stderr.
async fn ends(weightd: &Weightd, code: i32, arguments: &[&str]) -> anyhow::Result<String> {
    let socket = weightd.dir().join("run/weightd.sock").display().to_string();
    let environment =
        [("WEIGHTD_SOCKET", socket.as_str()), ("USER", "alice"), ("CONSUL_HTTP_ADDR", "http://127.0.0.1:9")];
    let output = weightctl(&environment, arguments).await?;
    let said = String::from_utf8(output.stderr).context("no text")?;
    ensure!(output.status.code() == Some(code), "{arguments:?} ended with {} instead of {code}: {said}", output.status);
    Ok(said)
}

/// `override app` with these arguments, for 2 h.
async fn overrides(weightd: &Weightd, code: i32, arguments: &[&str]) -> anyhow::Result<String> {
    let all = [&["override", "app"], arguments, &["--local", "--for", "2h", "--reason", "Consul is gone"]].concat();
    ends(weightd, code, &all).await
}

/// `app` at 90/10, configured 0/100.
async fn settled() -> anyhow::Result<(Consul, Haproxy, Weightd)> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    let document =
        json!({ "weights": { "blue": 90, "green": 10 }, "back": { "weights": { "blue": 100, "green": 0 } } });
    consul.put(&key("app"), document.to_string()).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    state(&weightd, "app", "converged").await?;
    Ok((consul, haproxy, weightd))
}

/// Whether the fleet sees the override.
async fn fleet_has(consul: &Consul, word: &str) -> anyhow::Result<()> {
    eventually(Duration::from_secs(20), &format!("the fleet sees {word}"), async || {
        let report = consul.get("weightd/nodes/lb1").await?.context("no report")?;
        let report: Value = serde_json::from_slice(&report)?;
        ensure!(report["recent"][0][2] == word, "{report}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_consul_an_override_is_enforced_over_reloads_and_restarts_until_a_newer_document() -> anyhow::Result<()>
{
    // The data of this Consul survive its restart.
    let consul = Consul::start_with(crate::harness::consul::Options { durable: true, ..Default::default() });
    let haproxy = async { Haproxy::start(&backend("app", 0, 100)).await };
    let (mut consul, mut haproxy) = tokio::try_join!(consul, haproxy)?;
    put(&consul, "app", 90, 10).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    consul.kill().await?;

    let said = overrides(&weightd, 0, &["blue=0", "green=50"]).await?;
    ensure!(said.contains("in force") && said.contains("weightctl resume app"), "{said}");
    is(&haproxy, "app", 0, 50).await?;
    let status = state(&weightd, "app", "overridden").await?;
    ensure!(status["overridden"]["document"]["weights"]["blue"] == 90, "{status}");
    let told = reason(&weightd, "app", "overridden").await?;
    ensure!(told["detail"].as_str().is_some_and(|text| text.contains("alice: Consul is gone")), "{told}");
    assert_eq!(lines(&weightd, &[" WARN", "overridden:", "Consul is gone"]).len(), 1);

    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 50).await?;
    weightd.kill().await?;
    haproxy.reload_completely().await?;
    is(&haproxy, "app", 0, 100).await?;
    weightd.start_again().await?;
    becomes(&haproxy, "app", 0, 50).await?;
    state(&weightd, "app", "overridden").await?;

    // Consul is back with the same document.
    consul.start_again().await?;
    fleet_has(&consul, "overridden").await?;
    stays(&haproxy, "app", 0, 50).await?;
    // With another one.
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    state(&weightd, "app", "converged").await?;
    fleet_has(&consul, "set").await?;
    assert_eq!(lines(&weightd, &["the override ended", "newer_document"]).len(), 1);
    weightd.restart().await?;
    state(&weightd, "app", "converged").await?;
    is(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn back_takes_the_document_in_force_back_to_where_its_shift_began() -> anyhow::Result<()> {
    let (_consul, haproxy, weightd) = settled().await?;
    overrides(&weightd, 0, &["--back"]).await?;
    is(&haproxy, "app", 100, 0).await?;
    // From an override too, it is the document that says it.
    overrides(&weightd, 0, &["blue=1", "green=1"]).await?;
    overrides(&weightd, 0, &["--back"]).await?;
    is(&haproxy, "app", 100, 0).await?;
    let said = ends(&weightd, 0, &["resume", "app", "--local"]).await?;
    ensure!(said.contains("resumed"), "{said}");
    becomes(&haproxy, "app", 90, 10).await?;
    state(&weightd, "app", "converged").await?;
    Ok(())
}

#[tokio::test]
async fn an_override_that_is_not_on_disk_is_no_success() -> anyhow::Result<()> {
    let (_consul, haproxy, mut weightd) = settled().await?;
    weightd.stop().await?;
    // weightd cannot use this journal.
    let run = weightd.dir().join("run");
    let journals = std::fs::read_dir(&run)?.filter_map(|entry| Some(entry.ok()?.path()));
    let journals: Vec<_> = journals.filter(|path| path.extension().is_some_and(|kind| kind == "journal")).collect();
    ensure!(journals.len() == 1, "{journals:?}");
    for journal in &journals {
        std::fs::remove_file(journal)?;
        std::fs::create_dir(journal)?;
    }
    weightd.start_again().await?;
    state(&weightd, "app", "converged").await?;
    // The state file saves it within a second.
    let said = overrides(&weightd, 0, &["blue=1", "green=2"]).await?;
    ensure!(said.contains("in force"), "{said}");
    is(&haproxy, "app", 1, 2).await?;
    // Neither file can be written.
    let state_dir = weightd.dir().join("state");
    std::fs::remove_dir_all(&state_dir)?;
    std::fs::write(&state_dir, "")?;
    let said = overrides(&weightd, 1, &["blue=3", "green=4"]).await?;
    ensure!(said.contains("to disk; a restart of weightd would lose it") && said.contains("in force"), "{said}");
    is(&haproxy, "app", 3, 4).await
}

#[tokio::test]
async fn guards_unknown_servers_and_pauses_refuse_an_override() -> anyhow::Result<()> {
    let (consul, haproxy, weightd) = settled().await?;
    for (arguments, word) in [
        (&["blue=0", "green=0"][..], "--force"),
        (&["blue=0", "gren=100"], "these servers: blue, green"),
        (&["red=1"], "red"),
    ] {
        let said = overrides(&weightd, 7, arguments).await?;
        ensure!(said.contains(word), "{arguments:?}: no {word} in {said}");
    }
    let said = ends(&weightd, 7, &["override", "ap", "blue=1", "--for", "1h", "--reason", "r"]).await?;
    ensure!(said.contains("did you mean `app`"), "{said}");
    for arguments in [&["override", "app", "blue=1", "--for", "1h"][..], &["override", "app", "--for", "1h", "-m", "r"]]
    {
        ends(&weightd, 2, arguments).await?;
    }
    ends(&weightd, 0, &["pause", "app", "--for", "1h"]).await?;
    let said = overrides(&weightd, 7, &["blue=1"]).await?;
    ensure!(said.contains("weightctl resume"), "{said}");
    ends(&weightd, 0, &["resume", "app"]).await?;
    state(&weightd, "app", "converged").await?;
    is(&haproxy, "app", 90, 10).await?;
    put(&consul, "app", 80, 20).await?;
    becomes(&haproxy, "app", 80, 20).await?;
    let said = overrides(&weightd, 7, &["--back"]).await?;
    ensure!(said.contains("no field `back`"), "{said}");
    overrides(&weightd, 0, &["blue=0", "green=0", "--force"]).await?;
    is(&haproxy, "app", 0, 0).await
}

#[tokio::test]
async fn when_its_time_is_over_the_weights_stay_and_the_node_alarms() -> anyhow::Result<()> {
    let (consul, haproxy, mut weightd) = settled().await?;
    ends(&weightd, 0, &["override", "app", "blue=0", "green=50", "--for", "1s", "--reason", "r"]).await?;
    reason(&weightd, "app", "override_expired").await?;
    eventually(SOON, "the metric alarms", async || {
        let series = r#"weightd_backend_reasons{haproxy="haproxy",reason="override_expired"}"#;
        ensure!(weightd.metric(series).await? > 0.0);
        Ok(())
    })
    .await?;
    stays(&haproxy, "app", 0, 50).await?;
    weightd.restart().await?;
    reason(&weightd, "app", "override_expired").await?;
    stays(&haproxy, "app", 0, 50).await?;
    fleet_has(&consul, "overridden").await
}
