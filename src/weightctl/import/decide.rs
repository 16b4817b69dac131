//! Decides what an import writes and skips, and computes what weightd does with the result. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use weightd_core::{
    accept::{Guard, Verdict, accept},
    caveats,
    desired::{Desired, Invalid, Weights},
    model::{BackendName, Escaped, Moment, ServerName, Weight, nearest},
    observed::{Observed, Owner, Roles},
    plan::{Change, plan},
    reasons,
};

use crate::{
    documents::{
        Context as Known,
        edit::{self, Edit, EditError, Intent, Write},
        view::{View, split_summary},
    },
    weightctl::change::with_context,
};

/// The proxy for HAProxy's connections to its workers. HAProxy 2.2 lists it like a backend.
const MASTER: &str = "MASTER";

/// The caveat if the socket has level user: HAProxy omits the algorithm from its answer.
const NO_ALGORITHM: &str = "HAProxy does not show the algorithm to this socket, so weightctl cannot check whether the backend supports weights; \
                      use a socket of level operator or admin";

/// The caveat if weights were set at runtime.
const CHANGED: &str =
    "weights that were set at runtime differ from haproxy.cfg; after the import, weightd keeps them over reloads";

/// A backend of a HAProxy.
#[derive(Debug, Default)]
pub(super) struct HaproxyBackend {
    /// The servers.
    pub(super) observed: Observed,
    /// The roles; none if HAProxy did not report them.
    pub(super) roles: Option<Roles>,
    /// The parse error of HAProxy's answer.
    pub(super) unreadable: Option<String>,
}

/// The input of an import.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Backends with weights that fit in a document.
    pub(super) found: Vec<Candidate>,
    /// Backends and keys that cannot become a document.
    pub(super) skipped: Vec<Skipped>,
}

impl Candidates {
    /// Every backend of the source, also those that cannot be imported.
    pub(super) fn backends(&self) -> BTreeSet<BackendName> {
        let skipped = self.skipped.iter().filter_map(|skipped| skipped.backend.clone());
        self.found.iter().map(|found| found.backend.clone()).chain(skipped).collect()
    }
}

/// A backend and its weights.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) backend: BackendName,
    pub(super) weights: Weights,
    /// The servers that take traffic if their weight is above 0; none if the source is not a HAProxy.
    pub(super) active: Option<BTreeSet<ServerName>>,
    /// Why shares differ from the weights there, one sentence each.
    pub(super) caveats: Vec<String>,
    /// Why the candidate is not written even if Consul has no document.
    pub(super) exclusion: Option<Exclusion>,
}

/// Why a candidate is not written.
#[derive(Debug)]
pub(super) enum Exclusion {
    /// A guard of weightd rejects the document now. weightd would accept it later, at an unexpected time.
    Guarded(Guard),
    /// Another owner sets the weights of these servers. The import writes the backend only if its name is given.
    Owned(Owner, Vec<ServerName>),
}

/// A backend or a key that is not imported. Part of the JSON of `import`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Skipped {
    /// The backend, if known.
    pub(super) backend: Option<BackendName>,
    /// The key, if the problem is one key.
    pub(super) key: Option<String>,
    /// Why it is not imported.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) remedy: String,
    /// True if there was something to import: exit code 7. False if there was nothing.
    #[serde(skip)]
    pub(super) refused: bool,
}

/// A weight that weightd will set in HAProxy. Part of the JSON of `import`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct NextChange {
    pub(super) backend: BackendName,
    pub(super) server: ServerName,
    pub(super) from: Weight,
    pub(super) to: Weight,
    /// Why it is not set now, but later; null if it is set now.
    pub(super) not_now: Option<String>,
}

/// The actions of an import.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Backends to write.
    pub(super) writes: Vec<(BackendName, Edit)>,
    /// Backends that already have these weights in Consul.
    pub(super) unchanged: Vec<(BackendName, Edit)>,
    /// Backends and keys that are not imported.
    pub(super) skipped: Vec<Skipped>,
    /// Why shares differ from the weights, with the backends.
    pub(super) caveats: BTreeMap<String, Vec<BackendName>>,
    /// For each candidate, the weights that Consul has after the import.
    pub(super) in_consul: BTreeMap<BackendName, Weights>,
}

impl Skipped {
    /// A backend without anything to import.
    pub(super) fn nothing(backend: &BackendName, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (reason, remedy) = (reason.into(), remedy.into());
        Self { backend: Some(backend.clone()), key: None, reason, remedy, refused: false }
    }

    /// A backend that could not be imported.
    pub(super) fn refused(backend: &BackendName, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { refused: true, ..Self::nothing(backend, reason, remedy) }
    }

    /// A key that weightd would reject.
    pub(super) fn key(backend: Option<&BackendName>, key: &str, invalid: &Invalid) -> Self {
        Self {
            backend: backend.cloned(),
            key: Some(key.to_owned()),
            reason: invalid.to_string(),
            remedy: invalid.remedy().to_owned(),
            refused: true,
        }
    }

