//! Makes one HAProxy what its documents say, and keeps it so.
//!
//! Owns the loop: observe, accept, plan, apply, read back. What it decides it decides in pure code
//! ([`backend`], [`reconciler`], over [`crate::accept`] and [`crate::plan`]); [`task`] does the I/O, and is
//! the only writer to its HAProxy.

pub mod backend;
pub mod contention;
pub mod event;
pub mod exchange;
pub mod instance;
pub mod pauses;
pub mod reasons;
pub mod reconciler;
pub mod saving;
pub mod shares;
pub mod task;
pub mod telling;

pub use event::Event;
pub use reconciler::Reconciler;
