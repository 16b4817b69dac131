//! The output of the demo: permanent lines, and on a terminal one line that is redrawn.

use std::io::{self, IsTerminal as _, Stdout, Write as _};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

/// The maximum width of a line, in columns.
const WIDTH: usize = 80;
/// The width of a bar, in columns.
const BAR: u8 = 26;

const BLUE: Style = AnsiColor::Blue.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Standard output of this process. Without colours if it is not a terminal or if `NO_COLOR` is set.
pub struct Screen {
    out: AutoStream<Stdout>,
    terminal: bool,
    drawn: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self { out: anstream::stdout(), terminal: io::stdout().is_terminal(), drawn: false }
    }
}

impl Screen {
    /// Writes a line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.wipe()?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Writes the heading of a section.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{BOLD}{text}{BOLD:#}"))
    }

    /// Writes a fact with its subject.
    pub fn fact(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.line(&format!("  {FAINT}{name:<9}{FAINT:#} {text}"))
    }

    /// Writes the error.
    pub fn failure(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{RED}failed:{RED:#} {text}"))
    }

    /// Redraws the last line. Does nothing without a terminal.
    pub fn live(&mut self, text: &str) -> io::Result<()> {
        if self.terminal {
            // All such lines have the same length, so the previous line is covered.
            write!(self.out, "\r{text}")?;
            self.drawn = true;
            self.out.flush()?;
        }
        Ok(())
    }

    fn wipe(&mut self) -> io::Result<()> {
        if self.drawn {
            // Spaces, not an escape sequence: anstream removes escape sequences without colours.
            write!(self.out, "\r{:WIDTH$}\r", "")?;
            self.drawn = false;
        }
        Ok(())
    }
}

/// A command as typed in a shell.
pub fn command(text: &str) -> String {
    format!("{BOLD}$ {text}{BOLD:#}")
}

/// A bar with the shares of blue and green. A side with any traffic has at least one column.
pub fn bar(green: f64) -> String {
    let width = f64::from(BAR);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the width")]
    let mut cells = (green * width / 100.0).round().clamp(0.0, width) as usize;
    let all = usize::from(BAR);
    if green > 0.0 && cells == 0 {
        cells = 1;
    } else if green < 100.0 && cells == all {
        cells = all - 1;
    }
    let (blue, green) = ("█".repeat(all - cells), "░".repeat(cells));
    format!("{BLUE}blue {blue}{BLUE:#}{GREEN}{green} green{GREEN:#}")
}
