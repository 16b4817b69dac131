//! What is imported, what is left, and what weightd makes of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use weightd_core::{
    accept::{Guard, Verdict, accept},
    caveats,
    desired::{Desired, Invalid, Weights},
    model::{BackendName, Escaped, Moment, ServerName, Weight, nearest},
    observed::{Observed, Owner, Roles},
    plan::plan,
    reasons,
};

use crate::documents::{
    edit::{self, Edit, EditError, Intent, Write},
    stored::Stored,
    view::View,
};

/// HAProxy's own connections to its workers, which 2.2 lists like a backend.
const MASTER: &str = "MASTER";

/// What HAProxy does not show to a socket of level user.
const NO_ALGORITHM: &str = "HAProxy does not show this socket the algorithm, so it is not known whether the backend takes weights; \
                      use a socket of level operator or admin";

/// What is true of weights that were set at runtime.
const CHANGED: &str =
    "weights that were set at runtime differ from haproxy.cfg; after the import they stay over reloads";

/// A backend that a HAProxy has.
#[derive(Debug, Default)]
pub(super) struct HaproxyBackend {
    /// Its servers.
    pub(super) observed: Observed,
    /// Its roles.
    pub(super) roles: Option<Roles>,
    /// Why HAProxy's answer about it could not be parsed.
    pub(super) unreadable: Option<String>,
}

/// What there is to import.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Backends with weights that a document can hold.
    pub(super) found: Vec<Candidate>,
    /// What no document can hold.
    pub(super) left: Vec<Left>,
}

impl Candidates {
    /// Every backend that there is, whether it can be imported or not.
    pub(super) fn backends(&self) -> BTreeSet<BackendName> {
        let left = self.left.iter().filter_map(|left| left.backend.clone());
        self.found.iter().map(|found| found.backend.clone()).chain(left).collect()
    }
}

/// A backend and its weights.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) backend: BackendName,
    pub(super) weights: Weights,
    /// The servers that take traffic when their weight is above 0, where a HAProxy says that.
    pub(super) active: Option<BTreeSet<ServerName>>,
    /// Why a share is not what its weight says there, each as a sentence.
    pub(super) caveats: Vec<String>,
    /// Why it is not written although Consul has nothing of it.
    pub(super) hold: Option<Hold>,
}

/// Why a candidate is not written.
#[derive(Debug)]
pub(super) enum Hold {
    /// A guard of weightd: the document would be accepted later, at a moment that nobody expects.
    Guarded(Guard),
    /// Something else sets the weights of these servers. It is written only if it is named.
    Owned(Owner, Vec<ServerName>),
}

/// Something that is not imported. Part of the JSON of `import`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    /// The backend, if it belongs to one.
    pub(super) backend: Option<BackendName>,
    /// The key, if it is about one.
    pub(super) key: Option<String>,
    /// Why.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) remedy: String,
    /// Whether somebody may miss it; else there is nothing to import.
    #[serde(skip)]
    pub(super) refused: bool,
}

/// A weight that weightd will set. Part of the JSON of `import`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Due {
    pub(super) backend: BackendName,
    pub(super) server: ServerName,
    pub(super) from: Weight,
    pub(super) to: Weight,
}

/// What an import does.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// What is written.
    pub(super) writes: Vec<(BackendName, Edit)>,
    /// What Consul says already.
    pub(super) same: Vec<(BackendName, Edit)>,
    /// What is not imported.
    pub(super) left: Vec<Left>,
    /// Why shares are not what the weights say, and where.
    pub(super) caveats: BTreeMap<String, Vec<BackendName>>,
    /// What Consul says afterwards about each backend that was found.
    pub(super) says: BTreeMap<BackendName, Weights>,
}

impl Left {
    /// A backend in which there is nothing to import.
    pub(super) fn nothing(backend: &BackendName, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (reason, remedy) = (reason.into(), remedy.into());
        Self { backend: Some(backend.clone()), key: None, reason, remedy, refused: false }
    }

    /// A backend that exists and is not imported.
    fn refused(backend: &BackendName, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { refused: true, ..Self::nothing(backend, reason, remedy) }
    }

