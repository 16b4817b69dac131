//! The lifecycle of a weightd: readiness, notifications to systemd, and shutdown.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tokio::{
    net::UnixDatagram,
    time::{Instant, timeout},
};

use crate::{
    common::{A_WHILE, SOON, backend, becomes, consul_is, converged, haproxy_is, is, lines, put, servers, stays},
    harness::{self, Haproxy, PATIENCE, Weightd, always, eventually, weightd::Settings},
};

#[tokio::test]
async fn a_fleet_without_a_document_is_ready() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    eventually(SOON, "weightd is ready", async || {
        let code = weightd.code("/ready").await?;
        ensure!(code == 200, "{code}");
        Ok(())
    })
    .await?;
    converged(&weightd).await?;
    let logged = lines(&weightd, &[" WARN", "the prefix has no key"]).len();
    assert_eq!(logged, 1, "{}", weightd.log());
    // Consul wakes such a query on nearly every write. It must use little CPU.
    let requests =
        async || Ok::<_, anyhow::Error>(weightd.status().await?["instances"][0]["consul"]["requests"].as_u64());
    let before = requests().await?.unwrap_or_default();
    let start = Instant::now();
    for number in 0..300 {
        consul.put(&format!("somewhere/else{number}"), "").await?;
    }
    let sent = requests().await?.unwrap_or_default() - before;
    assert!(sent <= 6 + start.elapsed().as_secs(), "{sent} requests in {:?}", start.elapsed());
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn ready_needs_a_complete_start_and_stays_true_without_consul() -> anyhow::Result<()> {
    let (mut consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let paused = consul.pause()?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    assert_eq!((weightd.code("/live").await?, weightd.code("/ready").await?), (200, 503));
    drop(paused);
    eventually(SOON, "weightd is ready", async || {
        let code = weightd.code("/ready").await?;
        ensure!(code == 200, "{code}");
        is(&haproxy, "app", 70, 30).await
    })
    .await?;
    consul.kill().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    always(A_WHILE, "weightd stays ready", async || {
        let codes = (weightd.code("/live").await?, weightd.code("/ready").await?);
        ensure!(codes == (200, 200), "{codes:?}");
        Ok(())
    })
    .await?;
    let client = harness::http().build()?;
    for path in ["/live", "/ready", "/metrics", "/v1/status"] {
        let answer = client.post(format!("{}{path}", weightd.address())).send().await?;
        assert_eq!(answer.status(), 405, "{path} is read-only");
    }
    Ok(())
}

/// Collects the notifications to systemd until `wanted`.
pub(crate) async fn notified(socket: &UnixDatagram, wanted: &str) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    let listen = async {
        loop {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).await?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            all.extend(text.lines().map(str::to_owned));
            if all.iter().any(|line| line == wanted) {
                return anyhow::Ok(());
            }
        }
    };
    let listened = timeout(SOON, listen).await;
    listened.with_context(|| format!("no notification {wanted}, but {all:?}"))??;
    Ok(all)
}

#[tokio::test]
async fn systemd_gets_ready_without_consul_and_stopping_and_watchdog_notifications() -> anyhow::Result<()> {
    let haproxy = Haproxy::start(&backend("app", 100, 0)).await?;
    let path = haproxy.dir().join("notify.sock");
    let socket = UnixDatagram::bind(&path)?;
    let mut weightd = Settings::without_haproxy("http://127.0.0.1:9")
        .haproxy("haproxy", &haproxy.address())
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .env("WATCHDOG_USEC", "1000000")
        .start()
        .await?;
    notified(&socket, "READY=1").await?;
    for _ in 0..3 {
        timeout(Duration::from_secs(3), notified(&socket, "WATCHDOG=1"))
            .await
            .context("no notification to the watchdog")??;
    }
    weightd.stop().await?;
    notified(&socket, "STOPPING=1").await.map(drop)
}

#[tokio::test]
async fn a_shutdown_changes_no_weight() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    for signal in [Signal::TERM, Signal::INT] {
        becomes(&haproxy, "app", 70, 30).await?;
        converged(&weightd).await?;
        weightd.program().signal(signal)?;
        let status = timeout(PATIENCE, weightd.program().ended()).await??;
        assert!(status.success(), "{status} after {signal:?}");
        is(&haproxy, "app", 70, 30).await?;
        weightd.start_again().await?;
    }
    weightd.kill().await?;
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    is(&haproxy, "app", 70, 7).await?;
    stays(&haproxy, "app", 70, 7).await
}

#[tokio::test]
async fn a_shutdown_is_fast_while_consul_and_haproxy_hang() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let _paused = (consul.pause()?, haproxy.pause().await?);
    haproxy_is(&weightd, 0, "down", Some("timeout")).await?;
    let start = Instant::now();
    weightd.stop().await?;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    Ok(())
}
