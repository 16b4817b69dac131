//! SIGHUP: weightd applies the settings that can change while it runs. An invalid file changes nothing.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tokio::{net::UnixDatagram, time::Instant};

use crate::{
    common::{SOON, backend, becomes, consul_is, converged, instance, lines, put, servers, stays},
    harness::{
        Apps, Consul, Haproxy, Port, Traffic, Weightd, config, consul, eventually, traffic::Rate, weightd::Settings,
    },
    life::notified,
};

const APPLIED: &str = "the new configuration is in force";
const REFUSED: &str = "cannot use the new configuration; the previous one stays in force";

/// The configuration file with these replacements.
fn edited(weightd: &Weightd, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = fs::read_to_string(weightd.dir().join("weightd.toml"))?;
    for (from, to) in changes {
        ensure!(text.contains(from), "no {from} in {text}");
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

/// Sends SIGHUP, waits for one more log line with these words, and checks the metric.
async fn send_hup(weightd: &mut Weightd, words: &[&str]) -> anyhow::Result<String> {
    let before = lines(weightd, words).len();
    weightd.program().signal(Signal::HUP)?;
    let line = eventually(SOON, &format!("the log contains {words:?}"), async || {
        lines(weightd, words).split_off(before).pop().with_context(|| weightd.log())
    })
    .await?;
    let expected = if words.contains(&REFUSED) { 0.0 } else { 1.0 };
    let metric = weightd.metric("weightd_config_last_reload_successful").await?;
    ensure!((metric - expected).abs() < 0.1, "the metric is {metric}");
    Ok(line)
}

/// The number of requests to Consul.
async fn requests(weightd: &Weightd) -> anyhow::Result<u64> {
    instance(weightd, 0).await?["consul"]["requests"].as_u64().context("no count of requests")
}

#[tokio::test]
async fn valid_files_are_applied_and_invalid_ones_are_not_under_traffic() -> anyhow::Result<()> {
    let (apps, port) = (Apps::start().await?, Port::free()?);
    let sides = [("blue", apps.blue.port(), 0), ("green", apps.green.port(), 100)];
    let body = config::frontend(port.number(), "app") + &config::backend("app", &["balance roundrobin"], &sides, "");
    let (consul, mut haproxy) = servers(&body).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Settings::new(&consul, &haproxy)
        .set("log.level", "error")
        .set("reconcile.resync", "1h")
        .set("reconcile.process_poll", "10s")
        .start()
        .await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    assert!((weightd.metric("weightd_config_last_reload_successful").await? - 1.0).abs() < 0.1);
    let traffic = Traffic::start(port.number(), Rate { kept: 50, fresh: 50 });
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    stays(&haproxy, "app", 70, 30).await?;
    assert!(!weightd.logs_contain(&["weight set"]), "{}", weightd.log());

    // The log shows the new level. The session tests cover the intervals.
    let good = edited(&weightd, &[("\"error\"", "\"info\""), ("\"1h\"", "\"1s\""), ("\"10s\"", "\"50ms\"")])?;
    weightd.write(&good)?;
    send_hup(&mut weightd, &[" INFO", APPLIED, "in force"]).await?;
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    eventually(SOON, "weightd logs each weight", async || {
        ensure!(weightd.logs_contain(&["weight set", "why=drift"]), "{}", weightd.log());
        Ok(())
    })
    .await?;
    haproxy.reload_again().await?;
    haproxy.until_weights("app", &[("blue", 70), ("green", 30)], Duration::from_secs(5)).await?;

    // An invalid file is reported with file and line, and everything continues with the former settings.
    let broken = [
        (good.replace("\"1s\"", "\"1x\""), "`reconcile.resync`"),
        (good.replace("[consul]", "[consol]"), "did you mean `consul`?"),
        (good.replace("[consul]", "[consul"), "unclosed"),
        (good.replace("[consul]", "[consul]\ntoken_file = \"/nonexistent/token\""), "/nonexistent/token"),
        (String::from("\u{0}"), "weightd.toml:1"),
    ];
    for (number, (text, word)) in broken.iter().enumerate() {
        weightd.write(text)?;
        send_hup(&mut weightd, &["ERROR", REFUSED, word, "hint="]).await?;
        let green = 30 + u32::try_from(number)?;
        put(&consul, "app", 70, green).await?;
        becomes(&haproxy, "app", 70, green).await?;
    }
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    becomes(&haproxy, "app", 70, 34).await?;
    fs::remove_file(weightd.dir().join("weightd.toml"))?;
    send_hup(&mut weightd, &["ERROR", REFUSED, "failed to read the configuration"]).await?;

    // Settings that need a restart are named. The other settings of the same file are applied.
    let later = good.replace("\"info\"", "\"debug\"").replace("\"lb1\"", "\"lb2\"");
    weightd.write(&format!("mode = \"observe\"\n{later}"))?;
    let line = send_hup(&mut weightd, &[" WARN", APPLIED, "need a restart"]).await?;
    assert!(line.contains("keys=\"mode, node\"") && line.contains("hint="), "{line}");
    put(&consul, "app", 60, 40).await?;
    becomes(&haproxy, "app", 60, 40).await?;
    weightd.write(&later.replace("\"lb2\"", "\"lb1\""))?;
    send_hup(&mut weightd, &[" INFO", APPLIED, "in force"]).await?;
    traffic.count().expect_no_failure()
}

#[tokio::test]
async fn a_reload_never_cancels_a_blocked_query() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    let before = requests(&weightd).await?;
    for _ in 0..10 {
        send_hup(&mut weightd, &[APPLIED]).await?;
    }
    stays(&haproxy, "app", 70, 30).await?;
    // Each reload sends one plain read beside the blocked query, with the new identity. The timer may add one more.
    let sent = requests(&weightd).await? - before;
    assert!(sent <= 11, "{sent} requests");
    put(&consul, "app", 60, 40).await?;
    becomes(&haproxy, "app", 60, 40).await?;
    consul_is(&weightd, "following", None).await?;
    assert!(!weightd.logs_contain(&["no usable answer"]), "{}", weightd.log());
    Ok(())
}

#[tokio::test]
async fn a_new_token_is_used_at_once() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    let haproxy = Haproxy::start(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let http = consul.http();
    http.set_policy("blind", r#"key_prefix "other/" { policy = "read" }"#).await?;
    http.set_policy("node", r#"key_prefix "weightd/weights/" { policy = "read" }"#).await?;
    let (blind, node) = (http.new_token("blind").await?, http.new_token("node").await?);
    let mut weightd = Settings::without_haproxy(&consul.address())
        .haproxy("haproxy", &haproxy.address())
        .set("consul.token", blind.as_str())
        .start()
        .await?;
    consul_is(&weightd, "following", None).await?;
    stays(&haproxy, "app", 0, 100).await?;
    let text = edited(&weightd, &[(&blind, &node)])?;
    weightd.write(&text)?;
    send_hup(&mut weightd, &[APPLIED]).await?;
    let start = Instant::now();
    becomes(&haproxy, "app", 100, 0).await?;
    println!("another token: in force {:?} after SIGHUP", start.elapsed());
    // The blocked query of the old token may still return. Its answer is not used.
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    assert_eq!(weightd.backend("app").await?["orphaned"], false);
    assert!(!weightd.log().contains(&blind) && !weightd.log().contains(&node));

    // A denied token is replaced without a wait for the next retry.
    http.delete_token(&node).await?;
    put(&consul, "app", 60, 40).await?;
    consul_is(&weightd, "held", Some("denied")).await?;
    let text = edited(&weightd, &[(&node, &http.new_token("node").await?)])?;
    weightd.write(&text)?;
    send_hup(&mut weightd, &[APPLIED]).await?;
    becomes(&haproxy, "app", 60, 40).await
}

#[tokio::test]
async fn systemd_gets_the_start_and_the_end_of_a_reload() -> anyhow::Result<()> {
    let haproxy = Haproxy::start(&backend("app", 100, 0)).await?;
    let path = haproxy.dir().join("notify.sock");
    let socket = UnixDatagram::bind(&path)?;
    let mut weightd = Settings::without_haproxy("http://127.0.0.1:9")
        .haproxy("haproxy", &haproxy.address())
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .start()
        .await?;
    notified(&socket, "READY=1").await?;
    for broken in [false, true] {
        if broken {
            weightd.write("broken")?;
        }
        weightd.program().signal(Signal::HUP)?;
        let mut lines = notified(&socket, "RELOADING=1").await?;
        lines.extend(notified(&socket, "READY=1").await?);
        let time = lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let time: u64 = time.with_context(|| format!("no time in {lines:?}"))?.parse()?;
        // The time on the monotonic clock. systemd rejects a later time.
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split(' ').next().context("no uptime")?.parse()?;
        let time = Duration::from_micros(time).as_secs_f64();
        ensure!(time <= uptime + 1.0 && time > uptime - 60.0, "{time} of {uptime}");
    }
    weightd.program().check()
}

#[tokio::test]
async fn constant_changes_do_not_starve_other_tasks() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&(backend("app", 100, 0) + &backend("other", 100, 0))).await?;
    put(&consul, "other", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "other", 70, 30).await?;
    let (consul, ended) = (std::sync::Arc::new(consul), tokio_util::sync::CancellationToken::new());
    let (writer, stop) = (std::sync::Arc::clone(&consul), ended.clone());
    let storm = tokio::spawn(async move {
        let mut weight = 0;
        while !stop.is_cancelled() {
            weight = (weight + 1) % 257;
            put(&writer, "app", 256, weight).await?;
        }
        anyhow::Ok(weight)
    });
    // SIGHUP, the resync that corrects drift, the state on disk, and status.
    for _ in 0..3 {
        send_hup(&mut weightd, &[" INFO", APPLIED, "in force"]).await?;
        haproxy.set_weight_by_hand("other", "green", 99).await?;
        becomes(&haproxy, "other", 70, 30).await?;
    }
    let on_disk = async || {
        for entry in fs::read_dir(weightd.dir().join("state"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "state") {
                return Ok(fs::read_to_string(path)?);
            }
        }
        anyhow::bail!("there is no state on disk")
    };
    let before = eventually(SOON, "the state is on disk", on_disk).await?;
    eventually(SOON, "the state is written again", async || {
        ensure!(on_disk().await? != before);
        Ok(())
    })
    .await?;
    weightd.status().await?;
    ended.cancel();
    let last = storm.await??;
    becomes(&haproxy, "app", 256, last).await
}
