//! Properties of `accept` and `plan` for arbitrary input, with a thousand cases each. `PROPTEST_CASES` sets another
//! number.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};
use weightd_core::{
    accept::{self, Guarded, SETTLE, Verdict},
    desired::{Desired, Weights},
    model::{BackendName, Moment, ServerName, Weight},
    observed::{Health, Observed, Server},
    plan::{Change, Plan, plan},
};

mod sequence;

const NAMES: [&str; 5] = ["blue", "green", "red", "spare", "other"];

fn name(text: &str) -> ServerName {
    ServerName::new(text).expect("a name")
}

/// Typical weights: equal weights and zeros are frequent.
fn weight() -> impl Strategy<Value = Weight> {
    prop_oneof![4 => Just(0), 2 => Just(1), 2 => Just(50), 3 => Just(100), 1 => Just(256), 2 => 0..=256u64]
        .prop_map(|weight| Weight::new(weight).expect("a weight"))
}

fn server() -> impl Strategy<Value = Server> {
    let health = select(vec![
        Health::Up,
        Health::Up,
        Health::Down,
        Health::Unproven(None),
        Health::Unproven(Some(true)),
        Health::Unproven(Some(false)),
    ]);
    let often_not = || prop::bool::weighted(0.1);
    (weight(), weight(), health, often_not(), often_not(), often_not()).prop_map(
        |(weight, initial, health, administered, slot, backup)| Server {
            name: name("replaced"),
            weight,
            initial,
            health,
            administered,
            slot,
            backup,
            drain: false,
            starting: false,
            owner: None,
            id: 1,
            port: Some(80),
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    (vec(server(), 1..NAMES.len()), any::<bool>()).prop_map(|(mut servers, known_dynamic)| {
        for (server, text) in servers.iter_mut().zip(NAMES) {
            server.name = name(text);
        }
        Observed { servers, known_dynamic }
    })
}

fn desired() -> impl Strategy<Value = Desired> {
    let weights = prop::collection::btree_map(select(NAMES.to_vec()), weight(), 1..NAMES.len());
    (weights, prop::bool::weighted(0.1), 1..9u64).prop_map(|(weights, force, index)| Desired {
        weights: weights.into_iter().map(|(server, weight)| (name(server), weight)).collect(),
        force,
        index,
        by: None,
        reason: None,
        at: None,
        back: None,
        split: None,
    })
}

fn backend() -> BackendName {
    BackendName::new("app").expect("a name")
}

fn is_raise(change: &Change) -> bool {
    change.to > change.from
}

/// Executes a plan like the task: a stage runs only after the stage before it has succeeded. Sets with a number in
/// `fails` have no effect. Returns whether all sets succeeded.
fn apply(plan: &Plan, observed: &mut Observed, fails: u32) -> bool {
    let mut number = 0;
    for stage in &plan.stages {
        let mut whole = true;
        for change in stage {
            let succeeds = fails & (1 << (number % 32)) == 0;
            number += 1;
            whole &= succeeds;
            if succeeds {
                let server =
                    observed.servers.iter_mut().find(|s| s.name == change.server).expect("the server was observed");
                server.weight = change.to;
            }
        }
        if !whole {
            return false;
        }
    }
    true
}

/// Whether a server certainly takes traffic, or counts as such: a server of unknown health with a former weight above
/// 0.
fn serves(server: &Server, was_above_zero: bool) -> bool {
    let runs = match server.health {
        Health::Up | Health::Unproven(Some(true)) => true,
        Health::Down | Health::Unproven(Some(false)) => false,
        Health::Unproven(None) => was_above_zero,
    };
    runs && !server.weight.is_zero() && !server.administered && !server.slot && !server.backup
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_changes_what_is_named_and_differs_and_nothing_else(accepted in desired(), observed in observed()) {
        let plan = plan(&backend(), &accepted, &observed);
        let withheld = plan.withheld.iter().flat_map(|(_, changes)| changes);
        let mut seen = Weights::new();
        for change in plan.changes().chain(withheld) {
            let server = observed.server(&change.server);
            prop_assert_eq!(Some(change.from), server.map(|s| s.weight));
            prop_assert_eq!(Some(&change.to), accepted.weights.get(&change.server));
            prop_assert_ne!(change.from, change.to);
            prop_assert!(change.to <= Weight::MAX);
            prop_assert_eq!(seen.insert(change.server.clone(), change.to), None, "twice");
        }
        for server in &observed.servers {
            let differs = accepted.weights.get(&server.name).is_some_and(|to| *to != server.weight);
            prop_assert_eq!(seen.contains_key(&server.name), differs);
        }
    }

    #[test]
    fn raises_precede_lowers(accepted in desired(), observed in observed()) {
        let plan = plan(&backend(), &accepted, &observed);
        prop_assert!(plan.changes().map(is_raise).is_sorted_by(|before, after| before >= after));
        prop_assert!(plan.stages.iter().all(|stage| !stage.is_empty()));
        if !observed.known_dynamic {
            for stage in &plan.stages {
                prop_assert!(stage.iter().all(is_raise) || !stage.iter().any(is_raise), "mixed: {}", plan);
            }
        }
        if let Some((_, withheld)) = &plan.withheld {
            prop_assert!(!accepted.force && !withheld.iter().any(is_raise), "a raise is never withheld");
        }
    }

    #[test]
    fn an_executed_plan_leaves_nothing_to_do(accepted in desired(), mut observed in observed()) {
        let first = plan(&backend(), &accepted, &observed);
        apply(&first, &mut observed, 0);
        let second = plan(&backend(), &accepted, &observed);
        if first.withheld.is_none() {
            prop_assert!(second.is_empty(), "{} and then {}", first, second);
        } else {
            // Once a server of unknown health is above 0, withheld changes may follow. Then nothing is left.
            apply(&second, &mut observed, 0);
            let third = plan(&backend(), &accepted, &observed);
            prop_assert!(third.stages.is_empty(), "{} and then {} and then {}", first, second, third);
        }
    }

    #[test]
    fn no_server_is_set_to_zero_before_every_raise_succeeded_if_the_algorithm_may_be_static(
        accepted in desired(), observed in observed(), fails: u32
    ) {
        let plan = plan(&backend(), &accepted, &observed);
        let mut after = observed.clone();
        apply(&plan, &mut after, fails);
        let raised = |after: &Observed| plan.changes().filter(|c| is_raise(c)).all(|c| {
            after.server(&c.server).is_some_and(|s| s.weight == c.to)
        });
        let zeroed = observed.servers.iter().zip(&after.servers).any(|(b, a)| !b.weight.is_zero() && a.weight.is_zero());
        prop_assert!(observed.known_dynamic || raised(&after) || !zeroed, "{}", plan);
    }

    #[test]
    fn without_a_usable_server_no_weight_is_lowered(accepted in desired(), observed in observed()) {
        let plan = plan(&backend(), &accepted, &observed);
        prop_assert!(accepted.force || observed.any_usable() || plan.changes().all(is_raise), "{}", plan);
    }

    #[test]
    fn a_new_document_never_removes_the_last_serving_server(
        desired in desired(), before in prop::option::of(desired()), observed in observed()
    ) {
        let already = |server: &Server| {
            let accepted = before.as_ref().and_then(|b| b.weights.get(&server.name)).copied();
            !accepted.unwrap_or(server.weight).is_zero()
        };
        let any_serving = |o: &Observed| o.servers.iter().any(|s| serves(s, already(s)));
        prop_assume!(!desired.force && before.as_ref() != Some(&desired) && any_serving(&observed));
        let verdict = accept::accept(&desired, before.as_ref(), &observed, None, Moment::default());
        if verdict == Verdict::Accepted {
            let mut after = observed.clone();
            apply(&plan(&backend(), &desired, &observed), &mut after, 0);
            prop_assert!(any_serving(&after), "{:?}", after);
        }
    }

    #[test]
    fn a_new_document_keeps_a_serving_server_after_any_failure_if_the_algorithm_may_be_static(
        desired in desired(), mut observed in observed(), fails: u32
    ) {
        observed.known_dynamic = false;
        let running = |o: &Observed| o.servers.iter().any(|s| serves(s, true));
        prop_assume!(!desired.force && running(&observed));
        if accept::accept(&desired, None, &observed, None, Moment::default()) == Verdict::Accepted {
            let plan = plan(&backend(), &desired, &observed);
            apply(&plan, &mut observed, fails);
            prop_assert!(running(&observed), "{}: {:?}", plan, observed);
        }
    }

    #[test]
    fn an_accepted_document_and_a_forced_document_pass_the_guards(
        mut desired in desired(), observed in observed(), force: bool
    ) {
        desired.force = force;
        let before = (!force).then_some(&desired);
        prop_assert_eq!(accept::accept(&desired, before, &observed, None, Moment::default()), Verdict::Accepted);
    }

    #[test]
    fn a_guarded_change_is_accepted_after_its_side_was_usable_for_ten_seconds_without_interruption(
        steps in vec((0..8u64, prop::bool::weighted(0.7)), 1..30)
    ) {
        let weights = BTreeMap::from([("blue", 0), ("green", 100)]);
        let weights = weights.into_iter().map(|(s, w)| (name(s), Weight::new(w).expect("a weight"))).collect();
        let desired = Desired { weights, index: 2, ..Desired::default() };
        let server = |text, weight, up: bool| Server {
            name: name(text),
            weight,
            initial: weight,
            health: if up { Health::Up } else { Health::Down },
            administered: false,
            slot: false,
            backup: false,
            drain: false,
            starting: false,
            owner: None,
            id: 1,
            port: Some(80),
        };
        let mut now = Moment::after_start(Duration::from_secs(100));
        let mut before: Option<Guarded> = None;
        let mut usable_since = None;
        for (number, (seconds, up)) in std::iter::once((0, false)).chain(steps).enumerate() {
            now = now + Duration::from_secs(seconds);
            usable_since = up.then(|| usable_since.unwrap_or(now));
            let observed = Observed {
                servers: vec![server("blue", Weight::MAX, true), server("green", Weight::ZERO, up)],
                known_dynamic: true,
            };
            let due = usable_since.is_some_and(|since| now.since(since) >= SETTLE);
            match accept::accept(&desired, None, &observed, before, now) {
                Verdict::Accepted => {
                    prop_assert!(due, "step {number}: too early");
                    return Ok(());
                }
                Verdict::Guarded(guarded) => {
                    prop_assert!(!due, "step {number}: too late");
                    before = Some(guarded);
                }
                Verdict::Unmatched => prop_assert!(false, "both servers exist"),
            }
        }
    }
}
