//! Follows one prefix of Consul KV with a blocking query, for ever.
//!
//! Owns the rules of the query: which index to wait beyond, when to read without waiting, how fast to go,
//! what an answer that is no answer means. Publishes what Consul says; must never decide what that changes,
//! and must never turn a failed or empty read into an instruction.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};
use weightd_core::{
    desired::{Decoder, DesiredState, Rejected, Source},
    model::{BackendName, Escaped, Moment},
};

use super::{
    client::{Blocking, Client, ConsulError, Listing},
    pace::{EVERY, EVERY_EMPTY, Pace},
};
use crate::base::{
    chain::Chain,
    clock::Clock,
    retry::{self, Backoff},
    telemetry::budget::Budget,
};

/// Shortest and longest pause after an error. Jittered, so that a fleet does not come back as one; not longer, because
/// a Consul that is back after an hour should be followed again before somebody asks why it is not.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often a plain read looks past the blocked query: a query that is blocked while a snapshot is restored
/// never learns of it.
const PLAIN_READ_EVERY: Duration = Duration::from_secs(30);
/// The same after such a read failed.
const PLAIN_READ_AFTER_ERROR: Duration = Duration::from_secs(5);
/// The least pause after an answer: what it changes goes to HAProxy first, on the one thread that both share.
const APPLY_FIRST: Duration = Duration::from_millis(2);

/// What the watch has to say about the desired state.
#[derive(Debug, Clone, Default)]
pub enum Feed {
    /// The first read has not ended.
    #[default]
    Waiting,
    /// The first read failed: what lies on disk is all there is.
    Unavailable,
    /// What Consul said last. Stays in force when later reads fail.
    State {
        /// The desired state.
        state: Arc<DesiredState>,
        /// When the answer that brought it was complete.
        read_at: Moment,
    },
}

/// How the connection to Consul is.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Since when and why there is no usable answer; none while it follows.
    pub held: Option<Held>,
    /// When the last good answer came.
    pub last_read: Option<Moment>,
    /// `X-Consul-Index` of it.
    pub index: u64,
    /// Whether it said that there is no key.
    pub empty: bool,
    /// Whether Consul said that ACLs hid keys.
    pub filtered: bool,
    /// Good answers so far.
    pub reads: u64,
    /// Requests sent so far.
    pub requests: u64,
    /// Failed requests so far, by reason.
    pub errors: std::collections::BTreeMap<&'static str, u64>,
}

/// Why Consul's answer cannot be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// A short word.
    pub reason: &'static str,
    /// A sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Since when.
    pub since: Moment,
}

/// The watch of one prefix.
#[derive(Debug)]
pub struct Watch {
    client: Arc<Client>,
    prefix: String,
    wait: Duration,
    clock: Clock,
    decoder: Decoder,
    index: u64,
    pace: Pace,
    published: Option<Arc<DesiredState>>,
    /// What went wrong since the last question, and may be mended by the next.
    wrong: Option<ConsulError>,
    budget: Budget,
    replaced: watch::Receiver<()>,
    feed: watch::Sender<Feed>,
    link: watch::Sender<Link>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Listing, ConsulError>> + Send>>;

impl Watch {
    /// A watch of `prefix`, which ends in a slash. Each query blocks for `wait` at most.
    pub fn new(
        client: Arc<Client>,
        prefix: String,
        wait: Duration,
        clock: Clock,
        feed: watch::Sender<Feed>,
        link: watch::Sender<Link>,
    ) -> Self {
        let decoder = Decoder::new(prefix.clone());
        let replaced = client.replacements();
        Self {
            client,
            prefix,
            wait,
            clock,
            decoder,
            index: 0,
            pace: Pace::default(),
            published: None,
            wrong: None,
            budget: Budget::default(),
            replaced,
            feed,
            link,
        }
    }

