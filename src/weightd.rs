//! The node daemon: makes each HAProxy of this host what its documents say, and keeps it so.
//!
//! [`reconciler`] decides what to read and what to send, in pure code over [`weightd_core`]; [`task`] does the I/O, and is
//! the only writer to its HAProxy. Around them: what survives a restart ([`store`], [`lock`]), what is shown ([`status`],
//! [`metrics`], [`api`]), and the wiring ([`daemon`], [`config`]).

pub mod api;
pub mod config;
pub mod daemon;
pub mod exchange;
pub mod instance;
pub mod lock;
pub mod metrics;
pub mod pausing;
pub mod reconciler;
pub mod saving;
pub mod status;
pub mod store;
pub mod task;
pub mod telling;
