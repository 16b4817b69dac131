//! Checks everything that a change of weights depends on. Every failure comes with the command that fixes it.
//!
//! This module defines the list of checks and their order. It changes nothing in Consul or HAProxy: it reads HAProxy
//! with weightd's own session and a read-only client ([`crate::weightd::survey`]).

mod consul;
mod finding;
mod host;
mod weightd;

use std::{path::PathBuf, sync::Arc};

use weightd_core::desired::DesiredState;

use self::finding::Report;
use super::{Exit, context::Context, failure::Failure, output};
use crate::haproxy;

/// Find problems, each with the command that fixes it
///
/// Checks Consul, the rights of your token and every document. On a host with HAProxy, also checks each HAProxy in
/// weightd's configuration, and weightd itself. Changes nothing. Exits with 0 if no check fails, else with 1.
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
    /// Whether the token can read every document.
    complete: bool,
}

/// Runs the checks. The JSON output is a [`Report`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let consul = consul::check(context, args.read_only).await?;
    let mut sections = vec![consul.section];
    let documents = consul.state.map(|state| Documents { state, complete: consul.complete });
    sections.extend(host::check(args, context, documents.as_ref(), context.client()?).await);
    let report = Report::of(sections);
    context.format.data(&report, |report| report.table(output::columns()))?;
    Ok(if report.ok { Exit::Ok } else { Exit::Failure })
}
