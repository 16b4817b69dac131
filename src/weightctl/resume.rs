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

/// End pauses and overrides of the weightd of this host, of one backend or of all
///
/// weightd immediately corrects every difference from the documents.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend; without it all pauses and overrides
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
    #[command(flatten)]
    local: Local,
}

/// Resumes. The JSON output is a [`ResumeAnswer`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let request = ResumeRequest {
        backend: args.backend.clone(),
        instance: args.local.instance.clone(),
        by: args.local.by(context.env),
    };
    let answer: ResumeAnswer = args.local.post(context, "/v1/resume", &request).await?;
    let subject = answer.backend.as_ref().map_or_else(|| "all backends".to_owned(), ToString::to_string);
    let instances = names(&answer.instances);
    output::message(&match answer.lifted {
        0 => format!("nothing to resume: no pause or override of {subject} on {instances}"),
        _ => format!("resumed: {subject} on {instances}; weightd sets the weights again"),
    });
    context.format.json(&answer)?;
    Ok(Exit::Ok)
}
