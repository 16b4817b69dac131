//! What became of the last transaction.

use crate::{
    judge::BLOCK_SECONDS,
    rollout::{
        Action, Now, Observations, Phase, Rollout,
        memory::{Effect, Pending},
        observe::Answer,
    },
};

/// Adopts the transition whose transaction was answered.
pub(super) fn settle(rollout: &mut Rollout, seen: &Observations, now: Now, actions: &mut Vec<Action>) {
    let Some((attempt, answer)) = seen.answer else { return };
    let Some(pending) = rollout.memory.pending.take_if(|pending| pending.transaction.attempt == attempt) else {
        return;
    };
    let Answer::Applied(index) = answer else { return };
    let Pending { transaction, events, effect } = *pending;
    let before = std::mem::replace(&mut rollout.state, transaction.state);
    rollout.state.document.get_or_insert(index);
    let memory = &mut rollout.memory;
    let wall = now.wall.seconds();
    if (before.phase, before.step) != (rollout.state.phase, rollout.state.step) {
        memory.entered = now.moment;
    }
    let share = rollout.state.share;
    if rollout.state.step != before.step || before.share != share {
        memory.begin_step();
        memory.raised_at = Some(wall);
        memory.windows.want(share.percent(), wall);
        memory.raised |= share > before.share;
    }
    // A rollout of people begins with the share that they gave.
    if before.phase == Phase::Preflight && rollout.state.phase.is_moving() {
        memory.begin_step();
        memory.raised_at.get_or_insert(wall);
        memory.windows.want(share.percent(), wall);
        memory.raised = true;
    }
    match effect {
        Effect::None => {}
        Effect::Restart => rollout.judge.restart(),
        Effect::ResumeSlo => rollout.judge.resume_slo(),
        Effect::Extend => {
            let bake = rollout.bake_seconds();
            rollout.memory.good = rollout.memory.good.min(bake);
        }
        Effect::NewBaseline => {
            rollout.memory.good = 0;
            rollout.memory.before.clear();
            rollout.memory.blocks.drop_merging();
        }
    }
    // The evidence goes with the step, so that a new leader does not count it for another one.
    if (before.phase, before.step) != (rollout.state.phase, rollout.state.step) {
        rollout.memory.persisted = None;
    }
    actions.extend(events.into_iter().map(Action::Tell));
}

/// The first block that begins at this time or later.
pub(super) fn first_block(wall: u64) -> u64 {
    wall.div_ceil(BLOCK_SECONDS)
}
