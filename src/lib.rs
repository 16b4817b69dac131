//! weightd follows one prefix of Consul KV and keeps the server weights of its HAProxy in step with it. It uses the
//! runtime API: no reload, no template, no script. People and pipelines change the weights with weightctl.
//!
//! This page describes the architecture: the parts, their places and the invariants.
//!
//! # One direction of flow
//!
//! ```text
//! Consul KV ──blocking query──▶ desired ──┐
//!                                         ├─▶ accept ─▶ plan ─▶ apply ─▶ HAProxy runtime API
//! HAProxy ───show servers state─▶ observed ┘                  └─▶ status: log, /metrics, /v1/status
//! ```
//!
//! Start with three modules: [`desired`](weightd_core::desired) is the wanted state,
//! [`observed`](weightd_core::observed) is the current state, [`plan`](mod@weightd_core::plan) contains the changes
//! between them. [`accept`](mod@weightd_core::accept) decides whether the desired weights may be enforced on this
//! HAProxy. All of them are in the crate [`weightd_core`], which does no I/O and reads no clock. A start is a normal
//! reconcile without earlier knowledge. A reload of HAProxy is a normal reconcile that only knows the previous health
//! of the servers.
//!
//! # Modules
//!
//! | module | owns |
//! |---|---|
//! | [`weightd_core`] (`src/core`) | all decisions, and all types of the HTTP API, of Consul and of the disk |
//! | [`consul`] | the Consul client, and the rules of the blocking query ([`consul::watch`]) |
//! | [`haproxy`] | the client of the runtime API: a closed set of commands ([`haproxy::command`]), one line per connection ([`haproxy::socket`]), strict parsing ([`haproxy::reply`]) |
//! | [`documents`] | reading, editing and writing documents in Consul |
//! | [`weightd`] | the node daemon: one task per HAProxy, its state on disk, its status |
//! | [`weightctl`] | the command line: uses the token of the user for Consul; it only reads HAProxy, and only in `check` and `import` |
//! | [`rolloutd`] | the controller of rollouts: writes documents by a plan, and takes them back; it never talks to HAProxy |
//! | [`page`] | the self-service page of rollouts: reads with a token that can only read, writes with the token of the person |
//! | [`base`] | code that all programs share: configuration files, logging, retries, the clock, signals, systemd |
//!
//! Only one task writes to one HAProxy, and all tasks share one thread. An exchange takes 0.1 ms, so that a switch
//! between threads would cost more than it saves. The watch publishes into a channel that holds only the latest value:
//! a slow HAProxy never delays the watch and never gets an outdated value.
//!
//! # Cost of a changed key
//!
//! A changed key costs one answer of the blocking query, the decoding of each value with a new `ModifyIndex` or text,
//! and one exchange. The exchange sets the weights of the backend and reads them back. In two cases one more exchange
//! comes first, which identifies the process and reads the backend: when a server goes to 0, and when any data about
//! the backend differs from the last reading. A decision that could remove the last server therefore never relies on an
//! old observation.
//!
//! # Invariants
//!
//! - Only an explicit, valid document has an effect. If it is absent, empty, unreadable or hidden by ACLs, the accepted
//!   weights stay in force and are enforced.
//! - No backend loses its last usable server by accident. [`accept`](mod@weightd_core::accept) guards such a change.
//!   [`plan`](mod@weightd_core::plan) sends a 0 only after the read-back of the raise that it relies on, or on the same line
//!   if the algorithm is known to accept both.
//! - The reported weight is the weight that was read back, not the one that was sent.
//! - The commands on the HAProxy socket are a closed type. No text from Consul reaches the socket as text.
//! - No connection to HAProxy is kept open: it would survive a reload, and the old process would answer.
//! - Retries are jittered, capped and endless; only [`base::retry`] uses the crate `backoff`.
//! - Stopping weightd changes nothing in HAProxy.
//!
//! The tests check them: `tests/it/laws.rs` as properties, `tests/it/layering.rs` for rules that the compiler cannot
//! check.

pub mod base;
pub mod consul;
pub mod documents;
pub mod haproxy;
pub mod page;
pub mod rolloutd;
pub mod weightctl;
pub mod weightd;

/// The version, with the commit of the build if it is known: `0.1.0 (abc1234)`. For `--version` and the status.
pub const VERSION: &str = env!("WEIGHTD_VERSION");

/// The commit of the build; empty if it is unknown.
pub const COMMIT: &str = env!("WEIGHTD_COMMIT");
