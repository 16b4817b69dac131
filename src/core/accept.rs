//! The guards: they decide whether the desired weights may be enforced on this HAProxy.
//!
//! Owns the decision that turns *desired* into *accepted*. Must not do I/O, must not read a clock (the moment is an
//! argument), and must not decide what to send: [`crate::plan`] owns that.

use std::time::Duration;

use crate::{
    desired::Desired,
    model::{Moment, Weight},
    observed::{Observed, Server},
};

/// weightd accepts a guarded change automatically after its target servers were continuously usable for this time. If
/// no other server serves, it accepts the change without the wait.
pub const SETTLE: Duration = Duration::from_secs(10);

/// The decision on desired weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The weights are accepted: they are enforced from now on.
    Accepted,
    /// A guard rejects the weights for now. The accepted weights stay in force.
    Guarded(Guarded),
    /// This HAProxy has none of the named servers. The accepted weights stay in force.
    Unmatched,
}

/// The guard that rejects the desired weights for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// The guard.
    pub guard: Guard,
    /// When the target servers became usable; none if they are not. The change is accepted [`SETTLE`] later.
    pub usable_since: Option<Moment>,
}

/// The guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Guard {
    /// All servers of the backend would have weight 0. Only `force` permits that.
    #[error("all servers of the backend would have weight 0")]
    AllZero,
    /// No server with a weight above 0 would be usable.
    #[error("no usable server of the backend would have a weight above 0")]
    NoUsableServer,
    /// The target servers became usable less than [`SETTLE`] ago.
    #[error("the servers that the change shifts traffic to have been usable for less than 10 s")]
    Settling,
}

impl Guard {
    /// Returns the fix, for hints.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::AllZero => "set a weight above 0 for a server that this HAProxy has, or use --force",
            Self::NoUsableServer => {
                "start a server that gets a weight above 0 (weightd accepts the change 10 s later), or use --force"
            }
            Self::Settling => "nothing: weightd accepts the change automatically",
        }
    }
}

/// Decides whether `desired` may be enforced on the backend in `observed`.
///
/// `accepted` are the weights that are enforced now. `before` is set if the same document was guarded at the last
/// decision. Then it is accepted only after its target servers were usable for [`SETTLE`].
pub fn accept(
    desired: &Desired,
    accepted: Option<&Desired>,
    observed: &Observed,
    before: Option<Guarded>,
    now: Moment,
) -> Verdict {
    // Accepted weights are enforced without a new decision, also in a new process with unknown health.
    if desired.force || accepted == Some(desired) {
        return Verdict::Accepted;
    }
    // The health of missing servers is unknown. They may be down when they appear.
    if !observed.servers.iter().any(|s| desired.weights.contains_key(&s.name)) {
        return Verdict::Unmatched;
    }
    // If HAProxy has the weights already, another document with the same weights changes nothing. Weights that needed
    // `force` need it again.
    let in_force = || observed.servers.iter().all(|s| desired.weights.get(&s.name).is_none_or(|w| *w == s.weight));
    if accepted.is_some_and(|a| a.weights == desired.weights && !a.force) && in_force() {
        return Verdict::Accepted;
    }
    if let Some(guard) = guard(desired, accepted, observed) {
        return Verdict::Guarded(Guarded { guard, usable_since: None });
    }
    let Some(before) = before.filter(|_| observed.any_serving()) else { return Verdict::Accepted };
    let since = before.usable_since.unwrap_or(now);
    if now.since(since) >= SETTLE {
        Verdict::Accepted
    } else {
        Verdict::Guarded(Guarded { guard: Guard::Settling, usable_since: Some(since) })
    }
}

fn guard(desired: &Desired, accepted: Option<&Desired>, observed: &Observed) -> Option<Guard> {
    let after = |server: &Server| desired.weights.get(&server.name).copied().unwrap_or(server.weight);
    if observed.servers.iter().all(|s| after(s).is_zero()) {
        return Some(Guard::AllZero);
    }
    // In a new process the observed weights are the configured ones until the accepted ones are set again. So "already
    // above 0" must come from the accepted weights.
    let already = |server: &Server| {
        accepted.and_then(|a| a.weights.get(&server.name)).copied().unwrap_or(server.weight) > Weight::ZERO
    };
    let serves = |server: &Server| !after(server).is_zero() && server.usable(already(server));
    (!observed.servers.iter().any(serves)).then_some(Guard::NoUsableServer)
}
