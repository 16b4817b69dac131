//! The key of this node in Consul, held by a session: what to ask next, and what an answer means. No I/O.
//!
//! ```text
//!             create                  acquire: true                  renew: session gone
//!   no session ─────▶ session, no key ────────────▶ key held ────────────────────────────▶ no session
//!                       │        ▲                    │    ▲
//!         acquire: false│        │wait                │    │rewrite: the value differs, or the key is gone
//!                       ▼        │                    └────┘
//!                 read the holder of the key
//!                       │ same machine, first time: destroy its session, acquire again
//!                       │ else: another node has this name
//! ```
//!
//! A holder with the same machine id is an earlier run of this weightd: a crash's restart, or a restored snapshot.
//! Without the takeover the fleet would miss this node for up to 20 s. The takeover happens once for each run: two
//! processes that both claim the machine must not destroy each other's session for ever. A holder with the incarnation of
//! this very run, such as its former session in a restored snapshot, is replaced each time.

use std::time::Duration;

use serde::Deserialize;
use weightd_core::model::Moment;

use crate::consul::session::SessionId;

/// How long the first report of a session that replaces a lost one waits for a reading of Consul that began after the session.
/// A report without it says that the node has not read its documents, which would be a false alarm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// Between two renewals; a third of the session's TTL, so that two of them may fail.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// After an error, doubled up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// The longest pause after an error: the fleet misses the node for so long after Consul is back.
const RETRY_MOST: Duration = Duration::from_secs(4);
/// The pause after a denial.
const RETRY_DENIED: Duration = Duration::from_secs(10);
/// How long the key is known to be there after the last renewal. Consul may end the session then.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// How long another machine may hold the key before that is a duplicate name. A machine that was replaced leaves its
/// session for up to 20 s.
const DUPLICATE_AFTER: Duration = Duration::from_secs(30);

/// What to ask Consul next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a session.
    Create,
    /// Renew this session.
    Renew(SessionId),
    /// Write this value with this session.
    Acquire(SessionId, Vec<u8>),
    /// Read the key with its holder.
    Read,
    /// Destroy the session of an earlier run of this weightd.
    Destroy(SessionId),
    /// Nothing before this moment, or a new value.
    Wait(Moment),
}

/// The answer to a [`Step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The new session.
    Created(SessionId),
    /// Whether Consul still has the session.
    Renewed(bool),
    /// Whether the value was written.
    Acquired(bool),
    /// The key; none if it does not exist.
    Key(Option<Seen>),
    /// The session was destroyed.
    Destroyed,
    /// There was no usable answer.
    Failed {
        /// Whether Consul denies it to the token.
        denied: bool,
    },
}

/// The key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The session that holds it.
    pub session: Option<SessionId>,
    /// The machine id in its value.
    pub machine: Option<String>,
    /// The incarnation in its value.
    pub incarnation: Option<String>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Seen {
    /// The key with this holder and value. Only the part of the report that says whose it is is read, so that a report of
    /// another version of weightd is still known as that of this machine.
    pub fn of(session: Option<SessionId>, value: Vec<u8>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Claim {
            machine: Option<String>,
            incarnation: Option<String>,
        }

        // Nothing is claimed if the value is no report.
        let Claim { machine, incarnation } = serde_json::from_slice(&value).unwrap_or_default();
        Self { session, machine, incarnation, value }
    }
}

/// How the key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not written yet, or the session was lost just now.
    Absent,
    /// Written, and held by the session.
    Held,
    /// Consul denies the key or the session to this token.
    Denied,
    /// Another machine, or another process of this machine, holds the key.
    Duplicate,
}

impl Standing {
    /// The word for status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Held => "published",
            Self::Denied => "denied",
            Self::Duplicate => "duplicate_node",
        }
    }
}

/// The key of this node and its session.
#[derive(Debug)]
pub struct Holder {
    machine: String,
    incarnation: String,
    session: Option<SessionId>,
    /// The value that Consul has, as far as is known.
    written: Option<Vec<u8>>,
    /// The value that it should have; none before the first report.
    wanted: Option<Vec<u8>>,
    standing: Standing,
    next: Next,
    /// No request before this moment.
    not_before: Moment,
    pause: Duration,
    renew_at: Moment,
    /// Whether this run had a session before.
    had_session: bool,
    /// The key is not written before this moment.
    write_from: Moment,
    /// When Consul last said that it has the session, or made it.
    confirmed: Moment,
    /// The session of the earlier run that this run replaced.
    took_over: Option<SessionId>,
    /// Since when another holder has the key.
    other_since: Option<Moment>,
}

/// What the last answer calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// What the state calls for.
    Usual,
    /// Find out who holds the key.
    Read,
    /// Replace an earlier run.
    Destroy(SessionId),
}

impl Holder {
    /// Nothing is written yet. `machine` identifies this machine, `incarnation` this run of weightd.
    pub fn new(machine: String, incarnation: String) -> Self {
        Self {
            machine,
            incarnation,
            session: None,
            written: None,
            wanted: None,
            standing: Standing::Absent,
            next: Next::Usual,
            not_before: Moment::default(),
            pause: Duration::ZERO,
            renew_at: Moment::default(),
            had_session: false,
            write_from: Moment::default(),
            confirmed: Moment::default(),
            took_over: None,
            other_since: None,
        }
    }

