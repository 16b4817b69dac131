//! Bad rollouts: seconds until they are found.

use std::collections::BTreeMap;

use super::{traffic::Run, *};

/// The longest run, in blocks.
const LONGEST: u32 = 1440;

/// With all four default checks; the other three say nothing, so that `errors` needs evidence 200 and a bit.
fn of_four(steps: u32, horizon: u32, errors: Limits) -> Judge {
    Judge::new(&Plan { horizon, steps, errors, others: Limits::default_others(), safe_ratio: Safe::RATIO })
}

/// Seconds until the evidence takes `to` back, without the rule for a broken SLO.
pub(super) fn bet(stream: Stream, steps: u32, seed: u64) -> Option<f64> {
    run(stream, steps, Limits { slo: None, ..Limits::ERRORS }, seed)
}

/// The same with the rule for a broken SLO.
fn with_slo(stream: Stream, steps: u32, seed: u64) -> Option<f64> {
    run(stream, steps, Limits::ERRORS, seed)
}

fn run(stream: Stream, steps: u32, errors: Limits, seed: u64) -> Option<f64> {
    let mut run = Run::new(stream, seed);
    let mut judge = of_four(steps, 8640, errors);
    // The baseline of five minutes.
    let calm = Stream { share: 0.0, ..stream };
    let mut baseline = Run::new(calm, seed + 7_000_000);
    for _ in 0..30 {
        judge.baseline(ERRORS, f64::from(u32::try_from(baseline.block(1.0, 1.0).from.e).unwrap()));
    }
    let (mut waiting, mut merged) = (Cell::default(), 0);
    let mut first = true;
    for k in 1..=LONGEST {
        waiting = waiting.plus(run.block(1.0, 1.0));
        merged += 1;
        if !cell::is_full(merged, waiting.to.n, waiting.from.n) {
            continue;
        }
        let cells = [std::mem::take(&mut waiting)];
        let length = 10 * u64::from(std::mem::take(&mut merged));
        if feed(&mut judge, &cells, std::mem::take(&mut first), 100.0 * stream.share, length) == Verdict::Rollback {
            return Some(10.0 * f64::from(k));
        }
    }
    None
}

/// Seconds until a fault that begins after 12 healthy hours is found.
fn late(stream: Stream, horizon: u32, steps: u32, seed: u64) -> Option<f64> {
    let mut judge = of_four(steps, horizon, Limits { slo: None, ..Limits::ERRORS });
    let mut healthy = Run::new(Stream { ratio: 1.0, ..stream }, seed);
    for k in 0..4320 {
        if feed(&mut judge, &[healthy.block(1.0, 1.0)], k % 720 == 0 && k / 720 < steps, 100.0 * stream.share, 10)
            == Verdict::Rollback
        {
            return None;
        }
    }
    let mut run = Run::new(stream, seed + 1_000_000);
    let found = (1..=LONGEST)
        .find(|_| feed(&mut judge, &[run.block(1.0, 1.0)], false, 100.0 * stream.share, 10) == Verdict::Rollback);
    found.map(|k| 10.0 * f64::from(k))
}

/// Seconds until another check takes `to` back: `to` shows it at one rate, `from` at another.
fn other(name: &'static str, stream: Stream, seed: u64) -> Option<f64> {
    let mut run = Run::new(stream, seed);
    let mut judge = of_four(1, 8640, Limits::ERRORS);
    let mut baseline = Run::new(Stream { share: 0.0, ..stream }, seed + 7_000_000);
    for _ in 0..30 {
        judge.baseline(name, f64::from(u32::try_from(baseline.block(1.0, 1.0).from.e).unwrap()));
    }
    let found = (1..=LONGEST).find(|k| {
        let cell = run.block(1.0, 1.0);
        // What users see is in order.
        let errors = Cell { to: Counts { e: 0, ..cell.to }, from: Counts { e: 0, ..cell.from } };
        let (cells, errors) = ([cell], [errors]);
        let block: Block<'_> = BTreeMap::from([(name, cells.as_slice()), (ERRORS, errors.as_slice())]);
        judge.block(&block, *k == 1, 100.0 * stream.share, 10) == Verdict::Rollback
    });
    found.map(|k| 10.0 * f64::from(k))
}

