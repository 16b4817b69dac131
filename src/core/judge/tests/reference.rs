//! Random histories through `reference.py` and through this crate.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    vectors::{Case, compare, same_json},
    *,
};
use crate::dice::Dice;

/// What Python does with one line of cases.
const PROGRAM: &str = "
import json, sys
import reference as r
for line in sys.stdin:
    case = json.loads(line)
    if 'blocks' in case:
        case['rows'], case['state'] = r.replay(case)
    else:
        rule = dict(hard=r.HARD, severe=r.SEVERE)[case['rule']]
        case['expect'] = [r.trip(case['rows'], rule, case['usual']), r.hang(*case['counts'])]
    print(json.dumps(case))
";

/// The answers of the reference; none without Python.
fn ask(cases: &[Value]) -> Option<Vec<Value>> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child = Command::new(python)
        .args(["-B", "-c", PROGRAM])
        .env("PYTHONPATH", folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take().expect("its input is piped");
    let lines = cases.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all cases");
    assert!(output.status.success(), "the reference fails");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Some(text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

/// Says that a comparison did not run. Not captured by the test harness: a test that compared nothing is no success.
fn did_not_run(what: &str) {
    let text = format!("\nNOT RUN: {what}: python3 is missing\n");
    std::io::stderr().write_all(text.as_bytes()).expect("standard error");
}

/// Counts of one side: any size of traffic, any rate, often 0.
fn side(dice: &mut Dice) -> [u64; 2] {
    let n = match dice.below(4) {
        0 => 0,
        1 => dice.below(30),
        _ => dice.below(3000),
    };
    let most = [0.0, 0.002, 0.1, 1.0][usize::try_from(dice.below(4)).unwrap()];
    let rate = dice.between(0.0, most);
    [n, dice.binomial(n, rate)]
}

fn cells(dice: &mut Dice) -> Vec<[u64; 4]> {
    let cells = dice.below(4);
    let mut cell = || {
        let ([a, b], [c, d]) = (side(dice), side(dice));
        [a, b, c, d]
    };
    (0..cells).map(|_| cell()).collect()
}

fn history(dice: &mut Dice) -> Value {
    let names = ["masked", "refused", "redirected", "orders"];
    let mut names: Vec<_> = names.into_iter().filter(|_| dice.chance(0.6)).collect();
    names.push(ERRORS);
    let limits = |dice: &mut Dice| {
        let slo = dice.chance(0.5).then(|| dice.between(5e-4, 0.05));
        let (r0, floor) = (dice.between(1.0, 4.0), dice.between(1e-4, 0.1));
        json!({"r0": r0, "floor": floor, "slo": slo, "burst": 1 + dice.below(3), "max_share": dice.between(20.0, 100.0)})
    };
    let checks: Map<_, _> = names.iter().map(|name| ((*name).to_owned(), limits(dice))).collect();
    let block = |dice: &mut Dice| {
        // In one block of five a check is silent.
        let heard: Vec<_> = names.iter().filter(|_| dice.chance(0.8)).collect();
        let cells: Map<_, _> = heard.into_iter().map(|name| ((*name).to_owned(), json!(cells(dice)))).collect();
        json!([dice.chance(0.1), dice.between(0.0, 100.0), cells])
    };
    let blocks: Vec<_> = (0..=dice.below(50)).map(|_| block(dice)).collect();
    let seen: Vec<_> = (0..dice.below(6)).map(|_| dice.below(30)).collect();
    json!({"name": "random", "horizon": 1 + dice.below(9000), "steps": dice.below(8), "checks": checks,
           "history": {"errors": seen}, "blocks": blocks})
}

/// Rows in which `to` often fails steadily, so that the rules have something to decide.
fn window(dice: &mut Dice) -> Value {
    let (n, rate) = (1 + dice.below(100), dice.unit());
    let from = [0, 2, 40, 1000][usize::try_from(dice.below(4)).unwrap()];
    let from_rate = [0.0, rate / 50.0, rate / 4.0][usize::try_from(dice.below(3)).unwrap()];
    let mut row = || {
        let (to_n, from_n) = (dice.below(2 * n), dice.below(from + 1));
        [to_n, dice.binomial(to_n, rate), from_n, dice.binomial(from_n, from_rate)]
    };
    let mut rows: Vec<_> = (0..160).map(|_| row()).collect();
    rows.truncate(usize::try_from(dice.below(161)).unwrap());
    let usual = if dice.chance(0.5) { 0.0 } else { dice.between(0.0, 200.0) };
    let counts = [dice.below(60), dice.below(20), dice.below(60), dice.below(60)];
    json!({"rows": rows, "usual": usual, "rule": if dice.chance(0.5) { "hard" } else { "severe" }, "counts": counts})
}

/// The same cases in each run: a failure can be read again.
fn draw(mut case: impl FnMut(&mut Dice) -> Value, cases: usize) -> Vec<Value> {
    let mut dice = Dice::new(1);
    (0..cases).map(|_| case(&mut dice)).collect()
}

#[test]
fn random_histories_give_the_numbers_of_the_reference() {
    let Some(answers) = ask(&draw(history, 100)) else {
        return did_not_run("the cross-check of random histories with tests/judge/reference.py");
    };
    let mut numbers = 0;
    for answer in &answers {
        let case: Case = serde_json::from_value(answer.clone()).expect("a case");
        let (compared, judge) = compare(&case);
        numbers += compared;
        same_json(&serde_json::to_value(judge.state()).unwrap(), &answer["state"], "state");
    }
    assert_eq!(answers.len(), 100);
    println!("{numbers} numbers of {} random histories agree", answers.len());
}

#[test]
fn random_windows_trip_as_in_the_reference() {
    #[derive(Deserialize)]
    struct Answer {
        rows: Vec<[u64; 4]>,
        usual: f64,
        rule: String,
        counts: [u64; 4],
        expect: [Option<String>; 2],
    }

    let Some(answers) = ask(&draw(window, 600)) else {
        return did_not_run("the cross-check of random windows with tests/judge/reference.py");
    };
    let word =
        |found: Option<Trip>| found.map(|trip| if trip == Trip::Rollback { "rollback" } else { "hold" }.to_owned());
    let mut found = std::collections::BTreeMap::<_, usize>::new();
    for answer in answers {
        let Answer { rows, usual, rule, counts: [a, b, c, d], expect } =
            serde_json::from_value(answer).expect("a case");
        let rows: Vec<_> = rows
            .iter()
            .map(|[a, b, c, d]| Cell { to: Counts { n: *a, e: *b }, from: Counts { n: *c, e: *d } })
            .collect();
        let ours = word(trip(&rows, if rule == "hard" { &HARD } else { &SEVERE }, usual));
        let hangs = word(hang(Flow { started: a, completed: b }, Flow { started: c, completed: d }));
        assert_eq!([&ours, &hangs], expect.each_ref(), "{rows:?} {usual} {rule}");
        *found.entry(ours).or_default() += 1;
    }
    assert!(found.len() == 3 && found.values().all(|cases| *cases > 20), "each answer occurs: {found:?}");
}
