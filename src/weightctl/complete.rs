//! Shell completion: commands and options from the command line's definition, backends and servers from Consul.
//!
//! The shell runs it on each Tab. It must never print a message, never fail, and never block: it omits every candidate
//! that is not available within [`DEADLINE`].

use std::{
    env,
    ffi::{OsStr, OsString},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{self, ArgValueCandidates, CompletionCandidate};
use weightd_core::model::BackendName;

use super::{Exit, output};
use crate::{
    consul::Env,
    documents::{Documents, stored::Stored, view::View},
    weightctl::{
        cli::{Cli, Global},
        context::Context,
    },
};

/// The first argument of a completion request. The shell scripts pass the words after `weightctl` up to the cursor
/// behind it. It is not a verb of [`Cli`]: the parser would reject an unfinished line.
const VERB: &str = "__complete";

/// Time limit for Consul. With the shell's own work, a completion takes at most 300 ms.
const DEADLINE: Duration = Duration::from_millis(200);

/// The words to complete, if `args` are a completion request.
pub(super) fn requested(args: &[OsString]) -> Option<&[OsString]> {
    match args {
        [_, verb, words @ ..] if verb == VERB => Some(words),
        _ => None,
    }
}

/// Prints the candidates for the last of `words`, one per line: the word, a tab, its description.
pub(super) fn run(words: &[OsString], env: &Env<'_>) -> Exit {
    let Some((current, before)) = words.split_last() else { return Exit::Ok };
    let line = [OsString::from("weightctl")].into_iter().chain(words.iter().cloned()).collect();
    let mut command = with_consul(&Line::read(before, current, env));
    // An error means that there is no candidate.
    let mut candidates =
        engine::complete(&mut command, line, words.len(), env::current_dir().ok().as_deref()).unwrap_or_default();
    // Offer options only after a `-`: they would hide the backends and servers.
    if !current.as_encoded_bytes().starts_with(b"-") {
        candidates.retain(|candidate| !candidate.get_value().as_encoded_bytes().starts_with(b"-"));
    }
    match output::print(&candidates.iter().filter_map(output_line).collect::<String>()) {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.exit,
    }
}

/// The output line of a candidate; none if its value is not UTF-8 or has a control character, such as in a file name.
fn output_line(candidate: &CompletionCandidate) -> Option<String> {
    let value = candidate.get_value().to_str().filter(|value| !value.contains(char::is_control))?;
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    Some(format!("{value}\t{}\n", help.lines().next().unwrap_or_default()))
}

/// The parts of the unfinished command line that determine the candidates.
struct Line {
    /// None if the line or the settings are invalid.
    documents: Option<Arc<Documents>>,
    backend: Option<BackendName>,
    /// The servers with a `=` on the line, including the word at the cursor.
    named: Vec<String>,
}

impl Line {
    fn read(before: &[OsString], current: &OsStr, env: &Env<'_>) -> Self {
        let words = [OsStr::new("weightctl")].into_iter().chain(before.iter().map(OsString::as_os_str));
        // The line is unfinished: ignore the errors about missing arguments.
        let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).unwrap_or_default();
        let mut verb = matches.subcommand().map(|(_, verb)| verb);
        // The backend of `rollout start app1` belongs to the verb below the verb.
        while let Some((_, below)) = verb.and_then(ArgMatches::subcommand) {
            verb = Some(below);
        }
        let weights = verb.and_then(|verb| verb.try_get_raw("weights").ok().flatten()).into_iter().flatten();
        let server = |word: &OsStr| word.to_str()?.split_once('=').map(|(server, _)| server.to_owned());
        Self {
            documents: documents(&matches, env).map(Arc::new),
            backend: verb.and_then(|verb| verb.try_get_one("backend").ok().flatten().cloned()),
            named: weights.chain([current]).filter_map(server).collect(),
        }
    }
}

/// The documents in Consul, with the settings that a command on this line would use.
fn documents(matches: &ArgMatches, env: &Env<'_>) -> Option<Documents> {
    let global = Global::from_arg_matches(matches).ok()?;
    Context::silent(&global, env).documents_silently()
}

/// The definition of the command line, with candidates for backends and servers.
fn with_consul(line: &Line) -> Command {
    Cli::command().mut_subcommands(|verb| candidates(verb, line))
}

/// The verb, and the verbs below it, with candidates.
fn candidates(verb: Command, line: &Line) -> Command {
    let verb = verb.mut_subcommands(|below| candidates(below, line));
    verb.mut_args(|arg| match (arg.get_id().as_str(), line.documents.clone()) {
        ("backend", Some(documents)) => arg.add(ArgValueCandidates::new(move || backends(&documents))),
        ("weights", Some(documents)) => match line.backend.clone() {
            Some(backend) => {
                let named = line.named.clone();
                arg.add(ArgValueCandidates::new(move || servers(&documents, &backend, &named)))
            }
            None => arg,
        },
        _ => arg,
    })
}

fn backends(documents: &Arc<Documents>) -> Vec<CompletionCandidate> {
    let candidate = |stored: &Stored| {
        CompletionCandidate::new(stored.backend.as_str()).help(Some(View::of(stored).summary().into()))
    };
    query(documents, None).iter().map(candidate).collect()
}

fn servers(documents: &Arc<Documents>, backend: &BackendName, named: &[String]) -> Vec<CompletionCandidate> {
    let weights = query(documents, Some(backend.clone())).first().and_then(|stored| View::of(stored).weights);
    let others =
        weights.into_iter().flatten().filter(|(server, _)| !named.iter().any(|named| named == server.as_str()));
    others
        .map(|(server, weight)| {
            CompletionCandidate::new(format!("{server}=")).help(Some(format!("now {weight}").into()))
        })
        .collect()
}

/// One backend in Consul, or all; empty if Consul does not answer within [`DEADLINE`].
fn query(documents: &Arc<Documents>, backend: Option<BackendName>) -> Vec<Stored> {
    let documents = Arc::clone(documents);
    let (sender, receiver) = mpsc::channel();
    // A thread that may outlive this function: name resolution and the read of a token file cannot be cancelled.
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let answer = runtime.block_on(async {
            match backend {
                Some(backend) => documents.backend(&backend).await.map(|stored| stored.into_iter().collect()),
                None => documents.all().await.map(|everything| everything.backends),
            }
        });
        // After the deadline the receiver is gone.
        let _ = sender.send(answer.unwrap_or_default());
    });
    receiver.recv_timeout(DEADLINE).unwrap_or_default()
}