    /// Follows the prefix until it is dropped. Leaves a query that is blocked behind only then: the agent
    /// keeps its slot until its time is over.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut least = Duration::ZERO;
        loop {
            let empty =
                self.published.as_ref().is_some_and(|state| state.backends.is_empty() && state.stray.is_empty());
            let pause = self.pace.take(if empty { EVERY_EMPTY } else { EVERY }, self.clock.now()).max(least);
            // Even a sleep of nothing may last until the timer's next millisecond.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            match self.follow().await {
                Ok(()) => {
                    backoff.reset();
                    least = APPLY_FIRST;
                }
                Err(error) => {
                    self.failed(error);
                    tokio::select! {
                        () = sleep(backoff.next()) => {}
                        // What was wrong may have been mended just now.
                        Ok(()) = self.replaced.changed() => {}
                    }
                    least = Duration::ZERO;
                }
            }
        }
    }

    /// Reads once without blocking and publishes what comes.
    ///
    /// # Errors
    /// [`ConsulError`]; nothing is published then.
    pub async fn read_once(&mut self) -> Result<(), ConsulError> {
        self.index = 0;
        self.count_request();
        let listing = self.client.list(&self.prefix, None).await?;
        self.take(&listing)
    }

    /// One query, blocking once the index is known, with plain reads past it while it blocks.
    async fn follow(&mut self) -> Result<(), ConsulError> {
        let mut query = self.ask(self.index);
        // The greatest index of the history that the query waits in. Not `self.index`: a plain read that fails sets
        // that back, and the query is none the newer for it.
        let mut newest = self.index;
        let mut plain: Option<Reading> = None;
        let mut overtaken = false;
        let mut plain_at = next_plain();
        loop {
            tokio::select! {
                answer = &mut query => {
                    // A plain read still under way may be older than this answer: it ends here, unused.
                    let listing = answer?;
                    if overtaken || listing.index < newest {
                        // Either this answer is from before the index went back, or it tells that it did.
                        // Which of two histories is the present one, only a read from nothing tells.
                        self.decoder.forget();
                        self.index = 0;
                        return Ok(());
                    }
                    return self.take(&listing);
                }
                answer = async { plain.as_mut().expect("polled only while there is one").await }, if plain.is_some() => {
                    plain = None;
                    plain_at = next_plain();
                    let taken = answer.and_then(|listing| {
                        if listing.index < newest {
                            self.decoder.forget();
                            overtaken = true;
                        }
                        newest = listing.index;
                        self.take(&listing)
                    });
                    // The query may still be blocked for long, and is not abandoned.
                    if let Err(error) = taken {
                        self.failed(error);
                        plain_at = Instant::now() + retry::jittered(PLAIN_READ_AFTER_ERROR, 0.5);
                    }
                }
                Ok(()) = self.replaced.changed(), if plain.is_none() => {
                    // What Consul says to whom this is now is known at once, and the query, which waits on behalf of
                    // whom it was, ends by itself.
                    overtaken = true;
                    plain = Some(self.ask(0));
                }
                () = sleep_until(plain_at), if plain.is_none() => plain = Some(self.ask(0)),
            }
        }
    }

    fn ask(&mut self, index: u64) -> Reading {
        // Only now, and not when it went wrong: a file that was mended during the pause counts for this question already.
        if let Some(wrong) = self.wrong.take()
            && let Err(error) = self.client.refresh(&wrong)
        {
            warn!(error = %Chain(&error), "cannot read the token again");
        }
        self.count_request();
        let blocking = (index > 0).then_some(Blocking { index, wait: self.wait });
        let (client, prefix) = (Arc::clone(&self.client), self.prefix.clone());
        Box::pin(async move { client.list(&prefix, blocking).await })
    }

    fn count_request(&self) {
        self.link.send_if_modified(|link| {
            link.requests += 1;
            false
        });
    }

    /// Decodes an answer and publishes what differs.
    fn take(&mut self, listing: &Listing) -> Result<(), ConsulError> {
        let read_at = self.clock.now();
        let state = self.decoder.decode(&listing.entries()?).map_err(ConsulError::BadResponse)?;
        self.index = listing.index;
        let empty = state.backends.is_empty() && state.stray.is_empty();
        self.link.send_modify(|link| {
            if let Some(held) = link.held.take() {
                info!(
                    after_seconds = read_at.since(held.since).as_secs(),
                    index = listing.index,
                    "Consul answers again"
                );
            }
            if empty && (!link.empty || link.reads == 0) {
                warn!(prefix = self.prefix, "there is no key below the prefix, or the token may not read any");
            }
            if listing.filtered && !link.filtered {
                warn!(prefix = self.prefix, "the token may not read all keys below the prefix");
            }
            link.last_read = Some(read_at);
            link.index = listing.index;
            link.empty = empty;
            link.filtered = listing.filtered;
            link.reads += 1;
        });
        if self.published.as_ref() != Some(&state) {
            tell_of_rejected(self.published.as_deref(), &state, &mut self.budget, read_at);
            self.published = Some(Arc::clone(&state));
            self.feed.send_replace(Feed::State { state, read_at });
        }
        Ok(())
    }

    fn failed(&mut self, error: ConsulError) {
        // After an error the index proves nothing: the next read does not wait.
        self.index = 0;
        let now = self.clock.now();
        let detail = Chain(&error).to_string();
        self.link.send_modify(|link| {
            *link.errors.entry(error.reason()).or_default() += 1;
            let since = link.held.as_ref().map_or(now, |held| held.since);
            // What is to be done may change while the short word stays: from a wrong CA to an expired certificate.
            let same = |held: &Held| held.reason == error.reason() && held.remedy == error.remedy();
            let news = !link.held.as_ref().is_some_and(same);
            if news {
                warn!(
                    reason = error.reason(),
                    error = detail,
                    hint = error.remedy(),
                    "Consul gives no usable answer; what was accepted stays in force"
                );
            }
            link.held = Some(Held { reason: error.reason(), detail, remedy: error.remedy(), since });
        });
        self.wrong = Some(error);
        self.feed.send_if_modified(|feed| {
            let first = matches!(feed, Feed::Waiting);
            if first {
                *feed = Feed::Unavailable;
            }
            first
        });
    }
}

