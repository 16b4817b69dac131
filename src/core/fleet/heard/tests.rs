use super::*;
use crate::fleet::NodeName;

fn backend() -> BackendName {
    BackendName::new("app1").unwrap()
}

fn read(index: u64, value: &str) -> CountersRead {
    CountersRead { index, report: Counters::parse(&NodeName::new("lb1").unwrap(), value.as_bytes()) }
}

fn value(fields: &str) -> String {
    format!(r#"{{"v":1,"node":"lb1","mode":"enforce","incarnation":"a","at":1{fields}}}"#)
}

#[test]
fn a_value_older_than_the_observation_is_no_answer() {
    let has = value(r#","backends":[{"backend":"app1","instances":[]}]"#);
    assert_eq!(read(7, &has).heard(&backend(), 7), Heard::Silent);
    assert!(matches!(read(8, &has).heard(&backend(), 7), Heard::Has(_)));
    assert_eq!(read(7, "garbage").heard(&backend(), 7), Heard::Silent, "nor is garbage");
}

#[test]
fn a_value_that_does_not_name_the_backend_answers_another_observation() {
    assert_eq!(read(8, &value("")).heard(&backend(), 7), Heard::Silent);
    assert_eq!(read(8, &value(r#","lacks":["app1"]"#)).heard(&backend(), 7), Heard::Lacks);
    let left_out = read(8, &value(r#","left_out":[["app1","size"]]"#));
    assert_eq!(left_out.heard(&backend(), 7), Heard::NoData(NoData::LeftOut(WhyLeftOut::Size)));
    let more = read(8, &value(r#","more":3"#));
    assert!(matches!(more.heard(&backend(), 7), Heard::NoData(_)), "it may be among those that are not named");
}

#[test]
fn what_cannot_be_used_is_no_data_with_its_reason() {
    let why = |text: &str| match read(8, text).heard(&backend(), 7) {
        Heard::NoData(why) => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(why("garbage").contains("malformed"), "{}", why("garbage"));
    assert!(why(r#"{"v":2}"#).contains("version"), "{}", why(r#"{"v":2}"#));
    let other = value("").replace("lb1", "lb2");
    assert!(why(&other).contains("lb2"), "{}", why(&other));
    assert!(why(&" ".repeat(70_000)).contains("70000"), "{}", why(&" ".repeat(70_000)));
}
