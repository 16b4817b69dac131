//! Follows one prefix of Consul KV with a blocking query, endlessly.
//!
//! Owns the rules of the query: the index, the plain reads, the rate, and the meaning of an unusable answer. Publishes
//! the desired state. Must not decide which changes follow from it, and must not turn a failed or empty read into an
//! instruction.

mod link;
mod reading;
mod refresh;

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

use self::{
    reading::{Mode, Reading},
    refresh::refresh_requested,
};
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

/// Shortest and longest pause after an error. Jittered, so that the nodes of a fleet do not retry at the same instant.
/// The maximum is short, so that the watch follows Consul again soon after a long outage.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Interval of the plain reads during a blocked query. A plain read proves that Consul still answers. It also finds a
/// restored snapshot, which a blocked query misses.
const PLAIN_READ_EVERY: Duration = Duration::from_secs(10);
/// Interval until the next plain read after a failed one.
const PLAIN_READ_AFTER_ERROR: Duration = Duration::from_secs(5);
/// Shortest pause after an answer. It lets the changes go to HAProxy first, because both use the same thread.
const APPLY_FIRST: Duration = Duration::from_millis(2);
/// Shortest interval of the plain reads that status requests cause.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// The interval is also at least this multiple of the duration of the last plain read: at most 2 % of a core.
const REFRESH_COST: u32 = 50;
/// Interval of the attempts to read a too large prefix in one answer again.
const TRY_WHOLE_EVERY: Duration = Duration::from_secs(60);

/// The desired state, as the watch publishes it.
#[derive(Debug, Clone, Default)]
pub enum Feed {
    /// The first read has not finished.
    #[default]
    Waiting,
    /// The first read failed. Only the weights on disk are known.
    Unavailable,
    /// The state of the last good read. It stays valid if later reads fail.
    State {
        /// The desired state.
        state: Arc<DesiredState>,
        /// When the answer with this state was complete.
        read_at: Moment,
    },
}

/// The handle of a watch: its published state, and a channel to request a read.
#[derive(Debug, Clone)]
pub struct WatchHandle {
    /// The desired state.
    pub feed: watch::Receiver<Feed>,
    /// The state of the connection.
    pub link: watch::Receiver<Link>,
    /// A message requests a plain read.
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
    /// In split mode, when to try one answer for the whole prefix again.
    try_whole_at: Moment,
    pace: Pace,
    /// Duration of the last reading, from the first byte of its answer to its publication.
    cost: Duration,
    published: Option<Arc<DesiredState>>,
    /// The error of the last request, for [`Client::refresh`] before the next one.
    last_error: Option<ConsulError>,
    budget: Budget,
    replaced: watch::Receiver<()>,
    refresh: watch::Receiver<()>,
    /// Earliest moment of the next requested plain read.
    refresh_not_before: Moment,
    feed: watch::Sender<Feed>,
    link: watch::Sender<Link>,
}

type Read = Pin<Box<dyn Future<Output = Result<Reading, ConsulError>> + Send>>;

