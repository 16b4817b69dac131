use std::time::Duration;

use weightd_core::{
    desired::Weights,
    model::{BackendName, Escaped},
    wire::{
        overriding::{OverrideAnswer, OverrideRequest},
        pause::{MAX_PAUSE, MIN_PAUSE},
    },
};

use super::{Exit, context::Context, failure::Failure, local::Local, output, set::Assignment};
use crate::base::config::{InvalidDuration, parse_duration, show_duration};

const EXAMPLES: &str = "\
Examples:
  weightctl override app1 blue=100 green=0 --local --for 2h -m 'Consul is gone'
  weightctl override app1 --back --local --for 2h --reason 'Consul is gone'
  weightctl resume app1 --local                         go back to the document in Consul

Exit codes: 1 not on disk, 3 HAProxy does not have the weights yet, 7 refused.";

/// Set weights on this host's HAProxy without Consul, in place of the document
///
/// For an emergency in which Consul is not available. weightd enforces these weights like a document: over reloads of
/// HAProxy and restarts of weightd. The guards hold. The override ends with `weightctl resume`, or when a newer document
/// arrives from Consul. When its time is over, the weights stay, and weightd shows `override_expired`. The command does
/// not ask. It acts on this host only: run it on each host with a HAProxy.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// A server and its weight, 0 to 256; a server that is not named keeps its weight
    #[arg(required_unless_present = "back", value_name = "SERVER=WEIGHT")]
    weights: Vec<Assignment>,
    /// Go back to where the present shift began, as the document in force says
    #[arg(long, conflicts_with_all = ["weights", "force"])]
    back: bool,
    /// Time until the alarm: 1s to 168h, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = override_duration)]
    duration: Duration,
    /// Reason; shown in log and status
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: String,
    /// Pass the guards: all servers at 0, or no server that is up above 0
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    local: Local,
}

fn override_duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text, &(Duration::from_secs(MIN_PAUSE)..=Duration::from_secs(MAX_PAUSE)))
}

/// Overrides. The JSON output is an [`OverrideAnswer`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let mut weights = Weights::new();
    for Assignment { server, weight } in &args.weights {
        if weights.insert(server.clone(), *weight).is_some() {
            return Err(Failure::new(Exit::Usage, format!("server {server} is named twice")));
        }
    }
    let request = OverrideRequest {
        backend: args.backend.clone(),
        instance: args.local.instance.clone(),
        weights: (!args.back).then_some(weights),
        force: args.force,
        for_seconds: args.duration.as_secs() + u64::from(args.duration.subsec_nanos() > 0),
        reason: args.reason.clone(),
        by: args.local.by(context.env),
    };
    let answer: OverrideAnswer = args.local.post(context, "/v1/override", &request).await?;
    let backend = &answer.backend;
    for overridden in &answer.instances {
        let weights = overridden.weights.iter().map(|(server, weight)| format!("{server}={weight}"));
        let weights = weights.collect::<Vec<_>>().join(" ");
        let state = if overridden.in_force { "in force" } else { "not in force yet" };
        output::message(&format!("overridden: {backend} {weights} on {}, {state}", Escaped(&overridden.instance)));
    }
    let duration = show_duration(Duration::from_secs(answer.for_seconds));
    output::message(&format!(
        "alarm in {duration}; to go back to the document in Consul: `weightctl resume {backend}`"
    ));
    context.format.json(&answer)?;
    let lost: Vec<_> = answer.instances.iter().filter(|overridden| !overridden.stored).collect();
    if !lost.is_empty() {
        let names: Vec<_> = lost.iter().map(|overridden| Escaped(&overridden.instance).to_string()).collect();
        let message = format!(
            "weightd cannot write the override of {backend} on {} to disk; a restart of weightd would lose it",
            names.join(", ")
        );
        return Err(Failure::new(Exit::Failure, message).hint(
            "check that the disk is not full and that weightd can write to `state_dir` and `run_dir`, then run the \
             command again",
        ));
    }
    let in_force = answer.instances.iter().all(|overridden| overridden.in_force);
    if !in_force {
        output::message("see `weightctl status --local` for the reason");
    }
    Ok(if in_force { Exit::Ok } else { Exit::NotConverged })
}
