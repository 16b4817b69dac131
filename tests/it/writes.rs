//! weightctl says "written" only for what it has read back.

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

/// What a command ended with, and what it said.
async fn run(gate: &Gate, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let output: Output = weightd::weightctl(&[("CONSUL_HTTP_ADDR", &gate.address())], arguments).await?;
    let said = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    Ok((output.status.code().unwrap_or(-1), said))
}

/// Whether it says that it was written.
fn is_written(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("written: "))
}

async fn text(consul: &Consul, path: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(consul.get(&key(path)).await?.unwrap_or_default())?)
}

/// Bodies that are not what Consul answers to a write.
const BODIES: [&str; 8] =
    ["", "{}", "[]", "null", "<html>ok</html>", r#"{"Results":null,"Errors":[]}"#, "\"true\"", "1"];

#[tokio::test]
async fn an_answer_that_is_no_result_is_not_taken_for_one() -> anyhow::Result<()> {
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
            // It was written, and the answer was lost: it is read back.
            gate.rule(move |method, _| if method == Method::PUT { Passage::Answered(body) } else { Passage::Through });
            let (code, said) = run(&gate, &["set", "app", &format!("blue={weight}"), "--yes"]).await?;
            ensure!(
                code == 0 && said.contains(&format!("written: app blue={weight}")),
                "{layout} {body:?}: {code} {said}"
            );
            let now = text(&consul, "app").await? + &text(&consul, "app/blue").await?;
            ensure!(now.contains(&weight.to_string()), "{layout} {body:?}: {now}");

            // It was not written, whatever was answered.
            gate.rule(move |method, _| if method == Method::PUT { Passage::Swallowed(body) } else { Passage::Through });
            let (code, said) = run(&gate, &["set", "app", &format!("blue={}", weight + 1), "--yes"]).await?;
            ensure!(code != 0 && !is_written(&said), "{layout} {body:?}: {code} {said}");
        }
        // Also what looks like success.
        for body in ["true", r#"{"Results":[{"KV":{"Key":"x","ModifyIndex":1}}],"Errors":null}"#] {
            gate.rule(move |method, _| if method == Method::PUT { Passage::Swallowed(body) } else { Passage::Through });
            let (code, said) = run(&gate, &["set", "app", "blue=200", "--yes"]).await?;
            ensure!(code != 0 && !is_written(&said), "{layout} {body:?}: {code} {said}");
        }
        gate.rule(|_, _| Passage::Through);
    }
    Ok(())
}

#[tokio::test]
async fn where_it_cannot_be_read_back_the_result_is_unknown() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    consul.put(&key("app"), r#"{"weights":{"blue":1,"green":0}}"#).await?;
    let written = std::sync::atomic::AtomicBool::new(false);
    gate.rule(move |method, _| {
        let after = written.fetch_or(method == Method::PUT, std::sync::atomic::Ordering::Relaxed);
        if method == Method::PUT || after { Passage::Answered("<html>") } else { Passage::Through }
    });
    let (code, said) = run(&gate, &["set", "app", "blue=5", "--yes"]).await?;
    ensure!(code != 0 && !is_written(&said), "{said}");
    ensure!(said.contains("the result of the write is unknown") && said.contains("weightctl get app"), "{said}");
    Ok(())
}

#[tokio::test]
async fn names_that_are_segments_of_a_path_and_weights_with_spaces_are_refused() -> anyhow::Result<()> {
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
        let (code, said) = run(&gate, arguments).await?;
        ensure!(code == 2, "{arguments:?}: {code} {said}");
    }
    ensure!(consul.index("weightd/").await? == before, "something was written");
    Ok(())
}

#[tokio::test]
async fn a_reason_is_written_or_refused_and_never_dropped() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    consul.put(&key("app"), r#"{"weights":{"blue":90,"green":10},"reason":"old"}"#).await?;
    let (code, said) = run(&gate, &["set", "app", "blue=90", "--reason", "as agreed", "--yes"]).await?;
    ensure!(code == 0 && said.contains("written: app"), "{said}");
    ensure!(text(&consul, "app").await?.contains(r#""reason":"as agreed""#), "{}", text(&consul, "app").await?);
    let before = consul.index("weightd/").await?;
    let (code, said) = run(&gate, &["set", "app", "blue=90", "-m", "as agreed", "--yes"]).await?;
    ensure!(code == 0 && said.contains("nothing to change"), "{said}");
    let (code, said) = run(&gate, &["set", "app", "blue=90", "--yes"]).await?;
    ensure!(code == 0 && said.contains("nothing to change"), "{said}");
    ensure!(consul.index("weightd/").await? == before, "something was written");
    // Leaves hold none.
    consul.put(&key("leaves/blue"), "1").await?;
    let (code, said) = run(&gate, &["set", "leaves", "blue=5", "--reason", "why", "--yes"]).await?;
    ensure!(code == 7 && said.contains("--reason"), "{code} {said}");
    ensure!(text(&consul, "leaves/blue").await? == "1", "it was written");
    Ok(())
}
