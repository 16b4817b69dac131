//! Local pauses and overrides: an operator starts them on this node, without Consul. They survive restarts of weightd.
//!
//! This module applies a pause to all instances and stores it on disk. The effect of a pause is defined in
//! [`crate::weightd::session`].

mod overriding;

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
pub use overriding::RefusedOverride;
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

/// The error of a pause or resume request.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// A value in the request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// No instance has this name.
    #[error("this weightd has no HAProxy instance `{}`", Escaped(.name))]
    NoSuchInstance {
        /// The name in the request.
        name: String,
        /// The names of all instances, as a list.
        known: String,
    },
    /// No instance knows this backend.
    #[error("this weightd does not know backend `{name}`{}", suggestion(.nearest.as_deref()))]
    NoSuchBackend {
        /// The name in the request.
        name: BackendName,
        /// The most similar known name.
        nearest: Option<String>,
    },
    /// One backend cannot be resumed while all backends are paused.
    #[error("cannot resume only `{0}`, because all backends are paused")]
    AllPaused(BackendName),
    /// An override is refused.
    #[error(transparent)]
    Override(#[from] RefusedOverride),
    /// The change is in force, but it is not on disk.
    #[error("{done}, but weightd cannot write this to disk; a restart of weightd would lose it")]
    NotStored {
        /// The change, as a clause.
        done: &'static str,
        /// The error of the write.
        #[source]
        source: StoreError,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

impl PauseError {
    /// Returns how to fix the error.
    pub fn hint(&self) -> String {
        match self {
            Self::Invalid(_) => "run `weightctl pause --help` to see the valid values".to_owned(),
            Self::NoSuchInstance { known, .. } => format!("use one of these instances: {known}"),
            Self::NoSuchBackend { .. } => {
                "run `weightctl status --local` to list the backends, or omit the backend to select all".to_owned()
            }
            Self::AllPaused(_) => {
                "run `weightctl resume` to resume all backends, then pause single backends".to_owned()
            }
            Self::Override(refused) => refused.hint(),
            Self::NotStored { .. } => "check that the disk is not full and that weightd can write to `state_dir`, \
                                       then run the command again"
                .to_owned(),
        }
    }
}

/// The local pauses of all instances of a node.
#[derive(Debug)]
pub struct Pausing {
    instances: Vec<Arc<Instance>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Serializes the requests, so that the file contains the latest pauses.
    store: Mutex<PauseFile>,
}

impl Pausing {
    /// Creates it for these instances. `store` is the file of the pauses.
    pub fn new(instances: Vec<Arc<Instance>>, clock: Clock, metrics: Arc<Metrics>, store: PauseFile) -> Self {
        Self { instances, clock, metrics, store: Mutex::new(store) }
    }

    /// Restores the pauses from disk, each for the rest of its time.
    pub fn restore(&mut self) {
        let stored = self.store.get_mut().load().unwrap_or_else(|error| {
            warn!(error = %Chain(&error), "cannot use the pauses on disk; nothing is paused now");
            Vec::new()
        });
        let now = self.clock.now();
        for instance in &self.instances {
            instance.lock().restore_overrides(Timestamp::now().as_second(), now);
        }
        for stored in stored {
            let remaining = remaining(&stored, Timestamp::now());
            let backend = stored.backend.as_ref().map_or("all", BackendName::as_str);
            let Some(instance) = self.instances.iter().find(|instance| instance.name == stored.instance) else {
                warn!(
                    haproxy = stored.instance,
                    backend, "ignored a stored pause: its HAProxy is no longer configured"
                );
                continue;
            };
            if remaining.is_zero() {
                info!(haproxy = instance.name, backend, "a stored pause expired while weightd was not running");
                continue;
            }
            let StoredPause { reason, by, uid, .. } = stored;
            let pause = Pause { until: now + remaining, reason, by, uid };
            instance.lock().pause(&Scope::of(stored.backend.as_ref()), pause, now);
        }
    }

    /// Starts a pause. It returns after the read-back of the last line, so that no command to HAProxy is in progress
    /// any more.
    ///
    /// # Errors
    /// [`PauseError`]. With [`PauseError::NotStored`], the pause is in force.
    pub async fn pause(&self, request: PauseRequest, uid: Option<u32>) -> Result<PauseAnswer, PauseError> {
        let PauseRequest { backend, instance, for_seconds, reason, by } = request;
        if !(MIN_PAUSE..=MAX_PAUSE).contains(&for_seconds) {
            let what = format!("a pause must last from {MIN_PAUSE} s to {MAX_PAUSE} s (one week)");
            return Err(PauseError::Invalid(what));
        }
        check_text("reason", reason.as_deref())?;
        check_text("by", by.as_deref())?;
        let instances = self.instances(instance.as_deref())?;
        if let Some(backend) = &backend {
            check_backend(backend, &instances)?;
        }
        let store = self.store.lock().await;
        let now = self.clock.now();
        let pause = Pause { until: now + Duration::from_secs(for_seconds), reason, by, uid };
        for instance in &instances {
            instance.lock().pause(&Scope::of(backend.as_ref()), pause.clone(), now);
            instance.wake.notify_one();
        }
        let stored = self.save(&store, "the pause is in force").await;
        for instance in &instances {
            drop(instance.exchange.lock().await);
        }
        stored.map(|()| PauseAnswer { instances: names(&instances), backend, for_seconds })
    }

    /// Ends a pause at once.
    ///
    /// # Errors
    /// [`PauseError`]. With [`PauseError::NotStored`], the pause has ended.
    pub async fn resume(&self, request: ResumeRequest, uid: Option<u32>) -> Result<ResumeAnswer, PauseError> {
        let ResumeRequest { backend, instance, by } = request;
        check_text("by", by.as_deref())?;
        let instances = self.instances(instance.as_deref())?;
        let scope = Scope::of(backend.as_ref());
        let store = self.store.lock().await;
        if let Some(backend) = &backend {
            if instances.iter().any(|instance| instance.lock().pauses.all().is_some()) {
                return Err(PauseError::AllPaused(backend.clone()));
            }
            let has = |instance: &Arc<Instance>| {
                let session = instance.lock();
                let overridden = session.backends.get(backend).is_some_and(|backend| backend.overridden().is_some());
                overridden || session.pauses.of(backend).is_some()
            };
            if !instances.iter().any(has) {
                check_backend(backend, &instances)?;
            }
        }
        let ended = Ended::Lifted { by, uid };
        let mut lifted = 0;
        for instance in &instances {
            lifted += instance.lock().resume(&scope, &ended);
            instance.wake.notify_one();
        }
        self.save(&store, "the pause has ended").await?;
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
                let remaining = pause.until.since(now);
                stored.push(StoredPause {
                    instance: instance.name.clone(),
                    backend: scope.backend().cloned(),
                    // Rounded up: an early end would be worse than a late one.
                    until: end_second(wall, remaining),
                    left_seconds: whole_seconds(remaining),
                    reason: pause.reason.clone(),
                    by: pause.by.clone(),
                    uid: pause.uid,
                });
            }
        }
        let saving = store.clone();
        let saved = spawn_blocking(move || saving.save(&stored)).await;
        saved.unwrap_or_else(|panic| Err(store.interrupted(&panic))).map_err(|source| {
            warn!(error = %Chain(&source), "cannot write the pauses to disk; a restart of weightd would lose this change");
            for instance in &self.instances {
                self.metrics.persist_failed(&instance.name);
            }
            PauseError::NotStored { done, source }
        })
    }
}

