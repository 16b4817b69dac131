//! The state that survives a restart of weightd: for each instance and backend, the last accepted and the last desired
//! document.
//!
//! Owns the format of the files and their integrity. Each file is complete or absent and has a checksum. A file of
//! another schema or another prefix is rejected. This module must not evaluate a stored document.
//!
//! Two files belong together. The state file, in `state_dir`, is written in the background, at most once per second.
//! The [`journal`], in `run_dir`, gets each change before the resulting command is sent to HAProxy. If weightd is
//! killed between the two writes, its next start finds the change in the journal. It therefore never enforces older
//! weights.

pub mod journal;
mod pauses;
mod server_state;

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

pub use journal::Journal;
pub use pauses::{PauseFile, StoredPause};
use serde::{Deserialize, Serialize};
pub use server_state::ServerStateFile;
use weightd_core::stored::Stored;

/// The schema version that weightd writes.
const SCHEMA: u32 = 2;
/// The previous schema version, which weightd still reads. It has no snapshot number.
const PREVIOUS_SCHEMA: u32 = 1;

/// Identifies the owner of a state. A state with another key is not valid here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateKey {
    /// The configured datacenter of Consul.
    pub datacenter: Option<String>,
    /// The configured namespace of Consul.
    pub namespace: Option<String>,
    /// The configured partition of Consul.
    pub partition: Option<String>,
    /// The root of the keys.
    pub root: String,
    /// The name of the HAProxy instance.
    pub instance: String,
}

impl StateKey {
    /// Returns a file name without extension: the name of the instance and a checksum of the whole key. If the root
    /// changes back to an earlier one, weightd finds its old state again.
    pub fn file_stem(&self) -> String {
        let parts =
            [&self.datacenter, &self.namespace, &self.partition].map(|part| part.as_deref().unwrap_or("").to_owned());
        let sum = crc32fast::hash(format!("{parts:?}{:?}{:?}", self.root, self.instance).as_bytes());
        format!("{}-{sum:08x}", self.instance)
    }
}

/// The first line of the state file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    crc32: u32,
    key: StateKey,
    /// The number of this snapshot. The journal refers to it.
    #[serde(default)]
    snapshot: u64,
}

/// The error of a file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {path}")]
    Write {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The content cannot be used: it is damaged, or has another schema or prefix. The file was renamed.
    #[error("{path} {problem}; weightd renamed it to {renamed_to}")]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// The problem, as a clause.
        problem: &'static str,
        /// The new path.
        renamed_to: PathBuf,
    },
}

/// The state file of one instance.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    key: StateKey,
}

/// The content of a state file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The snapshot number; 0 if there is no file.
    pub number: u64,
    /// The stored state.
    pub stored: Stored,
}

impl StateFile {
    /// Creates it for `key` in `folder`.
    pub fn new(folder: &Path, key: StateKey) -> Self {
        Self { path: folder.join(key.file_stem()).with_extension("state"), key }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; empty if it does not exist.
    ///
    /// # Errors
    /// [`StoreError`]. The state is then unknown: weightd enforces nothing before the first successful read of Consul.
    pub fn load(&self) -> Result<Snapshot, StoreError> {
        let Some(bytes) = read(&self.path)? else { return Ok(Snapshot::default()) };
        self.parse(&bytes).map_err(|problem| set_aside(&self.path, problem))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Snapshot, &'static str> {
        let (header, payload): (Header, _) = split(bytes)?;
        let schema = if header.schema == PREVIOUS_SCHEMA { PREVIOUS_SCHEMA } else { SCHEMA };
        check(payload, header.crc32, header.schema, schema)?;
        if header.key != self.key {
            return Err("belongs to another prefix");
        }
        let stored = serde_json::from_slice(payload).map_err(|_| DAMAGED)?;
        Ok(Snapshot { number: header.snapshot, stored })
    }

    /// Replaces the file atomically: after a crash it has the old content or the new one.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the old content stays.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.write(snapshot).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    /// Returns the error for a write that panicked.
    pub fn interrupted(&self, why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Write { path: self.path.clone(), source: io::Error::other(why.to_string()) }
    }

    fn write(&self, snapshot: &Snapshot) -> io::Result<()> {
        let payload = serde_json::to_vec(&snapshot.stored)?;
        let crc32 = crc32fast::hash(&payload);
        let header = Header { schema: SCHEMA, crc32, key: self.key.clone(), snapshot: snapshot.number };
        replace(&self.path, &serde_json::to_vec(&header)?, &payload)
    }
}

/// The problem of a damaged file.
const DAMAGED: &str = "is damaged";

/// Returns the content of the file at `path`; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

/// Splits a file into the header, which is the first line, and the payload. The payload is not checked yet.
fn split<'b, H: Deserialize<'b>>(bytes: &'b [u8]) -> Result<(H, &'b [u8]), &'static str> {
    let end = bytes.iter().position(|b| *b == b'\n').ok_or(DAMAGED)?;
    let header = serde_json::from_slice(&bytes[..end]).map_err(|_| DAMAGED)?;
    Ok((header, &bytes[end + 1..]))
}

