//! What the programs are before they do anything.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::{
    harness::program,
    table::{Report, Row},
};

const MIB: f64 = 1024.0 * 1024.0;

/// Sizes of the binaries, and crates in the lock file.
#[expect(clippy::cast_precision_loss, reason = "no file here has 2^52 bytes")]
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    for name in ["weightd", "weightctl"] {
        let size = fs::metadata(program::binary(name)?)?.len();
        report.rows([Row::new("facts", &format!("size of {name}"), "MiB").weightd(size as f64 / MIB)]);
    }
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).context("no Cargo.lock")?;
    let crates = lock.lines().filter(|line| *line == "[[package]]").count() - 1;
    report.rows([Row::new("facts", "crates in Cargo.lock", "crates").weightd(crates as f64)]);
    Ok(())
}
