//! weightctl on a terminal, where it asks a question. `script` of util-linux provides the terminal.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{KEY, Output, document, ends};
use crate::harness::{Consul, PATIENCE, program};

/// A weightctl that waits for an answer.
struct Asking {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Asking {
    /// Starts `weightctl set …` and waits for its question.
    async fn start(consul: &Consul, arguments: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("script");
        program::without_consul(&mut command);
        let line = format!("{} {arguments}", program::binary("weightctl")?.display());
        let mut child = command
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .envs([("CONSUL_HTTP_ADDR", consul.address()), ("SHELL", "/bin/sh".to_owned())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start script, which is part of bsdutils")?;
        let keys = child.stdin.take().context("no keyboard")?;
        let screen = child.stdout.take().context("no screen")?;
        let mut asking = Self { child, keys, screen, seen: String::new() };
        timeout(PATIENCE, asking.see(Some("[y/N]"))).await.context("weightctl does not ask")??;
        Ok(asking)
    }

    /// Reads the screen until it contains `words`, or until the program ends.
    async fn see(&mut self, words: Option<&str>) -> anyhow::Result<()> {
        let mut piece = [0; 4096];
        while !words.is_some_and(|words| self.seen.contains(words)) {
            match self.screen.read(&mut piece).await? {
                0 if words.is_none() => break,
                0 => bail!("weightctl ended: {}", self.seen),
                n => self.seen.push_str(&String::from_utf8_lossy(&piece[..n])),
            }
        }
        Ok(())
    }

    /// Sends keys and waits for the end of the program.
    async fn press(mut self, keys: &str) -> anyhow::Result<Output> {
        self.keys.write_all(keys.as_bytes()).await?;
        self.keys.flush().await?;
        timeout(PATIENCE, self.see(None)).await.with_context(|| format!("it does not end: {}", self.seen))??;
        let status = timeout(PATIENCE, self.child.wait()).await??;
        Ok(Output { code: status.code().context("script was killed")?, out: self.seen, err: String::new() })
    }
}

#[tokio::test]
async fn only_y_or_yes_confirms() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    ends(&consul, 0, "set app1 blue=90 green=10 --yes --create").await?;
    let before = consul.index(KEY).await?;
    for (keys, code) in [("n\n", 1), ("\n", 1), ("yep\n", 1), ("\u{4}", 1), ("\u{3}", 130)] {
        let output = Asking::start(&consul, "set app1 green=20").await?.press(keys).await?;
        ensure!(output.code == code && output.out.contains("nothing was written"), "{keys:?}: {output:?}");
    }
    assert_eq!(consul.index(KEY).await?, before);

    let output = Asking::start(&consul, "set app1 green=20").await?.press("y\n").await?;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("10 → 20"), "it shows the change: {output:?}");
    // The question names the address of Consul.
    let question = format!("Write to Consul at {}, datacenter dc1? [y/N]", consul.address());
    assert!(output.out.contains(&question), "{question}: {output:?}");
    assert_eq!(document(&consul, KEY).await?["weights"]["green"], 20);
    Ok(())
}

#[tokio::test]
async fn a_change_by_another_writer_during_the_question_prevents_the_write() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("weightd/weights/leaves/blue", "1").await?;
    ends(&consul, 0, "set app1 blue=90 green=10 --yes --create").await?;
    ends(&consul, 0, "set fine blue=90 green=10 --yes --create").await?;

    let asking = Asking::start(&consul, "set app1 green=20").await?;
    ends(&consul, 0, "set app1 green=30 --yes --by bob --reason faster").await?;
    let output = asking.press("y\n").await?;
    assert_eq!(output.code, 5, "{output:?}");
    assert!(output.out.contains("blue=90 green=30, by bob") && output.out.contains("faster"), "{output:?}");
    assert_eq!(document(&consul, KEY).await?["weights"]["green"], 30);

    // weightctl writes only the change that it showed. Here a key appears, a key vanishes, and a leaf beside the
    // changed one appears.
    let asking = Asking::start(&consul, "set new blue=1 --create").await?;
    consul.put("weightd/weights/new", r#"{"weights":{"blue":7}}"#).await?;
    assert_eq!(asking.press("y\n").await?.code, 5);
    let asking = Asking::start(&consul, "release fine").await?;
    consul.delete("weightd/weights/fine").await?;
    assert_eq!(asking.press("y\n").await?.code, 5);
    let asking = Asking::start(&consul, "set leaves green=1 --create").await?;
    consul.put("weightd/weights/leaves/blue", "2").await?;
    assert_eq!(asking.press("y\n").await?.code, 5);
    assert_eq!(consul.get("weightd/weights/leaves/green").await?, None);
    let asking = Asking::start(&consul, "set leaves blue=1").await?;
    consul.put("weightd/weights/leaves", r#"{"weights":{"blue":7}}"#).await?;
    assert_eq!(asking.press("y\n").await?.code, 5);
    Ok(())
}

#[tokio::test]
async fn a_consul_that_stops_during_the_question_is_unreachable() -> anyhow::Result<()> {
    let mut consul = Consul::start().await?;
    ends(&consul, 0, "set app1 blue=90 green=10 --yes --create").await?;
    let asking = Asking::start(&consul, "set app1 green=20").await?;
    consul.kill().await?;
    let output = timeout(Duration::from_secs(15), asking.press("y\n")).await??;
    assert_eq!(output.code, 6, "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_closed_stdout_is_no_failure() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    ends(&consul, 0, "set app1 blue=90 green=10 --yes --create").await?;
    let mut command = std::process::Command::new(program::binary("weightctl")?);
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let status = tokio::task::spawn_blocking(move || {
        command.args(["get", "--http-addr", &consul.address()]).stdout(writer).status()
    });
    assert_eq!(timeout(PATIENCE, status).await???.code(), Some(0));
    Ok(())
}
