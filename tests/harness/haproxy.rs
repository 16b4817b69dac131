//! HAProxy as master and worker, with an admin socket.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    PATIENCE, eventually, program,
    program::{Paused, Program},
    runtime,
};

/// What every configuration begins with.
const GLOBAL: &str = include_str!("../../haproxy/global.cfg");

/// What HAProxy before 2.4 knows by another name, which it is loaded with, or does without being told.
const SINCE_2_4: [(&str, &str); 2] = [("%[srv_uweight(", "%[lua.srv_uweight("), ("option idle-close-on-response", "")];

/// Between two looks where the time until something is seen is the result.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// A running HAProxy: `haproxy/global.cfg` and what the test adds.
#[derive(Debug)]
pub struct Haproxy {
    program: Program,
    dir: TempDir,
}

impl Haproxy {
    /// Starts one with the frontends and backends of `body`.
    pub async fn start(body: &str) -> anyhow::Result<Self> {
        Self::start_with(body, &[]).await
    }

    /// The same with variables that `body` may name as `"${NAME}"`.
    pub async fn start_with(body: &str, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("haproxy-").tempdir()?;
        let master = dir.path().join("master.sock");
        let mut program = Program::new("haproxy", program::server("haproxy")?, dir.path())
            .args(["-W".as_ref(), "-S".as_ref(), master.as_os_str()])
            .args(["-f".as_ref(), dir.path().join("haproxy.cfg").as_os_str()])
            .env("ADMIN_SOCKET", dir.path().join("admin.sock"));
        for (name, value) in environment {
            program = program.env(name, value);
        }
        let mut haproxy = Self { program, dir };
        haproxy.write(body)?;
        haproxy.start_again().await?;
        Ok(haproxy)
    }

    /// Starts it after `stop` or `kill`, with the configuration it had.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let socket = self.socket();
        self.program.ready("its admin socket answers", async || runtime::info(&socket, "Pid").await).await?;
        Ok(())
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Its address as in weightd's configuration.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Its directory, for files that `body` names.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the configuration, without a reload.
    pub fn write(&self, body: &str) -> anyhow::Result<()> {
        fs::write(self.dir.path().join("haproxy.cfg"), configuration(body)?).context("cannot write haproxy.cfg")
    }

    /// Reloads it with another configuration. Returns when the new worker first answered.
    pub async fn reload(&mut self, body: &str) -> anyhow::Result<Instant> {
        self.write(body)?;
        self.reload_again().await
    }

