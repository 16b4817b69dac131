//! The definition of the command line: verbs, global options, and the error text for a wrong verb.

use std::path::PathBuf;

use clap::{
    Args, Command, CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use weightd_core::model::{Root, is_typo};

use super::{
    Exit, apply, check, completions, diff, freeze, get, history, import, list, man, node, output::Format, overriding,
    pause, release, resume, rollback, rollout, set, settle, shift, status, traffic, whois,
};
use crate::consul::{Address, settings};

const EXAMPLES: &str = "\
Examples:
  weightctl list                                   all backends, one line each
  weightctl get app1                               weights and shares of one backend
  weightctl set app1 blue=90 green=10 --create     start to manage a backend
  weightctl set app1 blue=50 green=50 -m 'half'    show the change, ask, write
  weightctl set app1 blue=0 green=100 --wait       … and wait until every HAProxy has it
  weightctl shift app1 green=10%                   10 % of the requests
  weightctl rollback app1                          go back to where this shift began
  weightctl rollout --help                         move step by step, judged and taken back
  weightctl history app1                           who changed what, when and why
  weightctl status                                 which nodes have the weights, and why not
  weightctl traffic app1                           requests, errors and real shares of each server
  weightctl status --local                         compare this host's HAProxy with Consul
  weightctl whois app1 alice                       the side of a user, where users are sticky
  weightctl check                                  find problems and the commands to fix them
  weightctl pause app1 --for 30m                   this host: weightd sets no weight of app1
  weightctl resume                                 this host: end every pause now
  weightctl release app1                           stop managing it; HAProxy keeps its weights
  weightctl import --from-haproxy /run/haproxy/admin.sock
                                                   start with the weights that HAProxy has now

weightctl reads the environment variables of the Consul CLI: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_AUTH, CONSUL_NAMESPACE and CONSUL_PARTITION; for TLS
CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT,
CONSUL_CLIENT_KEY and CONSUL_TLS_SERVER_NAME. An option overrides its variable.

On a host with weightd, its configuration gives the defaults: Consul's address, datacenter, CA and
root, and the address of weightd's API. The file is /etc/weightd/weightd.toml, or the one that
WEIGHTD_CONFIG names. weightctl never uses weightd's token.";

/// The columns of the help on a wide terminal, and in a pipe.
pub(super) const WIDEST: usize = 100;

/// Read and change the server weights that weightd sets in HAProxy
#[derive(Debug, Parser)]
#[command(
    name = "weightctl",
    version = crate::VERSION,
    max_term_width = WIDEST,
    after_help = "See `weightctl --help` for examples and exit codes.",
    after_long_help = format!("{EXAMPLES}\n\n{}", Exit::help())
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Consul's address
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        help = "Consul's address: host:port, https://host:port or unix:///path [default: CONSUL_HTTP_ADDR]"
    )]
    pub(super) http_addr: Option<Address>,
    /// A file that holds the ACL token
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Consul's datacenter, if not the agent's own
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    pub(super) datacenter: Option<String>,
    /// Consul's namespace (Consul Enterprise)
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    pub(super) namespace: Option<String>,
    /// Consul's admin partition (Consul Enterprise)
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    pub(super) partition: Option<String>,
    /// The prefix of the keys, as in weightd's configuration
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        env = "WEIGHTD_ROOT",
        hide_env_values = true,
        help = "The prefix of the keys [default: the root of this host's weightd, else weightd/]"
    )]
    pub(super) root: Option<Root>,
    /// The format of the data on stdout
    #[arg(long, short, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(list::Args),
    Get(get::Args),
    Set(set::Args),
    Shift(shift::Args),
    Rollback(rollback::Args),
    Rollout(rollout::Args),
    History(history::Args),
    Settle(settle::Args),
    Status(status::Args),
    Traffic(traffic::Args),
    Diff(diff::Args),
    Whois(whois::Args),
    Check(check::Args),
    Freeze(freeze::FreezeArgs),
    Unfreeze(freeze::UnfreezeArgs),
    Release(release::Args),
    Import(import::Args),
    Apply(apply::ApplyArgs),
    Export(apply::ExportArgs),
    Node(node::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Override(overriding::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The command line with short help for each verb: global options other than `--output` are listed once, by
/// `weightctl --help`.
pub(super) fn command() -> Command {
    let mut command = Cli::command();
    // Copies the global options into each verb, so that they can be hidden there.
    command.build();
    let global: Vec<_> =
        command.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().clone()).collect();
    command.mut_subcommands(|verb| short(verb, &global))
}

/// The verb, and the verbs below it, without the global options in their help.
fn short(verb: Command, global: &[clap::Id]) -> Command {
    let examples = verb.get_after_long_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    verb.mut_args(|arg| if arg.get_id() != "output" && global.contains(arg.get_id()) { arg.hide(true) } else { arg })
        .mut_subcommands(|below| short(below, global))
        .after_long_help(format!("{examples}{GLOBAL_OPTIONS}"))
}

const GLOBAL_OPTIONS: &str = "Options for Consul (address, token, datacenter, root): `weightctl --help`.";

/// Corrects what clap suggests for an unknown verb: clap offers `release` for `delete`, which is another action.
pub(super) fn explain(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand).cloned() else { return error };
    let all = Cli::command();
    let path = path(&error);
    let of = path.iter().try_fold(&all, |command, word| command.find_subcommand(word)).unwrap_or(&all);
    let verbs = of.get_subcommands().filter(|known| !known.is_hide_set()).map(Command::get_name);
    let typo: Vec<_> = verbs.filter(|known| is_typo(&verb, known)).map(str::to_owned).collect();
    error.remove(ContextKind::SuggestedSubcommand);
    error.remove(ContextKind::Suggested);
    let meant = match path.first().map(String::as_str) {
        Some("rollout") => equivalent_of_rollouts(&verb),
        Some(_) => None,
        None => equivalent(&verb),
    };
    if let Some(meant) = meant.map(str::to_owned).or_else(|| elsewhere(&all, &path, &verb)) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![meant.into()]));
    } else if !typo.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(typo));
    }
    error
}

