//! What following costs while nothing happens.

use std::{thread, time::Duration};

use anyhow::Context as _;

use crate::{
    Options, process,
    setup::{Follower, Setup, Shape},
    table::{Goal, Report, Row},
};

/// How long everything gets to settle before it counts.
const SETTLE: Duration = Duration::from_secs(3);

/// With one backend, with some, and with a thousand.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for backends in options.backends.clone().unwrap_or_else(|| vec![1, 100, 1000]) {
        let shape = Shape::new(backends, 10);
        measure(shape, Duration::from_secs(options.seconds.unwrap_or(60)), report).await?;
    }
    Ok(())
}

async fn measure(shape: Shape, during: Duration, report: &mut Report) -> anyhow::Result<()> {
    let case = format!("idle, {} backends", shape.backends);
    let mut setup = Setup::start(shape, &[]).await?;
    thread::sleep(SETTLE);
    let mut pids = Vec::new();
    for side in &mut setup.sides {
        pids.push((side.follower.pid()?, side.haproxy.pid().await?));
    }
    let used = || pids.iter().map(|(own, haproxy)| Ok([process::cpu(*own)?, process::cpu(*haproxy)?]));
    let before = used().collect::<anyhow::Result<Vec<_>>>()?;
    thread::sleep(during);
    let after = used().collect::<anyhow::Result<Vec<_>>>()?;
    let percent = |side: usize, of: usize| 100.0 * (after[side][of] - before[side][of]) / during.as_secs_f64();
    // Before the status is asked for, which takes memory of its own.
    let memory = pids.iter().map(|(own, _)| process::memory(*own)).collect::<anyhow::Result<Vec<_>>>()?;
    for wrong in setup.differences()? {
        report.expect(false, || format!("{case}: at the end {wrong}"));
    }
    let (requests, listing) = (a_minute(&setup).await?, setup.listing_bytes(0)?);
    let kib = f64::from(u32::try_from(listing)?) / 1024.0;
    let goal = |row: Row, most| if shape.backends == 1000 { row.goal(Goal::AtMost(most)) } else { row };
    let row = |figure, unit| Row::new(&case, figure, unit);
    report.rows([
        goal(row("CPU", "%").weightd(percent(0, 0)).floor(percent(1, 0)), 0.5),
        goal(row("resident", "MiB").weightd(memory[0].resident).floor(memory[1].resident), 20.0),
        row("resident at most", "MiB").weightd(memory[0].peak).floor(memory[1].peak),
        row("HAProxy's CPU", "%").weightd(percent(0, 1)).floor(percent(1, 1)),
        row("requests to Consul", "1/min").weightd(requests),
        row("read from Consul, about", "KiB/min").weightd(requests * kib),
    ]);
    Ok(())
}

/// Requests a minute that weightd has sent since it started, those of the start included.
async fn a_minute(setup: &Setup) -> anyhow::Result<f64> {
    let Follower::Weightd(weightd) = &setup.sides[0].follower else { return Ok(0.0) };
    let status = weightd.status().await?;
    let requests = status["instances"][0]["consul"]["requests"].as_f64().context("no requests in the status")?;
    let uptime = status["uptime_seconds"].as_f64().context("no uptime in the status")?;
    Ok(requests / uptime * 60.0)
}
