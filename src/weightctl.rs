//! weightctl: what people and pipelines use to look at weights and to change them.
//!
//! Talks to Consul with the user's own token, so that it works from a laptop and when no weightd runs; with
//! `--local` to the weightd of this host. Data goes to stdout, talk to stderr, and nothing else than
//! [`Exit`]'s numbers comes out at the end. What a command would change is worked out without I/O
//! ([`crate::documents::edit`]), shown before anybody is asked, and written only if nobody else was faster. Must never
//! change what it did not show, and must never talk to HAProxy but to look, in `check` and `import`.

mod change;
mod check;
mod cli;
mod complete;
mod completions;
mod context;
mod exit;
mod failure;
mod get;
mod host;
mod import;
mod list;
mod local;
mod man;
mod output;
mod pause;
mod preview;
mod refusals;
mod release;
mod resume;
mod serving;
mod set;
mod status;
mod table;

use std::{ffi::OsString, process::ExitCode};

use clap::FromArgMatches as _;
pub use exit::Exit;
use tokio::signal::ctrl_c;

use self::{
    cli::{Cli, Verb},
    context::Context,
    failure::Failure,
};
use crate::consul::Env;

/// Runs the command that `args` are, and says how it ended.
pub async fn run(args: impl Iterator<Item = OsString>, env: &Env<'_>) -> ExitCode {
    let args: Vec<_> = args.collect();
    if let Some(words) = complete::asked(&args) {
        return complete::run(words, env).into();
    }
    let mut command = cli::command();
    let parsed = command.try_get_matches_from_mut(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(answer) => return output::usage(&cli::explain(answer)).into(),
    };
    let done = tokio::select! {
        // A command that has an answer of its own to Ctrl-C gives that.
        biased;
        done = dispatch(&cli, env) => done,
        _ = ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    done.unwrap_or_else(|failure| {
        // That the reader of stdout has gone is nothing to talk about.
        if failure.exit != Exit::Ok {
            output::failure(&failure);
        }
        failure.exit
    })
    .into()
}

async fn dispatch(cli: &Cli, env: &Env<'_>) -> Result<Exit, Failure> {
    let context = Context::new(&cli.global, env);
    match &cli.verb {
        Verb::Get(args) => get::run(args, &context).await,
        Verb::Set(args) => set::run(args, &context).await,
        Verb::Release(args) => release::run(args, &context).await,
        Verb::Import(args) => import::run(args, &context).await,
        Verb::List(args) => list::run(args, &context).await,
        Verb::Status(args) => status::run(args, &context).await,
        Verb::Check(args) => check::run(args, &context).await,
        Verb::Pause(args) => pause::run(args, &context).await,
        Verb::Resume(args) => resume::run(args, &context).await,
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    }
}
