//! The Unix socket for local writes. The mode of its file controls who can connect.
//!
//! Must not remove a file that is not a socket or a socket that another weightd listens on, and must not follow a link.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::weightd::lock::{Lock, LockError};

/// Access for the user and the group of weightd.
const MODE: u32 = 0o660;
/// Maximum number of connections that wait for an accept.
const BACKLOG: i32 = 64;

/// The error of creating the local socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another weightd uses this socket.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The path exists and is not a socket.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// A system call failed.
    #[error("cannot listen on {}", .path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl SocketError {
    /// Returns how to fix the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Lock(_) => "set a different `socket` in [api] for each weightd on this machine",
            Self::NotASocket(_) => "move the file away or set another `socket` in [api], then restart weightd",
            Self::Io { .. } => "check that weightd can write to the directory of `socket` in [api]",
        }
    }
}

/// The file of the socket that this weightd listens on. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file, so that the file of another weightd is never removed.
    identity: Option<(u64, u64)>,
    /// Held as long as the file exists. The lock file is in the directory of the socket: one socket, one lock.
    _lock: Lock,
}

/// Listens at `path`, for the user and the group of weightd. Replaces a socket that a crashed weightd left behind.
///
/// # Errors
/// [`SocketError`]; nothing changed.
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let lock = Lock::take(path.parent().unwrap_or(Path::new("/")), &path.display().to_string())?;
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    // This weightd holds the lock, so that no other weightd listens here.
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
        // No client can connect before `listen`, so that the initial mode is never in effect.
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
            // The next weightd replaces a remaining file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_user_and_group_and_is_removed_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/weightd.sock");
        let (_listener, file) = listen(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, MODE);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weightd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let live = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Lock(LockError::Held { .. }))));
        UnixStream::connect(&path).unwrap();
        // A socket of another program at this path is not removed.
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(live);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("weightd.sock"), folder.path().join("target"));
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        // A link is rejected too, whether its target exists or not.
        symlink(&target, &path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        drop(std::os::unix::net::UnixListener::bind(&target).unwrap());
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert!(target.exists() && path.is_symlink());
    }
}
