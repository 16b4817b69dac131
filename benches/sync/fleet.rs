//! Many weightd on one Consul, each with a HAProxy of its own, against as many bare watchers: how long one change takes
//! to the last of them, and what it costs Consul.
//!
//! When a weightd has set a weight is what its log says, in microseconds; an observer that looked at hundreds of them
//! all the time would be most of the load. It looks at all of them in the end.

use std::{
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use tokio::time::Instant;

use crate::{
    Options,
    harness::{Consul, Haproxy, Weightd},
    http::Http,
    observer, process,
    setup::{self, Shape},
    stats::Samples,
    table::{Goal, Report, Row},
};

const SHAPE: Shape = Shape::new(1, 2);
const PREFIX: &str = "weightd/weights/";
const WATCHED: &str = "watched/weights/";
/// After this a node has not followed.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Between two looks at the logs.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long everybody gets to be waiting again.
const SETTLE: Duration = Duration::from_millis(700);

/// Where files lie in memory.
const MEMORY: &str = "/dev/shm";

/// With a few nodes and with many; where all of those were measured, what more of them would take.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    // Each node of a fleet has a disk of its own; here all of them would wait for one.
    if Path::new(MEMORY).is_dir() {
        tempfile::env::override_temp_dir(Path::new(MEMORY)).ok().context("temporary files lie elsewhere already")?;
    }
    let mut curve = Vec::new();
    for nodes in options.backends.clone().unwrap_or_else(|| vec![10, 50, 200]) {
        curve.push(measure(nodes, options.rounds.unwrap_or(20), report).await?);
    }
    if let [.., few, many] = &curve[..] {
        report.notes.push(estimate(*few, *many));
    }
    Ok(())
}

/// What one size of the fleet showed.
#[derive(Debug, Clone, Copy)]
struct Point {
    nodes: f64,
    /// Until the last node had it, in ms.
    last: f64,
    /// Consul's CPU for one change, in ms.
    consul: f64,
}

/// Straight on from the last two points: what is measured here includes the work of all nodes on one machine, so that
/// of the time this is the most, and of Consul's CPU a fair guess.
fn estimate(few: Point, many: Point) -> String {
    let on = |nodes: f64, of: fn(Point) -> f64| {
        of(many) + (of(many) - of(few)) / (many.nodes - few.nodes) * (nodes - many.nodes)
    };
    let line = |nodes: f64| {
        let (last, consul) = (on(nodes, |point| point.last), on(nodes, |point| point.consul));
        format!("{nodes:.0} nodes: the last after {last:.0} ms, {consul:.0} ms of Consul's CPU a change")
    };
    format!("fleet, straight on from {:.0} and {:.0}: {}; {}", few.nodes, many.nodes, line(1000.0), line(10_000.0))
}

async fn measure(nodes: usize, rounds: usize, report: &mut Report) -> anyhow::Result<Point> {
    let case = format!("fleet, {nodes} nodes");
    let consul = Consul::start().await?;
    let mut http = Http::connect(&consul.address())?;
    let mut desired = SHAPE.weights(|_| 50);
    for prefix in [PREFIX, WATCHED] {
        setup::write(&mut http, prefix, &desired, 0)?;
    }
    let mut fleet = Vec::new();
    for _ in 0..nodes {
        let haproxy = Haproxy::start(&SHAPE.config()).await?;
        fleet.push((Weightd::start(&consul, &haproxy).await?, haproxy));
    }
    for (weightd, haproxy) in &fleet {
        let followed = observer::until(&haproxy.socket(), &desired, LOST_AFTER, true)?;
        followed.with_context(|| format!("a weightd did not follow:\n{}", weightd.log()))?;
    }
    let watchers = watch(&consul.address(), nodes)?;

    let pid = consul.pid()?;
    thread::sleep(SETTLE);
    let idle = idle(pid)?;
    let (mut times, mut cpu) = ([Samples::default(), Samples::default()], [0.0; 2]);
    for round in 1..=rounds {
        let weight = u32::try_from(round % 200)? + 51;
        desired = SHAPE.weights(|_| weight);
        for side in if fastrand::bool() { [0, 1] } else { [1, 0] } {
            thread::sleep(SETTLE);
            let (before, from) = (process::cpu(pid)?, Instant::now());
            let time = if side == 0 {
                to_the_last_weightd(&mut http, &desired, u64::try_from(round)?, &fleet)?
            } else {
                to_the_last_watcher(&mut http, &desired, u64::try_from(round)?, &watchers, nodes)?
            };
            thread::sleep(SETTLE);
            cpu[side] += process::cpu(pid)? - before - from.elapsed().as_secs_f64() * idle / 100.0;
            match time {
                Some(time) => times[side].push(time),
                None => report.expect(false, || format!("{case}: not all of them followed change {round}")),
            }
        }
    }
    for (_, haproxy) in &fleet {
        for wrong in observer::differences(&haproxy.socket(), &desired)? {
            report.expect(false, || format!("{case}: at the end {wrong}"));
        }
    }
    let a_change = |side: usize| cpu[side] * 1000.0 / f64::from(u32::try_from(rounds).unwrap_or(u32::MAX));
    let row = |figure: &str, unit| Row::new(&case, figure, unit);
    let time =
        |figure, percent| row(figure, "ms").weightd(times[0].percentile(percent)).floor(times[1].percentile(percent));
    report.rows([
        time("to the last, p50, floor: watchers", 50.0).goal(Goal::TimesFloor(3.0)),
        time("to the last, max", 100.0),
        row("Consul's CPU for a change", "ms").weightd(a_change(0)).floor(a_change(1)),
        row("Consul's CPU, nothing changes", "%").weightd(idle),
    ]);
    let last = times[0].percentile(50.0).context("nothing was measured")?;
    Ok(Point { nodes: f64::from(u32::try_from(nodes)?), last, consul: a_change(0) })
}

