//! Rollouts as people start and end them, with a real Consul. The keys that the leader writes are written by the tests.

mod follow;
mod library;
mod takeover;
mod verbs;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use weightd::{
    consul::{Client, Layer},
    documents::Documents,
};
use weightd_core::model::{BackendName, Root};

use crate::harness::{Consul, weightd::weightctl};

const SPEC: &str = "weightd/rollouts/spec/app1";
const STATE: &str = "weightd/rollouts/state/app1";
const REQUEST: &str = "weightd/rollouts/request/app1";
const APPROVAL: &str = "weightd/rollouts/approval/app1";

fn documents(consul: &Consul, token: Option<&str>) -> anyhow::Result<Documents> {
    documents_at(&consul.address(), token)
}

fn documents_at(address: &str, token: Option<&str>) -> anyhow::Result<Documents> {
    let token = token.map(|secret| weightd::consul::TokenSource::Value(secret.to_owned().into()));
    let settings = Layer { address: Some(address.parse()?), token, ..Layer::default() }.settings()?;
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

/// How weightctl ended, and what it printed.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// Fails unless it ended with `code` and said each of these words.
    fn expect(self, code: i32, words: &[&str]) -> anyhow::Result<Self> {
        let all = words.iter().all(|word| self.err.contains(word) || self.out.contains(word));
        ensure!(self.code == code && all, "expected {code} and {words:?}: {self:?}");
        Ok(self)
    }

    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// Runs `weightctl rollout` with these arguments.
async fn rollout(consul: &Consul, arguments: &str) -> anyhow::Result<Said> {
    run(consul, &format!("rollout {arguments}")).await
}

/// Runs weightctl.
async fn run(consul: &Consul, arguments: &str) -> anyhow::Result<Said> {
    let address = consul.address();
    let environment = [
        ("CONSUL_HTTP_ADDR", address.as_str()),
        ("SUDO_USER", ""),
        ("USER", "alice"),
        // No weightd of this host.
        ("WEIGHTD_API", "http://127.0.0.1:1"),
        ("WEIGHTD_CONFIG", "/nonexistent"),
    ];
    let output = weightctl(&environment, &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    Ok(Said {
        code: output.status.code().context("it was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// A rollout that bakes at 10 %.
async fn baking(consul: &Consul, mode: &str) -> anyhow::Result<()> {
    let index = split(consul, 10).await?;
    consul.put(SPEC, spec("r1", mode).to_string()).await?;
    consul.put(REQUEST, "{}").await?;
    consul.put(STATE, state("r1", "bake", mode, 10, index).to_string()).await
}

/// What a leader writes of a rollout now, while this holds it.
async fn evidence(consul: &Consul, holding: &[(&str, &str)]) -> anyhow::Result<()> {
    let holding: Vec<_> = holding.iter().map(|(word, text)| json!({"word": word, "text": text})).collect();
    let judge = weightd_core::judge::Judge::new(&weightd_core::judge::Plan {
        horizon: 100,
        steps: 2,
        errors: weightd_core::judge::Limits::ERRORS,
        others: std::collections::BTreeMap::new(),
        safe_ratio: 4.0,
    });
    let now = jiff::Timestamp::now();
    let at = jiff::Timestamp::from_second(now.as_second())?.to_string();
    let evidence = json!({
        "v": 1, "rollout": "r1", "step": 1, "block": 179_500_000, "good": 120, "judge": judge.state(),
        "shown": {
            "at": at, "seq": 7, "good": 120, "needed": 300, "holding": holding, "evidence": 12.5, "share": 9.9,
            "checks": {"errors": {"evidence": 12.5, "to": [900, 9], "from": [8100, 4]}}, "counting": 3, "applied": 3,
            "paid": [{"block": 179_500_000, "check": "errors", "observed": 9.0, "allowed": 1.5}]
        }
    });
    consul.put("weightd/rollouts/evidence/app1", evidence.to_string()).await
}

/// A controller that leads.
async fn controller(consul: &Consul) -> anyhow::Result<()> {
    consul.put("weightd/controller", r#"{"v":1,"name":"ctl-1","since":"2026-11-21T10:00:00Z"}"#).await
}
