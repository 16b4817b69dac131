//! The event table: one test for each row, one line for each cell.

use super::bench::{Bench, HEALTHY, names, share};
use crate::rollout::{
    EventKind, Holding, Latch, Mode, Phase, Verb, holding,
    observe::{Answer, NodeSeen},
    plan::OnRegression,
};

/// Phases in which `to` has a share that the rollout gave it.
const MOVING: [Phase; 2] = [Phase::Shift, Phase::Bake];
const WAITING: [Phase; 2] = [Phase::Queued, Phase::Preflight];
const ENDED: [Phase; 3] = [Phase::Done, Phase::RolledBack, Phase::TakenOver];

/// A rollout in a phase that stays there by itself.
pub(super) fn still(phase: Phase, mode: Mode) -> Bench {
    let mut bench = Bench::new(phase, mode);
    match phase {
        Phase::Queued => bench.seen.active = false,
        // A node that is late.
        Phase::Shift | Phase::RollingBack => {
            bench.seen.nodes.get_mut("lb-1").unwrap().applied = 0;
        }
        _ => {}
    }
    bench.tick();
    assert!(bench.open.is_none(), "{phase:?} does not stay");
    bench
}

#[test]
fn a_foreign_document_takes_over_or_is_adopted() {
    for phase in WAITING {
        let mut bench = still(phase, Mode::Auto);
        bench.foreign(Some(5));
        bench.settle();
        assert_eq!((bench.phase(), bench.rollout.state.back), (phase, share(5)), "preflight again");
        assert_eq!(bench.rollout.memory.good_seconds(), 0);
    }
    for (phase, mode) in [
        (Phase::Shift, Mode::Auto),
        (Phase::Shift, Mode::Guard),
        (Phase::Bake, Mode::Auto),
        (Phase::RollingBack, Mode::Auto),
    ] {
        let mut bench = still(phase, mode);
        bench.foreign(Some(33));
        bench.tick();
        assert_eq!(bench.commit().unwrap().write, None, "a person's document stays");
        bench.settle();
        assert_eq!(bench.phase(), Phase::TakenOver, "{phase:?}");
        assert!(bench.was_told(EventKind::TakenOver));
    }
    for mode in [Mode::Guard, Mode::Watch] {
        let mut bench = still(Phase::Bake, mode);
        bench.foreign(Some(33));
        bench.tick();
        assert_eq!(bench.commit().unwrap().write, None);
        bench.settle();
        let state = &bench.rollout.state;
        assert_eq!((state.phase, state.step, state.share, state.back), (Phase::Bake, 2, share(33), share(0)));
    }
    for phase in ENDED {
        let mut bench = still(phase, Mode::Auto);
        bench.foreign(Some(33));
        assert_eq!(bench.tick(), [], "{phase:?}");
    }
}

#[test]
fn the_same_shares_at_another_index_are_adopted() {
    for phase in [Phase::Queued, Phase::Preflight, Phase::Shift, Phase::Bake, Phase::RollingBack] {
        let mut bench = still(phase, Mode::Auto);
        let percent = bench.rollout.state.share;
        bench.foreign(Some(percent.thousandths() / 1000));
        bench.tick();
        assert_eq!(bench.commit().unwrap().write, None);
        bench.settle();
        assert_eq!((bench.phase(), bench.rollout.document()), (phase, bench.seen.document.index));
    }
    for phase in ENDED {
        let mut bench = still(phase, Mode::Auto);
        bench.foreign(Some(10));
        assert_eq!(bench.tick(), []);
    }
}

#[test]
fn abort_goes_back_from_every_phase() {
    for phase in WAITING {
        let mut bench = still(phase, Mode::Auto);
        bench.request(Verb::Abort { wrote: false });
        bench.tick();
        assert_eq!(bench.commit().unwrap().write, None, "nothing was moved");
        bench.settle();
        assert_eq!(bench.phase(), Phase::RolledBack);
    }
    for (phase, mode) in
        MOVING.iter().flat_map(|phase| [Mode::Auto, Mode::Guard, Mode::Watch].map(|mode| (*phase, mode)))
    {
        let mut bench = still(phase, mode);
        bench.request(Verb::Abort { wrote: false });
        bench.tick();
        let transaction = bench.commit().unwrap();
        assert_eq!((transaction.write, transaction.obeys_freeze), (Some(share(0)), false));
        bench.settle();
        assert_eq!(bench.phase(), Phase::RollingBack, "{phase:?} {mode:?}");
    }
    let mut bench = still(Phase::RollingBack, Mode::Auto);
    bench.request(Verb::Abort { wrote: false });
    bench.settle();
    assert_eq!(bench.phase(), Phase::RollingBack);
    assert!(bench.rollout.state.answered.is_some());
    for phase in ENDED {
        let mut bench = still(phase, Mode::Auto);
        bench.request(Verb::Abort { wrote: false });
        bench.settle();
        assert_eq!(bench.phase(), phase);
        assert_eq!(bench.rollout.state.answered.unwrap().refused.unwrap(), "the rollout has ended");
    }
}

