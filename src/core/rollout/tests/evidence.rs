//! Evidence over a change of leader, named checks, gates and reasons.

use super::bench::{Bench, HEALTHY, START, cell, names, part, plan, share};
use crate::rollout::{
    Action, EventKind, Evidence, Holding, Mode, Phase, Rollout, Verb, holding, observe::SourceCell, plan::PlanFile,
};

/// A change of what is seen.
type Change = fn(&mut Bench);

fn words(bench: &Bench) -> Vec<&'static str> {
    holding(&bench.rollout, &bench.seen).iter().map(Holding::word).collect()
}

fn baking() -> Bench {
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.settle();
    bench
}

#[test]
fn a_new_leader_goes_on_with_the_evidence_and_good_seconds() {
    let mut bench = baking();
    bench.blocks(3, HEALTHY.0, HEALTHY.1);
    let (good, total) = (bench.rollout.memory.good_seconds(), bench.rollout.judge.total());
    bench.new_leader();
    assert_eq!(bench.rollout.memory.good_seconds(), good);
    assert!((bench.rollout.judge.total() - total).abs() < 1e-9);
    bench.settle();
    bench.block(HEALTHY.0, HEALTHY.1);
    bench.block(HEALTHY.0, HEALTHY.1);
    assert_eq!(bench.rollout.memory.good_seconds(), good + 20);
    assert_eq!(bench.rollout.judge.state().checks["errors"].rel.raises, 1, "the raise is not staked twice");
}

#[test]
fn evidence_of_another_rollout_or_plan_is_not_taken() {
    let mut bench = baking();
    bench.blocks(3, HEALTHY.0, HEALTHY.1);
    let Bench { rollout, .. } = &bench;
    let evidence = |rollout_id: &str| Evidence {
        rollout: rollout_id.to_owned(),
        step: 1,
        block: 0,
        good: 30,
        raised: false,
        judge: rollout.judge.state(),
        shown: crate::rollout::Shown::default(),
    };
    let now = super::bench::at(bench.wall);
    let load = |id| Rollout::load(rollout.spec.clone(), rollout.state.clone(), Some(&evidence(id)), now);
    assert_eq!(load("r1").memory.good_seconds(), 30);
    assert_eq!(load("r2").memory.good_seconds(), 0);
    let mut guard = rollout.spec.clone();
    guard.mode = Mode::Guard;
    let other = Rollout::load(guard, rollout.state.clone(), Some(&evidence("r1")), now);
    assert_eq!(other.memory.good_seconds(), 0);
}

#[test]
fn evidence_is_persisted_once_a_minute_and_when_somebody_watches_every_10_s() {
    for (watched, expected) in [(false, 3), (true, 13)] {
        let mut bench = baking();
        bench.rollout.state.mode = Mode::Guard;
        bench.seen.watched = watched;
        bench.wall += 60;
        let start = bench.wall;
        let mut writes = 0;
        while bench.wall < start + 121 {
            writes += bench.tick().iter().filter(|action| matches!(action, Action::Persist(_))).count();
            bench.wall += 1;
        }
        assert_eq!(writes, expected, "watched: {watched}");
    }
}

#[test]
fn a_block_counts_for_a_step_only_if_it_began_after_all_nodes_had_applied() {
    let mut bench = Bench::new(Phase::Shift, Mode::Auto);
    bench.seen.nodes.get_mut("lb-1").unwrap().applied = 0;
    bench.blocks(2, HEALTHY.0, HEALTHY.1);
    bench.wall += 3;
    bench.apply();
    bench.settle();
    assert_eq!((bench.phase(), bench.rollout.judge.step_counts().n), (Phase::Bake, 0));
    bench.wall -= 3;
    bench.block(HEALTHY.0, HEALTHY.1);
    assert_eq!(bench.rollout.judge.step_counts().n, 0, "it began before");
    bench.block(HEALTHY.0, HEALTHY.1);
    assert_eq!(bench.rollout.judge.step_counts().n, 300);
}

#[test]
fn a_broken_slo_needs_less_evidence_and_is_named() {
    let mut bench = baking();
    while bench.phase() == Phase::Bake && bench.wall < START + 600 {
        bench.block((300, 9), (2700, 3));
    }
    let why = bench.rollout.state.why.as_deref().unwrap_or_default();
    assert_eq!(bench.phase(), Phase::RollingBack);
    assert!(bench.rollout.judge.total() < 100.0, "{why}");
    assert!(why.starts_with("the new side is worse and breaks the SLO of `errors`: evidence "), "{why}");
}

