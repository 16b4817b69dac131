use proptest::prelude::*;

use super::*;

fn name(text: &str) -> BackendName {
    BackendName::new(text).unwrap()
}

fn lb1() -> NodeName {
    NodeName::new("lb-1").unwrap()
}

fn report() -> NodeReport {
    NodeReport {
        node: lb1(),
        version: "0.1.0 (abc1234)".into(),
        mode: Mode::Enforce,
        machine: "m1".into(),
        incarnation: "i1".into(),
        instances: vec![InstanceReport {
            name: "edge".into(),
            up: true,
            version: Some("2.6.12".into()),
            pid: Some(17),
            since: Some(Timestamp::from_seconds(0)),
            why: None,
        }],
        applied_index: Some(4711),
        recent: vec![Recent { backend: name("app1"), index: 4711, how: How::Set }],
        out: vec![Out { backend: name("app2"), reason: "guarded".into(), since: Some(Timestamp::from_seconds(60)) }],
        lacks: vec![name("app3")],
        backends: 3,
        filtered: false,
        cut: Cut::default(),
    }
}

/// A report with this many backends in each list.
fn large(recent: u64, out: usize, lacks: usize) -> NodeReport {
    let long = |kind: &str, n: usize| name(&format!("{kind}-a-rather-long-name-of-a-backend-{n}"));
    NodeReport {
        recent: (0..recent)
            .map(|n| Recent { backend: name(&format!("recent{n}")), index: 10_000 - n, how: How::Set })
            .collect(),
        out: (0..out).map(|n| Out { backend: long("out", n), reason: "guarded".into(), since: None }).collect(),
        lacks: (0..lacks).map(|n| long("lacks", n)).collect(),
        backends: 5000,
        ..report()
    }
}

fn read(value: &[u8]) -> Result<NodeReport, BadReport> {
    NodeReport::parse(&lb1(), value)
}

#[test]
fn a_report_reads_as_it_is_written() {
    let value = String::from_utf8(report().to_value()).unwrap();
    let expected = concat!(
        r#"{"v":1,"node":"lb-1","version":"0.1.0 (abc1234)","mode":"enforce","machine":"m1","incarnation":"i1","#,
        r#""instances":[{"name":"edge","up":true,"version":"2.6.12","pid":17,"since":"1970-01-01T00:00:00Z"}],"#,
        r#""applied_index":4711,"recent":[["app1",4711,"set"]],"#,
        r#""out":[["app2","guarded","1970-01-01T00:01:00Z"]],"lacks":["app3"],"backends":3}"#
    );
    assert_eq!(value, expected);
    assert_eq!(read(value.as_bytes()), Ok(report()));
}

#[test]
fn unknown_fields_and_words_are_taken() {
    let text = r#"{"v":1,"node":"lb-1","mode":"dream","recent":[["app",5,"teleported"]],"backends":1,"moon":"full"}"#;
    let report = read(text.as_bytes()).unwrap();
    assert_eq!((report.mode, &report.recent[0].how), (Mode::Unknown, &How::Not("teleported".into())));
}

