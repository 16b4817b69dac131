//! Which machine this is, and which run of weightd.

use std::{
    collections::hash_map::RandomState,
    fmt::Write as _,
    fs,
    hash::{BuildHasher as _, Hasher as _},
    path::Path,
};

/// The file with the id that systemd gives a machine.
const MACHINE_ID: &str = "/etc/machine-id";

/// Identifies this machine and this state directory: the same after a restart of weightd or of the machine, another one for
/// a clone that has its own machine id. The machine id itself is not shown to other machines, as machine-id(5) demands.
pub fn machine_id(state_dir: &Path) -> String {
    // Without the file, such as in a container, the host name takes its place.
    let id = fs::read_to_string(MACHINE_ID)
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let mut hasher = crc32fast::Hasher::new();
    let mut digest = String::new();
    // Two checksums over different texts: 64 bits are enough to tell the machines of a fleet apart.
    for salt in ["weightd machine", "weightd state"] {
        hasher.reset();
        hasher.update(salt.as_bytes());
        hasher.update(id.trim().as_bytes());
        hasher.update(&[0]);
        hasher.update(state_dir.as_os_str().as_encoded_bytes());
        let _ = write!(digest, "{:08x}", hasher.clone().finalize());
    }
    digest
}

/// Another one for each start.
pub fn incarnation() -> String {
    // The standard library seeds each hasher at random.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_the_same_after_a_restart_and_each_start_is_another() {
        let dir = Path::new("/var/lib/weightd");
        assert_eq!(machine_id(dir), machine_id(dir));
        assert_eq!(machine_id(dir).len(), 16);
        assert_ne!(machine_id(dir), machine_id(Path::new("/var/lib/other")));
        assert_ne!(incarnation(), incarnation());
    }
}
