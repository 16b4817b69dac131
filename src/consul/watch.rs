//! Follows one prefix of Consul KV with a blocking query, for ever.
//!
//! Owns the rules of the query: which index to wait beyond, when to read without waiting, how fast to ask again, what an
//! unusable answer means. Publishes what Consul says; must never decide what that changes, and must never turn a failed or
//! empty read into an instruction.

mod link;
mod reading;

use std::{pin::Pin, sync::Arc, time::Duration};

pub use link::{Held, Link, OVERDUE};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};
use weightd_core::{
    desired::{Decoder, DesiredState, Published, Rejected},
    model::{BackendName, Escaped, Moment},
};

use self::reading::{Mode, Reading};
use super::{
    client::{Blocking, Client, ConsulError},
    pace::{self, Pace},
};
use crate::base::{
    chain::Chain,
    clock::Clock,
    retry::{self, Backoff},
    telemetry::budget::Budget,
};

/// Shortest and longest pause after an error. Jittered, so that a fleet does not come back at one instant. Not longer,
/// because a Consul that is back after an hour should be followed again at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often a plain read goes beside the blocked query. It proves that Consul still answers, and it finds what a blocked
/// query misses: a snapshot that is restored meanwhile.
const PLAIN_READ_EVERY: Duration = Duration::from_secs(10);
/// The same after such a read failed.
const PLAIN_READ_AFTER_ERROR: Duration = Duration::from_secs(5);
/// The shortest pause after an answer: what it changes goes to HAProxy first, on the one thread that both share.
const APPLY_FIRST: Duration = Duration::from_millis(2);
/// A person who asks for the status causes a plain read, but at most once in this time.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// And at most in this multiple of the time that the last one took, so that reading stays below 2 % of a core.
const REFRESH_COST: u32 = 50;
/// How often a prefix that is too large for one answer is tried as one answer again.
const TRY_WHOLE_EVERY: Duration = Duration::from_secs(60);

/// What the watch says about the desired state.
#[derive(Debug, Clone, Default)]
pub enum Feed {
    /// The first read has not ended.
    #[default]
    Waiting,
    /// The first read failed: the weights on disk are all there is.
    Unavailable,
    /// What Consul said last. Stays in force when later reads fail.
    State {
        /// The desired state.
        state: Arc<DesiredState>,
        /// When the answer that brought it was complete.
        read_at: Moment,
    },
}

/// What a watch publishes, and how it is asked for a reading.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The desired state.
    pub feed: watch::Receiver<Feed>,
    /// The connection.
    pub link: watch::Receiver<Link>,
    /// A message in it asks for a plain read soon.
    pub refresh: Arc<watch::Sender<()>>,
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
    mode: Mode,
    /// When a prefix that is read backend by backend may be tried as one answer again.
    try_whole_at: Moment,
    pace: Pace,
    /// How long the last reading took from the first byte of its answer to its publication.
    cost: Duration,
    published: Option<Arc<DesiredState>>,
    /// What went wrong since the last question; the next question may be the cure.
    wrong: Option<ConsulError>,
    budget: Budget,
    replaced: watch::Receiver<()>,
    refresh: watch::Receiver<()>,
    /// No plain read that a person asks for is sent before this moment.
    refresh_not_before: Moment,
    feed: watch::Sender<Feed>,
    link: watch::Sender<Link>,
}

type Read = Pin<Box<dyn Future<Output = Result<Reading, ConsulError>> + Send>>;

impl Watch {
    /// A watch of `prefix`, which ends in a slash, and what it will publish. Each query blocks for `wait` at most.
    pub fn new(client: Arc<Client>, prefix: String, wait: Duration, clock: Clock) -> (Self, Followed) {
        let (feed, feed_receiver) = watch::channel(Feed::default());
        let (link, link_receiver) = watch::channel(Link::default());
        let (refresh, refresh_receiver) = watch::channel(());
        let decoder = Decoder::new(prefix.clone());
        let replaced = client.replacements();
        let watch = Self {
            client,
            prefix,
            wait,
            clock,
            decoder,
            index: 0,
            mode: Mode::Whole,
            try_whole_at: Moment::default(),
            pace: Pace::default(),
            cost: Duration::ZERO,
            published: None,
            wrong: None,
            budget: Budget::default(),
            replaced,
            refresh: refresh_receiver,
            refresh_not_before: Moment::default(),
            feed,
            link,
        };
        (watch, Followed { feed: feed_receiver, link: link_receiver, refresh: Arc::new(refresh) })
    }

