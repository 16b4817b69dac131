use super::*;

fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn sides(from: &[&str], to: &[&str]) -> Sides {
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text).unwrap()).collect();
    Sides { from: patterns(from), to: patterns(to) }
}

#[test]
fn an_observation_reads_as_it_is_written() {
    let observation = Observation {
        view: View { sides: Some(sides(&["blue"], &["green-*", "gr?y"])), per: Per::Server },
        seq: 3,
        by: Some("alice".into()),
    };
    let value = observation.to_value();
    let expected = r#"{"v":1,"sides":{"from":["blue"],"to":["green-*","gr?y"]},"per":"server","seq":3,"by":"alice"}"#;
    assert_eq!(String::from_utf8_lossy(&value), expected);
    assert_eq!(Observation::parse(&value), Ok(observation));
}

#[test]
fn an_observation_without_sides_is_of_all_servers() {
    let read = Observation::parse(br#"{"v":1}"#).unwrap();
    assert_eq!(read, Observation { view: View::default(), seq: 0, by: None });
    let blue = server("blue");
    assert_eq!(read.view.sides_of([&blue]).unwrap()[&blue], Side::Other);
}

#[test]
fn a_value_that_is_no_observation_says_why() {
    for (value, why) in [
        ("", "malformed"),
        ("[]", "malformed"),
        (r#"{"v":2}"#, "version 2"),
        (r#"{"v":1,"per":"rack"}"#, "malformed"),
        (r#"{"v":1,"sides":{"from":[],"to":["green"]}}"#, "`from` has 0 patterns"),
        (r#"{"v":1,"sides":{"from":["a b"],"to":["green"]}}"#, "malformed"),
        (r#"{"v":1,"sides":{"to":["green"]}}"#, "malformed"),
    ] {
        let error = Observation::parse(value.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{value}: {error}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("s{n}")).collect();
    let many = serde_json::json!({"v": 1, "sides": {"from": ["blue"], "to": many}}).to_string();
    assert!(Observation::parse(many.as_bytes()).is_err());
    assert!(matches!(Observation::parse(&vec![b' '; BadValue::MAX_BYTES + 1]), Err(BadValue::TooLarge(_))));
}

#[test]
fn a_view_is_named_by_what_it_counts_and_not_by_how_it_is_written() {
    let view = |from: &[&str], to: &[&str], per| View { sides: Some(sides(from, to)), per }.id();
    let named = view(&["blue", "b2"], &["green"], Per::Side);
    assert_eq!(named, view(&["b2", "blue", "b2"], &["green"], Per::Side));
    assert_ne!(named, view(&["blue", "b2"], &["green"], Per::Server));
    assert_ne!(named, view(&["green"], &["blue", "b2"], Per::Side));
    // As `printf '{"sides":{"from":["blue"],"to":["green"]},"per":"side"}' | sha256sum` says.
    assert_eq!(view(&["blue"], &["green"], Per::Side).to_string(), "888edde6");
    assert_eq!(View::default().id().to_string(), "87dbe2a3");
}

#[test]
fn the_name_of_a_view_has_8_hexadecimal_digits() {
    let id: ViewId = serde_json::from_str(r#""00c0ffee""#).unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), r#""00c0ffee""#);
    for wrong in [r#""c0ffee""#, r#""00C0FFEE""#, r#""+0c0ffee""#, "1", r#""""#] {
        assert!(serde_json::from_str::<ViewId>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_server_is_on_one_side_or_on_neither() {
    let view = View { sides: Some(sides(&["blue*"], &["green", "g*"])), per: Per::Side };
    let names = ["blue1", "green", "gray", "red"].map(server);
    let of: Vec<Side> = names.iter().map(|name| view.sides_of([name]).unwrap()[name]).collect();
    assert_eq!(of, [Side::From, Side::To, Side::To, Side::Other]);
    let view = View { sides: Some(sides(&["*"], &["green"])), per: Per::Side };
    assert_eq!(view.sides_of(&names), Err(BothSides(server("green"))));
}
