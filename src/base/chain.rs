//! An error and everything that caused it, on one line: no message of ours repeats its source.

use std::{error::Error, fmt};

/// Shows an error with its sources, separated by colons.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

/// A library's error, shown by the last of its causes alone: "Connection refused", and not what the library did when that
/// happened.
#[derive(Debug)]
pub struct RootCause<E>(pub E);

impl<E: Error + 'static> fmt::Display for RootCause<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause: &(dyn Error + 'static) = &self.0;
        while let Some(source) = cause.source() {
            cause = source;
        }
        write!(f, "{cause}")
    }
}

impl<E: Error + 'static> Error for RootCause<E> {}
