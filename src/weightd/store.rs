//! What survives a restart: per instance and backend, the last accepted and the last desired state.
//!
//! Owns the file's format and its safety: whole or not there, checked when read, never trusted when it is
//! another schema's or another prefix's. Must never decide what a remembered state means.

mod pauses;
mod server_state;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

pub use pauses::{PauseStore, StoredPause};
use serde::{Deserialize, Serialize};
pub use server_state::ServerStateFile;
use weightd_core::stored::Stored;

/// The schema written and read.
const SCHEMA: u32 = 1;

/// Whose state it is. State that was accepted under another key means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
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

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    crc32: u32,
    key: Key,
}

/// Why what lies on disk cannot be used.
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
    /// It is damaged, or of a schema this version cannot read. It was put aside.
    #[error("{path} is {what}; it was renamed to {aside}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// What it is called now.
        aside: PathBuf,
    },
}

/// The file of one instance.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    key: Key,
}

impl Store {
    /// The file for `key` in `folder`. Its name holds the instance, and a sum of the whole key, so that
    /// going back to a former root finds what was accepted under it.
    pub fn new(folder: &Path, key: Key) -> Self {
        let parts =
            [&key.datacenter, &key.namespace, &key.partition].map(|part| part.as_deref().unwrap_or("").to_owned());
        let sum = crc32fast::hash(format!("{parts:?}{:?}{:?}", key.root, key.instance).as_bytes());
        Self { path: folder.join(format!("{}-{sum:08x}.state", key.instance)), key }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; empty where there is none.
    ///
    /// # Errors
    /// [`StoreError`]. Then nothing is known, and nothing is enforced before the first good read of Consul.
    pub fn load(&self) -> Result<Stored, StoreError> {
        let Some(bytes) = read(&self.path)? else { return Ok(Stored::default()) };
        self.parse(&bytes).map_err(|what| put_aside(&self.path, what))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Stored, &'static str> {
        let (header, payload): (Header, _) = split(bytes)?;
        check(payload, header.crc32, header.schema, SCHEMA)?;
        if header.key != self.key {
            return Err("of another prefix");
        }
        serde_json::from_slice(payload).map_err(|_| DAMAGED)
    }

    /// Replaces it in one step: a crash leaves what was there before or what is there now, never a part.
    ///
    /// # Errors
    /// [`StoreError::Write`]; what was there before stays.
    pub fn save(&self, stored: &Stored) -> Result<(), StoreError> {
        self.write(stored).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    /// The error of a write that ended in a panic.
    pub fn interrupted(&self, why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Write { path: self.path.clone(), source: io::Error::other(why.to_string()) }
    }

    fn write(&self, stored: &Stored) -> io::Result<()> {
        let payload = serde_json::to_vec(stored)?;
        let header = Header { schema: SCHEMA, crc32: crc32fast::hash(&payload), key: self.key.clone() };
        replace(&self.path, &serde_json::to_vec(&header)?, &payload)
    }
}

/// Any damage to a file.
const DAMAGED: &str = "damaged";

/// What lies at `path`, if anything does.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

/// Parts a file into its header, the first line, and its payload, which is not yet checked.
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

/// What is wrong with what lies at `path` is told, and it is kept for those who want to look.
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

/// Puts a file in the place of the one at `path` in one step, by way of `temporary` beside it.
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

    fn key(root: &str) -> Key {
        Key { datacenter: None, namespace: None, partition: None, root: root.to_owned(), instance: "edge".to_owned() }
    }

    fn some() -> Stored {
        let weights = [(ServerName::new("blue").unwrap(), Weight::MAX)].into();
        let desired = Desired { weights, force: false, index: 7, by: Some("a".into()), reason: None, at: None };
        let backend = StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false };
        Stored { backends: [(BackendName::new("app").unwrap(), backend)].into() }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), key("a/"));
        assert_eq!(store.load().unwrap(), Stored::default());
        store.save(&some()).unwrap();
        assert_eq!(store.load().unwrap(), some());
        assert_eq!(
            Store::new(folder.path(), key("b/")).load().unwrap(),
            Stored::default(),
            "another root's is another"
        );
    }

    #[test]
    fn any_damage_is_noticed_and_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), key("a/"));
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
    fn a_save_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), key("a/"));
        store.save(&some()).unwrap();
        // A folder in the way of the temporary file: it cannot be written, whoever asks.
        fs::create_dir(store.path().with_extension("new")).unwrap();
        assert!(matches!(store.save(&Stored::default()), Err(StoreError::Write { .. })));
        assert_eq!(store.load().unwrap(), some());
    }
}
