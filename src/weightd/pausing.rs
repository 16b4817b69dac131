//! Pauses that a person asks for on this node: without Consul, and over restarts of weightd.
//!
//! Owns what is asked of all instances at once, and what of it is on disk. Must never decide what a pause means: that is
//! [`crate::weightd::session`]'s.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::Mutex, task::spawn_blocking};
use tracing::{info, warn};
use weightd_core::{
    model::{BackendName, Escaped, nearest},
    pauses::{Ended, Pause, Scope},
    wire::pause::{MAX_PAUSE, MAX_TEXT, MIN_PAUSE, PauseAnswer, PauseRequest, ResumeAnswer, ResumeRequest},
};

use crate::{
    base::{chain::Chain, clock::Clock},
    weightd::{
        instance::Instance,
        metrics::Metrics,
        store::{PauseFile, StoreError, StoredPause},
    },
};

/// Why a request was not carried out, or not in full.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// An invalid value.
    #[error("{0}")]
    Invalid(String),
    /// No instance has that name.
    #[error("this weightd drives no HAProxy called `{}`", Escaped(.name))]
    NoSuchInstance {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// No instance knows that backend.
    #[error("this weightd knows no backend `{name}`{}", meant(.nearest.as_deref()))]
    NoSuchBackend {
        /// The name.
        name: BackendName,
        /// The one that was most likely meant.
        nearest: Option<String>,
    },
    /// One backend cannot be resumed while all of them are paused.
    #[error("all backends are paused, so `{0}` cannot be resumed alone")]
    AllPaused(BackendName),
    /// It was done, but is not on disk.
    #[error("{done}, but this could not be written to disk: a restart of weightd would forget it")]
    NotStored {
        /// What was done.
        done: &'static str,
        /// Why it was not written.
        #[source]
        source: StoreError,
    },
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

impl PauseError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Invalid(_) => "see `weightctl pause --help`".to_owned(),
            Self::NoSuchInstance { known, .. } => format!("it drives {known}"),
            Self::NoSuchBackend { .. } => {
                "see `weightctl status --local`; without a backend, all of them are meant".to_owned()
            }
            Self::AllPaused(_) => {
                "end the pause of all with `weightctl resume --local`, then pause single backends".to_owned()
            }
            Self::NotStored { .. } => "see whether the disk is full and whether weightd may write to `state_dir`, \
                                       and ask for it again"
                .to_owned(),
        }
    }
}

/// The pauses of a node.
#[derive(Debug)]
pub struct Pausing {
    instances: Vec<Arc<Instance>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// One request after another: what is written last is what holds.
    store: Mutex<PauseFile>,
}

impl Pausing {
    /// For these instances; `store` is where pauses outlive weightd.
    pub fn new(instances: Vec<Arc<Instance>>, clock: Clock, metrics: Arc<Metrics>, store: PauseFile) -> Self {
        Self { instances, clock, metrics, store: Mutex::new(store) }
    }

    /// Begins the pauses again that were in force when weightd ended, for the rest of their time.
    pub fn restore(&mut self) {
        let stored = self.store.get_mut().load().unwrap_or_else(|error| {
            warn!(error = %Chain(&error), "the pauses on disk are unusable; nothing is paused now");
            Vec::new()
        });
        let now = self.clock.now();
        for stored in stored {
            let left = left(&stored, Timestamp::now());
            let backend = stored.backend.as_ref().map_or("all", BackendName::as_str);
            let Some(instance) = self.instances.iter().find(|instance| instance.name == stored.instance) else {
                warn!(haproxy = stored.instance, backend, "a pause of a HAProxy that is no longer configured");
                continue;
            };
            if left.is_zero() {
                info!(haproxy = instance.name, backend, "a pause ended while weightd was not running");
                continue;
            }
            let StoredPause { reason, by, uid, .. } = stored;
            let pause = Pause { until: now + left, reason, by, uid };
            instance.lock().pause(&Scope::of(stored.backend.as_ref()), pause, now);
        }
    }

