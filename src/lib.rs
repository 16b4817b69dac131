//! weightd follows one prefix of Consul KV and keeps the server weights of its HAProxy in step with it, through the
//! runtime API: no reload, no template, no script. weightctl is how people and pipelines change those weights.
//!
//! This page describes the architecture: the modules, the data flow and the invariants.
//!
//! # One direction of flow
//!
//! ```text
//! Consul KV ──blocking query──▶ desired ──┐
//!                                         ├─▶ accept ─▶ plan ─▶ apply ─▶ HAProxy runtime API
//! HAProxy ───show servers state─▶ observed ┘                  └─▶ status: log, /metrics, /v1/status
//! ```
//!
//! Read three files first: [`desired`](weightd_core::desired) (the desired state), [`observed`](weightd_core::observed)
//! (the observed state) and [`plan`](mod@weightd_core::plan) (the changes). Between them,
//! [`accept`](mod@weightd_core::accept) decides whether the desired weights may be enforced on this HAProxy. All are in
//! the crate [`weightd_core`], which does no I/O and reads no clock. The start is a normal reconcile without previous
//! state. A reload of HAProxy is a normal reconcile of a new process; of the old process, only the health of the
//! servers is known.
//!
//! # Modules
//!
//! | module | owns |
//! |---|---|
//! | [`weightd_core`] (`src/core`) | all decisions, and all types of the HTTP API, of Consul and of the disk |
//! | [`consul`] | the client of Consul, and the rules of the blocking query ([`consul::watch`]) |
//! | [`haproxy`] | the client of the runtime API: a closed vocabulary ([`haproxy::command`]), one line per connection ([`haproxy::socket`]), strict parsing ([`haproxy::reply`]) |
//! | [`documents`] | reading, editing and writing documents in Consul |
//! | [`weightd`] | the node daemon: one task per HAProxy, its state on disk, its status |
//! | [`weightctl`] | the command line: talks to Consul with the user's own token; it only reads HAProxy, and only in `check` and `import` |
//! | [`base`] | code that all programs share: configuration files, logging, retries, the clock, signals, systemd |
//!
//! Only one task writes to one HAProxy, and all tasks share one thread: an exchange takes a tenth of a millisecond, so a
//! hand-over between threads would cost more than it saves. The watch publishes into a channel that holds the latest value
//! only; a slow HAProxy never slows the watch, and never gets a value that is already outdated.
//!
//! # Cost of a changed key
//!
//! One answer of the blocking query; decoding the one value whose `ModifyIndex` or text changed; one exchange that sets the
//! weights of that backend and reads them back. If a server goes to 0, or the backend differs from the last reading, an
//! exchange before that reads the process and the backend: a decision that could stop the last server never relies on
//! an old observation.
//!
//! # Invariants
//!
//! - Only an explicit, valid document has an effect. If it is absent, empty, unreadable or hidden by ACLs, the accepted
//!   weights stay in force.
//! - Never zero by accident: [`accept`](mod@weightd_core::accept) guards a change that would leave a backend without a
//!   usable server, and [`plan`](mod@weightd_core::plan) sends a 0 only after the raise that it relies on is known to have
//!   worked, or on the same line where the algorithm is known to take both.
//! - Only a read-back proves a weight; a sent command proves nothing.
//! - The vocabulary on HAProxy's socket is a closed type. No text from Consul reaches the wire as text.
//! - No connection to HAProxy is held: a held one outlives a reload and is answered by the old process.
//! - Retries are jittered, capped and endless; only [`base::retry`] names the crate `backoff`.
//! - A stop of weightd changes no weight.
//!
//! Tests check the invariants: `tests/it/laws.rs` as properties, and `tests/it/layering.rs` for the source.

pub mod base;
pub mod consul;
pub mod documents;
pub mod haproxy;
pub mod weightctl;
pub mod weightd;

/// The version, with the commit of the build if it is known: `0.1.0 (abc1234)`. For `--version` and the status.
pub const VERSION: &str = env!("WEIGHTD_VERSION");

/// The commit of the build; empty if unknown.
pub const COMMIT: &str = env!("WEIGHTD_COMMIT");
