//! weightctl.

fn main() {}