#[test]
fn a_report_that_covers_a_block_before_the_raise_is_left_out() {
    let mut bench = baking();
    let block = bench.wall / 10;
    let mut parts: Vec<_> = names().into_iter().map(|node| part(node, block, HEALTHY.0, HEALTHY.1)).collect();
    parts[0].covers = 3;
    bench.wall += 10;
    bench.seen.blocks = parts;
    bench.settle();
    assert_eq!(bench.rollout.judge.step_counts().n, 200);
}

#[test]
fn closed_gates_stop_good_seconds_at_the_bake_and_never_latch() {
    let mut bench = baking();
    bench.seen.window_closed = true;
    bench.blocks(30, HEALTHY.0, HEALTHY.1);
    assert_eq!((bench.phase(), bench.latched(), bench.rollout.memory.good_seconds()), (Phase::Bake, None, 60));
    assert_eq!(words(&bench), ["window"]);
    bench.seen.window_closed = false;
    bench.settle();
    assert_eq!((bench.phase(), bench.rollout.state.share), (Phase::Shift, share(50)));
}

#[test]
fn each_gate_holds_an_advance_and_is_named() {
    let gates: [(&str, Change); 7] = [
        ("protocol", |bench| bench.seen.is_tcp = true),
        ("frozen", |bench| bench.seen.frozen = Some("a freeze".to_owned())),
        ("breaker", |bench| bench.seen.breaker = true),
        ("unusable", |bench| bench.seen.nodes.get_mut("lb-2").unwrap().to_usable = false),
        ("not_applied", |bench| bench.seen.nodes.get_mut("lb-2").unwrap().refuses = Some("guarded".to_owned())),
        ("approval", |bench| bench.rollout.spec.plan.steps[1].approve = true),
        ("paused", |bench| bench.request(Verb::Pause)),
    ];
    for (word, close) in gates {
        let mut bench = baking();
        bench.blocks(5, HEALTHY.0, HEALTHY.1);
        close(&mut bench);
        bench.blocks(4, HEALTHY.0, HEALTHY.1);
        assert_eq!(bench.phase(), Phase::Bake, "{word}");
        assert!(words(&bench).contains(&word), "{word}: {:?}", words(&bench));
    }
}

#[test]
fn an_approval_opens_the_gate_and_people_are_asked_once() {
    let mut bench = baking();
    bench.rollout.spec.plan.steps[1].approve = true;
    bench.blocks(9, HEALTHY.0, HEALTHY.1);
    assert_eq!(bench.told.iter().filter(|event| event.kind == EventKind::Approval).count(), 1);
    bench.seen.approval = Some(bench.request_of(Verb::Approve));
    bench.settle();
    assert_eq!(bench.phase(), Phase::Shift);
}

#[test]
fn an_approval_of_an_older_state_is_refused() {
    let mut bench = baking();
    bench.rollout.spec.plan.steps[1].approve = true;
    let mut approval = bench.request_of(Verb::Approve);
    approval.at -= 1;
    bench.seen.approval = Some(approval);
    bench.settle();
    assert_eq!(bench.rollout.state.approved, None);
    assert!(bench.rollout.state.approval.as_ref().unwrap().refused.as_ref().unwrap().contains("changed since"));
}

#[test]
fn a_node_on_which_no_request_reaches_to_is_named() {
    let mut bench = baking();
    for _ in 0..8 {
        let block = bench.wall / 10;
        bench.wall += 10;
        let mut parts: Vec<_> = names().into_iter().map(|node| part(node, block, (100, 0), (900, 0))).collect();
        parts[2] = part(names()[2].clone(), block, (0, 0), (1000, 0));
        bench.seen.blocks = parts;
        bench.settle();
    }
    assert_eq!(bench.phase(), Phase::Bake);
    assert!(holding(&bench.rollout, &bench.seen).contains(&Holding::Unwired(vec![names()[2].clone()])));
}

#[test]
fn a_share_that_is_far_off_holds_but_not_where_it_is_free() {
    let mut bench = baking();
    bench.blocks(8, (40, 0), (960, 0));
    assert_eq!((bench.phase(), &*words(&bench)), (Phase::Bake, &["share"][..]));
    bench.seen.share_is_free = true;
    bench.settle();
    assert_eq!(bench.phase(), Phase::Shift);
}

#[test]
fn a_node_that_reports_nothing_holds() {
    let mut bench = baking();
    for _ in 0..8 {
        let block = bench.wall / 10;
        bench.wall += 10;
        bench.seen.blocks = names()[..2].iter().map(|node| part(node.clone(), block, (100, 0), (900, 0))).collect();
        bench.wall += 5;
        bench.settle();
        bench.wall -= 5;
    }
    assert_eq!(bench.phase(), Phase::Bake);
    assert!(holding(&bench.rollout, &bench.seen).contains(&Holding::NoData(vec![names()[2].clone()])));
}

