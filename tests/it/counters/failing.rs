//! Each kind of failure, counted by the node and at the client.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;
use weightd_core::fleet::View;

use super::{blue_green, counted, node, observe, published, report, reports, viewed};
use crate::harness::{
    Consul, Haproxy, Port, eventually, haproxy,
    toy::{Got, Toy, get},
    weightd::Settings,
};

/// Requests of each kind.
const N: u64 = 8;

/// A way to fail, in a backend of its own.
struct Kind {
    /// The backend.
    backend: &'static str,
    /// The command to the application.
    command: &'static str,
    /// Errors that users see, of [`N`] requests.
    errors: u64,
    /// Masked attempts at green.
    masked: u64,
}

const fn kind(backend: &'static str, command: &'static str, errors: u64, masked: u64) -> Kind {
    Kind { backend, command, errors, masked }
}

const KINDS: [Kind; 13] = [
    kind("k-ok", "200", 0, 0),
    kind("k-404", "404", 0, 0),
    kind("k-304", "304", 0, 0),
    kind("k-500", "500", N, 0),
    kind("k-503", "503", N, 0),
    kind("k-close", "close", N, 0),
    kind("k-reset", "reset", N, 0),
    kind("k-garbage", "garbage", N, 0),
    kind("k-half", "half", N, 0),
    kind("k-truncated", "truncated", N, 0),
    kind("k-hang", "hang", N, 0),
    kind("k-refused", "200", N, N),
    kind("k-redispatched", "200", 0, N),
];

/// A frontend whose path chooses the backend, and the backends of [`KINDS`].
fn body(port: u16, toy: u16, closed: u16) -> String {
    let mut text = format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 10s\n    timeout server 1s\n\
         frontend f\n    bind 127.0.0.1:{port}\n    use_backend %[path,field(2,/)]\n"
    );
    for Kind { backend, .. } in KINDS {
        let lines = match backend {
            "k-refused" => format!("retries 1\n    no option redispatch\n    server green 127.0.0.1:{closed}"),
            // Each request tries green first.
            "k-redispatched" => format!(
                "retries 1\n    option redispatch 1\n    balance first\n    server green 127.0.0.1:{closed} maxconn 100\n\
                 \x20   server blue 127.0.0.1:{toy} maxconn 100"
            ),
            _ => format!("server green 127.0.0.1:{toy}"),
        };
        text.extend(["backend ", backend, "\n    ", &lines, "\n"]);
    }
    text
}

#[tokio::test]
async fn every_kind_of_failure_is_counted_as_the_client_counts_it() -> anyhow::Result<()> {
    let (toy, port, closed) = (Toy::start().await?, Port::free()?, Port::free()?);
    let (consul, haproxy) = tokio::try_join!(Consul::start(), async {
        Haproxy::start(&body(port.number(), toy.port(), closed.number())).await
    })?;
    let _weightd = node(&consul, &haproxy).await?;
    let view = blue_green();
    for Kind { backend, .. } in KINDS {
        observe(&consul, backend, "1", &view, 1).await?;
    }
    reports(&consul, Duration::from_secs(10), "all backends are read", |report| {
        (report.backends.len() == KINDS.len()).then_some(())
    })
    .await?;

    for Kind { backend, command, errors, masked } in KINDS {
        let mut seen = 0;
        let path = format!("/{backend}/{command}");
        for got in futures_util::future::join_all((0..N).map(|_| get(port.number(), &path))).await {
            seen += u64::from(got?.is_error());
        }
        ensure!(seen == errors, "the client saw {seen} errors of {backend}");
        ensure!(masked == 0 || backend.starts_with("k-re"), "{backend}");
    }
    let version = haproxy::version()?;
    for Kind { backend, errors, masked, .. } in KINDS {
        let redispatched = backend == "k-redispatched";
        // A redispatched request is one of blue.
        let requests = if redispatched { 0 } else { N };
        let attempts = if backend == "k-refused" { 2 * N } else { N };
        let sums = counted(&consul, backend, &view, "to", |sums| {
            (sums.requests, sums.attempts) == (requests, attempts) && sums.completed >= N
        })
        .await
        .with_context(|| format!("{backend} on HAProxy {version:?}"))?;
        let kinds = sums.status_5xx + sums.connect + sums.response;
        ensure!((sums.errors, sums.masked, kinds) == (errors, masked, errors), "{backend}: {sums:?}");
        ensure!(sums.refused == if backend == "k-404" { N } else { 0 }, "{backend}: {sums:?}");
        ensure!(sums.redirected == if backend == "k-304" { N } else { 0 }, "{backend}: {sums:?}");
        ensure!(sums.connect == if backend == "k-refused" { N } else { 0 }, "{backend}: {sums:?}");
        ensure!(sums.redispatched == if redispatched { N } else { 0 }, "{backend}: {sums:?}");
    }
    Ok(())
}

