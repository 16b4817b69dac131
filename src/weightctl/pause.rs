use std::time::Duration;

use jiff::Timestamp;
use weightd_core::{
    model::BackendName,
    wire::pause::{MAX_PAUSE, MIN_PAUSE, PauseAnswer, PauseRequest},
};

use super::{
    Exit,
    context::Context,
    failure::Failure,
    local::{Local, names},
    output,
};
use crate::base::config::{InvalidDuration, parse_duration, show_duration};

/// Stop the weightd of this host from setting weights, of one backend or of all, for a time
///
/// Until the time is over, or until `weightctl resume`, weightd sets no weight of the backend: not after a hand edit,
/// not after a reload of HAProxy, not for a new document. It continues to read, and corrects every difference when the
/// pause ends. A pause needs no Consul, survives a restart of weightd, and replaces an earlier pause of the same
/// backend. The command does not ask: HAProxy keeps the weights it has.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend; without it all backends, also future ones
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
    /// Duration: 1s to 168h, such as 30m
    #[arg(long = "for", value_name = "DURATION", value_parser = pause_duration)]
    duration: Duration,
    /// Reason; shown in log and status
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    local: Local,
}

fn pause_duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text, &(Duration::from_secs(MIN_PAUSE)..=Duration::from_secs(MAX_PAUSE)))
}

/// Pauses. The JSON output is a [`PauseAnswer`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let request = PauseRequest {
        backend: args.backend.clone(),
        instance: args.local.instance.clone(),
        // Rounded up: a pause must not end early.
        for_seconds: args.duration.as_secs() + u64::from(args.duration.subsec_nanos() > 0),
        reason: args.reason.clone(),
        by: args.local.by(context.env),
    };
    let answer: PauseAnswer = args.local.post(context, "/v1/pause", &request).await?;
    let duration = Duration::from_secs(answer.for_seconds);
    let until = Timestamp::from_second(Timestamp::now().as_second().saturating_add_unsigned(answer.for_seconds));
    let (subject, resume) = match &answer.backend {
        Some(backend) => (backend.to_string(), format!("weightctl resume {backend}")),
        None => ("all backends".to_owned(), "weightctl resume".to_owned()),
    };
    output::message(&format!(
        "paused: {subject} on {}, for {}{}; HAProxy keeps its weights\nto end the pause earlier: `{resume}`",
        names(&answer.instances),
        show_duration(duration),
        until.map(|until| format!(", until {until}")).unwrap_or_default(),
    ));
    context.format.json(&answer)?;
    Ok(Exit::Ok)
}
