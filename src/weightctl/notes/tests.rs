use super::*;
use crate::weightctl::cli;

#[test]
fn a_description_that_does_not_fit_goes_below_its_example() {
    let notes = "Examples:\n  prog do it    does it\n  prog do it --all    does it for all\n                      and more\n\nA text in\n\
                 two lines.\n\nCodes:\n    0  done";
    let expected = "Examples:\n  prog do it    does it\n  prog do it --all\n      does it for all\n      and more\n\n\
                    A text in two lines.\n\nCodes:\n    0  done";
    assert_eq!(fitted(notes, 30), expected);
    // The meaning of an exit code goes on below itself.
    assert_eq!(fitted("Codes:\n    0  done, or nothing", 20), "Codes:\n    0  done, or\n       nothing");
    assert_eq!(fitted(notes, 100), notes.replace("in\ntwo", "in two"));
}

#[test]
fn no_example_of_any_help_is_wrapped_at_80_columns() {
    let mut seen = 0;
    each(&fit(cli::command(), 80), &mut |command, notes| {
        for line in notes.lines().filter(|line| line.starts_with(' ')) {
            assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            seen += 1;
        }
        // A text that stays in lines of its own would be wrapped within them.
        for text in notes.split("\n\n").filter(|text| !text.lines().any(|line| line.starts_with(' '))) {
            assert_eq!(text.lines().count(), 1, "{}: {text}", command.get_name());
        }
    });
    assert!(seen > 60, "{seen}");
}

fn each(command: &Command, see: &mut impl FnMut(&Command, &str)) {
    if let Some(notes) = command.get_after_long_help() {
        see(command, &notes.to_string());
    }
    for below in command.get_subcommands() {
        each(below, see);
    }
}