/// When to read past the query next; jittered, so that a fleet spreads.
fn next_plain() -> Instant {
    Instant::now() + retry::jittered(PLAIN_READ_EVERY, 0.125)
}

/// Logs what is newly refused, each key once.
fn tell_of_rejected(before: Option<&DesiredState>, state: &DesiredState, budget: &mut Budget, now: Moment) {
    let left_out = budget.settle(now);
    if left_out > 0 {
        warn!(left_out, "more keys were refused in the last minute; see `weightctl status --local`");
    }
    let was = |backend: &BackendName| match before.and_then(|b| b.backends.get(backend)) {
        Some(Source::Rejected(rejected)) => Some(rejected),
        _ => None,
    };
    let rejected = state.backends.iter().filter_map(|(backend, source)| match source {
        Source::Rejected(rejected) if was(backend) != Some(rejected) => Some(rejected),
        _ => None,
    });
    let stray = state.stray.iter().filter(|rejected| !before.is_some_and(|b| b.stray.contains(rejected)));
    for rejected in rejected.chain(stray).filter(|_| budget.spend()) {
        let Rejected { key, index, reason } = &**rejected;
        warn!(key = %Escaped(key), index, error = %reason, hint = reason.remedy(), "refused; what was accepted stays in force");
    }
    for (backend, fields) in &state.unknown_fields {
        if before.and_then(|b| b.unknown_fields.get(backend)) != Some(fields) && budget.spend() {
            let fields = fields.join(", ");
            info!(%backend, fields = %Escaped(&fields), "the document has fields that this version does not know");
        }
    }
}
