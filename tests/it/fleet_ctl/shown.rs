//! `status`, `diff` and `node` of a fleet.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use super::{fleet, run};
use crate::{
    common::SOON,
    harness::{
        eventually,
        gate::{Gate, Passage},
        program,
        weightd::weightctl,
    },
};

#[tokio::test]
async fn the_status_of_the_fleet_names_what_is_not_in_sync() -> anyhow::Result<()> {
    let (consul, nodes) = fleet(2).await?;
    run(&consul, "set app1 blue=90 green=10 --yes --create --wait").await?.expect(0, &[])?;
    eventually(SOON, "everything is in sync", async || {
        run(&consul, "status").await?.expect(0, &["2 of 2 in sync", "2/2"]).map(drop)
    })
    .await?;
    run(&consul, "diff").await?.expect(0, &["no node differs"])?;
    run(&consul, "status --problems").await?.expect(0, &["no problems"])?;
    run(&consul, "status app11").await?.expect(7, &["did you mean `app1`"])?;
    run(&consul, "status --node lb11").await?.expect(7, &["did you mean `lb1`"])?;
    run(&consul, "status --watch").await?.expect(2, &["hint: ", "-o json"])?;

    nodes[1].local(&["pause", "app1", "--for", "10m"]).await?;
    run(&consul, "set app1 green=50 --yes").await?.expect(0, &[])?;
    let status = eventually(SOON, "one node is paused", async || {
        run(&consul, "status").await?.expect(3, &["1 of 2 in sync", "lb2 paused", "1 not: paused"])
    })
    .await?;
    ensure!(status.out.lines().all(|line| line.chars().count() <= 80), "{}", status.out);
    run(&consul, "status app1").await?.expect(3, &["lb1          has it", "paused", "1/2 have it"])?;
    run(&consul, "status --node lb1").await?.expect(0, &["in sync", "HAProxy haproxy"])?;
    run(&consul, "status --node lb2").await?.expect(3, &["app1"])?;
    run(&consul, "status --problems").await?.expect(3, &["on lb2: `weightctl status app1 --local`"])?;
    let json = run(&consul, "status -o json").await?.expect(3, &[])?.json()?;
    ensure!((&json["counted"], &json["in_sync"]) == (&json!(2), &json!(1)), "{json}");
    ensure!(json["backends"][0]["differs"][0]["reason"] == "paused", "{json}");
    let diff = run(&consul, "diff app1 -o json").await?.expect(8, &[])?.json()?;
    ensure!(diff["differences"][0]["node"] == "lb2" && diff["differences"][0]["final"] == true, "{diff}");

    // What a problem suggests works on the host.
    let address = consul.address();
    let api = nodes[1].weightd.address();
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("WEIGHTD_API", api.as_str())];
    let local = weightctl(&environment, &["status", "app1", "--local"]).await?;
    ensure!(local.status.code() == Some(3), "{local:?}");
    let local = weightctl(&environment, &["status", "app11", "--local"]).await?;
    ensure!(local.status.code() == Some(7), "{local:?}");
    Ok(())
}

