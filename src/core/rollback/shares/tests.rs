use super::*;

fn to(json: &str) -> To {
    let to = serde_json::from_str(json).expect(json);
    assert!(!matches!(to, To::Unreadable(_)), "{json}");
    to
}

fn shown(moved: Option<Move>) -> Option<Vec<(String, i64)>> {
    #[expect(clippy::cast_possible_truncation, reason = "percent")]
    let whole = |delta: f64| delta.round() as i64;
    moved.map(|moved| moved.deltas.iter().map(|(key, delta)| (key.to_string(), whole(*delta))).collect())
}

#[test]
fn shares_are_percent_of_the_sum() {
    let shares = share(&to(r#"{"weights":{"a":9,"b":1}}"#)).unwrap();
    assert_eq!(shares.of.values().copied().collect::<Vec<_>>(), [90.0, 10.0]);
    for none in [r#"{"weights":{"a":0,"b":0}}"#, r#"{"release":true}"#, r#"{"gone":true}"#, r#"{"omitted":true}"#] {
        assert_eq!(share(&to(none)), None, "{none}");
    }
}

#[test]
fn the_same_shares_in_other_numbers_move_nothing() {
    let moved = moved(&to(r#"{"weights":{"a":1,"b":1}}"#), &to(r#"{"weights":{"a":50,"b":50,"c":0}}"#)).unwrap();
    assert!(moved.deltas.is_empty());
    assert_eq!(moved.came_or_went, [Pattern::new("c").unwrap()]);
}

#[test]
fn what_is_small_beside_the_largest_is_dropped() {
    let a = to(r#"{"weights":{"blue":100,"green":0,"gray":0}}"#);
    let b = to(r#"{"weights":{"blue":50,"green":47,"gray":3}}"#);
    assert_eq!(shown(moved(&a, &b)), Some(vec![("blue".into(), -50), ("green".into(), 47)]));
}

#[test]
fn beside_a_split_names_are_summed_by_its_patterns() {
    let names = to(r#"{"weights":{"blue-1":45,"blue-2":45,"green-1":10}}"#);
    let split = to(r#"{"split":{"blue-*":50,"green-*":50}}"#);
    assert_eq!(shown(moved(&names, &split)), Some(vec![("blue-*".into(), -40), ("green-*".into(), 40)]));
    assert_eq!(shown(moved(&split, &names)), Some(vec![("blue-*".into(), 40), ("green-*".into(), -40)]));
}

#[test]
fn what_no_pattern_or_two_patterns_match_cannot_be_compared() {
    let names = to(r#"{"weights":{"blue-1":90,"green-1":10}}"#);
    for split in [r#"{"split":{"blue-*":100}}"#, r#"{"split":{"blue-*":50,"*-1":50}}"#] {
        assert_eq!(moved(&names, &to(split)), None, "{split}");
    }
    let overlapping = (to(r#"{"split":{"a*":50,"b":50}}"#), to(r#"{"split":{"a*":50,"*b":50}}"#));
    assert_eq!(moved(&overlapping.0, &overlapping.1), None);
    assert_eq!(moved(&names, &to(r#"{"release":true}"#)), None);
}

#[test]
fn two_splits_compare_where_no_name_can_match_both() {
    let a = to(r#"{"split":{"blue-*":100,"green-*":0}}"#);
    let b = to(r#"{"split":{"blue-*":50,"gray-*":50}}"#);
    let moved = moved(&a, &b).unwrap();
    assert_eq!(moved.came_or_went.iter().map(Pattern::as_str).collect::<Vec<_>>(), ["green-*", "gray-*"]);
    assert_eq!(shown(Some(moved)), Some(vec![("blue-*".into(), -50), ("gray-*".into(), 50)]));
}

#[test]
fn a_side_gets_the_sum_of_what_belongs_to_it() {
    let side = |text: &str| [Pattern::new(text).unwrap()];
    let names = to(r#"{"weights":{"blue":50,"green-1":30,"green-2":20}}"#);
    assert_eq!(on_side(&names, &side("green-*")), Some(50.0));
    assert_eq!(on_side(&names, &side("green-1")), Some(30.0));
    assert_eq!(on_side(&to(r#"{"split":{"b*":60,"g*":40}}"#), &side("green-1")), Some(40.0));
    assert_eq!(on_side(&to(r#"{"release":true}"#), &side("green-1")), None);
}