/// Consul's CPU while nothing changes, in percent of a core.
fn idle(consul: Pid) -> anyhow::Result<f64> {
    const DURING: Duration = Duration::from_secs(5);
    let before = process::cpu(consul)?;
    thread::sleep(DURING);
    Ok((process::cpu(consul)? - before) / DURING.as_secs_f64() * 100.0)
}

/// From the write to the last line in a log that says that the weight was set and read back.
fn to_the_last_weightd(
    http: &mut Http,
    desired: &observer::Weights,
    number: u64,
    fleet: &[(Weightd, Haproxy)],
) -> anyhow::Result<Option<Duration>> {
    let (from, deadline) = (SystemTime::now(), Instant::now() + LOST_AFTER);
    setup::write(http, PREFIX, desired, number)?;
    let mark = format!("reason=\"change {number}\"");
    let mut last = from;
    for (weightd, _) in fleet {
        let at = loop {
            let log = weightd.log();
            let told: Vec<_> =
                log.lines().filter(|line| line.contains(" weight set ") && line.contains(&mark)).collect();
            if let Some(line) = told.last().filter(|_| told.len() == SHAPE.servers) {
                let stamp = line.split(' ').next().unwrap_or_default();
                break stamp.parse::<jiff::Timestamp>().with_context(|| format!("no time in {line}"))?;
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY);
        };
        last = last.max(at.into());
    }
    Ok(Some(last.duration_since(from).context("the clock was set")?))
}

/// From the write to the last watcher having read the answer.
fn to_the_last_watcher(
    http: &mut Http,
    desired: &observer::Weights,
    number: u64,
    watchers: &Receiver<Instant>,
    nodes: usize,
) -> anyhow::Result<Option<Duration>> {
    let mut last = Instant::now();
    let from = last;
    setup::write(http, WATCHED, desired, number)?;
    for _ in 0..nodes {
        match watchers.recv_timeout(LOST_AFTER) {
            Ok(at) => last = last.max(at),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(last - from))
}

/// Threads that hold a blocking query each, read the answer, say when, and ask again. They end with Consul.
fn watch(consul: &str, nodes: usize) -> anyhow::Result<Receiver<Instant>> {
    let (seen, all) = channel();
    for _ in 0..nodes {
        let (seen, mut http) = (seen.clone(), Http::connect(consul)?);
        let mut index = http.get(&format!("/v1/kv/{WATCHED}?recurse"))?.index;
        ensure!(index > 0, "Consul gives no index");
        thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            loop {
                let answer = http.get(&format!("/v1/kv/{WATCHED}?recurse&index={index}&wait=55s"));
                let Ok(answer) = answer else { return };
                let changed = answer.index != index;
                index = answer.index;
                if changed && seen.send(Instant::now()).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(all)
}
