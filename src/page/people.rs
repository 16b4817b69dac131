//! The signed-in people: for each token a client of its own, and what the token sees and may write.
//!
//! Every read that decides what a person is shown, and every write, is made with the person's own token. What Consul said is
//! believed for half a minute, and longer while Consul does not answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
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
        let consul = consul::Settings { token: TokenSource::None, ..consul };
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

/// How often one address, and all of them, may try to sign in. A token cannot be guessed: this keeps Consul from being asked
/// without end.
#[derive(Debug, Default)]
pub struct Limiter {
    known: Mutex<(Bucket, HashMap<IpAddr, Bucket>)>,
}

/// The most tries at once, and the seconds until one more is free: of one address, and of all.
const OF_ONE: (f64, f64) = (10.0, 3.0);
/// See [`OF_ONE`].
const OF_ALL: (f64, f64) = (60.0, 0.2);
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    used: f64,
    at: Instant,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { used: 0.0, at: Instant::now() }
    }
}

impl Bucket {
    fn take(&mut self, (most, seconds): (f64, f64), now: Instant) -> bool {
        self.used = (self.used - now.duration_since(self.at).as_secs_f64() / seconds).max(0.0);
        self.at = now;
        let free = self.used + 1.0 <= most;
        if free {
            self.used += 1.0;
        }
        free
    }
}

impl Limiter {
    /// Whether this address may try now.
    pub fn may_try(&self, from: Option<IpAddr>, now: Instant) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *known;
        if by_address.len() >= MAX_ADDRESSES {
            by_address.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_secs(60));
            if by_address.len() >= MAX_ADDRESSES {
                by_address.clear();
            }
        }
        let own = from.is_none_or(|from| by_address.entry(network(from)).or_default().take(OF_ONE, now));
        // An address that is over its own limit takes nothing from the others.
        own && all.take(OF_ALL, now)
    }
}

/// One home has one network of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            let home = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(home), IpAddr::V4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_use_up_the_tries_of_the_others() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let address = |text: &str| Some(text.parse().unwrap());
        let tries = |from, now| (0..1000).filter(|_| limiter.may_try(from, now)).count();
        assert_eq!(tries(address("192.0.2.1"), now), 10);
        assert_eq!(tries(address("192.0.2.2"), now), 10);
        assert_eq!(tries(address("2001:db8::1"), now), 10);
        assert_eq!(tries(address("2001:db8::2"), now), 0, "one network");
        assert_eq!(tries(address("192.0.2.1"), now + Duration::from_secs(31)), 10);
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let from = |n: u32| Some(IpAddr::V4(std::net::Ipv4Addr::from(n)));
        assert_eq!((0..20_000).filter(|n| limiter.may_try(from(*n), now)).count(), 60);
    }
}
