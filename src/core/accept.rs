//! Whether a desired state may be enforced here: the guards.
//!
//! Owns the one decision that turns *desired* into *accepted*. Must never do I/O, never read a clock (the
//! moment is an argument) and never send anything: what an accepted state changes is [`crate::plan`]'s.

use std::time::Duration;

use crate::{
    desired::Desired,
    model::{Moment, Weight},
    observed::{Observed, Server},
};

/// How long the side that a guarded change shifts to must be usable without a break before the change is
/// accepted by itself, while something else serves. Where nothing does there is nothing to wait for.
pub const SETTLE: Duration = Duration::from_secs(10);

/// What became of a desired state on this HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what is enforced from now on.
    Accepted,
    /// It is not; what was accepted before stays in force.
    Guarded(Guarded),
    /// It names no server that this HAProxy has; what was accepted before stays in force.
    Unmatched,
}

/// A desired state that is being kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// Why.
    pub guard: Guard,
    /// Since when its side has been usable, if it is: [`SETTLE`] later it is accepted.
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
    /// The side came back, and is not trusted before [`SETTLE`] has passed.
    #[error("the servers it shifts to have been usable for less than 10 s")]
    Settling,
}

impl Guard {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::AllZero => "give a server that this HAProxy has a weight above 0, or set it with --force",
            Self::NoUsableServer => {
                "bring up a server that gets a weight above 0 (it is accepted by itself once usable for 10 s), or set it with --force"
            }
            Self::Settling => "nothing: it is accepted by itself",
        }
    }
}

/// Decides whether `desired` may be enforced on the backend that `observed` shows.
///
/// `accepted` is what is enforced until now. `before` is set if the very same document was guarded when this was last
/// asked: then it is accepted only once its side was usable for [`SETTLE`].
pub fn accept(
    desired: &Desired,
    accepted: Option<&Desired>,
    observed: &Observed,
    before: Option<Guarded>,
    now: Moment,
) -> Verdict {
    // What was accepted is enforced without a new decision, also in a new process that knows no health yet.
    if desired.force || accepted == Some(desired) {
        return Verdict::Accepted;
    }
    // Nothing can be decided of servers that are not there; once they are, they may be down.
    if !observed.servers.iter().any(|s| desired.weights.contains_key(&s.name)) {
        return Verdict::Unmatched;
    }
    // The same weights again, for another reason or from another key, are no change where HAProxy has them. Those that needed
    // force need it again.
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
    // In a new process the weights observed are the configuration's until what was accepted is back in
    // force; "above 0 already" must not be read from them.
    let already = |server: &Server| {
        accepted.and_then(|a| a.weights.get(&server.name)).copied().unwrap_or(server.weight) > Weight::ZERO
    };
    let serves = |server: &Server| !after(server).is_zero() && server.usable(already(server));
    (!observed.servers.iter().any(serves)).then_some(Guard::NoUsableServer)
}
