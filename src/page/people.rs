//! The signed-in people: for each token a client of its own, and what the token sees and may write.
//!
//! Every read that decides what a person is shown, and every write, is made with the person's own token. What Consul said is
//! believed for half a minute, and longer while Consul does not answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use weightd_core::{
    fleet::Keys,
    model::{BackendName, Root},
    rollout::{begin::digest, keys::RolloutKeys},
};

use super::{
    kept::{Failed, Kept},
    session::Session,
};
use crate::{
    consul::{self, Client, ConsulError, TokenSource, rights::Identity},
    documents::{Documents, DocumentsError, TaskTracker, sees::Sees},
};

/// Consul is asked at most once in this time, however often names change.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// A person who did nothing for so long is forgotten; the cookie stays.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The most people that are known at once.
const MAX_PEOPLE: usize = 4096;
/// The most streams of one person.
const MAX_STREAMS: usize = 30;

/// A signed-in person.
#[derive(Debug)]
pub struct Person {
    /// The documents, with the token of the person.
    pub documents: Documents,
    /// Tells this person from the others: a digest of name and token.
    pub id: String,
    name: String,
    seen: Arc<Kept<Arc<Seen>>>,
    /// By application; none: of all.
    rights: Mutex<HashMap<Option<BackendName>, KeptRights>>,
    used: Mutex<Instant>,
    streams: AtomicUsize,
}

/// What a token may write, and when somebody wanted to know.
#[derive(Debug)]
struct KeptRights {
    used: Instant,
    kept: Arc<Kept<Rights>>,
}

/// What Consul said of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it sees.
    pub sees: Sees,
    /// Who it is, for `by` and for the top of the page.
    pub name: String,
    /// The names of its policies.
    pub policies: Vec<String>,
    /// Whether ACLs are on.
    pub acls: bool,
}

/// What a token may write of one application, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct Rights {
    /// The document.
    pub weights: bool,
    /// The history, which a roll back needs.
    pub history: bool,
    /// `rollouts/spec/<b>`: start.
    pub spec: bool,
    /// `rollouts/request/<b>`: pause, resume, promote, mode, and roll back of a rollout.
    pub request: bool,
    /// `rollouts/approval/<b>`: approve.
    pub approval: bool,
    /// The freeze.
    pub freeze: bool,
}

/// Why a session does not go on.
#[derive(Debug)]
pub enum Refused {
    /// Consul does not take the token any more, or ACLs were switched on.
    Gone,
    /// Consul does not let the token list anything.
    Listing(Box<DocumentsError>),
    /// Consul does not answer.
    Away(String),
}

/// The people.
#[derive(Debug)]
pub struct People {
    consul: consul::Settings,
    root: Root,
    known: Mutex<HashMap<String, Arc<Person>>>,
}

impl People {
    /// Nobody is signed in yet. The token in `consul` is not used.
    pub fn new(consul: consul::Settings, root: Root) -> Self {
        // Consul limits the connections of one host, and each person has a client.
        let consul = consul::Settings { token: TokenSource::None, idle: consul::Idle::Few, ..consul };
        Self { consul, root, known: Mutex::default() }
    }

    /// The person of a session.
    ///
    /// # Errors
    /// A sentence, if no client can be made.
    pub fn of(&self, session: &Session) -> Result<Arc<Person>, ConsulError> {
        let secret = session.token.as_ref().map_or("", |token| token.expose_secret());
        let name = session.name.clone().unwrap_or_default();
        let key = digest(format!("{name}\n{secret}").as_bytes());
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(person) = known.get(&key) {
            person.touch(now);
            return Ok(Arc::clone(person));
        }
        known.retain(|_, person| person.is_used(now));
        if known.len() >= MAX_PEOPLE {
            known.clear();
        }
        let token = session.token.clone().map_or(TokenSource::None, TokenSource::Value);
        let client = Client::new(consul::Settings { token, ..self.consul.clone() })?;
        let person = Arc::new(Person {
            documents: Documents::new(client, &self.root).with_tasks(&TaskTracker::new()),
            id: key.clone(),
            name,
            seen: Arc::default(),
            rights: Mutex::default(),
            used: Mutex::new(now),
            streams: AtomicUsize::new(0),
        });
        known.insert(key, Arc::clone(&person));
        Ok(person)
    }

    /// Forgets a person who was not let in, with the connections to Consul. One with open streams stays, and so does their
    /// number.
    pub fn remove(&self, person: &Arc<Person>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if person.streams.load(Ordering::Relaxed) == 0
            && known.get(&person.id).is_some_and(|same| Arc::ptr_eq(same, person))
        {
            known.remove(&person.id);
        }
    }