#[test]
fn what_cannot_be_used_is_an_error_of_its_kind() {
    assert_eq!(read(br#"{"v":2,"nodes":[]}"#), Err(BadReport::Version(2)));
    assert_eq!(read(&[b' '; 4097]), Err(BadReport::TooLarge { bytes: 4097, most: 4096 }));
    for text in [
        "",
        "null",
        "{}",
        r#"{"v":1}"#,
        r#"{"v":"1","node":"lb-1","mode":"enforce"}"#,
        r#"{"v":1,"node":"lb-1","mode":"enforce","recent":[["app",5]]}"#,
        r#"{"v":1,"node":"lb-1","mode":"enforce","recent":[["a b",5,"set"]]}"#,
        r#"{"v":1,"node":"lb-1","mode":"enforce","applied_index":-1}"#,
    ] {
        assert!(matches!(read(text.as_bytes()), Err(BadReport::Malformed(_))), "{text}");
    }
    assert!(matches!(read(&[0xff, 0xfe]), Err(BadReport::Malformed(_))));
}

#[test]
fn a_report_that_contradicts_itself_is_refused() {
    for fields in [
        r#""recent":[["app",5,"set"],["app",4,"set"]],"backends":2"#,
        r#""recent":[["app",5,"set"]],"out":[["app","guarded",null]],"backends":1"#,
        r#""recent":[["app",5,"set"]],"lacks":["app"],"backends":1"#,
        r#""recent":[["app",5,"guarded"]],"lacks":["app"],"backends":1"#,
        r#""out":[["app","guarded",null]],"lacks":["app"],"backends":1"#,
        r#""recent":[["app",5,"set"],["b",4,"set"]],"backends":1"#,
    ] {
        let text = format!(r#"{{"v":1,"node":"lb-1","mode":"enforce",{fields}}}"#);
        assert!(matches!(read(text.as_bytes()), Err(BadReport::Contradicts(_))), "{text}");
    }
    let other = NodeReport { node: NodeName::new("lb-2").unwrap(), ..report() };
    assert!(matches!(read(&other.to_value()), Err(BadReport::Contradicts(_))), "it lies under the key of another node");
    let many: Vec<_> = (0..65).map(|n| format!(r#"["a{n}",{n},"set"]"#)).collect();
    let text = format!(r#"{{"v":1,"node":"lb-1","mode":"enforce","recent":[{}],"backends":99}}"#, many.join(","));
    assert!(matches!(read(text.as_bytes()), Err(BadReport::Contradicts(_))));
}

#[test]
fn lacks_is_cut_first_then_out_then_the_lowest_indexes_of_recent() {
    let cut = |report: NodeReport| {
        let value = report.to_value();
        assert!(value.len() <= NodeReport::MAX_BYTES);
        read(&value).unwrap()
    };
    let report = cut(large(10, 10, 200));
    assert_eq!((report.recent.len(), report.out.len(), report.cut.out, report.cut.recent), (10, 10, 0, 0));
    assert!(report.cut.lacks > 0 && report.lacks.len() + report.cut.lacks == 200, "{:?}", report.cut);
    let report = cut(large(10, 200, 200));
    assert_eq!((report.recent.len(), report.lacks.len(), report.cut.lacks, report.cut.recent), (10, 0, 200, 0));
    assert!(!report.out.is_empty() && report.out.len() + report.cut.out == 200);
    let mut wide = large(64, 200, 200);
    for (n, recent) in wide.recent.iter_mut().enumerate() {
        recent.backend = name(&format!("recent-with-a-name-as-long-as-names-of-backends-can-get-in-the-wild-{n}"));
    }
    let report = cut(wide);
    assert_eq!((report.out.len(), report.lacks.len()), (0, 0));
    assert!(report.cut.recent > 0 && report.recent[0].index == 10_000 && !report.recent.is_empty());
}

#[test]
fn as_much_stays_as_fits() {
    let value = large(10, 10, 200).to_value();
    assert!(value.len() > NodeReport::MAX_BYTES - 60, "{} bytes", value.len());
}

#[test]
fn no_text_and_no_number_of_instances_makes_it_too_large() {
    let mut report = large(64, 100, 100);
    let instance =
        InstanceReport { name: "\u{1}".repeat(500), why: Some("x".repeat(5000)), ..report.instances[0].clone() };
    report.version = "\u{7f}\"".repeat(1000);
    report.instances = vec![instance; 100];
    let value = report.to_value();
    assert!(value.len() <= NodeReport::MAX_BYTES);
    let report = read(&value).unwrap();
    assert!(report.cut.instances > 0 && !report.all_up());
}

proptest! {
    #[test]
    fn what_is_written_is_small_and_can_be_read(recent in 0..64_u64, out in 0..300_usize, lacks in 0..300_usize) {
        let value = large(recent, out, lacks).to_value();
        prop_assert!(value.len() <= NodeReport::MAX_BYTES);
        let report = read(&value).unwrap();
        prop_assert_eq!(report.out.len() + report.cut.out, out);
        prop_assert_eq!(report.lacks.len() + report.cut.lacks, lacks);
        prop_assert_eq!(report.recent.len() + report.cut.recent, usize::try_from(recent).unwrap());
    }

    #[test]
    fn no_value_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), text in r#"\{"v":1,[\[\{\}":,a-z0-9\]]{0,60}\}"#) {
        let _ = read(&bytes);
        let _ = read(text.as_bytes());
    }
}
