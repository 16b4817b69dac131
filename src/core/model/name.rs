use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Serialize, Serializer};

use super::Escaped;

/// The text is not a valid HAProxy name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("the name is empty")]
    Empty,
    /// The name is longer than 255 bytes.
    #[error("the name `{}` has {len} bytes; the maximum is {MAX_LEN}", Escaped(.name))]
    TooLong {
        /// The text.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// `.` or `..`. URLs and file systems interpret these segments, so the key would be another key.
    #[error("the name `{0}` is not supported, because Consul's API reads it as another key; rename it in haproxy.cfg")]
    Dots(String),
    /// The name contains a character outside `[A-Za-z0-9_.:-]`.
    #[error("the name `{}` contains `{}`; valid characters are A-Z a-z 0-9 _ . : -", Escaped(.name), .found.escape_debug())]
    Character {
        /// The text.
        name: String,
        /// The first invalid character.
        found: char,
    },
}

/// Maximum length of a name, in bytes. HAProxy itself limits only the line. This limit keeps a command with two names
/// far below the 4 KiB of a line to the runtime API.
const MAX_LEN: usize = 255;

/// Checks HAProxy's own rule for identifiers: `[A-Za-z0-9_.:-]+`. It excludes all characters with a meaning in the
/// runtime API: `;`, space, line end, `/`, a leading `#` or `@`.
fn check(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if matches!(name, "." | "..") {
        return Err(InvalidName::Dots(name.to_owned()));
    }
    if let Some(found) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-'))) {
        return Err(InvalidName::Character { name: name.to_owned(), found });
    }
    if name.len() > MAX_LEN {
        return Err(InvalidName::TooLong { name: name.to_owned(), len: name.len() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Creates a name if `name` is valid in HAProxy.
            ///
            /// # Errors
            /// [`InvalidName`] with the broken rule.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check(name)?;
                Ok(Self(Arc::from(name)))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&name).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// The name of a HAProxy backend (a `backend` or `listen` section).
    BackendName
}

name! {
    /// The name of a server within its backend.
    ServerName
}

/// Returns the candidate that is most similar to `wrong`; none if no candidate is similar enough.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wrong, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Whether `wrong` differs from `right` by at most two inserted, deleted, replaced or swapped letters. Stricter than
/// [`nearest`], for words such as commands, where a similar word can mean another action.
pub fn is_typo(wrong: &str, right: &str) -> bool {
    let distance = strsim::damerau_levenshtein(&wrong.to_lowercase(), right);
    distance <= 2 && distance * 2 <= right.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_haproxy_are_accepted() {
        for name in ["blue", "app-1.example:8080", "_x", "A.B-c_d:9"] {
            assert_eq!(BackendName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_the_runtime_api_could_misread_are_rejected() {
        for name in ["a;b", "a b", "a\nb", "#1", "@1", "a/b", "a\0", "a\u{202e}", "ä", "<<", "a\\b", "a%"] {
            assert!(matches!(ServerName::new(name), Err(InvalidName::Character { .. })), "{name:?}");
        }
        assert_eq!(ServerName::new(""), Err(InvalidName::Empty));
        for dots in [".", ".."] {
            assert_eq!(BackendName::new(dots), Err(InvalidName::Dots(dots.to_owned())));
        }
        assert!(BackendName::new("...").is_ok() && BackendName::new("a..b").is_ok());
        assert!(matches!(ServerName::new(&"x".repeat(10_000)), Err(InvalidName::TooLong { .. })));
    }

    #[test]
    fn a_typo_gets_a_suggestion_and_another_word_does_not() {
        assert_eq!(nearest("gren", ["blue", "green"]), Some("green"));
        assert_eq!(nearest("BLUE", ["blue", "green"]), Some("blue"));
        assert_eq!(nearest("zzz", ["blue", "green"]), None);
        assert!(is_typo("sett", "set") && is_typo("lsit", "list") && !is_typo("delete", "release"));
    }
}
