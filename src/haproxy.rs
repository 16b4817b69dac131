//! The client of HAProxy's runtime API.
//!
//! Owns the wire: what is said ([`command`]), how ([`socket`]) and how an answer is read ([`reply`]); and the file from which
//! HAProxy takes weights when it starts ([`state_file`]). Must
//! never hold a connection, never say anything but reads and weights, and never decide what should change.
//!
//! HAProxy 2.2 to 3.2 are understood without asking which one it is: columns are found by name, since some were added,
//! and of errors, whose texts were changed, only the beginning that stayed is read.

pub mod address;
pub mod command;
pub mod reply;
pub mod socket;
pub mod state_file;

use std::{ops::Range, time::Duration};

pub use address::Address;
pub use command::{Command, Line};
pub use reply::Info;
pub use socket::ExchangeError;
use weightd_core::observed::BadReply;

/// How long HAProxy may take to answer one line. It answers in well under a millisecond; one that does not
/// within this is stopped, hung, or out of connections.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// One HAProxy process's runtime API, reached anew for each line.
#[derive(Debug, Clone)]
pub struct Runtime {
    address: Address,
    deadline: Duration,
}

/// The answer to one line: as many frames as it had commands.
#[derive(Debug)]
pub struct Answer {
    text: String,
    frames: Vec<Range<usize>>,
}

impl Answer {
    /// The frames, in the order of the commands.
    pub fn frames(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().map(|range| &self.text[range.clone()])
    }
}

impl Runtime {
    /// The runtime API at `address`.
    pub fn new(address: Address) -> Self {
        Self { address, deadline: DEADLINE }
    }

    /// Sends one line and reads its answer.
    ///
    /// # Errors
    /// [`ExchangeError`] if no answer came or it does not have one frame for each command; then nothing is
    /// known of what ran.
    pub async fn ask(&self, line: &Line) -> Result<Answer, ExchangeError> {
        let text = socket::exchange(&self.address, line, self.deadline).await?;
        let frames = reply::frames(&text, line.commands()).map_err(|source| self.bad(source))?;
        Ok(Answer { text, frames })
    }

    /// Wraps what is wrong with an answer from here.
    pub fn bad(&self, source: BadReply) -> ExchangeError {
        ExchangeError::BadReply { address: self.address.clone(), source }
    }
}
