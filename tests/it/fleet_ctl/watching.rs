//! `traffic --watch`: a line or a table for each block, over a reload, until a signal ends it; then nothing is observed.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

use super::{Node, fleet};
use crate::{
    common::{SOON, document, key},
    harness::{Apps, Consul, Port, Traffic, config, eventually, program, traffic::Rate},
};

/// How long a line for the next block may take.
const LINE: Duration = Duration::from_secs(20);

fn watch(consul: &Consul, arguments: &[&str]) -> anyhow::Result<Child> {
    let mut command = Command::new(program::binary("weightctl")?);
    program::without_consul(&mut command);
    let command = command.args(["traffic", "app1", "--watch"]).args(arguments);
    let command = command.env("CONSUL_HTTP_ADDR", consul.address());
    command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("cannot start weightctl")
}

/// Sends a signal; it must end with 130 and leave no observation behind.
async fn ends(mut child: Child, signal: Signal, consul: &Consul) -> anyhow::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).context("no pid")?;
    kill_process(pid, signal)?;
    let status = timeout(SOON, child.wait()).await.context("it does not end")??;
    ensure!(status.code() == Some(130), "{status}");
    let keys = consul.http().request(Method::GET, "kv/weightd/observe/?keys").send().await?.text().await?;
    ensure!(!keys.contains("app1"), "after {signal:?} the observation is left: {keys}");
    Ok(())
}

#[tokio::test]
async fn each_block_is_a_line_also_over_a_reload() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/observe/_", "{}").await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    let (apps, port) = (Apps::start().await?, Port::free()?);
    let servers = [("blue", apps.blue.port(), 90), ("green", apps.green.port(), 10)];
    let body =
        config::frontend(port.number(), "app1") + &config::backend("app1", &["balance roundrobin"], &servers, "");
    let mut node = Node::start_with(&consul, "lb1", &body, |settings| settings).await?;
    node.has_newer(&consul, 0).await?;
    let load = Traffic::start(port.number(), Rate { kept: 0, fresh: 50 });
    let mut child = watch(&consul, &["-o", "json"])?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let (mut before, mut since) = (load.count(), Instant::now());
    for number in 0..4 {
        let line = timeout(LINE, lines.next_line()).await.context("no line")??.context("it ended")?;
        let view: Value = serde_json::from_str(&line)?;
        let rates =
            view["rows"].as_array().context("no rows")?.iter().filter_map(|row| row["requests_per_second"].as_f64());
        let rate: f64 = rates.sum();
        // The clients are slower than asked for on a busy machine. Less than what they did is shown only where the line says
        // so, and never more.
        #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
        let real = load.since(&before).answered() as f64 / since.elapsed().as_secs_f64();
        (before, since) = (load.count(), Instant::now());
        let torn = view["torn"] == 1;
        ensure!(rate < 56.0, "line {number}: {rate} requests/s instead of 50: {view}");
        // The first block begins with the observation, and not with the line before.
        let shown = number == 0 || torn || rate > real * 0.8;
        ensure!(shown, "line {number}: {rate} requests/s instead of {real}: {view}");
        if number == 1 {
            node.haproxy.reload_again().await?;
        }
    }
    ensure!(load.count().answered() > 0);
    ends(child, Signal::TERM, &consul).await
}

#[tokio::test]
async fn a_signal_ends_it_and_the_observation() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    for signal in [Signal::INT, Signal::HUP] {
        let child = watch(&consul, &[])?;
        eventually(SOON, "it observes", async || {
            let keys = consul.http().request(Method::GET, "kv/weightd/observe/?keys").send().await?.text().await?;
            ensure!(keys.contains("app1"), "{keys}");
            Ok(())
        })
        .await?;
        ends(child, signal, &consul).await?;
    }
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_it_is_redrawn_within_80_columns() -> anyhow::Result<()> {
    let (consul, _nodes) = fleet(1).await?;
    let mut script = Command::new("script");
    program::without_consul(&mut script);
    // `stty` says how wide the terminal is.
    let line = format!("stty cols 80 rows 24; exec {} traffic app1 --watch", program::binary("weightctl")?.display());
    let mut child = script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .envs([("CONSUL_HTTP_ADDR", consul.address()), ("SHELL", "/bin/sh".to_owned())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdout = child.stdout.take().context("no screen")?;
    let (mut screen, mut piece) = (String::new(), [0; 4096]);
    while screen.matches("\u{1b}[H\u{1b}[2J").count() < 3 {
        let read = timeout(LINE, stdout.read(&mut piece)).await.context("nothing is drawn")??;
        ensure!(read > 0, "it ended: {screen}");
        screen.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    ensure!(screen.contains("SIDE") && screen.contains("blue"), "{screen:?}");
    let plain = anstream::adapter::strip_str(&screen).to_string();
    ensure!(plain.lines().all(|line| line.trim_end().chars().count() <= 80), "{plain}");
    Ok(())
}
