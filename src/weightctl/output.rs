//! All output of weightctl: data to stdout, messages to stderr. No other module prints.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
};

use clap::ValueEnum;
use serde::Serialize;

use super::{Exit, failure::Failure, table::Tone};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs; stable.
    Json,
}

impl Format {
    /// Prints data: `value` as JSON, or the table that `table` makes of it.
    pub(super) fn data<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Table => print(&table(value)),
            Self::Json => self.json(value),
        }
    }

    /// Prints `value` with `-o json`; prints nothing in a table, where the messages on stderr are all there is.
    pub(super) fn json<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        match self {
            Self::Table => Ok(()),
            Self::Json => {
                json(&serde_json::to_string_pretty(value).map_err(|error| Failure::caused(Exit::Failure, error))?)
            }
        }
    }
}

/// Prints JSON text as data.
fn json(text: &str) -> Result<(), Failure> {
    print(&(harmless(text) + "\n"))
}

/// Whether a person can read a question and answer it.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Prints a message.
pub(super) fn say(text: &str) {
    talk(&format!("{text}\n"));
}

/// Prints a message with the mark `note:`.
pub(super) fn note(text: &str) {
    talk(&format!("{} {text}\n", Tone::Warn.paint("note:")));
}

/// Prints a question and leaves the cursor after it.
pub(super) fn ask(question: &str) {
    talk(&format!("{question} "));
}

/// Prints an error, its causes and its hint.
pub(super) fn failure(failure: &Failure) {
    let mut text = format!("{} {:#}\n", Tone::Bad.paint("error:"), failure.error);
    if let Some(hint) = &failure.hint {
        let _ = writeln!(text, "{} {hint}", Tone::Strong.paint("hint:"));
    }
    talk(&text);
}

/// Prints help, or the mistake in the command line.
pub(super) fn usage(answer: &clap::Error) -> Exit {
    let text = answer.render().ansi().to_string();
    if answer.use_stderr() {
        talk(&text);
        Exit::Usage
    } else {
        match print(&text) {
            Ok(()) => Exit::Ok,
            Err(failure) => failure.exit,
        }
    }
}

/// Prints data. A closed pipe ends the command with 0.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        let exit = if error.kind() == ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Failure };
        Failure::caused(exit, error).context("cannot write to stdout")
    })
}

/// Prints to stderr. There is no place to report a failure of that.
fn talk(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// The same JSON with each character that a terminal would interpret written as `\u....`. Such characters occur
/// only in strings: JSON's own line ends and blanks are ASCII.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        let acts = match c {
            '\n' => false,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
            _ => c.is_control(),
        };
        if acts {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn harmless_json_means_the_same(text in "(\\PC|[\u{0}-\u{9f}\u{2020}-\u{2070}])*") {
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let harmless = harmless(&json);
            let back: Vec<String> = serde_json::from_str(&harmless).unwrap();
            prop_assert_eq!(&back[0], &text);
            let clean = harmless.chars().all(|c| c == '\n' || !c.is_control());
            prop_assert!(clean);
        }
    }
}
