//! The notes below the help of a command: its examples and exit codes, in lines that fit the terminal.

use clap::Command;

use super::rollout::wrap;

/// The column of a description below its example.
const BELOW: &str = "      ";

/// The command, and those below it, with notes that clap does not wrap badly in `columns` columns.
pub(super) fn fit(command: Command, columns: usize) -> Command {
    let notes = command.get_after_long_help().map(ToString::to_string);
    let command = command.mut_subcommands(|below| fit(below, columns));
    match notes {
        Some(notes) => command.after_long_help(fitted(&notes, columns)),
        None => command,
    }
}

/// A description that does not fit beside its example goes below it. The lines of a text are joined: clap wraps them where the
/// terminal ends.
fn fitted(notes: &str, columns: usize) -> String {
    let paragraph = |text: &str| {
        if text.lines().any(|line| line.starts_with(' ')) { examples(text, columns) } else { text.replace('\n', " ") }
    };
    notes.split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n\n")
}

/// Examples, each in two lines if it is too long, or meanings of exit codes.
fn examples(text: &str, columns: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    // Whether the description of the last example is below it.
    let mut is_below = false;
    for line in text.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        let is_long = line.chars().count() > columns;
        match words.rsplit_once("  ") {
            _ if indent > BELOW.len() && (is_below || is_long) => lines.push(format!("{BELOW}{words}")),
            Some((command, what)) if is_long && command.contains(' ') => {
                is_below = true;
                lines.push(format!("{}{}", &line[..indent], command.trim_end()));
                lines.push(format!("{BELOW}{}", what.trim_start()));
            }
            // An exit code stays beside its meaning.
            Some((code, what)) if is_long => {
                let before = format!("{}{code}  ", &line[..indent]);
                let room = columns.saturating_sub(before.len());
                for (at, part) in wrap(what, room).into_iter().enumerate() {
                    let before = if at == 0 { before.clone() } else { " ".repeat(before.len()) };
                    lines.push(before + &part);
                }
            }
            _ => {
                is_below = is_below && indent > BELOW.len();
                lines.push(line.to_owned());
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
