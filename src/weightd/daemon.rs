//! The weightd program: evaluates the command line, creates the parts and connects them.
//!
//! Owns the exit codes. Must not decide anything about weights.

mod args;
mod reload;

use std::{collections::HashMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use args::Args;
use axum::Router;
use clap::{CommandFactory as _, Parser as _};
use reload::Reloader;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{error, info, warn};
use weightd_core::{
    model::Root,
    reasons::{Reason, Severity},
    stored::Stored,
};

use crate::{
    base::{
        chain::Chain,
        clock::Clock,
        serve::{Limits, serve},
        shutdown::{SignalAction, Signals, Tasks},
        systemd::{self, Watchdog},
        telemetry,
    },
    consul::{
        self, Client,
        watch::{Watch, WatchHandle},
    },
    weightd::{
        api::{self, ApiState, page::Page},
        claim::{AlreadyControlled, Claim},
        config::{Config, HaproxyConfig, Mode},
        fleet,
        instance::Instance,
        lock::{Lock, LockError},
        metrics::Metrics,
        pausing::Pausing,
        saving::Files,
        session::{FIRST_READ, Session, Timing},
        status,
        store::{Journal, PauseFile, ServerStateFile, Snapshot, StateFile, StateKey},
        task::Task,
    },
};

/// Exit code: the configuration is invalid (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;
/// Exit code: another weightd already controls this HAProxy (`EX_TEMPFAIL`).
const EXIT_RUNNING: u8 = 75;
/// Exit code of `--once`: some weights differ from Consul.
const EXIT_NOT_CONVERGED: u8 = 3;
/// Time limit for the tasks to stop. Each of them writes at most one small file.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum lifetime of a connection to them.
const CONNECTION: Duration = Duration::from_secs(60);
/// Maximum connections of the HTTP interface, which every local user can open, and of the local socket. Both together
/// stay far below `LimitNOFILE` of the unit, so that HAProxy and Consul can always be reached.
const TCP_LIMITS: Limits = Limits { connections: 64, lifetime: CONNECTION };
/// See [`TCP_LIMITS`].
const SOCKET_LIMITS: Limits = Limits { connections: 32, lifetime: CONNECTION };

/// Runs weightd: parses the command line, and works until a signal.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "output that the user requested, and errors before the log exists"
)]
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(text) = args.about.text(Args::command(), Config::default_toml) {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(args.config.as_deref(), &|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("weightd: {}", Chain(&error));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.check {
        println!("the configuration is valid");
        // Only a warning: an agent can write the file later, and weightd must start without it.
        if let Err(error) = config.consul.token.read() {
            eprintln!(
                "weightd: warning: {}; weightd starts, but cannot follow Consul until the file is valid",
                Chain(&error)
            );
        }
        return ExitCode::SUCCESS;
    }
    let log = match telemetry::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("weightd: {}", Chain(&error));
            return ExitCode::FAILURE;
        }
    };
    match run(config, &args, log) {
        Ok(code) => code,
        Err(error) => {
            const HINT: &str = "run weightd as root or as its own user, or set `run_dir` and `state_dir` to writable directories, or use --dry-run";
            let (lock, controlled) = (error.downcast_ref::<LockError>(), error.downcast_ref::<AlreadyControlled>());
            if let Some(LockError::Io { .. }) = lock {
                error!(hint = HINT, "{error:#}");
            } else {
                error!("{error:#}");
            }
            match (lock, controlled) {
                (_, Some(controlled)) if controlled.by_this_process() => ExitCode::from(EXIT_CONFIG),
                (_, Some(_)) | (Some(LockError::Held { .. }), _) => ExitCode::from(EXIT_RUNNING),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(config: Config, args: &Args, log: telemetry::Handle) -> anyhow::Result<ExitCode> {
    let observe_only = config.mode == Mode::Observe || args.dry_run;
    info!(version = crate::VERSION, node = config.node, observe_only, "weightd starts");
    let exclusive = if args.dry_run { Exclusive::default() } else { Exclusive::take(&config)? };
    // One thread is enough: an exchange takes 0.1 ms, less than a switch between threads.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the tokio runtime")?;
    let code = runtime.block_on(async {
        let daemon = Daemon::new(config, observe_only, args.dry_run)?;
        if args.once { Ok(daemon.once().await) } else { daemon.serve(args, log).await }
    });
    drop(exclusive);
    code
}

/// Locks and claims that keep any other weightd away from the same HAProxy and state. A dry run needs none.
#[derive(Default)]
struct Exclusive {
    _locks: Vec<Lock>,
    _claims: Vec<Claim>,
}

impl Exclusive {
    fn take(config: &Config) -> anyhow::Result<Self> {
        let (mut locks, mut claims) = (Vec::new(), Vec::new());
        for HaproxyConfig { address, .. } in &config.haproxy {
            claims.push(Claim::take(address)?);
            locks.push(Lock::take(&config.run_dir, &address.to_string())?);
        }
        locks.push(Lock::take_directory(&config.state_dir)?);
        Ok(Self { _locks: locks, _claims: claims })
    }
}

/// The connected parts, before they run.
struct Daemon {
    config: Config,
    client: Arc<Client>,
    timing: watch::Sender<Timing>,
    api_state: ApiState,
    pausing: Arc<Pausing>,
    watches: Vec<Watch>,
    tasks: Vec<Task>,
    publishers: Vec<fleet::Publisher>,
    reporters: Vec<fleet::counters::Reporter>,
}

impl Daemon {
    fn new(config: Config, observe_only: bool, dry_run: bool) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let metrics = Arc::new(Metrics::new());
        warn_if_unverified(&config.consul);
        let client = Arc::new(Client::new(config.consul.clone()).context("cannot create the Consul client")?);
        let (timing, timing_receiver) = watch::channel(timing_of(&config));
        // One blocking query per prefix, for all HAProxy instances that follow it.
        let mut followed: HashMap<Root, (WatchHandle, Arc<Notify>)> = HashMap::new();
        let (mut watches, mut instances, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        let pulses = Watchdog::pulses(config.haproxy.len());
        for (haproxy, pulse) in config.haproxy.iter().zip(pulses) {
            let root = &haproxy.root;
            let (followed, changed) = followed.entry(root.clone()).or_insert_with(|| {
                let (watch, followed) = Watch::new(Arc::clone(&client), root.weights_prefix(), config.wait, clock);
                watches.push(watch);
                (followed, Arc::new(Notify::new()))
            });
            let (files, stored) = if observe_only { (None, Stored::default()) } else { load_files(&config, haproxy) };
            let instance = Arc::new(Instance::new(
                haproxy.name.clone(),
                haproxy.address.clone(),
                root.as_str().to_owned(),
                followed,
                Arc::clone(changed),
                Session::new(stored, observe_only, timing_of(&config), clock.now()),
            ));
            tasks.push(Task::new(
                Arc::clone(&instance),
                followed.feed.clone(),
                timing_receiver.clone(),
                files,
                clock,
                Arc::clone(&metrics),
                pulse,
            ));
            instances.push(instance);
        }
        let pauses = PauseFile::new(&config.state_dir);
        let mut pausing = Pausing::new(instances.clone(), clock, Arc::clone(&metrics), pauses);
        if dry_run {
            info!("dry run: weightd sets, locks, stores and serves nothing");
        } else {
            pausing.restore();
        }
        let node = status::Node {
            name: config.node.clone(),
            mode: if observe_only { "observe" } else { "enforce" },
            consul: client.address().to_string(),
            datacenter: config.consul.datacenter.clone(),
            problems: Vec::new(),
        };
        let refresh = followed.values().map(|(followed, _)| Arc::clone(&followed.refresh)).collect();
        let roots = if dry_run { HashMap::new() } else { followed };
        let fleet::Parts { publishers, reporters, published } =
            fleet::publishers(&config, observe_only, &client, clock, &instances, &metrics, roots)?;
        let (status_page, metrics_page) = (Page::default(), Page::default());
        let api_state = ApiState { node, instances, published, refresh, metrics, clock, status_page, metrics_page };
        Ok(Self {
            config,
            client,
            timing,
            api_state,
            pausing: Arc::new(pausing),
            watches,
            tasks,
            publishers,
            reporters,
        })
    }

    /// Runs until a signal.
    async fn serve(mut self, args: &Args, log: telemetry::Handle) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen().context("cannot install the signal handlers")?;
        let running = Tasks::default();
        let metrics = Arc::clone(&self.api_state.metrics);
        let mut listener = None;
        if let Some(address) = self.config.api.filter(|_| !args.dry_run) {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some((address, bound)),
                // Not fatal: weightd can set weights without the HTTP interface.
                Err(error) => {
                    const HINT: &str =
                        "stop the program that uses the port or set another `listen` in [api], then restart weightd";
                    error!(%address, %error, hint = HINT, "/live, /ready, /metrics and /v1/status are not served");
                    let detail = format!("cannot listen on {address} (`listen` in [api]): {error}");
                    self.api_state.node.problems.push(Reason::new(Severity::Warning, "api_off", detail, HINT));
                }
            }
        }
        let api_state = Arc::new(self.api_state);
        if let Some((address, listener)) = listener {
            info!(%address, "serving /live, /ready, /metrics and /v1/status");
            running.spawn(serve(listener, api::router(Arc::clone(&api_state)), TCP_LIMITS, running.stop_token()));
        }
        if let Some(path) = self.config.socket.as_deref().filter(|_| !args.dry_run) {
            serve_local(path, api::local::router(api_state, self.pausing), &running);
        }
        for watch in self.watches {
            let stop = running.stop_token();
            running.spawn(async move { stop.run_until_cancelled(watch.run()).await });
        }
        for task in self.tasks {
            running.spawn(task.run(running.stop_token()));
        }
        for publisher in self.publishers {
            running.spawn(publisher.run(running.stop_token()));
        }
        for reporter in self.reporters {
            running.spawn(reporter.run(running.stop_token()));
        }
        systemd::notify(&[NotifyState::Ready]);

        let (config, client, timing) = (self.config, self.client, self.timing);
        let mut reloader = Reloader { path: args.config.clone(), config, log, client, timing, metrics };
        let name = loop {
            match signals.next().await {
                SignalAction::Stop(name) => break name,
                SignalAction::Reload => reloader.reload(),
            }
        };
        info!(signal = name, "stopping");
        systemd::notify(&[NotifyState::Stopping]);
        tokio::select! {
            stopped = timeout(STOP_DEADLINE, running.stop()) => {
                if stopped.is_err() {
                    warn!("not all tasks stopped in time");
                }
            }
            name = signals.stop() => warn!(signal = name, "stopping at once"),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Reconciles once.
    async fn once(self) -> ExitCode {
        let mut converged = true;
        for mut watch in self.watches {
            match timeout(FIRST_READ, watch.read_once()).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => {
                    error!(error = %Chain(&error), hint = error.remedy(), "Consul gives no usable answer");
                }
                Err(_) => error!("Consul does not answer in time"),
            }
            converged = false;
        }
        for mut task in self.tasks {
            converged &= task.once().await;
        }
        if converged {
            info!("every weight in HAProxy matches Consul");
            ExitCode::SUCCESS
        } else {
            warn!("some weights in HAProxy differ from Consul");
            ExitCode::from(EXIT_NOT_CONVERGED)
        }
    }
}

fn timing_of(config: &Config) -> Timing {
    Timing { resync: config.resync, process_poll: config.process_poll }
}

/// Returns the files of one HAProxy and the state that they contain.
fn load_files(config: &Config, haproxy: &HaproxyConfig) -> (Option<Files>, Stored) {
    let key = StateKey {
        datacenter: config.consul.datacenter.clone(),
        namespace: config.consul.namespace.clone(),
        partition: config.consul.partition.clone(),
        root: haproxy.root.as_str().to_owned(),
        instance: haproxy.name.clone(),
    };
    let process = config.run_dir.join(key.file_stem()).with_extension("process");
    let state = StateFile::new(&config.state_dir, key.clone());
    let mut journal = Journal::new(&config.run_dir, key);
    let mut snapshot = state.load().unwrap_or_else(|error| {
        warn!(
            error = %Chain(&error),
            "cannot use the state on disk; weightd enforces nothing before the first successful read of Consul"
        );
        Snapshot::default()
    });
    if let Err(error) = journal.replay(snapshot.number, &mut snapshot.stored) {
        warn!(
            error = %Chain(&error),
            hint = "give weightd write permission for `run_dir`",
            "cannot write the journal; if weightd is killed within a second after a change, its next start can lose the change"
        );
    }
    let server_state = haproxy.state_file.clone().map(|path| ServerStateFile::new(path, process));
    (Some(Files { state, journal, server_state }), snapshot.stored)
}

/// Warns if weightd does not verify the certificate of Consul.
fn warn_if_unverified(consul: &consul::Settings) {
    if consul.address.is_tls() && !consul.tls.verify {
        warn!(
            address = %consul.address,
            hint = "set `ca_file` and `verify = true` in [consul.tls], or CONSUL_CACERT and no CONSUL_HTTP_SSL_VERIFY",
            "weightd does not verify the certificate of Consul: it trusts any server at this address and sends it the token"
        );
    }
}

/// Serves the local socket. A failure is not fatal: weightd can set weights without it.
fn serve_local(path: &Path, router: Router, running: &Tasks) {
    let (listener, file) = match api::socket::listen(path) {
        Ok(listening) => listening,
        Err(error) => {
            error!(error = %Chain(&error), hint = error.hint(), "`weightctl pause` and `resume` are not served");
            return;
        }
    };
    info!(socket = %path.display(), "serving `weightctl pause` and `resume`");
    let stop = running.stop_token();
    running.spawn(async move {
        serve(listener, router, SOCKET_LIMITS, stop).await;
        drop(file);
    });
}
