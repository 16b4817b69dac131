//! The judge against the reference: `tests/judge/vectors.json` number by number, and random histories against the program.

use std::path::PathBuf;

use super::*;

mod claims;
mod reference;
mod sim;
mod vectors;

/// The directory of the reference and its vectors.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/judge")
}
