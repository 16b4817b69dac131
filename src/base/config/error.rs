use std::{
    fmt::{Display, Write as _},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use weightd_core::model::{Escaped, nearest};

/// An invalid configuration: the location, the problem, the fix. Never contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("failed to read the configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file is larger than 1 MiB.
    #[error("{}: larger than 1 MiB; this is not a configuration file", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{}:{line}: not UTF-8; save the file as UTF-8", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A key or a value in the file is invalid.
    #[error("{}:{line}: {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, the problem, and the fix.
        what: String,
    },
    /// The value of an environment variable is invalid.
    #[error("environment variable {variable}: {what}")]
    Environment {
        /// The name of the variable.
        variable: &'static str,
        /// The problem with its value, and the fix.
        what: String,
    },
    /// Settings of the file and the environment contradict each other.
    #[error("[{section}]: {what}")]
    Contradiction {
        /// The section of the file.
        section: &'static str,
        /// The contradiction, and the fix.
        what: String,
    },
    /// The machine's host name is not a valid name. It is the default for a key.
    #[error("the machine's host name is not a valid name: {problem}; set `{key}` in the configuration")]
    HostName {
        /// The problem with the host name.
        problem: String,
        /// The key.
        key: &'static str,
    },
}

/// Returns the line number, counted from 1, of the byte at offset `at`.
pub(super) fn line(text: &[u8], at: usize) -> usize {
    text.iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Escapes text from outside and puts it between backticks.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", Escaped(text))
}

/// Suggests the most similar candidate, or lists all candidates if none is similar.
pub(crate) fn suggest(wrong: &str, candidates: &[&str]) -> String {
    if let Some(nearest) = nearest(wrong, candidates.iter().copied()) {
        return format!("did you mean `{nearest}`?");
    }
    let all: Vec<_> = candidates.iter().map(|candidate| format!("`{candidate}`")).collect();
    format!("write one of {}", all.join(", "))
}

/// A configuration file, for error messages with a line number.
pub struct Place<'a> {
    /// The path of the file.
    pub path: &'a Path,
    /// The text of the file.
    pub text: &'a str,
}

impl Place<'_> {
    /// Returns the error for an invalid value of `key` at byte range `span`.
    pub fn invalid_value(&self, key: &str, span: Range<usize>, what: impl Display) -> ConfigError {
        self.at(Some(span), format!("`{key}`: {what}"))
    }

    /// Returns the error for invalid TOML, an unknown key or a wrong type.
    pub fn malformed(&self, mut error: toml::de::Error) -> ConfigError {
        let span = error.span();
        let message = error.message().to_owned();
        // The line may contain a secret. Without its input, the error displays the path of keys and not the line.
        error.set_input(None);
        let shown = error.to_string();
        let keys = shown.trim_end().rsplit_once("\nin `").and_then(|(_, rest)| rest.strip_suffix('`'));
        self.at(span, rewritten(&message, keys))
    }

    fn at(&self, span: Option<Range<usize>>, what: String) -> ConfigError {
        let line = line(self.text.as_bytes(), span.map_or(0, |span| span.start));
        ConfigError::File { path: self.path.to_owned(), line, what }
    }
}

/// The sections that a file may repeat.
const LISTS: [&str; 2] = ["haproxy", "webhook"];

/// Rewrites a message of serde or toml, without the values that it repeats.
fn rewritten(message: &str, keys: Option<&str>) -> String {
    if let Some((unknown, expected)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        let section = match keys {
            None => String::new(),
            Some(list) if LISTS.contains(&list) => format!(" in [[{list}]]"),
            Some(section) => format!(" in [{section}]"),
        };
        return format!("unknown key {}{section}; {}", quoted(unknown), suggest(unknown, &known));
    }
    let mut what = keys.map(|keys| format!("`{keys}`: ")).unwrap_or_default();
    if let Some((found, expected)) = wrong_type(message) {
        let _infallible = write!(what, "found {found}, expected {expected}");
        if let Some(list) = keys.filter(|keys| LISTS.contains(keys)) {
            let _infallible = write!(what, "; write [[{list}]] above each one");
        }
        return what;
    }
    let _infallible = write!(what, "{}", Escaped(message));
    if message == "duplicate key" {
        what.push_str("; keep one of them");
    }
    what
}

/// serde's name of a type, and the name that messages use.
const FOUND: [(&str, &str); 6] = [
    ("string", "text in quotes"),
    ("integer", "a number"),
    ("floating point", "a number"),
    ("boolean", "true or false"),
    ("sequence", "a list"),
    ("map", "a table or a date"),
];

/// Parses serde's `invalid type: string "secret", expected a boolean`. Returns the found and the expected type,
/// without the value.
fn wrong_type(message: &str) -> Option<(&'static str, &str)> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let found = FOUND.into_iter().find(|(word, _)| found.starts_with(word)).map_or("something else", |(_, ours)| ours);
    let expected = match expected {
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "u32" => "a whole number",
        other => other,
    };
    Some((found, expected))
}
