//! weightctl: the command-line tool that shows and changes weights, for people and pipelines.
//!
//! It talks to Consul with the user's own token, so it works from a laptop and without a running weightd. The verbs
//! of this host talk to its weightd. Data goes to stdout, messages to stderr. The exit code is one of [`Exit`].
//! [`crate::documents::edit`] computes a change without I/O. A command shows the change, asks, and writes it only if no
//! other writer changed the backend meanwhile. It must never write a change that it did not show. Only `check` and
//! `import` connect to HAProxy, and they only read.

mod apply;
mod change;
mod check;
mod cli;
mod complete;
mod completions;
mod context;
mod diff;
mod exit;
mod failure;
mod first;
mod fleet;
mod following;
mod forecast;
mod freeze;
mod get;
mod history;
mod host;
mod import;
mod list;
mod local;
mod man;
mod many;
mod node;
mod notes;
mod observing;
mod outcome;
mod output;
mod overriding;
mod pause;
mod preview;
mod reach;
mod refusals;
mod release;
mod resume;
mod rollback;
mod rollout;
mod serving;
mod set;
mod settle;
mod shift;
mod status;
mod table;
mod takeover;
mod traffic;
mod wait;
mod whois;

use std::{ffi::OsString, process::ExitCode};

use clap::FromArgMatches as _;
pub use exit::Exit;
use tokio::signal::ctrl_c;

use self::{
    cli::{Cli, Verb},
    context::Context,
    failure::Failure,
};
use crate::{
    consul::Env,
    documents::{Documents, TaskTracker},
};

/// Runs the command line `args` and returns its exit code. `env` reads a variable of the environment.
pub async fn run(args: impl Iterator<Item = OsString>, env: &Env<'_>) -> ExitCode {
    let args: Vec<_> = args.collect();
    if let Some(words) = complete::requested(&args) {
        return complete::run(words, env).into();
    }
    let columns = output::columns().unwrap_or(cli::WIDEST).min(cli::WIDEST);
    let mut command = notes::fit(cli::command(), columns);
    let parsed = command.try_get_matches_from_mut(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return output::usage(&cli::explain(error)).into(),
    };
    let tasks = TaskTracker::new();
    let result = tokio::select! {
        // The command first: some commands handle Ctrl-C themselves.
        biased;
        result = dispatch(&cli, env, &tasks) => result,
        _ = ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    Documents::leave(&tasks).await;
    result
        .unwrap_or_else(|failure| {
            // With `Exit::Ok`, the reader of stdout closed the pipe. That is no error.
            if failure.exit != Exit::Ok {
                output::failure(&failure);
            }
            failure.exit
        })
        .into()
}

async fn dispatch(cli: &Cli, env: &Env<'_>, tasks: &TaskTracker) -> Result<Exit, Failure> {
    let context = Context::new(&cli.global, env, tasks.clone());
    match &cli.verb {
        Verb::Get(args) => get::run(args, &context).await,
        Verb::Set(args) => set::run(args, &context).await,
        Verb::Shift(args) => shift::run(args, &context).await,
        Verb::Release(args) => release::run(args, &context).await,
        Verb::Import(args) => import::run(args, &context).await,
        Verb::List(args) => list::run(args, &context).await,
        Verb::Status(args) => status::run(args, &context).await,
        Verb::Check(args) => check::run(args, &context).await,
        Verb::Pause(args) => pause::run(args, &context).await,
        Verb::Resume(args) => resume::run(args, &context).await,
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
        Verb::History(args) => history::run(args, &context).await,
        Verb::Rollback(args) => rollback::run(args, &context).await,
        Verb::Rollout(args) => rollout::run(args, &context).await,
        Verb::Settle(args) => settle::run(args, &context).await,
        Verb::Freeze(args) => freeze::freeze(args, &context).await,
        Verb::Unfreeze(args) => freeze::unfreeze(args, &context).await,
        Verb::Apply(args) => apply::apply(args, &context).await,
        Verb::Export(args) => apply::export(args, &context).await,
        Verb::Diff(args) => diff::run(args, &context).await,
        Verb::Traffic(args) => traffic::run(args, &context).await,
        Verb::Node(args) => node::run(args, &context).await,
        Verb::Override(args) => overriding::run(args, &context).await,
        Verb::Whois(args) => whois::run(args, &context).await,
    }
}