    /// Begins a pause. When this returns, no command is under way to HAProxy any more; the last stage was read back.
    ///
    /// # Errors
    /// [`PauseError`]; with [`PauseError::NotStored`] the pause is in force all the same.
    pub async fn pause(&self, request: PauseRequest, uid: Option<u32>) -> Result<PauseAnswer, PauseError> {
        let PauseRequest { backend, instance, for_seconds, reason, by } = request;
        if !(MIN_PAUSE..=MAX_PAUSE).contains(&for_seconds) {
            let what = format!("a pause lasts from {MIN_PAUSE} s to {MAX_PAUSE} s (one week)");
            return Err(PauseError::Invalid(what));
        }
        plain("reason", reason.as_deref())?;
        plain("by", by.as_deref())?;
        let instances = self.instances(instance.as_deref())?;
        if let Some(backend) = &backend {
            known(backend, &instances)?;
        }
        let store = self.store.lock().await;
        let now = self.clock.now();
        let pause = Pause { until: now + Duration::from_secs(for_seconds), reason, by, uid };
        for instance in &instances {
            instance.lock().pause(&Scope::of(backend.as_ref()), pause.clone(), now);
            instance.wake.notify_one();
        }
        let stored = self.save(&store, "it is paused").await;
        for instance in &instances {
            drop(instance.exchange.lock().await);
        }
        stored.map(|()| PauseAnswer { instances: names(&instances), backend, for_seconds })
    }

    /// Ends a pause at once.
    ///
    /// # Errors
    /// [`PauseError`]; with [`PauseError::NotStored`] the pause has ended all the same.
    pub async fn resume(&self, request: ResumeRequest, uid: Option<u32>) -> Result<ResumeAnswer, PauseError> {
        let ResumeRequest { backend, instance, by } = request;
        plain("by", by.as_deref())?;
        let instances = self.instances(instance.as_deref())?;
        let scope = Scope::of(backend.as_ref());
        let store = self.store.lock().await;
        if let Some(backend) = &backend {
            if instances.iter().any(|instance| instance.lock().pauses.all().is_some()) {
                return Err(PauseError::AllPaused(backend.clone()));
            }
            if !instances.iter().any(|instance| instance.lock().pauses.of(backend).is_some()) {
                known(backend, &instances)?;
            }
        }
        let ended = Ended::Lifted { by, uid };
        let mut lifted = 0;
        for instance in &instances {
            lifted += instance.lock().resume(&scope, &ended);
            instance.wake.notify_one();
        }
        self.save(&store, "it is resumed").await?;
        Ok(ResumeAnswer { instances: names(&instances), backend, lifted })
    }

    fn instances(&self, name: Option<&str>) -> Result<Vec<Arc<Instance>>, PauseError> {
        let found: Vec<_> =
            self.instances.iter().filter(|instance| name.is_none_or(|name| instance.name == name)).cloned().collect();
        match name {
            Some(name) if found.is_empty() => {
                Err(PauseError::NoSuchInstance { name: name.to_owned(), known: names(&self.instances).join(", ") })
            }
            _ => Ok(found),
        }
    }

    async fn save(&self, store: &PauseFile, done: &'static str) -> Result<(), PauseError> {
        let (now, wall) = (self.clock.now(), Timestamp::now());
        let mut stored = Vec::new();
        for instance in &self.instances {
            for (scope, pause) in instance.lock().pauses.iter() {
                let left = pause.until.since(now);
                stored.push(StoredPause {
                    instance: instance.name.clone(),
                    backend: scope.backend().cloned(),
                    // A second too long is better than one too short.
                    until: until(wall, left),
                    left_seconds: whole_seconds(left),
                    reason: pause.reason.clone(),
                    by: pause.by.clone(),
                    uid: pause.uid,
                });
            }
        }
        let saving = store.clone();
        let saved = spawn_blocking(move || saving.save(&stored)).await;
        saved.unwrap_or_else(|panic| Err(store.interrupted(&panic))).map_err(|source| {
            warn!(error = %Chain(&source), "the pauses cannot be written to disk; a restart of weightd would forget this");
            for instance in &self.instances {
                self.metrics.persist_failed(&instance.name);
            }
            PauseError::NotStored { done, source }
        })
    }
}

