//! Ensures one weightd per HAProxy and one per state directory.
//!
//! Owns the lock files. Must not remove them: between a removal and the next creation, two programs could each lock a
//! different file with the same name. Only the lock on the file has a meaning, and it ends with the process that holds
//! it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// An exclusive lock. Dropping it releases the lock.
#[derive(Debug)]
pub struct Lock {
    /// The kernel releases the lock at the latest when the process ends.
    file: File,
    path: PathBuf,
}

/// The error of taking a lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another weightd{} already uses {what} (lock {})", holder(*.pid), .path.display())]
    Held {
        /// The locked resource: the address of a HAProxy, or a directory.
        what: String,
        /// The path of the lock file.
        path: PathBuf,
        /// The process id of the holder, read from the lock file.
        pid: Option<u32>,
    },
    /// The directory or the file could not be created, opened, locked or written.
    #[error("cannot take the lock {} of {what}", .path.display())]
    Io {
        /// The resource.
        what: String,
        /// The path of the lock file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Maximum number of bytes that are read from a lock file to find its holder.
const MAX_CONTENT: u64 = 4096;

impl Lock {
    /// Takes the lock of the resource `what`, such as the address of a HAProxy, without waiting.
    ///
    /// `what` must have its canonical spelling, as [`crate::haproxy::Address`] displays it: each spelling has its own
    /// lock. A missing `folder` is created.
    ///
    /// # Errors
    /// [`LockError::Held`] if any process holds it, including this one; [`LockError::Io`] if a system call fails.
    pub fn take(folder: &Path, what: &str) -> Result<Self, LockError> {
        // A hash, because an address contains slashes. 32 bits are enough for the few HAProxy instances of a machine.
        Self::take_file(folder, format!("{:08x}.lock", crc32fast::hash(what.as_bytes())), what)
    }

    /// Takes the lock of a directory, without waiting. A missing directory is created.
    ///
    /// # Errors
    /// The same as [`Lock::take`].
    pub fn take_directory(folder: &Path) -> Result<Self, LockError> {
        Self::take_file(folder, "lock".to_owned(), &folder.display().to_string())
    }

    fn take_file(folder: &Path, name: String, what: &str) -> Result<Self, LockError> {
        let path = folder.join(name);
        let failed = |source| LockError::Io { what: what.to_owned(), path: path.clone(), source };

        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = pid_in(&file);
                return Err(LockError::Held { what: what.to_owned(), path, pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Information for operators and for the message above. It has no effect on the lock.
        let content = format!("{}\n{what}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        file.write_all(content.as_bytes()).map_err(failed)?;
        Ok(Self { file, path })
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a forked process holds the file until it executes its program. If the unlock fails,
        // the end of the process releases the lock.
        let _ = self.file.unlock();
    }
}

fn pid_in(file: &File) -> Option<u32> {
    let mut content = String::new();
    file.take(MAX_CONTENT).read_to_string(&mut content).ok()?;
    content.lines().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ADDRESS: &str = "unix:/run/haproxy/admin.sock";

    #[test]
    fn a_second_lock_of_the_same_address_fails_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path(), ADDRESS).unwrap();
        let error = Lock::take(dir.path(), ADDRESS).unwrap_err();
        let LockError::Held { what, path, pid } = &error else { panic!("{error:?}") };
        assert_eq!((what.as_str(), path.as_path(), *pid), (ADDRESS, lock.path(), Some(std::process::id())), "{error}");
        assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    #[test]
    fn another_address_is_another_lock() {
        let dir = tempfile::tempdir().unwrap();
        let _one = Lock::take(dir.path(), ADDRESS).unwrap();
        let _two = Lock::take(dir.path(), "tcp:127.0.0.1:9999").unwrap();
    }

    #[test]
    fn a_dropped_lock_can_be_taken_again_and_its_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = Lock::take(dir.path(), ADDRESS).unwrap().path().to_owned();
        // Longer content of a previous holder is removed.
        std::fs::write(&path, "4294967295\nx\n".repeat(20)).unwrap();
        let _again = Lock::take(dir.path(), ADDRESS).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n{ADDRESS}\n", std::process::id()));
    }

    #[test]
    fn a_dropped_lock_is_free_even_if_a_fork_still_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path(), ADDRESS).unwrap();
        let _forked = lock.file.try_clone().unwrap();
        drop(lock);
        Lock::take(dir.path(), ADDRESS).unwrap();
    }

    #[test]
    fn the_directory_is_created_and_only_the_owner_can_read_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("a/b");
        let lock = Lock::take(&run_dir, ADDRESS).unwrap();
        assert_eq!(lock.path().parent(), Some(run_dir.as_path()));
        assert_eq!(lock.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_impossible_directory_is_an_error_with_its_cause() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Lock::take(&file, ADDRESS).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
