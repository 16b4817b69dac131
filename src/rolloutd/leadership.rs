//! The lock of the leader: the key `controller`, held by a session.
//!
//! Two controllers never lead at the same time for long, and where they do, the writes of the old one fail: each transaction
//! checks the session. A leader that could not renew its session for half of its time stops acting.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weightd_core::rollout::Controller;

use super::telling;
use crate::{
    base::{chain::Chain, clock, retry::Backoff},
    consul::{
        Client, ConsulError,
        follow::Follower,
        session::{SessionId, TTL},
    },
};

/// Between two renewals: three of them may fail before Consul ends the session.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// A leader acts for so long after the start of its last renewal.
const ACT_FOR: Duration = Duration::from_millis(TTL.as_secs() * 500);
/// A follower tries so often even if nothing tells it that the lock is free.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// Shortest and longest pause after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// The same error is reported so often.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// The ACL rule of the session.
const SESSION_RULE: &str = "session \"NODE-OF-AGENT\" { policy = \"write\" }";
/// Time for the release of the lock at the end.
const RELEASE: Duration = Duration::from_secs(2);

/// A term of this process as leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// The session that holds the lock.
    pub(super) session: SessionId,
    /// When the last renewal began that succeeded.
    renewed: Instant,
}

impl Term {
    /// Whether this process may act as leader now.
    pub(super) fn may_act(&self) -> bool {
        self.renewed.elapsed() < ACT_FOR
    }
}

/// The part that runs for the lock.
#[derive(Debug)]
pub(super) struct Candidate {
    client: Arc<Client>,
    key: String,
    /// What the key says while this process leads; `since` is set when it is taken.
    value: watch::Receiver<Controller>,
    lock: Follower,
    term: watch::Sender<Option<Term>>,
    /// The error that was reported last, and when.
    reported: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate for the lock `key`, which `lock` follows, and the term while it leads.
    pub(super) fn new(
        client: Arc<Client>,
        key: String,
        value: watch::Receiver<Controller>,
        lock: Follower,
    ) -> (Self, watch::Receiver<Option<Term>>) {
        let (term, terms) = watch::channel(None);
        (Self { client, key, value, lock, term, reported: None }, terms)
    }

    /// Runs for the lock, and leads, until `stop`. Then the lock is released at once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        while !stop.is_cancelled() {
            let session = match stop.run_until_cancelled(self.client.create_session("rolloutd")).await {
                None => break,
                Some(Ok(session)) => session,
                Some(Err(error)) => {
                    self.report(&error, SESSION_RULE);
                    sleep_or(&stop, backoff.next()).await;
                    continue;
                }
            };
            backoff.reset();
            stop.run_until_cancelled(self.with(&session)).await;
            self.term.send_replace(None);
            // The next leader need not wait until Consul notices.
            let released = timeout(RELEASE, self.client.destroy_session(&session)).await;
            if !matches!(released, Ok(Ok(()))) {
                warn!("the lock of the controller is not released; it ends by itself within 20 s");
            }
        }
    }

    /// Runs for the lock with a session, and leads. Returns when the session is lost.
    async fn with(&mut self, session: &SessionId) {
        let mut changes = self.lock.subscribe();
        let mut renewed = Instant::now();
        loop {
            let began = Instant::now();
            match self.hold(session).await {
                Ok(true) => {
                    renewed = began;
                    let new = self.term.send_replace(Some(Term { session: session.clone(), renewed })).is_none();
                    if new {
                        info!(name = self.value.borrow().name, "this controller leads");
                    }
                }
                Ok(false) => {
                    if self.term.send_replace(None).is_some() {
                        warn!("another controller leads now");
                    }
                }
                Err(Lost::Session) => {
                    if self.term.send_replace(None).is_some() {
                        warn!("Consul ended the session of this controller; it does not lead any more");
                    }
                    return;
                }
                Err(Lost::Consul(error, rule)) => {
                    self.report(&error, &rule);
                    if renewed.elapsed() > TTL * 2 {
                        return;
                    }
                }
            }
            let leads = self.term.borrow().is_some();
            let pause = if leads { RENEW_EVERY } else { TRY_EVERY };
            // A lock that is free is taken at once.
            tokio::select! {
                () = sleep(pause.min(RENEW_EVERY)) => {}
                Ok(()) = changes.changed() => {
                    let free = changes.borrow_and_update().get("").is_none();
                    if !free && !leads {
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }

    /// Renews the session, and takes the lock or sees that it is still ours. False if another one has it.
    async fn hold(&mut self, session: &SessionId) -> Result<bool, Lost> {
        let of_session = |error| Lost::Consul(error, SESSION_RULE.to_owned());
        if !self.client.renew_session(session).await.map_err(of_session)? {
            return Err(Lost::Session);
        }
        let rule = format!("key \"{}\" {{ policy = \"write\" }}", self.key);
        let held = self.client.held_key(&self.key).await.map_err(|error| Lost::Consul(error, rule.clone()))?;
        match held.and_then(|held| held.session) {
            Some(holder) if holder == *session && !self.value.has_changed().unwrap_or(false) => return Ok(true),
            Some(holder) if holder != *session => return Ok(false),
            Some(_) | None => {}
        }
        let value = Controller { since: clock::timestamp(), ..self.value.borrow_and_update().clone() };
        self.client.acquire(&self.key, value.to_value(), session).await.map_err(|error| Lost::Consul(error, rule))
    }

    /// Says once in a minute why the lock cannot be held. `rule` is the ACL rule that the request needs.
    fn report(&mut self, error: &ConsulError, rule: &str) {
        if let Err(error) = self.client.refresh(error) {
            warn!(error = %Chain(&error), "the token cannot be read again");
        }
        let why = Chain(error).to_string();
        let known = self.reported.as_ref().is_some_and(|(known, at)| *known == why && at.elapsed() < REPORT_EVERY);
        if known {
            return;
        }
        self.reported = Some((why.clone(), Instant::now()));
        warn!(
            error = why,
            hint = telling::needed(error, rule),
            key = self.key,
            "the lock of the controller cannot be renewed or taken"
        );
    }
}

/// Why the lock cannot be held.
enum Lost {
    /// Consul ended the session.
    Session,
    /// Consul gave no usable answer. With the ACL rule that the request needs.
    Consul(ConsulError, String),
}

async fn sleep_or(stop: &CancellationToken, pause: Duration) {
    stop.run_until_cancelled(sleep(pause)).await;
}