impl Watch {
    /// Creates a watch of `prefix`, which must end in a slash, and its handle. Each query blocks for at most `wait`.
    pub fn new(client: Arc<Client>, prefix: String, wait: Duration, clock: Clock) -> (Self, WatchHandle) {
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
            last_error: None,
            budget: Budget::default(),
            replaced,
            refresh: refresh_receiver,
            refresh_not_before: Moment::default(),
            feed,
            link,
        };
        (watch, WatchHandle { feed: feed_receiver, link: link_receiver, refresh: Arc::new(refresh) })
    }

    /// Follows the prefix until the future is dropped. A blocked query is never aborted before that, because the agent
    /// keeps its slot until the wait is over.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut min_pause = Duration::ZERO;
        loop {
            let empty =
                self.published.as_ref().is_some_and(|state| state.backends.is_empty() && state.stray.is_empty());
            let pause = self.pace.take(pace::interval(self.cost, empty), self.clock.now()).max(min_pause);
            // A sleep of zero can last until the next millisecond of the timer.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            match self.follow().await {
                Ok(()) => {
                    backoff.reset();
                    min_pause = APPLY_FIRST;
                }
                Err(ConsulError::TooLarge(_)) if self.mode == Mode::Whole => self.start_split_mode(),
                Err(error) => {
                    let pause = backoff.next().max(error.retry_after().unwrap_or_default());
                    self.failed(error);
                    tokio::select! {
                        () = sleep(pause) => {}
                        // The new access may fix the error: retry at once.
                        Ok(()) = self.replaced.changed() => {}
                    }
                    min_pause = Duration::ZERO;
                }
            }
        }
    }

    /// Switches to split mode, because the keys are too large for one answer: each backend is read separately.
    fn start_split_mode(&mut self) {
        self.mode = Mode::Split;
        self.index = 0;
        self.try_whole_at = self.clock.now() + TRY_WHOLE_EVERY;
        self.link.send_modify(|link| {
            *link.errors.entry("too_large").or_default() += 1;
            if !link.split {
                warn!(
                    prefix = self.prefix,
                    hint = format!("list the keys with `consul kv get -keys -separator= {}`, and delete keys that are not documents", self.prefix),
                    "the keys below the prefix are too large for one answer; each backend is read separately"
                );
            }
            link.split = true;
        });
    }

    /// Reads once without blocking, and publishes the state.
    ///
    /// # Errors
    /// [`ConsulError`]. Nothing is published.
    pub async fn read_once(&mut self) -> Result<(), ConsulError> {
        let mut read = self.start_read(0).await;
        if matches!(read, Err(ConsulError::TooLarge(_))) {
            self.start_split_mode();
            read = self.start_read(0).await;
        }
        self.take(&read?)
    }

    /// Runs one query, which blocks if the index is known, and plain reads while it blocks.
    async fn follow(&mut self) -> Result<(), ConsulError> {
        let blocks = self.index > 0;
        let mut query = self.start_read(self.index);
        // The newest index for the running query. It is not `self.index`: a failed plain read resets that, but the
        // query keeps its index.
        let mut newest = self.index;
        let mut plain: Option<Read> = None;
        // Whether `plain` was requested, and not started by the timer.
        let mut requested = false;
        let mut outdated = false;
        let mut plain_at = next_plain();
        loop {
            let refresh_at = self.clock.instant(self.refresh_not_before);
            tokio::select! {
                answer = &mut query => {
                    // An unfinished plain read may be older than this answer, so it is dropped.
                    if blocks || plain.is_some() {
                        self.clear_pending();
                    }
                    if plain.is_some() && requested {
                        // The requester still needs a plain read that was sent after the request.
                        self.refresh.mark_changed();
                    }
                    let reading = answer?;
                    if outdated || reading.index < newest {
                        // The index went backwards before or with this answer. Only a read without an index shows the
                        // current state.
                        self.decoder.forget();
                        self.index = 0;
                        return Ok(());
                    }
                    return self.take(&reading);
                }
                answer = async { plain.as_mut().expect("polled only while it is some").await }, if plain.is_some() => {
                    (plain, requested) = (None, false);
                    self.plain_read_ended();
                    plain_at = next_plain();
                    if matches!(answer, Err(ConsulError::TooLarge(_))) {
                        self.clear_pending();
                        // The blocked query gets the same error when it wakes, and switches the mode.
                        continue;
                    }
                    if self.mode == Mode::Split && answer.as_ref().is_ok_and(|reading| reading.fits && reading.whole) {
                        self.mode = Mode::Whole;
                        outdated = true;
                    }
                    let taken = answer.and_then(|reading| {
                        if reading.index < newest {
                            self.decoder.forget();
                            outdated = true;
                        }
                        newest = reading.index;
                        self.take(&reading)
                    });
                    // The blocked query goes on: it is never aborted.
                    if let Err(error) = taken {
                        let pause = retry::jittered(PLAIN_READ_AFTER_ERROR, 0.5);
                        plain_at = Instant::now() + pause.max(error.retry_after().unwrap_or_default());
                        self.failed(error);
                    }
                }
                Ok(()) = self.replaced.changed(), if plain.is_none() => {
                    // A plain read uses the new token at once. The query with the old token ends by itself.
                    outdated = true;
                    plain = Some(self.start_plain_read());
                }
                Ok(()) = refresh_requested(&mut self.refresh, refresh_at), if plain.is_none() => {
                    requested = true;
                    plain = Some(self.start_plain_read());
                }
                () = sleep_until(plain_at), if plain.is_none() => plain = Some(self.start_plain_read()),
            }
        }
    }

    /// Starts a plain read during a blocked query. A working Consul answers it at once.
    fn start_plain_read(&mut self) -> Read {
        let now = self.clock.now();
        if self.mode == Mode::Split && now >= self.try_whole_at {
            self.try_whole_at = now + TRY_WHOLE_EVERY;
            return self.start_read_in(Mode::Whole, 0);
        }
        self.start_read(0)
    }

    /// Records that no request is pending.
    fn clear_pending(&self) {
        self.link.send_modify(|link| link.pending_since = None);
    }

    fn plain_read_ended(&mut self) {
        let now = self.clock.now();
        let sent = self.link.borrow().pending_since;
        let took = sent.map_or(Duration::ZERO, |sent| now.since(sent));
        self.refresh_not_before = now + REFRESH_EVERY.max(took * REFRESH_COST);
    }

    fn start_read(&mut self, index: u64) -> Read {
        self.start_read_in(self.mode, index)
    }

    fn start_read_in(&mut self, mode: Mode, index: u64) -> Read {
        // Not at the time of the error, so that this request uses a file that was fixed during the pause.
        if let Some(last_error) = self.last_error.take()
            && let Err(error) = self.client.refresh(&last_error)
        {
            warn!(error = %Chain(&error), "failed to read the token again");
        }
        let now = self.clock.now();
        self.link.send_if_modified(|link| {
            link.requests += 1;
            if index == 0 {
                link.pending_since = Some(now);
            }
            index == 0
        });
        let blocking = (index > 0).then_some(Blocking { index, wait: self.wait });
        Box::pin(reading::read(Arc::clone(&self.client), self.prefix.clone(), mode, blocking))
    }

    /// Decodes a reading, and publishes the state if it changed.
    fn take(&mut self, reading: &Reading) -> Result<(), ConsulError> {
        let read_at = self.clock.now();
        let state =
            self.decoder.decode_with(&reading.entries()?, &reading.oversized).map_err(ConsulError::BadResponse)?;
        self.index = reading.index;
        if self.mode == Mode::Split && reading.fits {
            // The next plain read tries one answer for the whole prefix.
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
                warn!(prefix = self.prefix, "the prefix has no key, or the token may not read any key below it");
            }
            if reading.filtered && !link.filtered {
                warn!(prefix = self.prefix, "the token may not read all keys below the prefix");
            }
            link.plain_read_sent = link.pending_since.take().or(link.plain_read_sent);
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
        // After an error the index is not reliable: the next read does not block.
        self.index = 0;
        let now = self.clock.now();
        let detail = Chain(&error).to_string();
        self.link.send_modify(|link| {
            *link.errors.entry(error.reason()).or_default() += 1;
            let since = link.held(now).map_or(now, |held| held.since);
            // The remedy can change with the same reason, for example from a wrong CA to an expired certificate.
            let same = |held: &Held| held.reason == error.reason() && held.remedy == error.remedy();
            if !link.failed.as_ref().is_some_and(same) {
                warn!(
                    reason = error.reason(),
                    error = detail,
                    hint = error.remedy(),
                    "Consul gives no usable answer; the accepted weights stay in force"
                );
            }
            link.pending_since = None;
            link.failed = Some(Held { reason: error.reason(), detail, remedy: error.remedy(), since });
        });
        self.last_error = Some(error);
        self.feed.send_if_modified(|feed| {
            let first = matches!(feed, Feed::Waiting);
            if first {
                *feed = Feed::Unavailable;
            }
            first
        });
    }
}

/// Returns when to send the next plain read. Jittered, so that the nodes of a fleet do not read at the same time.
fn next_plain() -> Instant {
    Instant::now() + retry::jittered(PLAIN_READ_EVERY, 0.125)
}

/// Logs each newly rejected key once.
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
        warn!(key = %Escaped(key), index, error = %reason, hint = reason.remedy(), "rejected; the accepted weights stay in force");
    }
    for (backend, fields) in &state.unknown_fields {
        if before.and_then(|b| b.unknown_fields.get(backend)) != Some(fields) && budget.spend() {
            let fields = fields.join(", ");
            info!(%backend, fields = %Escaped(&fields), "the document has fields that this version does not know");
        }
    }
}
