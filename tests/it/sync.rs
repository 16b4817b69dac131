//! A change in Consul reaches HAProxy once and immediately, and again after each new process.

use std::{fmt::Write as _, time::Duration};

use anyhow::ensure;
use tokio::time::Instant;

use crate::{
    common::{SOON, backend, becomes, converged, document, instance, is, key, lines, metric, put, servers, stays},
    harness::{Apps, Consul, Haproxy, Port, Traffic, Weightd, config, eventually, traffic::Rate, weightd::Settings},
    tap::Tap,
};

#[tokio::test]
async fn a_document_reaches_haproxy_and_each_weight_is_logged_once() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    converged(&weightd).await?;
    put(&consul, "app", 50, 10).await?;
    becomes(&haproxy, "app", 50, 10).await?;
    converged(&weightd).await?;

    let set = |server, from, to, why| {
        let words = [
            " INFO weight set",
            "backend=app",
            server,
            from,
            to,
            why,
            "by=alice",
            "reason=\"a test\"",
            "haproxy=haproxy",
        ];
        lines(&weightd, &words).len()
    };
    assert_eq!(set("server=blue", "from=100", "to=90", "why=document"), 1, "{}", weightd.log());
    assert_eq!(set("server=green", "from=0", "to=10", "why=document"), 1, "{}", weightd.log());
    assert_eq!(set("server=blue", "from=90", "to=50", "why=document"), 1, "{}", weightd.log());
    assert_eq!(lines(&weightd, &["weight set"]).len(), 3, "{}", weightd.log());
    assert_eq!(metric(&weightd, "weightd_weight_changes_total", ",why=\"document\"").await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_change_that_lowers_no_server_to_zero_takes_one_exchange_and_another_change_reads_first() -> anyhow::Result<()>
{
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let tap = Tap::start(&haproxy)?;
    let settings = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &tap.address());
    // No other reading happens meanwhile.
    let weightd = settings.set("reconcile.resync", "10m").start().await?;
    put(&consul, "app", 90, 10).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    converged(&weightd).await?;
    let about_app = |lines: &[String]| lines.iter().filter(|line| line.contains(" app")).cloned().collect::<Vec<_>>();

    let before = tap.lines().len();
    put(&consul, "app", 80, 20).await?;
    becomes(&haproxy, "app", 80, 20).await?;
    converged(&weightd).await?;
    let set = "set server app/green weight 20;set server app/blue weight 80;show servers state app";
    assert_eq!(about_app(&tap.lines()[before..]), [set]);

    let before = tap.lines().len();
    put(&consul, "app", 0, 100).await?;
    becomes(&haproxy, "app", 0, 100).await?;
    converged(&weightd).await?;
    let set = "set server app/green weight 100;set server app/blue weight 0;show servers state app";
    assert_eq!(about_app(&tap.lines()[before..]), ["show info;show servers state app", set]);

    // The weights were changed by hand. The read-back finds it, and weightd corrects it immediately.
    put(&consul, "app", 60, 40).await?;
    becomes(&haproxy, "app", 60, 40).await?;
    converged(&weightd).await?;
    haproxy.set_weight_by_hand("app", "blue", 3).await?;
    put(&consul, "app", 60, 50).await?;
    becomes(&haproxy, "app", 60, 50).await
}

#[tokio::test]
async fn leaves_reach_haproxy_and_a_deleted_leaf_keeps_its_weight() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    // The value that `echo 60 | consul kv put … -` writes.
    consul.put("weightd/weights/app/blue", "60\n").await?;
    consul.put("weightd/weights/app/green", "40").await?;
    let _weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 60, 40).await?;
    consul.put("weightd/weights/app/blue", "0").await?;
    becomes(&haproxy, "app", 0, 40).await?;
    consul.delete("weightd/weights/app/blue").await?;
    stays(&haproxy, "app", 0, 40).await
}

#[tokio::test]
async fn two_haproxies_follow_their_own_roots_over_a_unix_socket_of_consul() -> anyhow::Result<()> {
    let port = Port::free()?;
    let unix = backend("app", 100, 0);
    let tcp = format!("global\n    stats socket ipv4@127.0.0.1:{port} level admin\n{unix}");
    let (consul, one, two) = tokio::try_join!(Consul::start(), Haproxy::start(&unix), Haproxy::start(&tcp))?;
    let weightd = Settings::without_haproxy(&consul.unix_address())
        .instance(&[("name", "edge"), ("address", &one.address()), ("root", "edge/")])
        .instance(&[("name", "core"), ("address", &format!("tcp:127.0.0.1:{port}")), ("root", "core/")])
        .start()
        .await?;
    consul.put("edge/weights/app", document(1, 2)).await?;
    consul.put("core/weights/app", document(3, 4)).await?;
    becomes(&one, "app", 1, 2).await?;
    becomes(&two, "app", 3, 4).await?;
    consul.put("core/weights/app", document(5, 6)).await?;
    becomes(&two, "app", 5, 6).await?;
    stays(&one, "app", 1, 2).await?;
    let status = weightd.status().await?;
    assert_eq!((&status["instances"][0]["name"], &status["instances"][1]["root"]), (&"edge".into(), &"core/".into()));
    Ok(())
}

