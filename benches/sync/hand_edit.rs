//! A weight that somebody sets by hand: how long it stays before weightd corrects it.

use std::{thread, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::{
    Options,
    observer::{self, LOST_AFTER, Weights},
    setup::{self, Setup, Shape},
    stats::Samples,
    table::{Goal, Report, Row},
};

/// Until it is corrected, in milliseconds: the goal.
const CORRECTED_WITHIN: f64 = 2000.0;
/// Edits of each number of backends.
const ROUNDS: usize = 40;
/// The most edits of one backend: after the third correction weightd leaves it alone for longer, since two who set one
/// weight against each other help nobody.
const EDITS_OF_ONE: usize = 2;
/// Up to so long between two edits, so that they meet each moment of weightd's routine alike.
const PHASE_MILLIS: u64 = 1500;

/// With few backends, with some, and with a thousand.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for backends in options.backends.clone().unwrap_or_else(|| vec![10, 100, 1000]) {
        measure(Shape::new(backends, 10), options.rounds.unwrap_or(ROUNDS), report).await?;
    }
    Ok(())
}

async fn measure(shape: Shape, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let case = format!("hand-edit, {} backends", shape.backends);
    let setup = Setup::start(shape, &[]).await?;
    let weightd = &setup.sides[0];
    let mut order: Vec<usize> = (0..EDITS_OF_ONE).flat_map(|_| 0..shape.backends).collect();
    fastrand::shuffle(&mut order);
    order.truncate(rounds);
    let (mut times, mut lost) = (Samples::default(), 0);
    for &at in &order {
        thread::sleep(Duration::from_millis(fastrand::u64(..PHASE_MILLIS)));
        let backend = setup::backend(at);
        let desired = weightd.desired.get(&backend).context("a backend without a document")?;
        let server = desired.keys().next().context("a backend without servers")?;
        let expected = Weights::from([(backend.clone(), desired.clone())]);
        let from = Instant::now();
        let answer = observer::exchange(weightd.socket(), &format!("set server {backend}/{server} weight 7"))?;
        ensure!(answer.trim().is_empty(), "HAProxy answered {answer:?}");
        match observer::until(weightd.socket(), &expected, LOST_AFTER, true)? {
            Some(at) => times.push(at - from),
            None => lost += 1,
        }
    }
    report.expect(lost == 0, || format!("{case}: {lost} edits were not corrected"));
    let row = |figure: &str, percent| Row::new(&case, figure, "ms").weightd(times.percentile(percent));
    let edits = order.len();
    report.rows([
        row(&format!("until corrected, p50 of {edits}"), 50.0),
        row(&format!("until corrected, p99 of {edits}"), 99.0).goal(Goal::AtMost(CORRECTED_WITHIN)),
        row("until corrected, max", 100.0),
    ]);
    Ok(())
}
