//! What the demo shows: lines that stay, and on a terminal one that is drawn again and again.

use std::io::{self, IsTerminal as _, Stdout, Write as _};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

/// Columns that every line keeps to.
const WIDTH: usize = 80;
/// Columns of a bar.
const BAR: u8 = 26;

const BLUE: Style = AnsiColor::Blue.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Standard output of this process. Colours are left out where nobody would see them or `NO_COLOR` says so.
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

    /// Writes the heading of a part.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{BOLD}{text}{BOLD:#}"))
    }

    /// Writes a fact with its name in front.
    pub fn fact(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.line(&format!("  {FAINT}{name:<9}{FAINT:#} {text}"))
    }

    /// Writes why it failed.
    pub fn failure(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{RED}failed:{RED:#} {text}"))
    }

    /// Draws the line that lives at the bottom. Elsewhere than on a terminal it would be noise.
    pub fn live(&mut self, text: &str) -> io::Result<()> {
        if self.terminal {
            // Every such line is as long as the one before, so that nothing of that is left.
            write!(self.out, "\r{text}")?;
            self.drawn = true;
            self.out.flush()?;
        }
        Ok(())
    }

    fn wipe(&mut self) -> io::Result<()> {
        if self.drawn {
            // Spaces rather than an escape sequence, which is left out where there are no colours.
            write!(self.out, "\r{:WIDTH$}\r", "")?;
            self.drawn = false;
        }
        Ok(())
    }
}

/// A command as somebody would type it.
pub fn command(text: &str) -> String {
    format!("{BOLD}$ {text}{BOLD:#}")
}

/// Who answers, as a picture with a name at each end. Whoever answers at all has at least one column.
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
