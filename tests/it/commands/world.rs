//! A host on which a command can be run as it is printed: HAProxy, Consul, weightd, and the two programs on the path.

use std::{io::ErrorKind, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};
use weightd::rolloutd::config::Config as ControllerConfig;

use crate::{
    common::{SOON, becomes, key, put},
    harness::{Consul, Haproxy, PATIENCE, Weightd, config, eventually, program, weightd::Settings},
};

/// Backends with documents.
const MANAGED: [&str; 2] = ["app", "app1"];
/// Backends without: commands start to manage them.
const UNMANAGED: [&str; 1] = ["app2"];

/// The host.
pub(super) struct World {
    consul: Consul,
    haproxy: Haproxy,
    weightd: Weightd,
    home: TempDir,
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) text: String,
}

impl World {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let servers = [("blue", 9, 100), ("green", 9, 0)];
        let names = MANAGED.iter().chain(&UNMANAGED);
        let lines = ["balance roundrobin", "stick-table type ip size 1k expire 1m"];
        let body: String = names.map(|name| config::backend(name, &lines, &servers, "")).collect();
        let (consul, haproxy) = crate::common::servers(&body).await?;
        // What the first observer writes: without it, nodes notice an observation only after up to 5 s.
        consul.put("weightd/observe/_", "{}").await?;
        let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
        let home = tempfile::tempdir()?;
        std::fs::write(home.path().join("rolloutd.toml"), ControllerConfig::default_toml())?;
        // The files that the help of `apply` and of `whois` name.
        std::fs::write(home.path().join("users.txt"), "alice\nbob\n")?;
        std::fs::write(home.path().join("weights.toml"), "[app1]\nweights = { blue = 80, green = 20 }\n")?;
        Ok(Self { consul, haproxy, weightd, home })
    }

    /// Makes it what every command, and every block of commands, finds: two backends with documents, nothing paused, and
    /// the keys of a template.
    pub(super) async fn reset(&self) -> anyhow::Result<()> {
        self.run("weightctl resume --local").await?;
        for name in MANAGED.iter().chain(&UNMANAGED) {
            self.consul.delete_tree(&format!("{}/", key(name))).await?;
        }
        for name in UNMANAGED {
            self.forget(name).await?;
        }
        for (server, weight) in [("blue", "90"), ("green", "10")] {
            self.consul.put(&format!("traffic/app/{server}"), weight).await?;
            self.consul.put(&format!("traffic/app1/{server}"), weight).await?;
        }
        self.consul.delete_tree("weightd/freeze").await?;
        self.consul.delete_tree("weightd/rollouts/").await?;
        for name in MANAGED {
            // A state to go back to.
            let history = r#"{"v":1,"entries":[{"way":"create","to":{"weights":{"blue":100,"green":0}}}]}"#;
            self.consul.put(&format!("weightd/history/{name}"), history).await?;
            put(&self.consul, name, 90, 10).await?;
            becomes(&self.haproxy, name, 90, 10).await?;
        }
        Ok(())
    }

    /// Makes a backend one that nobody has managed yet.
    pub(super) async fn forget(&self, backend: &str) -> anyhow::Result<()> {
        self.consul.delete(&key(backend)).await?;
        self.consul.delete(&format!("weightd/history/{backend}")).await
    }

    /// The text with the paths and addresses of this host.
    fn localised(&self, command: &str) -> String {
        let file = self.weightd.dir().join("weightd.toml").display().to_string();
        let daemon = format!("weightd --config {file} --");
        let command =
            if command.contains("--config") { command.to_owned() } else { command.replace("weightd --", &daemon) };
        let file_of_rolloutd = self.home.path().join("rolloutd.toml").display().to_string();
        let controller = format!("rolloutd --config {file_of_rolloutd} --");
        let command = if command.contains("--config") { command } else { command.replace("rolloutd --", &controller) };
        command
            .replace("/etc/weightd/rolloutd.toml", &file_of_rolloutd)
            .replace("/etc/weightd/weightd.toml", &file)
            .replace("/run/haproxy/admin.sock", &self.haproxy.socket().display().to_string())
    }

    /// Runs a command of a shell on a terminal, and answers each question with yes.
    pub(super) async fn run(&self, command: &str) -> anyhow::Result<Ended> {
        let mut path = Vec::new();
        for file in [program::binary("weightctl")?, program::server("consul")?] {
            path.extend(file.parent().map(ToOwned::to_owned));
        }
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut script = Command::new("script");
        program::without_consul(&mut script);
        let line = self.localised(command);
        let mut child = script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("PATH", std::env::join_paths(path)?)
            .envs([("CONSUL_HTTP_ADDR", self.consul.address()), ("WEIGHTD_API", self.weightd.address())])
            .envs([("USER", "alice"), ("SHELL", "/bin/sh"), ("NO_COLOR", "1"), ("SUDO_USER", "")])
            .env("WEIGHTD_CONFIG", self.weightd.dir().join("weightd.toml"))
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start script, which is part of bsdutils")?;
        // Kept until the end: script takes its end for the end of the terminal.
        let mut keys = child.stdin.take().context("no keyboard")?;
        // A command that asks nothing may have ended by now.
        match keys.write_all(b"y\n").await {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        let output = timeout(PATIENCE, child.wait_with_output()).await.context("it does not end")??;
        drop(keys);
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        Ok(Ended { code: output.status.code().context("script was killed")?, text })
    }

    /// Runs a command until it ends with `code`, if it only reads: what it shows may need a moment. Else once.
    pub(super) async fn ends(&self, command: &str, code: i32) -> anyhow::Result<String> {
        let reads = ["weightctl status", "weightctl check", "weightctl get", "weightd --once --dry-run"];
        // A node reports on documents after its first plain read, and Consul is read so every 10 s.
        let within = if reads.iter().any(|read| command.starts_with(read)) { SOON * 2 } else { Duration::ZERO };
        let run = async || {
            let ended = self.run(command).await?;
            ensure!(ended.code == code, "it ended with {} and not with {code}:\n{}", ended.code, ended.text);
            Ok(ended.text)
        };
        if within.is_zero() { run().await } else { eventually(within, "it ends as printed", run).await }
    }

    /// Sends HAProxy what a command pipes into socat.
    pub(super) async fn send(&self, line: &str) -> anyhow::Result<()> {
        let answer = self.haproxy.command(line).await?;
        ensure!(!answer.contains("Unknown command") && !answer.contains("No such"), "HAProxy says: {answer}");
        Ok(())
    }
}
