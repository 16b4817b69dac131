//! The guards against a backend without usable servers: which documents they reject and which they accept.

use std::{fmt::Write as _, time::Duration};

use anyhow::ensure;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    common::{SOON, becomes, converged, document, is, key, lines, metric, put, reason, state, stays},
    harness::{Apps, Consul, Haproxy, Port, Traffic, Weightd, config, eventually, traffic::Rate, weightd::Settings},
};

const CHECKED: &str = "check inter 100ms fall 2 rise 1";

/// A backend with checked servers.
fn checked(name: &str, apps: &Apps, blue: u16, green: u16) -> String {
    let servers = [("blue", apps.blue.port(), blue), ("green", apps.green.port(), green)];
    config::backend(name, &["balance roundrobin"], &servers, CHECKED)
}

/// A Consul, this HAProxy, and a weightd with a resync every second.
async fn start(body: &str) -> anyhow::Result<(Consul, Haproxy, Weightd)> {
    let (consul, haproxy) = tokio::try_join!(Consul::start(), Haproxy::start(body))?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    Ok((consul, haproxy, weightd))
}

/// Waits until HAProxy's health check reports that a server is up or down.
async fn health(haproxy: &Haproxy, backend: &str, server: &str, word: &str) -> anyhow::Result<()> {
    eventually(SOON, &format!("{backend}/{server} is {word}"), async || {
        let stat = haproxy.command(&format!("show stat {backend} 4 -1")).await?;
        let row = stat.lines().find(|line| line.starts_with(&format!("{backend},{server},"))).unwrap_or_default();
        // A status without a completed check does not count.
        ensure!(row.split(',').nth(17) == Some(word) && !row.contains("INI"), "{row}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_shift_to_a_side_that_is_down_is_applied_when_it_is_up_also_after_a_reload_and_a_restart()
-> anyhow::Result<()> {
    let mut apps = Apps::start().await?;
    // The configured weights are the dangerous ones: all on green.
    let (consul, mut haproxy, mut weightd) = start(&checked("app", &apps, 0, 100)).await?;
    health(&haproxy, "app", "blue", "UP").await?;
    put(&consul, "app", 100, 0).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    apps.green.stop().await?;
    health(&haproxy, "app", "green", "DOWN").await?;

    put(&consul, "app", 0, 100).await?;
    reason(&weightd, "app", "guarded").await?;
    state(&weightd, "app", "guarded").await?;
    assert_eq!(metric(&weightd, "weightd_backend_reasons", ",reason=\"guarded\"").await?, 1);
    is(&haproxy, "app", 100, 0).await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    stays(&haproxy, "app", 100, 0).await?;
    weightd.stop().await?;
    haproxy.reload_again().await?;
    weightd.start_again().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    stays(&haproxy, "app", 100, 0).await?;
    state(&weightd, "app", "guarded").await?;
    assert!(weightd.logs_contain(&[" WARN", "reason=guarded", "hint=", "backend=app"]), "{}", weightd.log());

    apps.green.start_again().await?;
    let up = Instant::now();
    haproxy.until_weights("app", &[("blue", 0), ("green", 100)], Duration::from_secs(15)).await?;
    let after = up.elapsed();
    assert!(after > Duration::from_secs(9), "accepted after only {after:?}");
    state(&weightd, "app", "converged").await.map(drop)
}

#[tokio::test]
async fn a_shift_to_a_flapping_side_is_not_applied() -> anyhow::Result<()> {
    let mut apps = Apps::start().await?;
    let (consul, haproxy, weightd) = start(&checked("app", &apps, 100, 0)).await?;
    put(&consul, "app", 100, 0).await?;
    converged(&weightd).await?;
    apps.green.stop().await?;
    health(&haproxy, "app", "green", "DOWN").await?;
    put(&consul, "app", 0, 100).await?;
    reason(&weightd, "app", "guarded").await?;
    let start = Instant::now();
    let detail = async |words: &str| {
        eventually(SOON, words, async || {
            let reason = reason(&weightd, "app", "guarded").await?;
            ensure!(reason["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{reason}");
            Ok(())
        })
        .await
    };
    apps.green.start_again().await?;
    detail("less than 10 s").await?;
    apps.green.stop().await?;
    detail("no usable server").await?;
    apps.green.start_again().await?;
    let again = Instant::now();
    haproxy.until_weights("app", &[("blue", 0), ("green", 100)], Duration::from_secs(15)).await?;
    assert!(
        again.elapsed() > Duration::from_secs(9),
        "{:?} after the last time, {:?}",
        again.elapsed(),
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn an_accepted_document_stays_in_force_when_its_side_goes_down_and_an_error_is_logged() -> anyhow::Result<()> {
    let mut apps = Apps::start().await?;
    let (consul, mut haproxy, weightd) = start(&checked("app", &apps, 100, 0)).await?;
    health(&haproxy, "app", "green", "UP").await?;
    put(&consul, "app", 0, 100).await?;
    haproxy.until_weights("app", &[("blue", 0), ("green", 100)], Duration::from_secs(5)).await?;
    converged(&weightd).await?;
    apps.green.stop().await?;
    reason(&weightd, "app", "no_usable_server").await?;
    assert!(weightd.logs_contain(&["ERROR", "reason=no_usable_server", "hint=", "backend=app"]), "{}", weightd.log());
    stays(&haproxy, "app", 0, 100).await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 100).await?;
    reason(&weightd, "app", "no_usable_server").await?;
    // The same weights with another reason are not a change that a guard could reject.
    let again = json!({ "weights": { "blue": 0, "green": 100 }, "reason": "still" }).to_string();
    consul.put(&key("app"), again).await?;
    eventually(SOON, "the document is accepted", async || {
        let app = weightd.backend("app").await?;
        ensure!(app["accepted"]["reason"] == "still", "{app}");
        Ok(())
    })
    .await?;
    state(&weightd, "app", "no_usable_server").await?;
    is(&haproxy, "app", 0, 100).await?;
    // A shift back needs no wait: the other side is up.
    put(&consul, "app", 100, 0).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    state(&weightd, "app", "converged").await.map(drop)
}

#[tokio::test]
async fn all_weights_zero_are_rejected_without_force() -> anyhow::Result<()> {
    let apps = Apps::start().await?;
    let (consul, haproxy, weightd) = start(&checked("app", &apps, 100, 0)).await?;
    put(&consul, "app", 90, 10).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    put(&consul, "app", 0, 0).await?;
    let reason = reason(&weightd, "app", "guarded").await?;
    assert!(reason["remedy"].as_str().is_some_and(|remedy| remedy.contains("--force")), "{reason}");
    stays(&haproxy, "app", 90, 10).await?;
    let forced = json!({ "weights": { "blue": 0, "green": 0 }, "force": true });
    consul.put(&key("app"), forced.to_string()).await?;
    becomes(&haproxy, "app", 0, 0).await?;
    state(&weightd, "app", "converged").await?;
    // `force` is valid for one document only.
    consul.put(&key("app"), document(0, 0)).await?;
    crate::common::reason(&weightd, "app", "guarded").await?;
    put(&consul, "app", 1, 0).await?;
    becomes(&haproxy, "app", 1, 0).await
}

#[tokio::test]
async fn servers_in_maintenance_or_drain_and_backup_servers_do_not_count_as_usable() -> anyhow::Result<()> {
    let apps = Apps::start().await?;
    let mut body = checked("maint", &apps, 100, 0) + &checked("drain", &apps, 100, 0) + &checked("up", &apps, 100, 0);
    let servers = [("blue", apps.blue.port(), 100)];
    body += &config::backend("backup", &["balance roundrobin"], &servers, CHECKED);
    writeln!(body, "    server green 127.0.0.1:{} weight 0 backup {CHECKED}", apps.green.port())?;
    let (consul, haproxy, weightd) = start(&body).await?;
    let all = ["maint", "drain", "backup", "up"];
    for name in all {
        put(&consul, name, 100, 0).await?;
        health(&haproxy, name, "green", "UP").await?;
    }
    converged(&weightd).await?;
    haproxy.command("set server maint/green state maint").await?;
    haproxy.command("set server drain/green state drain").await?;
    for name in all {
        put(&consul, name, 0, 100).await?;
    }
    becomes(&haproxy, "up", 0, 100).await?;
    for name in &all[..3] {
        reason(&weightd, name, "guarded").await?;
        stays(&haproxy, name, 100, 0).await?;
    }
    // If other servers are usable, a server in maintenance gets its weight, and its state stays.
    put(&consul, "maint", 50, 50).await?;
    becomes(&haproxy, "maint", 50, 50).await?;
    let stat = haproxy.command("show stat maint 4 -1").await?;
    assert!(stat.lines().any(|line| line.starts_with("maint,green,") && line.contains(",MAINT,")), "{stat}");
    Ok(())
}

#[tokio::test]
async fn a_tracking_server_has_the_health_of_the_tracked_server() -> anyhow::Result<()> {
    let mut apps = Apps::start().await?;
    let mut body = checked("probe", &apps, 1, 1);
    for name in ["app", "zoo"] {
        let servers = [("blue", apps.blue.port(), 100)];
        body += &config::backend(name, &["balance roundrobin"], &servers, "track probe/blue");
        writeln!(body, "    server green 127.0.0.1:{} weight 0 track probe/green", apps.green.port())?;
    }
    let (consul, haproxy, weightd) = start(&body).await?;
    health(&haproxy, "probe", "green", "UP").await?;
    // Already with the first document, with and without a document for the tracked backend.
    put(&consul, "app", 0, 100).await?;
    haproxy.until_weights("app", &[("blue", 0), ("green", 100)], Duration::from_secs(5)).await?;
    put(&consul, "app", 100, 0).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    put(&consul, "probe", 1, 1).await?;
    put(&consul, "zoo", 100, 0).await?;
    converged(&weightd).await?;

    apps.green.stop().await?;
    health(&haproxy, "probe", "green", "DOWN").await?;
    for name in ["app", "zoo"] {
        put(&consul, name, 0, 100).await?;
        reason(&weightd, name, "guarded").await?;
        stays(&haproxy, name, 100, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_the_document_does_not_name_counts_as_usable() -> anyhow::Result<()> {
    let mut apps = Apps::start().await?;
    let (blue, green) = (apps.blue.port(), apps.green.port());
    let servers = [("blue", blue, 100), ("green", blue, 0), ("gold", green, 50)];
    let (consul, haproxy, weightd) = start(&config::backend("app", &["balance roundrobin"], &servers, CHECKED)).await?;
    for server in ["blue", "green", "gold"] {
        health(&haproxy, "app", server, "UP").await?;
    }
    put(&consul, "app", 100, 0).await?;
    reason(&weightd, "app", "unnamed").await?;
    converged(&weightd).await?;
    put(&consul, "app", 0, 0).await?;
    becomes(&haproxy, "app", 0, 0).await?;
    assert_eq!(haproxy.weights("app").await?["gold"], 50);
    put(&consul, "app", 100, 0).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    apps.green.stop().await?;
    health(&haproxy, "app", "gold", "DOWN").await?;
    put(&consul, "app", 0, 0).await?;
    reason(&weightd, "app", "guarded").await?;
    stays(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn a_renamed_server_never_leads_to_weight_zero_on_all_servers() -> anyhow::Result<()> {
    let (apps, port) = (Apps::start().await?, Port::free()?);
    let body = |name| {
        let servers = [("blue", apps.blue.port(), 100), (name, apps.green.port(), 0)];
        let frontend = format!("frontend f\n    bind 127.0.0.1:{port}\n    default_backend app\n");
        frontend + &config::backend("app", &["balance roundrobin"], &servers, CHECKED)
    };
    let (consul, mut haproxy, weightd) = start(&body("green")).await?;
    health(&haproxy, "app", "green", "UP").await?;
    put(&consul, "app", 50, 50).await?;
    becomes(&haproxy, "app", 50, 50).await?;
    put(&consul, "app", 0, 100).await?;
    becomes(&haproxy, "app", 0, 100).await?;
    let traffic = Traffic::start(port.number(), Rate { kept: 50, fresh: 50 });

    haproxy.reload(&body("emerald")).await?;
    reason(&weightd, "app", "withheld").await?;
    let unmatched = reason(&weightd, "app", "unmatched_server").await?;
    assert!(unmatched["detail"].as_str().is_some_and(|detail| detail.contains("green")), "{unmatched}");
    let withheld = lines(&weightd, &["reason=withheld", "backend=app"]).len();
    stays_up(&haproxy).await?;
    // A new document with the lost name is rejected too.
    put(&consul, "app", 0, 90).await?;
    reason(&weightd, "app", "guarded").await?;
    stays_up(&haproxy).await?;
    traffic.count().expect_no_failure()?;
    assert!(withheld <= 1, "logged once");
    let renamed = json!({ "weights": { "blue": 0, "emerald": 100 } }).to_string();
    consul.put(&key("app"), renamed).await?;
    haproxy.until_weights("app", &[("blue", 0), ("emerald", 100)], SOON).await?;
    state(&weightd, "app", "converged").await?;
    traffic.count().expect_no_failure()
}

async fn stays_up(haproxy: &Haproxy) -> anyhow::Result<()> {
    crate::harness::always(crate::common::A_WHILE, "blue serves", async || {
        let weights = haproxy.weights("app").await?;
        ensure!(weights["blue"] == 100, "{weights:?}");
        Ok(())
    })
    .await
}
