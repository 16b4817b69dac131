//! What this node reports on observed backends: `counters/<node>`.
//!
//! | file | owns |
//! |---|---|
//! | `observing` | which observations Consul has |
//! | `source` | one HAProxy: reads the observed backends, and the workers that leave |
//! | `reading` | from HAProxy's answers to a reading; no I/O |
//! | `reporter` | the task of one root: when to read, and when to write |
//!
//! Only reads HAProxy, and only while somebody observes. Never delays a change: it takes no part in the exchanges that set
//! weights.

mod observing;
mod reading;
mod reporter;
mod source;

pub use reporter::{Reporter, Setup, Shown, State, remedy};
pub use source::Source;
