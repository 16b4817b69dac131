use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{shares::on_side, *};
use crate::history::History;

const DAY: u64 = 24 * 60 * 60;

/// One write: the way, the state, and how long it was in force, in seconds.
fn entry(number: u64, at: u64, way: &Way, to: &str) -> Entry {
    let to = serde_json::from_str(to).expect(to);
    let at = Some(Timestamp::from_seconds(at));
    Entry { index: Some(100 + number), at, by: Some(format!("user{number}")), ..Entry::new(way.clone(), to) }
}

/// A history of states in the order in which they were written, an hour apart: `blue/green`, or an object.
fn history(states: &[&str]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0_u64..)
        .zip(states)
        .map(|(number, state)| {
            let json = match state.split_once('/') {
                Some((blue, green)) => format!(r#"{{"weights":{{"blue":{blue},"green":{green}}}}}"#),
                None if state.starts_with('{') => (*state).to_owned(),
                None => format!(r#"{{"weights":{{{state}}}}}"#),
            };
            entry(number, number * 3600, if number == 0 { &Way::Create } else { &Way::Shift }, &json)
        })
        .collect();
    entries.reverse();
    entries
}

fn off(text: &str) -> Asked {
    Asked { off: vec![Pattern::new(text).unwrap()], ..Asked::default() }
}

fn again() -> Asked {
    Asked { again: true, ..Asked::default() }
}

fn step() -> Asked {
    Asked { reach: Reach::Step, ..Asked::default() }
}

fn target(history: &[Entry], asked: &Asked) -> Target {
    match decide(history, asked) {
        Decision::Target(target) => target,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_entry_that_a_write_goes_back_to_is_the_newest_with_its_shares() {
    let history = history(&["100/0", "90/10", "50/50", "90/10"]);
    let with = |text: &str| entry_with(&history, &serde_json::from_str(text).unwrap());
    assert_eq!(with(r#"{"split":{"blue":90,"green":10}}"#), Some(103));
    assert_eq!(with(r#"{"split":{"blue":100,"green":0}}"#), Some(100));
    assert_eq!(with(r#"{"split":{"blue":20,"green":80}}"#), None);
}

fn json(to: &To) -> String {
    serde_json::to_string(to).unwrap()
}

/// What is written, as JSON.
fn goes_to(history: &[Entry], asked: &Asked) -> String {
    json(&target(history, asked).document)
}

fn question(history: &[Entry], asked: &Asked) -> Ask {
    match decide(history, asked) {
        Decision::Ask(ask) => ask,
        other => panic!("{other:?}"),
    }
}

/// The states that a question offers, as JSON.
fn offers(history: &[Entry]) -> Vec<String> {
    question(history, &Asked::default()).states.iter().map(|state| json(&state.target.document)).collect()
}

fn refusal(history: &[Entry], asked: &Asked) -> Refused {
    match decide(history, asked) {
        Decision::Refuse(refused) => refused,
        other => panic!("{other:?}"),
    }
}

/// The history after the rollback was written.
fn rolled_back(mut history: Vec<Entry>, asked: &Asked) -> Vec<Entry> {
    let entry = target(&history, asked).entry();
    let index = history[0].index.map(|index| index + 1);
    let at = history[0].at.map(|at| Timestamp::from_seconds(at.seconds() + 60));
    history.insert(0, Entry { index, at, by: Some("carol".into()), ..entry });
    history
}

fn raised_to(mut history: Vec<Entry>, state: &str) -> Vec<Entry> {
    let (index, at) = (history[0].index.unwrap(), history[0].at.unwrap().seconds());
    history.insert(0, entry(index - 99, at + 3600, &Way::Shift, state));
    history
}

#[test]
fn row_1_shares_decide_and_not_raw_weights() {
    assert_eq!(
        goes_to(&history(&["100/0", "9/1", "1/1", "0/1"]), &Asked::default()),
        r#"{"weights":{"blue":100,"green":0}}"#
    );
}

#[test]
fn row_2_a_shift_that_turned_asks() {
    let history = history(&["100/0", "90/10", "50/50", "90/10", "0/100"]);
    let ask = question(&history, &Asked::default());
    assert_eq!(ask.reason, Reason::Turned);
    let [state] = &*ask.states else { panic!("{ask:?}") };
    assert_eq!(json(&state.target.document), r#"{"weights":{"blue":90,"green":10}}"#);
    assert_eq!(state.off, [Pattern::new("green").unwrap()], "`--off green` gives the same");
    assert_eq!((state.target.index, state.by.as_deref()), (Some(103), Some("user3")));
    assert_eq!(state.shares.values().copied().collect::<Vec<_>>(), [90.0, 10.0]);
    assert_eq!(goes_to(&history, &off("green")), r#"{"weights":{"blue":90,"green":10}}"#);
}

#[test]
fn row_3_after_a_step_back_by_hand_it_asks_and_never_goes_up_alone() {
    let history = history(&["100/0", "90/10", "50/50", "0/100", "50/50"]);
    let offers = offers(&history);
    assert!(offers.contains(&r#"{"weights":{"blue":100,"green":0}}"#.to_owned()), "{offers:?}");
    assert_eq!(goes_to(&history, &off("green")), r#"{"weights":{"blue":100,"green":0}}"#);
}

#[test]
fn row_4_a_second_rollback_is_refused_and_goes_on_with_again() {
    let before = history(&["100/0", "90/10", "50/50"]);
    let stepped = rolled_back(before, &step());
    assert_eq!(json(&stepped[0].to), r#"{"weights":{"blue":90,"green":10}}"#);
    let refused = refusal(&stepped, &Asked::default());
    assert_eq!(refused.to_string(), "the present state is a rollback already, by carol, at 1970-01-01T02:01:00Z");
    assert!(matches!(refusal(&stepped, &step()), Refused::AlreadyRolledBack { .. }));
    assert_eq!(goes_to(&stepped, &again()), r#"{"weights":{"blue":100,"green":0}}"#);
    let raised = raised_to(stepped, r#"{"weights":{"blue":0,"green":100}}"#);
    assert_eq!(goes_to(&raised, &Asked::default()), r#"{"weights":{"blue":90,"green":10}}"#);
}

#[test]
fn row_5_a_server_that_came_in_between_gets_0() {
    let history =
        history(&["100/0", "90/10", r#""blue":90,"green":5,"green2":5"#, r#""blue":0,"green":50,"green2":50"#]);
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":100,"green":0,"green2":0}}"#);
}

#[test]
fn row_6_another_servers_change_stays() {
    let history = history(&["100/0", "90/10", r#""blue":85,"green":10,"gray":5"#, r#""blue":45,"green":50,"gray":5"#]);
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":85,"gray":5,"green":10}}"#);
}

#[test]
fn row_7_over_a_split_the_target_is_a_split() {
    let history = history(&["100/0", "90/10", r#"{"split":{"blue*":0,"green*":100}}"#]);
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"split":{"blue*":100,"green*":0}}"#);
}

#[test]
fn row_8_a_settled_state_ends_the_walk() {
    let mut history = history(&["100/0", "50/50", "40/60", "20/80"]);
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":100,"green":0}}"#);
    history[2].settled = true;
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":50,"green":50}}"#);
}

#[test]
fn row_9_a_release_in_between_asks() {
    let history = history(&["100/0", "50/50", r#"{"release":true}"#, "0/100"]);
    assert_eq!(question(&history, &Asked::default()).reason, Reason::NotComparable);
    assert_eq!(offers(&history), [r#"{"weights":{"blue":50,"green":50}}"#, r#"{"weights":{"blue":100,"green":0}}"#]);
}

#[test]
fn row_10_one_document_is_refused() {
    for asked in [Asked::default(), step(), again(), off("green")] {
        assert_eq!(refusal(&history(&["50/50"]), &asked), Refused::NothingBefore);
        assert_eq!(refusal(&[], &asked), Refused::NothingBefore);
    }
}

#[test]
fn seven_days_in_force_are_a_resting_point() {
    let mut history = history(&["100/0", "50/50", "0/100"]);
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":100,"green":0}}"#);
    let from = history[1].at.unwrap().seconds();
    history[0].at = Some(Timestamp::from_seconds(from + 7 * DAY - 1));
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":100,"green":0}}"#);
    history[0].at = Some(Timestamp::from_seconds(from + 7 * DAY));
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":50,"green":50}}"#);
    history[0].at = None;
    assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":100,"green":0}}"#, "unknown is not long");
}

#[test]
fn the_end_of_a_rollout_and_an_import_are_resting_points() {
    for rest in [Entry { ended: true, ..Entry::new(Way::Rollout, To::Gone) }, Entry::new(Way::Import, To::Gone)] {
        let mut history = history(&["100/0", "50/50", "0/100"]);
        history[1] = Entry { to: history[1].to.clone(), ..rest };
        assert_eq!(goes_to(&history, &Asked::default()), r#"{"weights":{"blue":50,"green":50}}"#);
    }
}

#[test]
fn to_takes_any_entry_and_step_takes_one_whatever_moved() {
    let history = history(&["100/0", "50/50", "90/10", "9/1"]);
    assert_eq!(
        goes_to(&history, &step()),
        r#"{"weights":{"blue":50,"green":50}}"#,
        "the newest change, not the newest entry"
    );
    let to = |index| Asked { reach: Reach::To(index), ..Asked::default() };
    assert_eq!(goes_to(&history, &to(100)), r#"{"weights":{"blue":100,"green":0}}"#);
    assert_eq!(target(&history, &to(100)).raised, [Pattern::new("green").unwrap()]);
    assert_eq!(refusal(&history, &to(7)), Refused::NoSuchEntry(7));
    assert_eq!(refusal(&history, &to(103)), Refused::Unchanged);
}

#[test]
fn the_same_shares_in_other_numbers_do_not_hide_a_rollback() {
    let history = rolled_back(history(&["100/0", "0/100"]), &Asked::default());
    let rescaled = raised_to(history, r#"{"weights":{"blue":200,"green":0}}"#);
    assert!(matches!(refusal(&rescaled, &Asked::default()), Refused::AlreadyRolledBack { .. }), "and not up to 100");
}

#[test]
fn a_rollback_whose_target_is_gone_asks() {
    let mut history = rolled_back(history(&["100/0", "90/10", "50/50"]), &step());
    history.remove(2);
    assert_eq!(question(&history, &again()).reason, Reason::TargetDropped);
}

#[test]
fn off_goes_down_also_where_the_last_change_was_about_others() {
    let history = history(&["100/0", "50/50", r#""blue":50,"green":40,"gray":10"#]);
    assert_eq!(goes_to(&history, &off("gr*y")), r#"{"weights":{"blue":50,"gray":0,"green":50}}"#);
    assert_eq!(goes_to(&history, &off("g*")), r#"{"weights":{"blue":100,"gray":0,"green":0}}"#);
    assert_eq!(refusal(&history, &off("nobody")), Refused::NothingLess);
}

#[test]
fn no_server_of_the_raised_side_rises() {
    // Together green1 and green2 get less in the first state, but green1 alone would get more than it has now.
    let history = history(&[
        r#""blue":76,"green1":24,"green2":0"#,
        r#""blue":76,"green1":4,"green2":20"#,
        r#""blue":20,"green1":20,"green2":60"#,
    ]);
    let ask = question(&history, &Asked::default());
    assert_eq!((ask.reason, ask.states.len()), (Reason::NotLess, 2));
    assert_eq!(
        goes_to(&history, &off("green*")),
        r#"{"weights":{"blue":76,"green1":24,"green2":0}}"#,
        "told so, it goes"
    );
}

#[test]
fn back_is_where_a_rollback_would_go() {
    let history = history(&["100/0", "50/50"]);
    let expected = serde_json::from_str::<Back>(r#"{"weights":{"blue":100,"green":0}}"#).unwrap();
    assert_eq!(back(&history), Some(expected));
    assert_eq!(back(&history[1..]), None);
}

const NAMES: [&str; 4] = ["blue", "green", "green2", "gray"];

/// Shifts from blue to green, splits, some hundred weights of any servers, and what has no shares.
fn state() -> impl Strategy<Value = To> {
    let read = |value: serde_json::Value| serde_json::from_value::<To>(value).expect("any value is a state");
    let shifts = (0..=10).map(|n| serde_json::json!({"weights": {"blue": 100 - 10 * n, "green": 10 * n}}));
    let splits = (0..=10).flat_map(|n| {
        ["blue", "b*", "gray"].map(|other| serde_json::json!({"split": {other: 100 - 10 * n, "green*": 10 * n}}))
    });
    let weights = (1..400_usize).map(|n| {
        let weight = |at: usize| [0, 0, 1, 9, 45, 50, 100][(n * (at + 3) + n / 7) % 7];
        let named = NAMES.iter().enumerate().filter(|(at, _)| (n >> at) & 1 == 1 || *at == n % 4);
        let weights: std::collections::BTreeMap<_, _> = named.map(|(at, name)| (*name, weight(at))).collect();
        serde_json::json!({ "weights": weights })
    });
    let none = ["release", "gone", "omitted", "percent"].map(|word| serde_json::json!({ word: true }));
    prop_oneof![
        10 => prop::sample::select(shifts.map(read).collect::<Vec<_>>()),
        3 => prop::sample::select(splits.map(read).collect::<Vec<_>>()),
        6 => prop::sample::select(weights.map(read).collect::<Vec<_>>()),
        1 => prop::sample::select(none.into_iter().map(read).collect::<Vec<_>>()),
    ]
}

#[derive(Debug, Clone)]
enum Action {
    Write(To, Way, bool, u64),
    Rollback(Asked),
}

fn asked() -> impl Strategy<Value = Asked> {
    let reach = prop_oneof![4 => Just(Reach::Shift), 1 => Just(Reach::Step), 1 => (95..120_u64).prop_map(Reach::To)];
    let off = prop_oneof![3 => Just(vec![]), 1 => Just(vec!["green*"]), 1 => Just(vec!["blue"]), 1 => Just(vec!["g*", "blue"])];
    (reach, any::<bool>(), off).prop_map(|(reach, again, off)| {
        let off = off.into_iter().map(|text| Pattern::new(text).expect("a pattern")).collect();
        Asked { reach, again, off }
    })
}

fn action() -> impl Strategy<Value = Action> {
    let way = prop_oneof![
        8 => prop::sample::select(vec![Way::Set, Way::Shift, Way::Apply, Way::Direct, Way::Rollout]),
        1 => prop::sample::select(vec![Way::Create, Way::Import, Way::Rollback]),
    ];
    let pause = prop_oneof![10 => 0..DAY, 1 => 6 * DAY..9 * DAY];
    prop_oneof![
        6 => (state(), way, prop::bool::weighted(0.05), pause).prop_map(|(to, way, settled, pause)| Action::Write(to, way, settled, pause)),
        1 => asked().prop_map(Action::Rollback),
    ]
}

fn play(actions: Vec<Action>) -> Vec<Entry> {
    let mut history: Vec<Entry> = Vec::new();
    let mut now = 1_000_000;
    for (index, action) in (100..).zip(actions) {
        let entry = match action {
            Action::Write(to, way, settled, pause) => {
                now += pause;
                Entry { settled, ..Entry::new(way, to) }
            }
            Action::Rollback(asked) => match decide(&history, &asked) {
                Decision::Target(target) => target.entry(),
                _ => continue,
            },
        };
        let at = Some(Timestamp::from_seconds(now));
        history.insert(0, Entry { index: Some(index), at, ..entry });
    }
    history
}

/// The names and patterns that a state has.
fn names(to: &To) -> BTreeSet<String> {
    match to {
        To::Weights(weights) => weights.keys().map(ToString::to_string).collect(),
        To::Split(split) => split.shares().keys().map(ToString::to_string).collect(),
        _ => BTreeSet::new(),
    }
}

/// Whether a target gives the raised side less, names every server, and ends in a refusal of the next rollback.
fn check(history: &[Entry], asked: &Asked) -> Result<(), TestCaseError> {
    let target = match decide(history, asked) {
        Decision::Target(target) => target,
        Decision::Ask(ask) => {
            prop_assert!((1..=3).contains(&ask.states.len()));
            return Ok(());
        }
        Decision::Refuse(_) => return Ok(()),
    };
    let present = &history[0].to;
    if !matches!(target.document, To::Release) {
        prop_assert!(names(present).is_subset(&names(&target.document)), "a name is left out: {target:?}");
    }
    if asked.reach == Reach::Shift {
        let (then, now) = (on_side(&target.document, &target.raised), on_side(present, &target.raised));
        prop_assert!(then.unwrap() < now.unwrap(), "{then:?} of {now:?}: {target:?}");
    }
    if asked.reach == Reach::Shift && asked.off.is_empty() {
        let now = super::shares::share(present).unwrap().of;
        for (key, share) in super::shares::share(&target.document).unwrap().of {
            let rises = share > now.get(&key).copied().unwrap_or(0.0) + super::shares::TOLERANCE;
            prop_assert!(!(rises && super::shares::is_in(&target.raised, &key)), "{key} rises: {target:?}");
        }
    }
    let mut after = history.to_vec();
    after.insert(0, Entry { index: Some(1000), ..target.entry() });
    let second = decide(&after, &Asked { again: false, off: Vec::new(), reach: Reach::Shift });
    // Where all shares of the history are the same, there is nothing before.
    let refused = matches!(second, Decision::Refuse(Refused::AlreadyRolledBack { .. } | Refused::NothingBefore));
    prop_assert!(refused, "{second:?} after {target:?}");
    Ok(())
}

/// The history cut to its newest entries and the anchor, as a writer cuts it.
fn trimmed(history: &[Entry], kept: usize, anchor: usize) -> Vec<Entry> {
    let mut cut = history[..kept].to_vec();
    cut.push(Entry { anchor: true, ..history[anchor].clone() });
    cut
}

/// Whether the newest entries and the anchor give the same answer as the whole history.
fn check_trimmed(history: &[Entry], asked: &Asked) -> Result<(), TestCaseError> {
    let Decision::Target(target) = decide(history, asked) else { return Ok(()) };
    // The newest change says which side is raised, so it is kept, as the state before it and the targets of rollbacks are.
    let change = super::walk::newest_change(history);
    for kept in change + 2..=target.position {
        let cut = trimmed(history, kept, target.position);
        let mut rollbacks = cut.iter().filter(|entry| entry.way == Way::Rollback);
        if !rollbacks.all(|rollback| cut.iter().any(|entry| entry.index == rollback.target)) {
            continue;
        }
        let after = match decide(&cut, asked) {
            Decision::Target(after) => after,
            other => return Err(TestCaseError::fail(format!("{other:?} with {kept} kept of {history:?}"))),
        };
        prop_assert_eq!(&after.document, &target.document);
        prop_assert_eq!((after.index, after.at, &after.raised), (target.index, target.at, &target.raised));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_history_leads_up_forgets_a_name_changes_by_trimming_or_panics(
        actions in prop::collection::vec(action(), 0..12),
        asked in asked(),
    ) {
        let history = play(actions);
        check(&history, &Asked::default())?;
        check(&history, &asked)?;
        check_trimmed(&history, &Asked::default())?;
        check_trimmed(&history, &again())?;
    }
}

proptest! {
    // Each case writes and reads a full history many times.
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn a_bounded_history_never_leads_up(actions in prop::collection::vec(action(), 1..10), many in 1..60_u64) {
        let mut history = History::default();
        let mut now = 0;
        let steps = (0..many).map(|n| {
            let to = serde_json::from_str(&format!(r#"{{"weights":{{"blue":{},"green":{n}}}}}"#, 100 - n)).unwrap();
            Action::Write(to, Way::Shift, false, 60)
        });
        for (index, action) in (1..).zip(steps.chain(actions)) {
            let Action::Write(to, way, settled, pause) = action else { continue };
            now += pause;
            let entry = Entry { settled, at: Some(Timestamp::from_seconds(now)), ..Entry::new(way, to) };
            let before = history.entries().first().and_then(|newest| Some(crate::history::Before {
                index: newest.index?, to: newest.to.clone(), by: None, at: None, why: None,
            }));
            history = History::parse(&history.append(before, entry).to_value(), index).unwrap();
        }
        prop_assert!(history.entries().len() <= History::MAX_ENTRIES);
        check(history.entries(), &Asked::default())?;
        check(history.entries(), &off("green*"))?;
    }
}
