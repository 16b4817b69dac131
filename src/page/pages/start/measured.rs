//! The traffic of applications, measured once in ten minutes for the preview of plans.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use weightd_core::model::BackendName;

use crate::documents::gather::Gathered;

/// For how long the traffic is today's.
const MEASURED: Duration = Duration::from_secs(600);
/// For how long the servers that the nodes report are those of now.
const SERVERS: Duration = Duration::from_secs(20);
/// The most applications whose traffic is known.
const MAX_MEASURED: usize = 500;

/// The traffic of applications that somebody wanted to start a rollout of.
#[derive(Debug, Default)]
pub struct Measured {
    known: Mutex<HashMap<BackendName, Measurement>>,
}

/// When it began or ended, and what it found; none while it runs.
type Measurement = (Instant, Option<Arc<Gathered>>);

impl Measured {
    /// What was measured; none before the first measurement has ended.
    pub(super) fn of(&self, backend: &BackendName) -> Option<Arc<Gathered>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(backend).filter(|(at, _)| at.elapsed() < MEASURED).and_then(|(_, gathered)| gathered.clone())
    }

    /// Whether it must be measured. Then nobody else does it.
    pub(super) fn begin(&self, backend: &BackendName) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(backend).is_some_and(|(at, gathered)| {
            let limit = if gathered.is_some() { MEASURED } else { Duration::from_secs(30) };
            at.elapsed() < limit
        }) {
            return false;
        }
        if known.len() >= MAX_MEASURED {
            known.clear();
        }
        known.insert(backend.clone(), (Instant::now(), None));
        true
    }

    pub(super) fn end(&self, backend: &BackendName, gathered: Gathered) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(backend.clone(), (Instant::now(), Some(Arc::new(gathered))));
    }

    /// What was measured a moment ago; none if it is older.
    pub(super) fn fresh(&self, backend: &BackendName) -> Option<Arc<Gathered>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(backend).filter(|(at, _)| at.elapsed() < SERVERS).and_then(|(_, gathered)| gathered.clone())
    }
}
