//! Follows all keys below a prefix with a blocking query, as raw values.
//!
//! Publishes what was read last. A failed read publishes no keys and takes none away: it only says since when Consul does
//! not answer. The meaning of the keys is the reader's. Documents have a watch of their own, [`super::watch`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    client::{Blocking, Client, ConsulError},
    pace::{self, Pace},
};
use crate::base::{chain::Chain, clock::Clock, retry::Backoff};

/// Shortest and longest pause after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The longest wait of a query. A restored snapshot is noticed at its end: a blocked query misses it.
const WAIT: Duration = Duration::from_secs(10);

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its `ModifyIndex`.
    pub index: u64,
    /// Its value.
    pub bytes: Arc<[u8]>,
}

/// The keys below a prefix, from one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// `X-Consul-Index` of the answer.
    pub index: u64,
    /// By the part of the key after the prefix.
    pub values: BTreeMap<String, Value>,
    /// Whether Consul hid keys from the token.
    pub filtered: bool,
}

/// What is known of a prefix.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// The last answer; none before the first one.
    pub keys: Option<Arc<Keys>>,
    /// When the last answer was complete.
    pub read_at: Option<Instant>,
    /// Since when reads fail, and why; none while they succeed.
    pub failed: Option<(Instant, String)>,
}

/// The reader's side.
#[derive(Debug, Clone)]
pub struct Follower {
    client: Arc<Client>,
    prefix: Arc<str>,
    sender: Arc<watch::Sender<Followed>>,
}

impl Follower {
    /// Follows `prefix`, which ends in a slash or is a whole key, once [`Follower::run`] runs.
    pub fn new(client: Arc<Client>, prefix: String) -> Self {
        Self { client, prefix: prefix.into(), sender: Arc::new(watch::Sender::default()) }
    }

    /// What is known now, and each change of it.
    pub fn subscribe(&self) -> watch::Receiver<Followed> {
        self.sender.subscribe()
    }

    /// Reads the prefix now and publishes it, unless a newer answer was published meanwhile.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn refresh(&self) -> Result<(), ConsulError> {
        let keys = self.read(None).await?;
        self.publish(keys, false);
        Ok(())
    }

    /// Follows the prefix until the future is dropped. `every` is the interval between two reads after a burst of five.
    pub async fn run(self, every: Duration, clock: Clock) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut pace = Pace::default();
        let mut replaced = self.client.replacements();
        let mut index = 0;
        loop {
            let empty = self.sender.borrow().keys.as_ref().is_some_and(|keys| keys.values.is_empty());
            let pause = pace.take(if empty { every.max(pace::SLOWEST) } else { every }, clock.now());
            if !pause.is_zero() {
                sleep(pause).await;
            }
            // Consul takes an index of 0 for no blocking query.
            let blocking = (index > 0).then_some(Blocking { index, wait: WAIT });
            match self.read(blocking).await {
                Ok(keys) => {
                    backoff.reset();
                    // An index that goes backwards starts anew, as Consul says.
                    let went_back = keys.index < index;
                    index = if went_back { 0 } else { keys.index.max(1) };
                    self.publish(keys, went_back);
                }
                Err(error) => {
                    index = 0;
                    let pause = backoff.next().max(error.retry_after().unwrap_or_default());
                    self.failed(&error);
                    tokio::select! {
                        () = sleep(pause) => {}
                        Ok(()) = replaced.changed() => {}
                    }
                }
            }
        }
    }

    async fn read(&self, blocking: Option<Blocking>) -> Result<Keys, ConsulError> {
        let listing = self.client.list(&self.prefix, blocking).await?;
        let entries = listing.entries()?;
        if entries.is_empty() && blocking.is_none() {
            // A listing omits keys that the token may not read. Only a read of the key itself reports the denial.
            self.client.may_read(&self.prefix).await?;
        }
        let mut values = BTreeMap::new();
        for entry in &entries {
            let Some(tail) = entry.key.strip_prefix(&*self.prefix) else { continue };
            let bytes = entry.bytes().map_err(ConsulError::BadResponse)?.into();
            values.insert(tail.to_owned(), Value { index: entry.modify_index, bytes });
        }
        Ok(Keys { index: listing.index, values, filtered: listing.filtered })
    }

    /// Publishes an answer. Of two reads at the same time the one with the greater index is newer.
    fn publish(&self, keys: Keys, went_back: bool) {
        self.sender.send_if_modified(|followed| {
            let now = Instant::now();
            let failed = followed.failed.take().is_some();
            followed.read_at = Some(now);
            let known = followed.keys.as_deref();
            if !went_back && known.is_some_and(|known| known.index > keys.index) {
                return failed;
            }
            let same = known.is_some_and(|known| known.values == keys.values && known.filtered == keys.filtered);
            if same && let Some(known) = &mut followed.keys {
                // Only the index moved: nobody needs to look.
                Arc::make_mut(known).index = keys.index;
                return failed;
            }
            followed.keys = Some(Arc::new(keys));
            true
        });
    }

    fn failed(&self, error: &ConsulError) {
        // The next request must not repeat what made this one fail.
        if let Err(error) = self.client.refresh(error) {
            tracing::debug!(error = %Chain(&error), "the token cannot be read again");
        }
        let mut why = Chain(error).to_string();
        if matches!(error, ConsulError::Denied(_)) {
            why = format!("{why}; the token needs: key_prefix \"{}\" {{ policy = \"read\" }}", self.prefix);
        }
        self.sender.send_if_modified(|followed| match &followed.failed {
            Some((_, known)) if *known == why => false,
            known => {
                let since = known.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                followed.failed = Some((since, why));
                true
            }
        });
    }
}

impl Followed {
    /// The value of a key; none if there is none, or nothing was read yet.
    pub fn get(&self, tail: &str) -> Option<&Value> {
        self.keys.as_ref()?.values.get(tail)
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.keys.iter().flat_map(|keys| &keys.values)
    }

    /// The keys that begin with `prefix`.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let values = self.keys.iter().flat_map(move |keys| keys.values.range(prefix.to_owned()..));
        values.take_while(move |(tail, _)| tail.starts_with(prefix))
    }
}
