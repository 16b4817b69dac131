use std::{
    fmt::{Display, Write as _},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use weightd_core::model::{Escaped, nearest};

/// A configuration that cannot be used: where, what is wrong, what to do. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("failed to read the configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More than a configuration could need.
    #[error("{}: more than 1 MiB; this is not a configuration of weightd", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that are no text.
    #[error("{}:{line}: not UTF-8; save the file as UTF-8", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The file says something that cannot be.
    #[error("{}:{line}: {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, what is wrong with it, and what to do.
        what: String,
    },
    /// The environment says something that cannot be.
    #[error("environment variable {variable}: {what}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong with its value, and what to do.
        what: String,
    },
    /// File and environment contradict each other.
    #[error("[{section}]: {what}")]
    Contradiction {
        /// The section of the file.
        section: &'static str,
        /// What does not go together, and what to do.
        what: String,
    },
    /// The machine's host name, which names the node unless the file does, is not usable.
    #[error("the machine's host name cannot name this node: {0}; set `node` in the configuration")]
    HostName(String),
}

/// The number of the line, counted from 1, that holds the byte at `at`.
pub(super) fn line(text: &[u8], at: usize) -> usize {
    text.iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Foreign text between backticks.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", Escaped(text))
}

/// The candidate that was most likely meant, or all of them.
pub(crate) fn suggest(wrong: &str, candidates: &[&str]) -> String {
    if let Some(nearest) = nearest(wrong, candidates.iter().copied()) {
        return format!("did you mean `{nearest}`?");
    }
    let all: Vec<_> = candidates.iter().map(|candidate| format!("`{candidate}`")).collect();
    format!("write one of {}", all.join(", "))
}

/// A file that errors are about.
/// A configuration file that errors are about.
pub struct Place<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
}

impl Place<'_> {
    /// The value of `key`, which lies at `span`, cannot be.
    pub fn wrong(&self, key: &str, span: Range<usize>, what: impl Display) -> ConfigError {
        self.at(Some(span), format!("`{key}`: {what}"))
    }

    /// The file has not its shape: a slip in TOML, an unknown key, a wrong type.
    pub fn malformed(&self, mut error: toml::de::Error) -> ConfigError {
        let span = error.span();
        let message = error.message().to_owned();
        // Without its input the error shows neither the line, which may hold a secret, nor a position, but
        // the path of keys that leads there.
        error.set_input(None);
        let shown = error.to_string();
        let keys = shown.trim_end().rsplit_once("\nin `").and_then(|(_, rest)| rest.strip_suffix('`'));
        self.at(span, reworded(&message, keys))
    }

    fn at(&self, span: Option<Range<usize>>, what: String) -> ConfigError {
        let line = line(self.text.as_bytes(), span.map_or(0, |span| span.start));
        ConfigError::File { path: self.path.to_owned(), line, what }
    }
}

/// What serde and toml say, in our words and without the values that they repeat.
fn reworded(message: &str, keys: Option<&str>) -> String {
    if let Some((unknown, expected)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        let section = match keys {
            None => String::new(),
            Some("haproxy") => " in [[haproxy]]".to_owned(),
            Some(section) => format!(" in [{section}]"),
        };
        return format!("unknown key {}{section}; {}", quoted(unknown), suggest(unknown, &known));
    }
    let mut what = keys.map(|keys| format!("`{keys}`: ")).unwrap_or_default();
    if let Some((found, expected)) = wrong_type(message) {
        let _infallible = write!(what, "found {found}, expected {expected}");
        if keys == Some("haproxy") {
            what.push_str("; write [[haproxy]] above each instance");
        }
        return what;
    }
    let _infallible = write!(what, "{}", Escaped(message));
    if message == "duplicate key" {
        what.push_str("; keep one of them");
    }
    what
}

/// What serde calls what it found, and what we call it.
const FOUND: [(&str, &str); 6] = [
    ("string", "text in quotes"),
    ("integer", "a number"),
    ("floating point", "a number"),
    ("boolean", "true or false"),
    ("sequence", "a list"),
    ("map", "a table or a date"),
];

/// Takes serde's `invalid type: string "secret", expected a boolean` apart, without the value.
fn wrong_type(message: &str) -> Option<(&'static str, &str)> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let found = FOUND.into_iter().find(|(word, _)| found.starts_with(word)).map_or("something else", |(_, ours)| ours);
    let expected = match expected {
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other => other,
    };
    Some((found, expected))
}
