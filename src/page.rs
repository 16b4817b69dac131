//! `rolloutd page`: the self-service page on which teams move their own applications.
//!
//! A process of its own, which faces the network: it has no token that can write, and no part of the controller. What it
//! shows is read by one watch with a token that can only read, and filtered by what the token of the person lists. Every write
//! is made with the token of the person.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | the settings |
//! | [`world`] | what is shown, as Consul has it |
//! | [`view`] | what is shown for which state; pure |
//! | [`guard`] | what every request must pass, and what every answer carries |
//! | [`session`], [`ring`] | the cookies, and the keys that encrypt them |
//! | [`people`] | the signed-in people: what their tokens see and may write |
//! | [`kept`] | answers of Consul that are kept, and for how long |
//! | [`limiter`] | how often people may try to sign in |
//! | [`pages`] | the pages; their templates are in `src/page/templates` |
//! | [`assets`] | style, script and icon, in `src/page/static` |
//! | [`tls`] | the listener with TLS |
//! | [`metrics`] | what it counts |

pub mod assets;
pub mod finish;
pub mod guard;
pub mod kept;
pub mod limiter;
pub mod metrics;
pub mod pages;
pub mod people;
pub mod ring;
pub mod session;
pub mod settings;
pub mod shared;
pub mod tls;
pub mod view;
pub mod world;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::info;

use self::{
    limiter::Limiter, metrics::PageMetrics, people::People, ring::Ring, session::Cookies, settings::Settings,
    shared::Shared,
};
use crate::{
    base::{
        serve::{Limits, serve},
        shutdown::{Signals, Tasks},
        systemd,
    },
    consul::Client,
    rolloutd::config::Config,
};

/// Limits of the page: a stream is one connection. A browser connects again by itself.
const LIMITS: Limits = Limits { connections: 4096, lifetime: Duration::from_secs(3600) };
/// Limits of the metrics.
const METRICS_LIMITS: Limits = Limits { connections: 32, lifetime: Duration::from_secs(60) };
/// Time for the tasks to stop: a write may wait [`crate::documents::rollouts::ANSWER`] for a controller, and takes it back then.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// Consul is asked for the datacenter again after this time.
const ASK_PLACE: Duration = Duration::from_secs(5);

/// A page that listens.
#[derive(Debug)]
pub struct Listening {
    /// Where the page is.
    pub page: SocketAddr,
    /// Where its metrics are.
    pub metrics: Option<SocketAddr>,
}

/// Runs the page until a signal. The log is set up, and the configuration is valid.
///
/// # Errors
/// As [`start`].
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let tasks = Tasks::default();
    start(Settings::from(config), &tasks).await?;
    systemd::notify(&[sd_notify::NotifyState::Ready]);
    let signal = signals.stop().await;
    info!(signal, "the page stops");
    if timeout(STOP_DEADLINE, tasks.stop()).await.is_err() {
        info!("not all tasks stopped in time");
    }
    Ok(())
}

/// Starts the page: it works until `tasks` stop.
///
/// # Errors
/// What cannot be read or listened on, with its place.
pub async fn start(settings: Settings, tasks: &Tasks) -> anyhow::Result<Listening> {
    let ring = if let Some(path) = &settings.key_file {
        Ring::read(path)?
    } else {
        info!("the page has no key_file: people sign in again after a restart, and a second page does not know them");
        Ring::generate()
    };
    let tls = settings.tls.as_ref().map(tls::read).transpose()?;
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("cannot listen on {}", settings.listen))?;
    let page = listener.local_addr().context("cannot read the address of the page")?;
    let reader = Arc::new(Client::new(settings.consul.clone())?);
    let worlds = world::follow(&reader, &settings.root, tasks);
    let place = place(&reader, tasks);
    let metrics_listener = match settings.metrics {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?),
        None => None,
    };
    let instance = instance(&ring);
    let shared = Arc::new(Shared {
        cookies: Cookies::new(&settings.base_path, settings.is_secure()),
        people: People::new(settings.consul.clone(), settings.root.clone()),
        settings,
        reader,
        ring,
        worlds,
        acls: Arc::default(),
        limiter: Limiter::default(),
        told_no_client: AtomicBool::new(false),
        measured: pages::start::Measured::default(),
        metrics: PageMetrics::default(),
        place,
        instance,
    });
    let router = pages::router(Arc::clone(&shared), tasks);
    let stop = tasks.stop_token();
    match tls {
        Some(config) => tasks.spawn(serve(tls::TlsListener::new(listener, config), router, LIMITS, stop)),
        None => tasks.spawn(serve(listener, router, LIMITS, stop)),
    };
    let mut listening = Listening { page, metrics: None };
    if let Some(listener) = metrics_listener {
        listening.metrics = listener.local_addr().ok();
        tasks.spawn(serve(listener, metrics_router(shared), METRICS_LIMITS, tasks.stop_token()));
    }
    info!(address = %page, "the page listens");
    Ok(listening)
}

/// A random name: a sealed value has a nonce of its own.
fn instance(ring: &Ring) -> String {
    let sealed = ring.seal("instance", world::now().to_string());
    weightd_core::rollout::begin::digest(sealed.as_bytes()).get(..12).unwrap_or_default().to_owned()
}

/// The datacenter, asked for until Consul says it.
fn place(reader: &Arc<Client>, tasks: &Tasks) -> watch::Receiver<String> {
    let (sender, place) = watch::channel(String::new());
    let (reader, stop) = (Arc::clone(reader), tasks.stop_token());
    tasks.spawn(async move {
        let ask = async {
            loop {
                if let Some(datacenter) = reader.datacenter().await {
                    sender.send_replace(datacenter);
                    break;
                }
                sleep(ASK_PLACE).await;
            }
        };
        stop.run_until_cancelled(ask).await;
    });
    place
}

fn metrics_router(shared: Arc<Shared>) -> Router {
    let metrics = async |State(shared): State<Arc<Shared>>| {
        let away = shared.world().away.as_ref().map_or(0, |away| world::now().seconds_since(away.since).max(1));
        let text = shared.metrics.text(shared.people.count(), away);
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        ([(header::CONTENT_TYPE, kind)], text).into_response()
    };
    let ready = async |State(shared): State<Arc<Shared>>| {
        let world = shared.world();
        if world.is_complete {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "nothing read yet\n")
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .with_state(shared)
}
