//! What is ever said to HAProxy: a closed vocabulary of reads and `set server … weight`.
//!
//! The only place that writes the runtime API's syntax. Names and weights come as types that cannot hold
//! anything its parser would read as something else.

use std::fmt;

use weightd_core::model::{BackendName, ServerName, Weight};

/// A command of the runtime API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Which process answers: version, Pid, uptime.
    ShowInfo,
    /// What this socket may do; admin is needed to set a weight.
    ShowCliLevel,
    /// The names of all backends.
    ShowBackend,
    /// The servers of one backend, with the weight somebody set.
    ShowServersState(&'a BackendName),
    /// The algorithm of the backend with this id and the roles of its servers (types 2 backend + 4 servers, all
    /// servers). By its id, because a frontend may have the same name, and would be found first.
    ShowStat(u32),
    /// The stick tables, one line each, without what is in them.
    ShowTable,
    /// Sets the weight of one server to an absolute number: a percentage is of the configured weight and
    /// can never leave 0.
    SetWeight(&'a BackendName, &'a ServerName, Weight),
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShowInfo => f.write_str("show info"),
            Self::ShowCliLevel => f.write_str("show cli level"),
            Self::ShowBackend => f.write_str("show backend"),
            Self::ShowServersState(backend) => write!(f, "show servers state {backend}"),
            Self::ShowTable => f.write_str("show table"),
            Self::ShowStat(id) => write!(f, "show stat {id} 6 -1"),
            Self::SetWeight(backend, server, weight) => write!(f, "set server {backend}/{server} weight {weight}"),
        }
    }
}

/// One line of commands, joined by `;`: what one connection carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    commands: usize,
}

impl Line {
    /// The most bytes of a line, its LF included. HAProxy's own limit is `tune.bufsize`, which no command
    /// reports and a site may lower; 2.2 hangs at 16 KiB; above 4 KiB nothing gets faster.
    pub const MAX_BYTES: usize = 4096;

    /// A line of these commands, which the caller knows to fit.
    pub fn of<'a>(commands: impl IntoIterator<Item = Command<'a>>) -> Self {
        let mut line = Self::default();
        for command in commands {
            line.push_text(&command.to_string());
        }
        line
    }

    /// Adds all of `commands` if they fit, or none: what belongs together must not be torn apart.
    pub fn try_push(&mut self, commands: &[Command<'_>]) -> bool {
        let before = (self.text.len(), self.commands);
        for command in commands {
            self.push_text(&command.to_string());
        }
        if self.text.len() < Self::MAX_BYTES || before.1 == 0 && commands.len() == 1 {
            return true;
        }
        self.text.truncate(before.0);
        self.commands = before.1;
        false
    }

    fn push_text(&mut self, command: &str) {
        if self.commands > 0 {
            self.text.push(';');
        }
        self.text.push_str(command);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_haproxy_reads_them() {
        let backend = BackendName::new("app").unwrap();
        let server = ServerName::new("blue").unwrap();
        let line = Line::of([
            Command::ShowInfo,
            Command::ShowCliLevel,
            Command::ShowBackend,
            Command::ShowTable,
            Command::ShowStat(3),
            Command::SetWeight(&backend, &server, Weight::MAX),
            Command::ShowServersState(&backend),
        ]);
        assert_eq!(
            line.wire(),
            "show info;show cli level;show backend;show table;show stat 3 6 -1;set server app/blue weight 256;show servers state app\n"
        );
        assert_eq!(line.commands(), 7);
    }

    #[test]
    fn a_line_takes_a_group_whole_or_not_at_all() {
        let backend = BackendName::new(&"b".repeat(255)).unwrap();
        let server = ServerName::new(&"s".repeat(255)).unwrap();
        let set = Command::SetWeight(&backend, &server, Weight::MAX);
        let mut line = Line::default();
        while line.try_push(&[set, set]) {}
        assert!(line.wire().len() <= Line::MAX_BYTES);
        assert_eq!(line.commands() % 2, 0);
        assert_eq!(line.wire().matches("set server").count(), line.commands());
    }
}