/// Returns the first full second of wall-clock time at which a pause is over, in seconds since 1970.
fn end_second(wall: Timestamp, remaining: Duration) -> i64 {
    let since_second = Duration::from_millis(u64::try_from(wall.subsec_millisecond()).unwrap_or(0));
    wall.as_second().saturating_add_unsigned(whole_seconds(since_second + remaining))
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Returns the remaining time of a stored pause. A wall clock that was set back cannot make it longer.
fn remaining(stored: &StoredPause, wall: Timestamp) -> Duration {
    let end = Timestamp::from_second(stored.until).unwrap_or(Timestamp::MAX);
    let remaining = Duration::try_from(end.duration_since(wall)).unwrap_or(Duration::ZERO);
    remaining.min(Duration::from_secs(stored.left_seconds.min(MAX_PAUSE)))
}

fn names(instances: &[Arc<Instance>]) -> Vec<String> {
    instances.iter().map(|instance| instance.name.clone()).collect()
}

/// Rejects an unknown backend, so that a typing error does not look like a paused backend.
fn check_backend(backend: &BackendName, instances: &[Arc<Instance>]) -> Result<(), PauseError> {
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

/// Rejects text that is too long or that contains control characters, which can act on a terminal.
fn check_text(what: impl fmt::Display, text: Option<&str>) -> Result<(), PauseError> {
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
    fn a_jump_of_the_wall_clock_does_not_make_a_pause_longer() {
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
            assert_eq!(remaining(&stored(60), at(wall)), Duration::from_secs(seconds), "{wall}");
        }
        assert_eq!(remaining(&stored(u64::MAX), at(-1_000_000)), Duration::from_secs(MAX_PAUSE));
    }

    #[test]
    fn a_restart_never_shortens_a_pause_and_extends_it_by_at_most_one_second() {
        for (began, restarted) in [(6_000, 7_140), (6_985, 7_140), (6_001, 6_002), (6_999, 8_001), (6_500, 9_400)] {
            let at = |millis| Timestamp::from_millisecond(millis).unwrap();
            let stored = StoredPause {
                instance: "edge".into(),
                backend: None,
                until: end_second(at(began), Duration::from_secs(3)),
                left_seconds: 3,
                reason: None,
                by: None,
                uid: None,
            };
            let end = at(restarted) + remaining(&stored, at(restarted));
            assert!((at(began + 3_000)..at(began + 4_000)).contains(&end), "{began} {restarted}: {end}");
        }
    }

    #[test]
    fn text_with_control_characters_or_too_much_text_is_rejected() {
        assert!(check_text("reason", None).is_ok() && check_text("reason", Some("größer als zuvor")).is_ok());
        for bad in ["a\nb", "\u{1b}[31m", &"x".repeat(MAX_TEXT + 1)] {
            assert!(check_text("reason", Some(bad)).is_err(), "{bad:?}");
        }
    }
}
