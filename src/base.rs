//! Code that all programs of this project share: configuration files, logging, retries, the clock, signals, systemd.
//!
//! Must not depend on HAProxy, Consul or weights.

pub mod chain;
pub mod clock;
pub mod config;
pub mod manual;
pub mod retry;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod systemd;
pub mod telemetry;
