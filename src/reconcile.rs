//! Makes one HAProxy what its documents say, and keeps it so.
//!
//! Owns the loop: observe, accept, plan, apply, read back. What it decides it decides in pure code
//! ([`backend`], [`reconciler`], over [`crate::accept`] and [`crate::plan`]); [`task`] does the I/O, and is
//! the only writer to its HAProxy.

pub mod backend;
pub mod contention;
mod event;
mod exchange;
pub mod reasons;
pub mod reconciler;
pub mod task;

pub use event::Event;
pub use reconciler::Reconciler;
