//! What `tick` wants done.

use super::state::{Evidence, State};
use crate::desired::PatternShare;

/// What the shell does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write the state, and the document with it where the share changes: one transaction. At most one is under way.
    Transact(Box<Transaction>),
    /// Write the evidence. It may wait for others, and be lost.
    Persist(Box<Evidence>),
    /// Tell people: the log, webhooks, audit.
    Tell(Event),
}

/// One transaction of the leader.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// The number of this attempt in this process: its answer names it.
    pub attempt: u64,
    /// The next state. If Consul has its `seq`, the transaction happened.
    pub state: State,
    /// The share of `to` to write as a split; none: the document is not touched.
    pub write: Option<PatternShare>,
    /// The index that the document must have: check-and-set where it is written, else a check. None: it does not matter,
    /// because the rollout has ended.
    pub document: Option<u64>,
    /// Whether a freeze stops it.
    pub obeys_freeze: bool,
    /// Whether the entry of the history marks the end of a rollout.
    pub ends: bool,
}

/// Something that people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The kind.
    pub kind: EventKind,
    /// For people, with the numbers.
    pub detail: String,
    /// Who caused it; none if it was the controller.
    pub by: Option<String>,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// It began.
    Started,
    /// The share was raised.
    Advanced,
    /// All nodes have the document.
    Applied,
    /// It waits, and a person should know.
    Holding,
    /// It waits for a person.
    Latched,
    /// It waits for an approval.
    Approval,
    /// Something is wrong with `to`, and it may not act.
    Warned,
    /// It goes back.
    RollingBack,
    /// It went back.
    RolledBack,
    /// It ended with the last step.
    Done,
    /// Somebody else wrote other shares.
    TakenOver,
    /// A person's document became a new step.
    Adopted,
    /// A request was answered.
    Answered,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Started,
        Self::Advanced,
        Self::Applied,
        Self::Holding,
        Self::Latched,
        Self::Approval,
        Self::Warned,
        Self::RollingBack,
        Self::RolledBack,
        Self::Done,
        Self::TakenOver,
        Self::Adopted,
        Self::Answered,
    ];

    /// The word of the log and of webhooks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Advanced => "advanced",
            Self::Applied => "applied",
            Self::Holding => "holding",
            Self::Latched => "latched",
            Self::Approval => "approval",
            Self::Warned => "warned",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Done => "done",
            Self::TakenOver => "taken_over",
            Self::Adopted => "adopted",
            Self::Answered => "answered",
        }
    }
}

impl Event {
    /// An event that the controller caused.
    pub fn new(kind: EventKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), by: None }
    }

    /// The same event, caused by a person.
    #[must_use]
    pub fn by(mut self, by: &str) -> Self {
        self.by = Some(by.to_owned());
        self
    }
}
