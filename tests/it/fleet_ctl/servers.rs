//! What HAProxy has decides, also where the document does not name it: `shift` with a pattern, `whois` of a split, the
//! preview of `rollback --all`, a new backend.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Node, REPORTED, run};
use crate::{
    common::key,
    harness::{
        Consul,
        answering::{Answering, counters},
        config, eventually,
    },
};

/// The answer of a node whose HAProxy has these servers, each with its health and marks.
fn has(node: &str, servers: &Value) -> Value {
    counters(
        node,
        &json!([{ "name": "edge", "version": "2.6.12", "mode": "http", "algorithm": "roundrobin", "servers": servers }]),
    )
}

fn lacks(node: &str) -> Value {
    json!({ "v": 1, "node": node, "mode": "enforce", "incarnation": "a", "at": 1, "lacks": ["app1", "app2"] })
}

async fn weights(consul: &Consul, backend: &str) -> anyhow::Result<Value> {
    let document = consul.get(&key(backend)).await?.unwrap_or_default();
    Ok(serde_json::from_slice::<Value>(&document)?["weights"].take())
}

#[tokio::test]
async fn a_pattern_stands_for_the_servers_that_haproxy_has() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), json!({ "weights": { "blue": 9, "green-1": 1, "green-old": 1 } }).to_string()).await?;
    let servers = [("blue", 9, 100), ("green-1", 9, 100), ("green-2", 9, 100), ("red", 9, 0)];
    let body = config::backend("app1", &["balance roundrobin"], &servers, "");
    let node = Node::start_with(&consul, "lb1", &body, |settings| settings).await?;
    let shift = "shift app1 green-*=20% -o json";
    let words = ["servers of 1 of 1 node, weights from the document", "new in the document: green-2", "green-old"];
    // The node notices the first observation of all only after some seconds.
    let dry = eventually(REPORTED, "the node answers", async || {
        run(&consul, &format!("{shift} --dry-run")).await?.expect(0, &words)?.json()
    })
    .await?;
    let said = run(&consul, &format!("{shift} --yes")).await?.expect(0, &words)?.json()?;
    ensure!(dry["shift"] == said["shift"], "a dry run shows what is written: {dry} {said}");
    let shift = &said["shift"];
    ensure!(shift["from"] == "nodes" && shift["added"] == json!(["green-2"]), "{said}");
    ensure!(shift["uncounted"] == json!(["green-old"]) && shift["error_points"] == 0.0, "{said}");
    // Of 10 that count, 2 are on green, and red is on no side.
    ensure!(weights(&consul, "app1").await? == json!({ "blue": 8, "green-1": 1, "green-2": 1, "green-old": 1 }));
    run(&consul, "shift app1 green-*=20% --yes --wait").await?.expect(0, &["nothing to change", "done: 1 of 1"])?;
    let state = node.haproxy.command("show servers state app1").await?;
    let weight =
        |server: &str| state.lines().find(|line| line.contains(server)).and_then(|line| line.split(' ').nth(7));
    ensure!(weight(" blue ") == Some("8") && weight(" green-2 ") == Some("1"), "{state}");
    Ok(())
}

#[tokio::test]
async fn without_an_answer_a_pattern_stands_for_the_servers_of_the_document() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), json!({ "weights": { "blue": 9, "green-1": 1 } }).to_string()).await?;
    let nodes = Answering::start(consul.http(), &[("lb1", None)]).await?;
    let start = Instant::now();
    let said = run(&consul, "shift app1 green-*=50% --dry-run -o json").await?;
    let took = start.elapsed();
    let words = [
        "note: app1: no node answered within 1 s; the servers are those of the document",
        "from the document in force",
    ];
    let said = said.expect(0, &words)?.json()?;
    ensure!(said["shift"]["from"] == "document", "{said}");
    ensure!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    drop(nodes);
    let up = json!([["blue", 9, 100, "up"], ["green-1", 1, 100, "up"], ["green-2", 100, 100, "up", ["maint"]]]);
    let _nodes =
        Answering::start(consul.http(), &[("lb1", Some(has("lb1", &up))), ("lb2", Some(lacks("lb2")))]).await?;
    let said = run(&consul, "shift app1 green-*=50% --dry-run -o json").await?;
    let said = said.expect(0, &["servers of 2 of 2 nodes", "get no traffic in any HAProxy: green-2"])?.json()?;
    ensure!(said["after"]["weights"] == json!({ "blue": 1, "green-1": 1, "green-2": 1 }), "{said}");
    // The nodes were asked once: the preview has the same answers.
    ensure!(said["observed"]["answered"] == 2, "{said}");
    Ok(())
}

