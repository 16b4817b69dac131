//! rolloutd: the controller of rollouts.
//!
//! Owns the lock of the leader, what a tick sees, and what follows from its actions. It decides nothing itself: that is
//! [`weightd_core::rollout`]. It must never write a document but the one that it wrote last, and never talk to HAProxy.
//!
//! | module | owns |
//! |---|---|
//! | `daemon` | the command line, and how the parts are connected |
//! | [`config`] | the configuration file |
//! | `leadership` | the lock, and the terms of this process as leader |
//! | `world` | what Consul has |
//! | `tracked` | one rollout, and which of Consul's values it stands for |
//! | `leader` | a term: what each tick sees |
//! | `acting` | what follows from the actions of a tick |
//! | `observing` | the observations that make the nodes count |
//! | [`sources`] | the named checks |
//! | `telling` | the log of this program |
//! | [`webhooks`] | notifications |
//! | `api`, `metrics` | the local HTTP interface |
//! | `window` | the time zones of windows |

mod acting;
mod api;
pub mod config;
mod daemon;
mod http;
mod leader;
mod leadership;
mod metrics;
mod observing;
pub mod sources;
mod telling;
mod tracked;
pub mod webhooks;
mod window;
mod world;

pub use daemon::main;
