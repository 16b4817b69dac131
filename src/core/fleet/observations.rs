use std::{collections::BTreeMap, time::Duration};

use super::{Keys, Observation, View, counters::Counters};
use crate::model::{BackendName, Moment};

/// The observations that Consul has, and which of them are still renewed.
///
/// Forgets by the monotonic clock of this node alone: a key counts for [`Observation::FORGET_SECONDS`] after its
/// `ModifyIndex` was seen to move.
#[derive(Debug, Default)]
pub struct Observations {
    keys: BTreeMap<String, Seen>,
    /// The order in which backends were observed first.
    order: Vec<BackendName>,
}

#[derive(Debug)]
struct Seen {
    backend: BackendName,
    view: View,
    index: u64,
    moved: Moment,
    /// Whether it was answered since it appeared.
    answered: bool,
}

/// A backend that somebody observes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub backend: BackendName,
    /// The distinct views, at most [`Counters::MAX_VIEWS`].
    pub views: Vec<View>,
    /// Whether there are more.
    pub more_views: bool,
    /// Whether an observation of it has not been answered yet.
    pub unanswered: bool,
}

const FORGET: Duration = Duration::from_secs(Observation::FORGET_SECONDS);

impl Observations {
    /// Takes a complete answer of Consul: each key below `prefix`, its `ModifyIndex` and its value. A key that is no
    /// observation is ignored; one that is not in the answer is deleted.
    pub fn take<'a>(&mut self, prefix: &str, entries: impl IntoIterator<Item = (&'a str, u64, &'a [u8])>, now: Moment) {
        let mut before = std::mem::take(&mut self.keys);
        for (key, index, value) in entries {
            let Some((backend, _)) = Keys::observation_of(prefix, key) else { continue };
            let known = before.remove(key);
            let seen = match known {
                Some(known) if known.index == index => known,
                known => {
                    let Ok(Observation { view, .. }) = Observation::parse(value) else { continue };
                    // A renewed key is answered already, unless it was forgotten or wants something else now.
                    let answered =
                        known.is_some_and(|known| known.is_alive(now) && known.view == view && known.answered);
                    Seen { backend, view, index, moved: now, answered }
                }
            };
            self.keys.insert(key.to_owned(), seen);
        }
    }

    /// The observed backends, longest observed first.
    pub fn observed(&mut self, now: Moment) -> Vec<Observed> {
        let alive = || self.keys.values().filter(|seen| seen.is_alive(now));
        self.order.retain(|backend| alive().any(|seen| seen.backend == *backend));
        for seen in self.keys.values().filter(|seen| seen.is_alive(now)) {
            if !self.order.contains(&seen.backend) {
                self.order.push(seen.backend.clone());
            }
        }
        let of = |backend: &BackendName| {
            let mut all: Vec<&Seen> =
                self.keys.values().filter(|seen| seen.is_alive(now) && seen.backend == *backend).collect();
            // The views that were answered first stay, so that a report does not lose a view to a newer one.
            all.sort_by_key(|seen| !seen.answered);
            let unanswered = all.iter().any(|seen| !seen.answered);
            let mut views: Vec<View> = Vec::new();
            for seen in all {
                if !views.contains(&seen.view) {
                    views.push(seen.view.clone());
                }
            }
            let more_views = views.len() > Counters::MAX_VIEWS;
            views.truncate(Counters::MAX_VIEWS);
            Observed { backend: backend.clone(), views, more_views, unanswered }
        };
        self.order.iter().map(of).collect()
    }

    /// All observations are answered.
    pub fn answered(&mut self) {
        for seen in self.keys.values_mut() {
            seen.answered = true;
        }
    }

    /// Observations that were not answered by a successful write have to be answered again.
    pub fn unanswered(&mut self) {
        for seen in self.keys.values_mut() {
            seen.answered = false;
        }
    }
}

impl Seen {
    fn is_alive(&self, now: Moment) -> bool {
        now.since(self.moved) < FORGET
    }
}

#[cfg(test)]
mod tests;
