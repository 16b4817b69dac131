//! The inventory entry of this node: that it exists, so that the fleet misses it when it is gone.

use weightd_core::{
    fleet::{Duplicate, Inventory},
    model::Timestamp,
};

/// This run of weightd.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Random for each start of weightd.
    pub incarnation: &'a str,
    /// Whether it holds its key in `nodes/`.
    pub holds: bool,
    /// Whether it made the entry right before, while it held the key.
    pub held_before: bool,
}

/// What the entry must become; none if it is right already.
///
/// `existing` is what Consul has, if that can be read. A run that does not hold the key only notes itself as the duplicate.
pub fn wanted(
    existing: Option<&Inventory>,
    own: &Inventory,
    run: Run<'_>,
    now: Option<Timestamp>,
) -> Option<Inventory> {
    let Some(existing) = existing else { return run.holds.then(|| Inventory { since: now, ..own.clone() }) };
    let is_own = |duplicate: &Duplicate| {
        duplicate.machine == own.machine && duplicate.incarnation.as_deref() == Some(run.incarnation)
    };
    if !run.holds {
        let noted = existing.duplicate.as_ref().is_some_and(is_own);
        let incarnation = Some(run.incarnation.to_owned());
        let duplicate = Some(Duplicate { machine: own.machine.clone(), incarnation, since: now });
        return (!noted).then(|| Inventory { duplicate, ..existing.clone() });
    }
    // This run holds the key now, so it is no duplicate of itself. A note of another run with the same machine id may be
    // that of an earlier run of this machine, which is gone. If it is that of a copy of this machine, the copy writes it
    // again; it must not be removed each time.
    let gone = |duplicate: &Duplicate| is_own(duplicate) || (duplicate.machine == own.machine && !run.held_before);
    let duplicate = existing.duplicate.clone().filter(|duplicate| !gone(duplicate));
    let since = if existing.machine == own.machine { existing.since } else { now };
    let wanted = Inventory { since, duplicate, ..own.clone() };
    (wanted != *existing).then_some(wanted)
}

/// The entry without the note of this run; none if it has no such note. For the stop of a duplicate.
pub fn without_note(existing: &Inventory, machine: &str, incarnation: &str) -> Option<Inventory> {
    let noted = existing.duplicate.as_ref().is_some_and(|duplicate| {
        duplicate.machine == machine && duplicate.incarnation.as_deref().is_none_or(|noted| noted == incarnation)
    });
    noted.then(|| Inventory { duplicate: None, ..existing.clone() })
}

#[cfg(test)]
mod tests;
