//! The client of Consul.
//!
//! Owns the address of Consul, the credentials, and the requests to the KV store. Must not request stale answers, must
//! not put a token or a password into a message, and must not fall back from an encrypted to an unencrypted connection.

mod access;
pub mod address;
pub mod client;
mod error;
mod file;
pub mod follow;
pub mod pace;
mod plain;
pub mod rights;
mod server_time;
pub mod session;
pub mod settings;
pub mod tls;
pub mod token;
mod transport;
mod txn;
pub mod watch;

pub use access::Access;
pub use address::Address;
pub use client::{Client, ConsulError};
pub use file::{Connection, Section};
pub use settings::{Env, Idle, Layer, Settings};
pub use tls::{Tls, TlsLayer};
pub use token::TokenSource;
