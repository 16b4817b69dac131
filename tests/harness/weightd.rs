//! The programs under test.

use std::{fs, path::Path, process::Output, time::Duration};

use anyhow::{Context as _, bail, ensure};
use rustix::process::geteuid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use super::{Consul, Haproxy, PATIENCE, Port, program, program::Program};

/// The configuration and environment of a weightd.
#[derive(Debug)]
#[must_use]
pub struct Settings {
    config: toml::Table,
    environment: Vec<(String, String)>,
    bound_by_modes: bool,
    descriptors: Option<u32>,
}

impl Settings {
    /// For one HAProxy and one Consul, with the management token. The resync interval is the default, 10 s.
    pub fn new(consul: &Consul, haproxy: &Haproxy) -> Self {
        let mut settings = Self::without_haproxy(&consul.address()).haproxy("haproxy", &haproxy.address());
        if let Some(token) = consul.token() {
            settings = settings.env("CONSUL_HTTP_TOKEN", token);
        }
        settings
    }

    /// For a Consul at `address`, without any HAProxy.
    pub fn without_haproxy(address: &str) -> Self {
        let settings =
            Self { config: toml::Table::new(), environment: Vec::new(), bound_by_modes: false, descriptors: None };
        settings.set("consul.address", address).set("node", "lb1")
    }

    /// Adds an instance of HAProxy.
    pub fn haproxy(self, name: &str, address: &str) -> Self {
        self.instance(&[("name", name), ("address", address)])
    }

    /// Adds an instance of HAProxy with these keys.
    pub fn instance(mut self, keys: &[(&str, &str)]) -> Self {
        let instance = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect::<toml::Table>();
        let list = self.config.entry("haproxy").or_insert_with(|| toml::Value::Array(Vec::new()));
        if let toml::Value::Array(list) = list {
            list.push(instance.into());
        }
        self
    }

    /// Sets a value; `path` is `key` or `table.key`.
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> Self {
        match path.split_once('.') {
            None => drop(self.config.insert(path.to_owned(), value.into())),
            Some((table, key)) => {
                let table = self.config.entry(table).or_insert_with(|| toml::Table::new().into());
                if let toml::Value::Table(table) = table {
                    table.insert(key.to_owned(), value.into());
                }
            }
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// weightd obeys the permissions of files, also if root runs the tests.
    pub fn bound_by_modes(mut self) -> Self {
        self.bound_by_modes = true;
        self
    }

    /// Limits the number of open file descriptors.
    pub fn descriptors(mut self, count: u32) -> Self {
        self.descriptors = Some(count);
        self
    }

    /// Starts weightd. Does not wait until it is ready: weightd also runs without Consul and HAProxy.
    pub async fn start(self) -> anyhow::Result<Weightd> {
        let dir = tempfile::Builder::new().prefix("weightd-").tempdir()?;
        let port = Port::free()?;
        let mut config = self.set("api.listen", format!("127.0.0.1:{port}"));
        for (name, key) in [("state", "state_dir"), ("run", "run_dir")] {
            let path = dir.path().join(name);
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
            config = config.set(key, path.display().to_string());
        }
        let binary = program::binary("weightd")?;
        let program = if config.bound_by_modes && geteuid().is_root() {
            Program::new("weightd", program::SETPRIV.into(), dir.path()).args(program::BOUND_BY_MODES).args([binary])
        } else if let Some(count) = config.descriptors {
            let limited = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
            Program::new("weightd", "/bin/sh".into(), dir.path()).args([
                "-c".into(),
                limited.into(),
                binary.into_os_string(),
            ])
        } else {
            Program::new("weightd", binary, dir.path())
        };
        let mut program = program.args(["--config".as_ref(), dir.path().join("weightd.toml").as_os_str()]);
        for (name, value) in &config.environment {
            program = program.env(name, value);
        }
        // No connection is kept: a benchmark blocks its runtime, and does not see that weightd closes one that is idle.
        let http = super::http().timeout(PATIENCE).pool_max_idle_per_host(0).build()?;
        let mut weightd = Weightd { program, port, http, dir };
        weightd.write(&config.config.to_string())?;
        weightd.start_again().await?;
        Ok(weightd)
    }
}

/// A running weightd.
#[derive(Debug)]
pub struct Weightd {
    program: Program,
    port: Port,
    http: reqwest::Client,
    dir: TempDir,
}

impl Weightd {
    /// Starts a weightd for this Consul and HAProxy, with defaults for everything else.
    pub async fn start(consul: &Consul, haproxy: &Haproxy) -> anyhow::Result<Self> {
        Settings::new(consul, haproxy).start().await
    }

    /// Starts weightd after its end, with the same files.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let (http, url) = (&self.http, format!("{}/live", self.address()));
        self.program.ready("/live answers", async || get(http, &url).await).await.map(drop)
    }

    /// Stops weightd and starts it again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Stops weightd with SIGTERM and expects exit code 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.program.stop().await?;
        ensure!(status.success(), "weightd ended with {status}");
        Ok(())
    }

    /// Kills weightd.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill().await
    }

    /// The process, for signals.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Replaces the configuration file.
    pub fn write(&self, config: &str) -> anyhow::Result<()> {
        fs::write(self.dir.path().join("weightd.toml"), config).context("cannot write weightd.toml")
    }

    /// The directory with the configuration file, `state/` and `run/`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL of the API.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Reads a path of the API: the body of a 200.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        get(&self.http, &format!("{}{path}", self.address())).await
    }

    /// Reads a path of the API: the status code.
    pub async fn code(&self, path: &str) -> anyhow::Result<u16> {
        let answer = self.http.get(format!("{}{path}", self.address())).send().await?;
        Ok(answer.status().as_u16())
    }

    /// The status.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let body = self.get("/v1/status").await?;
        serde_json::from_str(&body).with_context(|| format!("the status is not JSON: {body:?}"))
    }

    /// The status of one backend on the first instance.
    pub async fn backend(&self, backend: &str) -> anyhow::Result<Value> {
        let mut status = self.status().await?;
        let backends = status["instances"][0]["backends"].as_array_mut().context("no backends in the status")?;
        let found = backends.iter_mut().find(|entry| entry["backend"] == backend);
        found.map(Value::take).with_context(|| format!("no {backend} in the status"))
    }

    /// The metrics.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        self.get("/metrics").await
    }

    /// The value of a metric. `series` is its name with labels, exactly as in `/metrics`.
    pub async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let metrics = self.metrics().await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {series} in\n{metrics}"))?.parse()?)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Whether a line of the log contains all of these words.
    pub fn logs_contain(&self, words: &[&str]) -> bool {
        self.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    }
}

async fn get(http: &reqwest::Client, url: &str) -> anyhow::Result<String> {
    let answer = http.get(url).send().await?;
    let status = answer.status();
    let body = answer.text().await?;
    ensure!(status == 200, "{url}: {status}: {}", body.trim());
    Ok(body)
}

/// Runs weightctl until it ends, without a terminal.
pub async fn weightctl(environment: &[(&str, &str)], arguments: &[&str]) -> anyhow::Result<Output> {
    weightctl_within(PATIENCE, environment, arguments).await
}

/// As [`weightctl`], for a command that waits longer.
pub async fn weightctl_within(
    within: Duration,
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> anyhow::Result<Output> {
    let mut command = Command::new(program::binary("weightctl")?);
    program::without_consul(&mut command);
    command.args(arguments).envs(environment.iter().copied()).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match timeout(within, command.output()).await {
        Ok(output) => output.context("cannot run weightctl"),
        Err(_) => bail!("weightctl {} did not end within {within:?}", arguments.join(" ")),
    }
}
