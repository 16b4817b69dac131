//! What holds for every sequence of events.

use proptest::prelude::*;

use super::bench::{Bench, names};
use crate::rollout::{
    Action, Latch, Mode, Phase, Transaction, Verb, holding,
    observe::{Answer, SpecSeen},
};

/// Something that happens.
#[derive(Debug, Clone)]
enum Happens {
    /// So many blocks with these rates per mille, of `to` and of `from`.
    Blocks(u32, u64, u64),
    Slots(u64, u64),
    Apply,
    /// A node applies nothing any more, or leaves.
    Late(usize),
    Gone(usize),
    Unusable(usize, bool),
    Foreign(Option<u32>),
    Request(Verb),
    Approve,
    Window(bool),
    Freeze(bool),
    Breaker(bool),
    Active(bool),
    Deposed,
    NewLeader,
    Conflict,
    Spec(bool),
    Wait(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let mode = prop_oneof![Just(Mode::Auto), Just(Mode::Guard), Just(Mode::Watch)];
    let verb = prop_oneof![
        1 => Just(Verb::Pause),
        3 => Just(Verb::Resume),
        1 => Just(Verb::Promote),
        1 => Just(Verb::Abort { wrote: false }),
        1 => Just(Verb::Abort { wrote: true }),
        1 => mode.prop_map(|mode| Verb::Mode { mode }),
    ];
    let rate = prop_oneof![6 => Just(0_u64), 1 => Just(5), 1 => Just(100), 1 => Just(1000)];
    prop_oneof![
        12 => (1..9_u32, rate.clone(), prop_oneof![5 => Just(0_u64), 1 => Just(50)])
            .prop_map(|(blocks, to, from)| Happens::Blocks(blocks, to, from)),
        1 => (1..8_u64, rate).prop_map(|(slots, to)| Happens::Slots(slots, to)),
        8 => Just(Happens::Apply),
        1 => (0..3_usize).prop_map(Happens::Late),
        1 => (0..3_usize).prop_map(Happens::Gone),
        1 => (0..3_usize, any::<bool>()).prop_map(|(node, usable)| Happens::Unusable(node, usable)),
        1 => prop::option::of(0..101_u32).prop_map(Happens::Foreign),
        3 => verb.prop_map(Happens::Request),
        1 => Just(Happens::Approve),
        1 => any::<bool>().prop_map(Happens::Window),
        1 => any::<bool>().prop_map(Happens::Freeze),
        1 => any::<bool>().prop_map(Happens::Breaker),
        1 => any::<bool>().prop_map(Happens::Active),
        1 => Just(Happens::Deposed),
        1 => Just(Happens::NewLeader),
        1 => Just(Happens::Conflict),
        1 => prop::bool::weighted(0.8).prop_map(Happens::Spec),
        1 => (1..90_u64).prop_map(Happens::Wait),
    ]
}

/// A transaction, checked against what must hold for every one.
fn check(bench: &Bench, transaction: &Transaction) {
    let (state, next, seen) = (&bench.rollout.state, &transaction.state, &bench.seen);
    assert_eq!(next.seq, state.seq + 1);
    assert!(!state.phase.is_final() || next.phase == state.phase, "an end is an end");
    // A person's document is never overwritten: what is replaced is what the rollout wrote or adopted.
    if transaction.write.is_some() {
        assert_eq!(transaction.document, Some(bench.rollout.document()));
    }
    let raises = transaction.write.is_some_and(|share| share > state.share);
    if raises {
        assert_eq!((state.mode, next.phase), (Mode::Auto, Phase::Shift));
        assert!(transaction.obeys_freeze && seen.leader && state.paused.is_none() && state.latched.is_none());
        assert!(seen.not_applied(bench.rollout.document()).is_empty(), "applied everywhere");
        assert!(!seen.window_closed && seen.frozen.is_none() && !seen.breaker && seen.unusable().is_empty());
        assert!(bench.rollout.judge.total() < 10.0, "no evidence against it");
        assert_eq!(next.step, bench.rollout.next_step().unwrap(), "no step is skipped");
        match state.phase {
            Phase::Preflight => assert!(bench.rollout.memory.good_seconds() >= bench.rollout.baseline_seconds()),
            Phase::Bake => {
                let promoted = state.promoted == Some(state.step);
                assert!(promoted || bench.rollout.memory.good_seconds() >= bench.rollout.bake_seconds());
                assert!(bench.rollout.judge.step_counts().n >= 300, "enough data");
            }
            phase => panic!("a raise in {phase:?}"),
        }
    }
    let lowers = transaction.write.is_some_and(|share| share < state.share);
    if lowers {
        assert_eq!((next.phase, next.share), (Phase::RollingBack, state.back));
        assert!(!transaction.obeys_freeze);
    }
}

/// One tick, checked; and the same tick again, which must do nothing.
fn tick(bench: &mut Bench) {
    let before = bench.rollout.clone();
    let answer = bench.seen.answer;
    let actions = bench.tick();
    let transacts = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Transact(_))).count();
    assert!(transacts(&actions) <= 1);
    if !bench.seen.leader {
        assert!(actions.is_empty() && bench.rollout == before, "a deposed leader changes nothing");
    }
    if let Some(open) = &bench.open
        && transacts(&actions) == 1
    {
        check(bench, open);
    }
    let (open, told, state) = (bench.open.take(), bench.told.len(), bench.rollout.clone());
    bench.seen.answer = answer;
    let again = bench.tick();
    assert_eq!(again, [], "the same observations do nothing twice");
    assert_eq!((bench.told.len(), &bench.rollout.state), (told, &state.state));
    bench.open = open;
}

fn settle(bench: &mut Bench) {
    for _ in 0..12 {
        tick(bench);
        if bench.commit().is_none() {
            return;
        }
    }
    panic!("it never settles: {:?}", bench.rollout.state);
}