/// Seconds until HARD takes `to` back. The fault begins somewhere in a slot; the rule is applied to the running slot, too.
fn hard(stream: Stream, to_rate: f64, from_rate: f64, seed: u64) -> Option<f64> {
    const TICK: f64 = 0.25;
    let mut run = Run::new(stream, seed);
    let mut rows: Vec<Cell> = (0..30).map(|_| run.slot(2.0, from_rate, from_rate)).collect();
    let offset = run.dice.below(8);
    let mut slot = run.slot(TICK * f64::from(u32::try_from(offset).unwrap()), from_rate, from_rate);
    for tick in 0..2400_u32 {
        if (u64::from(tick) + offset).is_multiple_of(8) && tick > 0 {
            rows.push(std::mem::take(&mut slot));
        }
        slot = slot.plus(run.slot(TICK, to_rate, from_rate));
        let first = rows.len().saturating_sub(149);
        let mut window = rows[first..].to_vec();
        window.push(slot);
        if trip(&window, &HARD, 0.0) == Some(Trip::Rollback) {
            return Some(TICK * f64::from(tick + 1));
        }
    }
    None
}

/// Seconds until SEVERE takes `to` back.
fn severe(stream: Stream, to_rate: f64, seed: u64) -> Option<f64> {
    let mut run = Run::new(stream, seed);
    let mut rows: Vec<Cell> = (0..30).map(|_| run.slot(10.0, stream.base, stream.base)).collect();
    let found = (1..=60_u32).find(|_| {
        rows.push(run.slot(10.0, to_rate, stream.base));
        trip(&rows[rows.len() - 30..], &SEVERE, 0.0) == Some(Trip::Rollback)
    });
    found.map(|k| 10.0 * f64::from(k))
}

