//! Computes the state of a backend as one word, and all reasons for it. Each state is an explicit case. `converged`
//! requires a reading with the accepted weights.

use crate::{
    backend::{Backend, KeyState, Matched, NotAccepted},
    caveats,
    expand::Misfit,
    model::{Escaped, ServerName},
    observed::{Owner, SetError},
    overrides::Override,
    pauses::Pause,
    plan::Withheld,
    reasons::{Reason, Severity, list},
    wire::status::BackendState,
};

/// Returns the state of a backend. `haproxy_usable` is true if HAProxy answers and accepts weights now.
pub fn state(backend: &Backend, paused: Option<&Pause>, haproxy_usable: bool) -> BackendState {
    if matches!(backend.key, KeyState::Released) && backend.overridden().is_none() {
        return BackendState::Released;
    }
    if !backend.managed() {
        return if backend.rejected() { BackendState::Rejected } else { BackendState::Unknown };
    }
    // An observation from before the failure of HAProxy is not reliable.
    if !haproxy_usable {
        return BackendState::Unknown;
    }
    match backend.matched {
        Matched::Unknown => BackendState::Unknown,
        Matched::No => BackendState::Unmatched,
        Matched::Yes if paused.is_some() => BackendState::Paused,
        Matched::Yes => match state_of_weights(backend) {
            // The weights are set, but they are not those of the document, whatever its key says.
            BackendState::Converged | BackendState::Rejected | BackendState::Orphaned
                if backend.overridden().is_some() =>
            {
                BackendState::Overridden
            }
            state => state,
        },
    }
}

fn state_of_weights(backend: &Backend) -> BackendState {
    if backend.set_error == Some(SetError::StaticAlgorithm) {
        return BackendState::Unsupported;
    }
    match backend.not_accepted {
        Some(NotAccepted::Guarded(_)) => return BackendState::Guarded,
        Some(NotAccepted::Unmatched | NotAccepted::Misfit(Misfit::NoServer(_))) => return BackendState::Unmatched,
        Some(NotAccepted::Misfit(Misfit::Overlap { .. })) => return BackendState::Rejected,
        None => {}
    }
    if backend.contention.contended() {
        BackendState::Contended
    } else if no_serving_server(backend).is_some_and(|reason| reason.severity == Severity::Error) {
        BackendState::NoUsableServer
    } else if !backend.converged() {
        BackendState::Pending
    } else if backend.rejected() {
        BackendState::Rejected
    } else if backend.orphaned() {
        BackendState::Orphaned
    } else {
        BackendState::Converged
    }
}

/// Returns all reasons of a backend, in a stable order.
pub fn reasons(backend: &Backend, paused: Option<&Pause>) -> Vec<Reason> {
    let mut reasons = key_reasons(backend);
    if backend.managed() {
        reasons.extend(paused.map(pause_reason));
        reasons.extend(backend.overridden().map(override_reason));
        match backend.matched {
            Matched::Unknown => reasons.extend(backend.unreadable.as_deref().map(unreadable)),
            Matched::No => reasons.push(Reason::new(
                Severity::Normal,
                "unmatched_backend",
                "this HAProxy has no backend with this name",
                "nothing, if that is intended; else compare the names in haproxy.cfg with the document",
            )),
            Matched::Yes => {
                reasons.extend(change_reasons(backend));
                reasons.extend(server_reasons(backend));
                let unsupported = backend.set_error.is_some();
                reasons.extend(caveats::reasons(&backend.observed, backend.roles.as_ref(), unsupported));
                reasons.extend(
                    backend
                        .expansion()
                        .into_iter()
                        .flat_map(|expansion| caveats::of_split(&backend.observed, expansion)),
                );
            }
        }
    }
    reasons
}

fn warning(reason: &'static str, detail: impl Into<String>, remedy: &'static str) -> Reason {
    Reason::new(Severity::Warning, reason, detail, remedy)
}

fn key_reasons(backend: &Backend) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let KeyState::Rejected(rejected) = &backend.key {
        let detail = format!("key {}: {}", Escaped(&rejected.key), rejected.reason);
        reasons.push(warning("rejected", detail, rejected.reason.remedy()));
    }
    if !backend.orphaned() {
        return reasons;
    }
    if backend.vanished.is_empty() {
        reasons.push(warning(
            "orphaned",
            "the key is missing in Consul, or the token may not read it; the accepted weights stay in force",
            "write the document again with `weightctl set … --create`, or release the backend with `weightctl release … --create`",
        ));
    } else {
        let vanished = list(backend.vanished.iter().map(ServerName::as_str));
        reasons.push(warning(
            "orphaned",
            format!("the leaf of {vanished} is missing in Consul, or the token may not read it; its last weight stays in force"),
            "write the leaf again, or replace the leaves with a document: `weightctl set … --create`",
        ));
    }
    reasons
}

fn pause_reason(pause: &Pause) -> Reason {
    Reason::new(
        Severity::Info,
        "paused",
        pause.explained(),
        "nothing: the pause expires; to end it now, run `weightctl resume BACKEND --local`, without BACKEND if all are paused",
    )
}

fn override_reason(over: &Override) -> Reason {
    if over.expired {
        let detail = format!("the time of the override is over, its weights stay: {}", over.explained());
        let remedy =
            "go back to the document with `weightctl resume BACKEND --local`, or run `weightctl override` again";
        return warning("override_expired", detail, remedy);
    }
    let remedy = "to go back to the document, run `weightctl resume BACKEND --local`";
    warning("overridden", over.explained(), remedy)
}

