//! The vocabulary: every command that is ever sent to HAProxy. Reads, and `set server … weight`.
//!
//! The only place that writes the runtime API's syntax. Names and weights come as types that cannot hold anything that
//! HAProxy's parser would read as something else. A [`ReadLine`] can hold reads only, so that a program that never makes a
//! [`WriteLine`] cannot change anything.

use std::fmt;

use weightd_core::model::{BackendName, ServerName, Weight};

/// A command that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query<'a> {
    /// Which process answers: version, Pid, uptime.
    ShowInfo,
    /// What this socket may do; setting a weight needs admin.
    ShowCliLevel,
    /// The names of all backends.
    ShowBackend,
    /// The servers of one backend, with the weight that was set.
    ShowServersState(&'a BackendName),
    /// The algorithm of the backend with this id and the roles of its servers (types 2 backend + 4 servers, all servers).
    /// By its id, because a frontend may have the same name, and would be found first.
    ShowStat(u32),
    /// The stick tables, one line each, without their content.
    ShowTable,
}

/// Sets the weight of one server to an absolute number. A percentage would be of the configured weight, and can never
/// leave 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetWeight<'a> {
    /// The backend.
    pub backend: &'a BackendName,
    /// The server.
    pub server: &'a ServerName,
    /// Its new weight.
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
        }
    }
}

impl fmt::Display for SetWeight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, server, weight } = self;
        write!(f, "set server {backend}/{server} weight {weight}")
    }
}

/// One line of commands, joined by `;`: what one connection carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    commands: usize,
}

impl Line {
    /// The most bytes of a line, its LF included. HAProxy's own limit is `tune.bufsize`, which no command reports and a
    /// site may lower; 2.2 hangs at 16 KiB; above 4 KiB nothing gets faster.
    pub const MAX_BYTES: usize = 4096;

    /// Adds all of `commands` if they fit, or none: what belongs together must not be torn apart. A single command always
    /// fits an empty line.
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
        debug_assert!(written.is_ok(), "a string takes any text");
        self.commands += 1;
    }

    /// How many replies it asks for.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// The bytes to send, LF included.
    pub fn wire(&self) -> String {
        format!("{}\n", self.text)
    }
}

/// A line that changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadLine(Line);

impl ReadLine {
    /// A line of these commands, which the caller knows to fit.
    pub fn of<'a>(queries: impl IntoIterator<Item = Query<'a>>) -> Self {
        let mut line = Line::default();
        queries.into_iter().for_each(|query| line.push(query));
        Self(line)
    }

    /// Adds a command if it fits.
    pub fn try_push(&mut self, query: Query<'_>) -> bool {
        self.0.try_push([query])
    }

    /// The line.
    pub fn line(&self) -> &Line {
        &self.0
    }
}

/// A line that sets weights, and reads back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteLine(Line);

impl WriteLine {
    /// Adds these commands and then the read-back of the backend, if all of them fit; else nothing.
    pub fn try_push_with_read_back(&mut self, sets: &[SetWeight<'_>], backend: &BackendName) -> bool {
        let sets = sets.iter().map(|set| set as &dyn fmt::Display);
        let read_back = Query::ShowServersState(backend);
        self.0.try_push(sets.chain([&read_back as &dyn fmt::Display]))
    }

    /// Adds a command if it fits.
    pub fn try_push(&mut self, set: SetWeight<'_>) -> bool {
        self.0.try_push([set])
    }

    /// Adds a read-back if it fits.
    pub fn try_push_read_back(&mut self, backend: &BackendName) -> bool {
        self.0.try_push([Query::ShowServersState(backend)])
    }

    /// The line.
    pub fn line(&self) -> &Line {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_haproxy_reads_them() {
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
        let mut line = WriteLine::default();
        let set = SetWeight { backend: &backend, server: &server, weight: Weight::MAX };
        assert!(line.try_push_with_read_back(&[set], &backend));
        assert_eq!(line.line().wire(), "set server app/blue weight 256;show servers state app\n");
        assert_eq!(line.line().commands(), 2);
    }

    #[test]
    fn a_line_takes_a_group_whole_or_not_at_all() {
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
