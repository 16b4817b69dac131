//! The client of HAProxy's runtime API.
//!
//! Owns the protocol: the commands ([`command`]), the connection ([`socket`]), the parsing of answers ([`reply`],
//! [`stat`]), and the server-state file that HAProxy reads at start ([`state_file`]). Must not keep a connection open, must send only
//! reads and weights, and must not decide what to change.
//!
//! Supports HAProxy 2.2 to 3.2 without a version check. Columns are found by name, because newer versions added
//! columns. Errors are matched by the start of their text, because versions changed the rest.

pub mod address;
pub mod command;
mod csv;
pub mod reply;
pub mod socket;
pub mod stat;
pub mod state_file;

use std::{ops::Range, time::Duration};

pub use address::Address;
pub use command::{Line, Query, ReadLine, SetWeight, WriteLine};
pub use reply::{BadReply, Info};
pub use socket::ExchangeError;

/// Deadline for the answer to one line. HAProxy normally answers in well under a millisecond. A longer time means that
/// the process is stopped, hangs, or has no free connection.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// A read-only client of the runtime API of one HAProxy. Opens a new connection for each line.
#[derive(Debug, Clone)]
pub struct Reader {
    address: Address,
    deadline: Duration,
}

/// A client of the runtime API of one HAProxy that can read and set weights.
#[derive(Debug, Clone)]
pub struct Writer {
    reader: Reader,
}

/// The answer to one line: one frame per command.
#[derive(Debug)]
pub struct Answer {
    text: String,
    frames: Vec<Range<usize>>,
}

impl Answer {
    /// Parses the answer to a line of `commands` commands.
    ///
    /// # Errors
    /// [`BadReply::Frames`] if the number of frames is different.
    pub fn parse(text: String, commands: usize) -> Result<Self, BadReply> {
        let frames = reply::frames(&text, commands)?;
        Ok(Self { text, frames })
    }

    /// Returns the frames in the order of the commands.
    pub fn frames(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().map(|range| &self.text[range.clone()])
    }
}

impl Reader {
    /// Creates a client for the runtime API at `address`. Does not connect.
    pub fn new(address: Address) -> Self {
        Self { address, deadline: DEADLINE }
    }

    /// Sends one line and returns its answer.
    ///
    /// # Errors
    /// [`ExchangeError`] if there is no answer, or the answer does not have one frame per command.
    pub async fn ask(&self, line: &ReadLine) -> Result<Answer, ExchangeError> {
        self.exchange(line.line()).await
    }

    /// Returns the error for a frame that cannot be parsed.
    pub fn bad_reply(&self, source: BadReply) -> ExchangeError {
        ExchangeError::BadReply { address: self.address.clone(), source }
    }

    async fn exchange(&self, line: &Line) -> Result<Answer, ExchangeError> {
        let text = socket::exchange(&self.address, line, self.deadline).await?;
        Answer::parse(text, line.commands()).map_err(|source| self.bad_reply(source))
    }
}

impl Writer {
    /// Creates a client for the runtime API at `address`. Does not connect.
    pub fn new(address: Address) -> Self {
        Self { reader: Reader::new(address) }
    }

    /// Returns the read-only client of the same API.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Sends one line that sets weights, and returns its answer.
    ///
    /// # Errors
    /// [`ExchangeError`]. It is then unknown which commands ran. Read the weights to find out.
    pub async fn send(&self, line: &WriteLine) -> Result<Answer, ExchangeError> {
        self.reader.exchange(line.line()).await
    }
}
