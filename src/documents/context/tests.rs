use weightd_core::{
    desired::{Back, Document},
    history::Way,
};

use super::*;
use crate::documents::edit::{self, Write};

#[test]
fn a_write_has_the_time_of_consul_and_not_that_of_the_writer() {
    let weights: Weights = serde_json::from_str(r#"{"blue":1}"#).unwrap();
    let backend = BackendName::new("app").unwrap();
    let at = |known: &Context| {
        let own = Intent { create: true, at: "2031-01-01T00:00:00Z".to_owned(), ..Intent::default() };
        let edit = edit::set(&backend, None, &weights, &known.intent(own)).unwrap();
        (edit.after.at.unwrap(), edit.entry.unwrap().at.unwrap().to_string())
    };
    let without = Context::from(None);
    let with = Context { time: Some("2026-11-27T10:00:00Z".parse().unwrap()), ..Context::from(None) };
    for (known, expected) in [(with, "2026-11-27T10:00:00Z"), (without, "2031-01-01T00:00:00Z")] {
        assert_eq!(at(&known), (expected.to_owned(), expected.to_owned()));
    }
}

#[test]
fn the_first_document_goes_back_to_what_was_before_it() {
    let weights = |json: &str| serde_json::from_str::<Weights>(json).unwrap();
    let backend = BackendName::new("app").unwrap();
    let known = Context::from(None).with_first(weights(r#"{"blue":100,"green":0}"#), None);
    let intent = known.intent(Intent { create: true, ..Intent::default() });
    let edit = edit::set(&backend, None, &weights(r#"{"blue":50,"green":50}"#), &intent).unwrap();
    let Write::Document { value, .. } = &edit.write else { panic!("{edit:?}") };
    let back = Document::parse(value).unwrap().back;
    assert_eq!(back, Some(Back::Weights(weights(r#"{"blue":100,"green":0}"#))));
    let (history, index) = known.history().unwrap();
    let ways: Vec<_> = history.append(None, edit.entry.unwrap()).entries().iter().map(|e| e.way.clone()).collect();
    assert_eq!((ways, index), (vec![Way::Create, Way::Observed], 0));

    // A backend that had a document has a history of its own.
    let present = Context { history: Optional::Present(History::default(), 7), ..Context::from(None) };
    assert!(!present.is_new());
    assert_eq!(present.with_first(weights(r#"{"blue":1}"#), None).entries(), []);
}
