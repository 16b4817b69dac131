//! Changes of one key at a steady rate, whether the one before has arrived or not: how late each of them is.
//!
//! The lag of a change ends when HAProxy has its weights, or those of a later change. So all followers are measured alike,
//! whether they set the weights of each change or skip some.

use std::{
    collections::VecDeque,
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    Options, observer, peer,
    setup::{self, Setup, Shape},
    stats::{Counts, Samples},
    table::{Goal, Report, Row},
};

/// Changes a second.
const RATES: [u32; 2] = [12, 33];
/// How long each rate is kept up for each side, in seconds.
const LASTS: u64 = 20;
/// How many turns the sides take within that, so that what else the machine does meets all of them.
const TURNS: u32 = 4;
/// After this a change counts as lost. Less than [`CYCLE`] changes at the highest rate, so that no weights stand for two.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// After so many changes the weights repeat.
const CYCLE: u32 = 255;
/// Between two readings of HAProxy while a change is awaited. A lag is too long by at most this and one reading, on all
/// sides; a shorter pause would take CPU time from the follower.
const PAUSE: Duration = Duration::from_micros(200);

/// A change that was written, or is about to be.
struct Change {
    /// The weight of the first server, which no other change has within [`LOST_AFTER`].
    weight: u32,
    at: Instant,
}

/// What became of the changes of one side.
#[derive(Debug, Default)]
struct Outcome {
    lag: Samples,
    lost: u64,
}

/// Each rate, for each side.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let others = peer::of(report);
    let mut setup = Setup::start(Shape::new(1, 2), &others).await?;
    report.notes.append(&mut setup.notes);
    setup.share = |before| before % CYCLE + 1;
    let turn = Duration::from_secs(options.seconds.unwrap_or(LASTS)) / TURNS;
    for rate in RATES {
        measure(&mut setup, rate, turn, report)?;
    }
    for wrong in setup.differences()? {
        // What the peer loses is its figure, not our failure.
        report.expect(wrong.starts_with("peer"), || format!("sustained: at the end {wrong}"));
    }
    Ok(())
}

fn measure(setup: &mut Setup, rate: u32, turn: Duration, report: &mut Report) -> anyhow::Result<()> {
    let case = format!("sustained, {rate} a second");
    let mut sides: Vec<Outcome> = setup.sides.iter().map(|_| Outcome::default()).collect();
    let mut order: Vec<usize> = (0..sides.len()).collect();
    let mut changes = 0;
    for _ in 0..TURNS {
        fastrand::shuffle(&mut order);
        for &at in &order {
            changes = one_turn(setup, at, rate, turn, &mut sides[at])?;
        }
    }
    for (at, side) in sides.iter().enumerate().filter(|(_, side)| side.lost > 0) {
        let name = setup.sides[at].name;
        report.expect(name == "peer", || format!("{case}: {name} lost {} changes", side.lost));
    }
    let row = |figure: &str, unit, of: &dyn Fn(&Outcome) -> Option<f64>| {
        let row = Row::new(&case, figure, unit).weightd(of(&sides[0])).floor(of(&sides[1]));
        match sides.get(2) {
            Some(peer) => row.peer(of(peer)),
            None => row.without_peer(),
        }
    };
    report.rows([
        row("lag, p50", "ms", &|side| side.lag.percentile(50.0)).goal(Goal::TimesPeer(1.0)),
        row("lag, p90", "ms", &|side| side.lag.percentile(90.0)),
        row("lag, p99", "ms", &|side| side.lag.percentile(99.0)).goal(Goal::TimesPeer(1.0)),
        row("lag, max", "ms", &|side| side.lag.max()),
        row(&format!("lost of {}", changes * TURNS), "changes", &|side| Some(Counts::figure(side.lost))),
    ]);
    Ok(())
}

/// Changes one side at this rate, and returns how many changes those were.
fn one_turn(setup: &mut Setup, at: usize, rate: u32, turn: Duration, outcome: &mut Outcome) -> anyhow::Result<u32> {
    let socket = setup.sides[at].socket().to_owned();
    let (written, changes) = channel();
    let observer = thread::spawn(move || observe(&socket, &changes));
    let (from, mut count) = (Instant::now(), 0);
    while from.elapsed() < turn {
        let (backend, expected) = setup.choose(at, 0);
        let weight = *expected[&backend].values().next().context("a backend without servers")?;
        // The observer has ended only where it has failed, which is reported below.
        if written.send(Change { weight, at: Instant::now() }).is_err() {
            break;
        }
        setup.put(at, &expected)?;
        count += 1;
        thread::sleep((from + Duration::from_secs(1) * count / rate).saturating_duration_since(Instant::now()));
    }
    drop(written);
    let seen = observer.join().ok().context("the observer has panicked")??;
    outcome.lag.append(&seen.lag);
    outcome.lost += seen.lost;
    Ok(count)
}

/// Reads HAProxy while a change is awaited, until no more come and all of them were seen or are lost.
fn observe(socket: &Path, changes: &Receiver<Change>) -> anyhow::Result<Outcome> {
    let (mut outcome, mut awaited) = (Outcome::default(), VecDeque::<Change>::new());
    let backend = setup::backend(0);
    loop {
        if awaited.is_empty() {
            match changes.recv() {
                Ok(change) => awaited.push_back(change),
                Err(_) => return Ok(outcome),
            }
        }
        awaited.extend(changes.try_iter());
        let weights = observer::weights(socket, [backend.as_str()])?;
        let now = Instant::now();
        let weight = weights.get(&backend).and_then(|servers| servers.values().next());
        let weight = *weight.context("HAProxy does not have the backend")?;
        if let Some(last) = awaited.iter().rposition(|change| change.weight == weight) {
            for change in awaited.drain(..=last) {
                outcome.lag.push(now - change.at);
            }
        }
        while awaited.front().is_some_and(|change| now - change.at > LOST_AFTER) {
            awaited.pop_front();
            outcome.lost += 1;
        }
        if !awaited.is_empty() {
            thread::sleep(PAUSE);
        }
    }
}
