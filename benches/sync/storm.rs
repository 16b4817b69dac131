//! Many changes of one key, one after the other: the last one counts, and following must stay cheap.

use std::{thread, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    Options, process,
    setup::{Follower, Setup, Shape},
    stats::Samples,
    table::{Goal, Report, Row},
};

/// Between two changes: 500 a second, if Consul takes so many.
const STEP: Duration = Duration::from_millis(2);
/// How long a storm lasts, in seconds.
const LASTS: u64 = 20;
/// What weightd promises: reads that may follow each other at once, and reads a second after those.
const BURST: f64 = 5.0;
const A_SECOND: f64 = 10.0;

/// One storm for each side, a few times.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let shape = Shape::new(1, 2);
    let mut setup = Setup::start(shape, &[]).await?;
    let rounds = options.rounds.unwrap_or(3).max(1);
    let mut lag = vec![Samples::default(); 2];
    let (mut cpu, mut rate) = ([0.0; 2], [0.0; 2]);
    let lasts = Duration::from_secs(options.seconds.unwrap_or(LASTS));
    let (mut sent, mut allowed) = (0.0, 0.0);
    for _ in 0..rounds {
        for side in 0..2 {
            let before = requests(&setup, side).await?;
            let from = Instant::now();
            let pid = setup.sides[side].follower.pid()?;
            let cpu_before = process::cpu(pid)?;
            let mut changes = 0;
            while from.elapsed() < lasts {
                let (_, expected) = setup.choose(side, 0);
                setup.put(side, &expected)?;
                changes += 1;
                thread::sleep((from + STEP * changes).saturating_duration_since(Instant::now()));
            }
            rate[side] += f64::from(changes) / from.elapsed().as_secs_f64();
            let seen = setup.change_now(side, 0)?;
            report.expect(seen.is_some(), || format!("storm: {} lost the last change", setup.sides[side].name));
            lag[side].extend(seen);
            cpu[side] += process::cpu(pid)? - cpu_before;
            if let Some((now, before)) = requests(&setup, side).await?.zip(before) {
                // One was on its way before the storm, and a plain read may have fallen into it.
                let most = BURST + A_SECOND * from.elapsed().as_secs_f64() + 2.0;
                let count = now - before;
                report.expect(count <= most, || format!("storm: {count} reads, and {most:.0} are allowed"));
                sent += count;
                allowed += most;
            }
        }
    }
    for wrong in setup.differences()? {
        report.expect(false, || format!("storm: at the end {wrong}"));
    }
    let of_rounds = |sum: f64| sum / f64::from(u32::try_from(rounds).unwrap_or(u32::MAX));
    let row = |figure, unit| Row::new("storm", figure, unit);
    report.rows([
        row("changes", "1/s").weightd(of_rounds(rate[0])).floor(of_rounds(rate[1])),
        row("lag of the last, p50", "ms").weightd(lag[0].percentile(50.0)).floor(lag[1].percentile(50.0)),
        row("lag of the last, max", "ms").weightd(lag[0].max()).floor(lag[1].max()),
        row("reads sent", "reads").weightd(of_rounds(sent)).goal(Goal::AtMost(of_rounds(allowed).floor())),
        row("CPU used", "s").weightd(of_rounds(cpu[0])).floor(of_rounds(cpu[1])),
    ]);
    Ok(())
}

/// What weightd says it has sent to Consul.
async fn requests(setup: &Setup, side: usize) -> anyhow::Result<Option<f64>> {
    let Follower::Weightd(weightd) = &setup.sides[side].follower else { return Ok(None) };
    let status = weightd.status().await?;
    status["instances"][0]["consul"]["requests"].as_f64().context("no requests in the status").map(Some)
}
