//! The types that programs exchange: one definition, used by both sides.

pub mod pause;
pub mod status;