    /// How many people are known.
    pub fn count(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Person {
    fn touch(&self, now: Instant) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn is_used(&self, now: Instant) -> bool {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.streams.load(Ordering::Relaxed) > 0 || now.duration_since(used) < FORGOTTEN
    }

    /// What the token sees. Consul is asked again after half a minute, and where the answer is older than `names`: the time
    /// at which the names of the applications changed. While Consul does not answer, its last answer stays.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn seen(self: &Arc<Self>, names: Option<Instant>) -> Result<Arc<Seen>, Refused> {
        let is_old = |at: Instant| names.is_some_and(|names| at < names && at.elapsed() > AT_MOST_EVERY);
        let person = Arc::clone(self);
        let ask = || async move {
            person.ask().await.map(Arc::new).map_err(|refused| match refused {
                Refused::Away(why) => Failed::Away(why),
                over => Failed::Over(over),
            })
        };
        self.seen.get(is_old, ask).await.map_err(|failed| match failed {
            Failed::Away(why) => Refused::Away(why),
            Failed::Over(refused) => refused,
        })
    }

    /// Asks Consul anew the next time: what it said may no longer be true.
    pub fn forget(&self) {
        self.seen.forget();
        self.rights.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn ask(&self) -> Result<Seen, Refused> {
        let (identity, sees) = tokio::join!(self.documents.identity(), self.documents.sees());
        let away = |error: &dyn std::error::Error| Refused::Away(error.to_string());
        let (name, policies, acls) = match identity.map_err(|error| away(&error))? {
            Identity::Known { accessor, description, policies } => {
                (if description.is_empty() { accessor } else { description }, policies, true)
            }
            // A session without a token is one of a Consul without ACLs, and the reverse.
            Identity::NoAcls if !self.name.is_empty() => (self.name.clone(), Vec::new(), false),
            Identity::NoAcls | Identity::Unknown => return Err(Refused::Gone),
        };
        if acls && !self.name.is_empty() {
            return Err(Refused::Gone);
        }
        let sees = sees.map_err(|error| match &error {
            DocumentsError::Read { source: ConsulError::Denied(_), .. } => Refused::Listing(Box::new(error)),
            _ => away(&error),
        })?;
        Ok(Seen { sees, name, policies, acls })
    }

    /// What the token may write of an application; without one, of all. While Consul does not answer, its last answer stays;
    /// none if there is none.
    pub async fn rights(self: &Arc<Self>, backend: Option<&BackendName>) -> Option<Rights> {
        let (person, backend) = (Arc::clone(self), backend.cloned());
        let kept = self.kept_rights(backend.as_ref(), Instant::now());
        let ask = || async move {
            let rights = person.ask_rights(backend.as_ref()).await;
            rights.map_err(|error| Failed::<Infallible>::Away(error.to_string()))
        };
        kept.get(|_| false, ask).await.ok()
    }

    fn kept_rights(&self, backend: Option<&BackendName>, now: Instant) -> Arc<Kept<Rights>> {
        let mut known = self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, rights| now.duration_since(rights.used) < FORGOTTEN);
        let rights = known.entry(backend.cloned()).or_insert_with(|| KeptRights { used: now, kept: Arc::default() });
        rights.used = now;
        Arc::clone(&rights.kept)
    }

    async fn ask_rights(&self, backend: Option<&BackendName>) -> Result<Rights, ConsulError> {
        let root = self.documents.root();
        let (fleet, rollouts) = (Keys(root), RolloutKeys(root));
        let keys = match backend {
            Some(backend) => vec![
                format!("{}{backend}", self.documents.prefix()),
                fleet.history(backend),
                rollouts.spec(backend),
                rollouts.request(backend),
                rollouts.approval(backend),
                fleet.freeze(backend),
            ],
            None => vec![fleet.freeze_all()],
        };
        let may = self.documents.may_write(&keys).await?;
        let at = |position: usize| may.get(position).copied().unwrap_or_default();
        Ok(match backend {
            Some(_) => {
                Rights { weights: at(0), history: at(1), spec: at(2), request: at(3), approval: at(4), freeze: at(5) }
            }
            None => Rights { freeze: at(0), ..Rights::default() },
        })
    }

    /// Counts a stream until the guard is dropped; none if there are too many.
    pub fn stream(self: &Arc<Self>) -> Option<StreamGuard> {
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        let guard = StreamGuard(Arc::clone(self));
        (before < MAX_STREAMS).then_some(guard)
    }
}

/// An open stream.
#[derive(Debug)]
pub struct StreamGuard(Arc<Person>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::page::world;

    #[test]
    fn who_is_not_let_in_is_forgotten() {
        let people = People::new(consul::Settings::default(), "weightd".parse().unwrap());
        let session = |token: &str| Session { token: Some(SecretString::from(token)), name: None, since: world::now() };
        let (wrong, other) = (people.of(&session("wrong")).unwrap(), people.of(&session("other")).unwrap());
        assert!(Arc::ptr_eq(&people.of(&session("wrong")).unwrap(), &wrong));
        people.remove(&wrong);
        assert_eq!(people.count(), 1);
        // The other one came again meanwhile, or looks at a page.
        let again = people.of(&session("wrong")).unwrap();
        people.remove(&wrong);
        let stream = other.stream();
        people.remove(&other);
        assert_eq!(people.count(), 2);
        drop(stream);
        people.remove(&other);
        people.remove(&again);
        assert_eq!(people.count(), 0);
    }
}
