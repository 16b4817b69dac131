use crate::model::{Escaped, Timestamp};

/// Why a person has to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The last change has no shares on one side of it: a release, an all-zero document, something unreadable.
    #[error("the last change cannot be compared with the state before it")]
    NotComparable,
    /// The shift changed its direction.
    #[error("the present shift changed its direction")]
    Turned,
    /// The entry that the rule finds has no shares, or gives the raised side no less.
    #[error("the state before the present shift does not take traffic off the raised servers")]
    NotLess,
    /// The target cannot be written in the terms of the present document.
    #[error("the state before the present shift names servers that the present document cannot express")]
    NotExpressible,
    /// The target of the last rollback is not in the history any more.
    #[error("the state that the last rollback went to is not in the history any more")]
    TargetDropped,
}

/// Why there is no rollback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The history has no earlier state.
    #[error("the history has nothing before the present state")]
    NothingBefore,
    /// The present state is the result of a rollback.
    #[error("the present state is a rollback already{}", said(.by.as_deref(), *.at))]
    AlreadyRolledBack {
        /// Who, as the entry says.
        by: Option<String>,
        /// When.
        at: Option<Timestamp>,
    },
    /// No earlier state gives less to the raised side.
    #[error("the history has no state that gives these servers less traffic")]
    NothingLess,
    /// There is no entry of that index.
    #[error("the history has no entry of index {0}")]
    NoSuchEntry(u64),
    /// What the entry says cannot be written.
    #[error(
        "the state of that entry cannot be written: it is too large, unreadable, or in other terms than the present document"
    )]
    NotWritable,
    /// The state is in force.
    #[error("the present document says the same already")]
    Unchanged,
}

fn said(by: Option<&str>, at: Option<Timestamp>) -> String {
    let by = by.map(|by| format!(", by {}", Escaped(by))).unwrap_or_default();
    let at = at.map(|at| format!(", at {at}")).unwrap_or_default();
    format!("{by}{at}")
}
