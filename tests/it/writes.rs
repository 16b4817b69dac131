//! weightctl reports "written" only for content that it has read back.

use std::process::Output;

use anyhow::ensure;
use reqwest::Method;

use crate::{
    common::key,
    harness::{
        Consul,
        gate::{Gate, Passage},
        weightd,
    },
};

/// The exit code and the output of a command.
async fn run(gate: &Gate, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let output: Output = weightd::weightctl(&[("CONSUL_HTTP_ADDR", &gate.address())], arguments).await?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    Ok((output.status.code().unwrap_or(-1), text))
}

/// Whether the output reports a write.
fn is_written(printed: &str) -> bool {
    printed.lines().any(|line| line.starts_with("written: "))
}

async fn text(consul: &Consul, path: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(consul.get(&key(path)).await?.unwrap_or_default())?)
}

/// Bodies that are not Consul's answers to a write.
const BODIES: [&str; 8] =
    ["", "{}", "[]", "null", "<html>ok</html>", r#"{"Results":null,"Errors":[]}"#, "\"true\"", "1"];

#[tokio::test]
async fn an_invalid_answer_is_not_taken_for_a_result() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    for (layout, keys) in [
        ("document", vec![("app", r#"{"weights":{"blue":1,"green":0}}"#)]),
        ("leaves", vec![("app/blue", "1"), ("app/green", "0")]),
    ] {
        consul.delete_tree("weightd/").await?;
        for (path, value) in keys {
            consul.put(&key(path), value).await?;
        }
        for (number, body) in BODIES.into_iter().enumerate() {
            let weight = 2 * number + 10;
            // The write succeeded, but its answer was lost: the read-back finds it.
            gate.rule(move |method, _| if method == Method::PUT { Passage::Answered(body) } else { Passage::Through });
            let (code, printed) = run(&gate, &["set", "app", &format!("blue={weight}"), "--yes"]).await?;
            ensure!(
                code == 0 && printed.contains(&format!("written: app blue={weight}")),
                "{layout} {body:?}: {code} {printed}"
            );
            let now = text(&consul, "app").await? + &text(&consul, "app/blue").await?;
            ensure!(now.contains(&weight.to_string()), "{layout} {body:?}: {now}");

            // The write failed, although the answer reports success.
            gate.rule(move |method, _| if method == Method::PUT { Passage::Swallowed(body) } else { Passage::Through });
            let (code, printed) = run(&gate, &["set", "app", &format!("blue={}", weight + 1), "--yes"]).await?;
            ensure!(code != 0 && !is_written(&printed), "{layout} {body:?}: {code} {printed}");
        }
        // Also with a body that looks like success.
        for body in ["true", r#"{"Results":[{"KV":{"Key":"x","ModifyIndex":1}}],"Errors":null}"#] {
            gate.rule(move |method, _| if method == Method::PUT { Passage::Swallowed(body) } else { Passage::Through });
            let (code, printed) = run(&gate, &["set", "app", "blue=200", "--yes"]).await?;
            ensure!(code != 0 && !is_written(&printed), "{layout} {body:?}: {code} {printed}");
        }
        gate.rule(|_, _| Passage::Through);
    }
    Ok(())
}

#[tokio::test]
async fn without_a_read_back_the_result_is_reported_as_unknown() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    consul.put(&key("app"), r#"{"weights":{"blue":1,"green":0}}"#).await?;
    let written = std::sync::atomic::AtomicBool::new(false);
    gate.rule(move |method, _| {
        let after = written.fetch_or(method == Method::PUT, std::sync::atomic::Ordering::Relaxed);
        if method == Method::PUT || after { Passage::Answered("<html>") } else { Passage::Through }
    });
    let (code, printed) = run(&gate, &["set", "app", "blue=5", "--yes"]).await?;
    ensure!(code != 0 && !is_written(&printed), "{printed}");
    ensure!(
        printed.contains("the result of the write is unknown") && printed.contains("weightctl get app"),
        "{printed}"
    );
    Ok(())
}

#[tokio::test]
async fn names_that_are_path_segments_and_weights_with_spaces_are_refused() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    consul.put(&key("app"), r#"{"weights":{"blue":1,"green":0}}"#).await?;
    let before = consul.index("weightd/").await?;
    for arguments in [
        &["set", ".", "blue=1", "--create", "--yes"][..],
        &["set", "..", "blue=1", "--create", "--yes"],
        &["release", "..", "--create", "--yes"],
        &["get", ".."],
        &["set", "app", "..=1", "--create", "--yes"],
        &["set", "app", "blue= 5", "--yes"],
        &["set", "app", "blue=5 ", "--yes"],
        &["set", "app", " blue=5", "--yes"],
    ] {
        let (code, printed) = run(&gate, arguments).await?;
        ensure!(code == 2, "{arguments:?}: {code} {printed}");
    }
    ensure!(consul.index("weightd/").await? == before, "the key was changed");
    Ok(())
}

#[tokio::test]
async fn a_reason_is_written_or_refused_but_never_dropped() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    consul.put(&key("app"), r#"{"weights":{"blue":90,"green":10},"reason":"old"}"#).await?;
    let (code, printed) = run(&gate, &["set", "app", "blue=90", "--reason", "as agreed", "--yes"]).await?;
    ensure!(code == 0 && printed.contains("written: app"), "{printed}");
    ensure!(text(&consul, "app").await?.contains(r#""reason":"as agreed""#), "{}", text(&consul, "app").await?);
    let before = consul.index("weightd/").await?;
    let (code, printed) = run(&gate, &["set", "app", "blue=90", "-m", "as agreed", "--yes"]).await?;
    ensure!(code == 0 && printed.contains("nothing to change"), "{printed}");
    let (code, printed) = run(&gate, &["set", "app", "blue=90", "--yes"]).await?;
    ensure!(code == 0 && printed.contains("nothing to change"), "{printed}");
    ensure!(consul.index("weightd/").await? == before, "the key was changed");
    // Leaves cannot hold a reason.
    consul.put(&key("leaves/blue"), "1").await?;
    let (code, printed) = run(&gate, &["set", "leaves", "blue=5", "--reason", "why", "--yes"]).await?;
    ensure!(code == 7 && printed.contains("--reason"), "{code} {printed}");
    ensure!(text(&consul, "leaves/blue").await? == "1", "it was written");
    Ok(())
}
