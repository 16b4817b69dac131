use proptest::prelude::*;

use super::*;
use crate::desired::Pattern;

fn weights(json: &str) -> To {
    serde_json::from_str(&format!(r#"{{"weights":{json}}}"#)).expect(json)
}

fn entry(way: Way, json: &str) -> Entry {
    Entry { by: Some("alice".into()), ..Entry::new(way, weights(json)) }
}

fn before(index: u64, json: &str) -> Before {
    Before { index, to: weights(json), by: Some("bob".into()), at: None, why: Some("by hand".into()) }
}

/// Written in a transaction of this index, and read again.
fn written(history: &History, index: u64) -> History {
    History::parse(&history.to_value(), index).unwrap()
}

fn indexes(history: &History) -> Vec<Option<u64>> {
    history.entries().iter().map(|entry| entry.index).collect()
}

#[test]
fn the_newest_entry_has_the_index_of_its_key() {
    let history = History::default().append(None, entry(Way::Create, r#"{"blue":100}"#));
    let value = String::from_utf8(history.to_value()).unwrap();
    assert_eq!(value, r#"{"v":1,"entries":[{"by":"alice","way":"create","to":{"weights":{"blue":100}}}]}"#);
    let history = written(&history, 41);
    let history = history.append(Some(before(41, r#"{"blue":100}"#)), entry(Way::Set, r#"{"blue":50}"#));
    assert_eq!(indexes(&written(&history, 57)), [Some(57), Some(41)]);
    assert!(String::from_utf8(history.to_value()).unwrap().contains(r#""index":41"#), "the next writer stamps it");
}

#[test]
fn a_newer_document_is_a_write_past_the_tools() {
    let history = written(&History::default().append(None, entry(Way::Create, r#"{"blue":100}"#)), 41);
    let seen = history.clone().with_document(Some(before(50, r#"{"blue":7}"#)));
    let newest = &seen.entries()[0];
    assert_eq!((newest.index, &newest.way), (Some(50), &Way::Direct));
    assert_eq!((newest.by.as_deref(), newest.why.as_deref()), (Some("bob"), Some("by hand")));
    let history = history.append(Some(before(50, r#"{"blue":7}"#)), entry(Way::Set, r#"{"blue":50}"#));
    assert_eq!(indexes(&written(&history, 60)), [Some(60), Some(50), Some(41)]);
}

#[test]
fn a_document_of_the_same_index_is_known() {
    let history = written(&History::default().append(None, entry(Way::Create, r#"{"blue":100}"#)), 41);
    assert_eq!(history.clone().with_document(Some(before(41, r#"{"blue":100}"#))), history);
    assert_eq!(history.clone().with_document(Some(before(30, r#"{"blue":100}"#))), history);
    let restored = history.with_document(Some(before(30, r#"{"blue":9}"#)));
    assert_eq!(restored.entries()[0].way, Way::Direct, "an older one that says something else came from somewhere");
}

#[test]
fn a_document_that_is_gone_is_a_write_past_the_tools() {
    let history = written(&History::default().append(None, entry(Way::Create, r#"{"blue":100}"#)), 41);
    let seen = history.with_document(None);
    assert_eq!((&seen.entries()[0].way, &seen.entries()[0].to), (&Way::Direct, &To::Gone));
    assert_eq!(seen.clone().with_document(None), seen, "once");
    assert_eq!(History::default().with_document(None), History::default());
}

#[test]
fn entry_0_is_what_was_before_the_first_document() {
    let To::Weights(observed) = weights(r#"{"blue":100,"green":0}"#) else { panic!() };
    let history = History::first(observed, Some(Timestamp::from_seconds(0)), None);
    let history = history.append(None, entry(Way::Create, r#"{"blue":90,"green":10}"#));
    assert_eq!(indexes(&written(&history, 5)), [Some(5), Some(0)]);
}

#[test]
fn a_settled_entry_keeps_its_index() {
    let history = written(&History::default().append(None, entry(Way::Create, r#"{"blue":100}"#)), 41);
    let settled = written(&history.settle().unwrap(), 77);
    assert_eq!((indexes(&settled), settled.entries()[0].settled), (vec![Some(41)], true));
    assert_eq!(History::default().settle(), None);
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_kind() {
    let read = |text: &str| History::parse(text.as_bytes(), 1).unwrap_err();
    assert_eq!(read(r#"{"v":2,"entries":{}}"#), BadHistory::Version(2));
    assert_eq!(read(&" ".repeat(History::MAX_BYTES + 1)), BadHistory::TooLarge(History::MAX_BYTES + 1));
    for text in
        ["", "null", "[]", "{}", r#"{"v":1}"#, r#"{"v":1,"entries":[1]}"#, r#"{"v":1,"entries":[{"way":"set"}]}"#]
    {
        assert!(matches!(read(text), BadHistory::Malformed(_)), "{text}");
    }
    assert!(matches!(History::parse(&[0xff], 1), Err(BadHistory::Malformed(_))));
}

#[test]
fn what_a_newer_version_adds_is_kept() {
    let text = r#"{"v":1,"entries":[{"index":3,"way":"teleport","to":{"percent":{"blue":1}},"ticket":7},{"at":5,"by":1,"token":"x","way":"set","to":{"weights":{"a":999}}}]}"#;
    let history = History::parse(text.as_bytes(), 9).unwrap();
    let [first, second] = history.entries() else { panic!("{history:?}") };
    assert_eq!(first.way, Way::Other("teleport".into()));
    assert!(matches!(first.to, To::Unreadable(_)) && matches!(second.to, To::Unreadable(_)));
    assert_eq!((second.at, &second.by, &second.token), (None, &None, &None), "a bad field is absent");
    let value = String::from_utf8(history.to_value()).unwrap();
    assert!(value.starts_with(&text[..text.find(r#",{"at""#).unwrap()]), "{value}");
}

#[test]
fn every_way_reads_as_it_is_written() {
    for word in "create set shift release apply import convert rollback rollout observed direct new".split(' ') {
        let way: Way = serde_json::from_str(&format!("\"{word}\"")).unwrap();
        assert_eq!((way.as_str(), matches!(way, Way::Other(_))), (word, word == "new"));
    }
}

/// A shift in `steps` of one percent each, that began at index 1.
fn shifted(steps: u64, servers: usize) -> History {
    let others = (0..servers).map(|n| format!(r#","server-number-{n}":1"#)).collect::<Vec<_>>().concat();
    let state = |n| format!(r#"{{"blue":{},"green":{n}{others}}}"#, 200 - n);
    let mut history = written(&History::default().append(None, entry(Way::Create, &state(0))), 1);
    for n in 1..=steps {
        history = history.append(Some(before(n, &state(n - 1))), entry(Way::Shift, &state(n)));
        history = written(&history, n + 1);
    }
    history
}

#[test]
fn where_the_shift_began_stays_as_the_anchor() {
    for (steps, servers) in [(49, 0), (50, 0), (120, 0), (30, 40), (100, 40)] {
        let history = shifted(steps, servers);
        assert!(history.entries().len() <= History::MAX_ENTRIES && history.to_value().len() <= History::MAX_BYTES);
        assert_eq!(history.entries()[0].index, Some(steps + 1));
        let last = history.entries().last().unwrap();
        assert_eq!(last.index, Some(1), "{steps} {servers}");
        assert_eq!(last.anchor, history.entries().len() < usize::try_from(steps).unwrap() + 1);
    }
}

#[test]
fn the_anchor_stays_while_another_server_moves() {
    let history = shifted(120, 0);
    let state = r#"{"blue":70,"green":120,"gray":10}"#;
    let history = history.append(Some(before(121, r#"{"blue":80,"green":120}"#)), entry(Way::Shift, state));
    let last = history.entries().last().unwrap();
    assert_eq!((last.index, last.anchor), (Some(1), true), "`--off green` still leads there");
}

#[test]
fn an_anchor_behind_a_resting_point_goes() {
    let mut history = shifted(60, 0);
    for n in 61..130 {
        if n == 62 {
            history = written(&history.settle().unwrap(), n);
        }
        let newest = history.entries()[0].index.unwrap();
        let (now, next) = (format!(r#"{{"blue":{},"green":{n}}}"#, 200 - n), n + 1);
        history = history.append(Some(before(newest, &now)), entry(Way::Shift, &now));
        history = written(&history, next);
    }
    let last = history.entries().last().unwrap();
    assert_eq!((last.anchor, last.settled), (true, true), "the shift since then began there");
}

#[test]
fn one_entry_that_is_too_large_is_written_without_its_state() {
    let many = (0..2000).map(|n| format!(r#""server{n}":1,"#)).collect::<Vec<_>>().concat();
    let history = shifted(3, 0).append(None, entry(Way::Set, &format!(r#"{{{many}"blue":1}}"#)));
    assert_eq!((history.entries().len(), &history.entries()[0].to), (1, &To::Omitted));
    let long = Entry { why: Some("ä".repeat(100_000)), ..entry(Way::Set, r#"{"a":1}"#) };
    let history = History::default().append(None, long);
    assert_eq!(history.entries()[0].why.as_ref().unwrap().chars().count(), 201);
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        by in prop::option::of(".{0,20}"),
        at in prop::option::of(0..4_000_000_000_u64),
        settled in any::<bool>(),
        target in prop::option::of(any::<u64>()),
        share in 0..=100_u32,
    ) {
        let raised = vec![Pattern::new("green*").unwrap()];
        let to = serde_json::from_str(&format!(r#"{{"split":{{"a*":{share},"b*":{}}}}}"#, 100 - share)).unwrap();
        let at = at.map(Timestamp::from_seconds);
        let entry = Entry { at, by, settled, target, raised, ..Entry::new(Way::Rollback, to) };
        let history = History::default().append(None, entry.clone());
        let expected = Entry { index: Some(8), ..entry };
        let read = written(&history, 8);
        prop_assert_eq!(read.entries(), &[expected]);
    }

    #[test]
    fn no_value_panics(text in ".{0,60}", json in r#"\{"v":1,"entries":\[[\{\}":,a-z0-9]{0,40}\]\}"#) {
        let _ = History::parse(text.as_bytes(), 1);
        let _ = History::parse(json.as_bytes(), 1);
    }
}
