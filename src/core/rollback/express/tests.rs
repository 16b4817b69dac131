use proptest::prelude::*;

use super::*;
use crate::rollback::shares::on_side;

fn to(json: &str) -> To {
    serde_json::from_str(json).expect(json)
}

fn shown_as(target: &str, present: &str, raised: &str) -> Option<String> {
    let expressed = express(&to(target), &to(present), &[Pattern::new(raised).unwrap()])?;
    Some(serde_json::to_string(&expressed).unwrap())
}

#[test]
fn a_server_that_the_target_does_not_name_gets_0() {
    let expressed =
        shown_as(r#"{"weights":{"blue":100}}"#, r#"{"weights":{"blue":0,"green":50,"green2":50}}"#, "green");
    assert_eq!(expressed.as_deref(), Some(r#"{"weights":{"blue":100,"green":0,"green2":0}}"#));
}

#[test]
fn over_a_split_names_are_summed_by_its_patterns() {
    let present = r#"{"split":{"blue*":0,"green*":100}}"#;
    let expressed = shown_as(r#"{"weights":{"blue1":1,"blue2":1,"green":1}}"#, present, "green*");
    assert_eq!(expressed.as_deref(), Some(r#"{"split":{"blue*":66.667,"green*":33.333}}"#));
    assert_eq!(shown_as(r#"{"weights":{"blue":90,"gray":10}}"#, present, "green*"), None, "gray would be lost");
    let expressed = shown_as(r#"{"weights":{"blue":100,"gray":0}}"#, present, "green*");
    assert_eq!(expressed.as_deref(), Some(r#"{"split":{"blue*":100,"green*":0}}"#));
}

#[test]
fn over_weights_a_split_becomes_weights_that_keep_the_ratio_of_each_group() {
    let present = r#"{"weights":{"blue1":20,"blue2":10,"green1":0,"green2":0,"old":5}}"#;
    let expressed = shown_as(r#"{"split":{"blue*":90,"green*":10}}"#, present, "green*");
    assert_eq!(expressed.as_deref(), Some(r#"{"weights":{"blue1":12,"blue2":6,"green1":1,"green2":1,"old":0}}"#));
    assert_eq!(shown_as(r#"{"split":{"blue*":90,"gray*":10}}"#, present, "green*"), None, "nothing is gray");
    assert_eq!(shown_as(r#"{"split":{"blue*":90,"*1":10}}"#, present, "green*"), None, "blue1 is in two groups");
}

#[test]
fn rounding_to_weights_takes_from_the_raised_side() {
    let present = r#"{"weights":{"a1":68,"a2":143,"b1":0}}"#;
    let expressed =
        express(&to(r#"{"split":{"a*":31.692,"b*":68.308}}"#), &to(present), &[Pattern::new("b*").unwrap()]);
    assert!(on_side(&expressed.unwrap(), &[Pattern::new("b*").unwrap()]).unwrap() <= 68.308);
}

#[test]
fn over_a_split_another_split_gets_the_patterns_that_it_lacks() {
    let present = r#"{"split":{"blue*":20,"green*":80}}"#;
    let expressed = shown_as(r#"{"split":{"blue*":100}}"#, present, "green*");
    assert_eq!(expressed.as_deref(), Some(r#"{"split":{"blue*":100,"green*":0}}"#));
    assert_eq!(shown_as(r#"{"split":{"b*":100}}"#, present, "green*"), None, "blue servers would be in two groups");
}

#[test]
fn what_was_never_recorded_cannot_be_written() {
    for target in [r#"{"gone":true}"#, r#"{"omitted":true}"#, r#"{"percent":1}"#] {
        assert_eq!(shown_as(target, r#"{"weights":{"a":1}}"#, "a"), None, "{target}");
    }
    let released = shown_as(r#"{"release":true}"#, r#"{"weights":{"a":1}}"#, "a");
    assert_eq!(released.as_deref(), Some(r#"{"release":true}"#));
}

proptest! {
    #[test]
    fn rounding_never_gives_the_raised_side_more(
        weights in prop::collection::btree_map("[ab][12]", 0..=256u16, 1..5),
        others in prop::collection::btree_map("[ab][12]", 0..=256u16, 1..5),
        share in 0..=100_000u32,
    ) {
        let object = |weights: &BTreeMap<String, u16>| to(&serde_json::json!({ "weights": weights }).to_string());
        let percent = |thousandths: u32| f64::from(thousandths) / 1000.0;
        let split = to(&serde_json::json!({"split": {"a*": percent(share), "b*": percent(100_000 - share)}}).to_string());
        let raised = [Pattern::new("b*").unwrap()];
        for (target, present) in [(object(&weights), split.clone()), (split, object(&others))] {
            let Some(expressed) = express(&target, &present, &raised) else { continue };
            if let (Some(before), Some(after)) = (on_side(&target, &raised), on_side(&expressed, &raised)) {
                prop_assert!(after <= before + 1e-3, "{before} {after} {expressed:?}");
            }
        }
    }
}
