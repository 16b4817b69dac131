use serde::Serialize;
use weightd_core::{
    model::{BackendName, Timestamp},
    rollout::{BadValue, Controller, Request, Shown, Spec, State},
};

use crate::documents::rollouts::{KeyRead, RolloutRead, Standing};

/// A rollout. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "standing": "active",      none, pending (no controller has begun it), active, ended, or unreadable
///   "spec": {…},               what it is, as in Consul; null if there is none
///   "state": {…},              where it is, as in Consul; null if no controller has begun one
///   "shown": {…},              what the leader sees, as in Consul; null if it wrote nothing
///   "fresh": true,             whether "shown" is of this state, and not older than 90 s
///   "request": {…},            what a person wants and nobody has answered; null if there is none
///   "approval": {…},           the same, of an approval
///   "controller": {…},         who leads; null if nobody does
///   "unreadable": [{"key": "state", "error": "…"}…]
/// }
/// ```
#[derive(Debug, Serialize)]
pub(super) struct RolloutView<'a> {
    pub(super) backend: &'a BackendName,
    pub(super) standing: &'static str,
    pub(super) spec: Option<&'a Spec>,
    pub(super) state: Option<&'a State>,
    pub(super) shown: Option<&'a Shown>,
    pub(super) fresh: bool,
    pub(super) request: Option<&'a Request>,
    pub(super) approval: Option<&'a Request>,
    pub(super) controller: Option<&'a Controller>,
    pub(super) unreadable: Vec<UnreadableView>,
}

/// A key that cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct UnreadableView {
    key: &'static str,
    error: String,
}

impl<'a> RolloutView<'a> {
    /// The rollout of a backend at `now`.
    pub(super) fn of(
        backend: &'a BackendName,
        read: &'a RolloutRead,
        controller: &'a KeyRead<Controller>,
        now: Timestamp,
    ) -> Self {
        let shown = shown(read);
        Self {
            backend,
            standing: word(read),
            spec: read.spec.get(),
            state: read.state.get(),
            shown,
            fresh: fresh(read, now).is_some(),
            request: read.open_request(),
            approval: read.open_approval(),
            controller: controller.get(),
            unreadable: unreadable(read)
                .into_iter()
                .map(|(key, bad)| UnreadableView { key, error: bad.to_string() })
                .collect(),
        }
    }
}

fn word(read: &RolloutRead) -> &'static str {
    match read.standing() {
        Standing::None => "none",
        Standing::Pending(_) => "pending",
        Standing::Active(_) => "active",
        Standing::Ended(_) => "ended",
        Standing::Unreadable(..) => "unreadable",
    }
}

/// What the leader wrote of the rollout of the state; none if it is of another one, or a newer rollout has not begun.
pub(super) fn shown(read: &RolloutRead) -> Option<&Shown> {
    if matches!(read.standing(), Standing::Pending(_)) {
        return None;
    }
    let (state, evidence) = (read.state.get()?, read.evidence.get()?);
    (evidence.rollout == state.id).then_some(&evidence.shown)
}

/// What the leader sees now; none if it is old or of an earlier state.
pub(super) fn fresh(read: &RolloutRead, now: Timestamp) -> Option<&Shown> {
    let seq = read.state.get()?.seq;
    shown(read).filter(|shown| shown.seq == seq && shown.is_fresh(now))
}

/// The keys that cannot be read.
pub(super) fn unreadable(read: &RolloutRead) -> Vec<(&'static str, &BadValue)> {
    let keys = [
        ("spec", read.spec.unreadable()),
        ("state", read.state.unreadable()),
        ("evidence", read.evidence.unreadable()),
        ("request", read.request.unreadable()),
        ("approval", read.approval.unreadable()),
        ("log", read.log.as_ref().and_then(KeyRead::unreadable)),
    ];
    keys.into_iter().filter_map(|(key, bad)| Some((key, bad?))).collect()
}
