use weightd_core::{
    desired::Pattern,
    history::{Entry, Way},
};

use super::*;
use crate::page::view::row::tests::{baking, now, steady, with_state};

const ALL: May = May { weights: true, history: true, spec: true, request: true, approval: true, freeze: true };

fn labels(facts: &Facts, may: May) -> Vec<String> {
    actions(facts, may, now()).into_iter().map(|action| action.label).collect()
}

fn panel<'a>(all: &'a [Action], label: &str) -> &'a Panel {
    match all.iter().find(|action| action.label == label).map(|action| &action.opens) {
        Some(Opens::Panel(panel)) => panel,
        other => panic!("{label}: {other:?}"),
    }
}

#[test]
fn roll_back_is_always_there_and_last() {
    for facts in [steady(0), steady(50), baking(), with_state(baking(), |state| state.phase = Phase::RolledBack)] {
        for may in [ALL, May::default()] {
            assert_eq!(labels(&facts, may).last().map(String::as_str), Some("Roll back…"));
        }
    }
}

#[test]
fn a_rollout_can_be_paused_promoted_and_taken_back() {
    assert_eq!(labels(&baking(), ALL), ["Pause…", "Promote…", "Mode…", "Set weights…", "Freeze…", "Roll back…"]);
    let paused = with_state(baking(), |state| {
        state.paused = Some(weightd_core::rollout::state::Paused { by: "bob".to_owned(), reason: None });
    });
    assert_eq!(labels(&paused, ALL)[0], "Resume…");
    let stopped = |latch| with_state(baking(), |state| state.latched = Some(latch));
    assert_eq!(labels(&stopped(Latch::Slo), ALL)[0], "Resume…");
    assert_ne!(labels(&stopped(Latch::SpecChanged), ALL)[0], "Resume…", "the controller refuses it");
    let all = actions(&baking(), ALL, now());
    let back = panel(&all, "Roll back…");
    assert_eq!((back.verb, back.button.replace('\u{a0}', " ")), ("abort", "Roll back to blue 100 %".to_owned()));
    assert!(back.hidden.contains(&("rollout", "r1".to_owned())) && back.hidden.contains(&("at", "4".to_owned())));
    assert!(back.hidden.contains(&("seen", "10".to_owned())));
}

#[test]
fn a_confirmation_to_go_back_names_who_stays_if_the_leader_knows() {
    let pinned = |stays: Option<&str>, age: u64| {
        let mut facts = baking();
        let shown = facts.rollout.as_mut().unwrap().shown.as_mut().unwrap();
        shown.stays = stays.map(str::to_owned);
        shown.at = Timestamp::from_seconds(now().seconds() - age);
        panel(&actions(&facts, ALL, now()), "Roll back…").small.join(" ")
    };
    let users = Some("users that a cookie pins, chosen users");
    assert_eq!(pinned(users, 5), "May stay on green until they leave it: users that a cookie pins, chosen users.");
    assert_eq!((pinned(users, 600), pinned(None, 5)), (PINNED.to_owned(), PINNED.to_owned()));
}

