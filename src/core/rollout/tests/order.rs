//! The order within a tick: foreign document, abort, HARD, SEVERE, verdict, other requests, holds, advance.

use super::bench::{Bench, HEALTHY, share};
use crate::rollout::{Action, Latch, Mode, Phase, Verb, holding, observe::SpecSeen};

/// A bake in which everything happens at once.
fn everything() -> Bench {
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.settle();
    bench.blocks(7, HEALTHY.0, HEALTHY.1);
    assert_eq!(bench.phase(), Phase::Shift, "it would advance");
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.settle();
    bench.blocks(5, HEALTHY.0, HEALTHY.1);
    bench.slots(6, (20, 20), (180, 0));
    bench.foreign(Some(33));
    bench.request(Verb::Abort { wrote: false });
    bench.seen.spec = SpecSeen::Changed;
    bench
}

#[test]
fn a_foreign_document_comes_before_an_abort() {
    let mut bench = everything();
    bench.tick();
    assert_eq!(bench.commit().unwrap().state.phase, Phase::TakenOver);
}

#[test]
fn an_abort_comes_before_hard() {
    let mut bench = everything();
    bench.foreign(Some(10));
    bench.settle();
    assert_eq!(bench.rollout.state.why.as_deref(), Some("bob aborted it"));
}

#[test]
fn hard_comes_before_other_requests() {
    let mut bench = everything();
    bench.foreign(Some(10));
    bench.request(Verb::Pause);
    bench.settle();
    assert!(bench.rollout.state.why.as_ref().unwrap().starts_with("HARD"));
    assert!(bench.rollout.state.answered.as_ref().unwrap().refused.is_some(), "the pause came too late");
}

#[test]
fn a_request_comes_before_holds_and_an_advance() {
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.blocks(6, HEALTHY.0, HEALTHY.1);
    bench.seen.spec = SpecSeen::Changed;
    bench.request(Verb::Pause);
    bench.tick();
    assert!(bench.commit().unwrap().state.paused.is_some());
    bench.tick();
    assert_eq!(bench.commit().unwrap().state.latched, Some(Latch::SpecChanged));
    bench.tick();
    bench.blocks(4, HEALTHY.0, HEALTHY.1);
    assert_eq!(bench.phase(), Phase::Bake, "it does not advance");
}

#[test]
fn a_changed_spec_holds_until_the_rollout_is_aborted() {
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.seen.spec = SpecSeen::Unreadable("version 2".to_owned());
    bench.settle();
    assert_eq!(bench.latched(), Some(Latch::SpecChanged));
    bench.request(Verb::Resume);
    bench.settle();
    assert_eq!(bench.latched(), Some(Latch::SpecChanged));
    bench.request(Verb::Abort { wrote: false });
    bench.settle();
    assert_eq!((bench.phase(), bench.rollout.state.share), (Phase::RollingBack, share(0)));
}

#[test]
fn a_deposed_leader_changes_nothing() {
    let mut bench = everything();
    bench.seen.leader = false;
    let before = bench.rollout.clone();
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.rollout, before);
}

#[test]
fn a_stale_reading_of_the_document_is_not_foreign() {
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.rollout.state.document = Some(200);
    bench.settle();
    assert_eq!(bench.phase(), Phase::Bake);
    // A document that is gone is.
    bench.seen.document.index = 0;
    bench.seen.document.share = None;
    bench.settle();
    assert_eq!(bench.phase(), Phase::TakenOver);
}

#[test]
fn nothing_is_proposed_while_a_transaction_is_under_way() {
    let mut bench = everything();
    bench.tick();
    let open = bench.open.take();
    for _ in 0..3 {
        assert!(!bench.tick().iter().any(|action| matches!(action, Action::Transact(_))));
    }
    bench.open = open;
    bench.commit();
    bench.settle();
    assert_eq!(bench.phase(), Phase::TakenOver);
}

#[test]
fn going_back_is_stopped_by_nothing() {
    let mut bench = Bench::new(Phase::Bake, Mode::Auto);
    bench.rollout.state.latched = Some(Latch::SpecChanged);
    bench.seen.frozen = Some("a freeze".to_owned());
    bench.seen.window_closed = true;
    bench.seen.breaker = true;
    bench.seen.nodes.values_mut().for_each(|node| node.to_usable = false);
    assert!(holding(&bench.rollout, &bench.seen).len() > 4);
    bench.slots(6, (20, 20), (180, 0));
    bench.tick();
    let transaction = bench.commit().unwrap();
    assert_eq!((transaction.write, transaction.obeys_freeze), (Some(share(0)), false));
}
