use weightd_core::desired::Weights;

use super::*;
use crate::documents::edit;

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
