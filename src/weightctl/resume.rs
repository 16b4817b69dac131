use weightd_core::{
    model::BackendName,
    wire::pause::{ResumeAnswer, ResumeRequest},
};

use super::{
    Exit,
    context::Context,
    failure::Failure,
    local::{Local, names},
    output,
};

/// Let this host's weightd go on with a backend that was paused, or with all
///
/// Whatever differs from the documents by then is put right at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend; every pause ends if absent
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
    #[command(flatten)]
    local: Local,
}

/// In JSON a [`ResumeAnswer`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.local.check("resume")?;
    let request = ResumeRequest {
        backend: args.backend.clone(),
        instance: args.local.instance.clone(),
        by: args.local.by(context.env),
    };
    let answer: ResumeAnswer = args.local.post(context, "/v1/resume", &request).await?;
    let subject = answer.backend.as_ref().map_or_else(|| "all backends".to_owned(), ToString::to_string);
    let instances = names(&answer.instances);
    output::say(&match answer.lifted {
        0 => format!("nothing to resume: no pause of {subject} on {instances}"),
        _ => format!("hands on again: {subject} on {instances}"),
    });
    context.format.json(&answer)?;
    Ok(Exit::Ok)
}
