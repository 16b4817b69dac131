//! The journal of one instance: what changed since the state file was written.
//!
//! It lies in `run_dir`, which is memory on most systems, so that a write takes microseconds and a disk that hangs stops
//! nothing. It has to survive the end of weightd, not that of the machine: after that, HAProxy starts anew as well.
//!
//! ```text
//! {"schema":1,"key":{…},"base":4}          what follows was changed after snapshot 4
//! 1a2b3c4d {"backend":"app","stored":{…}}
//! 5e6f7a8b {"snapshot":5}                  what follows was changed after snapshot 5, which may be on disk by now
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

/// The schema that is written and read.
const SCHEMA: u32 = 1;
/// Above this size the journal is rewritten with what is in force: it grows while the state file cannot be written.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    key: StateKey,
    base: u64,
}

/// A line after it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    /// A backend has another stored form; none if it is not managed any more.
    Backend { backend: BackendName, stored: Option<StoredBackend> },
    /// A snapshot of everything before this line is being written to the state file.
    Snapshot { snapshot: u64 },
}

/// The journal of one instance.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    key: StateKey,
    /// Open once it was written.
    file: Option<File>,
    /// The last snapshot that was begun.
    snapshot: u64,
    bytes: u64,
}

impl Journal {
    /// The journal for `key` in `folder`. Nothing is read or written yet.
    pub fn new(folder: &Path, key: StateKey) -> Self {
        Self { path: folder.join(key.file_stem()).with_extension("journal"), key, file: None, snapshot: 0, bytes: 0 }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Applies what changed after snapshot `number`, which is in `stored`. The journal goes on from there.
    ///
    /// A journal that belongs to another snapshot is out of date, and is ignored; so is a line that is not whole, and all
    /// after it: weightd was killed while it wrote it, before it sent anything.
    ///
    /// # Errors
    /// [`StoreError`] if the journal cannot be read or begun.
    pub fn replay(&mut self, number: u64, stored: &mut Stored) -> Result<(), StoreError> {
        self.snapshot = number;
        let bytes = read(&self.path)?.unwrap_or_default();
        let after = self.after(&bytes, number);
        for (backend, changed) in &after {
            match changed {
                Some(changed) => drop(stored.backends.insert(backend.clone(), changed.clone())),
                None => drop(stored.backends.remove(backend)),
            }
        }
        let written = self.rewrite(after).map_err(|source| self.failed(source));
        // What was replayed is not in the state file yet.
        written.map(drop)
    }

    /// The last stored form of each backend that changed after snapshot `number`.
    fn after(&self, bytes: &[u8], number: u64) -> BTreeMap<BackendName, Option<StoredBackend>> {
        let mut changed = BTreeMap::new();
        let Ok((header, lines)) = split::<Header>(bytes) else { return changed };
        if header.schema != SCHEMA || header.key != self.key {
            return changed;
        }
        let mut follows = header.base == number;
        for record in lines.split_inclusive(|byte| *byte == b'\n').map_while(parse) {
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

    /// Adds what changed. When this returns, a weightd that is killed finds it again.
    ///
    /// # Errors
    /// [`StoreError::Write`]; then it is only in the next state file.
    pub fn append(
        &mut self,
        changed: impl IntoIterator<Item = (BackendName, Option<StoredBackend>)>,
    ) -> Result<(), StoreError> {
        let records = changed.into_iter().map(|(backend, stored)| Record::Backend { backend, stored });
        self.write(records).map_err(|source| self.failed(source))
    }

    /// A snapshot of all that was added until now is about to be written to the state file. Returns its number.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn begin_snapshot(&mut self) -> Result<u64, StoreError> {
        self.snapshot += 1;
        let snapshot = self.snapshot;
        self.write([Record::Snapshot { snapshot }]).map_err(|source| self.failed(source))?;
        Ok(snapshot)
    }

    /// Whether it has grown so large that [`Journal::restart`] is due.
    pub fn is_too_large(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    /// Begins anew after the last snapshot was written, with what changed since it began: all of `stored`, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the former journal stays, and is still right.
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
            line(&mut text, &Record::Backend { backend, stored })?;
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
            line(&mut text, &record)?;
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("it was never begun"))?;
        // One write: it is whole, or the process was killed before it sent anything.
        file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Write { path: self.path.clone(), source }
    }
}

/// Appends a record: its checksum, and its JSON.
fn line(text: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    let at = text.len();
    text.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *text, record)?;
    let sum = format!("{:08x}", crc32fast::hash(&text[at + 9..]));
    text[at..at + 8].copy_from_slice(sum.as_bytes());
    text.push(b'\n');
    Ok(())
}