    /// Reloads it with the configuration it has. Returns when the new worker first answered.
    pub async fn reload_again(&mut self) -> anyhow::Result<Instant> {
        let old = self.current_worker().await?;
        self.program.signal(Signal::USR2)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(pid) = self.pid().await
                && pid != old
            {
                return Ok(Instant::now());
            }
            self.program.check()?;
            ensure!(Instant::now() < deadline, "no new worker of HAProxy; it said:\n{}", self.log());
            sleep(CLOSE_LOOK).await;
        }
    }

    /// The worker that answers, once the master has it as its current one. A master drops signals while it starts a worker,
    /// which ends after the worker's first answer; and for a moment after a reload the former worker may still answer.
    async fn current_worker(&self) -> anyhow::Result<Pid> {
        let socket = self.dir.path().join("master.sock");
        eventually(PATIENCE, "the worker that answers is the master's current one", async || {
            let worker = self.pid().await?;
            let processes = runtime::command(&socket, "show proc").await?;
            let pid = worker.to_string();
            let current = processes.lines().take_while(|line| !line.starts_with("# old")).any(|line| {
                let words = line.split_whitespace().collect::<Vec<_>>();
                words.first() == Some(&pid.as_str()) && words.get(1) == Some(&"worker")
            });
            ensure!(current, "{processes}");
            Ok(worker)
        })
        .await
    }

    /// Waits until the workers from before its reloads have left. The worker before accepts connections for a while after
    /// the new one answers, before 2.4 until the new one tells it to stop, and keeps those that it has.
    pub async fn until_old_workers_left(&self) -> anyhow::Result<()> {
        let socket = self.dir.path().join("master.sock");
        eventually(PATIENCE, "HAProxy's old workers have left", async || {
            let processes = runtime::command(&socket, "show proc").await?;
            let workers = processes.lines().filter(|line| line.split_whitespace().nth(1) == Some("worker")).count();
            ensure!(workers == 1, "{processes}");
            Ok(())
        })
        .await
    }

    /// Ends it as a service manager does. Connections are cut, as for a restart.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.program.stop().await.map(drop)
    }

    /// Kills master and workers.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill().await
    }

    /// Makes the worker hang: it accepts connections, since the kernel does, and answers nothing.
    pub async fn pause(&self) -> anyhow::Result<Paused> {
        let pid = self.pid().await?;
        Paused::new(pid).context("cannot stop HAProxy's worker")
    }

    /// The master's process id, to which signals go.
    pub fn master_pid(&self) -> anyhow::Result<Pid> {
        self.program.pid()
    }

    /// The process id of the worker that answers now.
    pub async fn pid(&self) -> anyhow::Result<Pid> {
        let pid = runtime::info(&self.socket(), "Pid").await?;
        Pid::from_raw(pid.parse()?).context("a pid of 0")
    }

    /// Sends one line to the admin socket and returns the answer.
    pub async fn command(&self, line: &str) -> anyhow::Result<String> {
        runtime::command(&self.socket(), line).await
    }

    /// The weights of a backend's servers.
    pub async fn weights(&self, backend: &str) -> anyhow::Result<BTreeMap<String, u32>> {
        runtime::weights(&self.socket(), backend).await
    }

    /// Waits until every server of a backend has passed a health check.
    pub async fn until_checked(&self, backend: &str) -> anyhow::Result<()> {
        eventually(PATIENCE, "all servers pass their check", async || {
            let checked = runtime::checked(&self.socket(), backend).await?;
            ensure!(checked.values().all(|passed| *passed), "{checked:?}");
            Ok(())
        })
        .await
    }

    /// Waits until servers of a backend have the weights given, looking closely, and returns when that was seen.
    pub async fn until_weights(
        &self,
        backend: &str,
        expected: &[(&str, u32)],
        within: Duration,
    ) -> anyhow::Result<Instant> {
        until_weights(&self.socket(), backend, expected, within).await
    }

    /// Changes a weight as a person with the admin socket would.
    pub async fn set_weight_by_hand(&self, backend: &str, server: &str, weight: u32) -> anyhow::Result<()> {
        let answer = self.command(&format!("set server {backend}/{server} weight {weight}")).await?;
        ensure!(answer.trim().is_empty(), "HAProxy answered {answer:?}");
        Ok(())
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// What is in haproxy.cfg where `body` is asked for, in words that this version knows.
pub fn configuration(body: &str) -> anyhow::Result<String> {
    let mut text = format!("{GLOBAL}\n{body}");
    if version()? < (2, 4) {
        for (since, before) in SINCE_2_4 {
            text = text.replace(since, before);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/srv_uweight.lua");
        text = format!("global\n    lua-load {}\n{text}", script.display());
    }
    Ok(text)
}

/// The version of the HAProxy that is tested with, as (2, 6): not all of them take and say the same.
pub fn version() -> anyhow::Result<(u32, u32)> {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    if let Some(known) = VERSION.get() {
        return Ok(*known);
    }
    let output = Command::new(program::server("haproxy")?).arg("-v").output().context("cannot ask for the version")?;
    let banner = String::from_utf8_lossy(&output.stdout);
    let found = numbers(&banner).with_context(|| format!("no version in {banner:?}"))?;
    Ok(*VERSION.get_or_init(|| found))
}

/// The first two numbers of "HAProxy version 2.6.12-1+deb12u4 2026/10/14 - ...".
fn numbers(banner: &str) -> Option<(u32, u32)> {
    let (_, version) = banner.split_once("version ")?;
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// [`Haproxy::until_weights`] for whoever cannot borrow the [`Haproxy`].
pub async fn until_weights(
    socket: &Path,
    backend: &str,
    expected: &[(&str, u32)],
    within: Duration,
) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + within;
    loop {
        let seen = runtime::weights(socket, backend).await;
        let now = Instant::now();
        if let Ok(weights) = &seen
            && expected.iter().all(|(server, weight)| weights.get(*server) == Some(weight))
        {
            return Ok(now);
        }
        if now > deadline {
            bail!("{backend} has not {expected:?} within {within:?}; last seen: {seen:?}");
        }
        sleep(CLOSE_LOOK).await;
    }
}