    /// A key that every weightd would reject.
    pub(super) fn key(backend: Option<&BackendName>, key: &str, invalid: &Invalid) -> Self {
        Self {
            backend: backend.cloned(),
            key: Some(key.to_owned()),
            reason: invalid.to_string(),
            remedy: invalid.remedy().to_owned(),
            refused: true,
        }
    }

    /// As it is shown.
    pub(super) fn sentence(&self) -> String {
        let subject = match (&self.key, &self.backend) {
            (Some(key), _) => Escaped(key).to_string(),
            (None, Some(backend)) => backend.to_string(),
            (None, None) => "other keys".to_owned(),
        };
        format!("not imported: {subject}: {}; {}", self.reason, self.remedy)
    }
}

/// What a HAProxy has, as candidates.
pub(super) fn of_haproxy(backends: &BTreeMap<BackendName, HaproxyBackend>) -> Candidates {
    let mut candidates = Candidates::default();
    for (backend, HaproxyBackend { observed, roles, unreadable }) in backends {
        // An empty slot of a template is no server yet.
        let weights: Weights =
            observed.servers.iter().filter(|s| !s.slot).map(|s| (s.name.clone(), s.weight)).collect();
        let left = match roles {
            _ if backend.as_str() == MASTER => continue,
            _ if unreadable.is_some() => Left::refused(
                backend,
                format!("HAProxy's answer about it cannot be parsed: {}", unreadable.as_deref().unwrap_or_default()),
                "report it with HAProxy's version and the backend's section of haproxy.cfg",
            ),
            _ if weights.is_empty() => Left::nothing(backend, "it has no servers", "nothing"),
            None => Left::nothing(backend, "its state is not known", "run the command again"),
            Some(roles) if roles.disabled => {
                Left::nothing(backend, "it is disabled", "nothing; once it is enabled, import it by its name")
            }
            Some(roles) if roles.known_static() => Left::nothing(
                backend,
                "`balance static-rr` takes no weights while HAProxy runs",
                "use `balance roundrobin`, reload HAProxy, and import it by its name",
            ),
            Some(roles) => {
                let shares = caveats::reasons(observed, Some(roles), false).into_iter().map(|reason| reason.detail);
                let changed = observed.servers.iter().any(|server| !server.slot && server.weight != server.initial);
                let others =
                    [roles.algorithm.is_empty().then(|| NO_ALGORITHM.to_owned()), changed.then(|| CHANGED.to_owned())];
                let caveats = shares.chain(others.into_iter().flatten()).collect();
                let usable = observed.servers.iter().filter(|server| server.usable(true));
                let active = Some(usable.map(|server| server.name.clone()).collect());
                let hold = hold(&weights, observed);
                candidates.found.push(Candidate { backend: backend.clone(), weights, active, caveats, hold });
                continue;
            }
        };
        candidates.left.push(left);
    }
    candidates
}

/// Why the weights that a HAProxy has now should not become a document.
fn hold(weights: &Weights, observed: &Observed) -> Option<Hold> {
    if let Some(owner) = observed.servers.iter().find_map(|server| server.owner) {
        let owned = observed.servers.iter().filter(|server| server.owner == Some(owner));
        return Some(Hold::Owned(owner, owned.map(|server| server.name.clone()).collect()));
    }
    let desired =
        Desired { weights: weights.clone(), force: false, index: 0, by: None, reason: None, at: None, back: None };
    match accept(&desired, None, observed, None, Moment::default()) {
        // That needs --force, and is named as such.
        Verdict::Guarded(guarded) if guarded.guard != Guard::AllZero => Some(Hold::Guarded(guarded.guard)),
        Verdict::Accepted | Verdict::Guarded(_) | Verdict::Unmatched => None,
    }
}

impl Hold {
    fn left(&self, backend: &BackendName) -> Left {
        match self {
            Self::Guarded(guard) => Left::refused(
                backend,
                format!("weightd would accept it not now, but when a server comes up: {guard}"),
                format!("start a server, and run `weightctl import {backend} …` then"),
            ),
            Self::Owned(owner, servers) => {
                let servers = reasons::list(servers.iter().map(ServerName::as_str));
                let owner = match owner {
                    Owner::AgentCheck => "an agent-check",
                    Owner::SrvRecord => "a DNS SRV record",
                };
                Left::nothing(
                    backend,
                    format!("{owner} sets the weight of {servers}, and would overwrite what Consul has"),
                    format!("nothing; to let Consul set them, import it by its name: `weightctl import {backend} …`"),
                )
            }
        }
    }
}

