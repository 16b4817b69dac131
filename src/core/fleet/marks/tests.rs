use super::*;

fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).unwrap()
}

#[test]
fn expect_reads_as_it_is_written() {
    assert_eq!(text(Expect { nodes: 20 }.to_value()), r#"{"v":1,"nodes":20}"#);
    assert_eq!(Expect::parse(br#"{"v":1,"nodes":20,"later":true}"#), Ok(Expect { nodes: 20 }));
    assert_eq!(Expect::parse(br#"{"v":2,"hosts":20}"#), Err(BadValue::Version(2)));
    for bad in ["", "20", r#"{"v":1}"#, r#"{"nodes":-1}"#, r#"{"nodes":"20"}"#] {
        assert!(matches!(Expect::parse(bad.as_bytes()), Err(BadValue::Malformed(_))), "{bad}");
    }
}

#[test]
fn freeze_is_an_object_or_nothing() {
    assert_eq!(text(Freeze::default().to_value()), "{}");
    assert_eq!(Freeze::parse(b"{}"), Ok(Freeze::default()));
    let frozen =
        Frozen { by: Some("alice".into()), reason: Some("audit".into()), since: Some(Timestamp::from_seconds(0)) };
    let freeze = Freeze { frozen: Some(frozen) };
    let value = text(freeze.to_value());
    assert_eq!(value, r#"{"frozen":{"by":"alice","reason":"audit","since":"1970-01-01T00:00:00Z"}}"#);
    assert_eq!(Freeze::parse(value.as_bytes()), Ok(freeze));
    assert!(Freeze::parse(br#"{"frozen":{}}"#).unwrap().frozen.is_some(), "whoever it was, it is frozen");
    for bad in ["", "null", "[1]", r#"{"frozen":true}"#] {
        assert!(Freeze::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn inventory_reads_as_it_is_written() {
    let mut inventory = Inventory {
        node: NodeName::new("lb-1").unwrap(),
        machine: "m1".into(),
        mode: Mode::Enforce,
        instances: vec!["edge".into()],
        since: None,
        duplicate: None,
    };
    let value = text(inventory.to_value());
    assert_eq!(value, r#"{"v":1,"node":"lb-1","machine":"m1","mode":"enforce","instances":["edge"]}"#);
    let duplicate = Duplicate { machine: "m2".into(), incarnation: None, since: Some(Timestamp::from_seconds(9)) };
    for incarnation in [None, Some("a1".to_owned())] {
        inventory.duplicate = Some(Duplicate { incarnation, ..duplicate.clone() });
        assert_eq!(Inventory::parse(&inventory.to_value()), Ok(inventory.clone()));
    }
    assert_eq!(Inventory::parse(&vec![b' '; 5000]), Err(BadValue::TooLarge(5000)));
    let newer = format!(r#"{{"v":2,"x":"{}"}}"#, "x".repeat(5000));
    assert_eq!(Inventory::parse(newer.as_bytes()), Err(BadValue::Version(2)));
    assert!(matches!(Inventory::parse(br#"{"node":"a b","machine":"","mode":"x"}"#), Err(BadValue::Malformed(_))));
}
