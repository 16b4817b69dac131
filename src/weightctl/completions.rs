use clap::ValueEnum;

use super::{Exit, failure::Failure, output};

const WHERE: &str = "\
Try it in the shell that is open:
  source <(weightctl completions bash)
  source <(weightctl completions zsh)
  weightctl completions fish | source

To stay, it goes where the shell looks for it:
  bash  ~/.local/share/bash-completion/completions/weightctl
  zsh   a file _weightctl in a folder of $fpath
  fish  ~/.config/fish/completions/weightctl.fish

Backends and servers are asked of Consul, as every command asks it: by the flags on the line and
CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on. Where it does not answer at once none are offered.";

/// Print what makes Tab work in a shell, with backends and servers as Consul has them
#[derive(Debug, clap::Args)]
#[command(hide = true, after_long_help = WHERE)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

/// A shell that can be taught.
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
