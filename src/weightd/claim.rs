//! Notices a second weightd on the same HAProxy that the lock does not show: one with another `run_dir`, or one that reaches
//! the same socket by another path.
//!
//! Each weightd binds an abstract socket with the address of its HAProxy as its name. `/proc/self/net/unix` lists those names to
//! everybody, and the path in a name leads to a file, which is the same one or not. Nothing is ever sent over it. Another
//! user of this machine could bind such a name as well; that must stop nobody, so that only a claim of this user or of root
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

/// What the names begin with.
const PREFIX: &str = "weightd:";
/// The longest name: `sun_path` has 108 bytes, the first of which is NUL.
const MAX_NAME: usize = 107;

/// The claim on one HAProxy, held until it is dropped.
#[derive(Debug)]
pub struct Claim {
    _name: Option<UnixListener>,
}

/// The same HAProxy is driven already: by another weightd, or by this one, whose configuration names it twice.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct AlreadyDriven {
    /// The HAProxy's address.
    pub address: String,
    /// The address by which the other one reaches it.
    pub other: String,
    /// Its process id.
    pub pid: i32,
}

impl AlreadyDriven {
    /// Whether the configuration of this weightd names one HAProxy twice.
    pub fn by_this_process(&self) -> bool {
        u32::try_from(self.pid) == Ok(std::process::id())
    }

    fn sentence(&self) -> String {
        let Self { address, other, pid } = self;
        if self.by_this_process() {
            format!("{address} and {other} are the same HAProxy; leave one of the two [[haproxy]] out")
        } else {
            format!("another weightd (pid {pid}) already drives {address}, as {other}")
        }
    }
}

impl Claim {
    /// Claims the HAProxy at `address`. Where that is not possible, for example because the address is too long, there is
    /// no claim, and the lock is all there is.
    ///
    /// # Errors
    /// [`AlreadyDriven`].
    pub fn take(address: &Address) -> Result<Self, AlreadyDriven> {
        let own = address.to_string();
        let held = |other: &str, pid| AlreadyDriven { address: own.clone(), other: other.to_owned(), pid };
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
                warn!(address = own, "a program of another user claims to drive this HAProxy; the claim is ignored");
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

/// The addresses that are claimed on this machine, by whomever.
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

/// Whether both addresses lead to the same file.
fn is_same(address: &Address, other: &str) -> bool {
    let Ok(other) = other.parse::<Address>() else { return false };
    match (address, &other) {
        (Address::Unix(own), Address::Unix(other)) => {
            // A symbolic link is not followed, nor will it be used as a socket.
            let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
            identity(own).is_some() && identity(own) == identity(other)
        }
        _ => *address == other,
    }
}

/// The process that holds a claim, if it is one of this user or of root.
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
    fn a_second_claim_is_refused_by_whatever_path_and_falls_with_its_holder() {
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
    fn an_address_that_is_too_long_is_driven_without_a_claim() {
        let path = format!("unix:/{}", "x".repeat(Address::MAX_PATH - 1));
        let _claims = [Claim::take(&path.parse().unwrap()).unwrap(), Claim::take(&path.parse().unwrap()).unwrap()];
    }
}