#[tokio::test]
async fn the_last_of_a_hundred_changes_is_applied_and_reads_stay_within_the_rate_limit() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 7, 7).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 7, 7).await?;

    let requests = async || Ok::<_, anyhow::Error>(instance(&weightd, 0).await?["consul"]["requests"].as_u64());
    let start = Instant::now();
    let before = requests().await?.unwrap_or_default();
    for blue in 101..=200 {
        put(&consul, "app", blue, 7).await?;
    }
    let written = start.elapsed();
    becomes(&haproxy, "app", 200, 7).await?;
    converged(&weightd).await?;
    let sent = requests().await?.unwrap_or_default() - before;
    let seconds = start.elapsed().as_secs_f64();
    // A burst of 5 reads, then one every 10 ms if answers are fast, and the blocked query.
    let allowed = 6.0 + seconds * 100.0;
    assert!(f64::from(u32::try_from(sent)?) <= allowed, "{sent} reads in {seconds} s, writes took {written:?}");
    assert!(sent > 0);
    Ok(())
}

#[tokio::test]
async fn a_reload_gets_its_weights_back_under_traffic_and_is_no_drift() -> anyhow::Result<()> {
    let (apps, port) = (Apps::start().await?, Port::free()?);
    // The configured weights are the opposite of the desired ones.
    let sides = [("blue", apps.blue.port(), 0), ("green", apps.green.port(), 100)];
    let body = config::frontend(port.number(), "app") + &config::backend("app", &["balance roundrobin"], &sides, "");
    let (consul, mut haproxy) = servers(&body).await?;
    put(&consul, "app", 100, 0).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    let traffic = Traffic::start(port.number(), Rate { kept: 50, fresh: 50 });

    for _ in 0..3 {
        haproxy.reload_again().await?;
        haproxy.until_weights("app", &[("blue", 100), ("green", 0)], Duration::from_secs(3)).await?;
        converged(&weightd).await?;
    }
    traffic.count().expect_no_failure()?;
    let (instance, app) = (instance(&weightd, 0).await?, weightd.backend("app").await?);
    assert_eq!(instance["haproxy"]["processes_seen"], 4);
    assert_eq!(app["drift_corrections"], 0);
    assert_eq!(metric(&weightd, "weightd_weight_changes_total", ",why=\"new_process\"").await?, 6);
    assert_eq!(metric(&weightd, "weightd_weight_changes_total", ",why=\"drift\"").await?, 0);
    assert_eq!(metric(&weightd, "weightd_drift_corrections_total", "").await?, 0);
    assert_eq!(metric(&weightd, "weightd_haproxy_processes_total", "").await?, 4);
    Ok(())
}

#[tokio::test]
async fn a_restart_and_a_crash_of_haproxy_get_their_weights_back() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    haproxy.stop().await?;
    haproxy.start_again().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    haproxy.kill().await?;
    // A change meanwhile is not lost.
    put(&consul, "app", 80, 20).await?;
    haproxy.start_again().await?;
    becomes(&haproxy, "app", 80, 20).await?;
    converged(&weightd).await?;
    assert_eq!(weightd.backend("app").await?["drift_corrections"], 0);
    Ok(())
}

#[tokio::test]
async fn changes_during_reloads_are_not_lost_and_are_no_drift() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&(backend("app", 0, 100) + &backend("other", 0, 100))).await?;
    put(&consul, "app", 100, 0).await?;
    put(&consul, "other", 100, 0).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "other", 100, 0).await?;
    for blue in 1..=10 {
        put(&consul, "app", blue, 0).await?;
        haproxy.reload_again().await?;
        put(&consul, "app", blue + 100, 0).await?;
    }
    becomes(&haproxy, "app", 110, 0).await?;
    becomes(&haproxy, "other", 100, 0).await?;
    converged(&weightd).await?;
    assert_eq!(metric(&weightd, "weightd_drift_corrections_total", "").await?, 0, "{}", weightd.log());
    Ok(())
}

#[tokio::test]
async fn a_change_affects_only_its_backend_among_300() -> anyhow::Result<()> {
    let body = (0..300).fold(String::new(), |mut body, number| {
        let _infallible = write!(body, "{}", backend(&format!("app{number}"), 100, 0));
        body
    });
    let (consul, haproxy) = servers(&body).await?;
    for number in 0..300 {
        put(&consul, &format!("app{number}"), 90, 10).await?;
    }
    let weightd = Weightd::start(&consul, &haproxy).await?;
    let changes = async || metric(&weightd, "weightd_weight_changes_total", ",why=\"document\"").await;
    becomes(&haproxy, "app299", 90, 10).await?;
    converged(&weightd).await?;
    assert_eq!(changes().await?, 600);

    put(&consul, "app150", 80, 20).await?;
    becomes(&haproxy, "app150", 80, 20).await?;
    eventually(SOON, "it is counted", async || {
        let changes = changes().await?;
        ensure!(changes == 602, "{changes}");
        Ok(())
    })
    .await?;
    for number in [0, 149, 151, 299] {
        is(&haproxy, &format!("app{number}"), 90, 10).await?;
    }
    assert_eq!(lines(&weightd, &["weight set", "backend=app150 "]).len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_correct_weight_is_not_set_again() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 30, 70)).await?;
    put(&consul, "app", 30, 70).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    weightd.restart().await?;
    converged(&weightd).await?;
    // The same values from another writer are no change.
    consul.put(&key("app"), document(30, 70)).await?;
    stays(&haproxy, "app", 30, 70).await?;
    assert_eq!(lines(&weightd, &["weight set"]), Vec::<String>::new());
    Ok(())
}
