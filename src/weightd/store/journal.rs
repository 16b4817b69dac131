//! The journal of one instance: the changes since the last write of the state file.
//!
//! The journal is in `run_dir`, which is in memory on most systems. A write takes microseconds there, and a disk that
//! hangs does not block it. The journal must survive the end of weightd, but not a reboot: HAProxy restarts with the
//! machine as well.
//!
//! ```text
//! {"schema":1,"key":{…},"base":4}          the next lines changed after snapshot 4
//! 1a2b3c4d {"backend":"app","stored":{…}}
//! 5e6f7a8b {"snapshot":5}                  the next lines changed after snapshot 5, which may be on disk already
//! 9c0d1e2f {"backend":"app","stored":null}
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use weightd_core::{
    model::BackendName,
    stored::{Stored, StoredBackend},
};

use super::{StateKey, StoreError, read, split};

/// The schema version.
const SCHEMA: u32 = 1;
/// Maximum size in bytes. A larger journal is rewritten with only the current state. It grows while the state file
/// cannot be written.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    key: StateKey,
    base: u64,
}

/// Any line after the first one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    /// A backend has a new stored form; `None` if it is no longer managed.
    Backend { backend: BackendName, stored: Option<StoredBackend> },
    /// The write of a snapshot with all lines before this one started.
    Snapshot { snapshot: u64 },
}

/// The journal of one instance.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    key: StateKey,
    /// The open file; `None` before the first write.
    file: Option<File>,
    /// The number of the last started snapshot.
    snapshot: u64,
    bytes: u64,
}

impl Journal {
    /// Creates the journal for `key` in `folder`. It reads and writes nothing.
    pub fn new(folder: &Path, key: StateKey) -> Self {
        Self { path: folder.join(key.file_stem()).with_extension("journal"), key, file: None, snapshot: 0, bytes: 0 }
    }

    /// Returns the path of the journal.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Applies the changes after snapshot `number` to `stored`, and starts a new journal with them.
    ///
    /// A journal of another snapshot is out of date and is ignored. An incomplete line and all lines after it are
    /// ignored: weightd was killed during that write, before it sent a command.
    ///
    /// # Errors
    /// [`StoreError`] if the journal cannot be read or written.
    pub fn replay(&mut self, number: u64, stored: &mut Stored) -> Result<(), StoreError> {
        self.snapshot = number;
        let bytes = read(&self.path)?.unwrap_or_default();
        let replayed = self.changes_after(&bytes, number);
        for (backend, changed) in &replayed {
            match changed {
                Some(changed) => drop(stored.backends.insert(backend.clone(), changed.clone())),
                None => drop(stored.backends.remove(backend)),
            }
        }
        let written = self.rewrite(replayed).map_err(|source| self.failed(source));
        // The state file does not have the replayed changes yet.
        written.map(drop)
    }

    /// Returns the last stored form of each backend that changed after snapshot `number`.
    fn changes_after(&self, bytes: &[u8], number: u64) -> BTreeMap<BackendName, Option<StoredBackend>> {
        let mut changed = BTreeMap::new();
        let Ok((header, lines)) = split::<Header>(bytes) else { return changed };
        if header.schema != SCHEMA || header.key != self.key {
            return changed;
        }
        let mut follows = header.base == number;
        for record in lines.split_inclusive(|byte| *byte == b'\n').map_while(parse_record) {
            match record {
                Record::Snapshot { snapshot } if snapshot == number => {
                    follows = true;
                    changed.clear();
                }
                Record::Snapshot { .. } => {}
                Record::Backend { backend, stored } => drop(changed.insert(backend, stored)),
            }
        }
        if !follows {
            changed.clear();
        }
        changed
    }

    /// Appends changes. After it returns, a weightd that is killed finds them at its next start.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the changes are then only in the next state file.
    pub fn append(
        &mut self,
        changed: impl IntoIterator<Item = (BackendName, Option<StoredBackend>)>,
    ) -> Result<(), StoreError> {
        let records = changed.into_iter().map(|(backend, stored)| Record::Backend { backend, stored });
        self.write(records).map_err(|source| self.failed(source))
    }

