//! Healthy days: how many of them are taken back by the evidence.

use super::{
    traffic::{Run, Walk, blocks},
    *,
};

const DAY: u64 = 8640;

/// What a day has beside its stream.
#[derive(Clone, Copy, PartialEq)]
enum Day {
    Plain,
    /// Traffic ±70 % over the day, the rate of errors walks from 0.1 to 20 times.
    Drift,
    /// Six incidents of 5 minutes with 5 % errors on both sides.
    Incidents,
    /// One node of 20 has 20 times the errors and sends twice the part of its requests to `to`.
    NoisyNode,
    /// All errors come in bursts of 4 to 8 in each of so many blocks, with so many bursts a day on `to`.
    LongBursts(u64, f64),
    /// One node of 20 is always late by a block.
    LateNode,
}

pub(super) fn is_taken_back(stream: Stream, limits: Limits, seed: u64) -> bool {
    day(stream, limits, Day::Plain, seed)
}

fn day(stream: Stream, limits: Limits, kind: Day, seed: u64) -> bool {
    let mut run = Run::new(stream, seed);
    let mut judge = alone(limits, u32::try_from(DAY).unwrap());
    let mut walk = Walk { at: 0.0, step: 0.05, low: 0.1, high: 20.0 };
    let incidents: Vec<u64> = (0..6).map(|_| run.dice.below(DAY)).collect();
    let (mut waiting, mut merged) = (Cell::default(), 0);
    let mut late = Cell::default();
    let mut long = [Vec::new(), Vec::new()];
    for k in 0..DAY {
        let (mut drift, mut rate) = (1.0, 1.0);
        match kind {
            Day::Drift => {
                let hour = std::f64::consts::TAU * f64::from(u32::try_from(k).unwrap()) / 8640.0;
                (drift, rate) = (1.0 + 0.7 * hour.sin(), walk.next(&mut run.dice));
            }
            Day::Incidents if incidents.iter().any(|at| (*at..at + blocks(300.0)).contains(&k)) => {
                rate = 0.05 / stream.base;
            }
            _ => {}
        }
        let mut cells = vec![run.block(drift, rate)];
        match kind {
            Day::NoisyNode => {
                let part = |run: &mut Run, stream, rate| {
                    run.stream = stream;
                    run.block(1.0 / 20.0, rate)
                };
                let noisy = Stream { share: 2.0 * stream.share, ..stream };
                cells = (0..20)
                    .map(|node| if node == 0 { part(&mut run, noisy, 20.0) } else { part(&mut run, stream, 1.0) })
                    .collect();
                run.stream = stream;
            }
            Day::LongBursts(length, per_day) => {
                let times = [1.0, (1.0 - stream.share) / stream.share];
                let mut side = |at: usize, counts: &mut Counts| {
                    // Bursts of `from` overlap: each has its own end.
                    let begun = run.dice.poisson(times[at] * per_day / 8640.0);
                    long[at].extend((0..begun).map(|_| k + length));
                    long[at].retain(|end| *end > k);
                    counts.e = long[at].iter().map(|_| 4 + run.dice.below(5)).sum::<u64>().min(counts.n);
                };
                side(0, &mut cells[0].to);
                side(1, &mut cells[0].from);
            }
            Day::LateNode => {
                // A twentieth of the counts comes one block later.
                let mut side = |counts: Counts| {
                    let (n, e) = (run.dice.binomial(counts.n, 0.05), run.dice.binomial(counts.e, 0.05));
                    Counts { n, e: e.min(n) }
                };
                let next = Cell { to: side(cells[0].to), from: side(cells[0].from) };
                let now = Cell {
                    to: Counts { n: cells[0].to.n - next.to.n, e: cells[0].to.e - next.to.e },
                    from: Counts { n: cells[0].from.n - next.from.n, e: cells[0].from.e - next.from.e },
                };
                cells[0] = now.plus(late);
                late = next;
            }
            Day::Plain | Day::Drift | Day::Incidents => {}
        }
        if cells.len() == 1 {
            waiting = waiting.plus(cells[0]);
            merged += 1;
            if !cell::is_full(merged, waiting.to.n, waiting.from.n) {
                continue;
            }
            cells[0] = std::mem::take(&mut waiting);
        }
        let length = 10 * u64::from(std::mem::take(&mut merged).max(1));
        // The bet alone: a broken SLO of both sides is no rollback.
        if feed(&mut judge, &cells, k == 0, 100.0 * stream.share, length) == Verdict::Rollback {
            return true;
        }
    }
    false
}

