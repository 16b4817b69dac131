use std::path::PathBuf;

use clap::Parser;

use crate::base::manual::About;

/// Keeps the server weights in HAProxy in step with Consul KV, through the runtime API, without reloads
#[derive(Debug, Parser)]
#[command(name = "weightd", version = crate::VERSION, after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Configuration file [default: /etc/weightd/weightd.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration and exit; an unreadable token file is only a warning
    #[arg(long)]
    pub check: bool,

    /// Reconcile once and exit: 0 if every weight matches Consul, else 3
    #[arg(long)]
    pub once: bool,

    /// Log the weights that would be set, but set none; takes no lock, stores and serves nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub about: About,
}

const AFTER_HELP: &str = "\
weightd reads the environment variables of Consul (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT, …).
WEIGHTD_LOG sets the log level. Environment variables override the configuration file.

SIGHUP reloads the configuration, the token and the certificates. Stopping weightd changes nothing in HAProxy.

Exit codes: 0 success, 1 failure, 3 not converged (--once), 64 invalid configuration, 75 already running";