#[tokio::test]
async fn a_host_without_weightd_is_missed_if_it_is_expected() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    run(&consul, "set app1 blue=90 green=10 --yes --create --wait").await?.expect(0, &[])?;
    run(&consul, "node expect 2").await?.expect(0, &["written: 2 nodes expected"])?;
    run(&consul, "node expect 2").await?.expect(0, &["nothing to change"])?;
    let said = run(&consul, "set app1 green=20 --yes --wait --timeout 2s").await?;
    said.expect(3, &["1 of 2 nodes have app1", "1 expected but never reported"])?;
    run(&consul, "status").await?.expect(3, &["2 expected"])?;
    run(&consul, "diff").await?.expect(8, &["1 expected nodes never reported"])?;
    run(&consul, "status app1").await?.expect(3, &["1/2 have it; expected but never reported: 1"])?;
    run(&consul, "status app1 --problems").await?.expect(3, &["1 of 2 expected nodes never reported"])?;
    let status = run(&consul, "status app1 -o json").await?.expect(3, &[])?.json()?;
    ensure!(status["backends"][0]["unknown"] == 1 && status["problems"][0]["backend"].is_null(), "{status}");
    run(&consul, "node expect 1").await?.expect(0, &[])?;
    run(&consul, "set app1 green=30 --yes --wait").await?.expect(0, &[])?;
    run(&consul, "node list -o json").await?.expect(0, &[r#""node": "lb1""#])?;

    // A key that cannot be read counts as nothing known.
    consul.put("weightd/expect", "many").await?;
    let off = run(&consul, "status")
        .await?
        .expect(3, &["1 of 1 in sync", "off: weightd/expect: ", "`weightctl node expect N`"])?;
    ensure!(off.out.lines().all(|line| line.chars().count() <= 80), "{}", off.out);
    let said = run(&consul, "set app1 green=40 --yes --wait --timeout 2s").await?;
    said.expect(3, &["weightd/expect cannot be read", "`weightctl node expect N`"])?;
    run(&consul, "node expect 1").await?.expect(0, &[])?;
    Ok(())
}

#[tokio::test]
async fn a_report_that_is_garbage_never_counts() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    for (node, value) in [("evil", "\u{1b}[2J"), ("newer", r#"{"v":2}"#)] {
        consul.put(&format!("weightd/nodes/{node}"), value).await?;
    }
    let said = run(&consul, "set app1 blue=90 green=10 --yes --create --wait --timeout 2s").await?;
    let said = said.expect(3, &["1 of 3 nodes have app1", "evil (unreadable), newer (unreadable)"])?;
    let status = run(&consul, "status").await?.expect(3, &["evil", "newer", "unreadable"])?;
    for text in [said.err, status.out, status.err] {
        ensure!(!text.contains('\u{1b}'), "text of a node reaches the terminal: {text:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reading_that_is_lost_after_the_table_is_a_note() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    let gate = Gate::open(&consul).await?;
    gate.rule(|_, path| if path == "/v1/kv/weightd/weights/app1" { Passage::Closed } else { Passage::Through });
    let address = gate.address();
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("WEIGHTD_API", "http://127.0.0.1:1")];
    let status = weightctl(&environment, &["status", "app1"]).await?;
    let said = String::from_utf8_lossy(&status.stderr);
    ensure!(status.status.code() == Some(0) && said.contains("note: what HAProxy has is not known"), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_shows_the_fleet_again_every_second_until_it_is_interrupted() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    let mut command = Command::new(program::binary("weightctl")?);
    program::without_consul(&mut command);
    let mut child = command
        .args(["status", "--watch", "-o", "json"])
        .env("CONSUL_HTTP_ADDR", consul.address())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    for _ in 0..3 {
        let line = timeout(SOON, lines.next_line()).await.context("no line")??.context("it ended")?;
        let view: serde_json::Value = serde_json::from_str(&line)?;
        ensure!(view["nodes"][0]["node"] == "lb1", "{view}");
    }
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).context("no pid")?;
    kill_process(pid, Signal::INT)?;
    let status = timeout(SOON, child.wait()).await.context("it does not end")??;
    ensure!(status.code() == Some(130), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_watch_fits_the_terminal() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    for number in 0..20 {
        consul.put(&format!("weightd/weights/other{number}"), r#"{"weights":{"blue":1}}"#).await?;
    }
    let mut script = Command::new("script");
    program::without_consul(&mut script);
    let weightctl = program::binary("weightctl")?;
    let line = format!("stty rows 10 cols 80; timeout --signal INT 3 {} status --watch", weightctl.display());
    let output = script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .envs([("CONSUL_HTTP_ADDR", consul.address()), ("SHELL", "/bin/sh".to_owned())])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SOON * 2, output).await.context("it does not end")??;
    let seen = String::from_utf8(output.stdout)?;
    let screens: Vec<_> = seen.split("\u{1b}[2J").filter(|screen| screen.contains("NODE")).collect();
    ensure!(screens.len() >= 2, "{seen:?}");
    for screen in screens {
        ensure!(screen.contains(" lines more"), "{screen:?}");
        ensure!(screen.matches('\n').count() <= 10, "{screen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_the_wait_redraws_one_line_of_80_columns() -> anyhow::Result<()> {
    let (consul, mut nodes) = fleet(2).await?;
    nodes[1].haproxy.stop().await?;
    let mut script = Command::new("script");
    program::without_consul(&mut script);
    let line = format!("{} set app1 green=7 --yes --wait --timeout 3s", program::binary("weightctl")?.display());
    let output = script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .envs([("CONSUL_HTTP_ADDR", consul.address()), ("SHELL", "/bin/sh".to_owned())])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SOON * 2, output).await.context("it does not end")??;
    let screen = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(3), "{screen:?}");
    let bar = "app1 [##########..........] 1/2  lb2 down";
    ensure!(screen.contains(&format!("\r{bar}")), "{screen:?}");
    // What follows starts on an empty line.
    ensure!(screen.contains(&format!("\r{}\r", " ".repeat(bar.len()))), "{screen:?}");
    let mut bars = screen.split(['\r', '\n']).filter(|line| line.starts_with("app1 ["));
    ensure!(bars.all(|line| line.chars().count() < 80), "{screen:?}");
    Ok(())
}