#[test]
fn an_abort_that_wrote_the_document_is_only_closed() {
    for phase in [Phase::Shift, Phase::Bake] {
        let mut bench = still(phase, Mode::Auto);
        bench.foreign(Some(0));
        bench.request(Verb::Abort { wrote: true });
        bench.tick();
        assert_eq!(bench.commit().unwrap().write, None, "it is written already");
        bench.settle();
        assert_eq!((bench.phase(), bench.rollout.document()), (Phase::RollingBack, bench.seen.document.index));
        bench.apply();
        bench.settle();
        assert_eq!(bench.phase(), Phase::RolledBack);
    }
    for phase in [Phase::Queued, Phase::Preflight, Phase::RollingBack] {
        let mut bench = still(phase, Mode::Auto);
        bench.foreign(Some(0));
        bench.request(Verb::Abort { wrote: true });
        bench.tick();
        assert_eq!(bench.commit().unwrap().write, None);
        bench.settle();
        assert!(matches!(bench.phase(), Phase::RolledBack | Phase::RollingBack), "{phase:?}");
    }
}

#[test]
fn going_back_names_the_users_that_stay() {
    type Goes = fn(&mut Bench);
    let ways: [Goes; 3] = [hard, regression, |bench| {
        bench.request(Verb::Abort { wrote: false });
        bench.settle();
    }];
    for goes in ways {
        for stays in [None, Some("users that a cookie pins".to_owned())] {
            let mut bench = still(Phase::Bake, Mode::Auto);
            bench.seen.stays.clone_from(&stays);
            bench.tick();
            assert_eq!(bench.rollout.memory.shown.stays, stays);
            goes(&mut bench);
            bench.commit();
            bench.settle();
            let event = bench.told.iter().find(|event| event.kind == EventKind::RollingBack).unwrap();
            assert_eq!(
                event.detail.contains("may stay on the new side: users that a cookie pins"),
                stays.is_some(),
                "{event:?}"
            );
        }
    }
}

/// All requests of `to` fail.
fn hard(bench: &mut Bench) {
    bench.slots(6, (20, 20), (180, 0));
    bench.tick();
}

#[test]
fn hard_with_a_control_takes_back_in_auto_and_guard() {
    for (phase, mode) in MOVING.iter().flat_map(|phase| [Mode::Auto, Mode::Guard].map(|mode| (*phase, mode))) {
        let mut bench = still(phase, mode);
        hard(&mut bench);
        let transaction = bench.commit().unwrap_or_else(|| panic!("{phase:?} {mode:?}"));
        assert_eq!((transaction.write, transaction.obeys_freeze), (Some(share(0)), false));
        bench.settle();
        assert_eq!(bench.phase(), Phase::RollingBack);
        assert!(bench.rollout.state.why.as_ref().unwrap().starts_with("HARD"));
    }
    for phase in [Phase::Queued, Phase::Preflight, Phase::RollingBack, Phase::RolledBack] {
        let mut bench = still(phase, Mode::Auto);
        hard(&mut bench);
        assert!(bench.open.is_none(), "{phase:?}");
    }
}

#[test]
fn severe_takes_back_while_the_share_is_raised() {
    let mut bench = still(Phase::Shift, Mode::Auto);
    bench.blocks(8, (100, 6), (900, 0));
    assert_eq!(bench.phase(), Phase::RollingBack);
    assert!(bench.rollout.state.why.as_ref().unwrap().starts_with("SEVERE"));
}

#[test]
fn hang_takes_back() {
    for phase in MOVING {
        let mut bench = still(phase, Mode::Auto);
        for _ in 0..3 {
            let block = bench.wall / 10;
            bench.wall += 10;
            let mut parts: Vec<_> =
                names().into_iter().map(|node| super::bench::part(node, block, (0, 0), (900, 0))).collect();
            for part in &mut parts {
                part.to.started = 100;
            }
            bench.seen.blocks = parts;
            bench.settle();
        }
        assert_eq!(bench.phase(), Phase::RollingBack, "{phase:?}");
        assert!(bench.rollout.state.why.as_ref().unwrap().starts_with("HANG"));
    }
}

/// `to` fails one in ten: the evidence grows, HARD does not see it; fewer than six blocks, so SEVERE does not either.
pub(super) fn regression(bench: &mut Bench) {
    bench.blocks(5, (100, 10), (900, 0));
}

