use std::{error::Error, fmt};

use super::Exit;

/// The failure of a command: exit code, error and hint.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) exit: Exit,
    /// The error, with its causes.
    pub(super) error: anyhow::Error,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Failure {
    /// A failure with this message.
    pub(super) fn new(exit: Exit, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { exit, error: anyhow::Error::msg(message), hint: None }
    }

    /// A failure with the message and the causes of `error`.
    pub(super) fn caused(exit: Exit, error: impl Error + Send + Sync + 'static) -> Self {
        Self { exit, error: anyhow::Error::new(error), hint: None }
    }

    /// Sets the hint: what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `message` in front of the error, such as the action that failed.
    pub(super) fn context(mut self, message: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(message);
        self
    }
}
