//! Rollouts as people start and end them, with a real Consul. The keys that the leader writes are written by the tests.

mod library;

use anyhow::Context as _;
use serde_json::{Value, json};
use weightd::{
    consul::{Client, Layer},
    documents::Documents,
};
use weightd_core::model::{BackendName, Root};

use crate::harness::Consul;

const SPEC: &str = "weightd/rollouts/spec/app1";
const STATE: &str = "weightd/rollouts/state/app1";
const REQUEST: &str = "weightd/rollouts/request/app1";
const APPROVAL: &str = "weightd/rollouts/approval/app1";

fn documents(consul: &Consul, token: Option<&str>) -> anyhow::Result<Documents> {
    let token = token.map(|secret| weightd::consul::TokenSource::Value(secret.to_owned().into()));
    let settings = Layer { address: Some(consul.address().parse()?), token, ..Layer::default() }.settings()?;
    Ok(Documents::new(Client::new(settings)?, &Root::default()))
}

fn app1() -> anyhow::Result<BackendName> {
    Ok(BackendName::new("app1")?)
}

/// The value of a key as JSON.
async fn value(consul: &Consul, key: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&consul.get(key).await?.with_context(|| format!("no {key}"))?)?)
}

/// A spec of green against blue.
fn spec(id: &str, mode: &str) -> Value {
    json!({
        "v": 1, "id": id, "to": ["green"], "from": ["blue"], "back": 0, "mode": mode, "regression": "rollback", "by": "ada",
        "plan": {"step": [{"share": 10, "bake": "5m"}, {"share": 50, "bake": "5m"}]}, "at": "2026-11-21T10:00:00Z"
    })
}

/// The state of a rollout whose document is the one with this index.
fn state(id: &str, phase: &str, mode: &str, share: u32, document: u64) -> Value {
    json!({
        "v": 1, "id": id, "spec": "abc", "seq": 7, "phase": phase, "step": 1, "mode": mode, "share": share, "back": 0,
        "document": document, "since": "2026-11-21T10:00:00Z"
    })
}

/// A document that gives green this share of the requests.
async fn split(consul: &Consul, green: u32) -> anyhow::Result<u64> {
    let document = json!({"v": 1, "split": {"blue": 100 - green, "green": green}, "by": "rolloutd for ada"});
    consul.put("weightd/weights/app1", document.to_string()).await?;
    consul.index("weightd/weights/app1").await
}
