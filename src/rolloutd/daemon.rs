//! The rolloutd program: evaluates the command line, creates the parts and connects them.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use sd_notify::NotifyState;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use weightd_core::rollout::{Controller, keys::RolloutKeys};

use super::{
    api::{self, Served},
    config::{Config, Role},
    leader::{Leader, Shared},
    leadership::Candidate,
    metrics::Metrics,
    sources::{self, Sources},
    telling::Teller,
    webhooks::{self, Webhooks},
};
use crate::{
    base::{
        chain::Chain,
        clock::{self, Clock},
        manual::About,
        serve::{Limits, serve},
        shutdown::{SignalAction, Signals, Tasks},
        systemd, telemetry,
    },
    consul::{Access, Client, follow::Follower},
    documents::Documents,
};

/// Exit code: the configuration is invalid (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;
/// Time limit for the tasks to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum connections of the HTTP interface.
const LIMITS: Limits = Limits { connections: 64, lifetime: Duration::from_secs(60) };
/// Between two reads of the lock.
const LOCK_EVERY: Duration = Duration::from_millis(50);

/// Moves the traffic of backends by plans, judges the new side, and takes it back when it is worse
#[derive(Debug, Parser)]
#[command(name = "rolloutd", version = crate::VERSION, after_help = AFTER_HELP)]
struct Args {
    /// Configuration file [default: /etc/weightd/rolloutd.toml if it exists]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Check the configuration and exit; an unreadable token, certificate or URL is only a warning
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    about: About,

    #[command(subcommand)]
    role: Option<Command>,
}

/// What else this program can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
enum Command {
    /// Serve the page on which teams move their own applications, instead of the controller
    ///
    /// A process of its own: it needs a token that can only read, and every write is made with the token of the person
    /// who is signed in. Its settings are the section `[page]` of the configuration file.
    Page,
}

const AFTER_HELP: &str = "\
Run two or three of it, away from the HAProxies; one leads. Nothing depends on it: without it weights stay as they are, \
and `weightctl set` and `weightctl rollback` work. People start rollouts with `weightctl rollout start`.

rolloutd reads the environment variables of Consul (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT, …), and \
ROLLOUTD_LOG, the log level. They override the configuration file.

SIGHUP reloads the configuration, the token and the certificates. Stopping rolloutd changes no weight: another \
controller goes on with the rollouts, or they wait.

Who leads, and why a rollout waits:
  curl http://127.0.0.1:9112/ready
  weightctl rollout explain BACKEND

Exit codes: 0 success, 1 failure, 2 wrong arguments, 64 invalid configuration";

/// Runs rolloutd: parses the command line, and works until a signal.
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
            eprintln!("rolloutd: {}", Chain(&error));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.check {
        println!("the configuration is valid");
        // Only a warning: an agent can write the file later, and rolloutd must start without it.
        if let Err(error) = config.consul.token.read() {
            eprintln!("rolloutd: warning: {}; rolloutd starts, and cannot lead until the file is valid", Chain(&error));
        }
        for (name, problem) in sources::problems(&config).into_iter().chain(webhooks::problems(&config)) {
            eprintln!("rolloutd: warning: `{name}`: {problem}");
        }
        return ExitCode::SUCCESS;
    }
    let log = match telemetry::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("rolloutd: {}", Chain(&error));
            return ExitCode::FAILURE;
        }
    };
    match run(config, &args, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, args: &Args, log: &telemetry::Handle) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the tokio runtime")?;
    if args.role == Some(Command::Page) {
        info!(version = crate::VERSION, listen = %config.page.listen, "the page of rolloutd starts");
        return runtime.block_on(crate::page::run(&config));
    }
    info!(version = crate::VERSION, name = config.name, "rolloutd starts");
    runtime.block_on(serve_until_stopped(config, args, log))
}

