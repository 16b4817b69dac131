//! Formats an error and its sources on one line. The project's error messages do not repeat their source.

use std::{error::Error, fmt};

/// Displays an error and all its sources, separated by `: `.
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

/// Displays only the last source of a library's error, such as "Connection refused", and not the steps of the library.
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
