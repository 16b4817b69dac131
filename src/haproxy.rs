//! HAProxy, as seen through its runtime API.
//!
//! Owns everything that is said on that socket. Must never say anything but reads and
//! `set server … weight <int>`, never hold a connection, and never let text from Consul reach the wire.

pub mod address;

pub use address::Address;
