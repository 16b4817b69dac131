//! One reading of the prefix: as one answer, or each backend on its own where that would be too large.
//!
//! A team that may write its own leaves could make the answer for the whole prefix larger than a node takes. Then the names
//! of the backends are listed, and each of them is read on its own. One that is too large itself is rejected; all others
//! are followed as before.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;
use weightd_core::desired::{BadResponse, Entry};

use crate::consul::{
    client::{Blocking, Client, Listing},
    client::{ConsulError, MAX_RESPONSE},
};

/// The most bytes of one backend's keys, as Consul answers them: 4,096 leaves have about 1 MB.
const MAX_BACKEND: usize = 2 * 1024 * 1024;
/// If all backends together have fewer bytes than this, they are read as one answer again.
const WHOLE_AGAIN: usize = MAX_RESPONSE * 3 / 4;

/// How the prefix is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// All keys in one answer.
    #[default]
    Whole,
    /// The names in one answer, then each backend.
    Split,
}

/// What a reading brought.
#[derive(Debug)]
pub(super) struct Reading {
    /// `X-Consul-Index` of the answer that was waited for.
    pub(super) index: u64,
    /// Whether ACLs hid keys.
    pub(super) filtered: bool,
    /// When the first answer began to arrive.
    pub(super) received: Instant,
    /// The bodies of the answers with keys.
    bodies: Vec<Listing>,
    /// The backends whose keys are too large.
    pub(super) oversized: BTreeSet<String>,
    /// Whether all keys fit one answer.
    pub(super) fits: bool,
    /// Whether it was one answer.
    pub(super) whole: bool,
}

impl Reading {
    /// The keys of all answers.
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

/// Reads the keys below `prefix`; with `blocking`, once something below it changed or its time is over.
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
    // Its index is that of the whole prefix, and it wakes for every change below it.
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
