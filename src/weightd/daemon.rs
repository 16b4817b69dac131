//! weightd itself: what its command line means, and how its parts are put together.
//!
//! Owns the wiring and the exit codes. Must never decide anything about weights.

mod args;
mod reload;

use std::{collections::HashMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use args::Args;
use axum::Router;
use clap::{CommandFactory as _, Parser as _};
use reload::Reloader;
use sd_notify::NotifyState;
use tokio::{net::TcpListener, sync::watch, time::timeout};
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
        manual,
        shutdown::{SignalAction, Signals, Tasks},
        systemd::{self, Watchdog},
        telemetry,
    },
    consul::{
        self, Client,
        watch::{Watch, WatchHandle},
    },
    weightd::{
        api::{
            self, Shown,
            page::Page,
            serve::{Limits, serve},
        },
        claim::{AlreadyDriven, Claim},
        config::{Config, HaproxyConfig, Mode},
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

/// The configuration cannot be used (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;
/// Another weightd drives this HAProxy (`EX_TEMPFAIL`).
const EXIT_RUNNING: u8 = 75;
/// `--once`: not everything is as Consul says.
const EXIT_NOT_CONVERGED: u8 = 3;
/// How long the tasks may take to end. What they do then is write one small file.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// The most connections of the HTTP interface, which every local user can open, and of the local socket. Together they are
/// far below `LimitNOFILE` of the unit, so that HAProxy and Consul can always be reached.
const TCP_LIMITS: Limits = Limits { connections: 64 };
/// See [`TCP_LIMITS`].
const SOCKET_LIMITS: Limits = Limits { connections: 32 };

/// The program: parses the command line, and runs until a signal.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "before there is a log, and what was asked for")]
pub fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_default_config {
        print!("{}", Config::default_toml());
        return ExitCode::SUCCESS;
    }
    if let Some(shell) = args.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "weightd", &mut script);
        print!("{}", String::from_utf8_lossy(&script));
        return ExitCode::SUCCESS;
    }
    if args.man {
        print!("{}", manual::page(Args::command(), "8"));
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
        // No failure: an agent may write the file later, and weightd must start without it.
        if let Err(error) = config.consul.token.read() {
            eprintln!("weightd: warning: {}; weightd starts, and follows Consul when the file is right", Chain(&error));
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
            const HINT: &str = "run it as root or as weightd's user, set `run_dir` and `state_dir`, or use --dry-run";
            let (lock, driven) = (error.downcast_ref::<LockError>(), error.downcast_ref::<AlreadyDriven>());
            if let Some(LockError::Io { .. }) = lock {
                error!(hint = HINT, "{error:#}");
            } else {
                error!("{error:#}");
            }
            match (lock, driven) {
                (_, Some(driven)) if driven.by_this_process() => ExitCode::from(EXIT_CONFIG),
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
    // One thread is enough: an exchange takes a tenth of a millisecond, less than a hand-over between threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let code = runtime.block_on(async {
        let daemon = Daemon::new(config, observe_only, args.dry_run)?;
        if args.once { Ok(daemon.once().await) } else { daemon.serve(args, log).await }
    });
    drop(exclusive);
    code
}

/// What no other weightd may use at the same time. A dry run disturbs nobody and needs none of it.
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

/// The parts, put together and not yet running.
struct Daemon {
    config: Config,
    client: Arc<Client>,
    timing: watch::Sender<Timing>,
    shown: Shown,
    pausing: Arc<Pausing>,
    watches: Vec<Watch>,
    tasks: Vec<Task>,
}

