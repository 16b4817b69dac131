//! rolloutd, the controller of rollouts.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Consul, Port, program, program::Program};

/// The configuration of a rolloutd.
#[derive(Debug)]
#[must_use]
pub struct Settings {
    config: toml::Table,
    environment: Vec<(String, String)>,
}

impl Settings {
    /// A controller with this name, for a Consul, with the management token.
    pub fn new(consul: &Consul, name: &str) -> Self {
        let settings = Self { config: toml::Table::new(), environment: Vec::new() };
        let mut settings = settings.set("consul.address", consul.address()).set("name", name);
        if let Some(token) = consul.token() {
            settings = settings.env("CONSUL_HTTP_TOKEN", token);
        }
        settings
    }

    /// Sets a value; `path` is `key` or `table.key`.
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> Self {
        let mut table = &mut self.config;
        let (parents, key) = path.rsplit_once('.').map_or((None, path), |(parents, key)| (Some(parents), key));
        for parent in parents.into_iter().flat_map(|parents| parents.split('.')) {
            let entry = table.entry(parent).or_insert_with(|| toml::Table::new().into());
            table = entry.as_table_mut().expect("a section");
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts rolloutd, and waits until it answers.
    pub async fn start(self) -> anyhow::Result<Rolloutd> {
        let dir = tempfile::Builder::new().prefix("rolloutd-").tempdir()?;
        let port = Port::free()?;
        let config = self.set("api.listen", format!("127.0.0.1:{port}"));
        let mut program = Program::new("rolloutd", program::binary("rolloutd")?, dir.path())
            .args(["--config".as_ref(), dir.path().join("rolloutd.toml").as_os_str()]);
        for (name, value) in &config.environment {
            program = program.env(name, value);
        }
        let http = super::http().timeout(Duration::from_secs(5)).pool_max_idle_per_host(0).build()?;
        let mut rolloutd = Rolloutd { program, port, http, dir };
        rolloutd.write(&config.config.to_string())?;
        rolloutd.start_again().await?;
        Ok(rolloutd)
    }
}

/// A running rolloutd.
#[derive(Debug)]
pub struct Rolloutd {
    program: Program,
    port: Port,
    http: reqwest::Client,
    dir: TempDir,
}

impl Rolloutd {
    /// Starts a controller with this name.
    pub async fn start(consul: &Consul, name: &str) -> anyhow::Result<Self> {
        Settings::new(consul, name).start().await
    }

    /// Starts it after its end, with the same files.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let (http, url) = (&self.http, format!("http://127.0.0.1:{}/live", self.port));
        let live = async || {
            ensure!(http.get(&url).send().await?.status() == 200);
            Ok(())
        };
        self.program.ready("/live answers", live).await
    }

    /// Stops it with SIGTERM and expects exit code 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.program.stop().await?;
        ensure!(status.success(), "rolloutd ended with {status}");
        Ok(())
    }

    /// Kills it.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill().await
    }

    /// The port of the API.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The process, for signals.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Replaces the configuration file.
    pub fn write(&self, config: &str) -> anyhow::Result<()> {
        fs::write(self.dir.path().join("rolloutd.toml"), config).context("cannot write rolloutd.toml")
    }

    /// Adds lines to the configuration file, which it takes over while it runs.
    pub fn add(&self, lines: &str) -> anyhow::Result<()> {
        let file = fs::read_to_string(self.dir.path().join("rolloutd.toml"))?;
        self.write(&format!("{file}\n{lines}"))?;
        self.program.signal(Signal::HUP)
    }

    /// The directory with the configuration file.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Reads a path of the API: status and body.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let answer = self.http.get(format!("http://127.0.0.1:{}{path}", self.port)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.program.log()
    }
}
