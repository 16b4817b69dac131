//! How a rollout goes on by itself.

use super::decide::{latch, store, write};
use crate::{
    judge::{self, Advance},
    rollout::{
        Action, Event, EventKind, Holding, Latch, Mode, Now, Observations, Phase, Rollout, State, holding::holding,
        memory::Pending,
    },
};

/// Seconds for which nodes that are late are waited for before they are named.
const LATE_SECONDS: u64 = 60;

/// The next transition; none while something holds.
pub(super) fn progress(
    rollout: &mut Rollout,
    seen: &Observations,
    now: Now,
    actions: &mut Vec<Action>,
) -> Option<Pending> {
    let phase_seconds = now.moment.since(rollout.memory.entered).as_secs();
    // Sessions on `to` end at the latest with `timeout server`.
    rollout.memory.waited_for_sessions = seen.timeout_server.is_some_and(|seconds| phase_seconds >= seconds);
    let reasons = holding(rollout, seen);
    tell(rollout, &reasons, now, actions);
    match rollout.state.phase {
        Phase::Queued if reasons.is_empty() => {
            let state = State { phase: Phase::Preflight, ..rollout.state.clone() };
            Some(store(rollout, now, state, Event::new(EventKind::Started, "preflight")))
        }
        Phase::Preflight if reasons.is_empty() => Some(begin(rollout, now)),
        Phase::Shift => {
            let document = rollout.document();
            let applied = seen.document.index == document
                && seen.counting().next().is_some()
                && seen.not_applied(document).is_empty();
            applied.then(|| {
                let state = State { phase: Phase::Bake, ..rollout.state.clone() };
                let detail = format!("all nodes have {} %", rollout.state.share.percent());
                store(rollout, now, state, Event::new(EventKind::Applied, detail))
            })
        }
        Phase::Bake if rollout.state.mode == Mode::Auto => bake(rollout, &reasons, now),
        Phase::RollingBack => {
            let document = rollout.document();
            let gone_back = seen.document.index == document && seen.not_gone_back(document).is_empty();
            (gone_back || phase_seconds >= LATE_SECONDS).then(|| {
                let late = seen.not_applied(document);
                let mut detail = format!("back at {} %", rollout.state.share.percent());
                if !late.is_empty() {
                    let names = crate::reasons::list(late.iter().map(crate::fleet::NodeName::as_str));
                    detail = format!("{detail}; not applied on {names}");
                }
                let late = late.into_iter().take(State::MAX_LATE).collect();
                let state = State { phase: Phase::RolledBack, late, ..rollout.state.clone() };
                store(rollout, now, state, Event::new(EventKind::RolledBack, detail))
            })
        }
        _ => None,
    }
}

/// The end of preflight.
fn begin(rollout: &Rollout, now: Now) -> Pending {
    if rollout.state.mode == Mode::Auto {
        return raise(rollout, now);
    }
    let state = State { phase: Phase::Bake, step: 1, ..rollout.state.clone() };
    let detail = format!("judging at {} %", rollout.state.share.percent());
    store(rollout, now, state, Event::new(EventKind::Started, detail))
}

/// The next step, or the end.
fn raise(rollout: &Rollout, now: Now) -> Pending {
    let next = rollout.next_step().and_then(|next| Some((next, rollout.spec.step(next)?.share)));
    let Some((step, share)) = next else {
        let state = State { phase: Phase::Done, ..rollout.state.clone() };
        let detail = format!("done at {} %", rollout.state.share.percent());
        return store(rollout, now, state, Event::new(EventKind::Done, detail));
    };
    let state = State { phase: Phase::Shift, step, ..rollout.state.clone() };
    let detail = format!("step {step}: {} %", share.percent());
    write(rollout, now, state, share, Event::new(EventKind::Advanced, detail))
}

fn bake(rollout: &Rollout, reasons: &[Holding], now: Now) -> Option<Pending> {
    let ready = reasons.iter().all(Holding::is_evidence);
    match judge::advance(&rollout.bake(ready)) {
        Advance::Advance => Some(raise(rollout, now)),
        Advance::Hold if ready => {
            let why: Vec<_> = reasons.iter().map(Holding::to_string).collect();
            latch(rollout, now, Latch::Inconclusive, &why.join("; "))
        }
        Advance::Hold | Advance::Wait => None,
    }
}

/// A reason that lasts for a minute is told once; an approval at once.
fn tell(rollout: &mut Rollout, reasons: &[Holding], now: Now, actions: &mut Vec<Action>) {
    let bake_is_full = rollout.memory.good >= rollout.bake_seconds();
    let waits = |reason: &Holding| match reason {
        // They are told by the transition, or are no trouble.
        Holding::Paused(_) | Holding::Latched(_) | Holding::Baseline(..) | Holding::Queued => false,
        Holding::Approval(_) => bake_is_full || rollout.state.phase == Phase::Preflight,
        // A check needs its warm-up and a window in each step. It is trouble only if it keeps the step from its end.
        Holding::Unmeasured(_) => bake_is_full,
        reason => !reason.is_evidence(),
    };
    let waiting: Vec<&Holding> = reasons.iter().filter(|reason| waits(reason)).collect();
    let held = &mut rollout.memory.held;
    held.retain(|word, _| waiting.iter().any(|reason| reason.word() == *word));
    for reason in waiting {
        let (since, told) = held.entry(reason.word()).or_insert((now.moment, false));
        let is_approval = matches!(reason, Holding::Approval(_));
        if !*told && (is_approval || now.moment.since(*since).as_secs() >= LATE_SECONDS) {
            *told = true;
            let kind = if is_approval { EventKind::Approval } else { EventKind::Holding };
            actions.push(Action::Tell(Event::new(kind, reason.to_string())));
        }
    }
}