/// Decides about all that was found, of those that are wanted: all if none is named. `stored` is what Consul says
/// about them below `prefix`, and stays as it is unless `replace`.
pub(super) fn decide(
    candidates: Candidates,
    wanted: &[BackendName],
    stored: &BTreeMap<BackendName, Stored>,
    prefix: &str,
    replace: bool,
    intent: &Intent,
) -> Decision {
    let mut decision = Decision::default();
    let is_wanted =
        |backend: Option<&BackendName>| wanted.is_empty() || backend.is_some_and(|backend| wanted.contains(backend));
    let known = candidates.found.iter().map(|found| &found.backend);
    let known: Vec<_> = known.chain(candidates.left.iter().filter_map(|left| left.backend.as_ref())).collect();
    for backend in wanted.iter().filter(|backend| !known.contains(backend)) {
        let remedy = nearest(backend.as_str(), known.iter().map(|known| known.as_str()))
            .map_or_else(|| "check its name".to_owned(), |name| format!("did you mean `{name}`?"));
        decision.left.push(Left::refused(backend, "there is no such backend", remedy));
    }
    decision.left.extend(candidates.left.into_iter().filter(|left| is_wanted(left.backend.as_ref())));
    for Candidate { backend, weights, active, caveats, hold } in candidates.found {
        if !is_wanted(Some(&backend)) {
            continue;
        }
        let before = stored.get(&backend);
        let edit = match edit::set(&backend, before, &weights, intent) {
            Ok(edit) => match &active {
                Some(active) => edit.limit_shares_to(active),
                None => edit,
            },
            Err(error) => {
                decision.left.push(refused(&backend, &weights, &error, prefix));
                continue;
            }
        };
        if edit.write == Write::Nothing {
            decision.says.insert(backend.clone(), weights);
            decision.same.push((backend, edit));
        } else if let Some(before) = before.filter(|_| !replace) {
            let before = View::of(before);
            decision.left.push(taken(&backend, &before));
            decision.says.extend(before.weights.map(|weights| (backend, weights)));
        } else if let Some(hold) = hold.filter(|hold| wanted.is_empty() || !matches!(hold, Hold::Owned(..))) {
            decision.left.push(hold.left(&backend));
        } else {
            for caveat in caveats {
                decision.caveats.entry(caveat).or_default().push(backend.clone());
            }
            decision.says.insert(backend.clone(), weights);
            decision.writes.push((backend, edit));
        }
    }
    decision
}

/// A backend that has something else in Consul already.
fn taken(backend: &BackendName, before: &View) -> Left {
    let origin = before.origin();
    let separator = if origin.is_empty() { "" } else { ", " };
    Left::refused(
        backend,
        format!("Consul says something else already: {}{separator}{origin}", before.summary()),
        format!("see `weightctl get {backend}`; --replace writes over it"),
    )
}

fn refused(backend: &BackendName, weights: &Weights, error: &EditError, prefix: &str) -> Left {
    let remedy = match error {
        EditError::AllZero(_) => {
            let zeros = weights.keys().map(|server| format!("{server}=0")).collect::<Vec<_>>().join(" ");
            format!("if nobody is to answer: `weightctl set {backend} {zeros} --create --force`")
        }
        other => other.hint(prefix),
    };
    Left::refused(backend, error.to_string(), remedy)
}

/// What weightd will set on a HAProxy with these backends, if Consul says this: by weightd's own plan.
pub(super) fn due(says: &BTreeMap<BackendName, Weights>, backends: &BTreeMap<BackendName, HaproxyBackend>) -> Vec<Due> {
    let mut due = Vec::new();
    for (backend, weights) in says {
        let Some(HaproxyBackend { observed, .. }) = backends.get(backend) else { continue };
        let weights = weights.clone();
        let desired = Desired { weights, force: false, index: 0, by: None, reason: None, at: None, back: None };
        let changes = plan(backend, &desired, observed);
        due.extend(changes.changes().map(|change| Due {
            backend: backend.clone(),
            server: change.server.clone(),
            from: change.from,
            to: change.to,
        }));
    }
    due
}

#[cfg(test)]
mod tests;
