//! The inventory entry of this node: that it exists, so that the fleet misses it when it is gone.

use weightd_core::{
    fleet::{Duplicate, Inventory},
    model::Timestamp,
};

/// What the entry must become; none if it is right already.
///
/// `existing` is what Consul has, if that can be read. `holds` says whether this node holds its key in `nodes/`: another
/// machine of the same name only adds itself as the duplicate.
pub fn wanted(existing: Option<&Inventory>, own: &Inventory, holds: bool, now: Option<Timestamp>) -> Option<Inventory> {
    let Some(existing) = existing else { return holds.then(|| Inventory { since: now, ..own.clone() }) };
    if !holds {
        let noted = existing.duplicate.as_ref().is_some_and(|duplicate| duplicate.machine == own.machine);
        let duplicate = Some(Duplicate { machine: own.machine.clone(), since: now });
        return (!noted).then(|| Inventory { duplicate, ..existing.clone() });
    }
    // This machine holds the key now, so it is no duplicate of itself.
    let duplicate = existing.duplicate.clone().filter(|duplicate| duplicate.machine != own.machine);
    let since = if existing.machine == own.machine { existing.since } else { now };
    let wanted = Inventory { since, duplicate, ..own.clone() };
    (wanted != *existing).then_some(wanted)
}

/// The entry without the note of this machine; none if it has no such note. For the stop of a duplicate.
pub fn without_note(existing: &Inventory, machine: &str) -> Option<Inventory> {
    let noted = existing.duplicate.as_ref().is_some_and(|duplicate| duplicate.machine == machine);
    noted.then(|| Inventory { duplicate: None, ..existing.clone() })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn it_is_written_once_and_again_only_when_what_it_says_changes() {
        let (now, later) = (Some(Timestamp::from_seconds(10)), Some(Timestamp::from_seconds(20)));
        let own = entry("m1");
        let first = wanted(None, &own, true, now).unwrap();
        assert_eq!(first, Inventory { since: now, ..own.clone() });
        assert_eq!(wanted(Some(&first), &own, true, later), None);
        let observes = Inventory { mode: Mode::Observe, ..own.clone() };
        assert_eq!(wanted(Some(&first), &observes, true, later).unwrap().since, now);
        // A machine that was replaced under the same name.
        assert_eq!(wanted(Some(&first), &entry("m2"), true, later).unwrap().since, later);
    }

    #[test]
    fn a_second_machine_of_the_same_name_notes_itself_and_replaces_nothing() {
        let now = Some(Timestamp::from_seconds(10));
        let own = entry("m2");
        assert_eq!(wanted(None, &own, false, now), None);
        let noted = wanted(Some(&entry("m1")), &own, false, now).unwrap();
        assert_eq!((noted.machine.as_str(), noted.duplicate.as_ref().unwrap().machine.as_str()), ("m1", "m2"));
        assert_eq!(wanted(Some(&noted), &own, false, now), None);
        assert_eq!(wanted(Some(&noted), &entry("m1"), true, now), None, "the first machine keeps the note");
        assert_eq!(without_note(&noted, "m2").unwrap().duplicate, None);
        assert_eq!(without_note(&noted, "m1"), None);
    }
}
