use std::str::FromStr;

use weightd_core::{
    desired::Weights,
    history::Way,
    model::{BackendName, InvalidName, InvalidWeight, ServerName, Weight},
};

use super::{
    Exit,
    change::{Flags, Options, carry_out, with_context},
    context::Context,
    failure::Failure,
    first,
    refusals::{not_written, refused_after_asking},
    serving,
    takeover::TakeOver,
    wait::WaitFlags,
};
use crate::documents::edit::{self, Intent};

const EXAMPLES: &str = "\
Examples:
  weightctl set app1 blue=90 green=10                   show the change and ask
  weightctl set app1 blue=75 green=25 -m '25 %' --yes   no question; store a reason
  weightctl set app1 green=0 --yes                      blue keeps its weight
  weightctl set app1 blue=90 green=10 --wait            write, wait until every HAProxy has it
  weightctl set app1 blue=50 green=50 --dry-run         show the change, write nothing
  weightctl set app2 blue=100 green=0 --create          start to manage app2
  weightctl set app1 blue=0 green=0 --force             no server answers; needs --force

Exit codes: 3 with --wait if a node does not have it, 4 denied, 5 changed by another writer
meanwhile, 6 Consul unreachable, 7 refused, 130 Ctrl-C. `weightctl --help` lists all.";

/// Change weights; a server that is not named keeps its weight
///
/// Shows the change and asks, unless --yes is given. Writes nothing if another writer changes the backend meanwhile.
/// Every HAProxy gets the new weights at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = backend)]
    backend: BackendName,
    /// A server and its weight, 0 to 256
    #[arg(required = true, value_name = "SERVER=WEIGHT")]
    weights: Vec<Assignment>,
    /// Let this change pass the guards: all servers at 0, or no server that is up above 0
    #[arg(long)]
    force: bool,
    /// Allow something new: a backend without a key in Consul, a server that its document does not name, a backend
    /// that was released, a new document in place of a rejected one
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    from: first::From,
    #[command(flatten)]
    take_over: TakeOver,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// `SERVER=WEIGHT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    /// The server.
    pub(super) server: ServerName,
    /// Its weight.
    pub(super) weight: Weight,
}

/// The error for a text that is not `SERVER=WEIGHT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidAssignment {
    #[error("write it as SERVER=WEIGHT, such as blue=90")]
    Form,
    #[error("separate servers by a space: `{0}`")]
    Joined(String),
    #[error(transparent)]
    Server(InvalidName),
    #[error(transparent)]
    Weight(InvalidWeight),
}

impl FromStr for Assignment {
    type Err = InvalidAssignment;

    fn from_str(text: &str) -> Result<Self, InvalidAssignment> {
        let (server, weight) = text.split_once('=').ok_or(InvalidAssignment::Form)?;
        let parts: Vec<_> = text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.len() > 1 && parts.iter().all(|part| part.parse::<Self>().is_ok()) {
            return Err(InvalidAssignment::Joined(parts.join(" ")));
        }
        Ok(Self {
            server: ServerName::new(server).map_err(InvalidAssignment::Server)?,
            weight: plain(weight).map_err(InvalidAssignment::Weight)?,
        })
    }
}

/// The error for a text that is not the name of a backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidBackend {
    #[error("the backend comes first: `weightctl set BACKEND {0}`")]
    Assignment(String),
    #[error(transparent)]
    Name(InvalidName),
}

fn backend(text: &str) -> Result<BackendName, InvalidBackend> {
    BackendName::new(text).map_err(|error| match text.parse::<Assignment>() {
        Ok(_) | Err(InvalidAssignment::Joined(_)) => InvalidBackend::Assignment(text.replace([',', ';'], " ")),
        Err(_) => InvalidBackend::Name(error),
    })
}

/// Parses a weight. Rejects white space, which [`Weight::parse`] accepts.
fn plain(text: &str) -> Result<Weight, InvalidWeight> {
    if text.contains(char::is_whitespace) { Err(InvalidWeight) } else { Weight::parse(text) }
}

/// The weights in these words. Fails if a server occurs twice.
pub(super) fn unique(words: &[Assignment]) -> Result<Weights, Failure> {
    let mut asked = Weights::new();
    for Assignment { server, weight } in words {
        if let Some(first) = asked.insert(server.clone(), *weight) {
            let message = format!("server `{server}` is named twice: {server}={first} and {server}={weight}");
            return Err(Failure::new(Exit::Usage, message).hint("name each server once"));
        }
    }
    Ok(asked)
}

/// Changes weights. The JSON output is an [`Outcome`](super::outcome::Outcome).
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let asked = unique(&args.weights)?;
    let from = args.from.weights()?;
    args.flags.check()?;
    let documents = context.documents()?;
    let (known, serving) = tokio::join!(documents.context(&args.backend), serving::of(context, &args.backend));
    let known = known.map_err(not_written)?;
    let intent = args.flags.intent(Way::Set, context.env);
    let servers = asked.keys().cloned().collect();
    let (known, heard) = first::known(&documents, &args.backend, known, from, args.create, servers, &intent.by).await?;
    let intent = with_context(intent, &known);
    let intent = Intent { force: args.force, create: args.create, ..intent };
    match edit::set(&args.backend, known.stored.as_ref(), &asked, &intent) {
        Ok(edit) => {
            let edit = match &serving {
                Some(serving) => edit.limit_shares_to(&serving.active),
                None => edit,
            };
            let options = Options {
                flags: &args.flags,
                waits: &args.wait,
                serving: serving.as_ref(),
                shift: None,
                heard: heard.as_ref(),
                take_over: Some(args.take_over),
            };
            carry_out(context.format, &documents, &args.backend, &edit, &known, &options).await
        }
        Err(error) => Err(refused_after_asking(&documents, error, &args.flags).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_parsed_strictly() {
        let parsed: Assignment = "blue:1=256".parse().unwrap();
        assert_eq!((parsed.server.as_str(), parsed.weight), ("blue:1", Weight::MAX));
        for text in [
            "blue", "blue=", "=5", "blue=257", "blue=-1", "blue=50%", "blue=+5", "blue=007", "b;c=1", "b=1=2", "b= 5",
            "b=5 ", "b=5\n", ".=5", "..=5",
        ] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_two_usual_mistakes_get_the_correct_command() {
        let joined = "blue=90,green=10".parse::<Assignment>().unwrap_err();
        assert_eq!(joined.to_string(), "separate servers by a space: `blue=90 green=10`");
        assert_eq!(
            backend("blue=90").unwrap_err().to_string(),
            "the backend comes first: `weightctl set BACKEND blue=90`"
        );
        assert!(matches!(backend("a b"), Err(InvalidBackend::Name(_))));
    }
}