/// Checks the schema version and the checksum of a payload.
fn check(payload: &[u8], crc32: u32, schema: u32, expected: u32) -> Result<(), &'static str> {
    if schema != expected {
        return Err("has another schema version");
    }
    if crc32 == crc32fast::hash(payload) { Ok(()) } else { Err(DAMAGED) }
}

/// Renames an unusable file: it stays available for an analysis, and weightd does not read it again.
fn set_aside(path: &Path, problem: &'static str) -> StoreError {
    let mut renamed_to = path.to_owned().into_os_string();
    renamed_to.push(".corrupt");
    let renamed_to = PathBuf::from(renamed_to);
    match fs::rename(path, &renamed_to) {
        Ok(()) => StoreError::Unusable { path: path.to_owned(), problem, renamed_to },
        Err(source) => StoreError::Write { path: renamed_to, source },
    }
}

/// Writes a header and a payload atomically.
fn replace(path: &Path, header: &[u8], payload: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    replace_whole(path, &path.with_extension("new"), &[header, b"\n", payload])
}

/// Replaces the file at `path` atomically, through the file `temporary` in the same directory.
fn replace_whole(path: &Path, temporary: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::File::create(temporary)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weightd_core::{
        desired::Desired,
        model::{BackendName, ServerName, Weight},
        stored::StoredBackend,
    };

    use super::*;

    fn key(root: &str) -> StateKey {
        StateKey {
            datacenter: None,
            namespace: None,
            partition: None,
            root: root.to_owned(),
            instance: "edge".to_owned(),
        }
    }

    fn sample() -> Snapshot {
        let weights = [(ServerName::new("blue").unwrap(), Weight::MAX)].into();
        let desired = Desired { weights, index: 7, by: Some("a".into()), ..Desired::default() };
        let backend =
            StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false, overridden: None };
        Snapshot { number: 5, stored: Stored { backends: [(BackendName::new("app").unwrap(), backend)].into() } }
    }

    #[test]
    fn a_saved_snapshot_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        assert_eq!(file.load().unwrap(), Snapshot::default());
        file.save(&sample()).unwrap();
        assert_eq!(file.load().unwrap(), sample());
        let other = StateFile::new(folder.path(), key("b/"));
        assert_eq!(other.load().unwrap(), Snapshot::default(), "another root has another file");
    }

    #[test]
    fn a_file_of_the_previous_schema_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        file.save(&sample()).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let previous = text.replace("\"schema\":2", "\"schema\":1").replace(",\"snapshot\":5", "");
        assert_ne!(text, previous);
        fs::write(file.path(), previous).unwrap();
        assert_eq!(file.load().unwrap(), Snapshot { number: 0, ..sample() });
    }

    #[test]
    fn any_damage_is_detected_and_the_file_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        file.save(&sample()).unwrap();
        let good = fs::read(file.path()).unwrap();
        let number = good.windows(3).position(|bytes| bytes == b":5}").unwrap() + 1;
        for at in (0..good.len()).filter(|at| *at != number) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(file.path(), &bad).unwrap();
            assert!(matches!(file.load(), Err(StoreError::Unusable { .. })), "byte {at}");
            assert!(!file.path().exists());
        }
        for end in 0..good.len() {
            fs::write(file.path(), &good[..end]).unwrap();
            assert!(matches!(file.load(), Err(StoreError::Unusable { .. })), "cut at {end}");
        }
    }

    #[test]
    fn a_failed_save_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        file.save(&sample()).unwrap();
        // A directory at the path of the temporary file makes the write fail for every user.
        fs::create_dir(file.path().with_extension("new")).unwrap();
        assert!(matches!(file.save(&Snapshot::default()), Err(StoreError::Write { .. })));
        assert_eq!(file.load().unwrap(), sample());
    }
}
