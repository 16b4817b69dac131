//! The node daemon: keeps each HAProxy of this host in step with its documents.
//!
//! [`session`] is the state machine for one HAProxy, without I/O. [`task`] executes its steps and is the only writer to
//! its HAProxy. The other modules store state ([`store`], [`saving`], [`lock`]), report it ([`report`], [`status`],
//! [`metrics`], [`api`], [`fleet`]), accept pauses ([`pausing`]), and connect the parts ([`daemon`], [`config`]).

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
