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
