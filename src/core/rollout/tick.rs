//! The decision about a rollout.

mod decide;
mod feed;
mod findings;
mod progress;
mod requests;
mod settle;

use super::{Action, Evidence, Now, Observations, Phase, Rollout};

/// Seconds between two values of the evidence, while nothing happens and while somebody watches.
const PERSIST_SECONDS: (u64, u64) = (60, 10);

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
    if let Some(evidence) = persist(&mut rollout, seen, now) {
        actions.push(Action::Persist(Box::new(evidence)));
    }
    (rollout, actions)
}

/// The evidence, where it is to be written: once a minute, at once when it doubled, more often while somebody watches.
fn persist(rollout: &mut Rollout, seen: &Observations, now: Now) -> Option<Evidence> {
    if !matches!(rollout.state.phase, Phase::Shift | Phase::Bake) {
        return None;
    }
    let total = rollout.judge.total();
    let pause = if seen.watched { PERSIST_SECONDS.1 } else { PERSIST_SECONDS.0 };
    let pending = match rollout.memory.persisted {
        None => true,
        Some((at, before)) => {
            let seconds = now.moment.since(at).as_secs();
            seconds >= pause || (total >= 2.0 * before && total > 1.0)
        }
    };
    if !pending {
        return None;
    }
    rollout.memory.persisted = Some((now.moment, total));
    Some(Evidence {
        rollout: rollout.spec.id.clone(),
        step: rollout.state.step,
        block: rollout.memory.blocks.last(),
        good: rollout.memory.good,
        raised: rollout.memory.raised,
        judge: rollout.judge.state(),
    })
}
