use std::str::FromStr;

use weightd_core::{
    desired::Weights,
    model::{BackendName, InvalidName, InvalidWeight, ServerName, Weight},
};

use super::{
    Exit,
    change::{Flags, carry_out},
    context::Context,
    failure::Failure,
    refusals::refused,
    serving,
};
use crate::documents::edit;

const EXAMPLES: &str = "\
Examples:
  weightctl set app1 blue=90 green=10                   shows the change and asks
  weightctl set app1 green=25 --reason '25 %' --yes     blue keeps its weight
  weightctl set app1 blue=50 green=50 --dry-run         shows the change, writes nothing
  weightctl set app2 blue=100 green=0 --create          begins to manage app2
  weightctl set app1 blue=0 green=0 --force             nobody answers; only with --force

Exit codes: 4 denied, 5 somebody else changed it meanwhile, 6 Consul unreachable, 7 refused,
130 Ctrl-C. `weightctl --help` lists all.";

/// Change weights; a server that is not named keeps its own
///
/// Shows the change and asks, unless --yes is given. Writes only if nobody else changed the backend meanwhile.
/// Every HAProxy follows at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// A server and its weight, 0 to 256
    #[arg(required = true, value_name = "SERVER=WEIGHT")]
    weights: Vec<Assignment>,
    /// Let it pass the guards: all servers at 0, nobody left who is up. Holds for this change alone
    #[arg(long)]
    force: bool,
    /// Begin something: a backend without a key in Consul, a server that is not named there yet, a backend that
    /// was released, a new document in place of one that is rejected
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    flags: Flags,
}

/// `SERVER=WEIGHT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    server: ServerName,
    weight: Weight,
}

/// Why a text is not `SERVER=WEIGHT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidAssignment {
    #[error("write it as SERVER=WEIGHT, such as blue=90")]
    Form,
    #[error(transparent)]
    Server(InvalidName),
    #[error(transparent)]
    Weight(InvalidWeight),
}

impl FromStr for Assignment {
    type Err = InvalidAssignment;

    fn from_str(text: &str) -> Result<Self, InvalidAssignment> {
        let (server, weight) = text.split_once('=').ok_or(InvalidAssignment::Form)?;
        Ok(Self {
            server: ServerName::new(server).map_err(InvalidAssignment::Server)?,
            weight: plain(weight).map_err(InvalidAssignment::Weight)?,
        })
    }
}

/// A weight without the white space that JSON would allow around it.
fn plain(text: &str) -> Result<Weight, InvalidWeight> {
    if text.contains(char::is_whitespace) { Err(InvalidWeight) } else { Weight::parse(text) }
}

impl Args {
    /// The weights that are asked for, each server once.
    fn asked(&self) -> Result<Weights, Failure> {
        let mut asked = Weights::new();
        for Assignment { server, weight } in &self.weights {
            if let Some(first) = asked.insert(server.clone(), *weight) {
                let message = format!("server `{server}` is named twice: {server}={first} and {server}={weight}");
                return Err(Failure::new(Exit::Usage, message).hint("name each server once"));
            }
        }
        Ok(asked)
    }
}

/// In JSON an [`Outcome`](super::change::Outcome).
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let asked = args.asked()?;
    args.flags.check()?;
    let documents = context.documents()?;
    let (stored, serving) = tokio::join!(documents.backend(&args.backend), serving::of(context, &args.backend));
    let stored = stored?;
    let intent = args.flags.intent(args.force, args.create, context.env);
    match edit::set(&args.backend, stored.as_ref(), &asked, &intent) {
        Ok(edit) => {
            let edit = match &serving {
                Some(serving) => edit.served_by(&serving.active),
                None => edit,
            };
            carry_out(context.format, &documents, &args.backend, &edit, &args.flags, serving.as_ref()).await
        }
        Err(error) => Err(refused(&documents, error).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_strictly() {
        let read: Assignment = "blue:1=256".parse().unwrap();
        assert_eq!((read.server.as_str(), read.weight), ("blue:1", Weight::MAX));
        for text in [
            "blue", "blue=", "=5", "blue=257", "blue=-1", "blue=50%", "blue=+5", "blue=007", "b;c=1", "b=1=2", "b= 5",
            "b=5 ", "b=5\n", ".=5", "..=5",
        ] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }
}
