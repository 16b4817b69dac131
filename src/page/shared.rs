//! What all requests share.

use std::sync::{Arc, atomic::AtomicBool};

use axum::http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::{
    kept::Kept,
    limiter::Limiter,
    metrics::PageMetrics,
    pages::start::Measured,
    people::{People, Person, Refused, Seen},
    ring::Ring,
    session::{Cookies, Session},
    settings::Settings,
    world::{self, World},
};
use crate::consul::Client;

/// What all requests share. Nothing in it can write to Consul.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub settings: Settings,
    /// The client with the token that can only read.
    pub reader: Arc<Client>,
    /// The keys of the cookies.
    pub ring: Ring,
    /// The names and attributes of the cookies.
    pub cookies: Cookies,
    /// The people.
    pub people: People,
    /// The newest world.
    pub worlds: watch::Receiver<Arc<World>>,
    /// The traffic of applications, for the preview of plans.
    pub measured: Measured,
    /// Whether Consul has ACLs.
    pub acls: Arc<Kept<bool>>,
    /// How often people may try to sign in.
    pub limiter: Limiter,
    /// Whether the log says already that the proxy does not name its clients.
    pub told_no_client: AtomicBool,
    /// The metrics.
    pub metrics: PageMetrics,
    /// The datacenter, once Consul said it.
    pub place: watch::Receiver<String>,
    /// A random name of this process: the numbers of its worlds mean nothing to another one.
    pub instance: String,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Who {
    /// The session.
    pub session: Session,
    /// The person.
    pub person: Arc<Person>,
    /// What the person sees.
    pub seen: Arc<Seen>,
}

/// Why a request is not answered as asked.
#[derive(Debug)]
pub enum NotIn {
    /// Nobody is signed in.
    Nobody,
    /// The session is over: Consul does not take the token any more.
    Gone,
    /// Consul does not let the token list anything: why.
    Listing(String),
    /// Consul does not answer: why.
    Away(String),
}

impl Shared {
    /// The newest world.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.worlds.borrow())
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`NotIn`].
    pub async fn who(&self, headers: &HeaderMap) -> Result<Who, NotIn> {
        let session = self.cookies.session(&self.ring, headers, world::now()).ok_or(NotIn::Nobody)?;
        let person = self.people.of(&session).map_err(|error| NotIn::Away(error.to_string()))?;
        let names = self.world().names_at;
        let seen = person.seen(names).await.map_err(|refused| match refused {
            Refused::Gone => NotIn::Gone,
            Refused::Listing(error) => NotIn::Listing(crate::base::chain::Chain(&*error).to_string()),
            Refused::Away(why) => NotIn::Away(why),
        })?;
        Ok(Who { session, person, seen })
    }
}

/// The status of an answer to a person whom Consul refuses.
pub const REFUSED: StatusCode = StatusCode::FORBIDDEN;
