//! Many changes of one key, one after the other: the last one counts, and following must stay cheap.

use std::{thread, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;
use weightd::consul::pace::{BURST, FASTEST};

use crate::{
    Options, peer, process,
    setup::{Follower, Setup, Shape},
    stats::{Counts, Samples},
    table::{Goal, Report, Row},
};

/// Between two changes: 500 a second, if Consul takes so many.
const STEP: Duration = Duration::from_millis(2);
/// How long a storm lasts, in seconds.
const LASTS: u64 = 20;
/// The most of a core that weightd may use during a storm, in percent.
const CPU: f64 = 20.0;

/// What the storms of one side cost, as sums over its rounds.
#[derive(Debug, Default)]
struct Side {
    lag: Samples,
    lost: u64,
    changes: u64,
    seconds: f64,
    cpu: f64,
}

impl Side {
    fn rate(&self) -> f64 {
        Counts::figure(self.changes) / self.seconds
    }

    /// In percent of a core.
    fn cpu(&self) -> f64 {
        100.0 * self.cpu / self.seconds
    }
}

/// One storm for each side, a few times.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let others = peer::of(report);
    let mut setup = Setup::start(Shape::new(1, 2), &others).await?;
    report.notes.append(&mut setup.notes);
    let rounds = options.rounds.unwrap_or(3).max(1);
    let lasts = Duration::from_secs(options.seconds.unwrap_or(LASTS));
    let mut sides: Vec<Side> = setup.sides.iter().map(|_| Side::default()).collect();
    let (mut sent, mut allowed) = (0.0, 0.0);
    for _ in 0..rounds {
        for (at, side) in sides.iter_mut().enumerate() {
            let before = requests(&setup, at).await?;
            let pid = setup.sides[at].follower.pid()?;
            let cpu_before = process::cpu(pid)?;
            let (from, mut changes) = (Instant::now(), 0);
            while from.elapsed() < lasts {
                let (_, expected) = setup.choose(at, 0);
                setup.put(at, &expected)?;
                changes += 1;
                thread::sleep((from + STEP * changes).saturating_duration_since(Instant::now()));
            }
            let seconds = from.elapsed().as_secs_f64();
            side.cpu += process::cpu(pid)? - cpu_before;
            side.changes += u64::from(changes);
            side.seconds += seconds;
            match setup.change_now(at, 0)? {
                Some(lag) => side.lag.push(lag),
                None => side.lost += 1,
            }
            if let Some((now, before)) = requests(&setup, at).await?.zip(before) {
                // One was on its way before the storm, and a plain read may have fallen into it.
                let most = f64::from(BURST) + from.elapsed().as_secs_f64() / FASTEST.as_secs_f64() + 2.0;
                let count = now - before;
                report.expect(count <= most, || format!("storm: {count} reads, and {most:.0} are allowed"));
                sent += count;
                allowed += most;
            }
        }
    }
    for (at, _) in sides.iter().enumerate().filter(|(_, side)| side.lost > 0) {
        let name = setup.sides[at].name;
        // What the peer loses is its figure, not our failure.
        report.expect(name == "peer", || format!("storm: {name} lost the last change"));
    }
    for wrong in setup.differences()? {
        report.expect(wrong.starts_with("peer"), || format!("storm: at the end {wrong}"));
    }
    let of_rounds = |sum: f64| sum / f64::from(u32::try_from(rounds).unwrap_or(u32::MAX));
    let row = |figure, unit, of: &dyn Fn(&Side) -> Option<f64>| {
        let row = Row::new("storm", figure, unit).weightd(of(&sides[0])).floor(of(&sides[1]));
        match sides.get(2) {
            Some(peer) => row.peer(of(peer)),
            None => row.without_peer(),
        }
    };
    report.rows([
        row("changes", "1/s", &|side| Some(side.rate())),
        row("lag of the last, p50", "ms", &|side| side.lag.percentile(50.0)).goal(Goal::TimesPeer(1.0)),
        row("lag of the last, max", "ms", &|side| side.lag.max()),
        row(&format!("last change lost, of {rounds}"), "changes", &|side| Some(Counts::figure(side.lost))),
        Row::new("storm", "reads sent", "reads")
            .weightd(of_rounds(sent))
            .goal(Goal::AtMost(of_rounds(allowed).floor())),
        row("CPU", "%", &|side| Some(side.cpu())).goal(Goal::AtMost(CPU)),
    ]);
    Ok(())
}

/// What weightd says it has sent to Consul.
async fn requests(setup: &Setup, side: usize) -> anyhow::Result<Option<f64>> {
    let Follower::Weightd(weightd) = &setup.sides[side].follower else { return Ok(None) };
    let status = weightd.status().await?;
    status["instances"][0]["consul"]["requests"].as_f64().context("no requests in the status").map(Some)
}
