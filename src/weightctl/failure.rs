use std::{error::Error, fmt};

use super::Exit;

/// Why a command ends early: with which exit code, what is said, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) exit: Exit,
    /// What went wrong, with its causes.
    pub(super) error: anyhow::Error,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Failure {
    /// A failure that is said in these words.
    pub(super) fn new(exit: Exit, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { exit, error: anyhow::Error::msg(message), hint: None }
    }

    /// A failure with its causes.
    pub(super) fn caused(exit: Exit, error: impl Error + Send + Sync + 'static) -> Self {
        Self { exit, error: anyhow::Error::new(error), hint: None }
    }

    /// Says what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was being done.
    pub(super) fn context(mut self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(doing);
        self
    }
}