pub(super) fn table() {
    let bet = Limits { slo: None, ..Limits::ERRORS };
    let poisson = Stream::default();
    let burst = |own_phase| Stream { errors: Errors::Bursts { own_phase }, ..poisson };
    let worse = |own_phase| Stream { ratio: 1.5, ..burst(own_phase) };
    let at = |share, stream: Stream| Stream { share, ..stream };
    let two = Limits { burst: 2, ..bet };
    let rows = [
        ("(a) Poisson", "0 [0-0.19]", poisson, bet, Day::Plain),
        ("(b) bursts, wall-clock blocks", "0.05 [0.01-0.28]", burst(false), bet, Day::Plain),
        ("(b) bursts, own phase", "0.75 [0.46-1.2]", burst(true), bet, Day::Plain),
        ("(b) at the tolerated ratio 1.5, wall-clock", "0.5 [0.3-0.9]", worse(false), bet, Day::Plain),
        ("(b) the same, 50 %", "0.4 [0.2-0.8]", at(0.5, worse(false)), bet, Day::Plain),
        ("(b) ratio 1.5, own phase", "3.45 [2.7-4.3]", worse(true), bet, Day::Plain),
        ("(b) the same, 50 %", "3.25", at(0.5, worse(true)), bet, Day::Plain),
        ("(b) ratio 1.5, own phase, burst = 2", "0.05", worse(true), two, Day::Plain),
        ("(b) ratio 1.5, 1 node of 20 late by a block", "1.1 [0.7-1.7]", worse(false), bet, Day::LateNode),
        ("(b) half singles, half bursts", "0 [0-0.19]", Stream { errors: Errors::Both, ..poisson }, bet, Day::Plain),
        ("(b) 1 %, wall-clock", "0.1 [0.02-0.6]", at(0.01, burst(false)), bet, Day::Plain),
        ("(b) 1 %, own phase", "0.6", at(0.01, burst(true)), bet, Day::Plain),
        ("(b) 50 %, wall-clock", "0 [0-0.38]", at(0.5, burst(false)), bet, Day::Plain),
        ("(b) 50 %, own phase", "0.1", at(0.5, burst(true)), bet, Day::Plain),
        ("(c) traffic ±70 %, baseline walks 0.1-20x", "0.1 [0.02-0.56]", poisson, bet, Day::Drift),
        ("(d) 6 common incidents, SLO rule on, 10 %", "0 [0-0.38]", poisson, Limits::ERRORS, Day::Incidents),
        ("(d) the same, 50 %", "0 [0-0.38]", at(0.5, poisson), Limits::ERRORS, Day::Incidents),
        ("(d) the same, 95 %", "0 [0-0.38]", at(0.95, poisson), Limits::ERRORS, Day::Incidents),
        ("(e) 1 noisy node of 20, 20x, double mix", "0.05 [0.01-0.28]", poisson, bet, Day::NoisyNode),
        ("(f) 0.2 req/s, 0.05 %", "0 [0-0.38]", Stream { per_second: 0.2, ..poisson }, bet, Day::Plain),
        (
            "(f) 0.2 req/s, 1 % in bursts",
            "0 [0-0.38]",
            Stream { per_second: 0.2, base: 0.01, ..burst(false) },
            bet,
            Day::Plain,
        ),
        ("(g) baseline ~0 (1e-6)", "0 [0-0.38]", Stream { base: 1e-6, ..poisson }, bet, Day::Plain),
        (
            "slow 1 %, gamma frailty per block",
            "0 [0-0.38]",
            Stream { base: 0.01, errors: Errors::Frail, ..poisson },
            Limits { floor: 0.004, ..bet },
            Day::Plain,
        ),
        (
            "stress: 36 bursts a day on `to`, each over 2 blocks",
            "1.8 [1.1-2.8]",
            poisson,
            bet,
            Day::LongBursts(2, 36.0),
        ),
        ("the same, burst = 2", "0", poisson, two, Day::LongBursts(2, 36.0)),
        ("stress: 24 a day, each over 3 blocks", "6.2", poisson, bet, Day::LongBursts(3, 24.0)),
        ("the same, burst = 2", "1.0 [0.5-1.8]", poisson, two, Day::LongBursts(3, 24.0)),
    ];
    let runs = runs(1000);
    let rows = rows.into_iter().map(|(name, design, stream, limits, kind)| {
        let found = (0..runs as u64).filter(|seed| day(stream, limits, kind, *seed)).count();
        Row { name: name.to_owned(), design, measured: percent(found, runs) }
    });
    print("False rollbacks in 24 hours, percent of the days", rows);
}
