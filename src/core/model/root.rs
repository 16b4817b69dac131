//! Under which prefix of Consul KV the keys lie, and what a segment of a key can be.

use std::{fmt, str::FromStr};

use crate::model::Escaped;

/// The prefix of Consul KV below which everything of one fleet lies, such as `weightd/`.
///
/// Never empty, never begins with a slash, always ends in one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Root(String);

/// Text that is no root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoot {
    /// Nothing but slashes, or nothing at all.
    #[error("the root is empty; write a prefix such as weightd/")]
    Empty,
    /// Consul's keys do not begin with a slash.
    #[error("the root begins with a slash, which Consul's keys do not; remove it")]
    LeadingSlash,
    /// One of its segments cannot be.
    #[error("the root has a segment that cannot be: {0}")]
    Segment(InvalidSegment),
    /// Longer than [`Root::MAX_LEN`].
    #[error("the root has {0} bytes, more than {max}; write a shorter one", max = Root::MAX_LEN)]
    TooLong(usize),
}

/// Text that cannot be one segment of a key, or a plain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSegment {
    /// Nothing there.
    #[error("it is empty; write a name of A-Z a-z 0-9 _ . -")]
    Empty,
    /// `.` or `..`, which proxies and file systems take for something else.
    #[error("`.` and `..` are not names; write a name of A-Z a-z 0-9 _ . -")]
    Dots,
    /// A character outside `[A-Za-z0-9_.-]`.
    #[error("`{}` contains `{}`; write a name of A-Z a-z 0-9 _ . -", Escaped(.text), .found.escape_debug())]
    Character {
        /// The text as it came.
        text: String,
        /// The first character that does not belong.
        found: char,
    },
    /// Too many bytes.
    #[error("it has {len} bytes, more than {max}; write a shorter one")]
    TooLong {
        /// How many it has.
        len: usize,
        /// How many it may have.
        max: usize,
    },
}

/// Takes `text` if it can be one segment of a key, a file's name and a label alike: 1 to `max` characters of
/// `[A-Za-z0-9_.-]`, but not `.` or `..`.
///
/// # Errors
/// [`InvalidSegment`] says which rule it breaks.
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
    /// The longest root, in bytes, without its final slash: a quarter of what Consul takes as a key.
    pub const MAX_LEN: usize = 128;

    /// The root with its final slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the desired weights lie: `weightd/weights/`.
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
    fn what_could_mean_another_prefix_is_refused() {
        for text in ["a//b", "a//", "a/../b", "..", "./a", "a b", "a\nb", "ä/", "a?b", "a%2fb", "a/\u{202e}"] {
            assert!(matches!(text.parse::<Root>(), Err(InvalidRoot::Segment(_))), "{text:?}");
        }
        assert_eq!("".parse::<Root>(), Err(InvalidRoot::Empty));
        assert_eq!("/".parse::<Root>(), Err(InvalidRoot::LeadingSlash));
        assert_eq!("/weightd/".parse::<Root>(), Err(InvalidRoot::LeadingSlash));
        assert_eq!("a/".repeat(100).parse::<Root>(), Err(InvalidRoot::TooLong(199)));
    }
}