fn unreadable(why: &str) -> Reason {
    warning(
        "unreadable",
        format!("HAProxy's answer about the backend cannot be parsed: {why}"),
        "report a bug with HAProxy's version and the backend's section of haproxy.cfg; weightd sends nothing to the backend",
    )
}

/// Returns the reasons why the desired document is not accepted, or the accepted weights are not set.
fn change_reasons(backend: &Backend) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(guarded) = backend.guarded() {
        reasons.push(warning("guarded", guarded.guard.to_string(), guarded.guard.remedy()));
    }
    if let Some(NotAccepted::Misfit(misfit)) = &backend.not_accepted {
        let (word, remedy) = match misfit {
            Misfit::Overlap { .. } => {
                ("split_overlap", "write patterns that match each server once: `weightctl shift --help`")
            }
            Misfit::NoServer(_) => (
                "split_unmatched",
                "nothing, if that is intended; else compare the patterns with the servers in haproxy.cfg",
            ),
        };
        reasons.push(warning(word, misfit.to_string(), remedy));
    }
    match &backend.set_error {
        None => {}
        Some(SetError::StaticAlgorithm) => reasons.push(warning(
            "unsupported",
            SetError::StaticAlgorithm.to_string(),
            "use `balance roundrobin`, or add `hash-type consistent` to a hash algorithm, and reload HAProxy",
        )),
        Some(other) => reasons.push(warning("refused", other.to_string(), set_error_remedy(other))),
    }
    if let Some(withheld) = backend.withheld {
        let remedy = match withheld {
            Withheld::NothingUsable => "start a server of the backend; weightd then sends the change",
            Withheld::NothingLeft => "name the servers that this HAProxy has in the document, or use --force",
        };
        reasons.push(warning("withheld", withheld.to_string(), remedy));
    }
    if backend.contention.contended() {
        reasons.push(contended(backend));
    }
    reasons
}

/// Returns the reason for a contended backend, with the other owner if HAProxy reports one.
fn contended(backend: &Backend) -> Reason {
    let servers = list(backend.overwritten.iter().map(ServerName::as_str));
    let (owner, remedy) = match backend.owner(&backend.overwritten) {
        Some(Owner::AgentCheck) => (
            "an agent-check",
            "configure the agent to answer without a weight, or remove `agent-check` from the servers in haproxy.cfg",
        ),
        Some(Owner::SrvRecord) => {
            ("a DNS SRV record", "add `resolve-opts ignore-weight` to the servers in haproxy.cfg")
        }
        None => (
            "a person or a program with access to HAProxy's socket",
            "find the other client of HAProxy's runtime API: a script, another weightd, the Data Plane API, a person",
        ),
    };
    warning(
        "contended",
        format!("{owner} keeps changing the weight of {servers}; weightd corrects it once a minute"),
        remedy,
    )
}

fn set_error_remedy(error: &SetError) -> &'static str {
    match error {
        SetError::Denied => "add `level admin` to the `stats socket` line in haproxy.cfg and reload HAProxy",
        SetError::Disabled => "enable the backend, or remove `disabled` from its section in haproxy.cfg",
        _ => "nothing; weightd tries again",
    }
}

/// Returns the reasons about servers: missing in the document, missing in HAProxy, none serving.
fn server_reasons(backend: &Backend) -> Vec<Reason> {
    let observed = &backend.observed;
    let mut reasons = Vec::new();
    reasons.extend(no_serving_server(backend));
    if let Some(accepted) = &backend.accepted {
        let unnamed = observed.servers.iter().filter(|s| !s.slot && !accepted.weights.contains_key(&s.name));
        let unnamed = list(unnamed.map(|s| s.name.as_str()));
        if !unnamed.is_empty() {
            reasons.push(Reason::new(
                Severity::Info,
                "unnamed",
                format!(
                    "the document does not name {unnamed}; weightd does not change them, so shares are approximate"
                ),
                "name all servers of the backend in the document",
            ));
        }
    }
    let named = backend.desired.iter().flat_map(|desired| desired.weights.keys());
    let missing = list(named.filter(|name| observed.server(name).is_none()).map(ServerName::as_str));
    if !missing.is_empty() {
        let (severity, remedy) = match backend.not_accepted {
            Some(NotAccepted::Unmatched) => (Severity::Warning, "compare the names in haproxy.cfg with the document"),
            _ => (
                Severity::Info,
                "nothing, if that is intended; else compare the names in haproxy.cfg with the document",
            ),
        };
        let detail = format!("this HAProxy has no such server: {missing}");
        reasons.push(Reason::new(severity, "unmatched_server", detail, remedy));
    }
    reasons
}

/// Returns the reason if no active server serves although the document requires one.
fn no_serving_server(backend: &Backend) -> Option<Reason> {
    let (observed, accepted) = (&backend.observed, backend.accepted.as_ref()?);
    let named = observed.servers.iter().any(|s| accepted.weights.contains_key(&s.name));
    if !named || accepted.force || observed.any_serving() {
        return None;
    }
    Some(if observed.any_backup_serving() {
        warning(
            "only_backups",
            "no active server is usable with a weight above 0; backup servers take all traffic",
            "start an active server, or shift the traffic back with `weightctl set`",
        )
    } else {
        Reason::new(
            Severity::Error,
            "no_usable_server",
            "no server is usable with a weight above 0; new requests fail",
            "start a server, or shift the traffic back with `weightctl set`",
        )
    })
}
