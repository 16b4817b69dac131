//! The judge on simulated traffic: how often it takes back a healthy rollout, and how fast it finds a bad one.
//!
//! `make judge-sim` prints the rows beside the figures that the design was made with. They were drawn by another program, so
//! they agree within their intervals and not exactly. A small part runs with all tests.

mod detection;
mod false_verdicts;
mod outages;
mod traffic;

use std::fmt::Write as _;

use traffic::{Errors, Stream};

use super::*;
use crate::judge::verdict::Block;

/// One line of the output.
struct Row {
    name: String,
    /// The figure of the design.
    design: &'static str,
    measured: String,
}

fn print(title: &str, rows: impl IntoIterator<Item = Row>) {
    println!("\n{title}\n{:<66} {:<28} measured", "", "design");
    for Row { name, design, measured } in rows {
        println!("{name:<66} {design:<28} {measured}");
    }
}

/// How many of the runs, in percent, with the 95 % interval of Wilson.
fn percent(found: usize, runs: usize) -> String {
    let (z, n) = (1.96_f64, f64::from(u32::try_from(runs).unwrap()));
    let p = f64::from(u32::try_from(found).unwrap()) / n;
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    format!("{:.2} % [{:.2}-{:.2}] of {runs}", 100.0 * p, 100.0 * (middle - half).max(0.0), 100.0 * (middle + half))
}

/// Median and 90th percentile in seconds. A run in which nothing was found counts as infinite.
fn quantiles(times: &[Option<f64>]) -> (f64, f64) {
    let mut times: Vec<f64> = times.iter().map(|time| time.unwrap_or(f64::INFINITY)).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    (at(50), at(90))
}

fn seconds(times: &[Option<f64>]) -> String {
    let (median, p90) = quantiles(times);
    let mut text = format!("{median:.0}/{p90:.0} s");
    let missed = times.iter().filter(|time| time.is_none()).count();
    if missed > 0 {
        write!(text, ", {missed} of {} not found", times.len()).unwrap();
    }
    text
}

/// A judge of `errors` alone, over 24 hours.
fn alone(errors: Limits, horizon: u32) -> Judge {
    Judge::new(&Plan { horizon, steps: 1, errors, others: std::collections::BTreeMap::new(), safe_ratio: Safe::RATIO })
}

/// Runs of the release build with `make judge-sim`; `JUDGE_SIM_RUNS` changes their number.
fn runs(usual: usize) -> usize {
    std::env::var("JUDGE_SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(usual)
}

/// Feeds a judge with `errors` alone.
fn feed(judge: &mut Judge, cells: &[Cell], raised: bool, share: f64, seconds: u64) -> Verdict {
    judge.block(&Block::from([(ERRORS, cells)]), raised, share, seconds)
}

#[test]
#[ignore = "minutes; `make judge-sim` runs it"]
fn simulated_rows_beside_those_of_the_design() {
    false_verdicts::table();
    outages::table();
    detection::table();
}

#[test]
fn a_healthy_day_is_not_taken_back_and_a_bad_start_is() {
    let healthy = Stream::default();
    let bursts = Stream { errors: Errors::Bursts { own_phase: false }, ..healthy };
    for stream in [healthy, bursts] {
        let false_ones = (0..30).filter(|seed| false_verdicts::is_taken_back(stream, Limits::ERRORS, *seed)).count();
        assert!(false_ones <= 1, "{false_ones} of 30 healthy days");
    }
    let five_percent = Stream { ratio: 100.0, ..healthy };
    let times: Vec<_> = (0..40).map(|seed| detection::bet(five_percent, 1, seed)).collect();
    let (median, p90) = quantiles(&times);
    assert!(median <= 50.0 && p90 <= 60.0, "5 % of errors at a share of 10 %: {median}/{p90} s");
}
