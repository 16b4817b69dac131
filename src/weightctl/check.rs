//! The doctor: looks at everything that a shift rests on, and says what mends what is wrong.
//!
//! Owns what is looked at, and in which order. Changes nothing, neither in Consul nor in HAProxy: what it reads of
//! HAProxy it reads as a weightd that only observes, with the same code.

mod consul;
mod finding;
mod host;

use std::path::PathBuf;

use weightd_core::model::Root;

use self::finding::Report;
use super::{Exit, failure::Failure, output::Format};
use crate::{
    consul::{Client, Env},
    haproxy,
};

/// Find out what is wrong, and what mends it
///
/// Looks at Consul, at the rights of your token and at every document; on a host with HAProxy also at HAProxy, as
/// weightd's configuration names it, and at weightd itself. Changes nothing. Ends with 0 if nothing failed, else with 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of this host's weightd
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration of this host's weightd [default: /etc/weightd/weightd.toml, if it is there]"
    )]
    config: Option<PathBuf>,
    /// Look at the HAProxy whose runtime API is here, whatever weightd's configuration says
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    haproxy: Option<haproxy::Address>,
    /// Leave out whether the token may write: for tokens that are not meant to
    #[arg(long)]
    read_only: bool,
}

/// In JSON a [`Report`].
pub(super) async fn run(
    args: &Args,
    client: &Client,
    root: &Root,
    format: Format,
    env: &Env<'_>,
) -> Result<Exit, Failure> {
    let (section, state) = consul::look(client, root, args.read_only).await;
    let mut sections = vec![section];
    sections.extend(host::look(args, root, state.as_ref(), env).await);
    let report = Report::of(sections);
    format.data(&report, Report::table)?;
    Ok(if report.ok { Exit::Ok } else { Exit::Failure })
}
