//! All output of weightctl: data to stdout, messages to stderr. No other module prints.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
    os::fd::AsFd,
};

use clap::ValueEnum;
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use terminal_size::{Height, Width};

use super::{Exit, failure::Failure, table::Tone};

/// The format of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs; stable.
    Json,
}

impl Format {
    /// Prints data: `value` as JSON, or the text of `table(value)`.
    pub(super) fn data<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Table => print(&table(value)),
            Self::Json => self.json(value),
        }
    }

    /// Prints `value` with `-o json`. Prints nothing with `-o table`: the messages on stderr contain the result.
    pub(super) fn json<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        match self {
            Self::Table => Ok(()),
            Self::Json => {
                json(&serde_json::to_string_pretty(value).map_err(|error| Failure::caused(Exit::Failure, error))?)
            }
        }
    }
}

impl Format {
    /// Prints `value` with `-o json`, on one line. Prints nothing with `-o table`.
    pub(super) fn json_line<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        match self {
            Self::Table => Ok(()),
            Self::Json => json(&serde_json::to_string(value).map_err(|error| Failure::caused(Exit::Failure, error))?),
        }
    }
}

/// Prints JSON text as data.
fn json(text: &str) -> Result<(), Failure> {
    print(&(escape_controls(text) + "\n"))
}

/// `count` with `noun`, in the plural unless `count` is 1.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// As [`counted`], for a number that another program counted.
pub(super) fn counted_u64(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The columns and the lines of the terminal of stdout; 80 and 24 if it is none.
pub(super) fn size() -> (usize, usize) {
    match terminal_size::terminal_size_of(io::stdout()) {
        // A terminal that does not say its size has 0.
        Some((Width(columns), Height(lines))) if columns > 0 && lines > 0 => (columns.into(), lines.into()),
        _ => (80, 24),
    }
}

/// The columns of the terminal of stdout; 80 if it is none.
pub(super) fn width() -> usize {
    size().0
}

/// Whether stdin and stderr are terminals, so that a person can answer a question.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether stderr is a terminal, so that a line can be redrawn in place.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether stdout is a terminal, so that a table can be redrawn in place.
pub(super) fn is_screen() -> bool {
    io::stdout().is_terminal()
}

/// The columns of the terminal of stdout; none in a pipe, where no line is cut.
pub(super) fn columns() -> Option<usize> {
    columns_of(&io::stdout())
}

/// The columns of the terminal of stderr; none if it is no terminal.
pub(super) fn message_columns() -> Option<usize> {
    columns_of(&io::stderr())
}

fn columns_of(stream: &(impl io::IsTerminal + AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Prints over the current line of stderr, which must be a terminal.
pub(super) fn redraw(text: &str) {
    print_stderr(&format!("\r{text}"));
}

/// Clears the terminal of stdout and prints as many lines of the data as fit.
pub(super) fn redraw_screen(text: &str) -> Result<(), Failure> {
    let text = match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => fitting(text, size.ws_row.into(), size.ws_col.into()),
        // A terminal that does not know its size.
        _ => text.to_owned(),
    };
    // Not through anstream: it removes escape sequences where NO_COLOR is set, and this is no colour.
    let clear = io::stdout().lock().write_all(b"\x1b[H\x1b[2J");
    clear.map_err(|error| Failure::caused(Exit::Failure, error).context("cannot write to stdout"))?;
    print(&text)
}

/// The first lines of `text` that fit a terminal of this size, and the number of the others. The cursor needs the last row.
fn fitting(text: &str, rows: usize, columns: usize) -> String {
    let height = |line: &str| {
        let shown = anstream::adapter::strip_str(line).to_string();
        shown.chars().count().div_ceil(columns).max(1)
    };
    let heights: Vec<_> = text.lines().map(height).collect();
    let room = rows.saturating_sub(1);
    if heights.iter().sum::<usize>() <= room {
        return text.to_owned();
    }
    let (mut used, mut fit) = (0, 0);
    for height in &heights {
        // One row for the number of the others.
        if used + height + 1 > room {
            break;
        }
        (used, fit) = (used + height, fit + 1);
    }
    let shown: String = text.split_inclusive('\n').take(fit).collect();
    format!("{shown}… {} more\n", counted(heights.len() - fit, "line"))
}

/// Prints a message.
pub(super) fn message(text: &str) {
    print_stderr(&format!("{text}\n"));
}

/// Prints a message with the prefix `note:`.
pub(super) fn note(text: &str) {
    print_stderr(&format!("{} {text}\n", Tone::Warn.paint("note:")));
}

/// Prints a question and leaves the cursor after it.
pub(super) fn ask(question: &str) {
    print_stderr(&format!("{question} "));
}

/// Prints an error, its causes and its hint.
pub(super) fn failure(failure: &Failure) {
    let mut text = format!("{} {:#}\n", Tone::Bad.paint("error:"), failure.error);
    if let Some(hint) = &failure.hint {
        let _ = writeln!(text, "{} {hint}", Tone::Strong.paint("hint:"));
    }
    print_stderr(&text);
}

/// Prints the help to stdout, or the error in the command line to stderr.
pub(super) fn usage(error: &clap::Error) -> Exit {
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        print_stderr(&text);
        Exit::Usage
    } else {
        match print(&text) {
            Ok(()) => Exit::Ok,
            Err(failure) => failure.exit,
        }
    }
}

/// Prints data. If the reader closed the pipe, the command ends with exit code 0.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        let exit = if error.kind() == ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Failure };
        Failure::caused(exit, error).context("cannot write to stdout")
    })
}

/// Prints to stderr. A failure is ignored: there is no place to report it.
fn print_stderr(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Replaces each character that a terminal would interpret by `\u....`. The JSON value stays the same: such characters
/// occur only in strings, because JSON's own line ends and blanks are ASCII.
fn escape_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        let interpreted = match c {
            '\n' => false,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
            _ => c.is_control(),
        };
        if interpreted {
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

    #[test]
    fn a_screen_has_as_many_lines_as_the_terminal_and_says_how_many_are_left_out() {
        let lines: Vec<_> = (1..=30).map(|line| format!("line {line}\n")).collect();
        let text = lines.concat();
        assert_eq!(fitting(&text, 31, 80), text);
        let cut = fitting(&text, 24, 80);
        assert_eq!(cut.lines().count(), 23);
        assert!(cut.ends_with("line 22\n… 8 lines more\n"), "{cut}");
        // A long line takes several rows, colours take none.
        let wide = format!("{}\n{}\n", "x".repeat(100), Tone::Bad.paint(&"y".repeat(40)));
        assert_eq!(fitting(&wide, 4, 50), wide);
        assert_eq!(fitting(&wide, 3, 50), "… 2 lines more\n");
    }

    proptest! {
        #[test]
        fn escaped_json_has_the_same_value(text in "(\\PC|[\u{0}-\u{9f}\u{2020}-\u{2070}])*") {
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let escaped = escape_controls(&json);
            let back: Vec<String> = serde_json::from_str(&escaped).unwrap();
            prop_assert_eq!(&back[0], &text);
            let clean = escaped.chars().all(|c| c == '\n' || !c.is_control());
            prop_assert!(clean);
        }
    }
}
