//! How one HAProxy stands with each document: from its session to the words of the fleet. No I/O.

use weightd_core::{
    backend::Matched, desired::Published, diagnosis, fleet::Stand, model::BackendName, wire::status::BackendState,
};

use crate::weightd::session::Session;

/// Each document that the session has taken, its index, and how this HAProxy stands with it. Documents that are being
/// applied are left out: nothing is known of them yet.
pub fn of(session: &Session) -> Vec<(&BackendName, u64, Stand)> {
    let Some(desired) = &session.desired else { return Vec::new() };
    let stands = desired.backends.iter().filter_map(|(name, published)| {
        let stand = stand(session, name, published)?;
        Some((name, published.index(), stand))
    });
    stands.collect()
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
    match diagnosis::state(backend, session.pauses.of(name), true) {
        BackendState::Converged | BackendState::Released => Some(Stand::Set),
        // The weights are as desired; that no server answers is another fault.
        BackendState::NoUsableServer => backend.converged().then_some(Stand::Set),
        BackendState::Unmatched if backend.matched == Matched::No => Some(Stand::Lacks),
        BackendState::Pending | BackendState::Unknown => None,
        state => not(state.as_str()),
    }
}
