//! `export` and `apply` with a real Consul.

use std::fs;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::harness::{Consul, weightd::weightctl};

/// Runs weightctl, expects this exit code, and returns stdout and stderr.
async fn ends(consul: &Consul, code: i32, arguments: &[&str]) -> anyhow::Result<(String, String)> {
    let address = consul.address();
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    let output = weightctl(&environment, arguments).await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.code() == Some(code), "{} and not {code} of {arguments:?}: {out}{err}", output.status);
    Ok((out, err))
}

#[tokio::test]
async fn apply_of_an_export_changes_nothing_and_a_changed_file_only_what_differs() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/weights/app1", r#"{"weights":{"blue":90,"green":10},"reason":"canary"}"#).await?;
    consul.put("weightd/weights/app2", r#"{"release":true}"#).await?;
    consul.put("weightd/weights/app3/blue", "1").await?;
    consul.put("weightd/weights/app4", r#"{"weights":{"blue":0},"force":true}"#).await?;
    consul.put("weightd/weights/bad", "garbage").await?;
    let dir = tempfile::tempdir()?;
    for (file, format) in [("weights.toml", &[][..]), ("weights.json", &["-o", "json"])] {
        let (exported, notes) = ends(&consul, 0, &[&["export"][..], format].concat()).await?;
        assert!(notes.contains("left out: bad"), "{notes}");
        let path = dir.path().join(file);
        fs::write(&path, &exported)?;
        let before = consul.index("weightd/").await?;
        let path = path.display().to_string();
        let (_, said) = ends(&consul, 0, &["apply", "-f", &path, "--yes"]).await?;
        assert!(said.contains("0 differ, 4 are the same"), "{said}\n{exported}");
        assert_eq!(consul.index("weightd/").await?, before);
    }

    let path = dir.path().join("weights.toml").display().to_string();
    fs::write(&path, "[app1]\nweights = { blue = 50, green = 50 }\n[app2]\nrelease = true\n")?;
    let (_, said) = ends(&consul, 0, &["apply", "-f", &path, "--dry-run"]).await?;
    assert!(said.contains("1 differ, 1 are the same") && said.contains("90 → 50"), "{said}");
    let (out, _) = ends(&consul, 0, &["apply", "-f", &path, "--yes", "-m", "half", "-o", "json"]).await?;
    let outcomes: Value = serde_json::from_str(&out)?;
    assert_eq!(outcomes.as_array().map(Vec::len), Some(2));
    let (history, _) = ends(&consul, 0, &["history", "app1", "-o", "json"]).await?;
    let history: Value = serde_json::from_str(&history)?;
    assert_eq!((&history[0]["way"], &history[0]["why"]), (&json!("apply"), &json!("half")));
    Ok(())
}

#[tokio::test]
async fn a_file_with_one_mistake_writes_nothing() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/weights/app1", r#"{"weights":{"blue":90,"green":10}}"#).await?;
    let before = consul.index("weightd/").await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("weights.toml").display().to_string();
    let good = "[app1]\nweights = { blue = 50, green = 50 }\n";
    for (bad, word) in [
        ("[app2]\nweights = { blue = 257 }\n", "app2"),
        ("[app2]\nwieghts = { blue = 1 }\n", "wieghts"),
        ("[app2]\n", "none of"),
        ("[app2]\nweights = { blue = 1 }\n", "--create"),
        ("[\"a b\"]\nrelease = true\n", "a b"),
        ("[app2\n", "invalid"),
    ] {
        fs::write(&path, format!("{good}{bad}"))?;
        let (_, said) = ends(&consul, 7, &["apply", "-f", &path, "--yes"]).await?;
        assert!(said.contains(word), "{word}: {said}");
    }
    let missing = dir.path().join("nowhere.toml").display().to_string();
    let (_, said) = ends(&consul, 2, &["apply", "-f", &missing, "--yes"]).await.context("a missing file")?;
    assert!(said.contains("cannot read"), "{said}");
    assert_eq!(consul.index("weightd/").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_wait_of_a_file_that_needs_no_write_asks_the_nodes_as_well() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("weights.toml").display().to_string();
    fs::write(&path, "[app1]\nweights = { blue = 50, green = 50 }\n")?;
    let apply = ["apply", "-f", &path, "--yes", "--create", "--wait", "--timeout", "2s"];
    for (attempt, says) in [("the first", "1 differ, 0 are the same"), ("the same again", "0 differ, 1 are the same")] {
        let (_, said) = ends(&consul, 3, &apply).await.context(attempt)?;
        assert!(said.contains(says) && said.contains("no node reports below weightd/nodes/"), "{attempt}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_freeze_of_one_backend_stops_a_command_for_many_before_a_write() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("weights.toml").display().to_string();
    let file = |app2: u64| {
        let app = |name, blue| format!("[{name}]\nweights = {{ blue = {blue}, green = 50 }}\n");
        app("app1", 50) + &app("app2", app2)
    };
    for name in ["app1", "app2"] {
        consul.put(&format!("weightd/weights/{name}"), r#"{"weights":{"blue":9,"green":50}}"#).await?;
    }
    ends(&consul, 0, &["freeze", "app2", "-m", "audit"]).await?;
    let before = consul.index("weightd/weights/").await?;
    fs::write(&path, file(50))?;
    for verb in [&["apply", "-f", &path, "--yes"][..], &["shift", "app*", "--all", "green=50%", "--yes"]] {
        let (_, said) = ends(&consul, 7, verb).await?;
        assert!(said.contains("`app2` is frozen by alice") && said.contains("nothing was written"), "{verb:?}: {said}");
        assert_eq!(consul.index("weightd/weights/").await?, before, "{verb:?}: {said}");
    }
    // What needs no write may be frozen.
    fs::write(&path, file(9))?;
    let (_, said) = ends(&consul, 0, &["apply", "-f", &path, "--yes"]).await?;
    assert!(said.contains("1 differ, 1 are the same"), "{said}");
    Ok(())
}
