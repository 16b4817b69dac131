//! The ACL token and its source.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use secrecy::{ExposeSecret as _, SecretString};

/// The source of the ACL token.
#[derive(Debug, Clone, Default)]
pub enum TokenSource {
    /// No token: Consul uses its anonymous token.
    #[default]
    None,
    /// The token itself.
    Value(SecretString),
    /// A file with the token. Each read opens it again, so that a rotated token is found.
    File(PathBuf),
}

impl PartialEq for TokenSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Value(a), Self::Value(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            _ => false,
        }
    }
}

/// The token cannot be read. The error never contains content of the file.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read.
    #[error("failed to read the token file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The content of the file is not a token.
    #[error("the token file {}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem with the content.
        problem: InvalidToken,
    },
}

/// The text is not a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The text is empty or white space.
    #[error("the token is empty; write a token, or remove the setting")]
    Empty,
    /// The text is longer than [`TokenSource::MAX_LEN`] bytes.
    #[error("the text is longer than {max} bytes, so it is not a token", max = TokenSource::MAX_LEN)]
    TooLong,
    /// The text contains a character that is invalid in an HTTP header.
    #[error("the text contains white space, control characters or characters outside ASCII; write only the token")]
    NotVisible,
}

impl TokenSource {
    /// Maximum size of a token, and of its file, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Parses a token. Trims white space around it.
    ///
    /// # Errors
    /// [`InvalidToken`] if the text is empty, too long, or invalid in an HTTP header.
    pub fn value(text: &str) -> Result<Self, InvalidToken> {
        token(text.as_bytes()).map(Self::Value)
    }

    /// Returns the token; none for [`TokenSource::None`]. Reads the file at each call.
    ///
    /// # Errors
    /// [`TokenError`] if the file cannot be read, is empty, is larger than [`Self::MAX_LEN`] bytes, or contains
    /// anything except visible ASCII. An empty file does not mean the anonymous token: another program may be writing
    /// it.
    pub fn read(&self) -> Result<Option<SecretString>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Value(secret) => Ok(Some(secret.clone())),
            Self::File(path) => {
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(Self::MAX_LEN as u64 + 1).read_to_end(&mut bytes))
                    .map_err(|source| TokenError::Read { path: path.clone(), source })?;
                token(&bytes).map(Some).map_err(|problem| TokenError::Content { path: path.clone(), problem })
            }
        }
    }
}

fn token(bytes: &[u8]) -> Result<SecretString, InvalidToken> {
    if bytes.len() > TokenSource::MAX_LEN {
        return Err(InvalidToken::TooLong);
    }
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Err(InvalidToken::Empty);
    }
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_graphic()))
        .map(SecretString::from)
        .ok_or(InvalidToken::NotVisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, TokenSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, content).unwrap();
        (dir, TokenSource::File(path))
    }

    #[test]
    fn a_file_is_read_at_each_call_and_trimmed() {
        let (dir, source) = file("one\n");
        assert_eq!(source.read().unwrap().unwrap().expose_secret(), "one");
        std::fs::write(dir.path().join("token"), " \ttwo\r\n").unwrap();
        assert_eq!(source.read().unwrap().unwrap().expose_secret(), "two");
    }

    #[test]
    fn invalid_tokens_are_rejected_and_not_shown() {
        let cases: [(&[u8], InvalidToken); 6] = [
            (b"", InvalidToken::Empty),
            (b" \n", InvalidToken::Empty),
            (b"hunter2 hunter2", InvalidToken::NotVisible),
            (b"hunter2\r\nX-Other: 1", InvalidToken::NotVisible),
            (b"hunter2\xff", InvalidToken::NotVisible),
            (&[b'x'; 4097], InvalidToken::TooLong),
        ];
        for (content, expected) in cases {
            let (_dir, source) = file(content);
            let error = source.read().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            assert!(matches!(error, TokenError::Content { problem, .. } if problem == expected), "{content:?}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_and_does_not_mean_the_anonymous_token() {
        let source = TokenSource::File("/nonexistent/token".into());
        assert!(matches!(source.read(), Err(TokenError::Read { .. })));
        assert!(TokenSource::None.read().unwrap().is_none());
    }
}
