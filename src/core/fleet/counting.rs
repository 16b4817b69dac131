//! From HAProxy's counters to the sums, blocks and slots of a report. No I/O and no clock: the wall time is an argument.
//!
//! | file | owns |
//! |---|---|
//! | `formula` | what one server of one process counted since its base |
//! | `backend` | one backend in one HAProxy: processes that come and go, servers that come and go |
//! | `view` | the rows of one view: sums, blocks, slots, and what changed |
//! | `publication` | when the report is written |

mod backend;
mod formula;
mod publication;
mod view;

pub use self::{
    backend::{BackendCount, Rest},
    publication::Publication,
};
use super::counters::{Flag, Protocol, ServerNow};
use crate::model::{ServerName, Timestamp};

/// A point in wall-clock time: milliseconds of unix time.
pub type Wall = u64;

/// The counters of a server's row of `show stat`, since its process started or its counters were cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levels {
    /// `stot`: attempts.
    pub attempts: u64,
    /// `lbtot`: requests that the balancing gave to the server.
    pub balanced: u64,
    /// `scur`: sessions now. The only one that may fall.
    pub sessions: u64,
    /// `cli_abrt`: requests that the client gave up.
    pub client_aborts: u64,
    /// `srv_abrt`: answers that the server broke off.
    pub server_aborts: u64,
    /// `econ`: requests that failed because no connection could be made.
    pub connect_errors: u64,
    /// `eresp`: answers that failed; some versions count one failure twice.
    pub response_errors: u64,
    /// `wretr`: attempts that were repeated at the same server.
    pub retries: u64,
    /// `wredis`: attempts that were repeated at another server.
    pub redispatches: u64,
    /// `hrsp_1xx` to `hrsp_5xx` and `hrsp_other`: answers by status.
    pub answers: [u64; 6],
}

impl Levels {
    const LEN: usize = 14;

    /// All of them but the sessions: what never falls within one process.
    const fn rising(&self) -> [u64; Self::LEN] {
        let [informed, succeeded, redirected, refused, failed, other] = self.answers;
        [
            self.attempts,
            self.balanced,
            self.client_aborts,
            self.server_aborts,
            self.connect_errors,
            self.response_errors,
            self.retries,
            self.redispatches,
            informed,
            succeeded,
            redirected,
            refused,
            failed,
            other,
        ]
    }
}

/// The identity of a HAProxy process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    /// `Pid`.
    pub pid: u32,
    /// When it started.
    pub since: Timestamp,
}

/// A backend as it was read in one exchange with one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The process that answered.
    pub process: ProcessId,
    /// Its version.
    pub version: String,
    /// `mode`.
    pub protocol: Protocol,
    /// `algo`.
    pub algorithm: String,
    /// What else matters; without [`Flag::Sticky`], which follows from the levels.
    pub flags: Vec<Flag>,
    /// `econ` of the backend's own row: failures of its servers, and of requests that no server got.
    pub connect_errors: u64,
    /// How many requests are in the backend and at no server just now: `scur` of the backend's row without those of the
    /// servers.
    pub unassigned: u64,
    /// Whether requests have waited in a queue in this process.
    pub queued: bool,
    /// Its servers, in HAProxy's order.
    pub servers: Vec<ServerReading>,
}

/// A server as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReading {
    /// What it is.
    pub now: ServerNow,
    /// Its counters.
    pub levels: Levels,
    /// `rtime`, in milliseconds.
    pub rtime: u64,
    /// `rate`: sessions of the last second.
    pub rate: u64,
    /// `chkdown`: how often it went down.
    pub downs: u64,
    /// Whether HAProxy may have loaded its counters from a file at start: it has a `guid`.
    pub preloaded: bool,
}

impl Reading {
    /// Whether requests reach servers past the balancing, and nothing that HAProxy reports explains it.
    ///
    /// Repeated attempts count as attempts and not as balanced, and requests from a queue do not count as balanced.
    fn sticky(&self) -> bool {
        let explained = self.flags.iter().any(|flag| matches!(flag, Flag::Cookie | Flag::StickTable));
        let sum = |of: fn(&Levels) -> u64| self.servers.iter().map(|server| of(&server.levels)).sum::<u64>();
        let attempts = sum(|levels| levels.attempts);
        let past = attempts.saturating_sub(sum(|levels| levels.balanced + levels.retries));
        !explained && !self.queued && past > 0 && past.saturating_mul(100) >= attempts
    }

    fn names(&self) -> impl Iterator<Item = &ServerName> {
        self.servers.iter().map(|server| &server.now.name)
    }
}

#[cfg(test)]
mod tests;
