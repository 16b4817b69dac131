//! The page for those who come from consul-template, walked from its first line to its last on a live site.
//!
//! Each command of the page is run as it stands there, in its order, with the paths of the test in place of those of a
//! host; what the page prints below a command is what the command has to print. Where the page says `systemctl`, the test
//! starts and stops the program itself.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use weightd::weightd::config::{Config, Mode};

use crate::{
    common::{SOON, becomes, is, lines, stays},
    harness::{
        Apps, Consul, Haproxy, Port, Traffic, Weightd, config, eventually, program, traffic::Rate, weightd::Settings,
    },
};

mod old;
mod page;

use old::{Kind, Old};
use page::{PAGE, Step, steps};

/// A host with HAProxy, under traffic, with Consul.
struct Host {
    consul: Consul,
    haproxy: Haproxy,
    old: Old,
    weightd: Option<Weightd>,
    dir: TempDir,
    /// Not dropped before HAProxy: who answers.
    _apps: Apps,
}

impl Host {
    /// The packaged configuration of weightd, which the page changes before weightd starts.
    fn packaged(&self) -> PathBuf {
        self.dir.path().join("weightd.toml")
    }

    /// The text of the page with this host's paths.
    fn localised(&self, text: &str) -> String {
        let weightd =
            self.weightd.as_ref().map_or_else(|| self.packaged(), |weightd| weightd.dir().join("weightd.toml"));
        text.replace("weightctl check", "weightctl check --config /etc/weightd/weightd.toml")
            .replace("/etc/weightd/weightd.toml", &weightd.display().to_string())
            .replace("/run/haproxy/admin.sock", &self.haproxy.socket().display().to_string())
            .replace("/run/haproxy/weights.cmd", &self.dir.path().join("weights.cmd").display().to_string())
    }

    /// Runs a command of the page, and returns how it ended and what it printed.
    async fn run(&self, command: &str) -> anyhow::Result<(i32, String)> {
        let folder = |file: std::path::PathBuf| file.parent().map(Path::to_path_buf).unwrap_or_default();
        let own = [folder(program::binary("weightctl")?), folder(program::server("consul")?)];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?;
        let mut shell = Command::new("/bin/sh");
        program::without_consul(&mut shell);
        shell.args(["-c", &format!("exec 2>&1; {}", self.localised(command))]).env("PATH", path);
        shell.env("CONSUL_HTTP_ADDR", self.consul.address()).env("USER", "alice").env_remove("SUDO_USER");
        if let Some(weightd) = &self.weightd {
            shell.env("WEIGHTD_API", weightd.address());
        }
        let output = shell.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await?;
        let code = output.status.code().context("it was killed")?;
        Ok((code, String::from_utf8(output.stdout)?))
    }

    /// Does what `systemctl` would.
    async fn systemctl(&mut self, arguments: &str) -> anyhow::Result<()> {
        match (arguments, &mut self.weightd) {
            ("enable --now weightd", None) => {
                let mode = Config::load(Some(&self.packaged()), &|_| None)?.mode.to_string();
                ensure!(mode == "observe", "weightd starts with mode {mode}");
                let settings = Settings::new(&self.consul, &self.haproxy).set("mode", mode);
                self.weightd = Some(settings.set("reconcile.resync", "1s").start().await?);
                Ok(())
            }
            ("restart weightd", Some(weightd)) => weightd.restart().await,
            ("disable --now weightd", Some(weightd)) => weightd.stop().await,
            ("disable --now consul-template", _) => self.old.stop().await,
            ("enable --now consul-template", _) => self.old.start(),
            _ => bail!("the page says `systemctl {arguments}`, which makes no sense there"),
        }
    }

    /// Does one step of the page and compares what it prints.
    async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        let command = step.command.trim_start_matches("sudo ");
        if let Some(arguments) = command.strip_prefix("systemctl ") {
            return self.systemctl(arguments).await;
        }
        let looks =
            ["weightctl status", "weightctl check", "weightctl get"].iter().any(|verb| command.starts_with(verb));
        // What only looks may look too early.
        let within = if looks { SOON } else { Duration::ZERO };
        // A person types slower than a node reports.
        if step.prints("as desired before the change") {
            eventually(SOON, "the nodes report", async || {
                let (code, said) = self.run("weightctl diff").await?;
                ensure!(code == 0, "{said}");
                Ok(())
            })
            .await?;
        }
        let asked = async || {
            let (code, said) = self.run(command).await?;
            let expected = if step.prints("not converged") { 3 } else { 0 };
            ensure!(code == expected, "it ended with {code}:\n{said}");
            step.compare(&said, |line| self.localised(line))
        };
        let done = if looks { eventually(within, "it prints what the page says", asked).await } else { asked().await };
        done.with_context(|| format!("`{}` on the page", step.command))
    }
}

