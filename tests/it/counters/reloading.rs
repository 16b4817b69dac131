//! Processes that end: a reload with and without the master's socket, and counters that are cleared.

use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;
use weightd_core::fleet::View;

use super::{blue_green, counted, last, observe, published, reports, viewed};
use crate::harness::{
    Consul, Haproxy, Port, Weightd, haproxy,
    toy::{Got, Toy, get},
    weightd::Settings,
};

/// Requests that are in flight when HAProxy is reloaded.
const N: u64 = 20;

fn body(port: u16, toy: u16) -> String {
    format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 10s\n    timeout server 5s\n\
         frontend f\n    bind 127.0.0.1:{port}\n    default_backend app\n\
         backend app\n    balance roundrobin\n    server blue 127.0.0.1:{toy}\n    server green 127.0.0.1:{toy}\n"
    )
}

struct Lab {
    consul: Consul,
    haproxy: Haproxy,
    port: Port,
    _toy: Toy,
    _weightd: Weightd,
}

/// A node with an observed backend, whose first block is closed.
async fn lab(with_master: bool, view: &View) -> anyhow::Result<Lab> {
    let (toy, port) = (Toy::start().await?, Port::free()?);
    let (consul, haproxy) =
        tokio::try_join!(Consul::start(), async { Haproxy::start(&body(port.number(), toy.port())).await })?;
    consul.put("weightd/observe/_", "").await?;
    let address = haproxy.address();
    let master = format!("unix:{}", haproxy.dir().join("master.sock").display());
    let mut keys = vec![("name", "haproxy"), ("address", address.as_str())];
    if with_master {
        keys.push(("master_socket", master.as_str()));
    }
    let weightd = Settings::without_haproxy(&consul.address()).instance(&keys).start().await?;
    published(&weightd).await?;
    observe(&consul, "app", "1", view, 1).await?;
    reports(&consul, super::A_BLOCK, "the first block", |report| last(report, "app", view).map(drop)).await?;
    Ok(Lab { consul, haproxy, port, _toy: toy, _weightd: weightd })
}

/// Sends requests that take 300 ms and one that takes 2 s, and reloads meanwhile. All of them are answered.
async fn reload_with_requests(lab: &mut Lab) -> anyhow::Result<()> {
    let mut requests = JoinSet::new();
    for number in 0..N {
        let (port, path) = (lab.port.number(), if number == 0 { "/slower" } else { "/slow" });
        requests.spawn(async move { get(port, path).await });
    }
    // All of them have reached the old worker.
    crate::harness::eventually(Duration::from_secs(5), "the requests are in flight", async || {
        let stat = lab.haproxy.command("show stat").await?;
        let row = stat.lines().find(|line| line.starts_with("app,BACKEND")).unwrap_or_default().to_owned();
        ensure!(row.split(',').nth(4) == Some(N.to_string().as_str()), "{row}");
        Ok(())
    })
    .await?;
    lab.haproxy.reload_again().await?;
    while let Some(got) = requests.join_next().await {
        ensure!(got?? == Got::Answer(200));
    }
    for _ in 0..N {
        ensure!(get(lab.port.number(), "/200").await? == Got::Answer(200));
    }
    Ok(())
}

#[tokio::test]
async fn without_the_masters_socket_a_reload_tears_the_block() -> anyhow::Result<()> {
    let view = View::default();
    let mut lab = lab(false, &view).await?;
    reload_with_requests(&mut lab).await?;
    let torn = reports(&lab.consul, super::A_BLOCK * 2, "a torn block", |report| {
        viewed(report, "app", &view)?.blocks.iter().find(|block| block.torn).cloned()
    })
    .await?;
    let sums = counted(&lab.consul, "app", &view, "other", |sums| sums.requests >= N).await?;
    ensure!(sums.requests <= 2 * N && sums.errors == 0, "{sums:?} after {torn:?}");
    Ok(())
}

#[tokio::test]
async fn with_the_masters_socket_a_worker_that_leaves_is_counted_to_its_end() -> anyhow::Result<()> {
    let view = View::default();
    let mut lab = lab(true, &view).await?;
    reload_with_requests(&mut lab).await?;
    if haproxy::version()? < (2, 4) {
        // Such a worker shows no rows once it leaves.
        let torn = |report: &_| viewed(report, "app", &view)?.blocks.iter().find(|block| block.torn).map(drop);
        return reports(&lab.consul, super::A_BLOCK * 2, "a torn block", torn).await;
    }
    // The worker exits with its last request, whose end is not seen; the others end while it is read.
    let sums = counted(&lab.consul, "app", &view, "other", |sums| sums.requests >= 2 * N - 1).await?;
    ensure!(sums.requests <= 2 * N && sums.errors == 0, "{sums:?}");
    Ok(())
}

#[tokio::test]
async fn cleared_counters_tear_the_block_and_no_sum_goes_backwards() -> anyhow::Result<()> {
    let view = blue_green();
    let lab = lab(false, &view).await?;
    for _ in 0..N {
        ensure!(get(lab.port.number(), "/200").await? == Got::Answer(200));
    }
    let before = counted(&lab.consul, "app", &view, "to", |sums| sums.requests == N / 2).await?;
    lab.haproxy.command("clear counters all").await?;
    // The report is checked as a reader checks it: sums that go backwards are an error.
    let block = reports(&lab.consul, super::A_BLOCK * 2, "a torn block", |report| {
        last(report, "app", &view).filter(|block| block.torn).cloned()
    })
    .await?;
    ensure!(block.sums["to"] == before, "{:?} after {before:?}", block.sums["to"]);
    for _ in 0..N {
        ensure!(get(lab.port.number(), "/500").await? == Got::Answer(500));
    }
    let after = counted(&lab.consul, "app", &view, "to", |sums| sums.errors == N / 2).await?;
    ensure!(after.requests == N, "{after:?}");
    Ok(())
}
