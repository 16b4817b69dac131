//! The command line: what weightctl can be asked, and how it finds Consul.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use weightd_core::model::Root;

use super::{Exit, check, completions, get, import, list, man, output::Format, pause, release, resume, set, status};
use crate::consul::{Address, settings};

const EXAMPLES: &str = "\
Examples:
  weightctl list                                   what Consul says, one line a backend
  weightctl get app1                               weights and shares of one backend
  weightctl set app1 blue=90 green=10 --create     begin to manage a backend
  weightctl set app1 green=50 --reason 'half'      shows the change, asks, writes
  weightctl set app1 blue=100 green=0 --yes        go back, without a question
  weightctl status --local                         does this host's HAProxy have it?
  weightctl check                                  what is wrong, here and in Consul, and what mends it
  weightctl pause app1 --local --for 30m           this host's weightd: hands off, Consul or not
  weightctl resume --local                         hands on again, before the time is over
  weightctl release app1                           stop managing it; HAProxy keeps its weights
  weightctl import --from-haproxy /run/haproxy/admin.sock
                                                   begin with the weights that are there today

Consul is found as Consul's own programs find it: by CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_AUTH, CONSUL_NAMESPACE and CONSUL_PARTITION; for TLS by
CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT,
CONSUL_CLIENT_KEY and CONSUL_TLS_SERVER_NAME. Flags come first.

On a host with weightd, its configuration gives the defaults: Consul's address, datacenter, CA and root,
and where weightd listens. That is /etc/weightd/weightd.toml, or the file that WEIGHTD_CONFIG names. Its
token is never used.";

/// Look at and change the server weights that weightd gives to HAProxy
#[derive(Debug, Parser)]
#[command(
    name = "weightctl",
    version = crate::VERSION,
    max_term_width = 100,
    after_help = "See `weightctl --help` for examples and exit codes.",
    after_long_help = format!("{EXAMPLES}\n\n{}", Exit::help())
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Where Consul listens
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        help = "Where Consul listens: host:port, https://host:port or unix:///path"
    )]
    pub(super) http_addr: Option<Address>,
    /// A file that holds the ACL token
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Consul's datacenter, if not the agent's own
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    pub(super) datacenter: Option<String>,
    /// Consul's namespace (Consul Enterprise)
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    pub(super) namespace: Option<String>,
    /// Consul's admin partition (Consul Enterprise)
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    pub(super) partition: Option<String>,
    /// The prefix under which the keys lie, as in weightd's configuration
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        env = "WEIGHTD_ROOT",
        hide_env_values = true,
        help = "The prefix of the keys [default: that of this host's weightd, else weightd/]"
    )]
    pub(super) root: Option<Root>,
    /// How to print data
    #[arg(long, short, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Get(get::Args),
    Set(set::Args),
    Release(release::Args),
    Import(import::Args),
    List(list::Args),
    Status(status::Args),
    Check(check::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Completions(completions::Args),
    Man(man::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn help(path: &[&str]) -> String {
        let args = ["weightctl"].iter().chain(path).chain(&["--help"]);
        let mut command = Cli::command().term_width(100);
        command.try_get_matches_from_mut(args).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_is_what_was_agreed_on() {
        insta::assert_snapshot!("help", help(&[]));
        insta::assert_snapshot!("help-set", help(&["set"]));
        insta::assert_snapshot!("help-check", help(&["check"]));
        insta::assert_snapshot!("help-import", help(&["import"]));
        insta::assert_snapshot!("help-pause", help(&["pause"]));
        insta::assert_snapshot!("help-resume", help(&["resume"]));
    }
}
