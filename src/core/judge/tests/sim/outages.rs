//! Common outages: both sides fail, and neither HARD nor SEVERE may take `to` back. Steps that wait for "four times worse".

use super::{traffic::Run, *};

/// Whether a rule takes `to` back while both sides fail at this rate.
fn trips(stream: Stream, rule: &Rule, rate: f64, minutes: u64, seed: u64) -> bool {
    let mut run = Run::new(stream, seed);
    let (length, keep) = if *rule == HARD { (2.0, 150) } else { (10.0, 30) };
    let mut rows: Vec<Cell> = Vec::new();
    let steps = if *rule == HARD { 30 * minutes } else { 6 * minutes };
    (0..steps).any(|_| {
        rows.push(run.slot(length, rate, rate));
        let first = rows.len().saturating_sub(keep);
        trip(&rows[first..], rule, 0.0) == Some(Trip::Rollback)
    })
}

/// Minutes until a step of 50 % may end.
fn proven(stream: Stream, seed: u64) -> Option<f64> {
    let mut run = Run::new(stream, seed);
    let mut judge = alone(Limits::ERRORS, 360);
    for k in 0..360_u32 {
        feed(&mut judge, &[run.block(1.0, 1.0)], k == 0, 50.0, 10);
        let bake = Bake {
            good: 1,
            bake: 1,
            step: judge.step_counts(),
            total: judge.total(),
            calm: judge.calm_seconds(),
            safe: judge.safe(),
            must_exclude: true,
            slo: Some(0.001),
            ready: true,
        };
        if advance::is_proven(&bake) && bake.step.n >= advance::MIN_REQUESTS {
            return Some(f64::from(k + 1) / 6.0);
        }
    }
    None
}

pub(super) fn table() {
    let runs = runs(1000);
    let at = |share: f64, per_second: f64| Stream { per_second, share, ..Stream::default() };
    let rows = [
        ("HARD, 90 %, 1 req/s", "0 [0-0.2]", at(0.9, 1.0), HARD, 0.6),
        ("HARD, 95 %, 5 req/s", "0 [0-0.2]", at(0.95, 5.0), HARD, 0.6),
        ("HARD, 100 %, 50 req/s (nothing to compare with)", "0", at(1.0, 50.0), HARD, 0.6),
        ("HARD, 50 %, 1 req/s", "0", at(0.5, 1.0), HARD, 0.6),
        ("HARD, 50 %, 3.4 req/s", "0", at(0.5, 3.4), HARD, 0.6),
        ("HARD, 90 %, 17 req/s", "0", at(0.9, 17.0), HARD, 0.6),
        ("HARD, 95 %, 34 req/s", "0", at(0.95, 34.0), HARD, 0.6),
        ("SEVERE, 90 %, 20 req/s", "0", at(0.9, 20.0), SEVERE, 0.06),
        ("SEVERE, 90 %, 28 req/s", "0", at(0.9, 28.0), SEVERE, 0.06),
        ("SEVERE, 95 %, 56 req/s", "0", at(0.95, 56.0), SEVERE, 0.06),
        ("SEVERE, 50 %, 6 req/s", "0", at(0.5, 6.0), SEVERE, 0.06),
        ("SEVERE, 50 %, 11 req/s", "0", at(0.5, 11.0), SEVERE, 0.06),
    ];
    let rows = rows.into_iter().map(|(name, design, stream, rule, rate)| {
        let found = (0..runs as u64).filter(|seed| trips(stream, &rule, rate, 2, *seed)).count();
        Row { name: name.to_owned(), design, measured: percent(found, runs) }
    });
    print("Common outages of 2 minutes, percent that take `to` back", rows);

    let rows = [
        ("0.05 %, 10 req/s", "2/9/24/69 %", 10.0, 0.0005),
        ("0.05 %, 20 req/s", "9/33/46/92 %", 20.0, 0.0005),
        ("0.05 %, 100 req/s", "62/86/95/100 %", 100.0, 0.0005),
        ("0.01 %, 100 req/s", "100 % at 5 min", 100.0, 0.0001),
    ];
    let rows = rows.into_iter().map(|(name, design, per_second, base)| {
        let stream = Stream { per_second, base, share: 0.5, ..Stream::default() };
        let times: Vec<_> = (0..runs as u64).filter_map(|seed| proven(stream, seed)).collect();
        let within = |minutes: f64| 100 * times.iter().filter(|time| **time <= minutes).count() / runs;
        let measured = format!("{}/{}/{}/{} %", within(5.0), within(10.0), within(15.0), within(60.0));
        Row { name: name.to_owned(), design, measured }
    });
    print("An advance is allowed at 50 % with must_exclude, within 5/10/15/60 minutes", rows);
}
