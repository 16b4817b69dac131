//! The pauses of backends on this node, with end and reason.

use std::collections::BTreeMap;

use crate::model::{BackendName, Escaped, Moment};

/// The backends of a pause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every backend, including future ones.
    All,
    /// One backend.
    Backend(BackendName),
}

impl Scope {
    /// Returns the scope of one backend, or of all if `backend` is none.
    pub fn of(backend: Option<&BackendName>) -> Self {
        backend.map_or(Self::All, |name| Self::Backend(name.clone()))
    }

    /// Returns the backend; none for all backends.
    pub fn backend(&self) -> Option<&BackendName> {
        match self {
            Self::All => None,
            Self::Backend(name) => Some(name),
        }
    }
}

/// One pause.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pause {
    /// When the pause ends.
    pub until: Moment,
    /// The reason in the request.
    pub reason: Option<String>,
    /// The author in the request. Not verified.
    pub by: Option<String>,
    /// The user id of the client, from the kernel.
    pub uid: Option<u32>,
}

impl Pause {
    /// Returns author and reason as one line, escaped.
    pub fn explained(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {}", Escaped(by))).unwrap_or_default();
        let reason = self.reason.as_ref().map(|reason| format!(": {}", Escaped(reason))).unwrap_or_default();
        format!("paused{by}{reason}")
    }
}

/// How a pause ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The time of the pause is over.
    Expired,
    /// A person ended the pause.
    Lifted {
        /// The author in the request. Not verified.
        by: Option<String>,
        /// The user id of the client, from the kernel.
        uid: Option<u32>,
    },
}

/// The pauses of one HAProxy.
///
/// A pause in this set is in force, even after its end. It ends when it is removed, so that the actions at its end
/// always run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses(BTreeMap<Scope, Pause>);

impl Pauses {
    /// Starts a pause. It replaces a longer or shorter pause of the same scope.
    pub fn start(&mut self, scope: Scope, pause: Pause) {
        self.0.insert(scope, pause);
    }

    /// Removes and returns the pause of a backend, or all pauses with [`Scope::All`].
    pub fn lift(&mut self, scope: &Scope) -> BTreeMap<Scope, Pause> {
        match scope {
            Scope::All => std::mem::take(&mut self.0),
            Scope::Backend(_) => self.0.remove_entry(scope).into_iter().collect(),
        }
    }

    /// Removes and returns the pauses with an end at or before `now`.
    pub fn expire(&mut self, now: Moment) -> BTreeMap<Scope, Pause> {
        let (over, going_on) = std::mem::take(&mut self.0).into_iter().partition(|(_, pause)| pause.until <= now);
        self.0 = going_on;
        over
    }

    /// Returns the pause of a backend: its own pause or the pause of all backends, whichever ends later.
    pub fn of(&self, backend: &BackendName) -> Option<&Pause> {
        if self.0.is_empty() {
            return None;
        }
        let own = self.0.get(&Scope::Backend(backend.clone()));
        own.into_iter().chain(self.all()).max_by_key(|pause| pause.until)
    }

    /// Returns when the next pause ends.
    pub fn next_end(&self) -> Option<Moment> {
        self.0.values().map(|pause| pause.until).min()
    }

    /// Returns the pause of all backends.
    pub fn all(&self) -> Option<&Pause> {
        self.0.get(&Scope::All)
    }

    /// Returns all pauses.
    pub fn iter(&self) -> impl Iterator<Item = (&Scope, &Pause)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    fn until(seconds: u64) -> Pause {
        Pause { until: at(seconds), ..Pause::default() }
    }

    fn scope(name: &str) -> Scope {
        Scope::Backend(BackendName::new(name).unwrap())
    }

    #[test]
    fn the_pause_that_ends_last_applies_to_a_backend() {
        let app = BackendName::new("app").unwrap();
        let mut pauses = Pauses::default();
        assert_eq!(pauses.of(&app), None);
        pauses.start(scope("app"), until(10));
        pauses.start(scope("other"), until(99));
        assert_eq!(pauses.of(&app), Some(&until(10)));
        pauses.start(Scope::All, until(20));
        assert_eq!(pauses.of(&app), Some(&until(20)));
        assert_eq!(pauses.of(&BackendName::new("new").unwrap()), Some(&until(20)));
        assert_eq!(pauses.lift(&scope("app")).len(), 1);
        assert_eq!(pauses.of(&app), Some(&until(20)), "the pause of all still holds");
        assert_eq!(pauses.lift(&Scope::All).len(), 2);
        assert_eq!(pauses, Pauses::default());
    }

    #[test]
    fn a_new_pause_replaces_the_old_one_and_expires_once() {
        let mut pauses = Pauses::default();
        pauses.start(Scope::All, until(50));
        pauses.start(Scope::All, until(10));
        assert!(pauses.expire(at(9)).is_empty());
        assert_eq!(pauses.expire(at(10)), [(Scope::All, until(10))].into());
        assert!(pauses.expire(at(100)).is_empty(), "it ends once");
    }

    #[test]
    fn author_and_reason_are_escaped() {
        let pause = Pause { reason: Some("a\u{1b}[31m".into()), by: Some("b\n".into()), ..Pause::default() };
        assert_eq!(pause.explained(), "paused by b\\n: a\\u{1b}[31m");
        assert_eq!(Pause::default().explained(), "paused");
    }
}
