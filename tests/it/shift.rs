//! `shift` with a real Consul: what it writes, what it refuses, and the way back.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    common::key,
    harness::{Consul, weightd::weightctl},
};

struct Ended {
    out: String,
    err: String,
}

/// Runs weightctl, and expects this exit code.
async fn ends(consul: &Consul, code: i32, arguments: &[&str]) -> anyhow::Result<Ended> {
    let address = consul.address();
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    let output = weightctl(&environment, arguments).await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.code() == Some(code), "{:?} and not {code} of {arguments:?}: {out}{err}", output.status);
    Ok(Ended { out, err })
}

async fn document(consul: &Consul, backend: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&consul.get(&key(backend)).await?.context("no document")?)?)
}

#[tokio::test]
async fn a_share_becomes_weights_and_a_step_adds_to_it() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let weights = json!({ "weights": { "blue": 100, "green-1": 0, "green-2": 0 } });
    consul.put(&key("app"), weights.to_string()).await?;
    let shifted = ends(&consul, 0, &["shift", "app", "green-*=10%", "--yes", "-m", "canary", "-o", "json"]).await?;
    let outcome: Value = serde_json::from_str(&shifted.out)?;
    assert_eq!(outcome["after"]["weights"], json!({ "blue": 18, "green-1": 1, "green-2": 1 }));
    assert_eq!((&outcome["shift"]["error_points"], &outcome["shift"]["from"]), (&json!(0.0), &json!("document")));
    assert!(shifted.err.contains("green-* 0% → 10%, all others 100% → 90%; error 0.00 points"), "{}", shifted.err);

    ends(&consul, 0, &["shift", "app", "green-*", "--step", "+10%", "--yes"]).await?;
    assert_eq!(document(&consul, "app").await?["weights"], json!({ "blue": 8, "green-1": 1, "green-2": 1 }));
    ends(&consul, 0, &["shift", "app", "green-*", "--step", "-100%", "--yes"]).await?;
    assert_eq!(document(&consul, "app").await?["weights"], json!({ "blue": 1, "green-1": 0, "green-2": 0 }));
    let same = ends(&consul, 0, &["shift", "app", "green-*=0%", "--yes"]).await?;
    assert!(same.err.contains("nothing to change"), "{}", same.err);
    let history = ends(&consul, 0, &["history", "app", "-o", "json"]).await?;
    let history: Value = serde_json::from_str(&history.out)?;
    assert_eq!(history[0]["way"], "shift", "{history}");
    ends(&consul, 0, &["shift", "app", "green-*=50%", "--yes"]).await?;
    ends(&consul, 0, &["rollback", "app", "--step", "--yes"]).await?;
    assert_eq!(document(&consul, "app").await?["weights"], json!({ "blue": 1, "green-1": 0, "green-2": 0 }));
    Ok(())
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_servers() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let mut weights = json!({ "blue": 1 });
    for number in 1..=50 {
        weights[format!("green-{number}")] = json!(0);
    }
    consul.put(&key("app"), json!({ "weights": weights }).to_string()).await?;
    for (arguments, words) in [
        (&["shift", "app", "gray=10%", "--yes"][..], "`gray` matches no server"),
        (&["shift", "app", "green-*=10%", "*-1=10%", "--yes"], "both match green-1"),
        (&["shift", "app", "green-*=10%", "blue=10%", "--yes"], "add up to 20 %"),
        (&["shift", "app", "green-*=0.5%", "--yes"], "rounding would stop"),
        (&["shift", "none", "green=10%", "--yes"], "has no key in Consul"),
        (&["shift", "no*", "--all", "green=10%", "--yes"], "no backend in Consul matches"),
    ] {
        let refused = ends(&consul, 7, arguments).await?;
        assert!(refused.err.contains(words), "{arguments:?}: {}", refused.err);
    }
    ends(&consul, 0, &["shift", "app", "green-*=0.5%", "--yes", "--approximate"]).await?;
    ends(&consul, 2, &["shift", "app", "green-*=10", "--yes"]).await?;
    ends(&consul, 2, &["shift", "app", "green-*", "--yes"]).await.map(drop)
}

