//! All commands that weightd sends to HAProxy: reads, and `set server … weight`.
//!
//! Only this file writes the syntax of the runtime API. The types of names and weights exclude every text that
//! HAProxy's parser could misread. A [`ReadLine`] holds only reads, so a program without a [`WriteLine`] cannot change
//! HAProxy.

use std::fmt;

use weightd_core::model::{BackendName, ServerName, Weight};

/// A read-only command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query<'a> {
    /// The process that answers: version, Pid, uptime.
    ShowInfo,
    /// The permission level of the socket. `set server … weight` needs admin.
    ShowCliLevel,
    /// The names of all backends.
    ShowBackend,
    /// The servers of one backend, with `srv_uweight`, the weight that was set last.
    ShowServersState(&'a BackendName),
    /// The algorithm of the backend with this id, and the roles of all its servers (types 2 backend + 4 server). It
    /// uses the id, because HAProxy would first find a frontend of the same name.
    ShowStat(u32),
    /// The same counters of the worker with this Pid, which leaves after a reload. For the master socket only, and alone on
    /// its line: the master sends only the first command to the worker.
    LeavingStat {
        /// The Pid of the worker.
        pid: u32,
        /// The id of the backend in that worker.
        id: u32,
    },
    /// The stick tables, one line per table, without content.
    ShowTable,
}

/// Sets the weight of one server to an absolute number. A percentage is relative to the configured weight, so it cannot
/// raise a server with the configured weight 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetWeight<'a> {
    /// The backend.
    pub backend: &'a BackendName,
    /// The server.
    pub server: &'a ServerName,
    /// The new weight.
    pub weight: Weight,
}

impl fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShowInfo => f.write_str("show info"),
            Self::ShowCliLevel => f.write_str("show cli level"),
            Self::ShowBackend => f.write_str("show backend"),
            Self::ShowServersState(backend) => write!(f, "show servers state {backend}"),
            Self::ShowTable => f.write_str("show table"),
            Self::ShowStat(id) => write!(f, "show stat {id} 6 -1"),
            Self::LeavingStat { pid, id } => write!(f, "@!{pid} show stat {id} 6 -1"),
        }
    }
}

impl fmt::Display for SetWeight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, server, weight } = self;
        write!(f, "set server {backend}/{server} weight {weight}")
    }
}

/// One line of commands joined by `;`. Each connection carries one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    commands: usize,
}

impl Line {
    /// Maximum size of a line in bytes, including the LF. HAProxy's own limit is `tune.bufsize`. A site can lower it,
    /// and no command reports it. HAProxy 2.2 hangs at 16 KiB. Lines above 4 KiB are not faster.
    pub const MAX_BYTES: usize = 4096;

    /// Adds all of `commands` if they fit, else none, so that a group is never split. Returns whether they fit. A
    /// single command always fits into an empty line.
    fn try_push(&mut self, commands: impl IntoIterator<Item = impl fmt::Display>) -> bool {
        let before = (self.text.len(), self.commands);
        for command in commands {
            self.push(command);
        }
        if self.text.len() < Self::MAX_BYTES || before.1 == 0 && self.commands == 1 {
            return true;
        }
        self.text.truncate(before.0);
        self.commands = before.1;
        false
    }

    fn push(&mut self, command: impl fmt::Display) {
        use std::fmt::Write as _;
        if self.commands > 0 {
            self.text.push(';');
        }
        let written = write!(self.text, "{command}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        self.commands += 1;
    }

    /// Returns the number of commands, which is the number of expected replies.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// Returns the text to send, including the LF.
    pub fn wire(&self) -> String {
        format!("{}\n", self.text)
    }
}

/// A line of read-only commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadLine(Line);

impl ReadLine {
    /// Creates a line of these commands. The caller guarantees that they fit.
    pub fn of<'a>(queries: impl IntoIterator<Item = Query<'a>>) -> Self {
        let mut line = Line::default();
        queries.into_iter().for_each(|query| line.push(query));
        Self(line)
    }

    /// Adds a command if it fits, and returns whether it fits.
    pub fn try_push(&mut self, query: Query<'_>) -> bool {
        self.0.try_push([query])
    }

    /// Returns the line.
    pub fn line(&self) -> &Line {
        &self.0
    }
}

/// A line that sets weights and reads them back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteLine(Line);

impl WriteLine {
    /// Adds these commands and the read-back of the backend if all of them fit, else nothing. Returns whether they fit.
    pub fn try_push_with_read_back(&mut self, sets: &[SetWeight<'_>], backend: &BackendName) -> bool {
        let sets = sets.iter().map(|set| set as &dyn fmt::Display);
        let read_back = Query::ShowServersState(backend);
        self.0.try_push(sets.chain([&read_back as &dyn fmt::Display]))
    }

    /// Adds a command if it fits, and returns whether it fits.
    pub fn try_push(&mut self, set: SetWeight<'_>) -> bool {
        self.0.try_push([set])
    }

    /// Adds a read-back if it fits, and returns whether it fits.
    pub fn try_push_read_back(&mut self, backend: &BackendName) -> bool {
        self.0.try_push([Query::ShowServersState(backend)])
    }

    /// Returns the line.
    pub fn line(&self) -> &Line {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_use_the_syntax_of_haproxy() {
        let backend = BackendName::new("app").unwrap();
        let server = ServerName::new("blue").unwrap();
        let line = ReadLine::of([
            Query::ShowInfo,
            Query::ShowCliLevel,
            Query::ShowBackend,
            Query::ShowTable,
            Query::ShowStat(3),
        ]);
        assert_eq!(line.line().wire(), "show info;show cli level;show backend;show table;show stat 3 6 -1\n");
        assert_eq!(line.line().commands(), 5);
        let line = ReadLine::of([Query::LeavingStat { pid: 17, id: 3 }]);
        assert_eq!(line.line().wire(), "@!17 show stat 3 6 -1\n");
        let mut line = WriteLine::default();
        let set = SetWeight { backend: &backend, server: &server, weight: Weight::MAX };
        assert!(line.try_push_with_read_back(&[set], &backend));
        assert_eq!(line.line().wire(), "set server app/blue weight 256;show servers state app\n");
        assert_eq!(line.line().commands(), 2);
    }

    #[test]
    fn a_group_of_commands_is_never_split() {
        let backend = BackendName::new(&"b".repeat(255)).unwrap();
        let server = ServerName::new(&"s".repeat(255)).unwrap();
        let set = SetWeight { backend: &backend, server: &server, weight: Weight::MAX };
        let mut line = WriteLine::default();
        while line.try_push_with_read_back(&[set, set], &backend) {}
        let wire = line.line().wire();
        assert!(wire.len() <= Line::MAX_BYTES);
        assert_eq!(line.line().commands() % 3, 0);
        assert_eq!(wire.matches("set server").count(), line.line().commands() / 3 * 2);
    }
}
