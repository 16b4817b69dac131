//! The node daemon: makes each HAProxy of this host what its documents say, and keeps it so.
//!
//! [`session`] is the dialogue with one HAProxy, without I/O; [`task`] carries it out, and is the only writer to its
//! HAProxy. Around them: what survives a restart ([`store`], [`saving`], [`lock`]), what is shown ([`report`], [`status`],
//! [`metrics`], [`api`]), what a person asks for ([`pausing`]), and the wiring ([`daemon`], [`config`]).

pub mod api;
pub mod claim;
pub mod config;
pub mod daemon;
pub mod fleet;
pub mod instance;
pub mod lock;
pub mod metrics;
pub mod pausing;
pub mod report;
pub mod saving;
pub mod session;
pub mod status;
pub mod store;
pub mod survey;
pub mod task;
