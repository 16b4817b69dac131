//! What is shown of a node: the wire types of `/v1/status`, and how they are made.
//!
//! Owns the words and their meaning, which are stable. Must never change anything.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use weightd_core::{
    backend::{Backend, Key, Matched},
    desired::Desired,
    model::{BackendName, Escaped, Moment, ServerName, Weight},
    pauses::Pause,
    reasons::{self, Reason},
};

use crate::{
    consul::watch::Link,
    weightd::instance::{Inner, Instance},
};

/// A node.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The version of weightd.
    pub version: &'static str,
    /// The node's name.
    pub node: String,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// How long weightd has been running, in seconds.
    pub uptime_seconds: f64,
    /// One for each configured HAProxy.
    pub instances: Vec<InstanceStatus>,
}

/// A HAProxy.
#[derive(Debug, Serialize)]
pub struct InstanceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Where its runtime API is.
    pub address: String,
    /// The root of the keys that it follows.
    pub root: String,
    /// Whether every weight is as Consul says, and nothing that Consul says is refused or kept back.
    pub converged: bool,
    /// The pause of every backend, if a person asked for one.
    pub paused: Option<PauseStatus>,
    /// How Consul is.
    pub consul: ConsulStatus,
    /// How HAProxy is.
    pub haproxy: HaproxyStatus,
    /// Corrections of drift since weightd started.
    pub drift_corrections: u64,
    /// Every backend that Consul or the disk mentions.
    pub backends: Vec<BackendStatus>,
    /// Keys that belong to no backend HAProxy could have; the first hundred.
    pub stray: Vec<StrayStatus>,
    /// How many such keys there are.
    pub stray_total: usize,
}

/// A pause: nothing is accepted and nothing is set until it ends.
#[derive(Debug, Serialize)]
pub struct PauseStatus {
    /// How long it still lasts.
    pub for_seconds: f64,
    /// Why, as they say.
    pub reason: Option<String>,
    /// Who, as they say.
    pub by: Option<String>,
}

/// The connection to Consul.
#[derive(Debug, Serialize)]
pub struct ConsulStatus {
    /// Where it is.
    pub address: String,
    /// `starting`, `following`, or `held` while there is no usable answer.
    pub state: &'static str,
    /// Why it is held: a word.
    pub reason: Option<&'static str>,
    /// Why it is held: a sentence.
    pub detail: Option<String>,
    /// What to do about it.
    pub remedy: Option<&'static str>,
    /// For how long it has been held.
    pub held_seconds: Option<f64>,
    /// `X-Consul-Index` of the last good answer.
    pub index: u64,
    /// How old the last good answer is; none before the first.
    pub last_read_age_seconds: Option<f64>,
    /// Whether there was no key, or none that the token may read.
    pub empty: bool,
    /// Whether Consul said that ACLs hid keys.
    pub filtered: bool,
    /// Requests sent since the start.
    pub requests: u64,
    /// Requests without a usable answer since the start, by reason.
    pub errors: BTreeMap<&'static str, u64>,
}

/// The connection to HAProxy.
#[derive(Debug, Serialize)]
pub struct HaproxyStatus {
    /// `starting`, `up` or `down`.
    pub state: &'static str,
    /// Why it cannot be used: a word.
    pub reason: Option<&'static str>,
    /// Why it cannot be used: a sentence.
    pub detail: Option<String>,
    /// What to do about it.
    pub remedy: Option<&'static str>,
    /// For how long it could not be used.
    pub down_seconds: Option<f64>,
    /// Its version.
    pub version: Option<String>,
    /// The Pid of the process that answers.
    pub pid: Option<u32>,
    /// How many processes have answered since weightd started.
    pub processes_seen: u64,
}

/// A backend.
#[derive(Debug, Serialize)]
pub struct BackendStatus {
    /// Its name.
    pub backend: BackendName,
    /// One word for how it stands: `converged`, `paused`, `pending`, `guarded`, `rejected`, `orphaned`, `unmatched`,
    /// `unsupported`, `contended`, `no_usable_server`, `released`, or `unknown` while HAProxy cannot be used.
    pub state: &'static str,
    /// Everything there is to say.
    pub reasons: Vec<Reason>,
    /// The pause that it is under, its own or that of every backend: of both the one that ends later.
    pub paused: Option<PauseStatus>,
    /// Whether Consul no longer has its key.
    pub orphaned: bool,
    /// The last valid document.
    pub desired: Option<Arc<Desired>>,
    /// The last one that passed the guards: what is enforced.
    pub accepted: Option<Arc<Desired>>,
    /// Its servers, named or observed.
    pub servers: Vec<ServerStatus>,
    /// How old the observation is.
    pub observed_age_seconds: Option<f64>,
    /// How often it was corrected because somebody else had changed it.
    pub drift_corrections: u64,
    /// What would be sent, on a node that only observes.
    pub would: Option<String>,
}

/// A server.
#[derive(Debug, Serialize)]
pub struct ServerStatus {
    /// Its name.
    pub server: ServerName,
    /// Its weight in the last valid document.
    pub desired: Option<Weight>,
    /// The weight that is enforced.
    pub accepted: Option<Weight>,
    /// Its weight in HAProxy.
    pub observed: Option<Weight>,
    /// Its weight in HAProxy's configuration.
    pub configured: Option<Weight>,
    /// Whether it takes new traffic when its weight is above 0.
    pub usable: bool,
}

/// A key that belongs to no backend.
#[derive(Debug, Serialize)]
pub struct StrayStatus {
    /// The key, escaped.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Puts together the status of a node.
pub fn of(node: &str, mode: &'static str, consul: &str, instances: &[Arc<Instance>], now: Moment) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION"),
        node: node.to_owned(),
        mode,
        uptime_seconds: now.since(Moment::default()).as_secs_f64(),
        instances: instances.iter().map(|instance| instance_status(instance, consul, now)).collect(),
    }
}

