//! One weightd per HAProxy and per state directory, and one HAProxy per address.

use std::fs;

use anyhow::ensure;
use tokio::process::Command;

use crate::{
    common::{A_WHILE, SOON, backend, becomes, haproxy_is, key, lines, put, servers},
    harness::{Haproxy, Port, Weightd, always, eventually, program, weightd, weightd::Settings},
};

/// A configuration with these directories, for the HAProxy at `address`.
fn config(weightd: &Weightd, address: &str, state: &str, run: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(weightd.dir().join("weightd.toml"))?;
    let mut config: toml::Table = text.parse()?;
    let folder = |name: &str| weightd.dir().join(name).display().to_string();
    config.insert("state_dir".to_owned(), folder(state).into());
    config.insert("run_dir".to_owned(), folder(run).into());
    config.insert("api".to_owned(), toml::Table::from_iter([("listen".to_owned(), "off".into())]).into());
    let mut haproxy = toml::Table::new();
    haproxy.insert("name".to_owned(), "haproxy".into());
    haproxy.insert("address".to_owned(), address.into());
    config.insert("haproxy".to_owned(), toml::Value::Array(vec![haproxy.into()]));
    Ok(config.to_string())
}

/// Runs a second weightd beside `weightd`. It must refuse to start. Returns its stderr.
async fn second(weightd: &Weightd, config: String) -> anyhow::Result<String> {
    let file = weightd.dir().join("second.toml");
    fs::write(&file, config)?;
    let mut command = Command::new(program::binary("weightd")?);
    program::without_consul(&mut command);
    command.arg("--config").arg(&file).kill_on_drop(true);
    let output = tokio::time::timeout(SOON, command.output()).await??;
    let output_text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(75), "weightd ended with {}: {output_text}", output.status);
    Ok(output_text)
}

#[tokio::test]
async fn a_second_weightd_is_refused_for_the_same_haproxy_or_the_same_directory() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let pid = weightd.program().pid()?.to_string();
    let link = haproxy.dir().join("hard.sock");
    fs::hard_link(haproxy.socket(), &link)?;
    let other = Haproxy::start(&backend("app", 100, 0)).await?;
    let cases = [
        ("the same HAProxy, another run_dir", haproxy.address(), "state2", "run2"),
        ("a hard link to its socket", format!("unix:{}", link.display()), "state2", "run2"),
        ("another HAProxy, the same state_dir", other.address(), "state", "run2"),
    ];
    for (case, address, state, run) in cases {
        let output_text = second(&weightd, config(&weightd, &address, state, run)?).await?;
        ensure!(output_text.contains("another weightd") && output_text.contains(&pid), "{case}: {output_text}");
    }
    // Another HAProxy and another directory are free.
    put(&consul, "app", 50, 50).await?;
    becomes(&haproxy, "app", 50, 50).await?;
    becomes(&other, "app", 100, 0).await
}

#[tokio::test]
async fn a_haproxy_that_occurs_twice_in_a_configuration_is_an_error() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let link = haproxy.dir().join("hard.sock");
    fs::hard_link(haproxy.socket(), &link)?;
    let twice = Settings::new(&consul, &haproxy).haproxy("again", &format!("unix:{}", link.display())).start().await;
    let error = twice.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("exit status: 64") && error.contains("are the same HAProxy"), "{error}");
    Ok(())
}

#[tokio::test]
async fn two_haproxies_that_answer_alternately_are_reported_and_no_weight_is_set() -> anyhow::Result<()> {
    let port = Port::free()?;
    let body = format!("global\n    stats socket ipv4@127.0.0.1:{port} level admin\n{}", backend("app", 100, 0));
    // The kernel distributes connections to both.
    let (consul, first) = servers(&body).await?;
    let mut second = Haproxy::start(&body).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::without_haproxy(&consul.address())
        .haproxy("haproxy", &format!("tcp:127.0.0.1:{port}"))
        .start()
        .await?;
    haproxy_is(&weightd, 0, "down", Some("two_processes")).await?;
    let before = weightd.log().lines().count();
    always(A_WHILE, "the message is not repeated", async || {
        let now = weightd.log().lines().count();
        ensure!(now <= before + 5, "{now} lines after {before}: {}", weightd.log());
        Ok(())
    })
    .await?;
    assert!(lines(&weightd, &["HAProxy cannot be used", "two_processes", "hint="]).len() <= 2, "{}", weightd.log());
    assert_eq!(weightd.code("/ready").await?, 503);

    // `--once` ends. It succeeds only if the kernel sent all of its connections to one HAProxy.
    let file = weightd.dir().join("once.toml");
    fs::write(&file, config(&weightd, &format!("tcp:127.0.0.1:{port}"), "state2", "run2")?)?;
    let mut command = Command::new(program::binary("weightd")?);
    program::without_consul(&mut command);
    command.args(["--once", "--dry-run", "--config"]).arg(&file).kill_on_drop(true);
    let output = tokio::time::timeout(SOON, command.output()).await??;
    ensure!(output.status.code().is_some(), "{output:?}");

    // When only one HAProxy is left, weightd sets its weights.
    second.stop().await?;
    becomes(&first, "app", 70, 30).await?;
    eventually(SOON, "HAProxy is up again", async || weightd.get("/ready").await).await?;
    consul.delete(&key("app")).await
}

#[tokio::test]
async fn a_dry_run_renames_nothing() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let socket = weightd.dir().join("run/weightd.sock").display().to_string();
    let paused = weightd::weightctl(&[], &["pause", "--local", "--for", "1h", "--socket", &socket]).await?;
    ensure!(paused.status.success(), "{paused:?}");
    weightd.stop().await?;
    // Every file in both directories is damaged.
    let mut before = Vec::new();
    for folder in ["state", "run"] {
        for entry in fs::read_dir(weightd.dir().join(folder))? {
            let path = entry?.path();
            if path.is_file() && path.extension().is_none_or(|extension| extension != "lock") {
                fs::write(&path, "damaged")?;
                before.push(path);
            }
        }
    }
    ensure!(before.iter().any(|path| path.extension().is_some_and(|e| e == "state")), "{before:?}");
    let mut command = Command::new(program::binary("weightd")?);
    program::without_consul(&mut command);
    let file = weightd.dir().join("weightd.toml");
    command.args(["--once", "--dry-run", "--config"]).arg(&file).kill_on_drop(true);
    tokio::time::timeout(SOON, command.output()).await??;
    for path in &before {
        ensure!(fs::read_to_string(path)? == "damaged", "{} changed", path.display());
    }
    let mut after: Vec<_> = Vec::new();
    for folder in ["state", "run"] {
        let entries = fs::read_dir(weightd.dir().join(folder))?.collect::<Result<Vec<_>, _>>()?;
        after.extend(entries.into_iter().map(|entry| entry.path()));
    }
    ensure!(!after.iter().any(|path| path.to_string_lossy().contains("corrupt")), "{after:?}");
    Ok(())
}