fn happen(bench: &mut Bench, event: Happens) {
    let node = |at: usize| names()[at].clone();
    match event {
        Happens::Blocks(blocks, to, from) => {
            for _ in 0..blocks {
                let block = bench.wall / 10;
                bench.wall = (block + 1) * 10;
                let n = u64::from(bench.rollout.state.share.thousandths()) / 100;
                let counts = ((n, n * to / 1000), (1000 - n, (1000 - n) * from / 1000));
                let part = |node| super::bench::part(node, block, counts.0, counts.1);
                bench.seen.blocks = names().into_iter().map(part).collect();
                settle(bench);
            }
            bench.seen.blocks.clear();
        }
        Happens::Slots(slots, to) => bench.slots(slots, (20, 20 * to / 1000), (180, 0)),
        Happens::Apply => bench.apply(),
        Happens::Late(at) => bench.seen.nodes.get_mut(&node(at)).unwrap().applied = 0,
        Happens::Gone(at) => {
            let node = bench.seen.nodes.get_mut(&node(at)).unwrap();
            node.live = !node.live;
            node.counts = node.live;
        }
        Happens::Unusable(at, usable) => bench.seen.nodes.get_mut(&node(at)).unwrap().to_usable = usable,
        Happens::Foreign(percent) => bench.foreign(percent),
        Happens::Request(Verb::Abort { wrote: true }) => {
            bench.foreign(Some(bench.rollout.state.back.thousandths() / 1000));
            bench.request(Verb::Abort { wrote: true });
        }
        Happens::Request(verb) => bench.request(verb),
        Happens::Approve => bench.seen.approval = Some(bench.request_of(Verb::Approve)),
        Happens::Window(closed) => bench.seen.window_closed = closed,
        Happens::Freeze(frozen) => bench.seen.frozen = frozen.then(|| "a freeze".to_owned()),
        Happens::Breaker(open) => bench.seen.breaker = open,
        Happens::Active(active) => bench.seen.active = active,
        Happens::Deposed => {
            bench.seen.leader = false;
            tick(bench);
            bench.seen.leader = true;
        }
        Happens::NewLeader => bench.new_leader(),
        Happens::Conflict => {
            tick(bench);
            if let Some(lost) = bench.open.take() {
                bench.seen.answer = Some((lost.attempt, Answer::Conflict));
            }
        }
        Happens::Spec(same) => bench.seen.spec = if same { SpecSeen::Same } else { SpecSeen::Changed },
        Happens::Wait(seconds) => bench.wall += seconds,
    }
}

fn starts() -> impl Strategy<Value = (Phase, Mode)> {
    let phase = prop_oneof![
        1 => Just(Phase::Queued),
        2 => Just(Phase::Preflight),
        2 => Just(Phase::Shift),
        5 => Just(Phase::Bake),
        1 => Just(Phase::RollingBack),
    ];
    (phase, prop_oneof![4 => Just(Mode::Auto), 1 => Just(Mode::Guard), 1 => Just(Mode::Watch)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_transition_is_allowed_and_none_happens_twice(
        (phase, mode) in starts(),
        events in prop::collection::vec(happens(), 1..40),
    ) {
        let mut bench = Bench::new(phase, mode);
        for event in events {
            happen(&mut bench, event);
            settle(&mut bench);
        }
    }

    /// Whatever happened, an abort ends the rollout, and what it writes is `back`.
    #[test]
    fn an_abort_works_after_everything(
        (phase, mode) in starts(),
        events in prop::collection::vec(happens(), 1..30),
    ) {
        let mut bench = Bench::new(phase, mode);
        for event in events {
            happen(&mut bench, event);
            settle(&mut bench);
        }
        let ended = bench.phase().is_final();
        bench.request(Verb::Abort { wrote: false });
        bench.seen.request.as_mut().unwrap().id = "the last one".to_owned();
        settle(&mut bench);
        bench.apply();
        settle(&mut bench);
        let state = &bench.rollout.state;
        prop_assert!(state.phase.is_final());
        prop_assert!(ended || state.phase == Phase::TakenOver || (state.phase == Phase::RolledBack && state.share == state.back));
    }

    /// When every cause is gone, no reason is left but those that a person must clear.
    #[test]
    fn what_holds_is_left_when_its_cause_is_gone(
        mode in prop_oneof![Just(Mode::Auto), Just(Mode::Guard)],
        events in prop::collection::vec(happens(), 1..30),
    ) {
        let mut bench = Bench::new(Phase::Bake, mode);
        for event in events {
            happen(&mut bench, event);
            settle(&mut bench);
        }
        if bench.phase() != Phase::Bake {
            return Ok(());
        }
        bench.seen = crate::rollout::Observations {
            document: bench.seen.document,
            ..Bench::new(Phase::Bake, mode).seen
        };
        bench.apply();
        bench.wall += 400;
        settle(&mut bench);
        // Late nodes are forgotten after 30 blocks.
        for _ in 0..40 {
            if bench.phase() != Phase::Bake {
                return Ok(());
            }
            happen(&mut bench, Happens::Blocks(1, 0, 0));
        }
        let kept = |reason: &crate::rollout::Holding| {
            let person = bench.rollout.state.paused.is_some() || bench.rollout.state.latched.is_some();
            !(reason.is_evidence() || person && matches!(reason.word(), "paused" | "latched"))
        };
        let reasons: Vec<_> = holding(&bench.rollout, &bench.seen).into_iter().filter(kept).collect();
        prop_assert_eq!(reasons, vec![]);
        prop_assert!(bench.latched() != Some(Latch::SpecChanged) || bench.rollout.state.latched.is_some());
    }
}
