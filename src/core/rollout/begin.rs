//! How a spec becomes a rollout: the first state.

use sha2::{Digest as _, Sha256};

use super::{Spec, State, observe::DocumentSeen, state::Phase};
use crate::model::Timestamp;

/// The SHA-256 of the value of `rollouts/spec/<b>`, in hexadecimal.
pub fn digest(value: &[u8]) -> String {
    Sha256::digest(value).iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The first state of a rollout. `sha` is the digest of its spec, `before` the state that the key has: that of an earlier
/// rollout; `document` is asked for only where a rollout begins. None if the earlier one has not ended: its spec must not be
/// replaced, and [`super::tick()`] latches it.
pub fn begin(
    spec: &Spec,
    sha: &str,
    before: Option<&State>,
    document: impl FnOnce() -> DocumentSeen,
    now: Timestamp,
) -> Option<State> {
    if before.is_some_and(|before| before.id == spec.id || !before.phase.is_final()) {
        return None;
    }
    let document = document();
    let share = document.share.unwrap_or(spec.back);
    Some(State {
        id: spec.id.clone(),
        spec: sha.to_owned(),
        // It grows over all rollouts of a backend, so that no request for an earlier one fits.
        seq: before.map_or(1, |before| before.seq + 1),
        phase: Phase::Queued,
        step: 0,
        mode: spec.mode,
        share,
        back: share,
        document: Some(document.index),
        paused: None,
        latched: None,
        approved: None,
        promoted: None,
        answered: None,
        approval: None,
        since: now,
        why: None,
        aborted: false,
        late: Vec::new(),
    })
}
