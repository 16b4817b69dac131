//! How a person takes a rollout back, with or without a controller.

use super::{
    Mode, Phase, Request, Spec, State, Verb,
    observe::DocumentSeen,
    state::{Answered, WHY, short},
};
use crate::{desired::PatternShare, model::Timestamp};

/// What an abort has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abort {
    /// There is no rollout.
    Nothing,
    /// It has ended.
    Ended,
    /// It has not begun: the spec is deleted.
    Withdraw,
    /// Ask the controller: nothing may be written.
    Ask(WhyAsk),
    /// Write the split that gives `to` this share, with the request in the same transaction.
    Write(PatternShare),
}

/// Why the document is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyAsk {
    /// The share is the one at the start.
    NotMoved,
    /// It goes back already.
    GoesBack,
    /// Somebody else wrote the document: it is not overwritten.
    Foreign,
    /// The spec is not the one of the rollout, so that the sides are not known.
    SpecChanged,
}

/// What an abort has to do.
pub fn abort(spec: Option<&Spec>, state: Option<&State>, document: DocumentSeen) -> Abort {
    let state = match (state, spec) {
        (Some(state), _) if !state.phase.is_final() => state,
        (Some(state), Some(spec)) if state.id == spec.id => return Abort::Ended,
        (_, Some(_)) => return Abort::Withdraw,
        (Some(_), None) => return Abort::Ended,
        (None, None) => return Abort::Nothing,
    };
    if spec.is_none_or(|spec| spec.id != state.id) {
        return Abort::Ask(WhyAsk::SpecChanged);
    }
    match state.phase {
        Phase::Queued | Phase::Preflight => return Abort::Ask(WhyAsk::NotMoved),
        Phase::RollingBack => return Abort::Ask(WhyAsk::GoesBack),
        _ => {}
    }
    let own = Some(document.index) == state.document || (document.share == Some(state.share) && document.is_split);
    let share = match (state.mode, document.share) {
        _ if own => state.share,
        // There people move the share.
        (Mode::Watch | Mode::Guard, Some(share)) => share,
        _ => return Abort::Ask(WhyAsk::Foreign),
    };
    if share <= state.back { Abort::Ask(WhyAsk::NotMoved) } else { Abort::Write(state.back) }
}

/// The end of a rollout whose spec is gone or cannot be read, if a person aborts it; none if nobody does. Its sides are not
/// known, so no document is written: the weights stay as they are.
pub fn close(state: &State, request: &Request, now: Timestamp) -> Option<State> {
    let Verb::Abort { wrote } = request.verb else { return None };
    let answered = state.answered.as_ref().is_some_and(|answered| answered.id == request.id);
    if state.phase.is_final() || answered || request.rollout != state.id {
        return None;
    }
    let reason = request.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    // The document of the abort went back in one transaction with the request.
    let is_back = wrote || state.share <= state.back;
    let (phase, share, end) = if is_back {
        (Phase::RolledBack, state.back, "")
    } else {
        (Phase::TakenOver, state.share, "; its spec cannot be read, so the weights stay as they are")
    };
    Some(State {
        seq: state.seq + 1,
        phase,
        share,
        answered: Some(Answered { id: request.id.clone(), refused: None }),
        since: now,
        why: Some(short(&format!("{} aborted it{end}{reason}", request.by), WHY)),
        aborted: true,
        ..state.clone()
    })
}

#[cfg(test)]
mod tests;
