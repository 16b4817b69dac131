//! Checks everything that a shift depends on, and says what to do about what is wrong.
//!
//! Owns what is checked, and in which order. Changes nothing, neither in Consul nor in HAProxy: it reads HAProxy with
//! weightd's own session and a client that can only read ([`crate::weightd::survey`]).

mod consul;
mod finding;
mod host;
mod weightd;

use std::path::PathBuf;

use self::finding::Report;
use super::{Exit, context::Context, failure::Failure};
use crate::haproxy;

/// Find what is wrong, and what to do about it
///
/// Checks Consul, the rights of your token and every document; on a host with HAProxy also HAProxy, as weightd's
/// configuration names it, and weightd itself. Changes nothing. Ends with 0 if nothing failed, else with 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of this host's weightd
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration of this host's weightd [default: /etc/weightd/weightd.toml, if it is there]"
    )]
    config: Option<PathBuf>,
    /// Check the HAProxy whose runtime API is here, whatever weightd's configuration says
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    haproxy: Option<haproxy::Address>,
    /// Do not check whether the token may write
    #[arg(long)]
    read_only: bool,
}

/// In JSON a [`Report`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let consul = consul::check(context, args.read_only).await?;
    let mut sections = vec![consul.section];
    sections.extend(host::check(args, context, consul.state.as_ref(), context.client()?).await);
    let report = Report::of(sections);
    context.format.data(&report, Report::table)?;
    Ok(if report.ok { Exit::Ok } else { Exit::Failure })
}
