//! The transition of a tick, if there is one.

use super::{findings, progress, requests};
use crate::{
    desired::PatternShare,
    rollout::{
        Action, Event, EventKind, Latch, Mode, Now, Observations, Phase, Rollout, State, Transaction, Verb,
        memory::{Effect, Pending},
        observe::SpecSeen,
        request::Request,
        state::{Answered, WHY, short},
    },
};

/// Seconds between two messages about the same failure.
pub(super) const TELL_SECONDS: u64 = 300;

/// The transition that comes first in the order of a tick. What people are told without a transition is added to `actions`.
pub(super) fn decide(
    rollout: &mut Rollout,
    seen: &Observations,
    now: Now,
    actions: &mut Vec<Action>,
) -> Option<Pending> {
    if rollout.state.phase.is_final() {
        findings::tell(rollout, now, actions);
        return ended(rollout, seen, now);
    }
    let abort = requests::open(rollout, seen).filter(|request| matches!(request.verb, Verb::Abort { .. }));
    // The document of an abort is not foreign: it came in one transaction with the request.
    let wrote = abort.is_some_and(|request| {
        request.verb == Verb::Abort { wrote: true }
            && seen.document.is_split
            && seen.document.share == Some(rollout.state.back)
    });
    if !wrote && let Some(change) = document(rollout, seen, now) {
        return Some(change);
    }
    if let Some(request) = abort {
        return Some(aborted(rollout, seen, now, request, wrote));
    }
    if let Some(change) = findings::find(rollout, seen, now, actions) {
        return Some(change);
    }
    if let Some(requests::Answer { state, effect, event }) = requests::answer(rollout, seen) {
        return Some(Pending { effect, ..store(rollout, now, state, event) });
    }
    if let Some(change) = spec(rollout, seen, now) {
        return Some(change);
    }
    progress::progress(rollout, seen, now, actions)
}

/// A transition that writes the state alone.
pub(super) fn store(rollout: &Rollout, now: Now, state: State, event: Event) -> Pending {
    let state = numbered(rollout, now, state);
    let transaction = Transaction {
        attempt: 0,
        document: state.document.filter(|_| !rollout.state.phase.is_final()),
        write: None,
        obeys_freeze: false,
        ends: state.phase.is_final(),
        state,
    };
    Pending { transaction, events: vec![event], effect: Effect::None }
}

/// A transition that writes the document as well. The index of the document is that of the transaction.
pub(super) fn write(rollout: &Rollout, now: Now, state: State, share: PatternShare, event: Event) -> Pending {
    let state = State { document: None, share, ..numbered(rollout, now, state) };
    let transaction = Transaction {
        attempt: 0,
        document: Some(rollout.document()),
        write: Some(share),
        obeys_freeze: state.phase == Phase::Shift,
        ends: false,
        state,
    };
    Pending { transaction, events: vec![event], effect: Effect::None }
}

fn numbered(rollout: &Rollout, now: Now, state: State) -> State {
    let since = if state.phase == rollout.state.phase && state.step == rollout.state.step {
        rollout.state.since
    } else {
        now.wall
    };
    State { seq: rollout.state.seq + 1, since, ..state }
}

/// T(back): the document that goes back, and the phase in which the nodes apply it.
pub(super) fn back(rollout: &Rollout, seen: &Observations, now: Now, why: &str) -> Pending {
    let share = rollout.state.back;
    let why = short(why, WHY);
    let detail = format!("back to {} %: {why}", share.percent());
    let state = State { phase: Phase::RollingBack, why: Some(why), ..rollout.state.clone() };
    write(rollout, now, state, share, goes_back(seen, &detail))
}

/// The event of going back. Users that no weight moves are named.
fn goes_back(seen: &Observations, detail: &str) -> Event {
    let stays = seen.stays.as_ref().map(|users| format!("; may stay on the new side: {users}")).unwrap_or_default();
    Event::new(EventKind::RollingBack, format!("{detail}{stays}"))
}

/// A latch; none if it is latched already. A regression replaces a weaker reason: to go on after it costs the evidence.
pub(super) fn latch(rollout: &Rollout, now: Now, why: Latch, detail: &str) -> Option<Pending> {
    match rollout.state.latched {
        None => {}
        Some(Latch::Slo | Latch::Inconclusive) if why == Latch::Regression => {}
        Some(_) => return None,
    }
    let state = State { latched: Some(why), ..rollout.state.clone() };
    let detail = format!("{}: {detail}; resume or abort it", why.as_str());
    Some(store(rollout, now, state, Event::new(EventKind::Latched, detail)))
}