/// Walks the page, with consul-template or what stands for it.
async fn walk(kind: Kind) -> anyhow::Result<()> {
    let (apps, port) = (Apps::start().await?, Port::free()?);
    let sides = [("blue", apps.blue.port(), 90), ("green", apps.green.port(), 10)];
    let body = config::frontend(port.number(), "app1") + &config::backend("app1", &["balance roundrobin"], &sides, "");
    let (consul, haproxy) = crate::common::servers(&body).await?;
    consul.put("traffic/app1/blue", "90").await?;
    consul.put("traffic/app1/green", "10").await?;
    let dir = tempfile::Builder::new().prefix("coming-").tempdir()?;
    let mut old = Old::new(kind, &consul, &haproxy, dir.path())?;
    old.start()?;
    fs::write(dir.path().join("weightd.toml"), Config::default_toml())?;
    let mut host = Host { consul, haproxy, old, weightd: None, dir, _apps: apps };
    let traffic = Traffic::start(port.number(), Rate { kept: 50, fresh: 50 });

    for step in steps() {
        if step.command.starts_with("weightctl set") {
            let weightd = host.weightd.as_ref().context("no weightd")?;
            ensure!(lines(weightd, &["weight set"]).is_empty(), "weightd has set a weight before it was told to");
        }
        host.step(&step).await?;
        match step.command.as_str() {
            "consul kv put traffic/app1/blue 80" => becomes(&host.haproxy, "app1", 80, 20).await?,
            "sudo systemctl disable --now consul-template" => is(&host.haproxy, "app1", 80, 20).await?,
            command if command.starts_with("weightctl set") => becomes(&host.haproxy, "app1", 70, 30).await?,
            "sudo systemctl disable --now weightd" => is(&host.haproxy, "app1", 70, 30).await?,
            "sudo systemctl enable --now consul-template" => becomes(&host.haproxy, "app1", 70, 30).await?,
            _ => {}
        }
    }
    // consul-template is in charge again.
    host.consul.put("traffic/app1/green", "40").await?;
    becomes(&host.haproxy, "app1", 70, 40).await?;
    if kind == Kind::Commands {
        // Why the file has to go: what is rendered is the same, so nothing is run.
        host.old.stop().await?;
        host.haproxy.set_weight_by_hand("app1", "green", 1).await?;
        host.old.start()?;
        stays(&host.haproxy, "app1", 70, 1).await?;
    }
    traffic.count().expect_no_failure()
}

#[test]
fn its_command_changes_the_packaged_configuration_to_one_that_only_observes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weightd.toml");
    fs::write(&file, Config::default_toml())?;
    let commands: Vec<_> = steps().into_iter().map(|step| step.command).collect();
    let start = commands.iter().position(|command| command == "sudo systemctl enable --now weightd");
    let before = &commands[..start.context("weightd is not started")?];
    let [command] = before else { bail!("not one command before weightd is started: {before:?}") };
    let command = command.trim_start_matches("sudo ").replace("/etc/weightd/weightd.toml", &file.display().to_string());
    ensure!(std::process::Command::new("/bin/sh").args(["-c", &command]).status()?.success(), "{command}");
    assert_eq!(Config::load(Some(&file), &|_| None)?.mode, Mode::Observe);
    Ok(())
}

#[test]
fn no_command_of_it_is_left_out() {
    // What the walk does not know by its form would not be run.
    assert_eq!(PAGE.lines().filter(|line| line.starts_with("$ ")).count(), steps().len());
}

#[tokio::test]
async fn the_page_is_walked_with_a_stand_in_for_consul_template() -> anyhow::Result<()> {
    walk(Kind::StandIn).await
}

#[tokio::test]
#[ignore = "needs consul-template: `make coming`"]
async fn the_page_is_walked_with_consul_template_and_socat() -> anyhow::Result<()> {
    walk(Kind::Commands).await
}

#[tokio::test]
#[ignore = "needs consul-template: `make coming`"]
async fn the_page_is_walked_with_consul_template_and_reloads() -> anyhow::Result<()> {
    walk(Kind::Reloads).await
}
