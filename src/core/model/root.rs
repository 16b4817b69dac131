//! The root prefix of the keys in Consul KV, and the rule for segments of a key.

use std::{fmt, str::FromStr};

use crate::model::Escaped;

/// The prefix in Consul KV of all keys of one fleet, such as `weightd/`.
///
/// It is never empty, never starts with a slash, and always ends with one slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Root(String);

/// The text is not a valid root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoot {
    /// The text is empty.
    #[error("the root is empty; write a prefix such as weightd/")]
    Empty,
    /// The root starts with a slash, but Consul's keys do not.
    #[error("the root starts with a slash, but Consul's keys do not; remove the slash")]
    LeadingSlash,
    /// A segment of the root is invalid.
    #[error("the root has an invalid segment: {0}")]
    Segment(InvalidSegment),
    /// The root is longer than [`Root::MAX_LEN`]. The number is its length in bytes.
    #[error("the root has {0} bytes; write at most {max}", max = Root::MAX_LEN)]
    TooLong(usize),
}

/// The text is not valid as a segment of a key, or as a plain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSegment {
    /// The text is empty.
    #[error("it is empty; write a name of A-Z a-z 0-9 _ . -")]
    Empty,
    /// `.` or `..`. Proxies and file systems interpret these segments.
    #[error("`.` and `..` are not valid names; write a name of A-Z a-z 0-9 _ . -")]
    Dots,
    /// A character outside `[A-Za-z0-9_.-]`.
    #[error("`{}` contains `{}`; write a name of A-Z a-z 0-9 _ . -", Escaped(.text), .found.escape_debug())]
    Character {
        /// The text.
        text: String,
        /// The first invalid character.
        found: char,
    },
    /// The text is too long.
    #[error("it has {len} bytes; write at most {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The maximum length in bytes.
        max: usize,
    },
}

/// Checks that `text` is valid as a segment of a key, as a file name and as a label: 1 to `max` characters of
/// `[A-Za-z0-9_.-]`, but not `.` or `..`.
///
/// # Errors
/// [`InvalidSegment`] with the broken rule.
pub fn check_segment(text: &str, max: usize) -> Result<(), InvalidSegment> {
    if text.is_empty() {
        return Err(InvalidSegment::Empty);
    }
    if matches!(text, "." | "..") {
        return Err(InvalidSegment::Dots);
    }
    if let Some(found) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))) {
        return Err(InvalidSegment::Character { text: text.to_owned(), found });
    }
    if text.len() > max {
        return Err(InvalidSegment::TooLong { len: text.len(), max });
    }
    Ok(())
}

impl Root {
    /// Maximum length of a root in bytes, without its final slash: a quarter of Consul's limit for a key.
    pub const MAX_LEN: usize = 128;

    /// Returns the root with its final slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the prefix of the desired weights: `weightd/weights/`.
    pub fn weights_prefix(&self) -> String {
        format!("{}weights/", self.0)
    }
}

impl Default for Root {
    /// `weightd/`.
    fn default() -> Self {
        Self("weightd/".to_owned())
    }
}

impl FromStr for Root {
    type Err = InvalidRoot;

    fn from_str(text: &str) -> Result<Self, InvalidRoot> {
        if text.is_empty() {
            return Err(InvalidRoot::Empty);
        }
        if text.starts_with('/') {
            return Err(InvalidRoot::LeadingSlash);
        }
        let bare = text.strip_suffix('/').unwrap_or(text);
        for segment in bare.split('/') {
            check_segment(segment, Self::MAX_LEN).map_err(InvalidRoot::Segment)?;
        }
        if bare.len() > Self::MAX_LEN {
            return Err(InvalidRoot::TooLong(bare.len()));
        }
        Ok(Self(format!("{bare}/")))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_final_slash_is_added() {
        for text in ["weightd", "weightd/"] {
            assert_eq!(text.parse::<Root>().unwrap(), Root::default());
        }
        let root: Root = "team/edge-1/weightd.v2".parse().unwrap();
        assert_eq!(root.as_str(), "team/edge-1/weightd.v2/");
        assert_eq!(root.weights_prefix(), "team/edge-1/weightd.v2/weights/");
    }

    #[test]
    fn roots_that_could_mean_another_prefix_are_rejected() {
        for text in ["a//b", "a//", "a/../b", "..", "./a", "a b", "a\nb", "ä/", "a?b", "a%2fb", "a/\u{202e}"] {
            assert!(matches!(text.parse::<Root>(), Err(InvalidRoot::Segment(_))), "{text:?}");
        }
        assert_eq!("".parse::<Root>(), Err(InvalidRoot::Empty));
        assert_eq!("/".parse::<Root>(), Err(InvalidRoot::LeadingSlash));
        assert_eq!("/weightd/".parse::<Root>(), Err(InvalidRoot::LeadingSlash));
        assert_eq!("a/".repeat(100).parse::<Root>(), Err(InvalidRoot::TooLong(199)));
    }
}
