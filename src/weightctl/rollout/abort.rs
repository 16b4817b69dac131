use std::time::Duration;

use serde::Serialize;
use weightd_core::{
    model::{BackendName, Escaped},
    rollout::{Request, abort::WhyAsk},
};

use super::{
    ask::{Who, Yes},
    is_open, no_rollout, note_unreadable, now, start, text,
};
use crate::{
    documents::{
        Documents,
        rollouts::{Aborted, Answer, Standing},
    },
    weightctl::{
        Exit,
        change::{changed_by_another, confirm_write},
        context::Context,
        failure::Failure,
        output,
        wait::{WaitFlags, wait},
    },
};

/// How long a leader may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  weightctl rollout abort app1 -m 'customers report errors'    show, ask, take the new side back
  weightctl rollout abort app1 --yes --wait                    and wait until every HAProxy has it

Exit codes: 3 if only a controller can end it, and none answers; 5 somebody else wrote the weights.
With --wait as `set`.";

/// Take the new side back to its share at the start, and end the rollout
///
/// Writes the weights at once: it needs no controller, and no freeze stops it. Where the new side has not moved, it only
/// ends the rollout. A rollout that no controller has begun is withdrawn.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: WaitFlags,
}

/// The result of an abort. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "result": "wrote",     wrote (the weights go back), asked (only a controller can end it), withdrawn, or ended before
///   "share": 0,            the share of the new side that was written, in percent; null if nothing was
///   "index": 43,           the ModifyIndex of the document; null if nothing was written
///   "answered": true       whether a leader has closed the rollout
/// }
/// ```
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    backend: &'a BackendName,
    result: &'static str,
    share: Option<weightd_core::desired::PatternShare>,
    index: Option<u64>,
    answered: bool,
}

/// Aborts. The JSON output is an [`Outcome`].
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.yes.check()?;
    args.wait.refuse_drained("rollout abort")?;
    let documents = context.documents()?;
    let backend = &args.backend;
    let read = documents.rollout(backend).await?;
    note_unreadable(backend, &read);
    if !args.yes.yes && (is_open(&read) || matches!(read.standing(), Standing::Unreadable(..))) {
        output::message(&format!("{backend}: {}", text::sentence(&read, now(&documents))));
        let back = read.state.get().map_or(0.0, |state| state.back.percent());
        let side = read.spec.get().map_or_else(|| "the new side".to_owned(), |spec| text::side(&spec.to));
        output::message(&format!("abort: {side} goes back to {back} %, and the rollout ends"));
        confirm_write(&documents).await?;
    }
    let (by, reason) = (args.who.author(context), args.who.reason.as_deref());
    let done = documents.abort_rollout(backend, &by, reason, start::at(&documents)).await?;
    end(args, &documents, context, done).await
}

async fn end(args: &Args, documents: &Documents, context: &Context<'_>, done: Aborted) -> Result<Exit, Failure> {
    let backend = &args.backend;
    let outcome = Outcome { backend, result: "ended", share: None, index: None, answered: false };
    let print = |outcome: &Outcome<'_>| {
        if args.wait.is_given() { context.format.json_line(outcome) } else { context.format.json(outcome) }
    };
    match done {
        Aborted::Nothing => Err(no_rollout(documents, backend).await),
        Aborted::Ended(state) => {
            let why = state.why.as_ref().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
            output::message(&format!(
                "nothing to do: the rollout of {backend} has ended, {}{why}",
                text::phase(state.phase)
            ));
            print(&Outcome { answered: true, ..outcome })?;
            Ok(Exit::Ok)
        }
        Aborted::Withdrawn => {
            output::message(&format!("withdrawn: no controller had begun the rollout of {backend}; nothing had moved"));
            print(&Outcome { result: "withdrawn", answered: true, ..outcome })?;
            Ok(Exit::Ok)
        }
        Aborted::Wrote { share, index, request, without } => {
            output::message(&format!("written: {backend} goes back to {} %, index {index}", share.percent()));
            for without in &without {
                output::note(&without.sentence());
            }
            let answered = answered(documents, backend, &request).await?;
            if !answered {
                output::note("no leader answered within 5 s: the weights are back; the next leader closes the rollout");
            }
            print(&Outcome { result: "wrote", share: Some(share), index: Some(index), answered, ..outcome })?;
            wait(context.format, documents, backend, index, &args.wait).await
        }
        Aborted::Asked { request, why } => {
            let answered = answered(documents, backend, &request).await?;
            print(&Outcome { result: "asked", answered, ..outcome })?;
            asked(documents, backend, why, answered).await
        }
        Aborted::Conflict => Err(changed_by_another(documents, backend, "nothing was written in any attempt").await),
        Aborted::Superseded => {
            let what = "Consul accepted the write, but another write replaced it";
            Err(changed_by_another(documents, backend, what).await)
        }
    }
}

/// Whether a leader has answered.
async fn answered(documents: &Documents, backend: &BackendName, request: &Request) -> Result<bool, Failure> {
    Ok(documents.answer(backend, request, ANSWER).await? != Answer::None)
}

/// The end where only the request was written.
async fn asked(documents: &Documents, backend: &BackendName, why: WhyAsk, answered: bool) -> Result<Exit, Failure> {
    let read = documents.rollout(backend).await?;
    let state = text::sentence(&read, now(documents));
    let foreign = matches!(why, WhyAsk::Foreign);
    if answered && !foreign {
        output::message(&format!("done: {backend}: {state}"));
        return Ok(Exit::Ok);
    }
    let (exit, what) = match why {
        WhyAsk::Foreign => (
            Exit::Conflict,
            format!("somebody else wrote the weights of `{backend}`, and an abort does not overwrite them; {state}"),
        ),
        WhyAsk::NotMoved => (
            Exit::NotConverged,
            format!("`{backend}` has not moved, and no leader answered within 5 s: the next leader ends the rollout"),
        ),
        WhyAsk::GoesBack => {
            (Exit::NotConverged, format!("`{backend}` goes back already, and no leader answered within 5 s"))
        }
        WhyAsk::SpecChanged => (
            Exit::NotConverged,
            format!(
                "the sides of the rollout of `{backend}` cannot be read, so nothing was written; no leader answered"
            ),
        ),
    };
    Err(Failure::new(exit, what).hint(format!("`weightctl rollback {backend}` goes back without a controller")))
}
