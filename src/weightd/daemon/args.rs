use std::path::PathBuf;

use clap::Parser;
use clap_complete::Shell;

/// Keeps HAProxy's server weights what Consul KV says, through the runtime API, without reloads
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Parser)]
#[command(name = "weightd", version = crate::VERSION, after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The configuration file; without it /etc/weightd/weightd.toml if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration and exit; a token's file that cannot be read is a warning
    #[arg(long)]
    pub check: bool,

    /// Reconcile once and exit: 0 if everything is as Consul says, else 3
    #[arg(long)]
    pub once: bool,

    /// Show what would be set and set nothing; takes no lock, stores and serves nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print a configuration with every key, its default and its meaning, and exit
    #[arg(long)]
    pub print_default_config: bool,

    /// Print the script that completes this command line in a shell, and exit
    #[arg(long, value_name = "SHELL", hide = true)]
    pub completions: Option<Shell>,

    /// Print the manual page and exit
    #[arg(long, hide = true)]
    pub man: bool,
}

const AFTER_HELP: &str = "\
Consul's own environment variables are honoured (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT, …);
WEIGHTD_LOG sets the log's level. The environment beats the file.

SIGHUP reads the configuration, the token and the certificates again. Stopping weightd changes nothing in HAProxy.

Exit codes: 0 ok, 1 failure, 3 not converged (--once), 64 bad configuration, 75 already running";
