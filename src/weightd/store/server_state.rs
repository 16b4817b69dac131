//! HAProxy's server-state file: what it says comes from [`crate::haproxy::state_file`], and here it gets to disk.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{StoreError, replace_whole};

/// Whoever HAProxy runs as may read it, and nobody but weightd writes it. It tells no more than `show servers state`.
const MODE: u32 = 0o644;

/// The file of one instance.
#[derive(Debug, Clone)]
pub struct ServerStateFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl ServerStateFile {
    /// The file at `path`. Its folder must be there: weightd makes none in a place that is not its own.
    pub fn new(path: PathBuf) -> Self {
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        Self { path, temporary: temporary.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces it in one step, unless it says the same already.
    ///
    /// # Errors
    /// [`StoreError::Write`]; what was there before stays.
    pub fn save(&self, text: &str) -> Result<(), StoreError> {
        // Comparing with what lies there costs a read of what is mostly in memory.
        if fs::read(&self.path).is_ok_and(|bytes| bytes == text.as_bytes()) {
            return Ok(());
        }
        self.write(text).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    fn write(&self, text: &str) -> io::Result<()> {
        fs::File::create(&self.temporary)?.set_permissions(fs::Permissions::from_mode(MODE))?;
        replace_whole(&self.path, &self.temporary, &[text.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_replaced_whole_readable_for_all_and_only_where_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let file = ServerStateFile::new(folder.path().join("server-state"));
        file.save("one\n").unwrap();
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(file.path()).unwrap());
        let before = inode();
        file.save("one\n").unwrap();
        assert_eq!(inode(), before, "nothing was written");
        file.save("two\n").unwrap();
        assert_ne!(inode(), before, "another file took its place");
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "two\n");
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/server-state");
        let error = ServerStateFile::new(path.clone()).save("one\n").unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!folder.path().join("missing").exists());
    }
}
