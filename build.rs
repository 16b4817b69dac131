//! Gives the programs the commit that they are built from, where a checkout has one; see `weightd::VERSION`.

use std::{env, path::Path, process::Command};

/// How many digits of a commit are shown.
const DIGITS: usize = 7;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = env!("CARGO_PKG_VERSION");
    let commit = commit();
    println!("cargo::rustc-env=WEIGHTD_COMMIT={}", commit.as_deref().unwrap_or_default());
    let version = commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=WEIGHTD_VERSION={version}");
}

/// The commit of this source; none without git, and none where a tarball lies inside another checkout.
fn commit() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()? {
        return None;
    }
    // Written by each commit, checkout and reset, on every branch. A missing file would count as changed each time.
    for file in ["logs/HEAD", "HEAD"] {
        let file = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    // Shortened here and not by git, which shows more digits the more commits it has.
    git(&["rev-parse", "HEAD"])?.get(..DIGITS).map(str::to_owned)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
