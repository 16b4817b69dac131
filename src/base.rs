//! What all programs of this project share and that is about none of them: reading configuration files, logging, retries,
//! the clock, signals, systemd.
//!
//! Must never know anything of HAProxy, Consul or weights.

pub mod chain;
pub mod clock;
pub mod config;
pub mod manual;
pub mod retry;
pub mod shutdown;
pub mod systemd;
pub mod telemetry;
