//! The rows of the event table for the requests of people.

use super::{
    bench::{Bench, share},
    table::{regression, still},
};
use crate::rollout::{
    Holding, Mode, Phase, Request, Verb, holding,
    plan::{OnRegression, PlanFile, Protocol},
};

#[test]
fn pause_and_resume_are_set_and_refused_when_it_goes_back() {
    for phase in [Phase::Queued, Phase::Preflight, Phase::Shift, Phase::Bake] {
        let mut bench = still(phase, Mode::Auto);
        bench.request(Verb::Pause);
        bench.settle();
        assert_eq!(bench.rollout.state.paused.as_ref().unwrap().by, "bob", "{phase:?}");
        assert!(
            phase == Phase::Queued || holding(&bench.rollout, &bench.seen).contains(&Holding::Paused("bob".to_owned()))
        );
        bench.request(Verb::Resume);
        bench.settle();
        assert_eq!(bench.rollout.state.paused, None, "{phase:?}");
    }
    for phase in [Phase::RollingBack, Phase::Done, Phase::RolledBack, Phase::TakenOver] {
        for verb in [Verb::Pause, Verb::Resume] {
            let mut bench = still(phase, Mode::Auto);
            bench.request(verb);
            bench.settle();
            assert!(bench.rollout.state.answered.as_ref().unwrap().refused.is_some(), "{phase:?}");
            assert_eq!(bench.rollout.state.paused, None);
        }
    }
}

#[test]
fn after_a_regression_resume_starts_the_evidence_anew_and_says_so() {
    let mut bench = still(Phase::Bake, Mode::Auto);
    bench.rollout.spec.regression = OnRegression::Hold;
    regression(&mut bench);
    bench.request(Verb::Resume);
    bench.settle();
    assert_eq!(bench.latched(), None);
    assert!((bench.rollout.judge.total() - 1.0).abs() < 1e-9);
    assert!(bench.told.iter().any(|event| event.detail.contains("another 1 %")));
}

#[test]
fn promote_ends_a_bake_and_no_other_phase() {
    for phase in Phase::ALL {
        let mut bench = still(phase, Mode::Auto);
        bench.request(Verb::Promote);
        bench.settle();
        let refused = bench.rollout.state.answered.as_ref().unwrap().refused.is_some();
        assert_eq!(refused, phase != Phase::Bake, "{phase:?}");
    }
    let mut bench = still(Phase::Bake, Mode::Auto);
    bench.request(Verb::Promote);
    bench.settle();
    assert_eq!(bench.phase(), Phase::Bake, "300 requests are a gate of their own");
    bench.blocks(3, (150, 0), (1350, 0));
    assert_eq!(bench.phase(), Phase::Bake, "and so is a calm of one bake");
    bench.blocks(4, (150, 0), (1350, 0));
    assert_eq!(bench.phase(), Phase::Shift);
}

#[test]
fn an_approval_is_stored_for_the_next_step() {
    let approval = |bench: &Bench| -> Request { bench.request_of(Verb::Approve) };
    for (phase, next) in [(Phase::Queued, 1), (Phase::Preflight, 1), (Phase::Shift, 2), (Phase::Bake, 2)] {
        let mut bench = still(phase, Mode::Auto);
        bench.seen.approval = Some(approval(&bench));
        bench.settle();
        assert_eq!(bench.rollout.state.approved, Some(next), "{phase:?}");
        let seq = bench.rollout.state.seq;
        bench.settle();
        assert_eq!(bench.rollout.state.seq, seq, "answered once");
    }
    let mut bench = still(Phase::RollingBack, Mode::Auto);
    bench.seen.approval = Some(approval(&bench));
    bench.settle();
    assert!(bench.rollout.state.approval.as_ref().unwrap().refused.is_some());
    // The right to write requests is no right to approve.
    let mut bench = still(Phase::Bake, Mode::Auto);
    bench.request(Verb::Approve);
    bench.settle();
    assert_eq!(bench.rollout.state.approved, None);
}

#[test]
fn the_mode_can_change_until_it_goes_back() {
    for phase in [Phase::Queued, Phase::Preflight, Phase::Shift, Phase::Bake] {
        let mut bench = still(phase, Mode::Auto);
        bench.request(Verb::Mode { mode: Mode::Watch });
        bench.settle();
        assert_eq!(bench.rollout.state.mode, Mode::Watch, "{phase:?}");
    }
    for phase in [Phase::RollingBack, Phase::Done, Phase::RolledBack, Phase::TakenOver] {
        let mut bench = still(phase, Mode::Guard);
        bench.request(Verb::Mode { mode: Mode::Auto });
        bench.settle();
        assert_eq!(bench.rollout.state.mode, Mode::Guard, "{phase:?}");
    }
}

#[test]
fn mode_auto_is_refused_where_nothing_sees_failed_answers() {
    for protocol in [Protocol::Grpc, Protocol::Tcp] {
        let mut bench = still(Phase::Bake, Mode::Watch);
        bench.rollout.spec.plan.protocol = protocol;
        bench.request(Verb::Mode { mode: Mode::Auto });
        bench.settle();
        assert_eq!(bench.rollout.state.mode, Mode::Watch, "{protocol:?}");
        let refused = bench.rollout.state.answered.as_ref().unwrap().refused.as_ref().unwrap();
        assert!(refused.contains("no failed answers"), "{refused}");
        bench.request(Verb::Mode { mode: Mode::Guard });
        bench.settle();
        assert_eq!(bench.rollout.state.mode, Mode::Guard, "{protocol:?}");
    }
    // A named check sees them.
    let mut bench = still(Phase::Bake, Mode::Watch);
    let file = r#"{"protocol":"tcp","step":[{"share":50,"bake":"1m"}],"check":{"failed":{"use":"failed","slo":0.01}}}"#;
    bench.rollout.spec.plan = serde_json::from_str::<PlanFile>(file).unwrap().resolve().unwrap();
    bench.request(Verb::Mode { mode: Mode::Auto });
    bench.settle();
    assert_eq!(bench.rollout.state.mode, Mode::Auto);
}

#[test]
fn in_mode_auto_the_next_step_is_the_first_one_above_the_share() {
    let mut bench = still(Phase::Bake, Mode::Guard);
    bench.foreign(Some(30));
    bench.apply();
    bench.settle();
    bench.request(Verb::Mode { mode: Mode::Auto });
    bench.settle();
    assert_eq!((bench.rollout.state.step, bench.rollout.next_step()), (1, Some(2)));
    bench.blocks(8, (300, 0), (700, 0));
    assert_eq!((bench.phase(), bench.rollout.state.share), (Phase::Shift, share(50)));
}
