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

/// The first part of every configuration.
const GLOBAL: &str = include_str!("../../haproxy/global.cfg");

/// Expressions that HAProxy before 2.4 does not have, each with its replacement.
const SINCE_2_4: [(&str, &str); 2] = [("%[srv_uweight(", "%[lua.srv_uweight("), ("option idle-close-on-response", "")];

/// The polling interval where the test measures the time until a change is visible.
const FINE_POLL: Duration = Duration::from_millis(1);

/// A running HAProxy, with `haproxy/global.cfg` and the test's configuration.
#[derive(Debug)]
pub struct Haproxy {
    program: Program,
    dir: TempDir,
}

impl Haproxy {
    /// Starts a HAProxy with the frontends and backends of `body`.
    pub async fn start(body: &str) -> anyhow::Result<Self> {
        Self::start_with(body, &[]).await
    }

    /// The same, with environment variables for `"${NAME}"` in `body`.
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

    /// Starts HAProxy after `stop` or `kill`, with the same configuration.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let socket = self.socket();
        self.program.ready("the admin socket answers", async || runtime::info(&socket, "Pid").await).await?;
        Ok(())
    }

    /// The path of the admin socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// The address, in the form of weightd's configuration.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// The directory, for files that `body` names.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the configuration, without a reload.
    pub fn write(&self, body: &str) -> anyhow::Result<()> {
        fs::write(self.dir.path().join("haproxy.cfg"), configuration(body)?).context("cannot write haproxy.cfg")
    }

    /// Reloads with another configuration. Returns the time of the new worker's first answer.
    pub async fn reload(&mut self, body: &str) -> anyhow::Result<Instant> {
        self.write(body)?;
        self.reload_again().await
    }

    /// Reloads with the same configuration. Returns the time of the new worker's first answer.
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
            ensure!(Instant::now() < deadline, "no new worker of HAProxy; its log:\n{}", self.log());
            sleep(FINE_POLL).await;
        }
    }

    /// Reloads with the same configuration, and waits until no old worker can answer any more.
    pub async fn reload_completely(&mut self) -> anyhow::Result<()> {
        self.reload_again().await?;
        self.until_old_workers_ended().await
    }

    /// The pid of the worker that answers, once the master lists it as the current one. A master drops signals while it
    /// starts a worker, even after the worker's first answer. For a moment after a reload, the former worker may still
    /// answer.
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

    /// Waits until the workers from before the reloads have ended. An old worker accepts connections for a while after the
    /// new worker answers; before 2.4, until the new worker stops it. It also keeps its open connections.
    pub async fn until_old_workers_ended(&self) -> anyhow::Result<()> {
        let socket = self.dir.path().join("master.sock");
        eventually(PATIENCE, "HAProxy's old workers have ended", async || {
            let processes = runtime::command(&socket, "show proc").await?;
            // HAProxy 3.0 can miss the end of a worker during a reload: then it lists a process that is gone.
            let runs = |pid: &str| Path::new("/proc").join(pid).exists();
            let workers = processes.lines().filter(|line| {
                let words = line.split_whitespace().collect::<Vec<_>>();
                words.get(1) == Some(&"worker") && words.first().is_some_and(|pid| runs(pid))
            });
            let workers = workers.count();
            ensure!(workers == 1, "{processes}");
            Ok(())
        })
        .await
    }

    /// Stops HAProxy like a service manager, with SIGTERM. Open connections break, as in a restart.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.program.stop().await.map(drop)
    }

    /// Kills master and workers.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill().await
    }

    /// Stops the worker with SIGSTOP: the kernel accepts connections, but the worker does not answer.
    pub async fn pause(&self) -> anyhow::Result<Paused> {
        let pid = self.pid().await?;
        Paused::new(pid).context("cannot stop HAProxy's worker")
    }

    /// The master's process id. Signals go to the master.
    pub fn master_pid(&self) -> anyhow::Result<Pid> {
        self.program.pid()
    }

    /// The process id of the current worker.
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

    /// Waits until the servers of a backend have these weights. Polls every millisecond and returns the time of
    /// success.
    pub async fn until_weights(
        &self,
        backend: &str,
        expected: &[(&str, u32)],
        within: Duration,
    ) -> anyhow::Result<Instant> {
        until_weights(&self.socket(), backend, expected, within).await
    }

    /// Changes a weight through the admin socket, like a hand edit.
    pub async fn set_weight_by_hand(&self, backend: &str, server: &str, weight: u32) -> anyhow::Result<()> {
        let answer = self.command(&format!("set server {backend}/{server} weight {weight}")).await?;
        ensure!(answer.trim().is_empty(), "HAProxy answered {answer:?}");
        Ok(())
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// The text of haproxy.cfg for `body`, adapted to the HAProxy version under test.
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

/// The HAProxy version under test, such as (2, 6). Syntax and answers depend on it.
pub fn version() -> anyhow::Result<(u32, u32)> {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    if let Some(known) = VERSION.get() {
        return Ok(*known);
    }
    let output = Command::new(program::server("haproxy")?).arg("-v").output().context("cannot run `haproxy -v`")?;
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

/// The same as [`Haproxy::until_weights`] for a caller that cannot borrow the [`Haproxy`].
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
            bail!("{backend} does not have {expected:?} within {within:?}; last seen: {seen:?}");
        }
        sleep(FINE_POLL).await;
    }
}