#[test]
fn a_verdict_takes_back_where_the_spec_says_so() {
    for mode in [Mode::Auto, Mode::Guard] {
        let mut bench = still(Phase::Bake, mode);
        regression(&mut bench);
        assert_eq!((bench.phase(), bench.rollout.state.share), (Phase::RollingBack, share(0)), "{mode:?}");
        assert!(bench.rollout.state.why.as_ref().unwrap().starts_with("the new side is worse"));
    }
}

#[test]
fn a_verdict_latches_where_the_spec_says_hold() {
    for mode in [Mode::Auto, Mode::Guard] {
        let mut bench = still(Phase::Bake, mode);
        bench.rollout.spec.regression = OnRegression::Hold;
        regression(&mut bench);
        assert_eq!((bench.phase(), bench.latched()), (Phase::Bake, Some(Latch::Regression)), "{mode:?}");
        assert!(bench.was_told(EventKind::Latched));
        // The same in the phase after it: the evidence is the same.
        bench.rollout.state.phase = Phase::Shift;
        bench.rollout.state.latched = None;
        bench.settle();
        assert_eq!(bench.latched(), Some(Latch::Regression));
    }
}

#[test]
fn a_failure_without_a_control_is_told_and_holds_for_300_s() {
    for phase in MOVING {
        let mut bench = still(phase, Mode::Auto);
        bench.slots(6, (20, 20), (0, 0));
        bench.tick();
        assert!(bench.open.is_none());
        assert!(bench.was_told(EventKind::Warned));
        assert!(holding(&bench.rollout, &bench.seen).contains(&Holding::NoControl), "{phase:?}");
        bench.tick();
        assert_eq!(bench.told.iter().filter(|event| event.kind == EventKind::Warned).count(), 1, "once");
        bench.seen.slots.clear();
        bench.wall += 301;
        bench.tick();
        assert!(!holding(&bench.rollout, &bench.seen).contains(&Holding::NoControl), "{phase:?}");
    }
}

#[test]
fn a_broken_slo_of_both_sides_latches() {
    let mut bench = still(Phase::Bake, Mode::Auto);
    bench.blocks(30, (100, 1), (900, 9));
    assert_eq!((bench.phase(), bench.latched()), (Phase::Bake, Some(Latch::Slo)));
}

#[test]
fn in_mode_watch_people_are_told_once_in_300_s_and_nothing_moves() {
    for phase in MOVING {
        let mut bench = still(phase, Mode::Watch);
        hard(&mut bench);
        bench.wall += 20;
        bench.tick();
        assert!(bench.open.is_none());
        assert_eq!(bench.told.iter().filter(|event| event.kind == EventKind::Warned).count(), 1);
        bench.wall += 300;
        bench.seen.slots.clear();
        bench.block(HEALTHY.0, HEALTHY.1);
        hard(&mut bench);
        assert_eq!(bench.told.iter().filter(|event| event.kind == EventKind::Warned).count(), 2, "{phase:?}");
    }
}

#[test]
fn an_ended_rollout_still_tells_of_failures() {
    for phase in [Phase::Done, Phase::TakenOver] {
        let mut bench = still(phase, Mode::Auto);
        bench.rollout.memory.windows.want(10.0, bench.wall);
        hard(&mut bench);
        assert!(bench.open.is_none() && bench.was_told(EventKind::Warned), "{phase:?}");
    }
}

#[test]
fn when_all_counting_nodes_have_applied_the_phase_goes_on() {
    for (phase, next) in [(Phase::Shift, Phase::Bake), (Phase::RollingBack, Phase::RolledBack)] {
        let mut bench = still(phase, Mode::Auto);
        bench.apply();
        bench.settle();
        assert_eq!(bench.phase(), next);
        assert_eq!(bench.rollout.memory.good_seconds(), 0);
    }
}

#[test]
fn after_60_s_a_raise_holds_and_names_the_late_node_and_going_back_ends() {
    let mut bench = still(Phase::Shift, Mode::Auto);
    bench.wall += 61;
    bench.settle();
    assert_eq!(bench.phase(), Phase::Shift);
    let late = Holding::NotApplied(vec![names()[0].clone()]);
    assert!(holding(&bench.rollout, &bench.seen).contains(&late));
    assert!(bench.told.iter().any(|event| event.kind == EventKind::Holding && event.detail.contains("lb-1")));

    let mut bench = still(Phase::RollingBack, Mode::Auto);
    bench.wall += 59;
    bench.settle();
    assert_eq!(bench.phase(), Phase::RollingBack);
    bench.wall += 1;
    bench.settle();
    assert_eq!((bench.phase(), &*bench.rollout.state.late), (Phase::RolledBack, &names()[..1]));
}

