//! Detects a second weightd on the same HAProxy that the lock cannot detect: one with another `run_dir`, or one that
//! reaches the same socket through another path.
//!
//! Each weightd binds an abstract socket named after the address of its HAProxy. Every user can list these names in
//! `/proc/self/net/unix`. The path in a name shows whether both addresses are the same file. No data is sent over the
//! socket. Another user could bind such a name to block weightd, so that only a claim of the same user or of root
//! counts.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::Path,
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};
use tracing::warn;

use crate::haproxy::Address;

/// Prefix of the socket names.
const PREFIX: &str = "weightd:";
/// Maximum length of a name in bytes: `sun_path` has 108 bytes, and the first one is NUL.
const MAX_NAME: usize = 107;

/// The claim on one HAProxy. Dropping it releases the claim.
#[derive(Debug)]
pub struct Claim {
    _name: Option<UnixListener>,
}

/// The HAProxy is already controlled by another weightd, or by this one because its configuration names it twice.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct AlreadyControlled {
    /// The configured address of the HAProxy.
    pub address: String,
    /// The address that the holder of the claim uses.
    pub other: String,
    /// The process id of the holder.
    pub pid: i32,
}

impl AlreadyControlled {
    /// Whether the configuration of this weightd names the HAProxy twice.
    pub fn by_this_process(&self) -> bool {
        u32::try_from(self.pid) == Ok(std::process::id())
    }

    fn message(&self) -> String {
        let Self { address, other, pid } = self;
        if self.by_this_process() {
            format!("{address} and {other} are the same HAProxy; remove one of the two [[haproxy]] sections")
        } else {
            format!("another weightd (pid {pid}) already controls {address}, as {other}")
        }
    }
}

impl Claim {
    /// Claims the HAProxy at `address`. If no claim is possible, for example because the address is too long, only the
    /// lock protects it.
    ///
    /// # Errors
    /// [`AlreadyControlled`].
    pub fn take(address: &Address) -> Result<Self, AlreadyControlled> {
        let own = address.to_string();
        let held = |other: &str, pid| AlreadyControlled { address: own.clone(), other: other.to_owned(), pid };
        for other in claimed().iter().filter(|other| **other != own && is_same(address, other)) {
            if let Some(pid) = trusted_holder(other) {
                return Err(held(other, pid));
            }
        }
        match bind(&own) {
            Ok(name) => Ok(Self { _name: Some(name) }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if let Some(pid) = trusted_holder(&own) {
                    return Err(held(&own, pid));
                }
                warn!(address = own, "a program of another user claims this HAProxy; weightd ignores the claim");
                Ok(Self { _name: None })
            }
            Err(_) => Ok(Self { _name: None }),
        }
    }
}

fn name(address: &str) -> io::Result<SocketAddr> {
    let name = format!("{PREFIX}{address}");
    if name.len() > MAX_NAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address is too long"));
    }
    SocketAddr::from_abstract_name(name)
}

fn bind(address: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&name(address)?)
}

/// Returns all claimed addresses of this machine, of any user.
fn claimed() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    let address = |line: &str| {
        let (_, name) = line.split_once(&format!(" @{PREFIX}"))?;
        Some(name.trim_end_matches(['@', '\0']).to_owned())
    };
    let mut addresses: Vec<_> = table.lines().filter_map(address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Whether both addresses are the same file.
fn is_same(address: &Address, other: &str) -> bool {
    let Ok(other) = other.parse::<Address>() else { return false };
    match (address, &other) {
        (Address::Unix(own), Address::Unix(other)) => {
            // Symbolic links are not followed here, and weightd does not connect through them.
            let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
            identity(own).is_some() && identity(own) == identity(other)
        }
        _ => *address == other,
    }
}

/// Returns the process id of the holder if the holder runs as this user or as root.
fn trusted_holder(address: &str) -> Option<i32> {
    let stream = UnixStream::connect_addr(&name(address).ok()?).ok()?;
    let peer = socket_peercred(&stream).ok()?;
    let trusted = peer.uid.is_root() || peer.uid == geteuid();
    trusted.then(|| peer.pid.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as Socket;

    use super::*;

    #[test]
    fn a_second_claim_is_rejected_through_any_path_until_the_holder_drops_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _socket = Socket::bind(&path).unwrap();
        let link = folder.path().join("link.sock");
        fs::hard_link(&path, &link).unwrap();
        let address = |path: &Path| format!("unix:{}", path.display()).parse::<Address>().unwrap();
        let claim = Claim::take(&address(&path)).unwrap();
        for again in [&path, &link] {
            let error = Claim::take(&address(again)).unwrap_err();
            assert_eq!(error.pid, i32::try_from(std::process::id()).unwrap(), "{error}");
            assert_eq!(error.other, format!("unix:{}", path.display()));
        }
        drop(claim);
        drop(Claim::take(&address(&link)).unwrap());
        let other = folder.path().join("other.sock");
        let _other = Socket::bind(&other).unwrap();
        let _claims = [Claim::take(&address(&path)).unwrap(), Claim::take(&address(&other)).unwrap()];
    }

    #[test]
    fn an_address_that_is_too_long_has_no_claim() {
        let path = format!("unix:/{}", "x".repeat(Address::MAX_PATH - 1));
        let _claims = [Claim::take(&path.parse().unwrap()).unwrap(), Claim::take(&path.parse().unwrap()).unwrap()];
    }
}
