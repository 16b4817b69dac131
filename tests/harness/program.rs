//! A child process that ends with its owner.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::PATIENCE;

/// If true, the logs of ended programs are not printed. For the benchmark: it has no test runner that captures them.
pub static QUIET: AtomicBool = AtomicBool::new(false);

/// The program of util-linux that drops privileges.
pub const SETPRIV: &str = "/usr/bin/setpriv";
/// Without these capabilities, root obeys the permissions of files like any other user.
pub const BOUND_BY_MODES: [&str; 2] = ["--bounding-set", "-dac_override,-dac_read_search"];

/// The number of log lines in an error.
const TAIL: usize = 30;

/// The path of a server: first `TEST_HAPROXY` or `TEST_CONSUL`, then the result of `make servers` below the target
/// directory of this program, then the program that is installed on the machine.
pub fn server(name: &str) -> anyhow::Result<PathBuf> {
    let variable = format!("TEST_{}", name.to_uppercase().replace('-', "_"));
    if let Some(named) = std::env::var_os(&variable).map(PathBuf::from) {
        ensure!(named.is_file(), "{variable} is {}, which is not a file", named.display());
        return Ok(named);
    }
    let own = std::env::current_exe().context("cannot find the path of this program")?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let built = own.ancestors().chain([project.as_path()]).map(|dir| dir.join("servers/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).collect::<Vec<_>>();
    built
        .chain(installed)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("there is no {name} for the tests: run `make servers`"))
}

/// The path of a binary of this package: in the directory `TEST_PROGRAMS`, else in the parent of the directory (`deps`,
/// `examples`) of the test program or example.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("TEST_PROGRAMS") {
        let file = std::path::absolute(Path::new(&dir).join(name))?;
        ensure!(file.is_file(), "TEST_PROGRAMS is {}, and {name} is not in it", Path::new(&dir).display());
        return Ok(file);
    }
    let own = std::env::current_exe().context("cannot find the path of this program")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build --bins --examples`"))
}

/// A program and its process. It can be started again after its end.
#[derive(Debug)]
#[must_use]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// A program that is not started yet. Its output goes to `<dir>/<name>.log`.
    pub fn new(name: &str, path: PathBuf, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            path,
            arguments: Vec::new(),
            environment: Vec::new(),
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable. The environment is that of this process without Consul's variables.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts the program.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_none()
        {
            bail!("{} is already running", self.name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = dies_with_parent(&self.path);
        without_consul(&mut command);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A process group: Ctrl-C on the terminal does not reach it, and it can be killed with all its workers.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until `probe` succeeds. Fails immediately if the program ends.
    pub async fn ready<T>(
        &mut self,
        what: &str,
        mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match timeout(PATIENCE, probe()).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer"),
            };
            self.check()?;
            if Instant::now() > deadline {
                bail!("{}: not within {PATIENCE:?}: {what}; last seen: {error:#}\n{}", self.name, self.tail());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Fails if the program is not running. The error contains the end of the log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match &mut self.child {
            None => bail!("{} is not running", self.name),
            Some(child) => match child.try_wait()? {
                None => Ok(()),
                Some(status) => bail!("{} has ended: {status}\n{}", self.name, self.tail()),
            },
        }
    }

    /// The process id.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child.as_ref().and_then(Child::id);
        let id = id.with_context(|| format!("{} is not running", self.name))?;
        Pid::from_raw(id.try_into()?).context("a pid of 0")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid()?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Stops the program with SIGTERM. Fails if it had to be killed.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        // A process that is stopped by SIGSTOP handles SIGTERM only after SIGCONT.
        self.signal(Signal::CONT)?;
        if let Ok(status) = timeout(PATIENCE, self.ended()).await {
            return status;
        }
        self.kill().await?;
        bail!("{} did not end within {PATIENCE:?}\n{}", self.name, self.tail())
    }

    /// Kills the program and its children.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        kill_process_group(self.pid()?, Signal::KILL).with_context(|| format!("cannot kill {}", self.name))?;
        self.ended().await.map(drop)
    }

    /// Waits until the program ends by itself.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} is not running", self.name))?;
        Ok(child.wait().await?)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits up to 1 s for the end of the process, because its directory is deleted next. For `drop`, which cannot be
    /// async.
    fn wait_for_end(&mut self) {
        let Some(child) = &mut self.child else { return };
        for _ in 0..1000 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines = log.lines().collect::<Vec<_>>();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        format!("--- the end of the log of {} ---\n{}\n---", self.name, tail.join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGTERM first: if HAProxy's master is killed, its worker stays.
        let _ = self.signal(Signal::TERM);
        for signal in [Signal::CONT, Signal::KILL] {
            if let Ok(pid) = self.pid() {
                let _ = kill_process_group(pid, signal);
            }
            self.wait_for_end();
        }
        show(&self.name, &self.log());
    }
}

/// In a test, prints the log for the test runner, which shows it if the test fails.
#[expect(clippy::print_stderr, reason = "only the macro's output is captured by the test runner")]
fn show(name: &str, log: &str) {
    if cfg!(test) && !log.is_empty() && !QUIET.load(Ordering::Relaxed) {
        eprintln!("--- the log of {name} ---\n{log}---");
    }
}

/// A command with a process that dies with the thread that starts it. A drop is not enough: the test program may be
/// killed.
fn dies_with_parent(program: &Path) -> Command {
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Removes Consul's variables and weightd's addresses of the user who runs the tests.
pub fn without_consul(command: &mut Command) {
    command.env("WEIGHTD_CONFIG", "/nonexistent/weightd.toml").env("WEIGHTD_API", "http://127.0.0.1:9");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONSUL_") {
            command.env_remove(name);
        }
    }
}

/// A stopped process. It continues when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Paused(Pid);

impl Paused {
    /// Stops `pid`. Returns when all of its threads are stopped: some threads run on for a moment after the signal.
    pub fn new(pid: Pid) -> anyhow::Result<Self> {
        kill_process(pid, Signal::STOP)?;
        let paused = Self(pid);
        let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
        for _ in 0..2000 {
            let mut still = true;
            for task in fs::read_dir(&tasks)? {
                let stat = fs::read_to_string(task?.path().join("stat"))?;
                // The name before the state may contain any character, but no closing parenthesis follows it.
                still &= stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
            }
            if still {
                return Ok(paused);
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("{pid:?} does not stop");
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // The process may have been killed meanwhile.
        let _ = kill_process(self.0, Signal::CONT);
    }
}
