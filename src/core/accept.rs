//! Whether desired weights may be enforced on this HAProxy: the guards.
//!
//! Owns the one decision that turns *desired* into *accepted*. Must never do I/O, never read a clock (the moment is an
//! argument) and never decide what to send: that is [`crate::plan`]'s.

use std::time::Duration;

use crate::{
    desired::Desired,
    model::{Moment, Weight},
    observed::{Observed, Server},
};

/// How long the servers that a guarded change shifts to must be usable without a break before the change is accepted by
/// itself, while other servers serve. Where no server serves, there is nothing to wait for.
pub const SETTLE: Duration = Duration::from_secs(10);

/// The decision on desired weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are enforced from now on.
    Accepted,
    /// They are guarded; what was accepted before stays in force.
    Guarded(Guarded),
    /// They name no server that this HAProxy has; what was accepted before stays in force.
    Unmatched,
}

/// Why desired weights are not accepted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// Which guard.
    pub guard: Guard,
    /// Since when the servers that it shifts to have been usable, if they are: [`SETTLE`] later it is accepted.
    pub usable_since: Option<Moment>,
}

/// The guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Guard {
    /// Every server of the backend would be at 0. Only `force` permits that.
    #[error("every server of the backend would be at weight 0")]
    AllZero,
    /// None of the servers that would be above 0 is usable.
    #[error("no usable server of the backend would be above weight 0")]
    NoUsableServer,
    /// The servers came back, and count only after [`SETTLE`].
    #[error("the servers it shifts to have been usable for less than 10 s")]
    Settling,
}

impl Guard {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::AllZero => "give a server that this HAProxy has a weight above 0, or set it with --force",
            Self::NoUsableServer => {
                "start a server that gets a weight above 0 (the change is accepted by itself 10 s later), or set it with --force"
            }
            Self::Settling => "nothing: the change is accepted by itself",
        }
    }
}

/// Decides whether `desired` may be enforced on the backend that `observed` shows.
///
/// `accepted` is what is enforced until now. `before` is set if the same document was guarded at the last decision: then
/// it is accepted only after its servers were usable for [`SETTLE`].
pub fn accept(
    desired: &Desired,
    accepted: Option<&Desired>,
    observed: &Observed,
    before: Option<Guarded>,
    now: Moment,
) -> Verdict {
    // What was accepted is enforced without a new decision, also in a new process with unknown health.
    if desired.force || accepted == Some(desired) {
        return Verdict::Accepted;
    }
    // Servers that are not there cannot be judged; when they appear, they may be down.
    if !observed.servers.iter().any(|s| desired.weights.contains_key(&s.name)) {
        return Verdict::Unmatched;
    }
    // The same weights from another document are no change where HAProxy has them. Weights that needed force need it
    // again.
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
    // In a new process the observed weights are the configured ones until the accepted ones are back in force; "already
    // above 0" must not be taken from them.
    let already = |server: &Server| {
        accepted.and_then(|a| a.weights.get(&server.name)).copied().unwrap_or(server.weight) > Weight::ZERO
    };
    let serves = |server: &Server| !after(server).is_zero() && server.usable(already(server));
    (!observed.servers.iter().any(serves)).then_some(Guard::NoUsableServer)
}