/// Blue and green of one application each; green gets a third.
fn two_sides(port: u16, toy: u16) -> String {
    format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 10s\n    timeout server 5s\n\
         frontend f\n    bind 127.0.0.1:{port}\n    default_backend app\n\
         backend app\n    balance roundrobin\n    server blue 127.0.0.1:{toy} weight 100\n    server green 127.0.0.1:{toy} weight 50\n"
    )
}

#[tokio::test]
async fn a_first_failure_is_written_within_a_second_and_health_is_not() -> anyhow::Result<()> {
    let (toy, port) = (Toy::start().await?, Port::free()?);
    let (consul, haproxy) =
        tokio::try_join!(Consul::start(), async { Haproxy::start(&two_sides(port.number(), toy.port())).await })?;
    let weightd = node(&consul, &haproxy).await?;
    let view = blue_green();
    observe(&consul, "app", "1", &view, 1).await?;
    reports(&consul, Duration::from_secs(10), "the first answer", |report| viewed(report, "app", &view).map(drop))
        .await?;
    // Right after a block, so that no block is written meanwhile.
    let closed =
        reports(&consul, super::A_BLOCK, "a block", |report| super::last(report, "app", &view).map(|block| block.k));
    closed.await?;
    let writes = r#"weightd_counters_writes_total{root="weightd/"}"#;
    for _ in 0..30 {
        ensure!(get(port.number(), "/200").await? == Got::Answer(200));
    }
    let before = weightd.metric(writes).await?;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    ensure!(weightd.metric(writes).await? <= before + 0.5, "health causes no write");

    let failed = Instant::now();
    for _ in 0..6 {
        ensure!(get(port.number(), "/500").await? == Got::Answer(500));
    }
    let slot = eventually(Duration::from_secs(5), "the slot is written", async || {
        let report = report(&consul).await?;
        let slots = viewed(&report, "app", &view).map(|view| view.slots.clone()).unwrap_or_default();
        slots.into_iter().find(|slot| slot.to.errors == 2).context("no slot with the failures")
    })
    .await?;
    let after = failed.elapsed();
    println!("a failure is in Consul after {} ms", after.as_millis());
    ensure!(after < Duration::from_millis(2500), "{after:?}");
    ensure!((slot.from.errors, slot.from.requests, slot.to.requests) == (4, 4, 2), "{slot:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(now / 2 - slot.k <= 3, "slot {} at {now}", slot.k);
    Ok(())
}

#[tokio::test]
async fn tcp_counts_connections() -> anyhow::Result<()> {
    let (toy, port, closed) = (Toy::start().await?, Port::free()?, Port::free()?);
    let body = format!(
        "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 10s\n    timeout server 5s\n    retries 0\n\
         listen ok\n    bind 127.0.0.1:{port}\n    server green 127.0.0.1:{}\n\
         backend dead\n    server green 127.0.0.1:{closed}\n",
        toy.port()
    );
    let (consul, haproxy) = tokio::try_join!(Consul::start(), async { Haproxy::start(&body).await })?;
    let weightd = Settings::new(&consul, &haproxy).start().await?;
    published(&weightd).await?;
    consul.put("weightd/observe/_", "").await?;
    let view = View::default();
    observe(&consul, "ok", "1", &view, 1).await?;
    reports(&consul, Duration::from_secs(15), "the first answer", |report| viewed(report, "ok", &view).map(drop))
        .await?;
    for _ in 0..N {
        ensure!(get(port.number(), "/500").await? == Got::Answer(500));
    }
    let sums = counted(&consul, "ok", &view, "other", |sums| sums.requests == N).await?;
    ensure!((sums.errors, sums.answered, sums.started, sums.completed) == (0, 0, N, N), "{sums:?}");
    let mode = report(&consul).await?.backends[0].instances[0].mode;
    ensure!(mode == weightd_core::fleet::counters::Protocol::Tcp, "{mode:?}");
    Ok(())
}
