//! What the other tests rest on: the servers start, do what the harness says of them, and end.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;

use crate::{
    common::backend,
    harness::{
        Apps, Consul, Haproxy, Port, Traffic, config, consul, eventually,
        haproxy::version,
        runtime,
        traffic::{CLIENTS, Rate},
    },
};

#[tokio::test]
async fn consul_keeps_its_data_over_a_restart_if_it_is_durable() -> anyhow::Result<()> {
    for durable in [false, true] {
        let mut consul = Consul::start_with(consul::Options { durable, acl: false, ..Default::default() }).await?;
        consul.put("a/b", "1").await?;
        assert_eq!(consul.get("a/b").await?.as_deref(), Some(&b"1"[..]));
        assert!(consul.index("a/").await? > 0);
        consul.restart().await?;
        assert_eq!(consul.get("a/b").await?.is_some(), durable);
        consul.delete_tree("a/").await?;
        assert_eq!(consul.get("a/b").await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn a_token_of_consul_can_do_what_its_policy_says_now() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    let http = consul.http();
    http.set_policy("p", r#"key_prefix "a/" { policy = "write" }"#).await?;
    let secret = http.new_token("p").await?;
    let write = async || {
        let request = http.with_token(&secret).request(reqwest::Method::PUT, "kv/a/b");
        Ok::<_, anyhow::Error>(request.body("1").send().await?.status().as_u16())
    };
    assert_eq!(write().await?, 200);
    http.set_policy("p", r#"key_prefix "a/" { policy = "read" }"#).await?;
    eventually(Duration::from_secs(5), "the narrowed token is refused", async || {
        let code = write().await?;
        ensure!(code == 403, "{code}");
        Ok(())
    })
    .await?;
    http.delete_token(&secret).await
}

#[tokio::test]
async fn the_haproxy_that_runs_has_the_version_that_tests_ask_for() -> anyhow::Result<()> {
    let haproxy = Haproxy::start(&backend("app", 1, 1)).await?;
    let (major, minor) = version()?;
    let runs = runtime::info(&haproxy.socket(), "Version").await?;
    ensure!(runs.starts_with(&format!("{major}.{minor}.")), "{runs} is not {major}.{minor}");
    Ok(())
}

#[tokio::test]
async fn traffic_is_shared_by_weight_and_survives_reloads() -> anyhow::Result<()> {
    let (apps, port) = (Apps::start().await?, Port::free()?);
    let body = |blue, green| {
        let servers = [("blue", apps.blue.port(), blue), ("green", apps.green.port(), green)];
        config::frontend(port.number(), "app") + &config::backend("app", &["balance roundrobin"], &servers, "")
    };
    let mut haproxy = Haproxy::start(&body(100, 0)).await?;
    let traffic = Traffic::start(port.number(), Rate { kept: 400, fresh: 400 });
    haproxy.set_weight_by_hand("app", "green", 25).await?;
    assert_eq!(haproxy.weights("app").await?, BTreeMap::from([("blue".into(), 100), ("green".into(), 25)]));

    let window = traffic.count();
    let enough = async |least: u64, window: &_| {
        eventually(Duration::from_secs(10), "enough requests", async || {
            let count = traffic.since(window);
            ensure!(count.answered() >= least, "{count:?}");
            Ok(count)
        })
        .await
    };
    let count = enough(500, &window).await?;
    let green = count.percent("green");
    assert!((18.0..22.0).contains(&green), "{count:?}");

    for _ in 0..5 {
        haproxy.reload(&body(0, 100)).await?;
        haproxy.reload(&body(100, 0)).await?;
    }
    haproxy.until_old_workers_ended().await?;
    let window = traffic.count();
    let count = enough(200, &window).await?;
    // Each client may not have counted its last answer of an old worker yet.
    let of_old_workers = count.bodies.get("green").copied().unwrap_or_default();
    assert!(of_old_workers <= u64::from(2 * CLIENTS), "{count:?}");
    assert!(count.kept > 50 && count.fresh > 50, "{count:?}");
    traffic.count().expect_no_failure()
}

#[tokio::test]
async fn a_paused_haproxy_hangs_and_a_killed_one_can_come_back() -> anyhow::Result<()> {
    let mut haproxy = Haproxy::start("backend app\n    server blue 127.0.0.1:9 weight 7\n").await?;
    let paused = haproxy.pause().await?;
    let hung = tokio::time::timeout(Duration::from_millis(200), haproxy.command("show info")).await;
    assert!(hung.is_err(), "{hung:?}");
    drop(paused);
    haproxy.until_weights("app", &[("blue", 7)], Duration::from_secs(5)).await?;
    haproxy.kill().await?;
    assert!(haproxy.command("show info").await.is_err());
    haproxy.start_again().await?;
    haproxy.until_weights("app", &[("blue", 7)], Duration::from_secs(5)).await?;
    Ok(())
}
