//! Which observations Consul has: the keys below `observe/`.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::debug;
use weightd_core::{fleet::Keys, model::Root};

use crate::{
    base::{chain::Chain, clock::Clock, retry::Backoff},
    consul::{
        Client, ConsulError,
        client::{Blocking, Listing},
        pace::{self, Pace},
    },
};

/// Between two readings while `observe/_` does not exist: an absent prefix wakes a blocking query on every write of the
/// datacenter.
const ABSENT_EVERY: Duration = Duration::from_secs(5);
/// Between two checks of the right to read, while there is nothing to read: an empty answer may be a denial.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// The longest wait of a blocking query. A restored snapshot is noticed within it.
const WAIT: Duration = Duration::from_secs(55);
/// The pauses after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// The most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// An observation as Consul has it: the key, its `ModifyIndex`, its value.
pub(super) type Entry = (String, u64, Vec<u8>);

/// What Consul has.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    /// The keys below `observe/`; none before the first answer.
    pub(super) entries: Option<Arc<Vec<Entry>>>,
    /// Whether Consul denies them to the token.
    pub(super) denied: bool,
}

/// Follows the observations until the future is dropped.
pub(super) async fn follow(client: Arc<Client>, root: Root, clock: Clock, feed: watch::Sender<Feed>) {
    let prefix = Keys(&root).observes();
    let marker = Keys(&root).observe_marker();
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut pace = Pace::default();
    let mut replaced = client.replacements();
    let mut index = 0;
    let mut checked: Option<Instant> = None;
    loop {
        let pause = pace.take(pace::FASTEST * 10, clock.now());
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let sent = Instant::now();
        let read = if index == 0 {
            client.list_at_most(&prefix, MAX_ANSWER).await
        } else {
            client.list(&prefix, Some(Blocking { index, wait: WAIT })).await
        };
        let read = match read {
            Ok(listing) => {
                let check = feed.borrow().denied || checked.is_none_or(|at| at.elapsed() >= CHECK_EVERY);
                if check {
                    checked = Some(sent);
                }
                take(&client, &marker, &listing, check, &feed).await.map(|present| (listing.index, present))
            }
            Err(error) => Err(error),
        };
        match read {
            Ok((read_index, true)) => {
                backoff.reset();
                // After an index that went backwards, only a read without one shows what is there now.
                index = if read_index < index { 0 } else { read_index };
            }
            Ok((_, false)) => {
                backoff.reset();
                index = 0;
                tokio::select! {
                    () = sleep(ABSENT_EVERY.saturating_sub(sent.elapsed())) => {}
                    Ok(()) = replaced.changed() => {}
                }
            }
            Err(error) => {
                (index, checked) = (0, None);
                let denied = matches!(error, ConsulError::Denied(_));
                feed.send_if_modified(|feed| std::mem::replace(&mut feed.denied, denied) != denied);
                debug!(error = %Chain(&error), "the observations cannot be read");
                let pause = backoff.next().max(error.retry_after().unwrap_or_default());
                // A token that was replaced on disk is read again. If that fails, the next request says so.
                if let Err(error) = client.refresh(&error) {
                    debug!(error = %Chain(&error), "failed to read the token again");
                }
                tokio::select! {
                    () = sleep(if denied { pause.max(ABSENT_EVERY) } else { pause }) => {}
                    Ok(()) = replaced.changed() => {}
                }
            }
        }
    }
}

/// Takes an answer. Returns whether the marker is there, so that the next query may block.
async fn take(
    client: &Client,
    marker: &str,
    listing: &Listing,
    check: bool,
    feed: &watch::Sender<Feed>,
) -> Result<bool, ConsulError> {
    let mut entries = Vec::new();
    for entry in listing.entries()? {
        entries.push((entry.key.to_string(), entry.modify_index, entry.bytes().map_err(ConsulError::BadResponse)?));
    }
    let present = entries.iter().any(|(key, ..)| key == marker);
    if !present && check {
        client.may_read(marker).await?;
    }
    feed.send_if_modified(|feed| {
        let changed = feed.denied || feed.entries.as_ref().is_none_or(|before| **before != entries);
        if changed {
            *feed = Feed { entries: Some(Arc::new(entries)), denied: false };
        }
        changed
    });
    Ok(present)
}
