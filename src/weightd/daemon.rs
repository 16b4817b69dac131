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
use weightd_core::{model::Root, stored::Stored};

use crate::{
    base::{
        chain::Chain,
        clock::Clock,
        manual,
        shutdown::{Asked, Signals, Tasks},
        systemd::{self, Watchdog},
        telemetry,
    },
    consul::{
        self, Client,
        watch::{Feed, Link, Watch},
    },
    weightd::{
        api::{self, Node, local::Peer},
        config::{Config, Mode},
        instance::Instance,
        lock::{Lock, LockError},
        metrics::Metrics,
        pausing::Pausing,
        reconciler::Reconciler,
        saving::Files,
        store::{self, PauseStore, ServerStateFile, Store},
        task::{FIRST_READ, Task, Timing},
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
        Err(error) => match error.downcast_ref() {
            Some(LockError::Held { .. }) => {
                error!("{error:#}");
                ExitCode::from(EXIT_RUNNING)
            }
            Some(LockError::Io { .. }) => {
                const HINT: &str = "run it as root or as weightd's user, set `run_dir`, or use --dry-run";
                error!(hint = HINT, "{error:#}");
                ExitCode::FAILURE
            }
            None => {
                error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(config: Config, args: &Args, log: telemetry::Handle) -> anyhow::Result<ExitCode> {
    let observe_only = config.mode == Mode::Observe || args.dry_run;
    info!(version = env!("CARGO_PKG_VERSION"), node = config.node, observe_only, "weightd starts");
    // One weightd per HAProxy. Who only looks disturbs nobody.
    let locks = if args.dry_run {
        Vec::new()
    } else {
        let take =
            |instance: &crate::weightd::config::Instance| Lock::take(&config.run_dir, &instance.address.to_string());
        config.haproxy.iter().map(take).collect::<Result<Vec<_>, _>>()?
    };
    // One thread is enough: an exchange takes a tenth of a millisecond, and there is no hand-over to wait for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let code = runtime.block_on(async {
        let daemon = Daemon::new(config, observe_only, args.dry_run)?;
        if args.once { Ok(daemon.once().await) } else { daemon.serve(args, log).await }
    });
    drop(locks);
    code
}

/// The parts, put together and not yet running.
struct Daemon {
    config: Config,
    client: Arc<Client>,
    timing: watch::Sender<Timing>,
    node: Arc<Node>,
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
        let (timing, timing_receiver) =
            watch::channel(Timing { resync: config.resync, process_poll: config.process_poll });
        // One query per prefix, however many HAProxies follow it.
        let mut feeds: HashMap<Root, (watch::Receiver<Feed>, watch::Receiver<Link>)> = HashMap::new();
        let (mut watches, mut instances, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        let pulses = Watchdog::pulses(config.haproxy.len());
        for (instance, pulse) in config.haproxy.iter().zip(pulses) {
            let root = &instance.root;
            let (feed, link) = feeds.entry(root.clone()).or_insert_with(|| {
                let (feed, feed_receiver) = watch::channel(Feed::default());
                let (link, link_receiver) = watch::channel(Link::default());
                let prefix = root.weights_prefix();
                watches.push(Watch::new(Arc::clone(&client), prefix, config.wait, clock, feed, link));
                (feed_receiver, link_receiver)
            });
            let store = (!observe_only).then(|| {
                let key = store::Key {
                    datacenter: config.consul.datacenter.clone(),
                    namespace: config.consul.namespace.clone(),
                    partition: config.consul.partition.clone(),
                    root: root.as_str().to_owned(),
                    instance: instance.name.clone(),
                };
                Store::new(&config.state_dir, key)
            });
            let stored = store.as_ref().map_or_else(Stored::default, |store| {
                store.load().unwrap_or_else(|error| {
                    warn!(
                        error = %Chain(&error),
                        "nothing is known from before; nothing is enforced before the first good read of Consul"
                    );
                    Stored::default()
                })
            });
            let shared = Arc::new(Instance::new(
                instance.name.clone(),
                instance.address.clone(),
                root.as_str().to_owned(),
                link.clone(),
                Reconciler::new(stored, observe_only),
            ));
            let (metrics, timing) = (Arc::clone(&metrics), timing_receiver.clone());
            let files = store
                .map(|memory| Files { memory, server_state: instance.state_file.clone().map(ServerStateFile::new) });
            tasks.push(Task::new(Arc::clone(&shared), feed.clone(), timing, files, clock, metrics, pulse));
            instances.push(shared);
        }
        let pauses = PauseStore::new(&config.state_dir);
        let mut pausing = Pausing::new(instances.clone(), clock, Arc::clone(&metrics), pauses);
        pausing.restore();
        let node = Arc::new(Node {
            name: config.node.clone(),
            mode: if observe_only { "observe" } else { "enforce" },
            consul: client.address().to_string(),
            instances,
            metrics,
            clock,
        });
        if dry_run {
            info!("a dry run: nothing is set, locked, stored or served");
        }
        Ok(Self { config, client, timing, node, pausing: Arc::new(pausing), watches, tasks })
    }

    /// Runs until a signal.
    async fn serve(self, args: &Args, log: telemetry::Handle) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let running = Tasks::default();
        if let Some(address) = self.config.api.filter(|_| !args.dry_run) {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen at {address}, `listen` in [api]"))?;
            info!(%address, "serves /live, /ready, /metrics and /v1/status");
            let stop = running.stop_token();
            let router = api::router(Arc::clone(&self.node));
            running.spawn(async move {
                let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
                if let Err(error) = served {
                    error!(%error, "the local interface ended");
                }
            });
        }
        if let Some(path) = self.config.socket.as_deref().filter(|_| !args.dry_run) {
            serve_local(path, api::local::router(Arc::clone(&self.node), self.pausing), &running);
        }
        for watch in self.watches {
            let stop = running.stop_token();
            running.spawn(async move { stop.run_until_cancelled(watch.run()).await });
        }
        for task in self.tasks {
            running.spawn(task.run(running.stop_token()));
        }
        systemd::notify(&[NotifyState::Ready]);

        let metrics = Arc::clone(&self.node.metrics);
        let (config, client, timing) = (self.config, self.client, self.timing);
        let mut reloader = Reloader { path: args.config.clone(), config, log, client, timing, metrics };
        let name = loop {
            match signals.next().await {
                Asked::Stop(name) => break name,
                Asked::Reload => reloader.reload(),
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
                Err(_) => error!("Consul gives no answer in time"),
            }
            converged = false;
        }
        for mut task in self.tasks {
            converged &= task.once().await;
        }
        if converged {
            info!("everything is as Consul says");
            ExitCode::SUCCESS
        } else {
            warn!("not everything is as Consul says");
            ExitCode::from(EXIT_NOT_CONVERGED)
        }
    }
}

/// Says so where somebody asked to believe whoever answers.
fn warn_if_unverified(consul: &consul::Settings) {
    if consul.address.is_tls() && !consul.tls.verify {
        warn!(
            address = %consul.address,
            hint = "set `ca_file` and `verify = true` in [consul.tls], or CONSUL_CACERT and no CONSUL_HTTP_SSL_VERIFY",
            "Consul's certificate is not verified: whoever answers gets the token, and is believed"
        );
    }
}

/// Serves the local socket. Without it weightd still does what it is there for, so that this is no reason to end.
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
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            error!(%error, "the local socket ended");
        }
        drop(file);
    });
}
