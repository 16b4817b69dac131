use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    dice::Dice,
    judge::{cell::is_full, trip::usual, verdict::Block},
};

fn plan() -> Plan {
    Plan { horizon: 360, steps: 3, errors: Limits::ERRORS, others: Limits::default_others(), safe_ratio: Safe::RATIO }
}

fn cell(to: (u64, u64), from: (u64, u64)) -> Cell {
    Cell { to: Counts { n: to.0, e: to.1 }, from: Counts { n: from.0, e: from.1 } }
}

fn feed(judge: &mut Judge, cell: Cell) -> Verdict {
    let cells = [cell];
    judge.block(&Block::from([(ERRORS, cells.as_slice())]), false, 10.0, BLOCK_SECONDS)
}

#[test]
fn merging_looks_at_requests_only() {
    assert!(!is_full(1, 0, 100) && !is_full(5, 1, 9) && is_full(1, 1, 10) && is_full(6, 0, 0));
}

#[test]
fn a_state_of_another_plan_is_refused() {
    let judge = Judge::new(&plan());
    let state = judge.state();
    assert_eq!(Judge::restore(&Plan { steps: 4, ..plan() }, &state), Err(BadState::OtherPlan(3, 360, 4, 360)));
    assert_eq!(Judge::restore(&Plan { others: BTreeMap::new(), ..plan() }, &state), Err(BadState::OtherChecks));
    let slo = Limits { slo: None, ..Limits::ERRORS };
    assert_eq!(Judge::restore(&Plan { errors: slo, ..plan() }, &state), Err(BadState::OtherChecks));
}

#[test]
fn a_state_that_no_judge_can_have_is_refused() {
    let judge = Judge::new(&plan());
    let changes: [fn(&mut State); 6] = [
        |state| state.safe[0] = -1.0,
        |state| state.safe[5] = f64::NAN,
        |state| state.checks.get_mut("errors").unwrap().rel.fast[2] = f64::INFINITY,
        |state| state.checks.get_mut("masked").unwrap().low.slow[0] = 1e300,
        |state| state.checks.get_mut("errors").unwrap().spread.total = 0.0,
        |state| state.checks.get_mut("errors").unwrap().rel.raises = 4,
    ];
    for change in changes {
        let mut state = judge.state();
        change(&mut state);
        assert!(matches!(Judge::restore(&plan(), &state), Err(BadState::Impossible(_))), "{state:?}");
    }
}

#[test]
fn the_evidence_of_the_default_checks_is_small() {
    let mut judge = Judge::new(&plan());
    for n in 0..200 {
        let cells = [cell((1000 + n, n % 7), (9000 + n, n % 31))];
        let names = [ERRORS, "masked", "refused", "redirected"];
        let block: Block<'_> = names.into_iter().map(|name| (name, cells.as_slice())).collect();
        judge.block(&block, n % 60 == 0, 10.0, BLOCK_SECONDS);
    }
    let bytes = serde_json::to_vec(&judge.state()).unwrap().len();
    assert!(bytes < 3500, "{bytes}");
}

#[test]
fn a_resume_after_a_broken_slo_keeps_the_evidence_against_from() {
    let mut judge = Judge::new(&Plan { others: BTreeMap::new(), ..plan() });
    // Both sides fail 5 %: the SLO is broken, and `to` is not the cause.
    let verdicts: Vec<_> = (0..30).map(|_| feed(&mut judge, cell((1000, 50), (1000, 50)))).collect();
    assert_eq!(verdicts.last(), Some(&Verdict::Hold));
    let before = judge.errors.relative().value();
    judge.resume_slo();
    assert_eq!(judge.verdict(true), Verdict::Ok);
    assert!((judge.errors.relative().value() - before).abs() < f64::EPSILON);
}

#[test]
fn a_resume_after_a_regression_begins_with_evidence_1() {
    let mut judge = Judge::new(&plan());
    while feed(&mut judge, cell((100, 20), (900, 0))) != Verdict::Rollback {}
    judge.restart();
    assert!((judge.total() - 1.0).abs() < 1e-12);
    assert!(judge.verdict(true) == Verdict::Ok && judge.calm_seconds() == 0);
}

#[test]
fn nodes_that_do_not_publish_count_for_the_size_of_to() {
    // 5 of 5 fail on one node; the fleet has 100 requests in a slot.
    let rows = [cell((5, 5), (45, 0)); 5];
    assert_eq!(trip(&rows, &HARD, 0.0), Some(Trip::Rollback));
    assert_eq!(trip(&rows, &HARD, usual(5000, 10.0, 5)), None);
}

/// Blocks of a healthy `to`: each burst of errors falls on a side by its part of the requests. With it, whether a raise
/// came before the block.
fn healthy(dice: &mut Dice) -> (Cell, bool) {
    let (to, from) = (1 + dice.below(200), 1 + dice.below(2000));
    let mut counts = cell((to, 0), (from, 0));
    for _ in 0..dice.below(3) {
        let burst = 1 + dice.below(16);
        let side = if dice.below(to + from) < to { &mut counts.to } else { &mut counts.from };
        side.e = (side.e + burst).min(side.n);
    }
    (counts, dice.chance(0.02))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn evidence_is_finite_and_never_negative(seed: u64, share in 0.0..100.0_f64) {
        let mut judge = Judge::new(&plan());
        for (cell, raised) in blocks(seed) {
            let block = [cell];
            judge.block(&Block::from([(ERRORS, block.as_slice())]), raised, share, BLOCK_SECONDS);
            prop_assert!(judge.total().is_finite() && judge.total() >= 0.0);
            let state = judge.state();
            prop_assert_eq!(Judge::restore(&plan(), &state).unwrap().state(), state);
        }
    }

    #[test]
    fn fewer_errors_of_to_never_give_more_evidence(e in 1..50_u64, n in 50..500_u64) {
        let after = |errors| {
            let mut judge = Judge::new(&plan());
            feed(&mut judge, cell((n, errors), (10 * n, 3)));
            judge.total()
        };
        prop_assert!(after(e - 1) <= after(e));
    }

    #[test]
    fn a_block_without_data_changes_no_evidence(seed: u64) {
        let mut judge = Judge::new(&plan());
        for (cell, raised) in blocks(seed) {
            judge.block(&Block::from([(ERRORS, [cell].as_slice())]), raised, 10.0, BLOCK_SECONDS);
            let before = judge.total();
            judge.block(&Block::new(), false, 10.0, BLOCK_SECONDS);
            prop_assert!((judge.total() - before).abs() <= 1e-12 * before);
        }
    }
}

fn blocks(seed: u64) -> impl Iterator<Item = (Cell, bool)> {
    let mut dice = Dice::new(seed);
    (0..100).map(move |_| healthy(&mut dice))
}

#[test]
fn healthy_rollouts_do_not_reach_the_threshold() {
    let plan = Plan { others: BTreeMap::new(), ..plan() };
    let is_false = |seed: &u64| {
        let mut judge = Judge::new(&plan);
        blocks(*seed).any(|(cell, _)| feed(&mut judge, cell) == Verdict::Rollback)
    };
    let reached = (0..1000).filter(is_false).count();
    assert!(reached <= 10, "{reached} of 1000");
}
