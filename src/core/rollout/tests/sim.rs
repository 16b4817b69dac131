//! Whole rollouts against simulated nodes: each applies documents, counts and publishes at its own pace; leaders die,
//! transactions conflict or get lost. The world runs in seconds of its own, from a seed.

mod world;

use super::bench::share;
use crate::{
    dice::Dice,
    rollout::{Latch, Mode, Phase, plan::Preset, plan::Protocol},
};
use world::{Fault, World};

/// How a rollout ended, and what happened on the way.
#[derive(Debug)]
struct Outcome {
    phase: Phase,
    latched: Option<Latch>,
    /// Seconds from the begin of the fault to the first document that goes back.
    found: Option<u64>,
    /// The shares that were written, in percent.
    shares: Vec<u32>,
    leaders: u32,
}

fn run(fault: Fault, preset: Preset, per_second: f64, nodes: usize, deaths: f64, seed: u64) -> Outcome {
    let mut plan = preset.plan(Protocol::Http);
    plan.mode = Some(Mode::Auto);
    let mut world = World::new(plan, nodes, per_second, fault, deaths, seed);
    let longest = 3 * world.rollout_seconds() + 1200;
    // A latched rollout is judged all the same: it can still go back.
    let mut latched = 0;
    while !world.phase().is_final() && latched < 300 && world.seconds() < longest {
        world.second();
        latched = if world.latched().is_some() { latched + 1 } else { 0 };
    }
    Outcome {
        phase: world.phase(),
        latched: world.latched(),
        found: world.found,
        shares: world.shares.clone(),
        leaders: world.leaders,
    }
}

/// Faults that must be found, and in how many seconds at most.
const FAULTS: [(Fault, u64); 4] =
    [(Fault::Errors(1.0), 60), (Fault::Errors(0.05), 200), (Fault::NotFound, 60), (Fault::Hang, 60)];

fn median(mut seconds: Vec<u64>) -> u64 {
    seconds.sort_unstable();
    seconds.get(seconds.len() / 2).copied().unwrap_or_default()
}

#[test]
fn healthy_rollouts_end_done_with_each_step_once() {
    for seed in 0..6 {
        let deaths = if seed % 2 == 0 { 0.0 } else { 0.005 };
        let outcome = run(Fault::None, Preset::Quick, 100.0, 3, deaths, seed);
        assert_eq!((outcome.phase, outcome.latched), (Phase::Done, None), "seed {seed}: {outcome:?}");
        assert_eq!(outcome.shares, [10, 50, 95, 100], "seed {seed}");
        assert!(deaths == 0.0 || outcome.leaders > 1, "a leader died: {outcome:?}");
    }
}

#[test]
fn bad_rollouts_go_back_also_when_leaders_die() {
    for (fault, most) in FAULTS {
        for seed in 0..4 {
            let deaths = if seed % 2 == 0 { 0.0 } else { 0.005 };
            let outcome = run(fault, Preset::Quick, 200.0, 3, deaths, seed);
            assert_eq!(outcome.phase, Phase::RolledBack, "{fault:?}, seed {seed}: {outcome:?}");
            assert_eq!(outcome.shares.last(), Some(&0), "{fault:?}, seed {seed}: {outcome:?}");
            let found = outcome.found.unwrap_or(u64::MAX);
            assert!(found <= most + if deaths > 0.0 { 120 } else { 0 }, "{fault:?}, seed {seed}: {found} s");
        }
    }
}

#[test]
fn a_common_outage_takes_nothing_back() {
    for seed in 0..4 {
        let outcome = run(Fault::Common(0.6), Preset::Quick, 100.0, 3, 0.0, seed);
        assert!(outcome.phase == Phase::Done || outcome.latched == Some(Latch::Slo), "seed {seed}: {outcome:?}");
        assert!(!outcome.shares.contains(&0), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn shares_are_what_the_plan_says() {
    let plan = Preset::Quick.plan(Protocol::Http);
    let shares: Vec<_> = plan.steps.iter().map(|step| step.share).collect();
    assert_eq!(shares, [10, 50, 95, 100].map(share));
}

#[test]
#[ignore = "minutes; `make judge-sim` runs it"]
fn simulated_rollouts() {
    let runs = std::env::var("ROLLOUT_SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(300_u64);
    println!("\nRollouts, plan quick, 5 nodes, a leader dies every 500 s");
    let mut dice = Dice::new(5);
    let mut healthy = [0_u64; 3];
    for seed in 0..runs {
        let per_second = [20.0, 100.0, 300.0][usize::try_from(dice.below(3)).unwrap()];
        let outcome = run(Fault::None, Preset::Quick, per_second, 5, 0.002, 10_000 + seed);
        healthy[match (outcome.phase, outcome.latched) {
            (Phase::Done, _) => 0,
            (Phase::RolledBack | Phase::RollingBack, _) => 1,
            _ => 2,
        }] += 1;
    }
    println!("healthy: {} done, {} taken back, {} hold, of {runs}", healthy[0], healthy[1], healthy[2]);
    for (fault, _) in FAULTS {
        let outcomes: Vec<_> =
            (0..runs.div_ceil(4)).map(|seed| run(fault, Preset::Quick, 200.0, 5, 0.002, seed)).collect();
        let back = outcomes.iter().filter(|outcome| outcome.phase == Phase::RolledBack).count();
        let found = median(outcomes.iter().filter_map(|outcome| outcome.found).collect());
        println!("{fault:?}: {back} of {} taken back, median {found} s to the document that goes back", outcomes.len());
    }
    let outcomes: Vec<_> =
        (0..runs.div_ceil(4)).map(|seed| run(Fault::Common(0.6), Preset::Quick, 100.0, 5, 0.002, seed)).collect();
    let back = outcomes.iter().filter(|outcome| outcome.shares.contains(&0)).count();
    println!("common outage of 60 %, one minute: {back} of {} taken back", outcomes.len());
}