impl Daemon {
    fn new(config: Config, observe_only: bool, dry_run: bool) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let metrics = Arc::new(Metrics::new());
        warn_if_unverified(&config.consul);
        let client = Arc::new(Client::new(config.consul.clone()).context("cannot set up the client of Consul")?);
        let (timing, timing_receiver) = watch::channel(timing_of(&config));
        // One query per prefix, however many HAProxies follow it.
        let mut followed: HashMap<Root, WatchHandle> = HashMap::new();
        let (mut watches, mut instances, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        let pulses = Watchdog::pulses(config.haproxy.len());
        for (haproxy, pulse) in config.haproxy.iter().zip(pulses) {
            let root = &haproxy.root;
            let followed = followed.entry(root.clone()).or_insert_with(|| {
                let (watch, followed) = Watch::new(Arc::clone(&client), root.weights_prefix(), config.wait, clock);
                watches.push(watch);
                followed
            });
            let (files, stored) = if observe_only { (None, Stored::default()) } else { remembered(&config, haproxy) };
            let instance = Arc::new(Instance::new(
                haproxy.name.clone(),
                haproxy.address.clone(),
                root.as_str().to_owned(),
                followed,
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
            info!("a dry run: nothing is set, locked, stored or served");
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
        let refresh = followed.into_values().map(|followed| followed.refresh).collect();
        let (status_page, metrics_page) = (Page::default(), Page::default());
        let shown = Shown { node, instances, refresh, metrics, clock, status_page, metrics_page };
        Ok(Self { config, client, timing, shown, pausing: Arc::new(pausing), watches, tasks })
    }

    /// Runs until a signal.
    async fn serve(mut self, args: &Args, log: telemetry::Handle) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let running = Tasks::default();
        let metrics = Arc::clone(&self.shown.metrics);
        let mut listener = None;
        if let Some(address) = self.config.api.filter(|_| !args.dry_run) {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some((address, bound)),
                // Without it weightd still does its work, so this is no reason to end.
                Err(error) => {
                    const HINT: &str =
                        "end the program that uses the port, or set `listen` in [api], and restart weightd";
                    error!(%address, %error, hint = HINT, "/live, /ready, /metrics and /v1/status are not served");
                    let detail = format!("cannot listen at {address}, `listen` in [api]: {error}");
                    self.shown.node.problems.push(Reason::new(Severity::Warning, "api_off", detail, HINT));
                }
            }
        }
        let shown = Arc::new(self.shown);
        if let Some((address, listener)) = listener {
            info!(%address, "serves /live, /ready, /metrics and /v1/status");
            running.spawn(serve(listener, api::router(Arc::clone(&shown)), TCP_LIMITS, running.stop_token()));
        }
        if let Some(path) = self.config.socket.as_deref().filter(|_| !args.dry_run) {
            serve_local(path, api::local::router(shown, self.pausing), &running);
        }
        for watch in self.watches {
            let stop = running.stop_token();
            running.spawn(async move { stop.run_until_cancelled(watch.run()).await });
        }
        for task in self.tasks {
            running.spawn(task.run(running.stop_token()));
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
                    warn!("not everything ended in time");
                }
            }
            name = signals.stop() => warn!(signal = name, "leaving at once"),
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
            info!("a reading of HAProxy shows every weight as Consul says");
            ExitCode::SUCCESS
        } else {
            warn!("not every weight is as Consul says");
            ExitCode::from(EXIT_NOT_CONVERGED)
        }
    }
}

fn timing_of(config: &Config) -> Timing {
    Timing { resync: config.resync, process_poll: config.process_poll }
}

/// The files of one HAProxy, and what weightd remembers of it.
fn remembered(config: &Config, haproxy: &HaproxyConfig) -> (Option<Files>, Stored) {
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
            "the state on disk is unusable; nothing is enforced before the first good read of Consul"
        );
        Snapshot::default()
    });
    if let Err(error) = journal.replay(snapshot.number, &mut snapshot.stored) {
        warn!(
            error = %Chain(&error),
            hint = "let weightd write to `run_dir`",
            "there is no journal; if weightd is killed within a second of a change, its next start may not know the change"
        );
    }
    let server_state = haproxy.state_file.clone().map(|path| ServerStateFile::new(path, process));
    (Some(Files { state, journal, server_state }), snapshot.stored)
}

/// Warns where Consul's certificate is not verified.
fn warn_if_unverified(consul: &consul::Settings) {
    if consul.address.is_tls() && !consul.tls.verify {
        warn!(
            address = %consul.address,
            hint = "set `ca_file` and `verify = true` in [consul.tls], or CONSUL_CACERT and no CONSUL_HTTP_SSL_VERIFY",
            "Consul's certificate is not verified: any server that answers gets the token and is trusted"
        );
    }
}

/// Serves the local socket. Without it weightd still does its work, so a failure is no reason to end.
fn serve_local(path: &Path, router: Router, running: &Tasks) {
    let (listener, file) = match api::socket::listen(path) {
        Ok(listening) => listening,
        Err(error) => {
            error!(error = %Chain(&error), hint = error.hint(), "`weightctl pause` and `resume` are not served");
            return;
        }
    };
    info!(socket = %path.display(), "serves `weightctl pause` and `resume`");
    let stop = running.stop_token();
    running.spawn(async move {
        serve(listener, router, SOCKET_LIMITS, stop).await;
        drop(file);
    });
}
