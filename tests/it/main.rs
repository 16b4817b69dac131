//! Integration tests, with a real Consul and a real HAProxy: one crate, so that there is one program to link.

#[path = "../harness/mod.rs"]
pub mod harness;

mod algorithms;
mod common;
mod ctl;
mod drift;
mod guards;
mod hold;
mod input;
mod servers;
mod sync;
