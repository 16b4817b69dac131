//! The two keys that encrypt the cookies. The first one encrypts, both decrypt: so keys are replaced one after the other, and
//! nobody is signed out. Pages behind one balancer have the same file.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cookie::{Cookie, CookieJar, Key};

/// The fewest characters of a line: 32 bytes in hexadecimal have 64, in base64 at least 43.
const MIN_LINE: usize = 43;
/// The most bytes of the file.
const MAX_FILE: u64 = 4096;

/// The keys.
#[derive(Clone)]
pub struct Ring {
    current: Key,
    previous: Option<Key>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// The file of the keys cannot be used. The error never contains its content.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// It could not be read.
    #[error("failed to read the key file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Everybody on this machine may read it.
    #[error("everybody on this machine may read the key file {path}; run `chmod 0640 {path}`", path = .0.display())]
    Readable(PathBuf),
    /// It does not have one or two keys.
    #[error(
        "the key file {} does not have one or two lines of at least {MIN_LINE} characters; write each with \
         `openssl rand -base64 48`, the newest first", .0.display()
    )]
    Content(PathBuf),
}

impl Ring {
    /// Keys of its own: cookies end with this process.
    pub fn generate() -> Self {
        Self { current: Key::generate(), previous: None }
    }

    /// Reads the keys: one or two lines, the newest first.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn read(path: &Path) -> Result<Self, RingError> {
        let failed = |source| RingError::Read { path: path.to_owned(), source };
        let about = fs::metadata(path).map_err(failed)?;
        if about.mode() & 0o007 != 0 {
            return Err(RingError::Readable(path.to_owned()));
        }
        if about.len() > MAX_FILE {
            return Err(RingError::Content(path.to_owned()));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::of(&text).ok_or_else(|| RingError::Content(path.to_owned()))
    }

    fn of(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let key = |line: &&str| (line.len() >= MIN_LINE).then(|| Key::derive_from(line.as_bytes()));
        match lines.as_slice() {
            [one] => Some(Self { current: key(one)?, previous: None }),
            [one, two] => Some(Self { current: key(one)?, previous: Some(key(two)?) }),
            _ => None,
        }
    }

    /// The value of a cookie of this name, encrypted.
    pub fn seal(&self, name: &'static str, value: String) -> String {
        let mut jar = CookieJar::new();
        jar.private_mut(&self.current).add(Cookie::new(name, value));
        jar.get(name).map(|cookie| cookie.value().to_owned()).unwrap_or_default()
    }

    /// The value of a cookie of this name; none if it was not encrypted with one of the keys for this name.
    pub fn open(&self, name: &'static str, sealed: &str) -> Option<String> {
        let sealed = Cookie::new(name, sealed.to_owned());
        let keys = [Some(&self.current), self.previous.as_ref()];
        let jar = CookieJar::new();
        keys.into_iter().flatten().find_map(|key| Some(jar.private(key).decrypt(sealed.clone())?.value().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(c: char) -> String {
        String::from(c).repeat(MIN_LINE)
    }

    #[test]
    fn keys_are_replaced_one_after_the_other() {
        let (old, new) = (Ring::of(&line('a')).unwrap(), Ring::of(&format!("{}\n{}\n", line('b'), line('a'))).unwrap());
        let sealed = old.seal("n", "secret".to_owned());
        assert!(!sealed.contains("secret"));
        assert_eq!(new.open("n", &sealed).as_deref(), Some("secret"));
        assert_eq!(Ring::of(&line('b')).unwrap().open("n", &new.seal("n", "x".to_owned())).as_deref(), Some("x"));
        assert_eq!(Ring::of(&line('c')).unwrap().open("n", &sealed), None);
    }

    #[test]
    fn a_cookie_is_of_its_name_and_cannot_be_changed() {
        let ring = Ring::generate();
        let sealed = ring.seal("session", "v".to_owned());
        assert_eq!(ring.open("answer", &sealed), None);
        let mut changed = sealed.clone();
        let last = changed.pop().unwrap();
        changed.push(if last == 'A' { 'B' } else { 'A' });
        assert_eq!(ring.open("session", &changed), None);
        assert_eq!(ring.open("session", "not a cookie"), None);
    }

    #[test]
    fn files_that_others_read_or_that_are_no_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write(&line('a'), 0o640);
        assert!(Ring::read(&path).is_ok());
        write(&line('a'), 0o644);
        assert!(matches!(Ring::read(&path), Err(RingError::Readable(_))));
        for text in ["", "short", &format!("{0}\n{0}\n{0}", line('a'))] {
            write(text, 0o600);
            assert!(matches!(Ring::read(&path), Err(RingError::Content(_))), "{text}");
        }
        assert!(matches!(Ring::read(Path::new("/nonexistent/keys")), Err(RingError::Read { .. })));
    }
}
