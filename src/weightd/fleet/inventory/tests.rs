use weightd_core::fleet::{Mode, NodeName};

use super::*;

fn entry(machine: &str) -> Inventory {
    Inventory {
        node: NodeName::new("lb1").unwrap(),
        machine: machine.to_owned(),
        mode: Mode::Enforce,
        instances: vec!["haproxy".to_owned()],
        since: None,
        duplicate: None,
    }
}

fn duplicate(machine: &str, incarnation: Option<&str>) -> Duplicate {
    Duplicate { machine: machine.to_owned(), incarnation: incarnation.map(str::to_owned), since: None }
}

/// A run that holds the key, and made the entry right before.
fn holder(incarnation: &str) -> Run<'_> {
    Run { incarnation, holds: true, held_before: true }
}

/// A run that has just taken the key.
fn taker(incarnation: &str) -> Run<'_> {
    Run { held_before: false, ..holder(incarnation) }
}

/// A run while another one holds the key.
fn second(incarnation: &str) -> Run<'_> {
    Run { holds: false, held_before: false, incarnation }
}

#[test]
fn it_is_written_once_and_again_only_when_what_it_says_changes() {
    let (now, later) = (Some(Timestamp::from_seconds(10)), Some(Timestamp::from_seconds(20)));
    let own = entry("m1");
    let first = wanted(None, &own, taker("a"), now).unwrap();
    assert_eq!(first, Inventory { since: now, ..own.clone() });
    assert_eq!(wanted(Some(&first), &own, holder("a"), later), None);
    let observes = Inventory { mode: Mode::Observe, ..own.clone() };
    assert_eq!(wanted(Some(&first), &observes, holder("a"), later).unwrap().since, now);
    // A machine that was replaced under the same name.
    assert_eq!(wanted(Some(&first), &entry("m2"), taker("b"), later).unwrap().since, later);
}

#[test]
fn a_second_machine_of_the_same_name_notes_itself_and_replaces_nothing() {
    let now = Some(Timestamp::from_seconds(10));
    let own = entry("m2");
    assert_eq!(wanted(None, &own, second("b"), now), None);
    let noted = wanted(Some(&entry("m1")), &own, second("b"), now).unwrap();
    assert_eq!(noted.machine, "m1");
    assert_eq!(noted.duplicate, Some(Duplicate { since: now, ..duplicate("m2", Some("b")) }));
    assert_eq!(wanted(Some(&noted), &own, second("b"), now), None);
    for run in [taker("a"), holder("a")] {
        assert_eq!(wanted(Some(&noted), &entry("m1"), run, now), None, "the first machine keeps the note");
    }
    assert_eq!(without_note(&noted, "m2", "b").unwrap().duplicate, None);
    assert_eq!(without_note(&noted, "m1", "b"), None);
    assert_eq!(without_note(&noted, "m2", "c"), None, "the note of another run");
}

#[test]
fn the_holder_does_not_remove_the_note_of_a_copy_with_the_same_machine_id() {
    for incarnation in [Some("copy"), None] {
        let noted = Inventory { duplicate: Some(duplicate("m1", incarnation)), ..entry("m1") };
        assert_eq!(wanted(Some(&noted), &entry("m1"), holder("a"), None), None, "{incarnation:?}");
        // When it takes the key, the note may be that of its own earlier run.
        assert_eq!(wanted(Some(&noted), &entry("m1"), taker("a"), None), Some(entry("m1")), "{incarnation:?}");
    }
    // The copy notes itself again, once.
    let noted = wanted(Some(&entry("m1")), &entry("m1"), second("copy"), None).unwrap();
    assert_eq!(noted.duplicate, Some(duplicate("m1", Some("copy"))));
    assert_eq!(wanted(Some(&noted), &entry("m1"), second("copy"), None), None);
}

#[test]
fn a_run_that_takes_the_key_after_it_was_the_duplicate_removes_its_own_note() {
    let noted = Inventory { duplicate: Some(duplicate("m1", Some("a"))), ..entry("m1") };
    for run in [taker("a"), holder("a")] {
        assert_eq!(wanted(Some(&noted), &entry("m1"), run, None), Some(entry("m1")));
    }
}
