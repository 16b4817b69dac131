//! The traffic of applications, measured once in ten minutes: for the preview of plans, and for a start.

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
    known: Mutex<HashMap<BackendName, Slot>>,
}

/// The last measurement of one application; locked while the next one runs.
type Slot = Arc<tokio::sync::Mutex<Option<Measurement>>>;

#[derive(Debug, Clone)]
struct Measurement {
    ended: Instant,
    /// The id of the person who measured.
    by: String,
    gathered: Arc<Gathered>,
}

impl Measurement {
    /// Whether nobody has to measure again. What one token could not read says nothing to the person with another one.
    fn serves_all(&self) -> bool {
        let age = self.ended.elapsed();
        age < MEASURED && self.gathered.sample.is_some() || age < SERVERS && self.gathered.problem.is_none()
    }
}

impl Measured {
    /// What the last measurement found, and whether the person with the id `person` measured; none before the first one has
    /// ended, and while the next one runs.
    pub(super) fn of(&self, backend: &BackendName, person: &str) -> Option<(Arc<Gathered>, bool)> {
        let last = self.last(backend)?;
        (last.ended.elapsed() < MEASURED).then(|| (last.gathered, last.by == person))
    }

    /// Whether [`Self::today`] would measure, and nobody does.
    pub(super) fn is_wanted(&self, backend: &BackendName) -> bool {
        self.slot(backend).try_lock().is_ok_and(|last| last.as_ref().is_none_or(|last| !last.serves_all()))
    }

    /// The traffic of today: what is known already, or else what `measure` finds with the token of the person with the id
    /// `by`. An application is measured once at a time.
    pub(super) async fn today(
        &self,
        backend: &BackendName,
        by: &str,
        measure: impl Future<Output = Gathered> + Send,
    ) -> Arc<Gathered> {
        let slot = self.slot(backend);
        let mut last = slot.lock().await;
        if let Some(known) = last.as_ref().filter(|last| last.serves_all()) {
            return Arc::clone(&known.gathered);
        }
        let gathered = Arc::new(measure.await);
        *last = Some(Measurement { ended: Instant::now(), by: by.to_owned(), gathered: Arc::clone(&gathered) });
        gathered
    }

    /// The servers that the nodes reported a moment ago; none if that is older, or if not everything could be read.
    pub(super) fn fresh(&self, backend: &BackendName) -> Option<Arc<Gathered>> {
        let last = self.last(backend)?;
        (last.ended.elapsed() < SERVERS && last.gathered.problem.is_none()).then_some(last.gathered)
    }

    fn last(&self, backend: &BackendName) -> Option<Measurement> {
        self.slot(backend).try_lock().ok()?.clone()
    }

    fn slot(&self, backend: &BackendName) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_MEASURED && !known.contains_key(backend) {
            known.clear();
        }
        Arc::clone(known.entry(backend.clone()).or_default())
    }
}

#[cfg(test)]
mod tests;
