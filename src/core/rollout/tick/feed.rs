//! Counts become evidence.

use std::collections::BTreeMap;

use super::settle::first_block;
use crate::{
    fleet::NodeName,
    judge::{BLOCK_SECONDS, Cell, ERRORS, Judge, SLOT_SECONDS, cell::ordinary, verdict::Block},
    rollout::{
        Mode, Now, Observations, Phase, Rollout,
        blocks::{Merged, ReadyBlock},
        holding::{Holding, holding},
        memory::{Memory, Paid},
        shown, source,
    },
};

/// Takes everything that was published since the last tick.
pub(super) fn feed(rollout: &mut Rollout, seen: &Observations, now: Now) {
    let wall = now.wall.seconds();
    sources(rollout, seen);
    let memory = &mut rollout.memory;
    // A clock that is fast would push the slots of all other nodes out of the windows.
    for slot in seen.slots.iter().filter(|slot| slot.slot <= wall / SLOT_SECONDS + 1) {
        memory.windows.slot(slot);
    }
    for block in seen.blocks.iter().filter(|block| block.block <= wall / BLOCK_SECONDS) {
        memory.blocks.publish(block);
    }
    applied(rollout, seen, wall);
    while let Some(ready) = rollout.memory.blocks.ready(&seen.nodes, wall) {
        rollout.memory.windows.block(ready.block, &ready.parts);
        match rollout.state.phase {
            Phase::Queued | Phase::Preflight => baseline(rollout, &ready),
            Phase::Bake => bake(rollout, seen, ready),
            _ => {}
        }
    }
    rollout.memory.no_control = rollout.memory.no_control_until > wall;
}

/// A step begins when all counting nodes have its document.
fn applied(rollout: &mut Rollout, seen: &Observations, wall: u64) {
    let document = rollout.document();
    if rollout.state.phase == Phase::Bake
        && rollout.memory.first_block.is_none()
        && seen.document.index == document
        && seen.not_applied(document).is_empty()
    {
        rollout.memory.first_block = Some(first_block(wall));
    }
}

/// Named checks: each window counts once, as one cell of the next block, if it began after all nodes had the document of the
/// step, as a block does. A check that was never answered has no data.
fn sources(rollout: &mut Rollout, seen: &Observations) {
    let protocol = rollout.spec.plan.protocol;
    let Memory { silent_sources, source_blocks, source_cells, raised_at, first_block, windows, .. } =
        &mut rollout.memory;
    for (name, check) in &rollout.spec.plan.named {
        let answer = match seen.sources.get(name) {
            Some(answer) => answer.as_ref().map_err(Clone::clone),
            None if source_blocks.contains_key(name) => continue,
            None => Err("it was not answered yet".to_owned()),
        };
        // A metrics system that counts something else than HAProxy says nothing of this backend.
        let agreed = answer.and_then(|answer| {
            let counted = windows.counted(answer.block, answer.covers).filter(|_| protocol.shows_failures());
            let differs = counted.and_then(|counted| source::answer::agrees(&answer.cell, &counted).err());
            differs.map_or(Ok(answer), |differs| Err(differs.to_string()))
        });
        match agreed {
            Err(why) => {
                silent_sources.insert(name.clone(), why);
            }
            Ok(answer) => {
                silent_sources.remove(name);
                let newest = source_blocks.entry(name.clone()).or_default();
                let warm = raised_at.is_none_or(|at| answer.block * BLOCK_SECONDS >= at + check.warm_up.seconds());
                let applied = first_block.is_some_and(|first| answer.block >= first);
                if answer.block > *newest && applied && warm {
                    *newest = answer.block;
                    source_cells.entry(name.clone()).or_default().push(answer.cell);
                }
            }
        }
    }
}

/// Before `to` has a share: the errors of `from`, their dispersion, and how long the baseline is.
fn baseline(rollout: &mut Rollout, ready: &ReadyBlock) {
    if ready.parts.is_empty() {
        return;
    }
    rollout.memory.good += BLOCK_SECONDS;
    let mut sums = BTreeMap::<&str, Cell>::new();
    for part in ready.parts.iter().filter(|part| !part.marks.any()) {
        for (check, cell) in &part.cells {
            let sum = sums.entry(check).or_default();
            *sum = sum.plus(*cell);
        }
    }
    let most = usize::try_from(rollout.baseline_seconds() / BLOCK_SECONDS).unwrap_or(usize::MAX).max(1);
    let before = &mut rollout.memory.before;
    before.push_back(sums.get(ERRORS).map_or((0, 0), |cell| (cell.from.n, cell.from.e)));
    before.drain(..before.len().saturating_sub(most));
    for (check, cell) in sums {
        if cell.from.n > 0 {
            let errors = f64::from(u32::try_from(cell.from.e).unwrap_or(u32::MAX)).min(ordinary(cell.from.n));
            rollout.judge.baseline(check, errors);
        }
    }
}

/// A block of a bake.
fn bake(rollout: &mut Rollout, seen: &Observations, mut ready: ReadyBlock) {
    let Some(first) = rollout.memory.first_block else { return };
    ready.parts.retain(|part| part.begins() >= first);
    if ready.block < first {
        return;
    }
    let document = rollout.document();
    let memory = &mut rollout.memory;
    for part in &ready.parts {
        let (all, to) = memory.reached.entry(part.source.node.clone()).or_default();
        *all = all.saturating_add(part.all);
        *to = to.saturating_add(part.to.started);
    }
    let out: Vec<NodeName> = seen
        .nodes
        .iter()
        .filter(|(name, node)| node.clock_off || node.applied < document || memory.blocks.is_late(name))
        .map(|(name, _)| name.clone())
        .collect();
    let Some(merged) = memory.blocks.merge(&ready, |node| out.contains(node)) else { return };
    judge(rollout, ready.block, merged, seen);
}

/// One block of the judge.
fn judge(rollout: &mut Rollout, block: u64, mut merged: Merged, seen: &Observations) {
    for (name, cells) in std::mem::take(&mut rollout.memory.source_cells) {
        merged.cells.insert(name, cells);
    }
    let share = rollout.state.share.percent();
    let Rollout { judge, memory, .. } = rollout;
    let Memory { paid, raised, control, .. } = memory;
    let cells: Block<'_> = merged.cells.iter().map(|(name, cells)| (name.as_str(), cells.as_slice())).collect();
    *control = cells.get(ERRORS).is_some_and(|cells| cells.iter().any(|cell| cell.from.n > 0));
    for (check, cells) in &cells {
        shown::add(&mut memory.counted, check, cells);
    }
    Judge::block_with(judge, &cells, *raised, share, merged.seconds, |check, bet| {
        if let Some(tally) = bet.tally.filter(|tally| tally.observed > tally.allowed) {
            let (observed, allowed) = (tally.observed, tally.allowed);
            paid.push(Paid { block, check: check.to_owned(), observed, allowed });
        }
    });
    *raised = false;
    let more = paid.len().saturating_sub(Memory::MAX_PAID);
    paid.drain(..more);
    good(rollout, merged.seconds, seen);
}

/// Good seconds grow by the length of the block. While a gate other than evidence is closed they stop at the length of the
/// bake, so that it does not latch.
fn good(rollout: &mut Rollout, seconds: u64, seen: &Observations) {
    let grown = rollout.memory.good.saturating_add(seconds);
    let is_closed = rollout.state.mode != Mode::Auto || !holding(rollout, seen).iter().all(Holding::is_evidence);
    let most = if is_closed { rollout.bake_seconds().max(rollout.memory.good) } else { u64::MAX };
    rollout.memory.good = grown.min(most);
}
