//! Reading a configuration file: its text, its errors with their place, durations, words from a list.
//!
//! Must never know what a key means; that belongs to the program that reads the file.

mod duration;
mod error;

use std::{fs::File, io::Read as _, path::Path};

pub use duration::{InvalidDuration, Text, parse as parse_duration, show as show_duration};
pub use error::{ConfigError, Place};
pub(crate) use error::{quoted, suggest};

/// The most bytes a configuration file may have.
const MAX_FILE: u64 = 1024 * 1024;

/// A word that is none of those that can stand there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not known; {}", quoted(.word), suggest(.word, .choices))]
pub struct UnknownChoice {
    /// The word as it came.
    pub word: String,
    /// Those that can stand there.
    pub choices: Vec<&'static str>,
}

/// The choice that `word` names.
///
/// # Errors
/// [`UnknownChoice`] with those there are.
pub fn choose<T: Copy>(word: &str, choices: &[(&'static str, T)]) -> Result<T, UnknownChoice> {
    choices.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice).ok_or_else(|| UnknownChoice {
        word: word.to_owned(),
        choices: choices.iter().map(|(known, _)| *known).collect(),
    })
}

/// Reads the text of the file at `path`.
///
/// # Errors
/// [`ConfigError`] if it cannot be read, has more than 1 MiB, or is not UTF-8.
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
