//! weightd follows one prefix of Consul KV and makes the server weights of its HAProxy what Consul says,
//! through the runtime API: no reload, no template, no script.
//!
//! This page is the architecture: what there is, where it is, and what must stay true.
//!
//! # One direction of flow
//!
//! ```text
//! Consul KV ──blocking query──▶ desired ──┐
//!                                         ├─▶ accept ─▶ plan ─▶ apply ─▶ HAProxy runtime API
//! HAProxy ───show servers state─▶ observed ┘                  └─▶ status: log, /metrics, /v1/status
//! ```
//!
//! Three files answer a newcomer's three questions: [`desired`] *what should be*, [`observed`] *what is*,
//! [`mod@plan`] *what will change*. Between them stands [`mod@accept`]: whether what should be may be enforced
//! here. None of the four does I/O or reads a clock, and nothing else decides. Boot is not special: it is a
//! reconcile from knowing nothing. A reload of HAProxy is not special either: it is a reconcile in a process
//! of which nothing is known but the health that servers had before.
//!
//! # Where things are
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | names, weights, moments: the only way in for text from outside |
//! | [`desired`] | the meaning of keys and values in Consul, and what is wrong with those that are refused |
//! | [`observed`] | the meaning of HAProxy's rows: the true weight, who is usable |
//! | [`mod@accept`] | the guards: *desired* becomes *accepted*, or does not |
//! | [`mod@plan`] | the difference between *accepted* and *observed*, as ordered stages |
//! | [`reconcile`] | what is remembered of each backend ([`reconcile::backend`], [`reconcile::reconciler`], pure), and the task that does it ([`reconcile::task`]) |
//! | [`consul`] | the client, and the rules of the blocking query ([`consul::watch`]) |
//! | [`haproxy`] | the client: a closed vocabulary ([`haproxy::command`]), one line a connection ([`haproxy::socket`]), strict replies ([`haproxy::reply`]) |
//! | [`store`], [`lock`] | what survives a restart, of weightd and, as a server-state file, of HAProxy; and that there is one weightd per HAProxy |
//! | [`status`], [`metrics`], [`api`], [`telemetry`], [`systemd`] | what is shown, to everybody on this machine; none of it changes anything |
//! | [`pausing`] | the only writes from outside, and only over the local socket ([`api::socket`]): hands off, hands on |
//! | [`manual`] | the manual pages, off the command lines themselves |
//! | [`config`], [`daemon`], [`shutdown`], [`retry`], [`clock`], [`chain`] | the wiring |
//! | [`ctl`] | weightctl: talks to Consul with the user's own token; to HAProxy only to look, and only in `check` and `import` |
//!
//! One task writes to one HAProxy, and all tasks share one thread: an exchange takes a tenth of a
//! millisecond, and there is no hand-over to wait for. What the watch publishes is a latest-value channel;
//! a slow HAProxy never slows the watch, and never gets a value that is already outdated.
//!
//! # What a changed key costs
//!
//! One answer of the blocking query; decoding of the one value whose `ModifyIndex` or text changed; one
//! exchange that sets the weights of that backend and reads them back. Before it, where a server goes to 0
//! or anything about the backend is not as it was left, one that asks which process answers and reads the
//! backend: what could take the last server away is never decided on an observation that is older than the
//! decision.
//!
//! # What must stay true
//!
//! - Only an explicit, valid document acts. Absent, empty, unreadable, filtered: what was accepted stays in
//!   force, and is enforced.
//! - Never zero by accident: [`mod@accept`] keeps back a change that would leave a backend without a usable
//!   server, and [`mod@plan`] sends a 0 only when the raise it rests on is known to have worked, or, on the same line,
//!   where the algorithm is known to take it.
//! - The truth is what was read back, never what was sent.
//! - The vocabulary on HAProxy's socket is a closed type. No text from Consul reaches the wire as text.
//! - No connection to HAProxy is held: one that is outlives a reload and is answered by the old process.
//! - Retries are jittered, capped and endless; `backoff` is named in [`retry`] alone.
//! - Leaving changes nothing.
//!
//! The tests hold these: `tests/it/laws.rs` as properties, `tests/it/layering.rs` for who may import what.
//!
//! # What finds its place later
//!
//! Shares by pattern, a break-glass on the node and a rollout engine all end in a [`desired::Desired`], in
//! front of [`mod@accept`]; nothing behind it learns of them. The fleet's status leaves by [`status`].

pub mod accept;
pub mod api;
pub mod chain;
pub mod clock;
pub mod config;
pub mod consul;
pub mod ctl;
pub mod daemon;
pub mod desired;
pub mod haproxy;
pub mod lock;
pub mod manual;
pub mod metrics;
pub mod model;
pub mod observed;
pub mod pausing;
pub mod plan;
pub mod reconcile;
pub mod retry;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod systemd;
pub mod telemetry;

/// The version, with the commit it was built of where that was known: `0.1.0 (abc1234)`. For `--version`.
pub const VERSION: &str = env!("WEIGHTD_VERSION");
