use std::{fmt::Write as _, process::ExitCode};

/// How weightctl ends. The numbers are promised: scripts may test for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done, or there was nothing to do.
    Ok = 0,
    /// It failed for a reason that has no number of its own.
    Failure = 1,
    /// Wrong use: an argument, a variable of the environment, or no terminal to ask on.
    Usage = 2,
    /// A HAProxy does not have the weights, or did not have them in time.
    NotConverged = 3,
    /// Consul denies it to this token.
    Denied = 4,
    /// Somebody else changed the backend between the read and the write; nothing was written.
    Conflict = 5,
    /// Consul cannot be reached or has no leader.
    Unreachable = 6,
    /// Refused by validation or a guard; nothing was written.
    Refused = 7,
    /// What was compared differs.
    Different = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NotConverged,
        Self::Denied,
        Self::Conflict,
        Self::Unreachable,
        Self::Refused,
        Self::Different,
        Self::Interrupted,
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, as the help says it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done, or nothing to do",
            Self::Failure => "failed for a reason that is not listed here",
            Self::Usage => "wrong use: an argument, a variable, or no terminal to ask on",
            Self::NotConverged => "a HAProxy does not have the weights, or not in time",
            Self::Denied => "Consul denies it to this token",
            Self::Conflict => "somebody else changed the backend meanwhile; nothing was written",
            Self::Unreachable => "Consul cannot be reached or has no leader",
            Self::Refused => "refused by validation or a guard; nothing of it was written",
            Self::Different => "what was compared differs",
            Self::Interrupted => "interrupted (Ctrl-C)",
        }
    }

    /// The section of the long help that lists them.
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
