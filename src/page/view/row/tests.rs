use std::{collections::BTreeMap, sync::Arc};

use weightd_core::{
    desired::{Document, Pattern, PatternShare},
    fleet::{Frozen, NodeName},
    model::BackendName,
    rollout::{
        log,
        plan::{OnRegression, Preset, Protocol},
        shown::{CheckShown, Held},
        state::Paused,
    },
};

use super::*;
use crate::page::view::facts::{NodeStand, RolloutFacts};

pub(crate) const NOW: u64 = 1_795_700_000;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_seconds(NOW)
}

fn share(percent: u32) -> PatternShare {
    PatternShare::from_thousandths(percent * 1000).unwrap()
}

/// An application with a document of index 10.
pub(crate) fn steady(green: u32) -> Facts {
    let name = BackendName::new("app").unwrap();
    let text = format!(r#"{{"split":{{"blue-*":{},"green-*":{green}}},"by":"ann"}}"#, 100 - green);
    let mut view = crate::documents::view::View::of_document(&name, &Document::parse(text.as_bytes()).unwrap());
    view.index = Some(10);
    let nodes = ["lb-01", "lb-02", "lb-03"].map(|node| stand(node, Stand::Has, ""));
    Facts {
        name,
        document: Some(view),
        rollout: None,
        history: Vec::new().into(),
        log: Vec::new().into(),
        frozen: None,
        frozen_all: None,
        freeze: 0,
        nodes: nodes.to_vec(),
        samples: Vec::new().into(),
        controller: Some("ctl-1".to_owned()),
        heard_until: None,
        unreadable: None,
    }
}

pub(crate) fn stand(node: &str, stand: Stand, why: &str) -> NodeStand {
    NodeStand {
        name: NodeName::new(node).unwrap(),
        stand,
        why: why.to_owned(),
        since: Some(Timestamp::from_seconds(NOW - 300)),
    }
}

/// A rollout that bakes at 10 % since 15 minutes.
pub(crate) fn baking() -> Facts {
    let spec = Spec {
        id: "r1".to_owned(),
        to: vec![Pattern::new("green-*").unwrap()],
        from: vec![Pattern::new("blue-*").unwrap()],
        back: share(0),
        mode: Mode::Auto,
        plan: Preset::Careful.plan(Protocol::Http),
        regression: OnRegression::Rollback,
        by: "ann".to_owned(),
        at: Timestamp::from_seconds(NOW - 4000),
        reason: None,
    };
    let state = State {
        id: "r1".to_owned(),
        spec: String::new(),
        seq: 4,
        phase: Phase::Bake,
        step: 3,
        mode: Mode::Auto,
        share: share(10),
        back: share(0),
        document: Some(10),
        paused: None,
        latched: None,
        approved: None,
        promoted: None,
        answered: None,
        approval: None,
        since: Timestamp::from_seconds(NOW - 900),
        why: None,
        aborted: false,
        late: Vec::new(),
    };
    let checks = BTreeMap::from([(ERRORS.to_owned(), CheckShown { evidence: 1.0, to: (2_000, 1), from: (18_000, 9) })]);
    let shown = Shown {
        at: Timestamp::from_seconds(NOW - 5),
        seq: 4,
        good: 768,
        needed: 1800,
        evidence: 1.0,
        checks,
        ..Shown::default()
    };
    Facts {
        rollout: Some(RolloutFacts {
            spec: Arc::new(spec),
            state: Some(Arc::new(state)),
            shown: Some(shown),
            request: None,
        }),
        ..steady(10)
    }
}

pub(crate) fn with_state(mut facts: Facts, change: impl FnOnce(&mut State)) -> Facts {
    let rollout = facts.rollout.as_mut().unwrap();
    let mut state = (**rollout.state.as_ref().unwrap()).clone();
    change(&mut state);
    rollout.state = Some(Arc::new(state));
    facts
}

pub(crate) fn held(mut facts: Facts, word: &str, text: &str) -> Facts {
    let shown = facts.rollout.as_mut().unwrap().shown.as_mut().unwrap();
    shown.holding.push(Held { word: word.to_owned(), text: text.to_owned() });
    facts
}

fn said(facts: &Facts) -> (Group, String, String) {
    let row = Row::of(facts, now());
    (row.group, row.title.replace('\u{a0}', " "), row.detail.replace('\u{a0}', " "))
}

fn is(facts: &Facts, group: Group, title: &str, detail: &str) {
    assert_eq!(said(facts), (group, title.to_owned(), detail.to_owned()));
}

#[test]
fn what_goes_on_by_itself_is_under_way() {
    is(&baking(), Group::UnderWay, "Bakes at 10 %", "12:48 of 30:00, then 25 %");
    let moving = with_state(baking(), |state| state.phase = Phase::Shift);
    is(&moving, Group::UnderWay, "Moves to 10 %", "3 of 3 nodes have it");
    is(&held(baking(), "window", "the window is closed"), Group::UnderWay, "Holds: window", "the window is closed");
    let paused =
        |state: &mut State| state.paused = Some(Paused { by: "bob".to_owned(), reason: Some("lunch".to_owned()) });
    is(&with_state(baking(), paused), Group::UnderWay, "Holds: paused", "by bob: lunch");
    is(&held(baking(), "requests", "too few"), Group::UnderWay, "Bakes at 10 %", "12:48 of 30:00, then 25 %");
    let guard = with_state(baking(), |state| state.mode = Mode::Guard);
    is(&guard, Group::UnderWay, "Mode guard at 10 %", "people move it, rolloutd takes it back");
}

#[test]
fn what_waits_for_somebody_needs_a_person() {
    let text = "step 4 needs an approval";
    is(&held(baking(), "approval", text), Group::Person, "Waits for approval of 25 %", "12:48 of 30:00, then 25 %");
    is(&held(baking(), "no_data", "no counts from lb-03"), Group::Person, "Holds: no data", "no counts from lb-03");
    let latched = with_state(baking(), |state| state.latched = Some(Latch::Inconclusive));
    is(&latched, Group::Person, "Stopped: not enough evidence", "twice the bake is over; resume or roll back");
    let going = with_state(baking(), |state| state.phase = Phase::RollingBack);
    is(&going, Group::Person, "Rolling back", "3 of 3 nodes have it");
    assert_eq!(Row::of(&going, now()).tone, Tone::Bad);
}

#[test]
fn a_rollback_is_news_for_a_day_or_until_the_next_change() {
    let back = |state: &mut State| {
        (state.phase, state.since) = (Phase::RolledBack, Timestamp::from_seconds(NOW - 600));
        state.why = Some("errors".to_owned());
    };
    let rolled_back = with_state(baking(), back);
    let row = Row::of(&rolled_back, now());
    assert_eq!((row.group, row.tone, row.title.as_str()), (Group::Person, Tone::Bad, "Rolled back by itself"));
    let later = Timestamp::from_seconds(NOW + 86_400);
    assert_eq!(Row::of(&rolled_back, later).group, Group::Steady);
    let mut moved = rolled_back.clone();
    moved.document.as_mut().unwrap().index = Some(11);
    assert_eq!(Row::of(&moved, now()).group, Group::Steady);
    // What a person took back is no news for a person.
    let aborted = with_state(rolled_back, |state| state.aborted = true);
    assert_eq!(Row::of(&aborted, now()).group, Group::Steady);
}

#[test]
fn nodes_that_refuse_are_named_and_those_that_say_nothing_are_only_counted() {
    let mut facts = steady(50);
    facts.nodes[0] = stand("lb-01", Stand::Guarded, "the guard refused it");
    is(&facts, Group::Person, "Not applied on 1 node", "lb-01: the guard refused it");
    let mut facts = steady(50);
    facts.nodes[2] = stand("lb-03", Stand::Missing, "missing");
    let row = Row::of(&facts, now());
    assert_eq!((row.group, row.nodes.as_str(), row.nodes_note.as_str()), (Group::Steady, "2/3", ""));
}

#[test]
fn a_frozen_or_released_application_is_steady() {
    let frozen = Frozen { by: Some("ann".to_owned()), reason: Some("database".to_owned()), since: None };
    is(&Facts { frozen: Some(frozen), ..steady(0) }, Group::Steady, "Frozen", "by ann: database");
    is(&steady(0), Group::Steady, "Steady", "");
}

#[test]
fn what_the_leader_said_long_ago_is_not_shown_as_now() {
    assert_eq!(Row::of(&silent(baking()), now()).errors, Vec::new());
}

/// The same, after the last word of a controller is ten minutes old.
fn silent(mut facts: Facts) -> Facts {
    facts.rollout.as_mut().unwrap().shown.as_mut().unwrap().at = Timestamp::from_seconds(NOW - 600);
    facts.controller = None;
    facts
}

#[test]
fn a_rollout_that_no_controller_watches_needs_a_person() {
    let since = when(Timestamp::from_seconds(NOW - 600), now());
    let stops = format!("no word since {since}: nothing moves it or takes it back by itself");
    let auto = silent(baking());
    is(&auto, Group::Person, "Holds: no controller", &stops);
    let led = Facts { controller: Some("ctl-1".to_owned()), ..auto.clone() };
    let unknown = format!("since {since}: nobody knows whether it watches the rollout");
    is(&led, Group::Person, "No word from ctl-1", &unknown);
    let guard = with_state(auto.clone(), |state| state.mode = Mode::Guard);
    let stops = format!("no word since {since}: people move it, and nothing takes it back by itself");
    is(&guard, Group::Person, "Holds: no controller", &stops);
    let paused = |state: &mut State| state.paused = Some(Paused { by: "bob".to_owned(), reason: None });
    let row = Row::of(&with_state(guard, paused), now());
    assert!(row.group == Group::Person && row.detail.ends_with("; bob paused it"), "{row:?}");
    let waits = with_state(auto.clone(), |state| (state.phase, state.mode) = (Phase::Preflight, Mode::Watch));
    is(&waits, Group::Person, "Holds: no controller", &format!("no word since {since}: it does not begin"));
}

#[test]
fn a_rollout_that_cannot_be_read_needs_a_person() {
    let why = "the spec of the rollout cannot be read: the key was deleted";
    for facts in [steady(10), baking()] {
        is(&Facts { unreadable: Some(why.to_owned()), ..facts }, Group::Person, "Rollout cannot be read", why);
    }
}

#[test]
fn a_controller_that_leads_is_not_silent_where_it_writes_nothing() {
    let phase = |facts: &Facts, phase: Phase| with_state(facts.clone(), |state| state.phase = phase);
    let unled = silent(baking());
    let led = Facts { controller: Some("ctl-1".to_owned()), ..unled.clone() };
    let queued = "many rollouts are active; it starts by itself";
    is(&phase(&led, Phase::Queued), Group::UnderWay, "Queued", queued);
    is(&phase(&unled, Phase::Queued), Group::Person, "Holds: no controller", "it does not begin");
    is(&phase(&led, Phase::RollingBack), Group::Person, "Rolling back", "3 of 3 nodes have it");
    let back = "3 of 3 nodes have it; no controller leads";
    is(&phase(&unled, Phase::RollingBack), Group::Person, "Rolling back", back);
}

#[test]
fn a_controller_that_the_page_cannot_hear_is_not_silent() {
    let heard = |until: u64| Facts { heard_until: Some(Timestamp::from_seconds(until)), ..silent(baking()) };
    is(&heard(NOW - 590), Group::UnderWay, "Bakes at 10 %", "no word from the controller yet");
    is(&heard(0), Group::UnderWay, "Bakes at 10 %", "no word from the controller yet");
    assert_eq!(Row::of(&heard(NOW - 100), now()).group, Group::Person);
}

#[test]
fn mode_watch_without_a_controller_says_that_nobody_watches() {
    let watch = with_state(silent(baking()), |state| state.mode = Mode::Watch);
    let since = when(Timestamp::from_seconds(NOW - 600), now());
    let nobody = format!("no word since {since}: people move it, and nobody watches it");
    is(&watch, Group::UnderWay, "Mode watch at 10 %", &nobody);
    let led = Facts { controller: Some("ctl-1".to_owned()), ..watch };
    let unknown = format!("since {since}: nobody knows whether it watches the rollout");
    is(&led, Group::UnderWay, "Mode watch at 10 %", &unknown);
}

#[test]
fn a_rollout_of_which_nothing_can_be_known_yet_does_not_alarm() {
    let mut young = with_state(silent(baking()), |state| state.since = Timestamp::from_seconds(NOW - 30));
    is(&young, Group::UnderWay, "Bakes at 10 %", "no word from the controller yet");
    young.rollout.as_mut().unwrap().shown = None;
    is(&young, Group::UnderWay, "Bakes at 10 %", "no word from the controller yet");
    let began = |facts: &Facts, seconds: u64| {
        let mut facts = facts.clone();
        let rollout = facts.rollout.as_mut().unwrap();
        rollout.state = None;
        Arc::make_mut(&mut rollout.spec).at = Timestamp::from_seconds(NOW - seconds);
        facts
    };
    is(&began(&young, 20), Group::UnderWay, "Starts", "a controller takes it in a moment");
    is(&began(&young, 120), Group::Person, "Starts", "no controller leads");
    is(&began(&baking(), 120), Group::Person, "Starts", "ctl-1 leads and has not begun it");
}

#[test]
fn the_log_names_who_took_it_back() {
    let mut facts = with_state(baking(), |state| (state.phase, state.aborted) = (Phase::RolledBack, true));
    let entry = log::Entry {
        rollout: "r1".to_owned(),
        at: now(),
        what: "rolling_back".to_owned(),
        detail: String::new(),
        by: Some("bob".to_owned()),
    };
    facts.log = vec![entry].into();
    assert_eq!(ended_by(&facts), Some("bob"));
}
