//! Why a backend is not simply as Consul says: the words for status, logs and metrics. Pure.

use serde::Serialize;

use super::{
    backend::{Backend, Key, Matched},
    pauses::Pause,
};
use crate::{
    caveats,
    model::{Escaped, ServerName},
    observed::{BadReply, Refusal},
    plan::Withheld,
};

/// How much a reason matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Normal where not every HAProxy has every backend: for those who look.
    Normal,
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Requests fail.
    Error,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A word, stable.
    pub reason: &'static str,
    /// A sentence, for people.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// How much it matters.
    #[serde(skip)]
    pub severity: Severity,
}

/// Every word that [`Reason::reason`] can be.
pub const WORDS: [&str; 20] = [
    "agent_check",
    "contended",
    "cookie",
    "first",
    "guarded",
    "hash",
    "leastconn",
    "no_usable_server",
    "only_backups",
    "orphaned",
    "paused",
    "refused",
    "rejected",
    "stick_table",
    "unmatched_backend",
    "unmatched_server",
    "unnamed",
    "unreadable",
    "unsupported",
    "withheld",
];

/// All reasons of a backend, in a stable order. `orphaned` says whether Consul no longer has its key, `paused`
/// under which pause it is.
pub fn of(backend: &Backend, orphaned: bool, paused: Option<&Pause>) -> Vec<Reason> {
    let mut reasons = of_its_key(backend, orphaned);
    if backend.managed() {
        reasons.extend(paused.map(of_its_pause));
        match backend.matched {
            Matched::Unknown => reasons.extend(backend.unreadable.as_ref().map(unreadable)),
            Matched::No => reasons.push(Reason {
                severity: Severity::Normal,
                reason: "unmatched_backend",
                detail: "this HAProxy has no backend of that name".to_owned(),
                remedy: "nothing, if this HAProxy should not have it; else compare the names",
            }),
            Matched::Yes => {
                reasons.extend(of_its_changes(backend));
                reasons.extend(of_its_servers(backend));
                reasons.extend(caveats::of(&backend.observed, backend.roles.as_ref(), backend.refusal.is_some()));
            }
        }
    }
    reasons
}

fn of_its_key(backend: &Backend, orphaned: bool) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Key::Rejected(rejected) = &backend.key {
        reasons.push(Reason {
            severity: Severity::Warning,
            reason: "rejected",
            detail: format!("key {}: {}", Escaped(&rejected.key), rejected.reason),
            remedy: rejected.reason.remedy(),
        });
    }
    if orphaned {
        reasons.push(Reason {
            severity: Severity::Warning,
            reason: "orphaned",
            detail: "Consul no longer has its key, or the token may not read it; what was accepted stays in force"
                .to_owned(),
            remedy: "write it again with `weightctl set … --create`, or stop managing it with `weightctl release … --create`",
        });
    }
    reasons
}

fn of_its_pause(pause: &Pause) -> Reason {
    Reason {
        severity: Severity::Info,
        reason: "paused",
        detail: pause.explained(),
        remedy: "nothing: it goes on by itself; at once with `weightctl resume BACKEND --local`, or without BACKEND if all are paused",
    }
}

fn unreadable(why: &BadReply) -> Reason {
    Reason {
        severity: Severity::Warning,
        reason: "unreadable",
        detail: format!("what HAProxy says about it cannot be read: {why}"),
        remedy: "nothing is sent to it; report it with HAProxy's version and the backend's section of haproxy.cfg",
    }
}

/// Why what is desired is not accepted, or what is accepted is not set.
fn of_its_changes(backend: &Backend) -> Vec<Reason> {
    let warning = |reason, detail, remedy| Reason { severity: Severity::Warning, reason, detail, remedy };
    let mut reasons = Vec::new();
    if let Some(guarded) = backend.guarded {
        reasons.push(warning("guarded", guarded.guard.to_string(), guarded.guard.remedy()));
    }
    match &backend.refusal {
        None => {}
        Some(Refusal::StaticAlgorithm) => reasons.push(warning(
            "unsupported",
            Refusal::StaticAlgorithm.to_string(),
            "use `balance roundrobin`, or add `hash-type consistent` to a hash algorithm, and reload HAProxy",
        )),
        Some(other) => reasons.push(warning("refused", other.to_string(), refused_remedy(other))),
    }
    if let Some(withheld) = backend.withheld {
        let remedy = match withheld {
            Withheld::NothingUsable => "bring up a server of the backend; it goes on by itself",
            Withheld::NothingLeft => "name the servers that this HAProxy has, or set it with --force",
        };
        reasons.push(warning("withheld", withheld.to_string(), remedy));
    }
    if backend.contention.contended() {
        reasons.push(warning(
            "contended",
            "somebody else keeps changing its weights; they are corrected once a minute".to_owned(),
            "find the agent-check, script or person that sets them",
        ));
    }
    reasons
}

/// How its servers stand to what is asked for.
fn of_its_servers(backend: &Backend) -> Vec<Reason> {
    let observed = &backend.observed;
    let mut reasons = Vec::new();
    if let Some(accepted) = &backend.accepted {
        let touched = observed.servers.iter().any(|s| accepted.weights.contains_key(&s.name));
        if touched && !accepted.force && !observed.any_serving() {
            reasons.push(nothing_serves(observed.any_backup_serving()));
        }
        let unnamed = observed.servers.iter().filter(|s| !s.slot && !accepted.weights.contains_key(&s.name));
        let unnamed = list(unnamed.map(|s| s.name.as_str()));
        if !unnamed.is_empty() {
            reasons.push(Reason {
                severity: Severity::Info,
                reason: "unnamed",
                detail: format!(
                    "the document does not name: {unnamed}; they are left alone, and shares are approximate"
                ),
                remedy: "name every server of the backend",
            });
        }
    }
    let named = backend.desired.iter().flat_map(|desired| desired.weights.keys());
    let missing = list(named.filter(|name| observed.server(name).is_none()).map(ServerName::as_str));
    if !missing.is_empty() {
        reasons.push(Reason {
            severity: Severity::Info,
            reason: "unmatched_server",
            detail: format!("this HAProxy has no such server: {missing}"),
            remedy: "nothing, if this HAProxy should not have it; else compare the names",
        });
    }
    reasons
}

fn nothing_serves(but_backups: bool) -> Reason {
    if but_backups {
        Reason {
            severity: Severity::Warning,
            reason: "only_backups",
            detail: "no active server is both usable and above weight 0: backup servers take all traffic".to_owned(),
            remedy: "bring an active server up, or shift back with `weightctl set`",
        }
    } else {
        Reason {
            severity: Severity::Error,
            reason: "no_usable_server",
            detail: "no server is both usable and above weight 0: new requests fail here".to_owned(),
            remedy: "bring a server up, or shift back with `weightctl set`",
        }
    }
}

fn refused_remedy(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Denied => "add `level admin` to the `stats socket` line in haproxy.cfg and reload HAProxy",
        Refusal::Disabled => "enable the backend, or remove `disabled` from its section in haproxy.cfg",
        _ => "nothing; it is tried again",
    }
}

/// The first few names, and how many more there are.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
