//! Writes the server-state file of HAProxy. [`crate::haproxy::state_file`] creates its content.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{StoreError, replace_whole};

/// Every user may read the file, because HAProxy can run as any user. Only weightd writes it. It has no more data than
/// `show servers state`.
const MODE: u32 = 0o644;

/// The server-state file of one instance.
#[derive(Debug, Clone)]
pub struct ServerStateFile {
    path: PathBuf,
    temporary: PathBuf,
    /// The file with the id of the HAProxy process that the last write was for.
    process: PathBuf,
}

impl ServerStateFile {
    /// Creates it for `path`. The directory must exist: weightd creates no directory outside its own ones. The file
    /// `process` stores the id of the HAProxy process over restarts of weightd.
    pub fn new(path: PathBuf, process: PathBuf) -> Self {
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        Self { path, temporary: temporary.into(), process }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file atomically for the HAProxy process `pid`, unless the content is unchanged.
    ///
    /// If the file was written for this process and is missing now, an operator removed it. HAProxy should then start
    /// without it, for example after an edit of a port. The file stays absent until the next process.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the old content stays.
    pub fn save(&self, text: &str, pid: u32) -> Result<(), StoreError> {
        let failed = |path: &Path, source| StoreError::Write { path: path.to_owned(), source };
        // This read is cheap, because the file is normally in the page cache.
        match fs::read(&self.path) {
            Ok(bytes) if bytes == text.as_bytes() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.was_written_for(pid) => return Ok(()),
            _ => self.write(text).map_err(|source| failed(&self.path, source))?,
        }
        if self.was_written_for(pid) {
            return Ok(());
        }
        fs::write(&self.process, pid.to_string()).map_err(|source| failed(&self.process, source))
    }

    fn was_written_for(&self, pid: u32) -> bool {
        fs::read_to_string(&self.process).is_ok_and(|text| text.parse() == Ok(pid))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        fs::File::create(&self.temporary)?.set_permissions(fs::Permissions::from_mode(MODE))?;
        replace_whole(&self.path, &self.temporary, &[text.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir) -> ServerStateFile {
        ServerStateFile::new(folder.path().join("server-state"), folder.path().join("edge.pid"))
    }

    #[test]
    fn the_file_is_replaced_atomically_only_if_it_differs_and_all_users_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        file.save("one\n", 7).unwrap();
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(file.path()).unwrap());
        let before = inode();
        file.save("one\n", 7).unwrap();
        assert_eq!(inode(), before, "nothing was written");
        file.save("two\n", 7).unwrap();
        assert_ne!(inode(), before, "another file took its place");
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "two\n");
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_an_operator_removed_stays_absent_until_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        file(&folder).save("one\n", 7).unwrap();
        fs::remove_file(file(&folder).path()).unwrap();
        file(&folder).save("two\n", 7).unwrap();
        assert!(!file(&folder).path().exists(), "also after a restart of weightd");
        file(&folder).save("two\n", 8).unwrap();
        assert_eq!(fs::read_to_string(file(&folder).path()).unwrap(), "two\n");
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/server-state");
        let error = ServerStateFile::new(path.clone(), folder.path().join("pid")).save("one\n", 7).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!folder.path().join("missing").exists());
    }
}