#[tokio::test]
async fn many_backends_are_shifted_by_one_command_or_none_is() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for backend in ["shop-a", "shop-b"] {
        consul.put(&key(backend), json!({ "weights": { "blue": 1, "green": 0 } }).to_string()).await?;
    }
    consul.put(&key("shop-c"), json!({ "split": { "blue*": 100, "green*": 0 } }).to_string()).await?;
    consul.put(&key("other"), json!({ "weights": { "blue": 1 } }).to_string()).await?;
    let shifted = ends(&consul, 0, &["shift", "shop-*", "--all", "green*=10%", "--yes", "-o", "json"]).await?;
    let outcomes: Value = serde_json::from_str(&shifted.out)?;
    assert_eq!(outcomes.as_array().map(Vec::len), Some(3), "{outcomes}");
    for backend in ["shop-a", "shop-b"] {
        assert_eq!(document(&consul, backend).await?["weights"], json!({ "blue": 9, "green": 1 }));
    }
    assert_eq!(document(&consul, "shop-c").await?["split"], json!({ "blue*": 90, "green*": 10 }));
    let refused = ends(&consul, 7, &["shift", "*", "--all", "green*=20%", "--yes"]).await?;
    assert!(refused.err.contains("cannot shift 1 backend: other"), "{}", refused.err);
    assert_eq!(document(&consul, "shop-a").await?["weights"], json!({ "blue": 9, "green": 1 }));
    ends(&consul, 0, &["freeze", "shop-b", "-m", "an incident"]).await?;
    let refused = ends(&consul, 7, &["shift", "shop-*", "--all", "green*=20%", "--yes"]).await?;
    assert!(refused.err.contains("cannot shift 1 backend: shop-b; nothing was written"), "{}", refused.err);
    assert!(refused.err.contains("`shop-b` is frozen"), "{}", refused.err);
    assert_eq!(document(&consul, "shop-a").await?["weights"], json!({ "blue": 9, "green": 1 }));
    Ok(())
}

#[tokio::test]
async fn a_pattern_that_is_given_twice_is_refused() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app"), json!({ "split": { "blue*": 90, "green*": 10 } }).to_string()).await?;
    let refused = ends(&consul, 7, &["shift", "app", "green*=10%", "green*=90%", "--yes"]).await?;
    assert!(refused.err.contains("`green*` is given twice"), "{}", refused.err);
    let new = ["shift", "new", "a*=10%", "*b=90%", "--split", "--create", "--yes"];
    let refused = ends(&consul, 7, &new).await?;
    assert!(refused.err.contains("some names match both `a*` and `*b`"), "{}", refused.err);
    assert_eq!(document(&consul, "app").await?["split"], json!({ "blue*": 90, "green*": 10 }));
    Ok(())
}

#[tokio::test]
async fn weights_become_a_split_and_every_verb_takes_it() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app"), json!({ "weights": { "blue-1": 100, "green-1": 0 } }).to_string()).await?;
    ends(&consul, 0, &["shift", "app", "green-*=10%", "--yes"]).await?;
    ends(&consul, 0, &["shift", "app", "blue-*=0%", "green-*=100%", "--split", "--yes"]).await?;
    assert_eq!(document(&consul, "app").await?["split"], json!({ "blue-*": 0, "green-*": 100 }));
    let refused = ends(&consul, 7, &["set", "app", "blue-1=50", "--yes"]).await?;
    assert!(refused.err.contains("(a split)"), "{}", refused.err);
    ends(&consul, 0, &["rollback", "app", "--yes"]).await?;
    assert_eq!(document(&consul, "app").await?["split"], json!({ "blue-*": 100, "green-*": 0 }));
    let shown = ends(&consul, 0, &["get", "app"]).await?;
    assert!(shown.out.contains("blue-*") && shown.out.contains("100%"), "{}", shown.out);
    let exported = ends(&consul, 0, &["export"]).await?;
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(file.path(), &exported.out)?;
    let path = file.path().to_string_lossy();
    let applied = ends(&consul, 0, &["apply", "-f", path.as_ref(), "--yes"]).await?;
    assert!(applied.err.contains("0 differ, 1 are the same"), "{}{}", exported.out, applied.err);
    ends(&consul, 0, &["shift", "new", "blue-*=90%", "green-*=10%", "--split", "--create", "--yes"]).await?;
    assert_eq!(document(&consul, "new").await?["split"], json!({ "blue-*": 90, "green-*": 10 }));
    ends(&consul, 0, &["set", "app", "blue-1=1", "green-1=0", "--create", "--yes"]).await?;
    assert_eq!(document(&consul, "app").await?["weights"], json!({ "blue-1": 1, "green-1": 0 }));
    Ok(())
}
