//! The plan: the difference between accepted and observed, as ordered stages of changes.
//!
//! Owns the choice and the order of the changes. Must not do I/O. Must not change a server that the accepted weights do
//! not name. Must not lower a server before the raise that replaces it is known to have worked.
//!
//! HAProxy runs the rest of a line after an error, and a static algorithm rejects a raise but accepts a 0. So raises
//! come first. Decreases share a line with them only if the algorithm is known to accept any weight. Otherwise
//! decreases are a second stage, which is sent after a read-back confirmed the raises.

use std::fmt;

use crate::{
    desired::Desired,
    model::{BackendName, ServerName, Weight},
    observed::Observed,
};

/// One weight to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The server.
    pub server: ServerName,
    /// Its weight as observed.
    pub from: Weight,
    /// Its weight as accepted.
    pub to: Weight,
}

/// The changes for one backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The stages in order. A stage is sent only after a read-back confirmed the previous stage.
    pub stages: Vec<Vec<Change>>,
    /// Needed changes that must not be sent, and the reason.
    pub withheld: Option<(Withheld, Vec<Change>)>,
}

/// Why needed changes are not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// No server of the backend is usable, so only raises are sent.
    #[error("no server of the backend is usable, so no weight is lowered")]
    NothingUsable,
    /// The servers with a weight above 0 do not exist on this HAProxy. A missing server is not an instruction to stop
    /// all others.
    #[error("all servers of this HAProxy would have weight 0, so none is set to 0")]
    NothingLeft,
}

/// Maximum size in bytes of the commands in a stage with both raises and decreases. The stage and its read-back must
/// fit into one line of 4 KiB, because only a single line is known to run completely.
const MAX_MIXED_BYTES: usize = 3 * 1024;

/// The size in bytes of `set server / weight 256;` without the two names.
const COMMAND_BYTES: usize = 24;

impl Plan {
    /// Whether there is no change: HAProxy has the accepted weights.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.withheld.is_none()
    }

    /// Returns all changes to send, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.stages.iter().flatten()
    }
}

/// Computes the plan that changes `observed` to `accepted`.
pub fn plan(backend: &BackendName, accepted: &Desired, observed: &Observed) -> Plan {
    let mut raises = Vec::new();
    let mut decreases = Vec::new();
    for server in &observed.servers {
        let Some(&to) = accepted.weights.get(&server.name) else { continue };
        let change = Change { server: server.name.clone(), from: server.weight, to };
        match to.cmp(&server.weight) {
            std::cmp::Ordering::Greater => raises.push(change),
            std::cmp::Ordering::Less => decreases.push(change),
            std::cmp::Ordering::Equal => {}
        }
    }

    let mut withheld = None;
    if !accepted.force && !decreases.is_empty() {
        if !observed.any_usable() {
            withheld = Some((Withheld::NothingUsable, std::mem::take(&mut decreases)));
        } else if !any_above_zero_after(accepted, observed) {
            let (zeros, rest) = decreases.into_iter().partition(|c: &Change| c.to.is_zero());
            decreases = rest;
            withheld = Some((Withheld::NothingLeft, zeros));
        }
    }

    let bytes: usize =
        raises.iter().chain(&decreases).map(|c| backend.as_str().len() + c.server.as_str().len() + COMMAND_BYTES).sum();
    let together = observed.known_dynamic && bytes <= MAX_MIXED_BYTES;
    let stages = if together {
        raises.append(&mut decreases);
        vec![raises]
    } else {
        vec![raises, decreases]
    };
    Plan { stages: stages.into_iter().filter(|stage| !stage.is_empty()).collect(), withheld }
}

/// Whether an active server would have a weight above 0 after the changes, with any health.
fn any_above_zero_after(accepted: &Desired, observed: &Observed) -> bool {
    observed
        .servers
        .iter()
        .filter(|s| !s.backup && !s.slot)
        .any(|s| !accepted.weights.get(&s.name).copied().unwrap_or(s.weight).is_zero())
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.server, self.from, self.to)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to do");
        }
        for (at, stage) in self.stages.iter().enumerate() {
            if at > 0 {
                f.write_str("; then ")?;
            }
            list(f, stage)?;
        }
        if let Some((why, changes)) = &self.withheld {
            if !self.stages.is_empty() {
                f.write_str("; ")?;
            }
            f.write_str("withheld: ")?;
            list(f, changes)?;
            write!(f, " ({why})")?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, changes: &[Change]) -> fmt::Result {
    for (at, change) in changes.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        fmt::Display::fmt(change, f)?;
    }
    Ok(())
}
