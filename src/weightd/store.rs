//! What survives a restart of weightd: per instance and backend, the last accepted and the last desired document.
//!
//! Owns the format of the files and their safety: each is whole or absent, is checked when it is read, and is never trusted
//! when it belongs to another schema or another prefix. Must never decide what a remembered document means.
//!
//! Two files belong together. The state file, in `state_dir`, is written in the background, at most once a second. The
//! [`journal`], in `run_dir`, gets each change before the command that it causes is sent to HAProxy. A weightd that is
//! killed between the two finds the change there, so that its next start never enforces older weights.

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

/// The schema that is written.
const SCHEMA: u32 = 2;
/// The schema before it, which is read as well: without the number of the snapshot.
const FORMER_SCHEMA: u32 = 1;

/// Whose state it is. State that was accepted under another key means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateKey {
    /// Consul's datacenter, if one is configured.
    pub datacenter: Option<String>,
    /// Consul's namespace, if one is configured.
    pub namespace: Option<String>,
    /// Consul's partition, if one is configured.
    pub partition: Option<String>,
    /// The root of the keys.
    pub root: String,
    /// The name of the HAProxy instance.
    pub instance: String,
}

impl StateKey {
    /// The name of a file for it, without its ending: the instance, and a checksum of the whole key, so that a return to a
    /// former root finds what was accepted under it.
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
    /// The number of this snapshot, which the journal refers to.
    #[serde(default)]
    snapshot: u64,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system does not let it be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system does not let it be written.
    #[error("{path} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is damaged, or of a schema that this version cannot read. It was put aside.
    #[error("{path} is {what}; it was renamed to {aside}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// Its new name.
        aside: PathBuf,
    },
}

/// The state file of one instance.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    key: StateKey,
}

/// What a state file held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number; 0 where there was no file.
    pub number: u64,
    /// Its content.
    pub stored: Stored,
}

impl StateFile {
    /// The file for `key` in `folder`.
    pub fn new(folder: &Path, key: StateKey) -> Self {
        Self { path: folder.join(key.file_stem()).with_extension("state"), key }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; empty where there is none.
    ///
    /// # Errors
    /// [`StoreError`]. Then nothing is known, and nothing is enforced before the first good read of Consul.
    pub fn load(&self) -> Result<Snapshot, StoreError> {
        let Some(bytes) = read(&self.path)? else { return Ok(Snapshot::default()) };
        self.parse(&bytes).map_err(|what| put_aside(&self.path, what))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Snapshot, &'static str> {
        let (header, payload): (Header, _) = split(bytes)?;
        let schema = if header.schema == FORMER_SCHEMA { FORMER_SCHEMA } else { SCHEMA };
        check(payload, header.crc32, header.schema, schema)?;
        if header.key != self.key {
            return Err("of another prefix");
        }
        let stored = serde_json::from_slice(payload).map_err(|_| DAMAGED)?;
        Ok(Snapshot { number: header.snapshot, stored })
    }

    /// Replaces it in one step: a crash leaves the former content or the new one, never a part.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the former content stays.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.write(snapshot).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    /// The error of a write that ended in a panic.
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

/// Any damage to a file.
const DAMAGED: &str = "damaged";

/// The content of the file at `path`, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

/// Splits a file into its header, the first line, and its payload, which is not checked yet.
fn split<'b, H: Deserialize<'b>>(bytes: &'b [u8]) -> Result<(H, &'b [u8]), &'static str> {
    let end = bytes.iter().position(|b| *b == b'\n').ok_or(DAMAGED)?;
    let header = serde_json::from_slice(&bytes[..end]).map_err(|_| DAMAGED)?;
    Ok((header, &bytes[end + 1..]))
}

/// Whether a payload is of the schema that is read, and whole.
fn check(payload: &[u8], crc32: u32, schema: u32, wanted: u32) -> Result<(), &'static str> {
    if schema != wanted {
        return Err("of another schema");
    }
    if crc32 == crc32fast::hash(payload) { Ok(()) } else { Err(DAMAGED) }
}

/// Renames an unusable file, so that it is kept for people and not read again.
fn put_aside(path: &Path, what: &'static str) -> StoreError {
    let mut aside = path.to_owned().into_os_string();
    aside.push(".corrupt");
    let aside = PathBuf::from(aside);
    match fs::rename(path, &aside) {
        Ok(()) => StoreError::Unusable { path: path.to_owned(), what, aside },
        Err(source) => StoreError::Write { path: aside, source },
    }
}

/// Writes a header and a payload in one step.
fn replace(path: &Path, header: &[u8], payload: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    replace_whole(path, &path.with_extension("new"), &[header, b"\n", payload])
}

/// Replaces the file at `path` in one step, by way of `temporary` beside it.
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

    fn some() -> Snapshot {
        let weights = [(ServerName::new("blue").unwrap(), Weight::MAX)].into();
        let desired =
            Desired { weights, force: false, index: 7, by: Some("a".into()), reason: None, at: None, back: None };
        let backend = StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false };
        Snapshot { number: 5, stored: Stored { backends: [(BackendName::new("app").unwrap(), backend)].into() } }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        assert_eq!(file.load().unwrap(), Snapshot::default());
        file.save(&some()).unwrap();
        assert_eq!(file.load().unwrap(), some());
        let other = StateFile::new(folder.path(), key("b/"));
        assert_eq!(other.load().unwrap(), Snapshot::default(), "another root has another file");
    }

    #[test]
    fn a_file_of_the_former_schema_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        file.save(&some()).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let former = text.replace("\"schema\":2", "\"schema\":1").replace(",\"snapshot\":5", "");
        assert_ne!(text, former);
        fs::write(file.path(), former).unwrap();
        assert_eq!(file.load().unwrap(), Snapshot { number: 0, ..some() });
    }

    #[test]
    fn any_damage_is_noticed_and_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        file.save(&some()).unwrap();
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
    fn a_save_that_fails_leaves_the_former_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), key("a/"));
        file.save(&some()).unwrap();
        // A folder in place of the temporary file: it cannot be written, whoever asks.
        fs::create_dir(file.path().with_extension("new")).unwrap();
        assert!(matches!(file.save(&Snapshot::default()), Err(StoreError::Write { .. })));
        assert_eq!(file.load().unwrap(), some());
    }
}
