//! Why a backend is not simply as Consul says: the words for status, logs and metrics. Pure.

use serde::Serialize;

use super::{
    backend::{Backend, Key, Matched},
    pauses::Pause,
};
use crate::{haproxy::Refusal, model::ServerName, plan::Withheld};

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
pub const WORDS: [&str; 12] = [
    "contended",
    "guarded",
    "no_usable_server",
    "orphaned",
    "paused",
    "refused",
    "rejected",
    "unmatched_backend",
    "unmatched_server",
    "unnamed",
    "unsupported",
    "withheld",
];

/// All reasons of a backend, in a stable order. `orphaned` says whether Consul no longer has its key, `paused`
/// under which pause it is.
pub fn of(backend: &Backend, orphaned: bool, paused: Option<&Pause>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |severity, reason, detail: String, remedy| {
        reasons.push(Reason { reason, detail, remedy, severity });
    };
    if let Key::Rejected(rejected) = &backend.key {
        let detail = format!("key {}: {}", crate::model::Escaped(&rejected.key), rejected.reason);
        add(Severity::Warning, "rejected", detail, rejected.reason.remedy());
    }
    if orphaned {
        add(
            Severity::Warning,
            "orphaned",
            "Consul no longer has its key, or the token may not read it; what was accepted stays in force".to_owned(),
            "write it again with `weightctl set … --create`, or stop managing it with `weightctl release`",
        );
    }
    if !backend.managed() {
        return reasons;
    }
    if let Some(pause) = paused {
        let remedy = "nothing: it goes on by itself; at once with `weightctl resume --local`";
        add(Severity::Info, "paused", pause.explained(), remedy);
    }
    match backend.matched {
        Matched::Unknown => return reasons,
        Matched::No => {
            add(
                Severity::Normal,
                "unmatched_backend",
                "this HAProxy has no backend of that name".to_owned(),
                "nothing, if this HAProxy should not have it; else compare the names",
            );
            return reasons;
        }
        Matched::Yes => {}
    }
    if let Some(guarded) = backend.guarded {
        add(Severity::Warning, "guarded", guarded.guard.to_string(), guarded.guard.remedy());
    }
    match &backend.refusal {
        None => {}
        Some(Refusal::StaticAlgorithm) => add(
            Severity::Warning,
            "unsupported",
            Refusal::StaticAlgorithm.to_string(),
            "use `balance roundrobin`, or add `hash-type consistent` to a hash algorithm, and reload HAProxy",
        ),
        Some(other) => add(Severity::Warning, "refused", other.to_string(), refused_remedy(other)),
    }
    if let Some(withheld) = backend.withheld {
        let remedy = match withheld {
            Withheld::NothingUsable => "bring up a server of the backend; it goes on by itself",
            Withheld::NothingLeft => "name the servers that this HAProxy has, or set it with --force",
        };
        add(Severity::Warning, "withheld", withheld.to_string(), remedy);
    }
    if backend.contention.contended() {
        add(
            Severity::Warning,
            "contended",
            "somebody else keeps changing its weights; they are corrected once a minute".to_owned(),
            "find the agent-check, script or person that sets them",
        );
    }
    let Some(accepted) = &backend.accepted else { return reasons };
    let observed = &backend.observed;
    if !observed.any_serving() && !accepted.force {
        add(
            Severity::Error,
            "no_usable_server",
            "no server is both usable and above weight 0: new requests fail here".to_owned(),
            "bring a server up, or shift back with `weightctl set`",
        );
    }
    let missing = list(accepted.weights.keys().filter(|name| observed.server(name).is_none()));
    if !missing.is_empty() {
        add(
            Severity::Info,
            "unmatched_server",
            format!("this HAProxy has no such server: {missing}"),
            "nothing, if this HAProxy should not have it; else compare the names",
        );
    }
    let unnamed = observed.servers.iter().filter(|s| !s.slot && !accepted.weights.contains_key(&s.name));
    let unnamed = list(unnamed.map(|s| &s.name));
    if !unnamed.is_empty() {
        add(
            Severity::Info,
            "unnamed",
            format!("the document does not name: {unnamed}; they are left alone, and shares are approximate"),
            "name every server of the backend",
        );
    }
    reasons
}

fn refused_remedy(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Denied => "add `level admin` to the `stats socket` line in haproxy.cfg and reload HAProxy",
        Refusal::Disabled => "enable the backend, or remove `disabled` from its section in haproxy.cfg",
        _ => "nothing; it is tried again",
    }
}

/// The first few names, and how many more there are.
fn list<'a>(names: impl Iterator<Item = &'a ServerName>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.map(ServerName::as_str).collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
