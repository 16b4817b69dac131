use std::{collections::BTreeMap, fs};

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::judge::{trip::usual, verdict::Block};

/// Half of the last digit of the vectors.
const PRECISION: f64 = 5.1e-7;

#[derive(Deserialize)]
struct Vectors {
    evidence: Vec<Case>,
    trip: Vec<TripCase>,
    hang: Vec<HangCase>,
    advance: Vec<AdvanceCase>,
    stakes: BTreeMap<String, Vec<f64>>,
    bets: Vec<f64>,
    alpha: f64,
    grey: f64,
    defaults: BTreeMap<String, CheckLimits>,
}

/// Limits as the reference has them.
#[derive(Deserialize, Clone, Copy)]
pub(super) struct CheckLimits {
    #[serde(default = "r0")]
    r0: f64,
    #[serde(default = "floor")]
    floor: f64,
    #[serde(default)]
    slo: Option<f64>,
    #[serde(default = "one")]
    burst: u32,
    #[serde(default = "all")]
    max_share: f64,
}

fn r0() -> f64 {
    1.5
}

fn floor() -> f64 {
    2e-4
}

fn one() -> u32 {
    1
}

fn all() -> f64 {
    100.0
}

impl From<CheckLimits> for Limits {
    fn from(limits: CheckLimits) -> Self {
        let CheckLimits { r0, floor, slo, burst, max_share } = limits;
        Self { ratio: r0, floor, slo, burst, max_share }
    }
}

/// Whether the share was raised, the share, and the cells of each check.
type Fed = (bool, f64, BTreeMap<String, Vec<[u64; 4]>>);
/// ln total, verdict, ln safe, calm seconds, and the logarithms of each check's evidence.
type Row = (f64, String, f64, u64, BTreeMap<String, Vec<f64>>);

/// A history, and what the reference made of it.
#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    horizon: u32,
    steps: u32,
    checks: BTreeMap<String, CheckLimits>,
    history: BTreeMap<String, Vec<f64>>,
    blocks: Vec<Fed>,
    rows: Vec<Row>,
    pub(super) state: Option<State>,
}

fn cell([to_n, to_e, from_n, from_e]: [u64; 4]) -> Cell {
    Cell { to: Counts { n: to_n, e: to_e }, from: Counts { n: from_n, e: from_e } }
}

#[track_caller]
fn same(ours: f64, theirs: f64, precision: f64, what: &str) {
    assert!((ours - theirs).abs() <= precision, "{what}: {ours} and not {theirs}");
}

/// Replays a case and compares every number after every block. Returns how many numbers, and the judge after the last block.
pub(super) fn compare(case: &Case) -> (usize, Judge) {
    let mut others: BTreeMap<_, Limits> = case.checks.iter().map(|(k, v)| (k.clone(), (*v).into())).collect();
    let errors = others.remove(ERRORS).expect("each case has `errors`");
    let plan = Plan { horizon: case.horizon, steps: case.steps, errors, others, safe_ratio: Safe::RATIO };
    let mut judge = Judge::new(&plan);
    for (name, errors) in &case.history {
        for errors in errors {
            judge.baseline(name, *errors);
        }
    }
    // What survives a restart is all that matters: this one is restarted after each block.
    let mut restarted = judge.clone();
    let mut numbers = 0;
    assert_eq!(case.blocks.len(), case.rows.len(), "{}", case.name);
    for (at, ((raised, share, cells), row)) in case.blocks.iter().zip(&case.rows).enumerate() {
        let what = format!("{}, block {at}", case.name);
        let cells: BTreeMap<_, Vec<_>> =
            cells.iter().map(|(name, cells)| (name.as_str(), cells.iter().copied().map(cell).collect())).collect();
        let block: Block<'_> = cells.iter().map(|(name, cells)| (*name, cells.as_slice())).collect();
        let verdict = judge.block(&block, *raised, *share, BLOCK_SECONDS);
        let (total, word, safe, calm, checks) = row;
        assert_eq!((verdict.as_str(), judge.calm_seconds()), (word.as_str(), *calm), "{what}");
        same(judge.total().ln(), *total, PRECISION, &what);
        same(judge.safe().ln(), *safe, PRECISION, &what);
        assert_eq!(checks.len(), judge.checks().count(), "{what}");
        for (name, check) in judge.checks() {
            let ours = [Some(check.relative()), Some(check.floor()), check.slo()].into_iter().flatten();
            let ours: Vec<_> = ours.map(|evidence| evidence.value().ln()).collect();
            assert_eq!(ours.len(), checks[name].len(), "{what}");
            ours.iter().zip(&checks[name]).for_each(|(ours, theirs)| same(*ours, *theirs, PRECISION, &what));
            numbers += ours.len();
        }
        numbers += 4;
        restarted.block(&block, *raised, *share, BLOCK_SECONDS);
        let text = serde_json::to_string(&restarted.state()).unwrap();
        restarted = Judge::restore(&plan, &serde_json::from_str(&text).unwrap()).expect("its own state");
        same(restarted.total().ln(), *total, PRECISION, &what);
    }
    (numbers, judge)
}

