//! All decisions, and all types of the HTTP API, of Consul and of the disk. No I/O and no clock.
//!
//! This crate depends on no crate that does I/O. Time is an argument ([`model::Moment`]).
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | names, weights, moments: the validation of text from outside |
//! | [`desired`] | the desired state: the meaning of keys and values in Consul, and the reasons for rejecting them |
//! | [`observed`] | the observed state: the meaning of HAProxy's rows, the true weight, the usable servers |
//! | [`mod@accept`] | the guards: whether *desired* becomes *accepted* |
//! | [`mod@plan`] | the changes: the difference between *accepted* and *observed*, as ordered stages |
//! | [`backend`] | the state of one backend on one HAProxy, and the decisions about it |
//! | [`contention`] | the detection of another program or person that keeps changing the same weights |
//! | [`diagnosis`], [`reasons`], [`caveats`] | the state of a backend and its reasons; why shares differ from weights |
//! | [`pauses`] | the paused backends |
//! | [`mod@fleet`] | the reports of the nodes, and whether all of them have a document |
//! | [`forecast`] | what a document would do on the HAProxies that the nodes report |
//! | [`history`], [`mod@rollback`] | who changed a backend to what, and the state that a rollback restores |
//! | [`mod@judge`] | the statistics of rollouts: whether the new side is worse than the old one |
//! | [`mod@rollout`] | rollouts: plans, keys, and the decision of each tick |
//! | [`event`] | events for the log and the counters |
//! | [`share`] | the share of the traffic that a weight gives |
//! | [`mod@apportion`], [`mod@expand`], [`mod@shift`] | the weights for shares, of the servers of a HAProxy and for a document |
//! | [`stored`] | the state on disk |
//! | [`traffic`] | requests per second and shares from what the nodes count; sessions left where the weight is 0 |
//! | [`users`] | sticky users: the side of a user, and from which share on |
//! | [`wire`] | the types of the HTTP API |

pub mod accept;
pub mod apportion;
pub mod backend;
pub mod caveats;
pub mod contention;
pub mod desired;
pub mod diagnosis;
pub mod event;
pub mod expand;
pub mod fleet;
pub mod forecast;
pub mod history;
pub mod judge;
pub mod model;
pub mod observed;
pub mod overrides;
pub mod pauses;
pub mod plan;
pub mod reasons;
pub mod rollback;
pub mod rollout;
pub mod share;
pub mod shift;
pub mod stored;
pub mod traffic;
pub mod users;
pub mod wire;

#[cfg(test)]
mod dice;
