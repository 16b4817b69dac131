//! rolloutd: the controller of rollouts.
//!
//! Owns the lock of the leader, what a tick sees, and what follows from its actions. It decides nothing itself: that is
//! [`weightd_core::rollout`]. It must never write a document but the one that it wrote last, and never talk to HAProxy.

pub mod config;
mod http;
pub mod sources;
pub mod webhooks;

use std::process::ExitCode;

/// Runs rolloutd: parses the command line, and works until a signal.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
