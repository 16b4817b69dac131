use weightd_core::model::Timestamp;

use super::*;
use crate::page::view::{
    facts::Facts,
    row::tests::{NOW, baking, now, steady},
};

fn app(facts: Facts) -> Arc<App> {
    Arc::new(App::new(facts, now(), 1))
}

#[test]
fn a_missing_controller_is_said_once_and_only_of_what_it_should_watch() {
    let world = |seconds: u64| World {
        at: now(),
        unled_since: Some(Timestamp::from_seconds(NOW - seconds)),
        ..World::default()
    };
    let (moves, calm) = (app(baking()), app(steady(10)));
    let one = unled(&world(60), &[&moves, &calm]);
    assert!(one.starts_with("No controller leads: nobody watches the rollout that is under way"), "{one}");
    let two = unled(&world(60), &[&moves, &moves]);
    assert!(two.contains("the 2 rollouts") && two.contains("takes them back"), "{two}");
    assert_eq!(unled(&world(60), &[&calm]), "");
    // A restart, a controller that leads, a rollout that was started a moment ago.
    assert_eq!(unled(&world(5), &[&moves]), "");
    assert_eq!(unled(&World { at: now(), ..World::default() }, &[&moves]), "");
    let mut young = baking();
    Arc::make_mut(&mut young.rollout.as_mut().unwrap().spec).at = Timestamp::from_seconds(NOW - 10);
    assert_eq!(unled(&world(60), &[&app(young)]), "");
}
