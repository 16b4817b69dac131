//! Before a question, a verb asks the nodes what their HAProxies have, and shows what would happen.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{run, run_with};
use crate::{
    common::{SOON, document, key},
    harness::{
        Consul,
        answering::{Answering, counters},
        consul, eventually,
    },
};

/// A HAProxy with blue and a green that is up or down.
fn haproxy(green: &str) -> Value {
    json!([{ "name": "edge", "version": "2.6.12", "mode": "http", "algorithm": "roundrobin",
        "servers": [["blue", 90, 100, "up"], ["green", 10, 100, green]] }])
}

fn lacks(node: &str) -> Value {
    json!({ "v": 1, "node": node, "mode": "enforce", "incarnation": "a", "at": 1, "lacks": ["app1", "app2"] })
}

/// The index of the last write of any kind: Consul's servers write nothing else while nobody does.
pub(super) async fn last_index(consul: &Consul) -> anyhow::Result<u64> {
    consul.http().json(Method::GET, "agent/self", &Value::Null).await?["Stats"]["raft"]["last_log_index"]
        .as_str()
        .context("no raft index")?
        .parse()
        .map_err(Into::into)
}

/// Fails unless no observation is left.
async fn nothing_is_observed(consul: &Consul) -> anyhow::Result<()> {
    eventually(SOON, "the observation is deleted", async || {
        let keys = consul.http().request(Method::GET, "kv/weightd/observe/?keys").send().await?.text().await?;
        ensure!(!keys.contains("observe/app"), "{keys}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_question_shows_what_each_haproxy_would_do() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    let nodes = [
        ("lb1", Some(counters("lb1", &haproxy("up")))),
        ("lb2", Some(counters("lb2", &haproxy("down")))),
        ("lb3", Some(lacks("lb3"))),
    ];
    let _nodes = Answering::start(consul.http(), &nodes).await?;
    let said = run(&consul, "set app1 blue=0 green=100 --dry-run -o json").await?;
    let words = ["3 of 3 nodes answered; 2 with app1, roundrobin; without it: lb3", "would not set it: lb2"];
    let said = said.expect(0, &words)?;
    let observed = said.json()?["observed"].take();
    ensure!(observed["answered"] == 3 && observed["lacks"] == json!(["lb3"]), "{observed}");
    ensure!(observed["refuses"][0]["reason"] == "guarded", "{observed}");
    ensure!(observed["servers"][1]["share_after"] == json!({"low": 0.0, "mean": 50.0, "high": 100.0}), "{observed}");
    for verb in ["release app1", "rollback app1 --off blue"] {
        let said = run(&consul, &format!("{verb} --dry-run")).await?;
        ensure!(said.err.contains("3 of 3 nodes answered") || said.code == 7, "{verb}: {said:?}");
    }
    nothing_is_observed(&consul).await
}

#[tokio::test]
async fn a_preview_writes_at_most_3_times_and_once_for_each_node() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    let nodes = [("lb1", Some(counters("lb1", &haproxy("up")))), ("lb2", Some(lacks("lb2")))];
    let _nodes = Answering::start(consul.http(), &nodes).await?;
    for most in [5, 4] {
        let before = last_index(&consul).await?;
        run(&consul, "set app1 green=20 --dry-run").await?.expect(0, &["2 of 2 nodes answered"])?;
        let writes = last_index(&consul).await? - before;
        // Consul itself writes now and then.
        ensure!(writes <= most + 1, "{writes} writes instead of {most}");
        eprintln!("a preview with 2 nodes: {writes} writes");
    }
    // With --yes, nobody observes.
    let before = last_index(&consul).await?;
    run(&consul, "set app1 green=20 --yes").await?.expect(0, &["nodes: 2 follow"])?;
    let writes = last_index(&consul).await? - before;
    ensure!(writes <= 2, "{writes} writes");
    Ok(())
}

#[tokio::test]
async fn a_node_that_does_not_answer_delays_the_question_by_at_most_a_second() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    let garbage = json!("garbage");
    let nodes = [("lb1", Some(counters("lb1", &haproxy("up")))), ("lb2", None), ("lb3", Some(garbage))];
    let _nodes = Answering::start(consul.http(), &nodes).await?;
    let start = Instant::now();
    let said = run(&consul, "set app1 green=20 --dry-run").await?;
    let took = start.elapsed();
    said.expect(0, &["2 of 3 nodes answered", "no answer within 1 s: lb2", "no data: lb3: the report is malformed"])?;
    ensure!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    nothing_is_observed(&consul).await
}

#[tokio::test]
async fn a_backend_that_nobody_has_is_refused_with_a_suggestion() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    let _nodes = Answering::start(consul.http(), &[("lb1", Some(lacks("lb1")))]).await?;
    let words = ["backend `app2` has no key in Consul; no HAProxy of any node has it", "did you mean `app1`?"];
    run(&consul, "set app2 blue=1 --dry-run").await?.expect(7, &words)?;
    let words = ["note: no HAProxy of any node has the backend `app2`; did you mean `app1`?"];
    run(&consul, "set app2 blue=1 --create --dry-run").await?.expect(0, &words)?;
    ensure!(consul.get(&key("app2")).await?.is_none(), "a dry run wrote");
    Ok(())
}

#[tokio::test]
async fn without_the_right_to_observe_the_line_of_the_policy_is_named() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    let _nodes = Answering::start(consul.http(), &[("lb1", Some(counters("lb1", &haproxy("up"))))]).await?;
    let mut rules = r#"
        key "weightd/weights/app1" { policy = "write" } key_prefix "weightd/weights/app1/" { policy = "write" }
        key_prefix "weightd/nodes/" { policy = "read" } key_prefix "weightd/inventory/" { policy = "read" }
        key "weightd/expect" { policy = "read" }"#
        .to_owned();
    consul.http().set_policy("team", &rules).await?;
    let token = consul.http().new_token("team").await?;
    let missing = [
        r#"key_prefix "weightd/observe/app1/" { policy = "write" }"#,
        r#"key_prefix "weightd/counters/" { policy = "read" }"#,
    ];
    for rule in missing {
        let said = run_with(&consul, Some(&token), "set app1 green=20 --dry-run").await?;
        said.expect(0, &["note: what HAProxy has is not known", &format!("the token needs {rule}"), "dry run"])?;
        rules.push_str(rule);
        consul.http().set_policy("team", &rules).await?;
    }
    run_with(&consul, Some(&token), "set app1 green=20 --dry-run").await?.expect(0, &["1 of 1 node answered"])?;
    nothing_is_observed(&consul).await
}
