//! weightctl: what people and pipelines use to look at weights and to change them.
//!
//! Talks to Consul with the user's own token, so that it works from a laptop and when no weightd runs; with
//! `--local` to the weightd of this host. Data goes to stdout, talk to stderr, and nothing else than
//! [`Exit`]'s numbers comes out at the end. What a command would change is worked out without I/O
//! (`edit`), shown before anybody is asked, and written only if nobody else was faster. Must never
//! change what it did not show, and must never talk to HAProxy but to look, in `check` and `import`.

mod change;
mod check;
mod complete;
mod completions;
mod edit;
mod exit;
mod failure;
mod get;
mod import;
mod list;
mod local;
mod man;
mod output;
mod pause;
mod preview;
mod release;
mod resume;
mod set;
mod share;
mod status;
mod store;
mod stored;
mod table;
mod view;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
pub use exit::Exit;
use tokio::signal::ctrl_c;

use self::{failure::Failure, output::Format, store::Store};
use crate::consul::{Address, Env, Layer, Root, Settings, TlsLayer, TokenSource, client::Client, settings};

const EXAMPLES: &str = "\
Examples:
  weightctl list                                   what Consul says, one line a backend
  weightctl get app1                               weights and shares of one backend
  weightctl set app1 blue=90 green=10 --create     begin to manage a backend
  weightctl set app1 green=50 --reason 'half'      shows the change, asks, writes
  weightctl set app1 blue=100 green=0 --yes        go back, without a question
  weightctl status --local                         does this host's HAProxy have it?
  weightctl check                                  what is wrong, here and in Consul, and what mends it
  weightctl pause app1 --local --for 30m           this host's weightd: hands off, Consul or not
  weightctl resume --local                         hands on again, before the time is over
  weightctl release app1                           stop managing it; HAProxy keeps its weights
  weightctl import --from-haproxy /run/haproxy/admin.sock
                                                   begin with the weights that are there today

Consul is found as Consul's own programs find it: by CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_AUTH, CONSUL_NAMESPACE and CONSUL_PARTITION; for TLS by
CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT,
CONSUL_CLIENT_KEY and CONSUL_TLS_SERVER_NAME. Flags come first.";

/// Look at and change the server weights that weightd gives to HAProxy
#[derive(Debug, Parser)]
#[command(
    name = "weightctl",
    version = crate::VERSION,
    max_term_width = 100,
    after_help = "See `weightctl --help` for examples and exit codes.",
    after_long_help = format!("{EXAMPLES}\n\n{}", Exit::help())
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Where Consul listens
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        help = "Where Consul listens: host:port, https://host:port or unix:///path"
    )]
    http_addr: Option<Address>,
    /// A file that holds the ACL token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Consul's datacenter, if not the agent's own
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    datacenter: Option<String>,
    /// Consul's namespace (Consul Enterprise)
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    namespace: Option<String>,
    /// Consul's admin partition (Consul Enterprise)
    #[arg(long, global = true, value_name = "NAME", value_parser = settings::name)]
    partition: Option<String>,
    /// The prefix under which the keys lie, as in weightd's configuration
    #[arg(long, global = true, value_name = "PREFIX", env = "WEIGHTD_ROOT", hide_env_values = true, default_value_t)]
    root: Root,
    /// How to print data
    #[arg(long, short, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Get(get::Args),
    Set(set::Args),
    Release(release::Args),
    Import(import::Args),
    List(list::Args),
    Status(status::Args),
    Check(check::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Global {
    fn store(&self, env: &Env<'_>) -> Result<Store, Failure> {
        Ok(Store::new(self.client(env)?, &self.root))
    }

    fn client(&self, env: &Env<'_>) -> Result<Client, Failure> {
        let settings = self.settings(env)?;
        if settings.address.is_tls() && !settings.tls.verify {
            output::note("CONSUL_HTTP_SSL_VERIFY=false: whoever answers gets the token, and is believed");
        }
        Client::new(settings).map_err(|error| store::failed(error, ""))
    }

    fn settings(&self, env: &Env<'_>) -> Result<Settings, Failure> {
        let flags = Layer {
            address: self.http_addr.clone(),
            token: self.token_file.clone().map(TokenSource::File),
            auth: None,
            datacenter: self.datacenter.clone(),
            namespace: self.namespace.clone(),
            partition: self.partition.clone(),
            tls: TlsLayer::default(),
        };
        Settings::from_env(env, flags).map_err(|error| Failure::caused(Exit::Usage, error))
    }
}

/// Runs the command that `args` are, and says how it ended.
pub async fn run(args: impl Iterator<Item = OsString>, env: &Env<'_>) -> ExitCode {
    let args: Vec<_> = args.collect();
    if let Some(words) = complete::asked(&args) {
        return complete::run(words, env).into();
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(answer) => return output::usage(&answer).into(),
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
    let (store, format) = (|| cli.global.store(env), cli.global.output);
    match &cli.verb {
        Verb::Get(args) => get::run(args, &store()?, format).await,
        Verb::Set(args) => set::run(args, store, format, env).await,
        Verb::Release(args) => release::run(args, store, format, env).await,
        Verb::Import(args) => import::run(args, store, format, env).await,
        Verb::List(args) => list::run(args, &store()?, format).await,
        Verb::Status(args) => status::run(args, format).await,
        Verb::Check(args) => check::run(args, &cli.global.client(env)?, &cli.global.root, format, env).await,
        Verb::Pause(args) => pause::run(args, format, env).await,
        Verb::Resume(args) => resume::run(args, format, env).await,
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn help(path: &[&str]) -> String {
        let args = ["weightctl"].iter().chain(path).chain(&["--help"]);
        let mut command = Cli::command().term_width(100);
        command.try_get_matches_from_mut(args).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_is_what_was_agreed_on() {
        insta::assert_snapshot!("help", help(&[]));
        insta::assert_snapshot!("help-set", help(&["set"]));
        insta::assert_snapshot!("help-check", help(&["check"]));
        insta::assert_snapshot!("help-import", help(&["import"]));
        insta::assert_snapshot!("help-pause", help(&["pause"]));
        insta::assert_snapshot!("help-resume", help(&["resume"]));
    }
}
