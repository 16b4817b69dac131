//! Status shows only data that weightd has read, with its age.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    common::{SOON, backend, becomes, consul_is, converged, haproxy_is, instance, metric, put, reason, servers, state},
    harness::{Consul, Haproxy, Weightd, config, eventually, haproxy::version, weightd, weightd::Settings},
};

/// The exit code and the output of `weightctl status --local`.
async fn status(weightd: &Weightd) -> anyhow::Result<(Option<i32>, String)> {
    let output = weightd::weightctl(&[], &["status", "--local", "--api", &weightd.address()]).await?;
    Ok((output.status.code(), String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?))
}

/// The status of a server.
async fn server(weightd: &Weightd, backend: &str, server: &str) -> anyhow::Result<Value> {
    let backend = weightd.backend(backend).await?;
    let servers = backend["servers"].as_array().context("no servers")?;
    Ok(servers.iter().find(|entry| entry["server"] == server).cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_document_that_names_no_server_of_this_haproxy_is_not_converged() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    consul.put("weightd/weights/app", r#"{"weights":{"red":100,"black":0}}"#).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    state(&weightd, "app", "unmatched").await?;
    let why = reason(&weightd, "app", "unmatched_server").await?;
    assert!(why["detail"].as_str().is_some_and(|detail| detail.contains("black, red")), "{why}");
    assert_eq!(instance(&weightd, 0).await?["converged"], false);
    let (code, shown) = status(&weightd).await?;
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.contains("unmatched") && !shown.contains("converged  "), "{shown}");
    becomes(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn a_backend_that_was_never_read_is_unknown() -> anyhow::Result<()> {
    let (mut consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    weightd.stop().await?;
    haproxy.stop().await?;
    consul.kill().await?;
    // Only the state on disk is known: weightd has not read this HAProxy.
    weightd.start_again().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    haproxy_is(&weightd, 0, "down", Some("refused")).await?;
    let app = state(&weightd, "app", "unknown").await?;
    assert!(app["servers"].as_array().context("servers")?.iter().all(|server| server["observed"].is_null()), "{app}");
    assert_eq!(status(&weightd).await?.0, Some(3));
    assert_eq!(weightd.code("/ready").await?, 503);
    Ok(())
}

#[tokio::test]
async fn a_shown_weight_was_read_a_moment_ago() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    // Paused, so that a weight set by hand stays.
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    let socket = weightd.dir().join("run/weightd.sock");
    let pause = ["pause", "--local", "--for", "1m", "--socket", &socket.display().to_string()];
    ensure!(weightd::weightctl(&[], &pause).await?.status.success(), "cannot pause the backend");
    for weight in [5, 6, 7] {
        haproxy.set_weight_by_hand("app", "green", weight).await?;
        // weightd reads for each status, unless it did so within the last second.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let app = weightd.backend("app").await?;
        let age = app["observed_age_seconds"].as_f64().context("no age")?;
        assert!(age <= 1.5, "{app}");
        assert_eq!(server(&weightd, "app", "green").await?["observed"], weight, "{app}");
    }
    // With a hanging HAProxy, the status is returned anyway, with the age of its data.
    let paused = haproxy.pause().await?;
    eventually(SOON, "the age is shown", async || {
        let (code, shown) = status(&weightd).await?;
        ensure!(code == Some(3) && (shown.contains("read ") || shown.contains("down for")), "{shown}");
        Ok(())
    })
    .await?;
    drop(paused);
    Ok(())
}

#[tokio::test]
async fn a_deleted_server_shows_no_weight() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    assert_eq!(server(&weightd, "app", "green").await?["observed"], 30);
    if version()? < (2, 5) {
        // This version of HAProxy cannot delete a server at runtime.
        return Ok(());
    }
    delete(&haproxy, "app", "green").await?;
    eventually(std::time::Duration::from_secs(4), "status does not contain the server", async || {
        let green = server(&weightd, "app", "green").await?;
        ensure!(green["observed"].is_null() && green["desired"] == 30, "{green}");
        Ok(())
    })
    .await?;
    reason(&weightd, "app", "unmatched_server").await.map(drop)
}

/// Deletes a server at runtime.
pub(crate) async fn delete(haproxy: &Haproxy, backend: &str, server: &str) -> anyhow::Result<()> {
    haproxy.command(&format!("set server {backend}/{server} state maint")).await?;
    eventually(SOON, "the server is deleted", async || {
        let answer = haproxy.command(&format!("del server {backend}/{server}")).await?;
        ensure!(answer.contains("deleted"), "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn shares_count_only_serving_servers() -> anyhow::Result<()> {
    let body = config::backend("app", &["balance roundrobin"], &[("blue", 9, 1), ("green", 9, 1)], "")
        + "    server spare1 127.0.0.1:9 weight 1 backup\n    server spare2 127.0.0.1:9 weight 1 backup\n";
    let (consul, haproxy) = servers(&body).await?;
    consul.put("weightd/weights/app", r#"{"weights":{"blue":100,"green":100,"spare1":100,"spare2":100}}"#).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    let shares = async || {
        let app = weightd.backend("app").await?;
        let servers = app["servers"].as_array().context("servers")?;
        anyhow::Ok(servers.iter().map(|server| server["share"].as_f64()).collect::<Vec<_>>())
    };
    assert_eq!(shares().await?, [Some(50.0), Some(50.0), None, None]);
    let backup = reason(&weightd, "app", "backup").await?;
    assert!(backup["detail"].as_str().is_some_and(|detail| detail.contains("spare1, spare2")), "{backup}");
    let (_, shown) = status(&weightd).await?;
    assert!(shown.contains("50%") && shown.contains("backup server") && !shown.contains("25%"), "{shown}");
    // Also in the preview of a change, and in an import.
    let (consul_at, api) = (consul.address(), weightd.address());
    let environment = [("CONSUL_HTTP_ADDR", consul_at.as_str()), ("WEIGHTD_API", api.as_str())];
    let address = haproxy.address();
    for arguments in [
        &["get", "app"][..],
        &["set", "app", "spare1=50", "--dry-run"],
        &["import", "--from-haproxy", &address, "--dry-run", "--replace", "--reason", "again"],
    ] {
        let output = weightd::weightctl(&environment, arguments).await?;
        let shown = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
        assert!(shown.contains("50%") && shown.contains("0%") && !shown.contains("25%"), "{arguments:?}: {shown}");
        assert!(shown.contains("spare1, spare2: a backup server gets no traffic"), "{arguments:?}: {shown}");
    }
    // Without active servers, the first backup server serves. HAProxy does not report whether the others serve too.
    for server in ["blue", "green"] {
        haproxy.command(&format!("set server app/{server} state maint")).await?;
    }
    eventually(SOON, "the backup servers serve", async || {
        let shares = shares().await?;
        ensure!(shares[..2] == [None, None] && shares[2..].iter().all(Option::is_some), "{shares:?}");
        Ok(())
    })
    .await?;
    state(&weightd, "app", "converged").await?;
    reason(&weightd, "app", "only_backups").await.map(drop)
}

#[tokio::test]
async fn a_server_in_slowstart_has_no_exact_share() -> anyhow::Result<()> {
    let app = crate::harness::apps::App::start("blue").await?;
    let options = "check inter 100ms fall 1 rise 1 slowstart 60s";
    let servers_of = [("blue", app.port(), 1), ("green", app.port(), 1)];
    let (consul, haproxy) = servers(&config::backend("app", &["balance roundrobin"], &servers_of, options)).await?;
    put(&consul, "app", 100, 100).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    assert_eq!(weightd.backend("app").await?["shares_exact"], true);
    // After maintenance, the server starts slowly.
    haproxy.command("set server app/green state maint").await?;
    haproxy.command("set server app/green state ready").await?;
    let slow = reason(&weightd, "app", "slowstart").await?;
    assert!(slow["detail"].as_str().is_some_and(|detail| detail.contains("green")), "{slow}");
    assert_eq!(weightd.backend("app").await?["shares_exact"], false);
    let (_, shown) = status(&weightd).await?;
    assert!(shown.contains("~50%"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn while_consul_does_not_answer_status_ends_with_3() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    assert_eq!(status(&weightd).await?.0, Some(0));
    let hangs = consul.pause()?;
    // weightd does not report `held` yet, but there is no proof that Consul has no newer content.
    eventually(SOON, "it is not reported as converged", async || {
        let (code, shown) = status(&weightd).await?;
        ensure!(code == Some(3), "{shown}");
        Ok(())
    })
    .await?;
    consul_is(&weightd, "held", Some("overdue")).await?;
    let (code, shown) = status(&weightd).await?;
    assert_eq!(code, Some(3));
    assert!(shown.contains("held") && shown.contains("Consul's last answer"), "{shown}");
    drop(hangs);
    eventually(SOON, "Consul is back", async || {
        let (code, shown) = status(&weightd).await?;
        ensure!(code == Some(0), "{shown}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ready_names_the_haproxy_that_is_not_ready() -> anyhow::Result<()> {
    let (consul, alive) = servers(&backend("app", 100, 0)).await?;
    let mut dead = Haproxy::start(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &alive).haproxy("edge2", &dead.address()).start().await?;
    becomes(&dead, "app", 70, 30).await?;
    eventually(SOON, "both are ready", async || weightd.get("/ready").await).await?;
    dead.stop().await?;
    eventually(SOON, "/ready names the HAProxy that is not ready", async || {
        let answer = reqwest_text(&format!("{}/ready", weightd.address())).await?;
        ensure!(answer.contains("edge2: ") && !answer.contains("haproxy: "), "{answer}");
        Ok(())
    })
    .await
}

async fn reqwest_text(url: &str) -> anyhow::Result<String> {
    Ok(crate::harness::http().build()?.get(url).send().await?.text().await?)
}

#[tokio::test]
async fn builds_are_distinguishable_and_a_shared_connection_is_counted_once() -> anyhow::Result<()> {
    let (consul, first) = servers(&backend("app", 100, 0)).await?;
    let second = Haproxy::start(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &first).haproxy("edge2", &second.address()).start().await?;
    converged(&weightd).await?;
    let status = weightd.status().await?;
    let commit =
        status["version"].as_str().and_then(|v| v.split_once(" (")).map(|(_, rest)| rest.trim_end_matches(')'));
    let metrics = weightd.metrics().await?;
    let build = metrics.lines().find(|line| line.starts_with("weightd_build_info")).context("no build_info")?;
    // Built outside a checkout, the program has no commit.
    assert!(build.contains(&format!("commit=\"{}\"", commit.unwrap_or_default())), "{build}: {status}");
    let requests = metrics.lines().filter(|line| line.starts_with("weightd_consul_requests_total")).count();
    assert_eq!(requests, 1, "one watch, two HAProxy instances: {metrics}");
    assert!(metric_of_consul(&weightd).await? > 0);
    Ok(())
}

async fn metric_of_consul(weightd: &Weightd) -> anyhow::Result<u64> {
    let metrics = weightd.metrics().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("weightd_consul_requests_total{root=\"weightd/\"} "));
    Ok(value.with_context(|| metrics.clone())?.parse()?)
}

#[tokio::test]
async fn hidden_or_deleted_documents_are_not_converged_in_the_metrics() -> anyhow::Result<()> {
    let (consul, haproxy): (Consul, Haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    consul.put("weightd/weights/app", r#"{"weights":{"red":100}}"#).await?;
    state(&weightd, "app", "unmatched").await?;
    eventually(SOON, "the metric follows", async || {
        let converged = metric(&weightd, "weightd_converged", "").await?;
        ensure!(converged == 0, "{converged}");
        Ok(())
    })
    .await
}
