//! The client of HAProxy's runtime API.
//!
//! Owns the wire: which commands exist ([`command`]), how they are sent ([`socket`]), how an answer is parsed ([`reply`]),
//! and the file from which HAProxy takes weights when it starts ([`state_file`]). Must never hold a connection, never
//! send anything but reads and weights, and never decide what should change.
//!
//! HAProxy 2.2 to 3.2 are understood without asking for the version: columns are found by name, because newer versions
//! added some, and errors by the beginning of their text, because the rest was changed.

pub mod address;
pub mod command;
pub mod reply;
pub mod socket;
pub mod state_file;

use std::{ops::Range, time::Duration};

pub use address::Address;
pub use command::{Line, Query, ReadLine, SetWeight, WriteLine};
pub use reply::{BadReply, Info};
pub use socket::ExchangeError;

/// How long HAProxy may take to answer one line. It answers in well under a millisecond. One that needs longer is stopped,
/// hangs, or is out of connections.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The runtime API of one HAProxy, for reads only. Each line has a connection of its own.
#[derive(Debug, Clone)]
pub struct Reader {
    address: Address,
    deadline: Duration,
}

/// The runtime API of one HAProxy, for reads and weights.
#[derive(Debug, Clone)]
pub struct Writer {
    reader: Reader,
}

/// The answer to one line: as many frames as it had commands.
#[derive(Debug)]
pub struct Answer {
    text: String,
    frames: Vec<Range<usize>>,
}

impl Answer {
    /// Parses the answer to a line of this many commands.
    ///
    /// # Errors
    /// [`BadReply::Frames`] if it does not have one frame per command.
    pub fn parse(text: String, commands: usize) -> Result<Self, BadReply> {
        let frames = reply::frames(&text, commands)?;
        Ok(Self { text, frames })
    }

    /// The frames, in the order of the commands.
    pub fn frames(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().map(|range| &self.text[range.clone()])
    }
}

impl Reader {
    /// The runtime API at `address`.
    pub fn new(address: Address) -> Self {
        Self { address, deadline: DEADLINE }
    }

    /// Sends one line and reads its answer.
    ///
    /// # Errors
    /// [`ExchangeError`] if no answer came or it does not have one frame per command.
    pub async fn ask(&self, line: &ReadLine) -> Result<Answer, ExchangeError> {
        self.exchange(line.line()).await
    }

    /// That a frame of an answer cannot be parsed.
    pub fn bad_reply(&self, source: BadReply) -> ExchangeError {
        ExchangeError::BadReply { address: self.address.clone(), source }
    }

    async fn exchange(&self, line: &Line) -> Result<Answer, ExchangeError> {
        let text = socket::exchange(&self.address, line, self.deadline).await?;
        Answer::parse(text, line.commands()).map_err(|source| self.bad_reply(source))
    }
}

impl Writer {
    /// The runtime API at `address`.
    pub fn new(address: Address) -> Self {
        Self { reader: Reader::new(address) }
    }

    /// The same API, for reads only.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Sends one line that sets weights, and reads its answer.
    ///
    /// # Errors
    /// [`ExchangeError`]; then it is unknown which commands ran, and only a reading shows it.
    pub async fn send(&self, line: &WriteLine) -> Result<Answer, ExchangeError> {
        self.reader.exchange(line.line()).await
    }
}