/// A history with these shares of green, newest first: the first one is in force.
fn moved(facts: Facts, states: &[(u32, Way)]) -> Facts {
    let entry = |(at, (green, way)): (usize, &(u32, Way))| {
        let to = format!(r#"{{"split":{{"blue-*":{},"green-*":{green}}}}}"#, 100 - green);
        let index = 10 - u64::try_from(at).unwrap();
        let raised = if *way == Way::Rollback { vec![Pattern::new("green-*").unwrap()] } else { Vec::new() };
        // It went back to the entry before the one that it took away.
        let target = (*way == Way::Rollback).then(|| index - 2);
        let seconds = now().seconds() - 3600 * (u64::try_from(at).unwrap() + 1);
        Entry {
            index: Some(index),
            at: Some(Timestamp::from_seconds(seconds)),
            by: Some("bob".to_owned()),
            raised,
            target,
            ..Entry::new(way.clone(), serde_json::from_str(&to).unwrap())
        }
    };
    Facts { history: states.iter().enumerate().map(entry).collect(), ..facts }
}

fn back(facts: &Facts) -> Opens {
    actions(facts, ALL, now()).pop().unwrap().opens
}

#[test]
fn after_a_rollback_nothing_brings_back_what_it_took_away() {
    let states = [(0, Way::Rollback), (50, Way::Rollout), (0, Way::Create)];
    let Opens::Text(text) = back(&moved(steady(0), &states)) else { panic!("a panel") };
    assert!(text.starts_with("Nothing to roll back: the present state is a rollback already, by bob"), "{text}");
    // Some traffic is left: further back is another question.
    let states = [(10, Way::Rollback), (50, Way::Shift), (10, Way::Shift), (0, Way::Create)];
    let Opens::Panel(panel) = back(&moved(steady(10), &states)) else { panic!("no panel") };
    assert_eq!(panel.title.replace('\u{a0}', " "), "Further back to blue 100 %, green 0 %?");
    assert!(panel.hidden.contains(&("again", "yes".to_owned())) && panel.hidden.contains(&("target", "7".to_owned())));
}

#[test]
fn a_person_chooses_among_several_states_and_none_is_chosen_beforehand() {
    let states = [(10, Way::Shift), (50, Way::Shift), (20, Way::Shift), (0, Way::Create)];
    let Opens::Panel(panel) = back(&moved(steady(10), &states)) else { panic!("no panel") };
    assert!(panel.choices.len() > 1 && panel.choices.iter().all(|choice| !choice.3), "{:?}", panel.choices);
    assert!(panel.choices.iter().all(|choice| choice.2.ends_with("by bob.")), "{:?}", panel.choices);
}

#[test]
fn a_rollout_that_cannot_be_read_is_not_steered_and_its_weights_still_go_back() {
    let states = [(10, Way::Rollout), (0, Way::Create)];
    let facts = Facts { unreadable: Some("the state of the rollout cannot be read: version 2".to_owned()), ..baking() };
    let facts = moved(facts, &states);
    assert_eq!(labels(&facts, ALL), ["Set weights…", "Freeze…", "Roll back…"]);
    let Opens::Panel(panel) = back(&facts) else { panic!("no panel") };
    assert_eq!(
        (panel.verb, panel.button.replace('\u{a0}', " ")),
        ("roll-back", "Roll back to blue 100 %, green 0 %".to_owned())
    );
}

#[test]
fn the_roll_back_of_weights_that_somebody_else_wrote_in_mode_auto_is_that_of_the_document() {
    let states = [(50, Way::Set), (10, Way::Rollout), (0, Way::Create)];
    let other = |facts: Facts| moved(Facts { document: steady(50).document, ..facts }, &states);
    let verb = |facts: &Facts| match back(facts) {
        Opens::Panel(panel) => panel.verb,
        other => panic!("{other:?}"),
    };
    let auto = with_state(other(baking()), |state| state.document = Some(9));
    assert_eq!(verb(&auto), "roll-back");
    assert_eq!(verb(&with_state(auto.clone(), |state| state.mode = Mode::Guard)), "abort", "there people move it");
    assert_eq!(verb(&with_state(auto, |state| state.document = Some(10))), "abort", "its own");
}

#[test]
fn an_approval_is_offered_before_its_step_and_only_then() {
    let mut facts = baking();
    let rollout = facts.rollout.as_mut().unwrap();
    let mut spec = (*rollout.spec).clone();
    spec.plan.steps[3].approve = true;
    rollout.spec = std::sync::Arc::new(spec);
    assert_eq!(labels(&facts, ALL)[0], "Approve…");
    assert_eq!(labels(&facts, May { approval: false, ..ALL })[0], "Pause…");
    assert_eq!(labels(&with_state(facts, |state| state.approved = Some(4)), ALL)[0], "Pause…");
}

#[test]
fn what_the_token_may_not_do_has_no_button() {
    assert_eq!(labels(&steady(0), ALL), ["Start a rollout…", "Set weights…", "Freeze…", "Roll back…"]);
    assert_eq!(labels(&steady(0), May::default()), ["Roll back…"]);
    let note = missing(May { approval: false, ..ALL }, "weightd/", "app");
    assert_eq!(
        note,
        "Your token may not approve steps. It needs key \"weightd/rollouts/approval/app\" { policy = \"write\" }."
    );
    assert_eq!(missing(ALL, "weightd/", "app"), "");
}

#[test]
fn an_own_freeze_can_be_removed_and_never_replaced() {
    let by = |who: &str| Some(Frozen { by: Some(who.to_owned()), reason: None, since: None });
    let labels = |facts: &Facts| labels(facts, ALL).join(" ");
    let own = Facts { frozen: by("bob"), freeze: 50, ..steady(0) };
    let both = Facts { frozen_all: by("olga"), ..own.clone() };
    for facts in [&own, &both] {
        assert!(labels(facts).contains("Unfreeze…") && !labels(facts).contains("Freeze…"), "{}", labels(facts));
        let all = actions(facts, ALL, now());
        let panel = panel(&all, "Unfreeze…");
        assert!(panel.lines.contains(&"It is frozen by bob.".to_owned()), "{:?}", panel.lines);
        assert!(panel.hidden.contains(&("freeze", "50".to_owned())), "{:?}", panel.hidden);
        assert_eq!(panel.lines.iter().any(|line| line.contains("by olga")), facts.frozen_all.is_some());
    }
    let all = Facts { frozen_all: by("olga"), ..steady(0) };
    assert!(labels(&all).contains("Freeze…") && !labels(&all).contains("Unfreeze…"), "{}", labels(&all));
    assert_eq!(both.frozen_by(), "by bob; by olga");
}

#[test]
fn without_a_state_to_go_back_to_it_says_why() {
    let all = actions(&steady(0), ALL, now());
    let Some(Opens::Text(text)) = all.last().map(|action| &action.opens) else { panic!("{all:?}") };
    assert!(text.starts_with("Nothing to roll back: "), "{text}");
}
