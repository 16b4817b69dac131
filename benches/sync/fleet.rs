//! Many weightd on one Consul, each with a HAProxy of its own, against as many bare watchers: how long one change takes
//! to the last of them, and what it costs Consul. And against as many floors, each of which has a
//! HAProxy to talk to as well.
//!
//! All of them share the cores of one machine, as nodes of a fleet do not: so there is also one weightd among as many
//! watchers.
//!
//! When a weightd or a floor has set a weight is what its log says, in microseconds; an observer that looked at hundreds
//! of them all the time would be most of the load. It looks at all of them in the end.

use std::{
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    Options, floor,
    harness::{Consul, Haproxy, Weightd, program::Program, weightd::Settings},
    http::Http,
    observer, process,
    setup::{self, Shape},
    stats::{Counts, Samples},
    table::{Goal, Report, Row},
};

/// A backend for weightd and one for the floor.
const SHAPE: Shape = Shape::new(2, 2);
const PREFIX: &str = "weightd/weights/";
const WATCHED: &str = "watched/weights/";
const FLOOR: &str = "floor/weights/";
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
        curve.push(measure(nodes, options.rounds.unwrap_or(12), report).await?);
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

/// A HAProxy with those who follow Consul for it.
struct Node {
    weightd: Weightd,
    floor: Program,
    haproxy: Haproxy,
    _dir: TempDir,
}

impl Node {
    /// One whose weightd has its documents below `prefix`.
    async fn start(consul: &Consul, prefix: &str) -> anyhow::Result<Self> {
        let haproxy = Haproxy::start(&SHAPE.config()).await?;
        let root = prefix.trim_end_matches("weights/");
        let weightd = Settings::new(consul, &haproxy).set("consul.root", root).start().await?;
        let dir = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let mut floor = floor::program(false, dir.path(), &consul.address(), FLOOR, &haproxy.socket())?;
        floor.spawn()?;
        Ok(Self { weightd, floor, haproxy, _dir: dir })
    }
}

/// What the documents below a prefix say.
fn weights(prefix: &str, weight: u32) -> observer::Weights {
    let name = setup::backend(usize::from(prefix == FLOOR));
    SHAPE.weights(|_| weight).into_iter().filter(|(backend, _)| *backend == name).collect()
}

