//! Integration tests, with a real Consul and a real HAProxy: one crate, so that there is one program to link.

#[path = "../harness/mod.rs"]
pub mod harness;

mod servers;

pub mod fakes;

pub mod wire_consul;
mod wire_haproxy;