    /// The note for people.
    pub(super) fn sentence(&self) -> String {
        let subject = match (&self.key, &self.backend) {
            (Some(key), _) => Escaped(key).to_string(),
            (None, Some(backend)) => backend.to_string(),
            (None, None) => "other keys".to_owned(),
        };
        format!("not imported: {subject}: {}; {}", self.reason, self.remedy)
    }
}

/// The backends of a HAProxy as candidates.
pub(super) fn of_haproxy(backends: &BTreeMap<BackendName, HaproxyBackend>) -> Candidates {
    let mut candidates = Candidates::default();
    for (backend, HaproxyBackend { observed, roles, unreadable }) in backends {
        // An empty slot of a server template is not a server yet.
        let weights: Weights =
            observed.servers.iter().filter(|s| !s.slot).map(|s| (s.name.clone(), s.weight)).collect();
        let skipped = match roles {
            _ if backend.as_str() == MASTER => continue,
            _ if unreadable.is_some() => Skipped::refused(
                backend,
                format!(
                    "HAProxy's answer about the backend cannot be parsed: {}",
                    unreadable.as_deref().unwrap_or_default()
                ),
                "report this bug with HAProxy's version and the backend's section of haproxy.cfg",
            ),
            _ if weights.is_empty() => {
                Skipped::nothing(backend, "the backend has no servers", "no action is necessary")
            }
            None => Skipped::nothing(backend, "HAProxy did not report its state", "run the command again"),
            Some(roles) if roles.disabled => {
                Skipped::nothing(backend, "the backend is disabled", "import it by its name after you enable it")
            }
            Some(roles) if roles.known_static() => Skipped::nothing(
                backend,
                "`balance static-rr` accepts no new weights while HAProxy runs",
                "use `balance roundrobin`, reload HAProxy, then import the backend by its name",
            ),
            Some(roles) => {
                let shares = caveats::reasons(observed, Some(roles), false).into_iter().map(|reason| reason.detail);
                let changed = observed.servers.iter().any(|server| !server.slot && server.weight != server.initial);
                let others =
                    [roles.algorithm.is_empty().then(|| NO_ALGORITHM.to_owned()), changed.then(|| CHANGED.to_owned())];
                let caveats = shares.chain(others.into_iter().flatten()).collect();
                let usable = observed.servers.iter().filter(|server| server.usable(true));
                let active = Some(usable.map(|server| server.name.clone()).collect());
                let exclusion = exclusion(&weights, observed);
                candidates.found.push(Candidate { backend: backend.clone(), weights, active, caveats, exclusion });
                continue;
            }
        };
        candidates.skipped.push(skipped);
    }
    candidates
}

/// Why the current weights of a HAProxy should not become a document.
fn exclusion(weights: &Weights, observed: &Observed) -> Option<Exclusion> {
    if let Some(owner) = observed.servers.iter().find_map(|server| server.owner) {
        let owned = observed.servers.iter().filter(|server| server.owner == Some(owner));
        return Some(Exclusion::Owned(owner, owned.map(|server| server.name.clone()).collect()));
    }
    let desired = Desired { weights: weights.clone(), ..Desired::default() };
    match accept(&desired, None, observed, None, Moment::default()) {
        // All weights 0 needs --force: `refused` reports it with the command.
        Verdict::Guarded(guarded) if guarded.guard != Guard::AllZero => Some(Exclusion::Guarded(guarded.guard)),
        Verdict::Accepted | Verdict::Guarded(_) | Verdict::Unmatched => None,
    }
}

impl Exclusion {
    fn skipped(&self, backend: &BackendName) -> Skipped {
        match self {
            Self::Guarded(guard) => Skipped::refused(
                backend,
                format!("weightd would not accept the document now, but later when a server comes up: {guard}"),
                format!("start a server, then run `weightctl import {backend} …`"),
            ),
            Self::Owned(owner, servers) => {
                let servers = reasons::list(servers.iter().map(ServerName::as_str));
                let owner = match owner {
                    Owner::AgentCheck => "an agent-check",
                    Owner::SrvRecord => "a DNS SRV record",
                };
                Skipped::nothing(
                    backend,
                    format!("{owner} sets the weight of {servers} and would overwrite the weight from Consul"),
                    format!("no action is necessary; to import it anyway, name it: `weightctl import {backend} …`"),
                )
            }
        }
    }
}