async fn serve_until_stopped(config: Config, args: &Args, log: &telemetry::Handle) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot install the signal handlers")?;
    let running = Tasks::default();
    let clock = Clock::start();
    let client = Arc::new(Client::new(config.consul.clone()).context("cannot create the Consul client")?);
    let controller = RolloutKeys(&config.root).controller();
    let lock = Follower::new(Arc::clone(&client), controller.clone());
    let (following, stop) = (lock.clone(), running.stop_token());
    running.spawn(async move { stop.run_until_cancelled(following.run(LOCK_EVERY, clock)).await });

    let (says, said) = watch::channel(controller_of(&config));
    let (candidate, terms) = Candidate::new(Arc::clone(&client), controller, said, lock.clone());
    running.spawn(candidate.run(running.stop_token()));

    let sources = Arc::new(Sources::start(&config, &running));
    let webhooks = Arc::new(Webhooks::start(&config, &running));
    let metrics = Arc::new(Metrics::new(Arc::clone(&sources), Arc::clone(&webhooks)));
    let seen = Arc::new(watch::Sender::new(None));
    let served = Served { metrics: Arc::clone(&metrics), seen: seen.subscribe(), terms: terms.clone(), lock };
    if let Some(address) = config.api {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "serving /live, /ready and /metrics");
                running.spawn(serve(listener, api::router(Arc::new(served)), LIMITS, running.stop_token()));
            }
            Err(error) => {
                const HINT: &str =
                    "stop the program that uses the port or set another `listen` in [api], then restart rolloutd";
                error!(%address, %error, hint = HINT, "/live, /ready and /metrics are not served");
            }
        }
    }
    let shared = Shared {
        client: Arc::clone(&client),
        root: config.root.clone(),
        name: config.name.clone(),
        max_active: config.max_active,
        clock,
        tasks: TaskTracker::new(),
        teller: Teller::new(Arc::clone(&metrics), Arc::clone(&webhooks)),
        sources: Arc::clone(&sources),
        seen,
    };
    let (leading, stop) = (lead(shared.clone(), terms, running.clone()), running.stop_token());
    running.spawn(async move { stop.run_until_cancelled(leading).await });
    systemd::notify(&[NotifyState::Ready]);

    let mut reloaded = Reloaded { config, client, says, sources, webhooks };
    let name = loop {
        match signals.next().await {
            SignalAction::Stop(name) => break name,
            SignalAction::Reload => reloaded.reload(args, log),
        }
    };
    info!(signal = name, "stopping");
    systemd::notify(&[NotifyState::Stopping]);
    tokio::select! {
        stopped = timeout(STOP_DEADLINE, running.stop()) => {
            if stopped.is_err() {
                warn!("not all tasks stopped in time");
            }
            // The keys of the observations.
            Documents::leave(&shared.tasks).await;
        }
        name = signals.stop() => warn!(signal = name, "stopping at once"),
    }
    Ok(())
}

/// One term after the other.
async fn lead(shared: Shared, mut terms: watch::Receiver<Option<super::leadership::Term>>, running: Tasks) {
    loop {
        if terms.borrow_and_update().is_some() {
            let stop = running.stop_token().child_token();
            Leader::new(shared.clone(), terms.clone(), stop).run().await;
        }
        if terms.changed().await.is_err() {
            return;
        }
    }
}

/// What the lock says of this controller.
fn controller_of(config: &Config) -> Controller {
    Controller {
        name: config.name.clone(),
        version: crate::VERSION.to_owned(),
        since: clock::timestamp(),
        sources: config.sources.keys().cloned().collect(),
        checks: config.checks.keys().cloned().collect(),
    }
}

/// The parts whose configuration can change at runtime.
struct Reloaded {
    config: Config,
    client: Arc<Client>,
    says: watch::Sender<Controller>,
    sources: Arc<Sources>,
    webhooks: Arc<Webhooks>,
}

impl Reloaded {
    /// Reads the configuration again. It is applied as a whole or not at all; what cannot change at runtime is named.
    fn reload(&mut self, args: &Args, log: &telemetry::Handle) {
        systemd::notify_reloading();
        let read = Config::load(args.config.as_deref(), &|name| std::env::var(name).ok());
        match read {
            Err(error) => {
                error!(error = %Chain(&error), "the configuration cannot be used; the old one stays in force");
            }
            Ok(new) => self.apply(new, log),
        }
        systemd::notify(&[NotifyState::Ready]);
    }

    fn apply(&mut self, new: Config, log: &telemetry::Handle) {
        let Self { config, client, says, sources, webhooks } = self;
        let restart = config.needs_restart(&new, Role::Controller);
        // A token and a CA belong to one Consul address. If the address changes, they need the restart as well.
        let consul = if new.consul.address == config.consul.address { &new.consul } else { &config.consul };
        let access = Access::of(consul);
        // The only step that can fail comes first.
        if let Err(error) = client.replace(access.clone()) {
            error!(error = %Chain(&error), "token and certificates cannot be read; the old configuration stays in force");
            return;
        }
        log.set_level(&new.log.level);
        sources.reconfigure(&new);
        webhooks.reconfigure(&new);
        // What needs a restart stays what it was, so that the next reload names it again.
        Access { token: config.consul.token, auth: config.consul.auth, tls: config.consul.tls } = access;
        config.log.level = new.log.level;
        (config.sources, config.checks, config.webhooks) = (new.sources, new.checks, new.webhooks);
        says.send_replace(controller_of(config));
        if restart.is_empty() {
            info!("the configuration is read again");
        } else {
            warn!(keys = restart.join(", "), "these keys changed and apply after a restart");
        }
    }
}
