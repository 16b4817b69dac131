//! Builds the status of this node from its sessions. Changes nothing.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use weightd_core::{
    backend::Backend,
    caveats, diagnosis,
    model::{BackendName, Escaped, Moment, ServerName},
    observed::Observed,
    pauses::Pause,
    reasons::Reason,
    wire::status::{
        BackendState, BackendStatus, ConsulStatus, HaproxyStatus, InstanceStatus, LinkState, OverrideStatus,
        PauseStatus, ProcessState, ServerStatus, Status, StrayStatus, Word,
    },
};

use super::{fleet::Published, instance::Instance, session::Session};
use crate::consul::watch::Link;

/// The data of a status that does not belong to an instance.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// The address of Consul.
    pub consul: String,
    /// The configured datacenter.
    pub datacenter: Option<String>,
    /// The problems of weightd itself.
    pub problems: Vec<Reason>,
}

/// Builds the status of a node.
pub fn of(node: &Node, instances: &[Arc<Instance>], published: &[Published], now: Moment) -> Status {
    Status {
        version: Cow::Borrowed(crate::VERSION),
        node: node.name.clone(),
        mode: Cow::Borrowed(node.mode),
        uptime_seconds: now.since(Moment::default()).as_secs_f64(),
        datacenter: node.datacenter.clone(),
        problems: node.problems.clone(),
        instances: instances.iter().map(|instance| instance_status(instance, &node.consul, now)).collect(),
        fleet: published.iter().map(Published::status).collect(),
    }
}

fn instance_status(instance: &Instance, consul: &str, now: Moment) -> InstanceStatus {
    let consul = consul_status(&instance.link.borrow(), consul, now);
    let session = instance.lock();
    let state = session.desired.as_deref();
    InstanceStatus {
        name: instance.name.clone(),
        address: instance.address.to_string(),
        root: instance.root.clone(),
        converged: session.converged() && instance.has_taken_feed(&session),
        paused: session.pauses.all().map(|pause| pause_status(pause, now)),
        consul,
        haproxy: haproxy_status(&session, now),
        drift_corrections: session.drift_corrections,
        backends: session
            .backends
            .iter()
            .map(|(name, backend)| backend_status(name, backend, session.pauses.of(name), session.down.is_none(), now))
            .collect(),
        stray: state
            .map_or(&[][..], |state| &state.stray)
            .iter()
            .map(|rejected| StrayStatus {
                key: Escaped(&rejected.key).to_string(),
                reason: rejected.reason.to_string(),
                remedy: Cow::Borrowed(rejected.reason.remedy()),
            })
            .collect(),
        stray_total: state.map_or(0, |state| state.stray_total),
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
    let held = link.held(now);
    ConsulStatus {
        address: address.to_owned(),
        state: match (&held, link.last_read) {
            (Some(_), _) => LinkState::Held,
            (None, None) => LinkState::Starting,
            (None, Some(_)) => LinkState::Following,
        },
        held_seconds: held.as_ref().map(|held| now.since(held.since).as_secs_f64()),
        reason: held.as_ref().map(|held| Cow::Borrowed(held.reason)),
        remedy: held.as_ref().map(|held| Cow::Borrowed(held.remedy)),
        detail: held.map(|held| held.detail),
        index: link.index,
        last_read_age_seconds: link.last_read.map(|at| now.since(at).as_secs_f64()),
        empty: link.empty,
        filtered: link.filtered,
        split: link.split,
        requests: link.requests,
        errors: by_word(&link.errors),
    }
}

fn by_word(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<Word, u64> {
    counts.iter().map(|(word, count)| (Cow::Borrowed(*word), *count)).collect()
}

fn haproxy_status(session: &Session, now: Moment) -> HaproxyStatus {
    let (down, process) = (session.down.as_ref(), session.processes.current.as_ref());
    HaproxyStatus {
        state: match (down, process) {
            (Some(_), _) => ProcessState::Down,
            (None, None) => ProcessState::Starting,
            (None, Some(_)) => ProcessState::Up,
        },
        reason: down.map(|down| Cow::Borrowed(down.reason)),
        detail: down.map(|down| down.detail.clone()),
        remedy: down.map(|down| Cow::Borrowed(down.remedy)),
        down_seconds: down.map(|down| now.since(down.since).as_secs_f64()),
        version: process.map(|process| process.version.clone()),
        pid: process.map(|process| process.pid),
        processes_seen: session.processes.seen,
        errors: by_word(&session.errors),
    }
}

fn backend_status(
    name: &BackendName,
    backend: &Backend,
    paused: Option<&Pause>,
    haproxy_usable: bool,
    now: Moment,
) -> BackendStatus {
    let state = diagnosis::state(backend, paused, haproxy_usable);
    BackendStatus {
        backend: Some(name.clone()),
        state,
        reasons: diagnosis::reasons(backend, paused),
        paused: paused.map(|pause| pause_status(pause, now)),
        overridden: backend.overridden().map(|over| OverrideStatus {
            for_seconds: over.until.since(now).as_secs_f64(),
            expired: over.expired,
            reason: over.reason.clone(),
            by: over.by.clone(),
            document: backend.document().map(|document| (**document).clone()),
        }),
        orphaned: backend.orphaned(),
        desired: backend.desired.as_deref().cloned(),
        accepted: backend.accepted.as_deref().cloned(),
        servers: server_statuses(backend, state),
        shares_exact: state != BackendState::Unknown
            && caveats::shares_are_exact(&backend.observed, backend.roles.as_ref()),
        observed_age_seconds: backend.observed_at.map(|at| now.since(at).as_secs_f64()),
        drift_corrections: backend.drift_corrections,
        would: backend.observe_plan.as_ref().map(ToString::to_string),
    }
}

/// Builds the status of all named or observed servers. If HAProxy does not answer, it has no observed weights, because
/// they may be out of date.
fn server_statuses(backend: &Backend, state: BackendState) -> Vec<ServerStatus> {
    let desired = |name: &ServerName| backend.desired.as_ref().and_then(|d| d.weights.get(name)).copied();
    let accepted = |name: &ServerName| backend.accepted.as_ref().and_then(|d| d.weights.get(name)).copied();
    let unnamed = ServerStatus::default();
    let mut servers: BTreeMap<&ServerName, ServerStatus> = BTreeMap::new();
    for name in [&backend.desired, &backend.accepted].into_iter().flatten().flat_map(|d| d.weights.keys()) {
        let named = ServerStatus { desired: desired(name), accepted: accepted(name), ..unnamed.clone() };
        servers.insert(name, ServerStatus { server: Some(name.clone()), ..named });
    }
    if state != BackendState::Unknown {
        let shares = shares(&backend.observed);
        for server in &backend.observed.servers {
            let name = &server.name;
            let status = ServerStatus {
                server: Some(name.clone()),
                desired: desired(name),
                accepted: accepted(name),
                observed: Some(server.weight),
                configured: Some(server.initial),
                usable: server.usable(!server.weight.is_zero()),
                backup: server.backup,
                share: shares.get(name).copied(),
            };
            servers.insert(name, status);
        }
    }
    servers.into_values().collect()
}

/// Returns the share of new traffic of each serving server, in percent.
fn shares(observed: &Observed) -> BTreeMap<&ServerName, f64> {
    let weight = |server: &weightd_core::observed::Server| f64::from(server.weight.get());
    let sum: f64 = observed.serving().map(weight).sum();
    observed.serving().map(|server| (&server.name, weight(server) * 100.0 / sum)).collect()
}
