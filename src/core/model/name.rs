use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Serialize, Serializer};

use super::Escaped;

/// Why a text is not a name that HAProxy can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("a name is empty")]
    Empty,
    /// Longer than 255 bytes.
    #[error("the name `{}` has {len} bytes, more than {MAX_LEN}", Escaped(.name))]
    TooLong {
        /// The text.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// `.` or `..`, which URLs and file systems take for something else: a key of it would be another key.
    #[error("`{0}` is not a name here: Consul's API takes it for another key; rename it in haproxy.cfg")]
    Dots(String),
    /// Holds a character outside `[A-Za-z0-9_.:-]`.
    #[error("the name `{}` contains `{}`; HAProxy's names are made of A-Z a-z 0-9 _ . : -", Escaped(.name), .found.escape_debug())]
    Character {
        /// The text.
        name: String,
        /// The first invalid character.
        found: char,
    },
}

/// The longest name, in bytes. HAProxy has no limit except the line that it reads; this one keeps a command with two names
/// far below the 4 KiB of a line to the runtime API.
const MAX_LEN: usize = 255;

/// HAProxy's own rule for identifiers: `[A-Za-z0-9_.:-]+`. It excludes everything that its command line would read as
/// something else: `;`, a blank, a line end, `/`, a leading `#` or `@`.
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
            /// Takes `name` if HAProxy can have it.
            ///
            /// # Errors
            /// [`InvalidName`] says which rule it breaks.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check(name)?;
                Ok(Self(Arc::from(name)))
            }

            /// The name as HAProxy writes it.
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

/// The candidate that was most likely meant by `wrong`, if one is similar enough.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wrong, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Whether `wrong` is `right` with at most two letters inserted, deleted, replaced or swapped. Stricter than [`nearest`]:
/// for words where a similar one means another action.
pub fn is_typo(wrong: &str, right: &str) -> bool {
    let distance = strsim::damerau_levenshtein(&wrong.to_lowercase(), right);
    distance <= 2 && distance * 2 <= right.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_haproxy_are_taken() {
        for name in ["blue", "app-1.example:8080", "_x", "A.B-c_d:9"] {
            assert_eq!(BackendName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_the_runtime_api_would_read_as_something_else_is_refused() {
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
    fn a_slip_gets_a_suggestion_and_a_stranger_none() {
        assert_eq!(nearest("gren", ["blue", "green"]), Some("green"));
        assert_eq!(nearest("BLUE", ["blue", "green"]), Some("blue"));
        assert_eq!(nearest("zzz", ["blue", "green"]), None);
        assert!(is_typo("sett", "set") && is_typo("lsit", "list") && !is_typo("delete", "release"));
    }
}