async fn measure(nodes: usize, rounds: usize, report: &mut Report) -> anyhow::Result<Point> {
    let case = format!("fleet, {nodes} nodes");
    let consul = Consul::start().await?;
    let mut http = Http::connect(&consul.address())?;
    for prefix in [PREFIX, WATCHED, FLOOR] {
        setup::write(&mut http, prefix, &weights(prefix, 50), 0)?;
    }
    let mut fleet = Vec::new();
    for _ in 0..nodes {
        fleet.push(Node::start(&consul, PREFIX).await?);
    }
    let lone = Node::start(&consul, WATCHED).await?;
    for node in fleet.iter().chain([&lone]) {
        let followed = observer::until(&node.haproxy.socket(), &SHAPE.weights(|_| 50), LOST_AFTER, true)?;
        followed.with_context(|| format!("a weightd did not follow:\n{}{}", node.weightd.log(), node.floor.log()))?;
    }
    let watchers = watch(&consul.address(), nodes)?;

    let pid = consul.pid()?;
    thread::sleep(SETTLE);
    let idle = idle(pid)?;
    let (mut times, mut cpu) = (vec![Samples::default(); 4], [0.0; 3]);
    let mut order = [0, 1, 2];
    let mut weight = 50;
    for round in 1..=rounds {
        weight = u32::try_from(round % 200)? + 51;
        fastrand::shuffle(&mut order);
        for side in order {
            thread::sleep(SETTLE);
            let (before, from) = (process::cpu(pid)?, Instant::now());
            let number = u64::try_from(round)?;
            let mut change = |prefix| setup::write(&mut http, prefix, &weights(prefix, weight), number);
            let at = Timestamp::now();
            let time = match side {
                0 => to_the_last_log(|| change(PREFIX), SHAPE.servers, fleet.iter().map(|node| || node.weightd.log()))?,
                1 => to_the_last_watcher(|| change(WATCHED), &watchers, nodes)?,
                _ => to_the_last_log(|| change(FLOOR), 1, fleet.iter().map(|node| || node.floor.log()))?,
            };
            thread::sleep(SETTLE);
            cpu[side] += process::cpu(pid)? - before - from.elapsed().as_secs_f64() * idle / 100.0;
            if side == 1 {
                let told = told(|| lone.weightd.log(), SHAPE.servers, at)?;
                times[3].extend(told.map(|told| told.duration_since(at).unsigned_abs()));
            }
            match time {
                Some(time) => times[side].push(time),
                None => report.expect(false, || format!("{case}: not all of them followed change {round}")),
            }
        }
    }
    for node in fleet.iter().chain([&lone]) {
        for wrong in observer::differences(&node.haproxy.socket(), &SHAPE.weights(|_| weight))? {
            report.expect(false, || format!("{case}: at the end {wrong}"));
        }
    }
    // The watchers' answers go to one weightd more.
    cpu[1] *= Counts::figure(u64::try_from(nodes)?) / Counts::figure(u64::try_from(nodes)? + 1);
    let a_change = |side: usize| cpu[side] * 1000.0 / f64::from(u32::try_from(rounds).unwrap_or(u32::MAX));
    let row = |figure: &str, unit| Row::new(&case, figure, unit);
    let time = |figure, percent, side: usize| {
        row(figure, "ms").weightd(times[0].percentile(percent)).floor(times[side].percentile(percent))
    };
    report.rows([
        time("to the last, p50, floor: watchers", 50.0, 1).goal(Goal::TimesFloor(3.0)),
        time("to the last, max, floor: watchers", 100.0, 1),
        time("to the last, p50, floor: as many floors", 50.0, 2),
        row("one among watchers, p50, floor: the last of them", "ms")
            .weightd(times[3].percentile(50.0))
            .floor(times[1].percentile(50.0)),
        row("one among watchers, max, floor: the last of them", "ms").weightd(times[3].max()).floor(times[1].max()),
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

/// From the change to the last line in a log that says that a weight was set and read back. Each log has so many `lines`
/// for it. Nobody reads them before it is over, as a rule: that would take the CPU from who is measured.
fn to_the_last_log<L: Fn() -> String>(
    change: impl FnOnce() -> anyhow::Result<()>,
    lines: usize,
    logs: impl Iterator<Item = L>,
) -> anyhow::Result<Option<Duration>> {
    let from = Timestamp::now();
    change()?;
    thread::sleep(SETTLE);
    let mut last = from;
    for log in logs {
        let Some(at) = told(log, lines, from)? else { return Ok(None) };
        last = last.max(at);
    }
    Ok(Some(last.duration_since(from).unsigned_abs()))
}

/// When the last of so many `lines` in a log says that a weight was set, after `from`.
fn told(log: impl Fn() -> String, lines: usize, from: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let deadline = Instant::now() + LOST_AFTER;
    while Instant::now() < deadline {
        let log = log();
        let stamps = log.lines().rev().filter(|line| line.contains(" set")).map_while(|line| {
            let stamp = line.split(' ').next().and_then(|stamp| stamp.parse::<Timestamp>().ok());
            stamp.filter(|stamp| *stamp >= from)
        });
        let stamps: Vec<_> = stamps.collect();
        ensure!(stamps.len() <= lines, "more was set than was to be:\n{log}");
        if stamps.len() == lines {
            return Ok(stamps.into_iter().max());
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

/// From the write to the last watcher having read the answer.
fn to_the_last_watcher(
    change: impl FnOnce() -> anyhow::Result<()>,
    watchers: &Receiver<Instant>,
    nodes: usize,
) -> anyhow::Result<Option<Duration>> {
    let mut last = Instant::now();
    let from = last;
    change()?;
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
