//! One reading of the prefix: in one answer, or each backend separately if one answer is too large.
//!
//! A team with write permission for its own leaves can make the answer for the whole prefix larger than the limit. Then
//! the reading lists the names of the backends and reads each backend separately. Only a backend that is too large
//! itself is rejected.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;
use weightd_core::desired::{BadResponse, Entry};

use crate::consul::{
    client::{Blocking, Client, Listing},
    client::{ConsulError, MAX_RESPONSE},
};

/// Maximum size of Consul's answer for one backend, in bytes. 4,096 leaves take about 1 MB.
const MAX_BACKEND: usize = 2 * 1024 * 1024;
/// Below this total size in bytes, all backends are read in one answer again.
const WHOLE_AGAIN: usize = MAX_RESPONSE * 3 / 4;

/// The way to read the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// All keys in one answer.
    #[default]
    Whole,
    /// The names in one answer, then one answer per backend.
    Split,
}

/// The result of one reading.
#[derive(Debug)]
pub(super) struct Reading {
    /// `X-Consul-Index` of the first answer, which may have blocked.
    pub(super) index: u64,
    /// Whether ACLs hid keys.
    pub(super) filtered: bool,
    /// When the headers of the first answer arrived.
    pub(super) received: Instant,
    /// The bodies of the answers with keys.
    bodies: Vec<Listing>,
    /// The backends with keys that are too large.
    pub(super) oversized: BTreeSet<String>,
    /// Whether all keys fit into one answer.
    pub(super) fits: bool,
    /// Whether the reading was one answer.
    pub(super) whole: bool,
}

impl Reading {
    /// Returns the keys of all answers.
    ///
    /// # Errors
    /// [`ConsulError::Json`].
    pub(super) fn entries(&self) -> Result<Vec<Entry<'_>>, ConsulError> {
        let mut all = Vec::new();
        for body in &self.bodies {
            all.append(&mut body.entries()?);
        }
        Ok(all)
    }
}

/// Reads the keys below `prefix`. With `blocking`, Consul answers after a change or when the wait is over.
///
/// # Errors
/// [`ConsulError`]; [`ConsulError::TooLarge`] means that [`Mode::Split`] is needed.
pub(super) async fn read(
    client: Arc<Client>,
    prefix: String,
    mode: Mode,
    blocking: Option<Blocking>,
) -> Result<Reading, ConsulError> {
    match mode {
        Mode::Whole => {
            let listing = client.list(&prefix, blocking).await?;
            let Listing { index, filtered, received, .. } = listing;
            Ok(Reading {
                index,
                filtered,
                received,
                bodies: vec![listing],
                oversized: BTreeSet::new(),
                fits: true,
                whole: true,
            })
        }
        Mode::Split => read_split(&client, &prefix, blocking).await,
    }
}

async fn read_split(client: &Client, prefix: &str, blocking: Option<Blocking>) -> Result<Reading, ConsulError> {
    // This query wakes for every change below the prefix, and its index covers the whole prefix.
    let names = client.children(prefix, blocking).await?;
    let mut reading = Reading {
        index: names.index,
        filtered: names.filtered,
        received: names.received,
        bodies: Vec::new(),
        oversized: BTreeSet::new(),
        fits: false,
        whole: false,
    };
    let mut bytes = 0;
    for key in names.keys()? {
        let Some(name) = key.strip_prefix(prefix) else {
            return Err(ConsulError::BadResponse(BadResponse::OutsidePrefix(key)));
        };
        let read = match name.strip_suffix('/') {
            // `<backend>/`: leaves.
            Some(_) => client.list_at_most(&key, MAX_BACKEND).await,
            // `<backend>`: a document.
            None => client.get_at_most(&key, MAX_BACKEND).await,
        };
        match read {
            Ok(listing) => {
                bytes += listing.bytes();
                reading.bodies.push(listing);
            }
            Err(ConsulError::TooLarge(_)) => {
                reading.oversized.insert(name.trim_end_matches('/').to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    reading.fits = reading.oversized.is_empty() && bytes < WHOLE_AGAIN;
    Ok(reading)
}
