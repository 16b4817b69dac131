//! One answer of Consul that is kept: one request at a time asks for it, and while Consul gives no new one, nobody waits long
//! and the old one stays.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

/// For how long Consul's answer is believed.
const BELIEVED: Duration = Duration::from_secs(30);
/// Where there is an old answer, a request waits for so long for a new one.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure the old answer is believed for so long, before Consul is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// The same where there is no old answer.
const AGAIN_WITHOUT: Duration = Duration::from_secs(1);

/// An answer that is kept.
#[derive(Debug)]
pub struct Kept<T> {
    asking: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State<T>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed<E> {
    /// Consul does not answer: what it said before stays.
    Away(String),
    /// Consul answers, and what it said before is over.
    Over(E),
}

#[derive(Debug)]
struct State<T> {
    /// The last answer, and when Consul was asked for it.
    answer: Option<(Instant, T)>,
    /// The last failure, and when.
    failed: Option<(Instant, String)>,
    /// What was asked for before this is not kept.
    forgotten: Option<Instant>,
}

impl<T: Clone> State<T> {
    /// What is answered without a question to Consul; none if Consul must be asked.
    fn known(&self, now: Instant, is_old: impl Fn(Instant) -> bool) -> Option<Result<T, String>> {
        let failed_within = |time| self.failed.as_ref().filter(|(at, _)| now.duration_since(*at) < time);
        match &self.answer {
            Some((at, answer)) => {
                let is_new = now.duration_since(*at) < BELIEVED && !is_old(*at);
                (is_new || failed_within(AGAIN).is_some()).then(|| Ok(answer.clone()))
            }
            None => failed_within(AGAIN_WITHOUT).map(|(_, why)| Err(why.clone())),
        }
    }

    /// Notes what came of a question that began then.
    fn note<E>(&mut self, began: Instant, now: Instant, outcome: Result<T, Failed<E>>) -> Result<T, Failed<E>> {
        match outcome {
            Ok(answer) => {
                if self.forgotten.is_none_or(|forgotten| forgotten <= began) {
                    (self.answer, self.failed) = (Some((began, answer.clone())), None);
                }
                Ok(answer)
            }
            Err(Failed::Away(why)) => self.away(now, why),
            Err(over @ Failed::Over(_)) => {
                (self.answer, self.failed) = (None, None);
                Err(over)
            }
        }
    }

    /// Consul does not answer: the old answer.
    fn away<E>(&mut self, now: Instant, why: String) -> Result<T, Failed<E>> {
        self.failed = Some((now, why.clone()));
        self.answer.as_ref().map(|(_, answer)| answer.clone()).ok_or(Failed::Away(why))
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        let state = State { answer: None, failed: None, forgotten: None };
        Self { asking: Arc::default(), state: Mutex::new(state) }
    }
}

impl<T: Clone + Send + 'static> Kept<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer. Consul is asked again after half a minute, and if `is_old` says so of the time at which it was asked. Where
    /// there is an old answer, a slow one is not waited for: it counts as soon as it comes.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn get<E, F>(
        self: &Arc<Self>,
        is_old: impl Fn(Instant) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Result<T, Failed<E>>
    where
        E: Send + 'static,
        F: Future<Output = Result<T, Failed<E>>> + Send + 'static,
    {
        let known = || self.state().known(Instant::now(), &is_old).map(|known| known.map_err(Failed::Away));
        if let Some(known) = known() {
            return known;
        }
        let new = async {
            let one = Arc::clone(&self.asking).lock_owned().await;
            // Another request may have asked meanwhile.
            if let Some(known) = known() {
                return known;
            }
            let (kept, question) = (Arc::clone(self), ask());
            // A task of its own: it goes on when this request does not wait any more.
            let asked = tokio::spawn(async move {
                let began = Instant::now();
                let outcome = question.await;
                let outcome = kept.state().note(began, Instant::now(), outcome);
                drop(one);
                outcome
            });
            asked.await.unwrap_or_else(|error| Err(Failed::Away(error.to_string())))
        };
        if self.last().is_none() {
            return new.await;
        }
        match timeout(PATIENCE, new).await {
            Ok(answer) => answer,
            Err(_) => self.state().away(Instant::now(), "Consul is slow".to_owned()),
        }
    }

    /// The last answer, however old.
    pub fn last(&self) -> Option<T> {
        self.state().answer.as_ref().map(|(_, answer)| answer.clone())
    }

    /// Asks Consul anew the next time: what it said may no longer be true.
    pub fn forget(&self) {
        *self.state() = State { answer: None, failed: None, forgotten: Some(Instant::now()) };
    }
}

#[cfg(test)]
mod tests;
