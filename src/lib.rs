//! weightd follows one prefix of Consul KV and keeps the server weights of its HAProxy in step with it, through the
//! runtime API: no reload, no template, no script. weightctl is how people and pipelines change those weights.
//!
//! This page is the architecture: which parts there are, where they are, and which invariants hold.
//!
//! # One direction of flow
//!
//! ```text
//! Consul KV ──blocking query──▶ desired ──┐
//!                                         ├─▶ accept ─▶ plan ─▶ apply ─▶ HAProxy runtime API
//! HAProxy ───show servers state─▶ observed ┘                  └─▶ status: log, /metrics, /v1/status
//! ```
//!
//! Three files answer a newcomer's three questions: [`desired`](weightd_core::desired) *what should be*,
//! [`observed`](weightd_core::observed) *what is*, [`plan`](mod@weightd_core::plan) *what will change*. Between them,
//! [`accept`](mod@weightd_core::accept) decides whether the desired weights may be enforced on this HAProxy. All of them
//! are in the crate [`weightd_core`], which does no I/O and reads no clock. Start is not special: it is a reconcile that
//! knows nothing yet. A reload of HAProxy is not special either: it is a reconcile of a process about which only the
//! former health of its servers is known.
//!
//! # Where things are
//!
//! | module | owns |
//! |---|---|
//! | [`weightd_core`] (`src/core`) | everything that is decided, and every type that programs exchange |
//! | [`consul`] | the client of Consul, and the rules of the blocking query ([`consul::watch`]) |
//! | [`haproxy`] | the client of the runtime API: a closed vocabulary ([`haproxy::command`]), one line per connection ([`haproxy::socket`]), strict parsing ([`haproxy::reply`]) |
//! | [`documents`] | reading, editing and writing documents in Consul |
//! | [`weightd`] | the node daemon: one task per HAProxy, its state on disk, its status |
//! | [`weightctl`] | the command line: talks to Consul with the user's own token; it only reads HAProxy, and only in `check` and `import` |
//! | [`base`] | what all programs share: configuration files, logging, retries, the clock, signals, systemd |
//!
//! Only one task writes to one HAProxy, and all tasks share one thread: an exchange takes a tenth of a millisecond, so a
//! hand-over between threads would cost more than it saves. The watch publishes into a channel that holds the latest value
//! only; a slow HAProxy never slows the watch, and never gets a value that is already outdated.
//!
//! # What a changed key costs
//!
//! One answer of the blocking query; decoding the one value whose `ModifyIndex` or text changed; one exchange that sets the
//! weights of that backend and reads them back. One more exchange comes first, which asks which process answers and reads
//! the backend, when a server goes to 0 or when anything about the backend differs from what was read last: a decision
//! that could take the last server away never relies on an old observation.
//!
//! # Invariants
//!
//! - Only an explicit, valid document acts. When it is absent, empty, unreadable or hidden by ACLs, the accepted weights
//!   stay in force and are enforced.
//! - Never zero by accident: [`accept`](mod@weightd_core::accept) guards a change that would leave a backend without a
//!   usable server, and [`plan`](mod@weightd_core::plan) sends a 0 only after the raise that it relies on is known to have
//!   worked, or on the same line where the algorithm is known to take both.
//! - The truth is what was read back, never what was sent.
//! - The vocabulary on HAProxy's socket is a closed type. No text from Consul reaches the wire as text.
//! - No connection to HAProxy is held: a held one outlives a reload and is answered by the old process.
//! - Retries are jittered, capped and endless; only [`base::retry`] names the crate `backoff`.
//! - Leaving changes nothing.
//!
//! The tests hold them: `tests/it/laws.rs` as properties, `tests/it/layering.rs` for what the compiler cannot check.

pub mod base;
pub mod consul;
pub mod documents;
pub mod haproxy;
pub mod weightctl;
pub mod weightd;

/// The version, with the commit it was built from where that is known: `0.1.0 (abc1234)`. For `--version` and the status.
pub const VERSION: &str = env!("WEIGHTD_VERSION");

/// The commit that it was built from; empty where that is not known.
pub const COMMIT: &str = env!("WEIGHTD_COMMIT");