/// The first whole second of wall-clock time at which a pause is over.
fn until(wall: Timestamp, left: Duration) -> i64 {
    let since_second = Duration::from_millis(u64::try_from(wall.subsec_millisecond()).unwrap_or(0));
    wall.as_second().saturating_add_unsigned(whole_seconds(since_second + left))
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The rest of a pause. A wall clock that was set back cannot make it longer than it was.
fn left(stored: &StoredPause, wall: Timestamp) -> Duration {
    let end = Timestamp::from_second(stored.until).unwrap_or(Timestamp::MAX);
    let left = Duration::try_from(end.duration_since(wall)).unwrap_or(Duration::ZERO);
    left.min(Duration::from_secs(stored.left_seconds.min(MAX_PAUSE)))
}

fn names(instances: &[Arc<Instance>]) -> Vec<String> {
    instances.iter().map(|instance| instance.name.clone()).collect()
}

/// A typing error in a name must not look like a backend that is paused.
fn known(backend: &BackendName, instances: &[Arc<Instance>]) -> Result<(), PauseError> {
    let mut all = Vec::new();
    for instance in instances {
        let inner = instance.lock();
        if inner.backends.contains_key(backend) {
            return Ok(());
        }
        all.extend(inner.backends.keys().cloned());
    }
    let nearest = nearest(backend.as_str(), all.iter().map(BackendName::as_str)).map(str::to_owned);
    Err(PauseError::NoSuchBackend { name: backend.clone(), nearest })
}

/// Rejects text that is too long or that acts on a terminal.
fn plain(what: impl fmt::Display, text: Option<&str>) -> Result<(), PauseError> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > MAX_TEXT {
        return Err(PauseError::Invalid(format!("`{what}` is longer than {MAX_TEXT} characters")));
    }
    if text.contains(char::is_control) {
        return Err(PauseError::Invalid(format!("`{what}` contains a control character")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_makes_no_pause_longer() {
        let stored = |left_seconds| StoredPause {
            instance: "edge".into(),
            backend: None,
            until: 1_000,
            left_seconds,
            reason: None,
            by: None,
            uid: None,
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        for (wall, seconds) in [(990, 10), (1_000, 0), (2_000, 0), (900, 60), (-1_000_000, 60)] {
            assert_eq!(left(&stored(60), at(wall)), Duration::from_secs(seconds), "{wall}");
        }
        assert_eq!(left(&stored(u64::MAX), at(-1_000_000)), Duration::from_secs(MAX_PAUSE));
    }

    #[test]
    fn a_restart_makes_no_pause_shorter_and_none_longer_by_more_than_a_second() {
        for (began, restarted) in [(6_000, 7_140), (6_985, 7_140), (6_001, 6_002), (6_999, 8_001), (6_500, 9_400)] {
            let at = |millis| Timestamp::from_millisecond(millis).unwrap();
            let stored = StoredPause {
                instance: "edge".into(),
                backend: None,
                until: until(at(began), Duration::from_secs(3)),
                left_seconds: 3,
                reason: None,
                by: None,
                uid: None,
            };
            let end = at(restarted) + left(&stored, at(restarted));
            assert!((at(began + 3_000)..at(began + 4_000)).contains(&end), "{began} {restarted}: {end}");
        }
    }

    #[test]
    fn text_that_could_act_or_fill_the_log_is_refused() {
        assert!(plain("reason", None).is_ok() && plain("reason", Some("größer als zuvor")).is_ok());
        for bad in ["a\nb", "\u{1b}[31m", &"x".repeat(MAX_TEXT + 1)] {
            assert!(plain("reason", Some(bad)).is_err(), "{bad:?}");
        }
    }
}
