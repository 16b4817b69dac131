//! The first document of a backend: a rollback goes back to what the nodes had before it.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Node, run};
use crate::{
    common::{backend, is, key},
    harness::Consul,
};

#[tokio::test]
async fn a_rollback_goes_back_to_what_the_nodes_had_before_the_first_document() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    // What the first observer writes: without it, nodes notice an observation only after up to 5 s.
    consul.put("weightd/observe/_", "{}").await?;
    let body = backend("new1", 100, 0) + &backend("new2", 100, 0) + &backend("new3", 100, 0) + &backend("new4", 100, 0);
    let first = Node::start_with(&consul, "lb1", &body, |settings| settings).await?;
    let said = run(&consul, "set new1 blue=50 green=50 --create --yes --wait").await?;
    said.expect(0, &["new1 before the first document: blue=100 green=0, as all nodes report", "done: 1 of 1"])?;
    let document: Value = serde_json::from_slice(&consul.get(&key("new1")).await?.context("no document")?)?;
    ensure!(document["back"] == json!({"weights": {"blue": 100, "green": 0}}), "{document}");
    let history = run(&consul, "history new1 -o json").await?.expect(0, &[])?.json()?;
    ensure!(history[1]["way"] == "observed" && history[1]["index"] == 0, "{history}");
    run(&consul, "rollback new1 --yes --wait").await?.expect(0, &["written: new1 blue=100 green=0"])?;
    is(&first.haproxy, "new1", 100, 0).await?;

    // The same for many backends from a file.
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("new.json");
    std::fs::write(&file, r#"{"new2": {"weights": {"blue": 1, "green": 1}}}"#)?;
    let said = run(&consul, &format!("apply -f {} --create --yes", file.display())).await?;
    said.expect(0, &["new2 before the first document: blue=100 green=0", "1 differ"])?;
    run(&consul, "rollback new2 --yes").await?.expect(0, &["written: new2 blue=100 green=0"])?;

    // And for shares by pattern.
    let said = run(&consul, "shift new4 blue=50% green=50% --split --create --yes").await?;
    said.expect(0, &["new4 before the first document: blue=100 green=0"])?;
    run(&consul, "rollback new4 --yes").await?.expect(0, &["written: new4 "])?;
    let document: Value = serde_json::from_slice(&consul.get(&key("new4")).await?.context("no document")?)?;
    ensure!(document["split"] == json!({"blue": 100, "green": 0}), "{document}");

    // A node that does not report may have other weights.
    let missing = r#"{"v":1,"node":"lb9","machine":"m","mode":"enforce"}"#;
    consul.put("weightd/inventory/lb9", missing).await?;
    let said = run(&consul, "set new3 blue=50 green=50 --create --dry-run").await?;
    let why = "the first document: these nodes do not say what they have: lb9; `weightctl set` with --from names";
    said.expect(0, &[why])?;
    run(&consul, "node forget lb9 --yes").await?.expect(0, &[])?;

    // Nodes that do not agree have no state before it, and a person can name one.
    let _second = Node::start_with(&consul, "lb2", &backend("new3", 90, 10), |settings| settings).await?;
    let said = run(&consul, "set new3 blue=50 green=50 --create --dry-run").await?;
    said.expect(0, &["new3: no rollback goes back to before the first document: the nodes have different weights"])?;
    let said = run(&consul, "set new3 blue=50 green=50 --create --from blue=95,green=5 --yes").await?;
    said.expect(0, &["new3 before the first document: blue=95 green=5, as --from says"])?;
    run(&consul, "rollback new3 --yes --wait").await?.expect(0, &["written: new3 blue=95 green=5"])?;
    is(&first.haproxy, "new3", 95, 5).await
}
