use weightd_core::{desired::Document, model::BackendName};

use super::*;

fn view(document: &str) -> View {
    View::of_document(&BackendName::new("app").unwrap(), &Document::parse(document.as_bytes()).unwrap())
}

fn sides(document: &str) -> Sides {
    Sides::of(Some(&view(document)), None)
}

fn names(sides: &Sides) -> Vec<(&'static str, String, f64)> {
    sides.bar(None).parts
}

#[test]
fn servers_with_the_same_stem_are_one_side() {
    let sides = sides(r#"{"weights":{"blue-1":45,"blue-2":45,"green-1":5,"green-2":5}}"#);
    assert_eq!(names(&sides), [("b", "blue".to_owned(), 90.0), ("g", "green".to_owned(), 10.0)]);
    assert!(sides.other < 0.01);
}

#[test]
fn blue_is_blue_wherever_it_stands_and_keeps_its_place() {
    let sides = sides(r#"{"weights":{"blue":10,"green":90}}"#);
    assert_eq!(names(&sides), [("b", "blue".to_owned(), 10.0), ("g", "green".to_owned(), 90.0)]);
}

#[test]
fn other_names_take_the_colour_of_their_role() {
    let sides = sides(r#"{"split":{"v1-*":75,"v2-*":25}}"#);
    assert_eq!(names(&sides), [("b", "v1".to_owned(), 75.0), ("g", "v2".to_owned(), 25.0)]);
}

#[test]
fn servers_on_neither_side_are_a_grey_part() {
    let sides = sides(r#"{"weights":{"blue":90,"green":7,"old":3}}"#);
    assert_eq!(names(&sides).last().unwrap(), &("o", "other".to_owned(), 3.0));
}

#[test]
fn the_bar_is_numbers_and_a_small_share_stays_visible() {
    let svg = sides(r#"{"weights":{"blue":256,"green":1}}"#).bar(None).svg("split");
    assert!(svg.contains("class=\"g\"") && !svg.contains("style"), "{svg}");
    assert!(svg.contains("width=\"1.97%\"") || svg.contains("width=\"1.96%\""), "{svg}");
    assert_eq!(Sides::default().bar(None).named(), Vec::new());
}

#[test]
fn the_sides_of_another_document_keep_their_names_and_colours() {
    let now = sides(r#"{"weights":{"old":90,"new":10}}"#);
    let then = now.at(&view(r#"{"weights":{"old":40,"new":60}}"#));
    assert_eq!(names(&now), [("b", "old".to_owned(), 90.0), ("g", "new".to_owned(), 10.0)]);
    assert_eq!(names(&then), [("b", "old".to_owned(), 40.0), ("g", "new".to_owned(), 60.0)]);
    let more = now.at(&view(r#"{"weights":{"old":40,"new":40,"third":20}}"#));
    assert_eq!(names(&more).last().unwrap(), &("o", "other".to_owned(), 20.0));
}
