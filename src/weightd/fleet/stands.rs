//! How one HAProxy stands with each document: from its session to the words of the fleet. No I/O.

use weightd_core::{
    backend::Matched,
    desired::Published,
    diagnosis,
    fleet::{InstanceReport, Stand},
    model::BackendName,
    wire::status::BackendState,
};

use crate::weightd::session::Session;

/// What one HAProxy is now; not since when.
pub fn instance(name: &str, session: &Session) -> InstanceReport {
    let process = session.processes.current.as_ref();
    InstanceReport {
        name: name.to_owned(),
        up: session.down.is_none() && process.is_some(),
        version: process.map(|process| process.version.clone()),
        pid: process.map(|process| process.pid),
        since: None,
        why: session.down.as_ref().map(|down| down.reason.to_owned()),
    }
}

/// Each document that the session has taken, its index, and how this HAProxy stands with it; none while that is unknown:
/// the document is not decided, or the weights differ and are being set.
pub fn of(session: &Session) -> Vec<(&BackendName, u64, Option<Stand>)> {
    let documents = session.desired.iter().flat_map(|desired| &desired.backends);
    documents.map(|(name, published)| (name, published.index(), stand(session, name, published))).collect()
}

fn stand(session: &Session, name: &BackendName, published: &Published) -> Option<Stand> {
    let not = |word: &str| Some(Stand::Not(word.to_owned()));
    if matches!(published, Published::Rejected(_)) {
        return not("rejected");
    }
    let backend = session.backends.get(name)?;
    if session.down.is_some() {
        return not("down");
    }
    let state = diagnosis::state(backend, session.pauses.of(name), true);
    match (state, backend.matched) {
        (BackendState::Paused, _) => not(state.as_str()),
        // A release sets nothing, but a HAProxy that does not have the backend has not released it.
        (BackendState::Released, Matched::Yes) => Some(Stand::Set),
        (BackendState::Released | BackendState::Unmatched, Matched::No) => backend.decided().then_some(Stand::Lacks),
        (_, Matched::Unknown) => None,
        // It stands in front of the document, whatever became of its own weights.
        _ if backend.overridden().is_some() => not("overridden"),
        // What is known is of the document before this one.
        _ if !backend.decided() => None,
        (BackendState::Converged, _) => Some(Stand::Set),
        // The weights are as desired; that no server answers is another fault.
        (BackendState::NoUsableServer, _) => backend.converged().then_some(Stand::Set),
        (BackendState::Pending | BackendState::Unknown, _) => None,
        _ => not(state.as_str()),
    }
}

#[cfg(test)]
mod tests;
