//! Nodes that answer observations with recorded values: the report of a node in `nodes/`, and `counters/<node>` as soon as
//! somebody observes. For what a real node cannot be made to say.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::consul::{Http, expect_ok};

/// Between two readings of `observe/`.
const PACE: Duration = Duration::from_millis(20);

/// Recorded answers of some nodes. It ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Answering(JoinHandle<()>);

impl Answering {
    /// Writes the report of each node, and then answers each observation with the value of the node; none does not answer.
    pub async fn start(http: &Http, nodes: &[(&str, Option<Value>)]) -> anyhow::Result<Self> {
        for (node, _) in nodes {
            let report = json!({ "v": 1, "node": node, "version": "0.1.0", "mode": "enforce", "machine": node,
                "incarnation": "a", "instances": [], "recent": [], "out": [], "lacks": [], "backends": 0 });
            expect_ok(http.request(reqwest::Method::PUT, &format!("kv/weightd/nodes/{node}")).body(report.to_string()))
                .await?;
        }
        let (http, nodes) = (http.clone(), nodes.iter().map(|(node, value)| ((*node).to_owned(), value.clone())));
        let nodes: Vec<_> = nodes.collect();
        Ok(Self(tokio::spawn(async move {
            let mut seen = String::new();
            let mut at = 1;
            loop {
                let keys = expect_ok(http.request(reqwest::Method::GET, "kv/weightd/observe/?keys")).await;
                let keys = keys.unwrap_or_default();
                if keys.contains("observe/app") && keys != seen {
                    at += 1;
                    for (node, value) in &nodes {
                        let Some(value) = value else { continue };
                        let request = http.request(reqwest::Method::PUT, &format!("kv/weightd/counters/{node}"));
                        let body = body(value, at);
                        // The next round tries again.
                        let _ = expect_ok(request.body(body)).await;
                    }
                }
                seen = keys;
                sleep(PACE).await;
            }
        })))
    }
}

/// The value at this time: Consul does not move the index of a key that is written with the same bytes. A value that is a
/// text is written as it is: garbage.
fn body(value: &Value, at: u64) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let mut value = value.clone();
    value["at"] = json!(at);
    value.to_string()
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The value of `counters/<node>` with these instances of `app1`.
pub fn counters(node: &str, instances: &Value) -> Value {
    json!({ "v": 1, "node": node, "mode": "enforce", "incarnation": "a", "at": 1,
        "backends": [{ "backend": "app1", "instances": instances }] })
}
