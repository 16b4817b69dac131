//! Checks everything that a shift depends on. Every failure comes with the command that fixes it.
//!
//! Owns the list of checks and their order. Changes nothing in Consul or HAProxy: it reads HAProxy with weightd's own
//! session and a client that can only read ([`crate::weightd::survey`]).

mod consul;
mod finding;
mod host;
mod weightd;

use std::{path::PathBuf, sync::Arc};

use weightd_core::desired::DesiredState;

use self::finding::Report;
use super::{Exit, context::Context, failure::Failure};
use crate::haproxy;

/// Find what is wrong, with the command that fixes it
///
/// Checks Consul, the rights of your token and every document; on a host with HAProxy also each HAProxy in weightd's
/// configuration, and weightd itself. Changes nothing. Ends with 0 if nothing failed, else with 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of this host's weightd
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration of this host's weightd [default: /etc/weightd/weightd.toml, if it exists]"
    )]
    config: Option<PathBuf>,
    /// Check the HAProxy with this runtime API instead of those in weightd's configuration
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    haproxy: Option<haproxy::Address>,
    /// Do not check whether the token may write
    #[arg(long)]
    read_only: bool,
}

/// The documents that this token may read.
#[derive(Debug, Clone)]
struct Documents {
    state: Arc<DesiredState>,
    /// Whether these are all documents.
    complete: bool,
}

/// In JSON a [`Report`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let consul = consul::check(context, args.read_only).await?;
    let mut sections = vec![consul.section];
    let documents = consul.state.map(|state| Documents { state, complete: consul.complete });
    sections.extend(host::check(args, context, documents.as_ref(), context.client()?).await);
    let report = Report::of(sections);
    context.format.data(&report, Report::table)?;
    Ok(if report.ok { Exit::Ok } else { Exit::Failure })
}