/// A record, if its line is whole.
fn parse(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = line.split_at_checked(9)?;
    let whole = sum == format!("{:08x} ", crc32fast::hash(json)).as_bytes();
    if whole { serde_json::from_slice(json).ok() } else { None }
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
        let desired = Desired { weights, force: false, index, by: None, reason: None, at: None, back: None };
        let stored = StoredBackend { accepted: Some(Arc::new(desired)), pending: None, guarded: false };
        (BackendName::new(backend).unwrap(), Some(stored))
    }

    fn gone(backend: &str) -> (BackendName, Option<StoredBackend>) {
        (BackendName::new(backend).unwrap(), None)
    }

    /// The indexes of what a start finds that read snapshot `number`, which is empty.
    fn found(folder: &Path, root: &str, number: u64) -> Vec<(String, u64)> {
        let mut stored = Stored::default();
        Journal::new(folder, key(root)).replay(number, &mut stored).unwrap();
        let index = |stored: StoredBackend| stored.accepted.map_or(0, |accepted| accepted.index);
        stored.backends.into_iter().map(|(name, stored)| (name.to_string(), index(stored))).collect()
    }

    fn begun(folder: &Path) -> Journal {
        let mut journal = Journal::new(folder, key("a/"));
        journal.replay(0, &mut Stored::default()).unwrap();
        journal
    }

    #[test]
    fn a_start_finds_the_last_of_each_backend_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = begun(folder.path());
        journal.append([change("app", 1), change("other", 2)]).unwrap();
        journal.append([change("app", 3), gone("other"), change("third", 4)]).unwrap();
        for _ in 0..2 {
            assert_eq!(found(folder.path(), "a/", 0), [("app".to_owned(), 3), ("third".to_owned(), 4)]);
        }
        assert_eq!(found(folder.path(), "b/", 0), [], "another root's is another");
    }

    #[test]
    fn it_belongs_to_the_snapshot_on_disk_whether_the_newest_or_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = begun(folder.path());
        journal.append([change("app", 1)]).unwrap();
        assert_eq!(journal.begin_snapshot().unwrap(), 1);
        journal.append([change("other", 2)]).unwrap();
        let bytes = fs::read(journal.path()).unwrap();
        let with = |number| {
            fs::write(journal.path(), &bytes).unwrap();
            found(folder.path(), "a/", number)
        };
        assert_eq!(with(0), [("app".to_owned(), 1), ("other".to_owned(), 2)], "the snapshot was not written");
        assert_eq!(with(1), [("other".to_owned(), 2)], "it was");
        assert_eq!(with(7), [], "of another life");
        journal.restart(None).unwrap();
        assert_eq!(found(folder.path(), "a/", 1), []);
    }

    #[test]
    fn a_line_that_is_not_whole_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = begun(folder.path());
        journal.append([change("app", 1)]).unwrap();
        let whole = fs::read(journal.path()).unwrap();
        journal.append([change("app", 2)]).unwrap();
        let bytes = fs::read(journal.path()).unwrap();
        for end in whole.len()..bytes.len() {
            fs::write(journal.path(), &bytes[..end]).unwrap();
            assert_eq!(found(folder.path(), "a/", 0), [("app".to_owned(), 1)], "cut at {end}");
        }
        for at in whole.len()..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            fs::write(journal.path(), &bad).unwrap();
            assert_eq!(found(folder.path(), "a/", 0), [("app".to_owned(), 1)], "byte {at}");
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = begun(folder.path());
        let mut changes = 0;
        while !journal.is_too_large() {
            changes += 1;
            journal.append((0..1000).map(|_| change("app", changes))).unwrap();
        }
        let (backend, stored) = change("app", changes);
        journal.restart(Some(Stored { backends: [(backend, stored.unwrap())].into() })).unwrap();
        assert!(!journal.is_too_large() && fs::metadata(journal.path()).unwrap().len() < 1000);
        journal.append([change("other", 9)]).unwrap();
        assert_eq!(found(folder.path(), "a/", 0), [("app".to_owned(), changes), ("other".to_owned(), 9)]);
    }
}
