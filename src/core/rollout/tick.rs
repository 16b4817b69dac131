//! The decision about a rollout.

mod decide;
mod feed;
mod findings;
mod progress;
mod requests;
mod settle;

use super::{Action, Evidence, Now, Observations, Phase, Rollout, Shown};

/// Seconds between two values of the evidence, while nothing happens and while somebody watches.
const PERSIST_SECONDS: (u64, u64) = (60, 10);
/// Seconds between two values of the evidence at least.
const AT_ONCE_SECONDS: u64 = 2;

/// One step of a rollout: what it is afterwards, and what is to be done.
///
/// The order within a tick: foreign document, abort, HARD, SEVERE, verdict, other requests, holds, advance. A transition is
/// proposed as one transaction and counts when it was answered; while one is under way, no other is proposed.
#[must_use]
pub fn tick(mut rollout: Rollout, seen: &Observations, now: Now) -> (Rollout, Vec<Action>) {
    if !seen.leader {
        return (rollout, Vec::new());
    }
    let mut actions = Vec::new();
    settle::settle(&mut rollout, seen, now, &mut actions);
    feed::feed(&mut rollout, seen, now);
    if rollout.memory.pending.is_none()
        && let Some(mut change) = decide::decide(&mut rollout, seen, now, &mut actions)
    {
        rollout.memory.attempts += 1;
        change.transaction.attempt = rollout.memory.attempts;
        actions.push(Action::Transact(Box::new(change.transaction.clone())));
        rollout.memory.pending = Some(Box::new(change));
    }
    rollout.memory.shown = Shown::of(&rollout, seen, now);
    if let Some(evidence) = persist(&mut rollout, seen, now) {
        actions.push(Action::Persist(Box::new(evidence)));
    }
    (rollout, actions)
}

/// The evidence, where it is to be written: once a minute, at once when it doubled or another reason holds, more often while
/// somebody watches.
fn persist(rollout: &mut Rollout, seen: &Observations, now: Now) -> Option<Evidence> {
    if !matches!(rollout.state.phase, Phase::Preflight | Phase::Shift | Phase::Bake) {
        return None;
    }
    let (pause, watched) = PERSIST_SECONDS;
    let shown = &rollout.memory.shown;
    let due = rollout.memory.persisted.as_ref().is_none_or(|(at, before)| {
        let seconds = now.moment.since(*at).as_secs();
        seconds >= if seen.watched { watched } else { pause } || (before.differs(shown) && seconds >= AT_ONCE_SECONDS)
    });
    if !due {
        return None;
    }
    let evidence = Evidence { shown: shown.clone(), ..rollout.evidence() };
    rollout.memory.persisted = Some((now.moment, evidence.shown.clone()));
    Some(evidence)
}
