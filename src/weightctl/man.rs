use clap::CommandFactory as _;
use weightd_core::model::{Escaped, nearest};

use super::{Exit, failure::Failure, output};
use crate::{base::manual, weightctl::cli::Cli};

/// Print a manual page: `weightctl man | man -l -`
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    /// The command; without it weightctl as a whole
    verb: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    output::print(&page(args.verb.as_deref())?)?;
    Ok(Exit::Ok)
}

fn page(verb: Option<&str>) -> Result<String, Failure> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Adds the full name and the global options to each command.
    cli.build();
    let command = match verb {
        None => cli,
        Some(verb) => match cli.find_subcommand(verb) {
            Some(command) => command.clone(),
            None => return Err(no_such(verb, &cli)),
        },
    };
    Ok(manual::page(command, "1"))
}

fn no_such(verb: &str, cli: &clap::Command) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("there is no command `{}`", Escaped(verb)));
    let verbs = cli.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    failure.hint(match nearest(verb, verbs) {
        Some(near) => format!("did you mean `weightctl man {near}`?"),
        None => "`weightctl --help` lists the commands".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_the_main_page_names_it() {
        let main = page(None).unwrap();
        let cli = Cli::command();
        for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set()).map(clap::Command::get_name) {
            assert!(main.contains(&format!("weightctl\\-{verb}(1)")), "{verb}");
            let page = page(Some(verb)).unwrap();
            assert!(page.contains(&format!(".TH weightctl-{verb} 1")) && page.contains("http\\-addr"), "{page}");
        }
    }

    #[test]
    fn an_unknown_command_gets_a_suggestion() {
        let failure = page(Some("sett")).unwrap_err();
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::Usage, Some("did you mean `weightctl man set`?")));
    }
}
