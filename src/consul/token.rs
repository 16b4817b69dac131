//! The ACL token, and where it comes from.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use secrecy::{ExposeSecret as _, SecretString};

/// Where the ACL token comes from.
#[derive(Debug, Clone, Default)]
pub enum TokenSource {
    /// There is none: Consul's anonymous token.
    #[default]
    None,
    /// The token itself.
    Value(SecretString),
    /// A file that holds it, read anew each time so that a rotated token is found.
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

/// Why there is no token where there should be one. Never shows what was read.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read.
    #[error("failed to read the token file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else than a token.
    #[error("the token file {}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: InvalidToken,
    },
}

/// What cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Nothing but white space.
    #[error("there is no token in it; write one, or remove the setting")]
    Empty,
    /// More bytes than [`TokenSource::MAX_LEN`].
    #[error("it has more than {max} bytes, so it is not a token", max = TokenSource::MAX_LEN)]
    TooLong,
    /// What an HTTP header cannot carry.
    #[error("it contains white space, control characters or characters beyond ASCII; write the token and nothing else")]
    NotVisible,
}

impl TokenSource {
    /// The most bytes that a token, or the file with it, may have.
    pub const MAX_LEN: usize = 4096;

    /// A token given as text. White space around it is dropped.
    ///
    /// # Errors
    /// [`InvalidToken`] if it is empty, too long, or nothing that a header can carry.
    pub fn value(text: &str) -> Result<Self, InvalidToken> {
        token(text.as_bytes()).map(Self::Value)
    }

    /// The token, if there is one. A file is read at each call.
    ///
    /// # Errors
    /// [`TokenError`] if the file cannot be read, is empty, has more than [`Self::MAX_LEN`] bytes, or holds
    /// anything but visible ASCII. An empty file is no anonymous token: it is a file being written.
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
    fn a_file_is_read_anew_each_time_and_trimmed() {
        let (dir, source) = file("one\n");
        assert_eq!(source.read().unwrap().unwrap().expose_secret(), "one");
        std::fs::write(dir.path().join("token"), " \ttwo\r\n").unwrap();
        assert_eq!(source.read().unwrap().unwrap().expose_secret(), "two");
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
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
    fn a_missing_file_is_an_error_and_not_the_anonymous_token() {
        let source = TokenSource::File("/nonexistent/token".into());
        assert!(matches!(source.read(), Err(TokenError::Read { .. })));
        assert!(TokenSource::None.read().unwrap().is_none());
    }
}
