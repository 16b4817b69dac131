//! What Consul has of a rollout.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use weightd_core::rollout::{Phase, State, log::Log};

use crate::harness::Consul;

/// Starts a rollout as `weightctl rollout start` does.
pub(super) async fn start(
    consul: &Consul,
    backend: &str,
    id: &str,
    mode: &str,
    (from, to): (&str, &str),
    plan: &Value,
) -> anyhow::Result<()> {
    let spec = json!({
        "v": 1, "id": id, "to": [to], "from": [from], "back": 0, "mode": mode, "plan": plan,
        "regression": "rollback", "by": "ann", "at": "2026-11-27T10:00:00Z",
    });
    consul.put(&format!("weightd/rollouts/request/{backend}"), "{}").await?;
    consul.put(&format!("weightd/rollouts/spec/{backend}"), spec.to_string()).await
}

/// The state.
pub(super) async fn state(consul: &Consul, backend: &str) -> anyhow::Result<State> {
    let value = read(consul, "rollouts/state", backend).await?;
    State::parse(&value, 1).with_context(|| String::from_utf8_lossy(&value).into_owned())
}

/// Asks for something as `weightctl rollout` does.
pub(super) async fn request(consul: &Consul, backend: &str, id: &str, verb: &str) -> anyhow::Result<()> {
    let state = state(consul, backend).await?;
    let request = json!({"v": 1, "id": id, "verb": verb, "rollout": state.id, "at": state.seq, "by": "bob"});
    consul.put(&format!("weightd/rollouts/request/{backend}"), request.to_string()).await
}

/// The evidence.
pub(super) async fn evidence(consul: &Consul, backend: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&read(consul, "rollouts/evidence", backend).await?)?)
}

/// The log.
pub(super) async fn log(consul: &Consul, backend: &str) -> anyhow::Result<Log> {
    Ok(Log::parse(&read(consul, "rollouts/log", backend).await?)?)
}

/// The shares of `to` that were written, percent, oldest first, without the document that the test wrote. The history is
/// written in one transaction with each document, so nothing is missing in it and nothing is in it twice.
pub(super) async fn written(consul: &Consul, backend: &str, to: &str) -> anyhow::Result<Vec<u64>> {
    let value = read(consul, "history", backend).await?;
    let history: Value = serde_json::from_slice(&value)?;
    let entries = history["entries"].as_array().with_context(|| history.to_string())?;
    let steps = entries.iter().rev().filter(|entry| entry["way"] == "rollout" || entry["way"] == "rollback");
    let share = |entry: &Value| entry["to"]["split"][to].as_u64();
    let shares: Vec<_> = steps.map(share).collect();
    shares.into_iter().collect::<Option<_>>().with_context(|| history.to_string())
}

/// Whether it goes back or went back.
pub(super) fn is_back(state: &State) -> bool {
    matches!(state.phase, Phase::RollingBack | Phase::RolledBack)
}

async fn read(consul: &Consul, kind: &str, backend: &str) -> anyhow::Result<Vec<u8>> {
    let value = consul.get(&format!("weightd/{kind}/{backend}")).await?;
    let value = value.with_context(|| format!("there is no {kind} of {backend}"))?;
    ensure!(!value.is_empty(), "{kind} of {backend} is empty");
    Ok(value)
}
