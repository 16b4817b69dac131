//! A rollback while another writer changes the backend: after a conflict it is computed again.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Ended, HISTORY, KEY, ends, steps, weights};
use crate::harness::{
    Consul,
    gate::{Gate, Passage},
    weightd::weightctl,
};

/// The document of the other writer.
const OTHER: &str = r#"{"v":1,"weights":{"blue":50,"green":50},"by":"bob"}"#;

/// Writes a key before the request that is just forwarded.
fn put(consul: &str, key: &str, value: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(consul.trim_start_matches("http://"))?;
    let length = value.len();
    write!(
        stream,
        "PUT /v1/kv/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{value}"
    )?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// Green has 100 since the last write. The other writer's rollback to 50 comes right before the first write of this command.
/// `raised` is the side that it took traffic off.
async fn after_the_rollback_of_bob(raised: &str, arguments: &str) -> anyhow::Result<(Consul, Ended)> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=50 green=50", "blue=0 green=100"]).await?;
    let mut history: Value = serde_json::from_slice(&consul.get(HISTORY).await?.context("no history")?)?;
    let entries = history["entries"].as_array_mut().context("no entries")?;
    entries[0]["index"] = json!(consul.index(KEY).await?);
    let target = entries[1]["index"].clone();
    let to = json!({"weights": {"blue": 50, "green": 50}});
    entries.insert(0, json!({"by": "bob", "way": "rollback", "to": to, "target": target, "raised": [raised]}));

    let gate = Gate::open(&consul).await?;
    let (address, history, first) = (consul.address(), history.to_string(), AtomicBool::new(true));
    gate.rule(move |_, path| {
        if path == "/v1/txn" && first.swap(false, Ordering::SeqCst) {
            let written = put(&address, KEY, OTHER).and_then(|()| put(&address, HISTORY, &history));
            if written.is_err() {
                return Passage::Closed;
            }
        }
        Passage::Through
    });
    let address = gate.address();
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    let output = weightctl(&environment, &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    let ended = Ended {
        code: output.status.code().context("weightctl was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    };
    Ok((consul, ended))
}

#[tokio::test]
async fn a_racing_rollback_of_another_side_that_leaves_traffic_does_not_count() -> anyhow::Result<()> {
    for arguments in ["rollback app --off green --yes -o json", "rollback --all --off green --yes -o json"] {
        let (consul, ended) = after_the_rollback_of_bob("gray", arguments).await?;
        ensure!(ended.code == 0, "{} {}", ended.code, ended.err);
        assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}), "{arguments}: {}", ended.err);
        let said: Value = serde_json::from_str(&ended.out)?;
        let outcome = said.get(0).unwrap_or(&said);
        assert_eq!((&outcome["changed"], &outcome["after"]["weights"]["green"]), (&json!(true), &json!(0)), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_racing_rollback_of_the_same_side_is_the_result() -> anyhow::Result<()> {
    for arguments in ["rollback app --off gre* --yes -o json", "rollback --all --off gre* --yes -o json"] {
        let (consul, ended) = after_the_rollback_of_bob("green", arguments).await?;
        let said = "another rollback of app was faster: blue=50 green=50, by bob; it leaves traffic on these servers";
        ensure!(ended.code == 0 && ended.err.contains(said), "{} {}", ended.code, ended.err);
        assert_eq!(weights(&consul).await?, json!({"blue": 50, "green": 50}), "{arguments}: {}", ended.err);
        let outcome: Value = serde_json::from_str(&ended.out)?;
        let outcome = outcome.get(0).unwrap_or(&outcome);
        assert_eq!((&outcome["changed"], &outcome["index"]), (&json!(false), &json!(consul.index(KEY).await?)));
    }
    Ok(())
}

#[tokio::test]
async fn a_racing_rollback_is_the_result_of_a_rollback_without_a_side() -> anyhow::Result<()> {
    let (consul, ended) = after_the_rollback_of_bob("green", "rollback app --yes -o json").await?;
    ensure!(ended.code == 0 && ended.err.contains("another rollback of app was faster"), "{}", ended.err);
    assert_eq!(weights(&consul).await?, json!({"blue": 50, "green": 50}));
    let outcome: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(
        (&outcome["changed"], &outcome["index"]),
        (&json!(false), &json!(consul.index(KEY).await?)),
        "{outcome}"
    );
    Ok(())
}

/// The node lb1 reports that it keeps the last weights of these backends.
async fn orphaned(consul: &Consul, backends: &[&str]) -> anyhow::Result<()> {
    let out: Vec<_> = backends.iter().map(|backend| json!([backend, "orphaned", null])).collect();
    let report = json!({
        "v": 1, "node": "lb1", "version": "0.1.0", "mode": "enforce", "machine": "m", "incarnation": "i", "instances": [],
        "applied_index": 1, "backends": backends.len(), "recent": [], "out": out,
    });
    consul.put("weightd/nodes/lb1", report.to_string()).await
}

#[tokio::test]
async fn what_cannot_be_judged_is_named_and_the_rest_is_rolled_back() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=0 green=100"]).await?;
    consul.put("weightd/weights/app7", "garbage").await?;
    consul.put("weightd/weights/left", r#"{"release":true}"#).await?;
    orphaned(&consul, &["gone"]).await?;
    let ended = ends(&consul, 7, "rollback --all --off green --yes -o json").await?;
    for words in [
        "not rolled back: app7: its document is rejected",
        "not rolled back: gone: it has no document any more, and these nodes keep its last weights: lb1",
        "not rolled back: 2 backends: app7, gone",
        "left alone, because they are released: left",
    ] {
        ensure!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    Ok(())
}

#[tokio::test]
async fn a_backend_whose_leaf_is_gone_is_named() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=0 green=100"]).await?;
    for (leaf, weight) in [("leaf/blue", "50"), ("two/blue", "50"), ("two/green2", "0")] {
        consul.put(&format!("weightd/weights/{leaf}"), weight).await?;
    }
    // Each has lost the leaf `green`. The document of `app` came back.
    orphaned(&consul, &["app", "leaf", "two"]).await?;
    let ended = ends(&consul, 7, "rollback --all --off green* --yes").await?;
    for words in [
        "not rolled back: leaf: one of its leaves is gone, and these nodes keep its last weight: lb1",
        "not rolled back: two: one of its leaves is gone, and these nodes keep its last weight: lb1",
        "not rolled back: 2 backends: leaf, two",
    ] {
        ensure!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    Ok(())
}

#[tokio::test]
async fn a_side_that_no_document_names_is_refused() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0"]).await?;
    let ended = ends(&consul, 7, "rollback --all --off gren --yes").await?;
    ensure!(ended.err.contains("matches `gren`") && ended.err.contains("did you mean `green`?"), "{}", ended.err);
    Ok(())
}
