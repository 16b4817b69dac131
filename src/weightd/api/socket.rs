//! The Unix socket of the local writes: who may open the file may write, and nobody else.
//!
//! Must never remove what is not a socket, never one that another weightd listens on, and never follow a link.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::weightd::lock::{Lock, LockError};

/// For weightd's user and its group.
const MODE: u32 = 0o660;
/// How many may wait to be answered.
const BACKLOG: i32 = 64;

/// Why there is no local socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another weightd has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Something else lies there.
    #[error("{} is in the way: it is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen at {}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SocketError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Lock(_) => "give each weightd of this machine a `socket` of its own in [api]",
            Self::NotASocket(_) => "move it away, or write another `socket` in [api], and restart weightd",
            Self::Io { .. } => "see whether weightd may write to the directory of `socket` in [api]",
        }
    }
}

/// The file of a socket that this weightd listens on; removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: what lies there later may be another's.
    identity: Option<(u64, u64)>,
    /// Held for as long as the file is ours. It lies beside the socket: one socket, one lock.
    _lock: Lock,
}

/// Listens at `path`, for weightd's user and group. What a weightd that crashed left there is replaced.
///
/// # Errors
/// [`SocketError`]; then nothing was changed.
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let lock = Lock::take(path.parent().unwrap_or(Path::new("/")), &path.display().to_string())?;
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    // Under the lock no living weightd listens there.
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(SocketError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let bound = || -> io::Result<(UnixListener, SocketFile)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let identity = identity(path);
        let file = SocketFile { path: path.to_owned(), identity, _lock: lock };
        // Nobody can connect before it listens, so the mode that it was made with never counts.
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok((UnixListener::from_std(socket.into())?, file))
    };
    bound().map_err(failed)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // If it stays it is replaced by the next weightd.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn it_is_for_user_and_group_and_gone_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/weightd.sock");
        let (_listener, file) = listen(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, MODE);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_one_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weightd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let living = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Lock(LockError::Held { .. }))));
        UnixStream::connect(&path).unwrap();
        // Another's, which took its place, is not removed.
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(living);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_not_a_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("weightd.sock"), folder.path().join("target"));
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        // Also a link to a socket, and one to nothing.
        symlink(&target, &path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        drop(std::os::unix::net::UnixListener::bind(&target).unwrap());
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert!(target.exists() && path.is_symlink());
    }
}
