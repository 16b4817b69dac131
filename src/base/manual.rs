//! Generates the manual pages from the definitions of the command lines.
//!
//! A page must contain only text of `--help`.

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

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
