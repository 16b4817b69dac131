//! The file of the pauses of a node, in the state directory, so that pauses survive a restart of weightd.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use weightd_core::model::BackendName;

use super::{DAMAGED, StoreError, check, read, replace, set_aside, split};

/// The schema version.
const SCHEMA: u32 = 1;
/// The file name. It differs from the names of state files, which have another extension.
const FILE: &str = "pauses.json";

/// One pause. Its end is wall-clock time, because no other clock survives a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPause {
    /// The name of the HAProxy instance.
    pub instance: String,
    /// The backend; `None` means all backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// End of the pause, in seconds since 1970.
    pub until: i64,
    /// Remaining seconds at the time of the write. The pause never lasts longer, even if the wall clock jumps.
    pub left_seconds: u64,
    /// The reason given by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The name given by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The user id reported by the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    crc32: u32,
}

/// The file of the pauses.
#[derive(Debug, Clone)]
pub struct PauseFile {
    path: PathBuf,
}

impl PauseFile {
    /// Creates it for `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE) }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; empty if it does not exist.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is then paused.
    pub fn load(&self) -> Result<Vec<StoredPause>, StoreError> {
        let Some(bytes) = read(&self.path)? else { return Ok(Vec::new()) };
        parse(&bytes).map_err(|problem| set_aside(&self.path, problem))
    }

    /// Replaces the file atomically.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the old content stays.
    pub fn save(&self, pauses: &[StoredPause]) -> Result<(), StoreError> {
        self.write(pauses).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    /// Returns the error for a write that panicked.
    pub fn interrupted(&self, why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Write { path: self.path.clone(), source: io::Error::other(why.to_string()) }
    }

    fn write(&self, pauses: &[StoredPause]) -> io::Result<()> {
        let payload = serde_json::to_vec(pauses)?;
        let header = Header { schema: SCHEMA, crc32: crc32fast::hash(&payload) };
        replace(&self.path, &serde_json::to_vec(&header)?, &payload)
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<StoredPause>, &'static str> {
    let (header, payload): (Header, _) = split(bytes)?;
    check(payload, header.crc32, header.schema, SCHEMA)?;
    serde_json::from_slice(payload).map_err(|_| DAMAGED)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sample() -> Vec<StoredPause> {
        let pause = StoredPause {
            instance: "edge".into(),
            backend: Some(BackendName::new("app").unwrap()),
            until: 1_800_000_000,
            left_seconds: 60,
            reason: Some("r".into()),
            by: Some("alice".into()),
            uid: Some(7),
        };
        vec![StoredPause { backend: None, reason: None, by: None, uid: None, ..pause.clone() }, pause]
    }

    #[test]
    fn saved_pauses_are_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let store = PauseFile::new(&folder.path().join("state"));
        assert_eq!(store.load().unwrap(), []);
        store.save(&sample()).unwrap();
        assert_eq!(store.load().unwrap(), sample());
        store.save(&[]).unwrap();
        assert_eq!(store.load().unwrap(), []);
    }

    #[test]
    fn any_damage_is_detected_and_the_file_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let store = PauseFile::new(folder.path());
        store.save(&sample()).unwrap();
        let good = fs::read(store.path()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(store.path(), &bad).unwrap();
            assert!(matches!(store.load(), Err(StoreError::Unusable { .. })), "byte {at}");
            assert!(!store.path().exists());
        }
        for end in 0..good.len() {
            fs::write(store.path(), &good[..end]).unwrap();
            assert!(matches!(store.load(), Err(StoreError::Unusable { .. })), "cut at {end}");
        }
    }

    #[test]
    fn a_failed_save_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let store = PauseFile::new(folder.path());
        store.save(&sample()).unwrap();
        fs::create_dir(store.path().with_extension("new")).unwrap();
        assert!(matches!(store.save(&sample()[..1]), Err(StoreError::Write { .. })));
        assert_eq!(store.load().unwrap(), sample());
    }
}