/// The verbs above the unknown one, such as `rollout`: from the usage that clap prints.
fn path(error: &clap::Error) -> Vec<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return Vec::new() };
    let usage = usage.to_string();
    let words = usage.split_whitespace().skip_while(|word| *word != "weightctl").skip(1);
    words.take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())).map(str::to_owned).collect()
}

/// The command with this verb where there is one at another place: `weightctl rollout promote` for `weightctl promote`.
fn elsewhere(all: &Command, path: &[String], verb: &str) -> Option<String> {
    let is_shown = |command: &&Command| !command.is_hide_set() && command.get_name() == verb && verb != "help";
    if !path.is_empty() {
        return all.get_subcommands().find(is_shown).map(|_| format!("see `weightctl {verb} --help`"));
    }
    let groups = all.get_subcommands().filter(|group| group.get_subcommands().any(|below| is_shown(&below)));
    groups.map(|group| format!("see `weightctl {} {verb} --help`", group.get_name())).next()
}

/// The suggestion for a verb that other programs use for a similar action.
fn equivalent(verb: &str) -> Option<&'static str> {
    match verb {
        "delete" | "remove" | "rm" | "unset" => {
            Some("weightctl deletes nothing; `weightctl release --help` stops managing a backend and keeps its weights")
        }
        "show" | "describe" | "read" => Some("`weightctl get BACKEND` shows weights and shares"),
        "ls" => Some("`weightctl list` lists the backends"),
        "drain" | "weight" | "update" => Some("`weightctl set BACKEND SERVER=WEIGHT …` changes weights"),
        "undo" | "back" | "revert" => Some("`weightctl rollback BACKEND` goes back to where the present shift began"),
        "stop" | "hold" | "lock" => Some(
            "`weightctl freeze --help` stops changes of the fleet, `weightctl pause --help` stops weightd on this host",
        ),
        "doctor" | "diagnose" | "verify" => Some("`weightctl check` finds problems"),
        _ => None,
    }
}

