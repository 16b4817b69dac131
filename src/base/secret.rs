//! Secrets of a configuration: written in it, or in a file of their own.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use secrecy::{ExposeSecret as _, SecretString};

/// The place of a secret.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// The secret itself.
    Value(SecretString),
    /// A file with the secret. Each read opens it again, so that a changed secret is found.
    File(PathBuf),
}

impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            _ => false,
        }
    }
}

/// The secret cannot be read. The error never contains content of the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content of the file is not a secret.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem, and the fix.
        problem: &'static str,
    },
}

impl SecretSource {
    /// Maximum size of a secret, and of its file, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Returns the secret. Reads the file at each call, and trims white space around its content.
    ///
    /// # Errors
    /// [`SecretError`] if the file cannot be read, is empty, is larger than [`Self::MAX_LEN`] bytes, or contains a control
    /// character.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(Self::MAX_LEN as u64 + 1).read_to_end(&mut bytes))
                    .map_err(|source| SecretError::Read { path: path.clone(), source })?;
                secret(&bytes).map_err(|problem| SecretError::Content { path: path.clone(), problem })
            }
        }
    }
}

fn secret(bytes: &[u8]) -> Result<SecretString, &'static str> {
    if bytes.len() > SecretSource::MAX_LEN {
        return Err("the file is longer than 4096 bytes, so it is not a secret");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8")?.trim();
    if text.is_empty() {
        return Err("the file is empty; write the secret to it");
    }
    if text.contains(char::is_control) {
        return Err("the file has more than one line, or a control character; write only the secret");
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_each_call_and_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read(), Err(SecretError::Read { .. })));
        std::fs::write(&path, "user:one two\n").unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "user:one two");
        std::fs::write(&path, " three").unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "three");
    }

    #[test]
    fn content_that_is_no_secret_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for content in [b"\n".as_slice(), b"hunter2\nhunter2", b"hunter2\xff", &[b'x'; 4097]] {
            std::fs::write(&path, content).unwrap();
            let error = SecretSource::File(path.clone()).read().unwrap_err();
            assert!(matches!(error, SecretError::Content { .. }));
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
