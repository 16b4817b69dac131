use std::{fmt::Write as _, process::ExitCode};

/// The exit codes of weightctl. The numbers are stable: scripts can test for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// A failure without a number of its own.
    Failure = 1,
    /// Wrong use: an argument, an environment variable, or no terminal for the question.
    Usage = 2,
    /// A HAProxy does not have the weights, or did not have them within the time limit.
    NotConverged = 3,
    /// Consul denies the request to this token.
    Denied = 4,
    /// Another writer changed the backend between the read and the write, and nothing was written; or during --wait.
    Conflict = 5,
    /// Consul cannot be reached or has no leader.
    Unreachable = 6,
    /// Refused by validation or a guard; nothing was written for the refused backend or key.
    Refused = 7,
    /// A comparison found a difference.
    Different = 8,
    /// A rollout was rolled back.
    RolledBack = 9,
    /// A rollout waits for a person.
    NeedsPerson = 10,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// All exit codes, in ascending order.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NotConverged,
        Self::Denied,
        Self::Conflict,
        Self::Unreachable,
        Self::Refused,
        Self::Different,
        Self::RolledBack,
        Self::NeedsPerson,
        Self::Interrupted,
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning, for the help text.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done, or nothing to do",
            Self::Failure => "failed for a reason that is not listed here",
            Self::Usage => "wrong use: an argument, an environment variable, or no terminal for the question",
            Self::NotConverged => "a HAProxy does not have the weights, or not within the time limit",
            Self::Denied => "Consul denies the request to this token",
            Self::Conflict => "another writer changed the backend meanwhile; the message says what was written",
            Self::Unreachable => "Consul cannot be reached or has no leader",
            Self::Refused => "refused by validation or a guard; what was refused was not written",
            Self::Different => "a comparison found a difference",
            Self::RolledBack => "a rollout was rolled back",
            Self::NeedsPerson => "a rollout waits for a person",
            Self::Interrupted => "interrupted (Ctrl-C)",
        }
    }

    /// The section `Exit codes` of the long help.
    pub(super) fn help() -> String {
        let mut text = "Exit codes:".to_owned();
        for exit in Self::ALL {
            let _ = write!(text, "\n  {:>3}  {}", exit.code(), exit.meaning());
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