/// What a changed document means. A reading that is older than the state is stale and means nothing.
fn document(rollout: &Rollout, seen: &Observations, now: Now) -> Option<Pending> {
    let (state, found) = (&rollout.state, seen.document);
    if found.index == rollout.document() || (found.index != 0 && found.index < rollout.document()) {
        return None;
    }
    let people_move = state.mode != Mode::Auto;
    let adopted = State { document: Some(found.index), ..state.clone() };
    if found.share == Some(state.share) && (found.is_split || people_move) {
        let event =
            Event::new(EventKind::Adopted, format!("the same shares were written again, at index {}", found.index));
        return Some(store(rollout, now, adopted, event));
    }
    let no_share = || "a document without shares of the two sides".to_owned();
    let percent = found.share.map_or_else(no_share, |share| format!("{} %", share.percent()));
    match (state.phase, found.share) {
        (Phase::Queued | Phase::Preflight, share) => {
            let share = share.unwrap_or(state.share);
            let event = Event::new(EventKind::Adopted, format!("somebody wrote {percent}; preflight starts again"));
            let state = State { share, back: share, ..adopted };
            Some(Pending { effect: Effect::NewBaseline, ..store(rollout, now, state, event) })
        }
        (Phase::Bake, Some(share)) if people_move => {
            let event = Event::new(EventKind::Adopted, format!("somebody wrote {percent}; a new step begins"));
            let back = state.back.min(share);
            Some(store(rollout, now, State { share, back, step: state.step.saturating_add(1), ..adopted }, event))
        }
        _ => {
            let why = format!("somebody else wrote {percent} at index {}", found.index);
            let state = State { phase: Phase::TakenOver, why: Some(why.clone()), ..adopted };
            Some(store(rollout, now, state, Event::new(EventKind::TakenOver, why)))
        }
    }
}

fn aborted(rollout: &Rollout, seen: &Observations, now: Now, request: &Request, wrote: bool) -> Pending {
    let answered = Some(Answered { id: request.id.clone(), refused: None });
    let reason = request.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let why = short(&format!("{} aborted it{reason}", request.by), WHY);
    let state = State { answered, aborted: true, why: Some(why.clone()), ..rollout.state.clone() };
    // What the person wrote is the document from now on.
    let document = if wrote { Some(seen.document.index) } else { state.document };
    let back = state.back;
    match state.phase {
        Phase::RollingBack => {
            let (why, aborted) = (rollout.state.why.clone(), rollout.state.aborted);
            let state = State { document, why, aborted, ..state };
            store(rollout, now, state, Event::new(EventKind::Answered, "abort: it goes back already").by(&request.by))
        }
        Phase::Shift | Phase::Bake if wrote => {
            let state = State { phase: Phase::RollingBack, document, share: back, ..state };
            store(rollout, now, state, goes_back(seen, &why).by(&request.by))
        }
        Phase::Shift | Phase::Bake if state.share != back => {
            let state = State { phase: Phase::RollingBack, ..state };
            write(rollout, now, state, back, goes_back(seen, &why).by(&request.by))
        }
        _ => {
            let state = State { phase: Phase::RolledBack, document, ..state };
            store(rollout, now, state, Event::new(EventKind::RolledBack, why).by(&request.by))
        }
    }
}

fn spec(rollout: &Rollout, seen: &Observations, now: Now) -> Option<Pending> {
    if rollout.state.phase == Phase::RollingBack {
        return None;
    }
    match &seen.spec {
        SpecSeen::Same => None,
        SpecSeen::Changed => latch(rollout, now, Latch::SpecChanged, "the spec is not the one that was started"),
        SpecSeen::Unreadable(why) => latch(rollout, now, Latch::SpecChanged, why),
    }
}

/// An ended rollout answers requests, and no more.
fn ended(rollout: &Rollout, seen: &Observations, now: Now) -> Option<Pending> {
    let request = requests::open(rollout, seen)?;
    let refused = Some("the rollout has ended".to_owned());
    let state = State { answered: Some(Answered { id: request.id.clone(), refused }), ..rollout.state.clone() };
    let detail = format!("{}: refused: the rollout has ended", request.verb.as_str());
    let pending = store(rollout, now, state, Event::new(EventKind::Answered, detail).by(&request.by));
    Some(Pending { transaction: Transaction { ends: false, ..pending.transaction }, ..pending })
}
