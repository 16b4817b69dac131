//! Everything that is decided, and every type that goes over a wire, into Consul or to disk. No I/O and no clock.
//!
//! The compiler holds that: this crate depends on no crate that does I/O. Time is an argument ([`model::Moment`]).
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | names, weights, moments: the only way in for text from outside |
//! | [`desired`] | *what should be*: the meaning of keys and values in Consul, and what is wrong with those that are rejected |
//! | [`observed`] | *what is*: the meaning of HAProxy's rows, the true weight, which server is usable |
//! | [`mod@accept`] | the guards: *desired* becomes *accepted*, or does not |
//! | [`mod@plan`] | *what will change*: the difference between *accepted* and *observed*, as ordered stages |
//! | [`backend`] | what is remembered of one backend on one HAProxy, and each decision about it |
//! | [`contention`] | whether something else keeps changing the same weights |
//! | [`diagnosis`], [`reasons`], [`caveats`] | how a backend stands, and why; why a share is not what its weight says |
//! | [`pauses`] | which backends are paused |
//! | [`event`] | what happened, for the log and the counters |
//! | [`share`] | what a weight is worth |
//! | [`stored`] | what survives a restart |
//! | [`wire`] | the types that programs exchange |

pub mod accept;
pub mod backend;
pub mod caveats;
pub mod contention;
pub mod desired;
pub mod diagnosis;
pub mod event;
pub mod model;
pub mod observed;
pub mod pauses;
pub mod plan;
pub mod reasons;
pub mod share;
pub mod stored;
pub mod wire;
