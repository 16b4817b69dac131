use super::*;
use crate::{
    desired::Pattern,
    fleet::{Per, Sides},
};

const PREFIX: &str = "weightd/observe/";

fn at(seconds: u64) -> Moment {
    Moment::after_start(Duration::from_secs(seconds))
}

fn view(to: &str) -> View {
    let patterns = |text: &str| vec![Pattern::new(text).unwrap()];
    View { sides: Some(Sides { from: patterns("blue"), to: patterns(to) }), per: Per::Side }
}

fn value(view: View, seq: u64) -> Vec<u8> {
    Observation { view, seq, by: None }.to_value()
}

/// Takes keys below the prefix.
fn take(observations: &mut Observations, keys: &[(&str, u64, View)], now: Moment) {
    let values: Vec<_> =
        keys.iter().map(|(key, index, view)| (format!("{PREFIX}{key}"), *index, value(view.clone(), *index))).collect();
    observations.take(PREFIX, values.iter().map(|(key, index, value)| (key.as_str(), *index, value.as_slice())), now);
}

fn names(observations: &mut Observations, now: Moment) -> Vec<String> {
    observations.observed(now).iter().map(|observed| observed.backend.to_string()).collect()
}

#[test]
fn a_key_is_forgotten_60_s_after_its_index_last_moved() {
    let mut observations = Observations::default();
    take(&mut observations, &[("app/1", 5, view("green"))], at(0));
    assert_eq!(names(&mut observations, at(59)), ["app"]);
    take(&mut observations, &[("app/1", 5, view("green"))], at(59));
    assert_eq!(names(&mut observations, at(60)), [""; 0], "it was there all the time and did not move");
    take(&mut observations, &[("app/1", 6, view("green"))], at(100));
    assert_eq!(names(&mut observations, at(159)), ["app"]);
}

#[test]
fn a_deleted_key_is_forgotten_at_once() {
    let mut observations = Observations::default();
    take(&mut observations, &[("app/1", 5, view("green")), ("app/2", 6, view("green"))], at(0));
    take(&mut observations, &[("app/2", 6, view("green"))], at(1));
    assert_eq!(names(&mut observations, at(1)), ["app"]);
    take(&mut observations, &[], at(2));
    assert_eq!(names(&mut observations, at(2)), [""; 0]);
}

#[test]
fn what_is_no_observation_is_ignored() {
    let mut observations = Observations::default();
    let keys = ["_", "app", "app/", "app/1/2", "a b/1", "app/1"];
    let bad = keys.map(|key| (format!("{PREFIX}{key}"), 1, b"no json".to_vec()));
    observations.take(PREFIX, bad.iter().map(|(key, index, value)| (key.as_str(), *index, value.as_slice())), at(0));
    assert_eq!(names(&mut observations, at(0)), [""; 0]);
}

#[test]
fn two_observers_share_a_view_and_each_new_one_is_answered() {
    let mut observations = Observations::default();
    take(&mut observations, &[("app/1", 5, view("green"))], at(0));
    assert!(observations.observed(at(0))[0].unanswered);
    observations.answered();
    take(&mut observations, &[("app/1", 6, view("green"))], at(30));
    assert!(!observations.observed(at(30))[0].unanswered, "a renewed key is answered already");
    take(&mut observations, &[("app/1", 6, view("green")), ("app/2", 7, view("green"))], at(31));
    let observed = observations.observed(at(31)).remove(0);
    assert_eq!((observed.unanswered, observed.views), (true, vec![view("green")]));
    observations.answered();
    take(&mut observations, &[("app/1", 6, view("green")), ("app/2", 8, view("gray"))], at(32));
    let observed = observations.observed(at(32)).remove(0);
    assert_eq!((observed.unanswered, observed.views), (true, vec![view("green"), view("gray")]));
}

#[test]
fn a_key_that_was_forgotten_is_answered_again() {
    let mut observations = Observations::default();
    take(&mut observations, &[("app/1", 5, view("green"))], at(0));
    observations.answered();
    take(&mut observations, &[("app/1", 6, view("green"))], at(90));
    assert!(observations.observed(at(90))[0].unanswered);
}

#[test]
fn the_backend_that_was_observed_first_comes_first() {
    let mut observations = Observations::default();
    take(&mut observations, &[("zoo/1", 5, view("green"))], at(0));
    assert_eq!(names(&mut observations, at(0)), ["zoo"]);
    take(&mut observations, &[("app/1", 6, view("green")), ("zoo/1", 5, view("green"))], at(1));
    assert_eq!(names(&mut observations, at(1)), ["zoo", "app"]);
}

#[test]
fn a_backend_has_at_most_8_views_and_the_answered_ones_stay() {
    let mut observations = Observations::default();
    let keys: Vec<_> = (0..9).map(|n| (format!("app/{n}"), n + 1, view(&format!("green{n}")))).collect();
    let keys: Vec<_> = keys.iter().map(|(key, index, view)| (key.as_str(), *index, view.clone())).collect();
    take(&mut observations, &keys[8..], at(0));
    observations.answered();
    take(&mut observations, &keys, at(1));
    let observed = observations.observed(at(1)).remove(0);
    assert!(observed.more_views);
    assert_eq!((observed.views.len(), &observed.views[0]), (8, &keys[8].2));
}