    /// How the key stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The session, to be destroyed when weightd stops.
    pub fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// Takes the value that the key should have.
    pub fn want(&mut self, value: Vec<u8>) {
        self.wanted = Some(value);
    }

    /// Until when the first value of a session that replaces a lost one waits to be confirmed; none if it does not wait.
    pub fn unconfirmed_until(&self, now: Moment) -> Option<Moment> {
        (now < self.write_from).then_some(self.write_from)
    }

    /// The value is up to date: it may be written at once.
    pub fn confirm(&mut self, now: Moment) {
        self.write_from = now;
    }

    /// What to ask now.
    pub fn next(&self, now: Moment) -> Step {
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        match &self.next {
            Next::Read => return Step::Read,
            Next::Destroy(session) => return Step::Destroy(session.clone()),
            Next::Usual => {}
        }
        let Some(wanted) = &self.wanted else { return Step::Wait(now + RENEW_EVERY) };
        let Some(session) = &self.session else { return Step::Create };
        if now >= self.renew_at {
            return Step::Renew(session.clone());
        }
        if self.written.as_ref() == Some(wanted) || self.other_since.is_some() {
            return Step::Wait(self.renew_at);
        }
        if now < self.write_from {
            return Step::Wait(self.renew_at.min(self.write_from));
        }
        Step::Acquire(session.clone(), wanted.clone())
    }

    /// Takes the answer to `step`.
    pub fn answer(&mut self, step: Step, answer: Answer, now: Moment) {
        if let Answer::Failed { denied } = answer {
            self.failed(&step, denied, now);
            return;
        }
        (self.pause, self.next) = (Duration::ZERO, Next::Usual);
        match (step, answer) {
            (_, Answer::Created(session)) => {
                self.session = Some(session);
                // Before the first session there is no report that this one could replace.
                if std::mem::replace(&mut self.had_session, true) {
                    self.write_from = now + CONFIRM_WITHIN;
                }
                self.confirmed = now;
                self.renew_at = now + RENEW_EVERY;
            }
            (_, Answer::Renewed(true)) => {
                self.confirmed = now;
                self.renew_at = now + RENEW_EVERY;
                // A value that was deleted or replaced, and a holder that went away, are noticed here.
                self.next = Next::Read;
            }
            (_, Answer::Renewed(false)) => self.lost(),
            (Step::Acquire(_, value), Answer::Acquired(true)) => {
                self.written = Some(value);
                self.other_since = None;
                self.standing = Standing::Held;
            }
            (_, Answer::Acquired(_)) => self.next = Next::Read,
            (_, Answer::Key(seen)) => self.read(seen, now),
            (_, Answer::Destroyed) => self.other_since = None,
            (_, Answer::Failed { .. }) => {}
        }
    }

    fn lost(&mut self) {
        self.session = None;
        self.written = None;
        if self.standing == Standing::Held {
            self.standing = Standing::Absent;
        }
    }

    fn read(&mut self, seen: Option<Seen>, now: Moment) {
        let Some(Seen { session: Some(holder), machine, incarnation, value }) = seen else {
            // The key is gone, or nobody holds it: it can be acquired.
            self.written = None;
            self.other_since = None;
            return;
        };
        if self.session.as_ref() == Some(&holder) {
            self.written = Some(value);
            self.other_since = None;
            self.standing = Standing::Held;
            return;
        }
        self.written = None;
        let own_machine = machine.as_deref() == Some(self.machine.as_str());
        let own_run = own_machine && incarnation.as_deref() == Some(self.incarnation.as_str());
        if own_run || (own_machine && self.took_over.as_ref().is_none_or(|earlier| *earlier == holder)) {
            // Counts as soon as it is decided: an answer that gets lost must not allow the takeover of another session.
            if !own_run {
                self.took_over = Some(holder.clone());
            }
            self.next = Next::Destroy(holder);
            return;
        }
        let since = *self.other_since.get_or_insert(now);
        let duplicate = own_machine || now.since(since) >= DUPLICATE_AFTER;
        self.standing = if duplicate { Standing::Duplicate } else { Standing::Absent };
    }

    fn failed(&mut self, step: &Step, denied: bool, now: Moment) {
        if denied {
            self.standing = Standing::Denied;
        } else if self.standing == Standing::Held && now.since(self.confirmed) >= KNOWN_FOR {
            self.standing = Standing::Absent;
        }
        // With ACLs, Consul answers with an error if the session to be ended is gone: find out who holds the key now.
        if matches!(step, Step::Destroy(_)) {
            self.next = Next::Read;
        }
        // A key that cannot be written may belong to a session that Consul does not have any more: ask for it.
        if matches!(step, Step::Acquire(..)) {
            self.renew_at = now;
        }
        self.pause = (self.pause * 2).clamp(RETRY_FIRST, RETRY_MOST);
        self.not_before = now + if denied { RETRY_DENIED } else { self.pause };
    }
}

#[cfg(test)]
mod tests;