/// Decides which candidates are written. `wanted` are the backends that the user names; empty means all. `contexts`
/// are their current content in Consul below `prefix`; it is overwritten only with `replace`.
pub(super) fn decide(
    candidates: Candidates,
    wanted: &[BackendName],
    contexts: &BTreeMap<BackendName, Known>,
    prefix: &str,
    replace: bool,
    intent: &Intent,
) -> Decision {
    let mut decision = Decision::default();
    let is_wanted =
        |backend: Option<&BackendName>| wanted.is_empty() || backend.is_some_and(|backend| wanted.contains(backend));
    let known = candidates.found.iter().map(|found| &found.backend);
    let known: Vec<_> = known.chain(candidates.skipped.iter().filter_map(|skipped| skipped.backend.as_ref())).collect();
    for backend in wanted.iter().filter(|backend| !known.contains(backend)) {
        let remedy = nearest(backend.as_str(), known.iter().map(|known| known.as_str()))
            .map_or_else(|| "check the name".to_owned(), |name| format!("did you mean `{name}`?"));
        decision.skipped.push(Skipped::refused(backend, "there is no such backend", remedy));
    }
    decision.skipped.extend(candidates.skipped.into_iter().filter(|skipped| is_wanted(skipped.backend.as_ref())));
    for Candidate { backend, weights, active, caveats, exclusion } in candidates.found {
        if !is_wanted(Some(&backend)) {
            continue;
        }
        let nothing = Known::from(None);
        let known = contexts.get(&backend).unwrap_or(&nothing);
        let before = known.stored.as_ref();
        if let Some(split) = before.map(View::of).and_then(|view| view.split) {
            decision.skipped.push(Skipped::nothing(
                &backend,
                format!("Consul has shares by pattern: {}; an import leaves them", split_summary(&split)),
                format!("no action is necessary; `weightctl get {backend}` shows the shares"),
            ));
            continue;
        }
        let intent = &with_context(intent.clone(), known);
        let edit = match edit::set(&backend, before, &weights, intent) {
            Ok(edit) => match &active {
                Some(active) => edit.limit_shares_to(active),
                None => edit,
            },
            Err(error) => {
                decision.skipped.push(refused(&backend, &weights, &error, prefix));
                continue;
            }
        };
        if edit.write == Write::Nothing {
            decision.in_consul.insert(backend.clone(), weights);
            decision.unchanged.push((backend, edit));
        } else if let Some(before) = before.filter(|_| !replace) {
            let before = View::of(before);
            decision.skipped.push(differs(&backend, &before));
            decision.in_consul.extend(before.weights.map(|weights| (backend, weights)));
        } else if let Some(exclusion) =
            exclusion.filter(|exclusion| wanted.is_empty() || !matches!(exclusion, Exclusion::Owned(..)))
        {
            decision.skipped.push(exclusion.skipped(&backend));
        } else {
            for caveat in caveats {
                decision.caveats.entry(caveat).or_default().push(backend.clone());
            }
            decision.in_consul.insert(backend.clone(), weights);
            decision.writes.push((backend, edit));
        }
    }
    decision
}

/// A backend that has other content in Consul.
fn differs(backend: &BackendName, before: &View) -> Skipped {
    let origin = before.origin();
    let separator = if origin.is_empty() { "" } else { ", " };
    Skipped::refused(
        backend,
        format!("Consul has other content: {}{separator}{origin}", before.summary()),
        format!("compare with `weightctl get {backend}`; add --replace to overwrite it"),
    )
}

fn refused(backend: &BackendName, weights: &Weights, error: &EditError, prefix: &str) -> Skipped {
    let remedy = match error {
        EditError::AllZero(_) => {
            let zeros = weights.keys().map(|server| format!("{server}=0")).collect::<Vec<_>>().join(" ");
            format!("if no server should answer: `weightctl set {backend} {zeros} --create --force`")
        }
        other => other.hint(prefix),
    };
    Skipped::refused(backend, error.to_string(), remedy)
}

/// The weights that weightd will set in a HAProxy with `backends` if Consul has the weights `in_consul`. Uses weightd's
/// own planner.
pub(super) fn next_changes(
    in_consul: &BTreeMap<BackendName, Weights>,
    backends: &BTreeMap<BackendName, HaproxyBackend>,
) -> Vec<NextChange> {
    let mut next = Vec::new();
    for (backend, weights) in in_consul {
        let Some(HaproxyBackend { observed, .. }) = backends.get(backend) else { continue };
        let weights = weights.clone();
        let desired = Desired { weights, ..Desired::default() };
        let guard = match accept(&desired, None, observed, None, Moment::default()) {
            Verdict::Guarded(guarded) => Some(guarded.guard.to_string()),
            Verdict::Accepted | Verdict::Unmatched => None,
        };
        let change = |change: &Change, not_now: Option<String>| NextChange {
            backend: backend.clone(),
            server: change.server.clone(),
            from: change.from,
            to: change.to,
            not_now,
        };
        let plan = plan(backend, &desired, observed);
        next.extend(plan.changes().map(|sent| change(sent, guard.clone())));
        if let Some((why, changes)) = &plan.withheld {
            next.extend(changes.iter().map(|later| change(later, guard.clone().or_else(|| Some(why.to_string())))));
        }
    }
    next
}

#[cfg(test)]
mod tests;