pub(super) fn table() {
    let many = runs(1000) as u64;
    let base = Stream::default();
    let fails = |share: f64, rate: f64| Stream { share, ratio: rate / base.base, ..base };
    let bursty = Stream { errors: Errors::Bursts { own_phase: false }, ..fails(0.1, 0.01) };
    let quiet = |rate: f64| Stream { base: 1e-9, ratio: rate / 1e-9, ..base };
    let answers = |share: f64, normal: f64, rate: f64| Stream { share, base: normal, ratio: rate / normal, ..base };
    let few = Stream { per_second: 0.2, ratio: 1.0 / base.base, ..base };
    let mut rows = Vec::new();
    let mut row = |name: &str, design, runs: u64, time: &dyn Fn(u64) -> Option<f64>| {
        let times: Vec<_> = (0..runs).map(time).collect();
        rows.push(Row { name: name.to_owned(), design, measured: seconds(&times) });
    };
    row("100 % at 1 %, one stream (HARD)", "8.6/13", many, &|s| hard(fails(0.01, 1.0), 1.0, base.base, s));
    row("100 % at 10 % (HARD)", "7", many, &|s| hard(fails(0.1, 1.0), 1.0, base.base, s));
    row("100 % at 50 % (HARD)", "7-8", many, &|s| hard(fails(0.5, 1.0), 1.0, base.base, s));
    row("100 % at 99 %, 100 req/s (HARD)", "11/25", many, &|s| hard(fails(0.99, 1.0), 1.0, base.base, s));
    row("100 % at 90 %, 10 req/s (HARD)", "11/24", many, &|s| {
        hard(Stream { per_second: 10.0, ..fails(0.9, 1.0) }, 1.0, base.base, s)
    });
    row("404 at 1 %, normal 4xx 2 % (HARD)", "8.6/13", many, &|s| hard(fails(0.01, 1.0), 1.0, 0.02, s));
    row("404 at 1 %, normal 4xx 10 % (HARD)", "10/17", many, &|s| hard(fails(0.01, 1.0), 1.0, 0.1, s));
    row("404 everywhere at 10 %, normal 2 %, the bet alone", "50/50", many, &|s| {
        other("refused", answers(0.1, 0.02, 1.0), s)
    });
    row("404 everywhere at 10 %, normal 10 %", "70/70", many, &|s| other("refused", answers(0.1, 0.1, 1.0), s));
    row("10 % 404s at 10 %, normal 2 %", "120/140", many, &|s| other("refused", answers(0.1, 0.02, 0.1), s));
    row("dead, hidden by redispatch, at 10 %", "40/40", many, &|s| other("masked", answers(0.1, 1e-9, 1.0), s));
    row("5 % of attempts hidden, at 10 %", "50/50", many, &|s| other("masked", answers(0.1, 1e-9, 0.05), s));
    row("5 % at 10 %", "40/40", many, &|s| bet(fails(0.1, 0.05), 1, s));
    row("5 % at 1 %", "70/130", many, &|s| with_slo(fails(0.01, 0.05), 1, s));
    row("5 % at 50 % (SEVERE)", "56/60", many, &|s| severe(fails(0.5, 0.05), 0.05, s));
    row("5 % at 90 % (SEVERE)", "55/60", many, &|s| severe(fails(0.9, 0.05), 0.05, s));
    row("5 % at 95 % (SEVERE)", "56/60", many, &|s| severe(fails(0.95, 0.05), 0.05, s));
    row("1 % at 10 %", "80/160", many, &|s| bet(fails(0.1, 0.01), 1, s));
    row("1 % at 10 %, a step of 6", "110/190", many, &|s| bet(fails(0.1, 0.01), 6, s));
    row("5x (0.25 %) at 10 %", "720/1410", many, &|s| bet(fails(0.1, 0.0025), 1, s));
    row("5x at 10 %, a step of 6", "940/1670", many, &|s| bet(fails(0.1, 0.0025), 6, s));
    row("1 % at 10 %, `from` bursty", "170/250", many, &|s| bet(Stream { single_to: true, ..bursty }, 1, s));
    row("1 % at 10 %, errors of `to` bursty too", "460/900", many, &|s| bet(bursty, 1, s));
    row("1 % at 10 %, `from` 0 errors", "60/90", many, &|s| bet(quiet(0.01), 1, s));
    row("0.25 % at 10 %, `from` 0 errors", "200/410", many, &|s| bet(quiet(0.0025), 1, s));
    row("1 % at 50 %", "150/170", many, &|s| bet(fails(0.5, 0.01), 1, s));
    row("1 % at 75 %", "350", many, &|s| bet(fails(0.75, 0.01), 1, s));
    row("1 % at 90 %", "970", many, &|s| bet(fails(0.9, 0.01), 1, s));
    row("1 % at 50 %, with the SLO rule", "80/90", many, &|s| with_slo(fails(0.5, 0.01), 1, s));
    row("1 % at 75 %, with the SLO rule", "180/200", many, &|s| with_slo(fails(0.75, 0.01), 1, s));
    row("1 % at 90 %, with the SLO rule", "480/530", many, &|s| with_slo(fails(0.9, 0.01), 1, s));
    row("1 % at 95 %, with the SLO rule", "980/1080", many, &|s| with_slo(fails(0.95, 0.01), 1, s));
    row("0.2 req/s at 10 %, 100 % errors, merged", "360/540", many, &|s| bet(few, 1, s));
    let nights = many.div_ceil(5);
    row("late, 12 h: 1 %, plan of 6, H = 24 h", "350/450", nights, &|s| late(fails(0.1, 0.01), 8640, 6, s));
    row("late, 12 h: 1 %, plan of 6, H = 6 h", "350/450", nights, &|s| late(fails(0.1, 0.01), 2160, 6, s));
    row("late, 12 h: 1 %, plan of 6, H = 30 min", "390/510", nights, &|s| late(fails(0.1, 0.01), 180, 6, s));
    row("late, 12 h: 5x", "2240/3440", nights, &|s| late(fails(0.1, 0.0025), 8640, 6, s));
    row("late, 12 h: 5 %", "170/180", nights, &|s| late(fails(0.1, 0.05), 8640, 6, s));
    row("late, 12 h: 100 %, the bet alone", "130/150", nights, &|s| late(fails(0.1, 1.0), 8640, 6, s));
    print("Detection, median and 90th percentile", rows);
}
