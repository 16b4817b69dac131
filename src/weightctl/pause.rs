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

/// Tell this host's weightd to keep its hands off a backend, or off all
///
/// Until the time is over, or until `weightctl resume`, weightd sets no weight of it: not after a hand
/// edit, a reload of HAProxy or a new document. It goes on watching, and afterwards puts right at once
/// whatever differs then. Works without Consul, and outlives restarts of weightd. A pause takes the place
/// of the one before it. Nothing is asked: HAProxy keeps the weights it has.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend; all of them if absent, also those that are yet to come
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
    /// For how long: 1s to 168h
    #[arg(long = "for", value_name = "DURATION", value_parser = lasting)]
    lasts: Duration,
    /// Why; for log and status
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    local: Local,
}

fn lasting(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text, &(Duration::from_secs(MIN_PAUSE)..=Duration::from_secs(MAX_PAUSE)))
}

/// In JSON a [`PauseAnswer`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.local.check("pause")?;
    let request = PauseRequest {
        backend: args.backend.clone(),
        instance: args.local.instance.clone(),
        // Rather a moment too long than one too short.
        for_seconds: args.lasts.as_secs() + u64::from(args.lasts.subsec_nanos() > 0),
        reason: args.reason.clone(),
        by: args.local.by(context.env),
    };
    let answer: PauseAnswer = args.local.post(context, "/v1/pause", &request).await?;
    let lasts = Duration::from_secs(answer.for_seconds);
    let until = Timestamp::from_second(Timestamp::now().as_second().saturating_add_unsigned(answer.for_seconds));
    let (subject, again) = match &answer.backend {
        Some(backend) => (backend.to_string(), format!("weightctl resume {backend} --local")),
        None => ("all backends".to_owned(), "weightctl resume --local".to_owned()),
    };
    output::say(&format!(
        "paused: {subject} on {}, for {}{}; HAProxy keeps the weights it has\nhands on again: `{again}`",
        names(&answer.instances),
        show_duration(lasts),
        until.map(|until| format!(", until {until}")).unwrap_or_default(),
    ));
    context.format.json(&answer)?;
    Ok(Exit::Ok)
}