#[test]
fn going_back_does_not_wait_for_nodes_that_are_gone_or_refuse() {
    let changes: [fn(&mut NodeSeen); 2] = [|node| node.live = false, |node| node.refuses = Some("guarded".to_owned())];
    for change in changes {
        let mut bench = still(Phase::RollingBack, Mode::Auto);
        change(bench.seen.nodes.get_mut("lb-1").unwrap());
        bench.settle();
        assert_eq!((bench.phase(), &*bench.rollout.state.late), (Phase::RolledBack, &names()[..1]));
    }
}

#[test]
fn a_judged_block_counts_in_preflight_and_in_a_bake_only() {
    for phase in Phase::ALL {
        let mut bench = still(phase, Mode::Auto);
        bench.block(HEALTHY.0, HEALTHY.1);
        bench.block(HEALTHY.0, HEALTHY.1);
        let counts = matches!(phase, Phase::Queued | Phase::Preflight | Phase::Bake);
        assert_eq!(bench.rollout.memory.good_seconds() > 0, counts, "{phase:?}");
    }
}

#[test]
fn a_full_bake_with_open_gates_goes_on() {
    let mut bench = still(Phase::Preflight, Mode::Auto);
    bench.blocks(7, (0, 0), (1000, 0));
    assert_eq!((bench.phase(), bench.rollout.state.step, bench.rollout.state.share), (Phase::Shift, 1, share(10)));
    for (percent, step) in [(50, 2), (100, 3)] {
        bench.apply();
        bench.settle();
        assert_eq!(bench.phase(), Phase::Bake);
        let to = u64::from(bench.rollout.state.share.thousandths() / 100);
        bench.blocks(8, (to, 0), (1000 - to, 0));
        assert_eq!((bench.phase(), bench.rollout.state.step), (Phase::Shift, step));
        assert_eq!(bench.rollout.state.share, share(percent));
    }
    bench.apply();
    bench.settle();
    bench.blocks(8, (1000, 0), (0, 0));
    assert_eq!((bench.phase(), bench.rollout.state.share), (Phase::Done, share(100)));
}

#[test]
fn guard_and_watch_begin_to_judge_without_a_write() {
    for mode in [Mode::Guard, Mode::Watch] {
        let mut bench = still(Phase::Preflight, mode);
        bench.blocks(7, (0, 0), (1000, 0));
        assert_eq!((bench.phase(), bench.seen.document.index), (Phase::Bake, super::bench::DOCUMENT));
        bench.blocks(100, (0, 0), (1000, 0));
        assert_eq!(bench.phase(), Phase::Bake, "only people move");
    }
}

#[test]
fn a_full_bake_without_enough_evidence_is_extended_and_latches_at_twice_its_length() {
    let mut bench = still(Phase::Bake, Mode::Auto);
    bench.blocks(11, (3, 0), (27, 0));
    assert_eq!((bench.phase(), bench.latched()), (Phase::Bake, None));
    bench.blocks(3, (3, 0), (27, 0));
    assert_eq!((bench.phase(), bench.latched()), (Phase::Bake, Some(Latch::Inconclusive)));
    bench.request(Verb::Resume);
    bench.settle();
    assert_eq!((bench.latched(), bench.rollout.memory.good_seconds()), (None, 60), "one more length of it");
}

#[test]
fn after_a_conflict_everything_is_read_and_decided_again() {
    for phase in [Phase::Shift, Phase::Bake, Phase::RollingBack] {
        let mut bench = still(phase, Mode::Auto);
        bench.request(Verb::Abort { wrote: false });
        bench.tick();
        let lost = bench.open.take().unwrap();
        let before = bench.rollout.state.clone();
        // Somebody else wrote in between.
        bench.foreign(Some(33));
        bench.seen.answer = Some((lost.attempt, Answer::Conflict));
        bench.tick();
        assert_eq!(bench.rollout.state, before, "what was not confirmed did not happen");
        assert_eq!(bench.commit().unwrap().write, None);
        bench.settle();
        assert_eq!(bench.phase(), Phase::TakenOver);
    }
    let mut bench = still(Phase::Bake, Mode::Auto);
    bench.request(Verb::Pause);
    bench.tick();
    let lost = bench.open.take().unwrap();
    bench.seen.answer = Some((lost.attempt, Answer::Lost));
    bench.settle();
    assert!(bench.rollout.state.paused.is_some(), "it is tried again");
}

#[test]
fn a_new_leader_sends_nothing_again() {
    for phase in Phase::ALL {
        let mut bench = still(phase, Mode::Auto);
        bench.block(HEALTHY.0, HEALTHY.1);
        let (state, total) = (bench.rollout.state.clone(), bench.rollout.judge.total());
        bench.new_leader();
        bench.tick();
        assert!(bench.open.is_none(), "{phase:?}");
        assert_eq!(bench.rollout.state, state);
        assert!((bench.rollout.judge.total() - total).abs() < 1e-9);
    }
}
