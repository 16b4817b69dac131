//! Everything at once: all servers changed while nobody followed, and all servers found wrong at the start.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    Options,
    http::Http,
    observer,
    setup::{self, Follower, Other, Setup, Shape},
    stats::Samples,
    table::{Goal, Report, Row},
};

/// A thousand backends of ten servers.
const ALL: Shape = Shape::new(1000, 10);
/// How long weightd may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether it is.
const POLL: Duration = Duration::from_micros(500);

/// All servers changed while who follows is stopped, so that one or two reads of the prefix bring everything. From the
/// moment it goes on.
///
/// The floor that looks is the one that the goal names: it reads, decodes, looks, sets, reads back. weightd does not look
/// here: no server goes to 0.
pub async fn changed(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for consistent in [false, true] {
        change_all(Shape { consistent, ..ALL }, options, report).await?;
    }
    Ok(())
}

async fn change_all(all: Shape, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut setup = Setup::start(all, &[Other::FloorThatLooks]).await?;
    let mut times = vec![Samples::default(); setup.sides.len()];
    let mut order = (0..setup.sides.len()).collect::<Vec<_>>();
    let rounds = options.rounds.unwrap_or(10);
    for round in 0..rounds {
        // Far apart: the next weight would cost a consistent hash little.
        let weight = u32::try_from(round % 20)? + if round % 2 == 0 { 20 } else { 200 };
        fastrand::shuffle(&mut order);
        for &side in &order {
            setup.sides[side].follower.program().signal(Signal::STOP)?;
            let prefix = setup.sides[side].prefix.clone();
            setup.sides[side].desired = all.weights(|server| weight + u32::try_from(server).unwrap_or_default());
            let desired = setup.sides[side].desired.clone();
            setup.write(&prefix, &desired)?;
            let Setup { observer, sides, .. } = &mut setup;
            let socket = sides[side].socket().to_owned();
            let seen = observer.time(&socket, desired, || sides[side].follower.program().signal(Signal::CONT))?;
            report.expect(seen.is_some(), || format!("mass: {} lost changes", setup.sides[side].name));
            times[side].extend(seen);
            // The next round finds the token bucket full again.
            thread::sleep(Duration::from_millis(600));
        }
    }
    let case = if all.consistent { "mass change, consistent hash" } else { "mass change, 10,000 servers" };
    end(case, &setup, &times, report)
}

/// All servers wrong when who follows is started, without anything known from before. From the start of its process.
pub async fn first(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut setup = Setup::start(ALL, &[]).await?;
    let mut times = vec![Samples::default(); 2];
    for _ in 0..options.rounds.unwrap_or(10) {
        for side in if fastrand::bool() { [0, 1] } else { [1, 0] } {
            let own = &mut setup.sides[side];
            own.follower.program().kill().await?;
            if let Follower::Weightd(weightd) = &own.follower {
                empty(&weightd.dir().join("state"))?;
            }
            own.haproxy.reload_again().await?;
            let desired = own.desired.clone();
            let wrong = observer::differences(own.socket(), &desired)?.len();
            ensure!(wrong == ALL.backends, "only {wrong} backends are wrong after a reload");
            let Setup { observer, sides, .. } = &mut setup;
            let socket = sides[side].socket().to_owned();
            let seen = observer.time(&socket, desired, || sides[side].follower.program().spawn())?;
            report.expect(seen.is_some(), || format!("first: {} did not converge", setup.sides[side].name));
            times[side].extend(seen);
        }
    }
    let case = "first convergence, 10,000 servers";
    end(case, &setup, &times, report)?;
    let row = Row::new(case, "HAProxy's `show stat` for all of them, alone", "ms");
    report.rows([row.weightd(roles(setup.sides[0].socket())?.percentile(50.0))]);
    drop(setup);
    ready(options, report).await
}

/// What it takes HAProxy to tell the roles of all servers, a hundred backends at a time, as weightd asks for them. The
/// floor does without.
fn roles(socket: &Path) -> anyhow::Result<Samples> {
    let mut times = Samples::default();
    for _ in 0..5 {
        let from = Instant::now();
        for batch in (0..ALL.backends).collect::<Vec<_>>().chunks(100) {
            let commands = batch.iter().map(|at| format!("show stat {} 6 -1", setup::backend(*at)));
            observer::exchange(socket, &commands.collect::<Vec<_>>().join(";"))?;
        }
        times.push(from.elapsed());
    }
    Ok(times)
}

/// From the start of weightd's process to `/ready`, with one backend.
async fn ready(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut setup = Setup::start(Shape::new(1, 2), &[]).await?;
    let mut times = Samples::default();
    for _ in 0..options.rounds.unwrap_or(20) {
        let Follower::Weightd(weightd) = &mut setup.sides[0].follower else { continue };
        weightd.stop().await?;
        let address = weightd.address();
        let from = Instant::now();
        weightd.program().spawn()?;
        while Http::connect(&address)
            .and_then(|mut http| http.get("/ready"))
            .map_or(true, |answer| answer.status != 200)
        {
            ensure!(from.elapsed() < PATIENCE, "weightd is not ready:\n{}", weightd.log());
            thread::sleep(POLL);
        }
        times.push(from.elapsed());
    }
    for wrong in setup.differences()? {
        report.expect(false, || format!("ready: at the end {wrong}"));
    }
    let row = |figure, percent| Row::new("ready, 1 backend", figure, "ms").weightd(times.percentile(percent));
    report.rows([row("p50", 50.0).goal(Goal::AtMost(50.0)), row("max", 100.0)]);
    Ok(())
}

fn end(case: &str, setup: &Setup, times: &[Samples], report: &mut Report) -> anyhow::Result<()> {
    for wrong in setup.differences()? {
        report.expect(false, || format!("{case}: at the end {wrong}"));
    }
    let row = |figure, percent| {
        let row = Row::new(case, figure, "ms").weightd(times[0].percentile(percent));
        row.floor(times[1].percentile(percent))
    };
    report.rows([row("p50", 50.0).goal(Goal::TimesFloor(1.3)), row("max", 100.0)]);
    if let Some(looks) = times.get(2) {
        let row = Row::new(case, "p50, floor: a floor that looks", "ms").weightd(times[0].percentile(50.0));
        report.rows([row.floor(looks.percentile(50.0)).goal(Goal::TimesFloor(1.3))]);
    }
    Ok(())
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    for file in fs::read_dir(folder).context("no state of weightd")? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}
