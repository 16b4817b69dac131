//! What Tab offers: commands and options as they are defined, backends and servers as Consul has them.
//!
//! Nobody asked for it in words, so that it must never say anything, never fail, and never keep anybody waiting:
//! what is not there within [`PATIENCE`] is left out.

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

/// The command that the shells' scripts call, with the words behind `weightctl` up to the cursor. It is none of the
/// command line's own: that would find fault with what is not written yet.
const VERB: &str = "__complete";

/// How long Consul may take, so that it is within 300 ms with all that a shell does around it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The words to complete, if these arguments ask for it.
pub(super) fn asked(args: &[OsString]) -> Option<&[OsString]> {
    match args {
        [_, verb, words @ ..] if verb == VERB => Some(words),
        _ => None,
    }
}

/// Prints what the last word could become, one a line, with a tab in front of what is known about it.
pub(super) fn run(words: &[OsString], env: &Env<'_>) -> Exit {
    let Some((current, before)) = words.split_last() else { return Exit::Ok };
    let line = [OsString::from("weightctl")].into_iter().chain(words.iter().cloned()).collect();
    let mut command = with_consul(&Line::read(before, current, env));
    // It fails where nothing can be said, so that nothing is.
    let mut offers =
        engine::complete(&mut command, line, words.len(), env::current_dir().ok().as_deref()).unwrap_or_default();
    // Among backends and servers all the options would be noise to whoever did not begin one.
    if !current.as_encoded_bytes().starts_with(b"-") {
        offers.retain(|offer| !offer.get_value().as_encoded_bytes().starts_with(b"-"));
    }
    match output::print(&offers.iter().filter_map(offered).collect::<String>()) {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.exit,
    }
}

/// None where it cannot be written down, or would act on the terminal: the name of a file.
fn offered(offer: &CompletionCandidate) -> Option<String> {
    let value = offer.get_value().to_str().filter(|value| !value.contains(char::is_control))?;
    let help = offer.get_help().map(ToString::to_string).unwrap_or_default();
    Some(format!("{value}\t{}\n", help.lines().next().unwrap_or_default()))
}

/// What the line so far says about what may come next.
struct Line {
    /// None where the settings are unusable, or something else is wrong with the line.
    documents: Option<Arc<Documents>>,
    backend: Option<BackendName>,
    /// The servers that have a weight already, and the one that is getting its own.
    named: Vec<String>,
}

impl Line {
    fn read(before: &[OsString], current: &OsStr, env: &Env<'_>) -> Self {
        let words = [OsStr::new("weightctl")].into_iter().chain(before.iter().map(OsString::as_os_str));
        // The line is not at its end, so that much of it is missing.
        let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).unwrap_or_default();
        let verb = matches.subcommand().map(|(_, verb)| verb);
        let weights = verb.and_then(|verb| verb.try_get_raw("weights").ok().flatten()).into_iter().flatten();
        let server = |word: &OsStr| word.to_str()?.split_once('=').map(|(server, _)| server.to_owned());
        Self {
            documents: documents(&matches, env).map(Arc::new),
            backend: verb.and_then(|verb| verb.try_get_one("backend").ok().flatten().cloned()),
            named: weights.chain([current]).filter_map(server).collect(),
        }
    }
}

/// The documents in Consul, as a command on that line would see them.
fn documents(matches: &ArgMatches, env: &Env<'_>) -> Option<Documents> {
    let global = Global::from_arg_matches(matches).ok()?;
    Context::silent(&global, env).documents_silently()
}

/// The command line, with backends and servers wherever it takes them.
fn with_consul(line: &Line) -> Command {
    Cli::command().mut_subcommands(|verb| {
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
    })
}

fn backends(documents: &Arc<Documents>) -> Vec<CompletionCandidate> {
    let offer = |stored: &Stored| {
        CompletionCandidate::new(stored.backend.as_str()).help(Some(View::of(stored).summary().into()))
    };
    ask(documents, None).iter().map(offer).collect()
}

fn servers(documents: &Arc<Documents>, backend: &BackendName, named: &[String]) -> Vec<CompletionCandidate> {
    let weights = ask(documents, Some(backend.clone())).first().and_then(|stored| View::of(stored).weights);
    let others =
        weights.into_iter().flatten().filter(|(server, _)| !named.iter().any(|named| named == server.as_str()));
    others
        .map(|(server, weight)| {
            CompletionCandidate::new(format!("{server}=")).help(Some(format!("now {weight}").into()))
        })
        .collect()
}

/// What Consul says about one backend, or all; nothing where it does not say it at once.
fn ask(documents: &Arc<Documents>, backend: Option<BackendName>) -> Vec<Stored> {
    let documents = Arc::clone(documents);
    let (tell, told) = mpsc::channel();
    // A thread that is left behind: looking up a name and reading a token cannot be broken off.
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let answer = runtime.block_on(async {
            match backend {
                Some(backend) => documents.backend(&backend).await.map(|stored| stored.into_iter().collect()),
                None => documents.all().await.map(|everything| everything.backends),
            }
        });
        // An answer that comes too late is nobody's.
        let _ = tell.send(answer.unwrap_or_default());
    });
    told.recv_timeout(PATIENCE).unwrap_or_default()
}