#[tokio::test]
async fn the_side_of_a_user_follows_from_the_split_and_the_servers() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), json!({ "split": { "blue*": 75, "green*": 25 } }).to_string()).await?;
    run(&consul, "whois app1 alice").await?.expect(7, &["no node reports", "--weights"])?;
    let one = |node| Some(has(node, &json!([["blue", 3, 100, "up"], ["green", 1, 100, "up"]])));
    {
        let _nodes = Answering::start(consul.http(), &[("lb1", one("lb1")), ("lb2", one("lb2"))]).await?;
        let said = run(&consul, "whois app1 alice -o json").await?.expect(0, &[])?.json()?;
        ensure!(said["share"] == 25.0 && said["haproxies"] == json!(["lb1", "lb2"]), "{said}");
        let weighted =
            run(&consul, "whois app1 alice --weights blue=3,green=1 -o json").await?.expect(0, &[])?.json()?;
        ensure!(said["users"] == weighted["users"], "{said} {weighted}");
        run(&consul, "whois app1 alice").await?.expect(0, &["green has 1 of 4 in the split of index", "on lb1"])?;
    }
    // Three servers beside two: the nearest shares differ.
    let many = json!([["blue", 3, 256, "up"], ["blue-2", 3, 255, "up"], ["green", 1, 100, "up"]]);
    let nodes = [("lb1", one("lb1")), ("lb2", Some(has("lb2", &many))), ("lb3", None)];
    let _nodes = Answering::start(consul.http(), &nodes).await?;
    consul.put(&key("app1"), json!({ "split": { "blue*": 99.7, "green*": 0.3 } }).to_string()).await?;
    let words =
        ["the weights differ between the HAProxies", "on lb1", "on lb2", "the answer leaves out lb3: no answer"];
    let said = run(&consul, "whois app1 alice -o json").await?.expect(0, &words)?;
    ensure!(said.err.contains("the users are on the same side on each"), "{said:?}");
    // Among this many users, one is between the two shares.
    let users: Vec<_> = (0..20_000).map(|number| format!("user{number}")).collect();
    let said = run(&consul, &format!("whois app1 {}", users.join(" "))).await?;
    let said = said.expect(7, &["the weights differ", "depends on the HAProxy", "--weights"])?;
    ensure!(said.out.is_empty() && !said.err.contains("user1"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_rollback_of_all_backends_shows_what_each_haproxy_would_do() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    run(&consul, "set app1 blue=100 green=0 --create --yes").await?.expect(0, &[])?;
    run(&consul, "set app1 blue=50 green=50 --yes").await?.expect(0, &[])?;
    let servers = json!([["blue", 50, 100, "up"], ["green", 50, 100, "up"]]);
    let _nodes = Answering::start(consul.http(), &[("lb1", Some(has("lb1", &servers)))]).await?;
    let said = run(&consul, "rollback --all --off green* --dry-run -o json").await?;
    let said = said.expect(0, &["nodes: 1 follow", "1 of 1 node answered; 1 with app1", "50% ", "dry run"])?.json()?;
    ensure!(said[0]["observed"]["answered"] == 1 && said[0]["nodes"]["counted"] == 1, "{said}");
    let said = run(&consul, "rollback --all --off green* --yes -o json").await?.expect(0, &["nodes: 1 follow"])?;
    let said = said.json()?;
    ensure!(said[0]["nodes"]["counted"] == 1 && said[0]["after"]["weights"]["green"] == 0, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_new_backend_that_no_haproxy_has_is_warned_of_without_a_question_too() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), json!({ "weights": { "blue": 1 } }).to_string()).await?;
    let _nodes = Answering::start(consul.http(), &[("lb1", Some(lacks("lb1")))]).await?;
    let words = ["note: no HAProxy of any node has the backend `app2`; did you mean `app1`?", "written: app2"];
    let said = run(&consul, "set app2 blue=1 --create --yes").await?.expect(0, &words)?;
    ensure!(said.err.find("note:") < said.err.find("written:"), "the warning comes before the write: {said:?}");
    // A backend that has a document is not asked about.
    let said = run(&consul, "set app1 blue=2 --yes").await?.expect(0, &["written: app1"])?;
    ensure!(!said.err.contains("no HAProxy of any node has the backend"), "{said:?}");
    Ok(())
}
