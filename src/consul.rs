//! The client of Consul.
//!
//! Owns where Consul is, how this program identifies itself there, and under which root its keys lie. Must
//! never ask for stale answers, never show a token or a password in a message, and never fall back to an
//! unencrypted connection where an encrypted one was asked for.

mod access;
pub mod address;
pub mod client;
mod error;
pub mod pace;
pub mod rights;
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
pub use settings::{Env, Layer, Settings};
pub use tls::{Tls, TlsLayer};
pub use token::TokenSource;
