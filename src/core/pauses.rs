//! Which backends are paused on this node, until when, and why.

use std::collections::BTreeMap;

use crate::model::{BackendName, Escaped, Moment};

/// What a pause is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every backend, including future ones.
    All,
    /// This one.
    Backend(BackendName),
}

impl Scope {
    /// That backend, or all.
    pub fn of(backend: Option<&BackendName>) -> Self {
        backend.map_or(Self::All, |name| Self::Backend(name.clone()))
    }

    /// The backend, if it is a single one.
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
    /// When it ends.
    pub until: Moment,
    /// Why, as the person says.
    pub reason: Option<String>,
    /// Who, as the person says.
    pub by: Option<String>,
    /// Who, as the kernel says.
    pub uid: Option<u32>,
}

impl Pause {
    /// Who and why, safe to show.
    pub fn explained(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {}", Escaped(by))).unwrap_or_default();
        let reason = self.reason.as_ref().map(|reason| format!(": {}", Escaped(reason))).unwrap_or_default();
        format!("paused{by}{reason}")
    }
}

/// How a pause ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its time is over.
    Expired,
    /// A person ended it.
    Lifted {
        /// Who, as the person says.
        by: Option<String>,
        /// Who, as the kernel says.
        uid: Option<u32>,
    },
}

/// The pauses of one HAProxy.
///
/// A pause in this set is in force, whatever the time. It ends when it is taken out, so that nothing that has to happen
/// at its end is missed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses(BTreeMap<Scope, Pause>);

impl Pauses {
    /// Begins one. It replaces the one of the same scope, whether that is longer or shorter.
    pub fn begin(&mut self, scope: Scope, pause: Pause) {
        self.0.insert(scope, pause);
    }

    /// Ends the one of a backend; with [`Scope::All`] every one.
    pub fn lift(&mut self, scope: &Scope) -> BTreeMap<Scope, Pause> {
        match scope {
            Scope::All => std::mem::take(&mut self.0),
            Scope::Backend(_) => self.0.remove_entry(scope).into_iter().collect(),
        }
    }

    /// Ends those whose time is over.
    pub fn expire(&mut self, now: Moment) -> BTreeMap<Scope, Pause> {
        let (over, going_on) = std::mem::take(&mut self.0).into_iter().partition(|(_, pause)| pause.until <= now);
        self.0 = going_on;
        over
    }

    /// The pause that a backend is under: of two, the one that ends later.
    pub fn of(&self, backend: &BackendName) -> Option<&Pause> {
        if self.0.is_empty() {
            return None;
        }
        let own = self.0.get(&Scope::Backend(backend.clone()));
        own.into_iter().chain(self.all()).max_by_key(|pause| pause.until)
    }

    /// When the next one ends.
    pub fn next_end(&self) -> Option<Moment> {
        self.0.values().map(|pause| pause.until).min()
    }

    /// The pause of all backends.
    pub fn all(&self) -> Option<&Pause> {
        self.0.get(&Scope::All)
    }

    /// Each of them.
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
    fn a_backend_is_under_the_pause_that_ends_last() {
        let app = BackendName::new("app").unwrap();
        let mut pauses = Pauses::default();
        assert_eq!(pauses.of(&app), None);
        pauses.begin(scope("app"), until(10));
        pauses.begin(scope("other"), until(99));
        assert_eq!(pauses.of(&app), Some(&until(10)));
        pauses.begin(Scope::All, until(20));
        assert_eq!(pauses.of(&app), Some(&until(20)));
        assert_eq!(pauses.of(&BackendName::new("new").unwrap()), Some(&until(20)));
        assert_eq!(pauses.lift(&scope("app")).len(), 1);
        assert_eq!(pauses.of(&app), Some(&until(20)), "the pause of all still holds");
        assert_eq!(pauses.lift(&Scope::All).len(), 2);
        assert_eq!(pauses, Pauses::default());
    }

    #[test]
    fn the_last_word_counts_and_time_ends_it() {
        let mut pauses = Pauses::default();
        pauses.begin(Scope::All, until(50));
        pauses.begin(Scope::All, until(10));
        assert!(pauses.expire(at(9)).is_empty());
        assert_eq!(pauses.expire(at(10)), [(Scope::All, until(10))].into());
        assert!(pauses.expire(at(100)).is_empty(), "it ends once");
    }

    #[test]
    fn who_and_why_cannot_act_on_a_terminal() {
        let pause = Pause { reason: Some("a\u{1b}[31m".into()), by: Some("b\n".into()), ..Pause::default() };
        assert_eq!(pause.explained(), "paused by b\\n: a\\u{1b}[31m");
        assert_eq!(Pause::default().explained(), "paused");
    }
}