/// A plan with a check of a metrics system.
fn with_source() -> Bench {
    let mut bench = baking();
    let mut file = PlanFile::from(plan());
    let check = r#"{"use":"slow_requests","slo":0.01,"warm_up":"20s"}"#;
    file.check.insert("latency".to_owned(), serde_json::from_str(check).unwrap());
    let spec = crate::rollout::Spec { plan: file.resolve().unwrap(), ..bench.rollout.spec.clone() };
    bench.rollout = Rollout::load(spec, bench.rollout.state.clone(), None, super::bench::at(bench.wall));
    bench.settle();
    bench
}

#[test]
fn a_window_of_a_named_check_counts_once_and_after_its_warm_up() {
    let mut bench = with_source();
    let block = bench.wall / 10;
    let answer = |block| SourceCell { block, covers: 6, cell: cell((1000, 100), (9000, 0)) };
    let evidence =
        |bench: &Bench| bench.rollout.judge.checks().find(|(name, _)| *name == "latency").unwrap().1.evidence();
    bench.seen.sources.insert("latency".to_owned(), Ok(answer(block + 1)));
    bench.blocks(2, HEALTHY.0, HEALTHY.1);
    assert!((evidence(&bench) - 1.0).abs() < 1e-9, "it is warming up");
    bench.seen.sources.insert("latency".to_owned(), Ok(answer(block + 2)));
    bench.blocks(1, HEALTHY.0, HEALTHY.1);
    let after = evidence(&bench);
    assert!(after > 1.5, "{after}");
    bench.blocks(2, HEALTHY.0, HEALTHY.1);
    assert!((evidence(&bench) - after).abs() < 1e-9, "the same window");
}

#[test]
fn counts_that_differ_from_those_of_haproxy_are_no_data() {
    let mut bench = with_source();
    let answer = |block, to, from| SourceCell { block, covers: 1, cell: cell((to, 0), (from, 0)) };
    bench.blocks(3, HEALTHY.0, HEALTHY.1);
    let block = bench.wall / 10 - 2;
    let says = |bench: &mut Bench, answer| {
        bench.seen.sources.insert("latency".to_owned(), Ok(answer));
        bench.blocks(1, HEALTHY.0, HEALTHY.1);
        holding(&bench.rollout, &bench.seen).into_iter().find(|reason| matches!(reason, Holding::Source(..)))
    };
    // Three nodes with 100 and 900 requests each.
    let differs = says(&mut bench, answer(block, 300, 5000));
    assert!(differs.is_some_and(|reason| reason.to_string().contains("5000")));
    assert_eq!(says(&mut bench, answer(block, 300, 2600)), None);
}

#[test]
fn no_step_ends_before_each_named_check_has_judged_a_part_of_it() {
    let mut bench = with_source();
    let answer = |block| SourceCell { block, covers: 1, cell: cell((300, 0), (2700, 0)) };
    // A window from before the end of the warm-up, which is longer than the bake here.
    bench.seen.sources.insert("latency".to_owned(), Ok(answer(bench.wall / 10)));
    bench.rollout.memory.raised_at = Some(bench.wall + 600);
    bench.blocks(20, HEALTHY.0, HEALTHY.1);
    assert_eq!((bench.phase(), bench.latched(), &*words(&bench)), (Phase::Bake, None, &["unmeasured"][..]));
    assert!(bench.was_told(EventKind::Holding), "the bake is full");
    bench.rollout.memory.raised_at = Some(bench.wall - 600);
    bench.seen.sources.insert("latency".to_owned(), Ok(answer(bench.wall / 10)));
    bench.blocks(2, HEALTHY.0, HEALTHY.1);
    assert_eq!((bench.phase(), bench.rollout.state.share), (Phase::Shift, share(50)));
}

#[test]
fn a_window_that_began_before_all_nodes_had_applied_is_not_judged() {
    let mut bench = with_source();
    bench.rollout.state.phase = Phase::Shift;
    bench.rollout.memory.first_block = None;
    bench.seen.nodes.get_mut("lb-1").unwrap().applied = 0;
    bench.blocks(6, HEALTHY.0, HEALTHY.1);
    // It is warm, and began while a node still had the old document.
    let answer = |block| SourceCell { block, covers: 1, cell: cell((300, 300), (2700, 0)) };
    let early = bench.wall / 10 - 1;
    bench.seen.sources.insert("latency".to_owned(), Ok(answer(early)));
    bench.apply();
    bench.settle();
    assert_eq!(bench.phase(), Phase::Bake);
    bench.blocks(2, HEALTHY.0, HEALTHY.1);
    assert!(!bench.rollout.memory.counted.contains_key("latency") && words(&bench).contains(&"unmeasured"));
    bench.seen.sources.insert("latency".to_owned(), Ok(answer(early + 2)));
    bench.blocks(2, HEALTHY.0, HEALTHY.1);
    assert!(bench.rollout.memory.counted.contains_key("latency") && !words(&bench).contains(&"unmeasured"));
}

