use clap::ValueEnum;

use super::{Exit, failure::Failure, output};

const WHERE: &str = "\
To try it in the current shell:
  source <(weightctl completions bash)
  source <(weightctl completions zsh)
  weightctl completions fish | source

To install it, write it to the folder that the shell reads:
  bash  ~/.local/share/bash-completion/completions/weightctl
  zsh   a file _weightctl in a folder of $fpath
  fish  ~/.config/fish/completions/weightctl.fish

Backends and servers come from Consul, with the options on the line and the variables that every
command uses, such as CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN. If Consul does not answer within
200 ms, no backend or server is offered.";

/// Print the completion script for a shell; it completes backends and servers from Consul
#[derive(Debug, clap::Args)]
#[command(hide = true, after_long_help = WHERE)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

/// A shell with a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    output::print(match args.shell {
        Shell::Bash => include_str!("completions/weightctl.bash"),
        Shell::Zsh => include_str!("completions/weightctl.zsh"),
        Shell::Fish => include_str!("completions/weightctl.fish"),
    })?;
    Ok(Exit::Ok)
}
