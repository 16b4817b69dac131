//! The pauses of a node: one small file beside the state, so that a restart of weightd does not end them.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use weightd_core::model::BackendName;

use super::{DAMAGED, StoreError, check, put_aside, read, replace, split};

/// The schema written and read.
const SCHEMA: u32 = 1;
/// The name of the file. The name of a state file has another ending.
const FILE: &str = "pauses.json";

/// One pause. Its end is wall-clock time, because nothing else survives a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPause {
    /// The name of the HAProxy instance.
    pub instance: String,
    /// The backend; all of them if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// When it ends, in seconds since 1970.
    pub until: i64,
    /// How many seconds were left when this was written. It never lasts longer, whatever the wall clock does.
    pub left_seconds: u64,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who, as the person says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Who, as the kernel says.
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

/// The file.
#[derive(Debug, Clone)]
pub struct PauseFile {
    path: PathBuf,
}

impl PauseFile {
    /// The file in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; empty where there is none.
    ///
    /// # Errors
    /// [`StoreError`]. Then nothing is paused.
    pub fn load(&self) -> Result<Vec<StoredPause>, StoreError> {
        let Some(bytes) = read(&self.path)? else { return Ok(Vec::new()) };
        parse(&bytes).map_err(|what| put_aside(&self.path, what))
    }

    /// Replaces it in one step.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the former content stays.
    pub fn save(&self, pauses: &[StoredPause]) -> Result<(), StoreError> {
        self.write(pauses).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    /// The error of a write that ended in a panic.
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

    fn some() -> Vec<StoredPause> {
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
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let store = PauseFile::new(&folder.path().join("state"));
        assert_eq!(store.load().unwrap(), []);
        store.save(&some()).unwrap();
        assert_eq!(store.load().unwrap(), some());
        store.save(&[]).unwrap();
        assert_eq!(store.load().unwrap(), []);
    }

    #[test]
    fn any_damage_is_noticed_and_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = PauseFile::new(folder.path());
        store.save(&some()).unwrap();
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
    fn a_save_that_fails_leaves_the_former_content() {
        let folder = tempfile::tempdir().unwrap();
        let store = PauseFile::new(folder.path());
        store.save(&some()).unwrap();
        fs::create_dir(store.path().with_extension("new")).unwrap();
        assert!(matches!(store.save(&some()[..1]), Err(StoreError::Write { .. })));
        assert_eq!(store.load().unwrap(), some());
    }
}