#[test]
fn a_named_check_that_was_never_answered_holds() {
    let mut bench = with_source();
    bench.blocks(1, HEALTHY.0, HEALTHY.1);
    let reasons = holding(&bench.rollout, &bench.seen);
    assert!(reasons.iter().any(|reason| matches!(reason, Holding::Source(..))), "{reasons:?}");
}

#[test]
fn a_named_check_without_data_holds_with_its_reason() {
    let mut bench = with_source();
    bench.seen.sources.insert("latency".to_owned(), Err("timeout".to_owned()));
    bench.blocks(8, HEALTHY.0, HEALTHY.1);
    let reason = Holding::Source("latency".to_owned(), "timeout".to_owned());
    assert!(bench.phase() == Phase::Bake && holding(&bench.rollout, &bench.seen).contains(&reason));
}

#[test]
fn preflight_waits_for_what_it_needs() {
    let needs: [(&str, Change); 6] = [
        ("not_split", |bench| bench.seen.document.share = None),
        ("not_split", |bench| bench.seen.not_split = Some("the document is no split".to_owned())),
        ("protocol", |bench| bench.seen.is_tcp = true),
        ("from_too_small", |bench| bench.seen.from_too_small = Some("blue has 1 of 3 servers up".to_owned())),
        ("sessions", |bench| bench.seen.nodes.get_mut("lb-1").unwrap().to_sessions = 2),
        ("unusable", |bench| bench.seen.nodes.get_mut("lb-1").unwrap().to_usable = false),
    ];
    for (word, lack) in needs {
        let mut bench = Bench::new(Phase::Preflight, Mode::Auto);
        lack(&mut bench);
        bench.blocks(10, (0, 0), (1000, 0));
        assert_eq!((bench.phase(), &*words(&bench)), (Phase::Preflight, &[word][..]));
    }
    // Sessions end at the latest with `timeout server`.
    let mut bench = Bench::new(Phase::Preflight, Mode::Auto);
    bench.seen.nodes.get_mut("lb-1").unwrap().to_sessions = 2;
    bench.seen.timeout_server = Some(100);
    bench.blocks(9, (0, 0), (1000, 0));
    assert_eq!(bench.phase(), Phase::Preflight);
    bench.blocks(3, (0, 0), (1000, 0));
    assert_eq!(bench.phase(), Phase::Shift);
}

#[test]
fn preflight_holds_while_the_old_side_itself_breaks_the_slo() {
    // 0.5 %, where the SLO is 0.1 %: the first bake would end with a broken SLO.
    let mut bench = Bench::new(Phase::Preflight, Mode::Auto);
    bench.blocks(10, (0, 0), (1000, 5));
    assert_eq!((bench.phase(), &*words(&bench)), (Phase::Preflight, &["above_slo"][..]));
    bench.blocks(3, (0, 0), (1000, 5));
    assert!(bench.was_told(EventKind::Holding));
    // Only the last blocks count: it goes on when the cause is gone.
    bench.blocks(8, (0, 0), (1000, 0));
    assert_eq!(bench.phase(), Phase::Shift);
    // Two errors in 18,000 requests are within the SLO, and few enough by chance are too.
    let mut bench = Bench::new(Phase::Preflight, Mode::Auto);
    bench.blocks(1, (0, 0), (1000, 2));
    bench.blocks(8, (0, 0), (1000, 0));
    assert_eq!(bench.phase(), Phase::Shift);
    // A new leader knows nothing of the baseline: it measures one.
    let mut bench = Bench::new(Phase::Preflight, Mode::Auto);
    bench.blocks(10, (0, 0), (1000, 5));
    bench.new_leader();
    bench.blocks(1, (0, 0), (1000, 5));
    assert_eq!((bench.phase(), &*words(&bench)), (Phase::Preflight, &["baseline"][..]));
    let mut bench = Bench::new(Phase::Preflight, Mode::Watch);
    bench.blocks(8, (0, 0), (1000, 5));
    assert_eq!(bench.phase(), Phase::Bake, "in mode watch nothing is at stake");
}

#[test]
fn a_node_with_a_fast_clock_does_not_blind_the_windows() {
    let mut bench = baking();
    bench.slots(6, (20, 20), (180, 0));
    let mut fast = bench.seen.slots[0].clone();
    fast.slot += 1800;
    bench.seen.slots.insert(0, fast);
    let mut block = part(names()[0].clone(), bench.wall / 10 + 360, HEALTHY.0, HEALTHY.1);
    block.marks.torn = true;
    bench.seen.blocks = vec![block];
    bench.tick();
    assert_eq!(bench.commit().unwrap().write, Some(share(0)));
}