/// The same for the verbs of `rollout`.
fn equivalent_of_rollouts(verb: &str) -> Option<&'static str> {
    match verb {
        "stop" | "cancel" | "end" | "kill" | "delete" | "remove" | "rollback" | "back" | "revert" | "undo"
        | "release" => Some("`weightctl rollout abort BACKEND` takes the new side back, and ends the rollout"),
        "hold" | "freeze" | "wait" | "suspend" => Some("`weightctl rollout pause BACKEND` stops at the present share"),
        "continue" | "unpause" | "unfreeze" | "go" | "retry" => Some("`weightctl rollout resume BACKEND` goes on"),
        "advance" | "next" | "skip" | "step" => {
            Some("`weightctl rollout promote BACKEND` lets the present bake count as full")
        }
        "list" | "ls" | "get" | "show" | "describe" => Some("`weightctl rollout status` shows all rollouts"),
        "history" | "events" | "logs" => Some("`weightctl rollout log BACKEND` shows what happened"),
        "why" | "diff" => Some("`weightctl rollout explain BACKEND` shows why it does what it does now"),
        "check" | "validate" | "verify" => Some("`weightctl rollout lint FILE` checks the file of a plan"),
        "plans" | "presets" => Some("`weightctl rollout plan BACKEND` shows the plans"),
        "begin" | "create" | "run" | "new" | "set" | "shift" => {
            Some("`weightctl rollout start --help` shows how to start a rollout")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(path: &[&str]) -> String {
        let args = ["weightctl"].iter().chain(path).chain(&["--help"]);
        let mut command = command().term_width(100);
        command.try_get_matches_from_mut(args).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_verb_gets_a_suggestion_only_for_a_typo_or_a_word_with_the_same_meaning() {
        let error =
            |verb: &str| explain(command().try_get_matches_from(["weightctl", verb, "app1"]).unwrap_err()).to_string();
        assert!(error("sett").contains("'set'") && error("lsit").contains("'list'"), "{}", error("sett"));
        for verb in ["delete", "stop", "remove", "frobnicate"] {
            assert!(!error(verb).contains("'release'"), "{}", error(verb));
        }
        assert!(error("delete").contains("deletes nothing"), "{}", error("delete"));
    }

    #[test]
    fn an_unknown_verb_of_rollouts_gets_a_suggestion_of_rollouts() {
        let error = |words: &[&str]| {
            explain(command().try_get_matches_from([&["weightctl"], words].concat()).unwrap_err()).to_string()
        };
        for (verb, meant) in [
            ("stop", "`weightctl rollout abort BACKEND`"),
            ("cancel", "`weightctl rollout abort BACKEND`"),
            ("rollback", "`weightctl rollout abort BACKEND`"),
            ("list", "`weightctl rollout status`"),
            ("next", "`weightctl rollout promote BACKEND`"),
            ("traffic", "`weightctl traffic --help`"),
            ("stat", "'status'"),
            ("pasue", "'pause'"),
        ] {
            let said = error(&["rollout", verb, "app1"]);
            assert!(said.contains(meant) && !said.contains("on this host"), "{said}");
            assert!(!said.contains(&format!("similar subcommand exists: '{verb}'")), "{said}");
        }
        assert!(error(&["promote", "app1"]).contains("`weightctl rollout promote --help`"), "{}", error(&["promote"]));
        assert!(!error(&["rollout", "frobnicate"]).contains("tip"), "{}", error(&["rollout", "frobnicate"]));
        assert!(!error(&["node", "frobnicate"]).contains("tip"), "{}", error(&["node", "frobnicate"]));
    }

    #[test]
    fn the_help_equals_the_snapshots() {
        insta::assert_snapshot!("help", help(&[]));
        insta::assert_snapshot!("help-set", help(&["set"]));
        insta::assert_snapshot!("help-check", help(&["check"]));
        insta::assert_snapshot!("help-import", help(&["import"]));
        insta::assert_snapshot!("help-pause", help(&["pause"]));
        insta::assert_snapshot!("help-resume", help(&["resume"]));
    }
}
