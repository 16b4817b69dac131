//! Reads configuration files: text, errors with file and line, durations, enumerated values.
//!
//! Must not know the meaning of a key. The program that reads the file owns that.

mod duration;
mod error;
mod value;

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

pub use duration::{InvalidDuration, Text, parse as parse_duration, show as show_duration};
pub use error::{ConfigError, Place};
pub(crate) use error::{quoted, suggest};
pub use value::Value;
pub(crate) use value::{MAX_NODE, OFF, absolute, host_name, is_loopback, listen_address, name};

/// Returns the value of an environment variable, if it is set. It is an argument, so that tests can run in parallel.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Maximum size of a configuration file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The value is not one of the allowed values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not known; {}", quoted(.word), suggest(.word, .choices))]
pub struct UnknownChoice {
    /// The value from the file or variable.
    pub word: String,
    /// The allowed values.
    pub choices: Vec<&'static str>,
}

/// Returns the choice with the name `word`.
///
/// # Errors
/// [`UnknownChoice`] with the allowed values, if no choice has that name.
pub fn choose<T: Copy>(word: &str, choices: &[(&'static str, T)]) -> Result<T, UnknownChoice> {
    choices.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice).ok_or_else(|| UnknownChoice {
        word: word.to_owned(),
        choices: choices.iter().map(|(known, _)| *known).collect(),
    })
}

/// Reads the file at `path` as text. Without `path`, reads `default`, which may be absent: then the text is empty. Returns the
/// path as well.
///
/// # Errors
/// As [`read`].
pub fn read_or<'p>(path: Option<&'p Path>, default: &'p str) -> Result<(&'p Path, String), ConfigError> {
    let Some(path) = path else {
        let path = Path::new(default);
        return match read(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok((path, String::new())),
            read => read.map(|text| (path, text)),
        };
    };
    read(path).map(|text| (path, text))
}

/// Reads the file at `path` as text.
///
/// # Errors
/// [`ConfigError`] if the file cannot be read, is larger than 1 MiB, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| ConfigError::NotUtf8 {
        path: path.to_owned(),
        line: error::line(error.as_bytes(), error.utf8_error().valid_up_to()),
    })
}