    /// Marks the start of the write of a snapshot with all changes so far. Returns its number.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn start_snapshot(&mut self) -> Result<u64, StoreError> {
        self.snapshot += 1;
        let snapshot = self.snapshot;
        self.write([Record::Snapshot { snapshot }]).map_err(|source| self.failed(source))?;
        Ok(snapshot)
    }

    /// Whether the journal is so large that it needs a [`Journal::restart`].
    pub fn is_too_large(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    /// Truncates the journal. `stored` becomes its content; use `None` if the last snapshot has all changes.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the old journal stays valid.
    pub fn restart(&mut self, stored: Option<Stored>) -> Result<(), StoreError> {
        let stored = stored.map(|stored| stored.backends).unwrap_or_default();
        let all = stored.into_iter().map(|(backend, stored)| (backend, Some(stored)));
        self.rewrite(all).map_err(|source| self.failed(source))
    }

    fn rewrite(&mut self, changed: impl IntoIterator<Item = (BackendName, Option<StoredBackend>)>) -> io::Result<()> {
        let header = Header { schema: SCHEMA, key: self.key.clone(), base: self.snapshot };
        let mut text = serde_json::to_vec(&header)?;
        text.push(b'\n');
        for (backend, stored) in changed {
            append_record(&mut text, &Record::Backend { backend, stored })?;
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let temporary = self.path.with_extension("journal.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        fs::rename(&temporary, &self.path)?;
        self.bytes = text.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, records: impl IntoIterator<Item = Record>) -> io::Result<()> {
        let mut text = Vec::new();
        for record in records {
            append_record(&mut text, &record)?;
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the journal was not opened"))?;
        // One system call: the write is complete, or the process was killed before it sent a command.
        file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Write { path: self.path.clone(), source }
    }
}

/// Appends one line for a record: checksum and JSON.
fn append_record(text: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    let at = text.len();
    text.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *text, record)?;
    let sum = format!("{:08x}", crc32fast::hash(&text[at + 9..]));
    text[at..at + 8].copy_from_slice(sum.as_bytes());
    text.push(b'\n');
    Ok(())
}

/// Parses a line; `None` if it is incomplete or damaged.
fn parse_record(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = line.split_at_checked(9)?;
    let complete = sum == format!("{:08x} ", crc32fast::hash(json)).as_bytes();
    if complete { serde_json::from_slice(json).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weightd_core::{
        desired::Desired,
        model::{ServerName, Weight},
    };

    use super::*;

    fn key(root: &str) -> StateKey {
        StateKey { datacenter: None, namespace: None, partition: None, root: root.to_owned(), instance: "edge".into() }
    }

    fn change(backend: &str, index: u64) -> (BackendName, Option<StoredBackend>) {
        let weights = [(ServerName::new("blue").unwrap(), Weight::MAX)].into();
        let desired = Desired { weights, index, ..Desired::default() };
        let stored =
            StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false, overridden: None };
        (BackendName::new(backend).unwrap(), Some(stored))
    }

    fn removed(backend: &str) -> (BackendName, Option<StoredBackend>) {
        (BackendName::new(backend).unwrap(), None)
    }

    /// Returns backend and index of all changes that a start finds, with an empty snapshot `number`.
    fn find(folder: &Path, root: &str, number: u64) -> Vec<(String, u64)> {
        let mut stored = Stored::default();
        Journal::new(folder, key(root)).replay(number, &mut stored).unwrap();
        let index = |stored: StoredBackend| stored.accepted.map_or(0, |accepted| accepted.index);
        stored.backends.into_iter().map(|(name, stored)| (name.to_string(), index(stored))).collect()
    }

    fn started(folder: &Path) -> Journal {
        let mut journal = Journal::new(folder, key("a/"));
        journal.replay(0, &mut Stored::default()).unwrap();
        journal
    }

    #[test]
    fn each_start_finds_the_last_change_of_each_backend() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = started(folder.path());
        journal.append([change("app", 1), change("other", 2)]).unwrap();
        journal.append([change("app", 3), removed("other"), change("third", 4)]).unwrap();
        for _ in 0..2 {
            assert_eq!(find(folder.path(), "a/", 0), [("app".to_owned(), 3), ("third".to_owned(), 4)]);
        }
        assert_eq!(find(folder.path(), "b/", 0), [], "another root has its own journal");
    }

    #[test]
    fn the_journal_fits_the_newest_snapshot_and_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = started(folder.path());
        journal.append([change("app", 1)]).unwrap();
        assert_eq!(journal.start_snapshot().unwrap(), 1);
        journal.append([change("other", 2)]).unwrap();
        let bytes = fs::read(journal.path()).unwrap();
        let with = |number| {
            fs::write(journal.path(), &bytes).unwrap();
            find(folder.path(), "a/", number)
        };
        assert_eq!(with(0), [("app".to_owned(), 1), ("other".to_owned(), 2)], "the snapshot was not written");
        assert_eq!(with(1), [("other".to_owned(), 2)], "the snapshot was written");
        assert_eq!(with(7), [], "a journal of an unrelated snapshot");
        journal.restart(None).unwrap();
        assert_eq!(find(folder.path(), "a/", 1), []);
    }

    #[test]
    fn an_incomplete_or_damaged_line_ends_the_replay() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = started(folder.path());
        journal.append([change("app", 1)]).unwrap();
        let complete = fs::read(journal.path()).unwrap();
        journal.append([change("app", 2)]).unwrap();
        let bytes = fs::read(journal.path()).unwrap();
        for end in complete.len()..bytes.len() {
            fs::write(journal.path(), &bytes[..end]).unwrap();
            assert_eq!(find(folder.path(), "a/", 0), [("app".to_owned(), 1)], "cut at {end}");
        }
        for at in complete.len()..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            fs::write(journal.path(), &bad).unwrap();
            assert_eq!(find(folder.path(), "a/", 0), [("app".to_owned(), 1)], "byte {at}");
        }
    }

    #[test]
    fn a_restart_bounds_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = started(folder.path());
        let mut changes = 0;
        while !journal.is_too_large() {
            changes += 1;
            journal.append((0..1000).map(|_| change("app", changes))).unwrap();
        }
        let (backend, stored) = change("app", changes);
        journal.restart(Some(Stored { backends: [(backend, stored.unwrap())].into() })).unwrap();
        assert!(!journal.is_too_large() && fs::metadata(journal.path()).unwrap().len() < 1000);
        journal.append([change("other", 9)]).unwrap();
        assert_eq!(find(folder.path(), "a/", 0), [("app".to_owned(), changes), ("other".to_owned(), 9)]);
    }
}
