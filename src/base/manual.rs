//! What the programs print about themselves: the default configuration, completions and the manual page.
//!
//! A page must contain only text of `--help`.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

/// The options of a daemon that print something about it.
#[derive(Debug, clap::Args)]
pub struct About {
    /// Print a configuration file with all keys, their defaults and explanations, and exit
    #[arg(long)]
    print_default_config: bool,

    /// Print the completion script for a shell and exit
    #[arg(long, value_name = "SHELL", hide = true)]
    completions: Option<Shell>,

    /// Print the manual page and exit
    #[arg(long, hide = true)]
    man: bool,
}

impl About {
    /// The text to print; none if no option asks for one. `command` is the command line of the program, `default` gives the
    /// text of its default configuration.
    pub fn text(&self, mut command: Command, default: impl FnOnce() -> String) -> Option<String> {
        if self.print_default_config {
            return Some(default());
        }
        if let Some(shell) = self.completions {
            let mut script = Vec::new();
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut script);
            return Some(String::from_utf8_lossy(&script).into_owned());
        }
        self.man.then(|| page(command, "8"))
    }
}

/// Returns the manual page of `command` in roff, for the given section of the manual.
pub fn page(mut command: Command, section: &str) -> String {
    let notes = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    // The notes are written below without filling, so that examples keep their lines.
    command = command.after_help(None::<&str>).after_long_help(None::<&str>);
    let mut page = Vec::new();
    let mut end = Roff::new();
    if let Some(notes) = notes {
        end.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.lines() {
            end.text([roman(line)]);
        }
        end.control("fi", []);
    }
    end.control("SH", ["SEE ALSO"]).text([roman("weightd(8), weightctl(1)")]);
    let man = Man::new(command).section(section).manual("weightd");
    // Writing to memory cannot fail.
    let written = man.render(&mut page).and_then(|()| end.to_writer(&mut page));
    debug_assert!(written.is_ok(), "{written:?}");
    String::from_utf8_lossy(&page).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines() {
        let command =
            Command::new("prog").about("Does it").after_help("short").after_long_help("one  two\n.three\n'four'");
        let page = page(command, "8");
        assert!(page.contains(".TH prog 8"), "{page}");
        // roff reads a leading dot as a request, and prints an apostrophe as a curly one.
        assert!(page.contains(".SH NOTES\n.nf\none  two\n\\&.three\n"), "{page}");
        assert!(page.contains("\\*(Aqfour\\*(Aq\n.fi\n"), "{page}");
        assert!(!page.contains("short") && page.contains(".SH \"SEE ALSO\""), "{page}");
    }
}
