use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect(text)
}

#[test]
fn wildcards_stand_for_any_characters() {
    for (text, name, wanted) in [
        ("blue", "blue", true),
        ("blue", "blue1", false),
        ("blue*", "blue", true),
        ("blue*", "blue-1", true),
        ("*", "x", true),
        ("*-1", "blue-1", true),
        ("*-1", "blue-12", false),
        ("b*e*1", "blue-1", true),
        ("blue-?", "blue-1", true),
        ("blue-?", "blue-", false),
        ("blue-?", "blue-12", false),
        ("?*", "b", true),
    ] {
        assert_eq!(pattern(text).matches(name), wanted, "{text} {name}");
    }
}

#[test]
fn patterns_overlap_where_one_name_matches_both() {
    for (a, b, wanted) in [
        ("green", "green", true),
        ("green", "blue", false),
        ("green*", "green-a*", true),
        ("green*", "blue*", false),
        ("*-1", "blue-*", true),
        ("a?c", "ab?", true),
        ("a?", "a", false),
        ("*a", "b*", true),
        ("a*b", "a*c", false),
    ] {
        assert_eq!(pattern(a).overlaps(&pattern(b)), wanted, "{a} {b}");
        assert_eq!(pattern(b).overlaps(&pattern(a)), wanted, "{b} {a}");
    }
}

#[test]
fn a_pattern_that_no_name_can_match_is_refused() {
    for text in ["", "a b", "a/b", "a;*", "ä*", "."] {
        assert!(Pattern::new(text).is_err(), "{text}");
    }
    assert!(Pattern::new(&"*".repeat(256)).is_err());
}

#[test]
fn a_split_adds_up_to_100() {
    let read = |text: &str| serde_json::from_str::<Split>(text);
    for text in [
        r#"{"blue-*":90,"green-*":10}"#,
        r#"{"a":33.333,"b":33.333,"c":33.334}"#,
        r#"{"a":33.3333333,"b":33.3333333,"c":33.3333333}"#,
        r#"{"a":100}"#,
    ] {
        assert!(read(text).is_ok(), "{text}");
    }
    for text in
        ["{}", r#"{"a":90}"#, r#"{"a":101}"#, r#"{"a":-1,"b":101}"#, r#"{"a":"90","b":10}"#, r#"{"a":50,"a":50}"#, "[]"]
    {
        assert!(read(text).is_err(), "{text}");
    }
    let text = r#"{"blue-*":90,"green-*":9.5,"x":0.5}"#;
    assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text, "it is written as it was read");
}

#[test]
fn back_has_weights_or_a_split() {
    for text in [r#"{"weights":{"blue":100,"green":0}}"#, r#"{"split":{"blue-*":100,"green-*":0}}"#] {
        let back: Back = serde_json::from_str(text).expect(text);
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
    for text in ["{}", r#"{"weights":{}}"#, r#"{"weights":{"a":1},"split":{"a":100}}"#, r#"{"release":true}"#, "1"] {
        assert!(serde_json::from_str::<Back>(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_name_that_matches_both_makes_them_overlap(a in "[ab*?]{1,6}", b in "[ab*?]{1,6}", name in "[ab]{1,8}") {
        let (a, b) = (pattern(&a), pattern(&b));
        if a.matches(&name) && b.matches(&name) {
            prop_assert!(a.overlaps(&b));
        }
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        prop_assert_eq!(a.matches(&name), a.overlaps(&pattern(&name)));
    }
}