/// Compares two JSON values; numbers to 11 digits.
pub(super) fn same_json(ours: &Value, theirs: &Value, path: &str) {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-11 * b.abs().max(1e-300), "{path}: {a} and not {b}");
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(n, (a, b))| same_json(a, b, &format!("{path}[{n}]")));
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            a.iter().for_each(|(key, a)| same_json(a, &b[key], &format!("{path}.{key}")));
        }
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

fn vectors() -> Vectors {
    let file = folder().join("vectors.json");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_number_after_every_block_is_that_of_the_reference() {
    let vectors = vectors();
    let compared: usize = vectors.evidence.iter().map(|case| compare(case).0).sum();
    assert_eq!(vectors.evidence.len(), 40);
    assert!(compared > 4000, "{compared} numbers");
    println!("{compared} numbers in {} cases agree to 6 digits", vectors.evidence.len());
}

#[test]
fn the_state_has_the_form_and_the_numbers_of_the_reference() {
    let vectors = vectors();
    let cases = vectors.evidence.iter().filter_map(|case| Some((case, case.state.as_ref()?)));
    let mut seen = 0;
    for (case, state) in cases {
        let json = |state: &State| serde_json::to_value(state).unwrap();
        same_json(&json(&compare(case).1.state()), &json(state), &case.name);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn hard_and_severe_agree_with_the_reference() {
    let cases = vectors().trip;
    assert_eq!(cases.len(), 35);
    for case in cases {
        let rows: Vec<_> = case.rows.iter().copied().map(cell).collect();
        let rule = if case.rule == "hard" { HARD } else { SEVERE };
        let ours = trip(&rows, &rule, case.usual).map(word);
        assert_eq!(ours, case.expect.as_deref(), "{}", case.name);
    }
}

#[test]
fn hang_agrees_with_the_reference() {
    let cases = vectors().hang;
    assert_eq!(cases.len(), 8);
    for HangCase { name, counts: [to_started, to_done, from_started, from_done], expect } in cases {
        let flow = |started, completed| Flow { started, completed };
        let ours = hang(flow(to_started, to_done), flow(from_started, from_done)).map(word);
        assert_eq!(ours, expect.as_deref(), "{name}");
    }
}

#[test]
fn advance_agrees_with_the_reference() {
    let cases = vectors().advance;
    assert_eq!(cases.len(), 17);
    for AdvanceCase { name, args, expect } in cases {
        let ours = match advance(&args.into()) {
            Advance::Wait => "wait",
            Advance::Advance => "advance",
            Advance::Hold => "hold",
        };
        assert_eq!(ours, expect, "{name}");
    }
}

#[test]
fn the_constants_are_those_of_the_reference() {
    let vectors = vectors();
    assert_eq!(vectors.bets, evidence::BETS);
    same(THRESHOLD * vectors.alpha, 1.0, 1e-12, "threshold");
    same(GREY, vectors.grey, 0.0, "grey");
    assert_eq!(vectors.defaults.len(), 4);
    for (name, limits) in vectors.defaults {
        assert_eq!(Limits::of_default(&name), Some(limits.into()), "{name}");
    }
    for (horizon, stakes) in vectors.stakes {
        let horizon: u32 = horizon.parse().unwrap();
        for (k, theirs) in [1.0, 2.0, 3.0, 100.0, 8640.0].into_iter().zip(stakes) {
            same(evidence::stake(k, f64::from(horizon)), theirs, 5.1e-10, "stake");
        }
    }
    same(usual(500, 10.0, 5), 10.0, 1e-12, "500 requests in a block, a tenth of them in 5 slots");
}

fn word(trip: Trip) -> &'static str {
    match trip {
        Trip::Rollback => "rollback",
        Trip::Hold => "hold",
    }
}

#[derive(Deserialize)]
struct TripCase {
    name: String,
    rule: String,
    usual: f64,
    rows: Vec<[u64; 4]>,
    expect: Option<String>,
}

#[derive(Deserialize)]
struct HangCase {
    name: String,
    counts: [u64; 4],
    expect: Option<String>,
}

#[derive(Deserialize)]
struct AdvanceCase {
    name: String,
    args: Args,
    expect: String,
}

/// The arguments of the reference, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Args {
    good: u64,
    bake: u64,
    to_n: u64,
    to_e: u64,
    total: f64,
    calm: u64,
    safe: f64,
    must_exclude: bool,
    slo: Option<f64>,
    ready: bool,
}

impl Default for Args {
    fn default() -> Self {
        let (must_exclude, slo, ready) = (true, Some(1e-3), true);
        Self { good: 0, bake: 0, to_n: 0, to_e: 0, total: 0.0, calm: 0, safe: 0.0, must_exclude, slo, ready }
    }
}

impl From<Args> for Bake {
    fn from(args: Args) -> Self {
        let Args { good, bake, to_n, to_e, total, calm, safe, must_exclude, slo, ready } = args;
        Self { good, bake, step: Counts { n: to_n, e: to_e }, total, calm, safe, must_exclude, slo, ready }
    }
}
