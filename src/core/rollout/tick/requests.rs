//! The requests of people: pause, resume, promote, approve, mode. Abort comes earlier.

use crate::rollout::{
    Event, EventKind, Latch, Mode, Phase, Rollout, State, Verb,
    memory::Effect,
    observe::{Observations, SpecSeen},
    request::Request,
    state::{Answered, Paused},
};

/// The answer to a request: the next state, and what happens to the evidence.
pub(super) struct Answer {
    pub(super) state: State,
    pub(super) effect: Effect,
    pub(super) event: Event,
}

/// A request that was not answered.
pub(super) fn open<'s>(rollout: &Rollout, seen: &'s Observations) -> Option<&'s Request> {
    let is_open = |request: &&Request| {
        request.rollout == rollout.spec.id
            && rollout.state.answered.as_ref().is_none_or(|answered| answered.id != request.id)
    };
    seen.request.as_ref().filter(is_open)
}

/// An approval that was not answered.
fn open_approval<'s>(rollout: &Rollout, seen: &'s Observations) -> Option<&'s Request> {
    let is_open = |request: &&Request| {
        request.rollout == rollout.spec.id
            && rollout.state.approval.as_ref().is_none_or(|answered| answered.id != request.id)
    };
    seen.approval.as_ref().filter(is_open)
}

/// The answer to the request or the approval that is open; none if there is none.
pub(super) fn answer(rollout: &Rollout, seen: &Observations) -> Option<Answer> {
    if let Some(request) = open(rollout, seen) {
        let done = if request.verb == Verb::Approve {
            Err("an approval is written to its own key".to_owned())
        } else {
            apply(rollout, seen, request)
        };
        return Some(answered(rollout, request, done, false));
    }
    let approval = open_approval(rollout, seen)?;
    let done = if approval.verb == Verb::Approve {
        apply(rollout, seen, approval)
    } else {
        Err("this key is for approvals".to_owned())
    };
    Some(answered(rollout, approval, done, true))
}

fn answered(rollout: &Rollout, request: &Request, done: Result<(State, Effect), String>, approval: bool) -> Answer {
    let (verb, by) = (request.verb.as_str(), &request.by);
    let (mut state, effect, refused) = match done {
        Ok((state, effect)) => (state, effect, None),
        Err(why) => (rollout.state.clone(), Effect::None, Some(why)),
    };
    let detail = match &refused {
        None if effect == Effect::Restart => {
            format!("{verb}: done; the evidence starts anew, with another 1 % of false verdicts")
        }
        None => format!("{verb}: done"),
        Some(why) => format!("{verb}: refused: {why}"),
    };
    let answered = Some(Answered { id: request.id.clone(), refused });
    if approval {
        state.approval = answered;
    } else {
        state.answered = answered;
    }
    Answer { state, effect, event: Event::new(EventKind::Answered, detail).by(by) }
}

/// The state after a request.
fn apply(rollout: &Rollout, seen: &Observations, request: &Request) -> Result<(State, Effect), String> {
    let (mut state, mut effect) = (rollout.state.clone(), Effect::None);
    if state.phase == Phase::RollingBack {
        return Err("it goes back already".to_owned());
    }
    if request.verb.needs_same_state() && request.at != state.seq {
        return Err(format!("the rollout has changed since: it was at {}, it is at {}", request.at, state.seq));
    }
    match &request.verb {
        Verb::Pause => state.paused = Some(Paused { by: request.by.clone(), reason: request.reason.clone() }),
        Verb::Resume => {
            if seen.spec != SpecSeen::Same {
                return Err("the spec was changed; abort it and start a new rollout".to_owned());
            }
            if state.paused.is_none() && state.latched.is_none() {
                return Err("it is not paused and does not wait".to_owned());
            }
            effect = match state.latched {
                Some(Latch::Regression) => Effect::Restart,
                Some(Latch::Slo) => Effect::ResumeSlo,
                Some(Latch::Inconclusive) => Effect::Extend,
                Some(Latch::SpecChanged) | None => Effect::None,
            };
            (state.paused, state.latched) = (None, None);
        }
        Verb::Promote if state.phase != Phase::Bake => return Err("there is no bake to end".to_owned()),
        Verb::Promote if state.mode != Mode::Auto => return Err("only mode auto has a bake that ends".to_owned()),
        Verb::Promote => state.promoted = Some(state.step),
        Verb::Approve => {
            let next = rollout.next_step().ok_or("there is no next step")?;
            state.approved = Some(next);
        }
        Verb::Mode { mode: Mode::Auto } if rollout.spec.plan.steps.is_empty() => {
            return Err("the rollout has no plan".to_owned());
        }
        Verb::Mode { mode: Mode::Auto } if rollout.spec.plan.is_blind() => {
            return Err("HAProxy sees no failed answers of this protocol, and the plan has no named check".to_owned());
        }
        Verb::Mode { mode } => {
            // The next step is the first one above the present share.
            if *mode == Mode::Auto && state.mode != Mode::Auto && state.phase == Phase::Bake {
                let steps = u32::try_from(rollout.spec.plan.steps.len()).unwrap_or(u32::MAX);
                state.step = rollout.next_step().map_or(steps, |next| next.saturating_sub(1));
            }
            state.mode = *mode;
        }
        Verb::Abort { .. } => return Err("it ended".to_owned()),
    }
    Ok((state, effect))
}