    /// Follows the prefix until it is dropped. A blocked query is abandoned only then: the agent keeps its slot until its
    /// time is over.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut least = Duration::ZERO;
        loop {
            let empty =
                self.published.as_ref().is_some_and(|state| state.backends.is_empty() && state.stray.is_empty());
            let pause = self.pace.take(pace::interval(self.cost, empty), self.clock.now()).max(least);
            // Even a sleep of zero may last until the timer's next millisecond.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            match self.follow().await {
                Ok(()) => {
                    backoff.reset();
                    least = APPLY_FIRST;
                }
                Err(ConsulError::TooLarge(_)) if self.mode == Mode::Whole => self.begin_split(),
                Err(error) => {
                    let pause = backoff.next().max(error.retry_after().unwrap_or_default());
                    self.failed(error);
                    tokio::select! {
                        () = sleep(pause) => {}
                        // The cause may have been fixed just now.
                        Ok(()) = self.replaced.changed() => {}
                    }
                    least = Duration::ZERO;
                }
            }
        }
    }

    /// The keys are too large for one answer: from now on each backend is read on its own.
    fn begin_split(&mut self) {
        self.mode = Mode::Split;
        self.index = 0;
        self.try_whole_at = self.clock.now() + TRY_WHOLE_EVERY;
        self.link.send_modify(|link| {
            *link.errors.entry("too_large").or_default() += 1;
            if !link.split {
                warn!(
                    prefix = self.prefix,
                    hint = "find the keys: `consul kv get -keys -recurse` below the prefix, and delete what is no document",
                    "the keys below the prefix are too large for one answer; each backend is read on its own"
                );
            }
            link.split = true;
        });
    }

    /// Reads once without blocking and publishes what comes.
    ///
    /// # Errors
    /// [`ConsulError`]; nothing is published then.
    pub async fn read_once(&mut self) -> Result<(), ConsulError> {
        let mut read = self.ask(0).await;
        if matches!(read, Err(ConsulError::TooLarge(_))) {
            self.begin_split();
            read = self.ask(0).await;
        }
        self.take(&read?)
    }

    /// One query, blocking once the index is known, with plain reads beside it while it blocks.
    async fn follow(&mut self) -> Result<(), ConsulError> {
        let mut query = self.ask(self.index);
        // The greatest index of the history that the query waits in. Not `self.index`: a plain read that fails resets that
        // one, but not the query.
        let mut newest = self.index;
        let mut plain: Option<Read> = None;
        let mut overtaken = false;
        let mut plain_at = next_plain();
        loop {
            let refresh_at = self.clock.instant(self.refresh_not_before);
            tokio::select! {
                answer = &mut query => {
                    // A plain read that is still under way may be older than this answer: it ends here, unused.
                    self.answered();
                    let reading = answer?;
                    if overtaken || reading.index < newest {
                        // Either this answer is from before the index went back, or it shows that it did. Which of the two
                        // histories is the present one, only a read from zero shows.
                        self.decoder.forget();
                        self.index = 0;
                        return Ok(());
                    }
                    return self.take(&reading);
                }
                answer = async { plain.as_mut().expect("polled only while there is one").await }, if plain.is_some() => {
                    plain = None;
                    self.plain_read_ended();
                    plain_at = next_plain();
                    if matches!(answer, Err(ConsulError::TooLarge(_))) {
                        // Where that is new, the blocked query finds the same when it wakes.
                        continue;
                    }
                    if self.mode == Mode::Split && answer.as_ref().is_ok_and(|reading| reading.fits && reading.whole) {
                        self.mode = Mode::Whole;
                        overtaken = true;
                    }
                    let taken = answer.and_then(|reading| {
                        if reading.index < newest {
                            self.decoder.forget();
                            overtaken = true;
                        }
                        newest = reading.index;
                        self.take(&reading)
                    });
                    // The query may still be blocked for long, and is not abandoned.
                    if let Err(error) = taken {
                        let pause = retry::jittered(PLAIN_READ_AFTER_ERROR, 0.5);
                        plain_at = Instant::now() + pause.max(error.retry_after().unwrap_or_default());
                        self.failed(error);
                    }
                }
                Ok(()) = self.replaced.changed(), if plain.is_none() => {
                    // What Consul answers to the new token is known at once. The query, which waits with the old one,
                    // ends by itself.
                    overtaken = true;
                    plain = Some(self.ask_plainly());
                }
                Ok(()) = asked_for(&mut self.refresh, refresh_at), if plain.is_none() => {
                    plain = Some(self.ask_plainly());
                }
                () = sleep_until(plain_at), if plain.is_none() => plain = Some(self.ask_plainly()),
            }
        }
    }

    /// A read beside the blocked query. It is answered at once, or Consul does not work.
    fn ask_plainly(&mut self) -> Read {
        let now = self.clock.now();
        if self.mode == Mode::Split && now >= self.try_whole_at {
            self.try_whole_at = now + TRY_WHOLE_EVERY;
            return self.ask_in(Mode::Whole, 0);
        }
        self.ask(0)
    }

    fn answered(&self) {
        self.link.send_modify(|link| link.asked = None);
    }

    fn plain_read_ended(&mut self) {
        let now = self.clock.now();
        let asked = self.link.borrow().asked;
        let took = asked.map_or(Duration::ZERO, |asked| now.since(asked));
        self.refresh_not_before = now + REFRESH_EVERY.max(took * REFRESH_COST);
        self.answered();
    }

    fn ask(&mut self, index: u64) -> Read {
        self.ask_in(self.mode, index)
    }

    fn ask_in(&mut self, mode: Mode, index: u64) -> Read {
        // Only now, and not when it went wrong: a file that was fixed during the pause counts for this question already.
        if let Some(wrong) = self.wrong.take()
            && let Err(error) = self.client.refresh(&wrong)
        {
            warn!(error = %Chain(&error), "cannot read the token again");
        }
        let now = self.clock.now();
        self.link.send_if_modified(|link| {
            link.requests += 1;
            if index == 0 {
                link.asked = Some(now);
            }
            index == 0
        });
        let blocking = (index > 0).then_some(Blocking { index, wait: self.wait });
        Box::pin(reading::read(Arc::clone(&self.client), self.prefix.clone(), mode, blocking))
    }

    /// Decodes a reading and publishes what differs.
    fn take(&mut self, reading: &Reading) -> Result<(), ConsulError> {
        let read_at = self.clock.now();
        let state =
            self.decoder.decode_with(&reading.entries()?, &reading.oversized).map_err(ConsulError::BadResponse)?;
        self.index = reading.index;
        if self.mode == Mode::Split && reading.fits {
            // The next plain read tries it.
            self.try_whole_at = read_at;
        }
        let empty = state.backends.is_empty() && state.stray.is_empty();
        let whole = self.mode == Mode::Whole;
        self.link.send_modify(|link| {
            if let Some(held) = link.failed.take() {
                info!(
                    after_seconds = read_at.since(held.since).as_secs(),
                    index = reading.index,
                    "Consul answers again"
                );
            }
            if empty && (!link.empty || link.reads == 0) {
                warn!(prefix = self.prefix, "there is no key below the prefix, or the token may not read any");
            }
            if reading.filtered && !link.filtered {
                warn!(prefix = self.prefix, "the token may not read all keys below the prefix");
            }
            link.asked = None;
            link.last_read = Some(read_at);
            link.index = reading.index;
            link.empty = empty;
            link.filtered = reading.filtered;
            link.split &= !whole;
            link.reads += 1;
        });
        if self.published.as_ref() != Some(&state) {
            report_rejected(self.published.as_deref(), &state, &mut self.budget, read_at);
            self.published = Some(Arc::clone(&state));
            self.feed.send_replace(Feed::State { state, read_at });
        }
        self.cost = reading.received.elapsed();
        Ok(())
    }

    fn failed(&mut self, error: ConsulError) {
        // After an error the index proves nothing: the next read does not wait.
        self.index = 0;
        let now = self.clock.now();
        let detail = Chain(&error).to_string();
        self.link.send_modify(|link| {
            *link.errors.entry(error.reason()).or_default() += 1;
            let since = link.held(now).map_or(now, |held| held.since);
            // The remedy may change while the word stays: from a wrong CA to an expired certificate.
            let same = |held: &Held| held.reason == error.reason() && held.remedy == error.remedy();
            if !link.failed.as_ref().is_some_and(same) {
                warn!(
                    reason = error.reason(),
                    error = detail,
                    hint = error.remedy(),
                    "Consul gives no usable answer; what was accepted stays in force"
                );
            }
            link.asked = None;
            link.failed = Some(Held { reason: error.reason(), detail, remedy: error.remedy(), since });
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

/// Waits until a reading is asked for, and then until it may be sent.
async fn asked_for(refresh: &mut watch::Receiver<()>, not_before: Instant) -> Result<(), watch::error::RecvError> {
    refresh.changed().await?;
    sleep_until(not_before).await;
    Ok(())
}

/// When to read beside the query next; jittered, so that a fleet spreads.
fn next_plain() -> Instant {
    Instant::now() + retry::jittered(PLAIN_READ_EVERY, 0.125)
}

/// Logs what is newly rejected, each key once.
fn report_rejected(before: Option<&DesiredState>, state: &DesiredState, budget: &mut Budget, now: Moment) {
    let left_out = budget.renew(now);
    if left_out > 0 {
        warn!(left_out, "more keys were rejected in the last minute; see `weightctl status --local`");
    }
    let was = |backend: &BackendName| match before.and_then(|b| b.backends.get(backend)) {
        Some(Published::Rejected(rejected)) => Some(rejected),
        _ => None,
    };
    let rejected = state.backends.iter().filter_map(|(backend, published)| match published {
        Published::Rejected(rejected) if was(backend) != Some(rejected) => Some(rejected),
        _ => None,
    });
    let stray = state.stray.iter().filter(|rejected| !before.is_some_and(|b| b.stray.contains(rejected)));
    for rejected in rejected.chain(stray).filter(|_| budget.spend()) {
        let Rejected { key, index, reason } = &**rejected;
        warn!(key = %Escaped(key), index, error = %reason, hint = reason.remedy(), "rejected; what was accepted stays in force");
    }
    for (backend, fields) in &state.unknown_fields {
        if before.and_then(|b| b.unknown_fields.get(backend)) != Some(fields) && budget.spend() {
            let fields = fields.join(", ");
            info!(%backend, fields = %Escaped(&fields), "the document has fields that this version does not know");
        }
    }
}