fn instance_status(instance: &Instance, consul: &str, now: Moment) -> InstanceStatus {
    let consul = consul_status(&instance.link.borrow(), consul, now);
    let inner = instance.lock();
    let reconciler = &inner.reconciler;
    let state = reconciler.state.as_deref();
    InstanceStatus {
        name: instance.name.clone(),
        address: instance.address.to_string(),
        root: instance.root.clone(),
        converged: inner.down.is_none() && reconciler.converged(),
        paused: reconciler.pauses.all().map(|pause| pause_status(pause, now)),
        consul,
        haproxy: haproxy_status(&inner, now),
        drift_corrections: reconciler.drift_corrections,
        backends: reconciler
            .backends
            .iter()
            .map(|(name, backend)| {
                let orphaned = reconciler.orphaned(name, backend);
                let mut status = backend_status(name, backend, orphaned, reconciler.pauses.of(name), now);
                // What was observed before HAProxy went away proves nothing now.
                if inner.down.is_some() && backend.managed() {
                    status.state = "unknown";
                }
                status
            })
            .collect(),
        stray: state
            .map_or(&[][..], |s| &s.stray)
            .iter()
            .map(|rejected| StrayStatus {
                key: Escaped(&rejected.key).to_string(),
                reason: rejected.reason.to_string(),
                remedy: rejected.reason.remedy(),
            })
            .collect(),
        stray_total: state.map_or(0, |s| s.stray_total),
    }
}

fn pause_status(pause: &Pause, now: Moment) -> PauseStatus {
    PauseStatus {
        for_seconds: pause.until.since(now).as_secs_f64(),
        reason: pause.reason.clone(),
        by: pause.by.clone(),
    }
}

fn consul_status(link: &Link, address: &str, now: Moment) -> ConsulStatus {
    let held = link.held.as_ref();
    ConsulStatus {
        address: address.to_owned(),
        state: match (held, link.last_read) {
            (Some(_), _) => "held",
            (None, None) => "starting",
            (None, Some(_)) => "following",
        },
        reason: held.map(|h| h.reason),
        detail: held.map(|h| h.detail.clone()),
        remedy: held.map(|h| h.remedy),
        held_seconds: held.map(|h| now.since(h.since).as_secs_f64()),
        index: link.index,
        last_read_age_seconds: link.last_read.map(|at| now.since(at).as_secs_f64()),
        empty: link.empty,
        filtered: link.filtered,
        requests: link.requests,
        errors: link.errors.clone(),
    }
}

fn haproxy_status(inner: &Inner, now: Moment) -> HaproxyStatus {
    let (down, process) = (inner.down.as_ref(), inner.reconciler.process.as_ref());
    HaproxyStatus {
        state: match (down, process) {
            (Some(_), _) => "down",
            (None, None) => "starting",
            (None, Some(_)) => "up",
        },
        reason: down.map(|d| d.reason),
        detail: down.map(|d| d.detail.clone()),
        remedy: down.map(|d| d.remedy),
        down_seconds: down.map(|d| now.since(d.since).as_secs_f64()),
        version: process.map(|p| p.version.clone()),
        pid: process.map(|p| p.pid),
        processes_seen: inner.reconciler.processes,
    }
}

fn backend_status(
    name: &BackendName,
    backend: &Backend,
    orphaned: bool,
    paused: Option<&Pause>,
    now: Moment,
) -> BackendStatus {
    let reasons = reasons::of(backend, orphaned, paused);
    let has = |word: &str| reasons.iter().any(|r| r.reason == word);
    let state = match &backend.key {
        Key::Released => "released",
        _ if backend.matched == Matched::No => "unmatched",
        _ if has("paused") => "paused",
        _ if has("unsupported") => "unsupported",
        _ if has("guarded") => "guarded",
        _ if has("contended") => "contended",
        _ if has("no_usable_server") => "no_usable_server",
        _ if backend.managed() && backend.differs() => "pending",
        Key::Rejected(_) => "rejected",
        _ if orphaned => "orphaned",
        _ => "converged",
    };
    BackendStatus {
        backend: name.clone(),
        state,
        paused: paused.map(|pause| pause_status(pause, now)),
        orphaned,
        desired: backend.desired.clone(),
        accepted: backend.accepted.clone(),
        servers: servers(backend),
        observed_age_seconds: backend.observed_at.map(|at| now.since(at).as_secs_f64()),
        drift_corrections: backend.drift_corrections,
        would: backend.would.as_ref().map(ToString::to_string),
        reasons,
    }
}

fn servers(backend: &Backend) -> Vec<ServerStatus> {
    let desired = |name: &ServerName| backend.desired.as_ref().and_then(|d| d.weights.get(name)).copied();
    let accepted = |name: &ServerName| backend.accepted.as_ref().and_then(|d| d.weights.get(name)).copied();
    let mut servers: BTreeMap<&ServerName, ServerStatus> = BTreeMap::new();
    let named = [&backend.desired, &backend.accepted].into_iter().flatten().flat_map(|d| d.weights.keys());
    for name in named {
        servers.entry(name).or_insert_with(|| ServerStatus {
            server: name.clone(),
            desired: desired(name),
            accepted: accepted(name),
            observed: None,
            configured: None,
            usable: false,
        });
    }
    for server in &backend.observed.servers {
        let name = &server.name;
        servers.insert(
            name,
            ServerStatus {
                server: name.clone(),
                desired: desired(name),
                accepted: accepted(name),
                observed: Some(server.weight),
                configured: Some(server.initial),
                usable: server.usable(!server.weight.is_zero()),
            },
        );
    }
    servers.into_values().collect()
}
