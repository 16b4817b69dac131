//! What is imported, what is left, and what weightd makes of it. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use weightd_core::{
    caveats,
    desired::{Desired, Reason, Weights},
    model::{BackendName, Escaped, ServerName, Weight, nearest},
    observed::{Observed, Roles},
    plan::plan,
};

use crate::documents::{
    edit::{self, Edit, Intent, Refusal, Write},
    stored::Stored,
    view::View,
};

/// HAProxy's own connections to its workers, which 2.2 lists as if they were somebody's backend.
const MASTER: &str = "MASTER";

/// What HAProxy keeps from a socket of level user.
const UNTOLD: &str = "HAProxy does not tell this socket the algorithm, so that nobody knows whether it takes weights; \
                      use a socket of level operator or admin";

/// A backend of a HAProxy, as it was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its number in this process, once it is known: a backend without servers does not tell it.
    pub(super) id: Option<u32>,
    /// Its servers.
    pub(super) observed: Observed,
    /// Its roles; a backend that is disabled has none.
    pub(super) roles: Option<Roles>,
}

/// What there is to import.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// What could be a document.
    pub(super) found: Vec<Found>,
    /// What could not.
    pub(super) left: Vec<Left>,
}

/// A backend and its weights.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) backend: BackendName,
    pub(super) weights: Weights,
    /// What a weight is not worth there, each as a sentence.
    pub(super) caveats: Vec<String>,
}

/// What is not imported. Part of the JSON of `import`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    /// The backend, if it belongs to one.
    pub(super) backend: Option<BackendName>,
    /// The key, if one is to blame.
    pub(super) key: Option<String>,
    /// Why.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) remedy: String,
    /// Whether there is something that somebody may miss; else there is nothing to import.
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
    /// What a weight is not worth, and where.
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

    /// A backend that is there, and is not imported.
    fn refused(backend: &BackendName, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { refused: true, ..Self::nothing(backend, reason, remedy) }
    }

    /// A key that no weightd would understand.
    pub(super) fn key(backend: Option<&BackendName>, key: &str, reason: &Reason) -> Self {
        Self {
            backend: backend.cloned(),
            key: Some(key.to_owned()),
            reason: reason.to_string(),
            remedy: reason.remedy().to_owned(),
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

/// What of a HAProxy can be documents.
pub(super) fn of_haproxy(seen: &BTreeMap<BackendName, Seen>) -> Source {
    let mut source = Source::default();
    for (backend, Seen { observed, roles, .. }) in seen {
        // An empty slot of a template is no server yet.
        let weights: Weights =
            observed.servers.iter().filter(|s| !s.slot).map(|s| (s.name.clone(), s.weight)).collect();
        let left = match roles {
            None if backend.as_str() == MASTER => continue,
            _ if weights.is_empty() => Left::nothing(backend, "it has no servers", "nothing"),
            None => Left::nothing(backend, "it is disabled", "nothing; once it is enabled, import it by its name"),
            Some(roles) if roles.known_static() => Left::nothing(
                backend,
                "`balance static-rr` takes no weights while HAProxy runs",
                "use `balance roundrobin`, reload HAProxy, and import it by its name",
            ),
            Some(roles) => {
                let shares = caveats::of(observed, Some(roles), false).into_iter().map(|reason| reason.detail);
                let caveats = shares.chain(roles.algorithm.is_empty().then(|| UNTOLD.to_owned())).collect();
                source.found.push(Found { backend: backend.clone(), weights, caveats });
                continue;
            }
        };
        source.left.push(left);
    }
    source
}

/// Decides about all that was found, of those that are wanted: all if none is named. `stored` is what Consul says
/// about them below `prefix`, and stays as it is unless `replace`.
pub(super) fn decide(
    source: Source,
    wanted: &[BackendName],
    stored: &BTreeMap<BackendName, Stored>,
    prefix: &str,
    replace: bool,
    intent: &Intent,
) -> Decision {
    let mut decision = Decision::default();
    let is_wanted =
        |backend: Option<&BackendName>| wanted.is_empty() || backend.is_some_and(|backend| wanted.contains(backend));
    let known = source.found.iter().map(|found| &found.backend);
    let known: Vec<_> = known.chain(source.left.iter().filter_map(|left| left.backend.as_ref())).collect();
    for backend in wanted.iter().filter(|backend| !known.contains(backend)) {
        let remedy = nearest(backend.as_str(), known.iter().map(|known| known.as_str()))
            .map_or_else(|| "check its name".to_owned(), |name| format!("did you mean `{name}`?"));
        decision.left.push(Left::refused(backend, "there is no such backend", remedy));
    }
    decision.left.extend(source.left.into_iter().filter(|left| is_wanted(left.backend.as_ref())));
    for Found { backend, weights, caveats } in source.found {
        if !is_wanted(Some(&backend)) {
            continue;
        }
        let before = stored.get(&backend);
        let edit = match edit::set(&backend, before, &weights, intent) {
            Ok(edit) => edit,
            Err(refusal) => {
                decision.left.push(refused(&backend, &weights, &refusal, prefix));
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

fn refused(backend: &BackendName, weights: &Weights, refusal: &Refusal, prefix: &str) -> Left {
    let remedy = match refusal {
        Refusal::AllZero(_) => {
            let zeros = weights.keys().map(|server| format!("{server}=0")).collect::<Vec<_>>().join(" ");
            format!("if nobody is to answer: `weightctl set {backend} {zeros} --create --force`")
        }
        other => other.hint(prefix),
    };
    Left::refused(backend, refusal.to_string(), remedy)
}

/// What weightd will set on a HAProxy that was seen so, if Consul says this: by its own plan.
pub(super) fn due(says: &BTreeMap<BackendName, Weights>, seen: &BTreeMap<BackendName, Seen>) -> Vec<Due> {
    let mut due = Vec::new();
    for (backend, weights) in says {
        let Some(Seen { observed, .. }) = seen.get(backend) else { continue };
        let weights = weights.clone();
        let desired = Desired { weights, force: false, index: 0, by: None, reason: None, at: None };
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
