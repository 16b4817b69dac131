use serde::Serialize;
use weightd_core::{
    model::{BackendName, Escaped},
    rollout::{Mode, Request, State, Verb},
};

use super::{no_rollout, note_unreadable, now, start::mode as read_mode, text, unreadable};
use crate::{
    documents::{
        Documents,
        rollouts::{Asked, RolloutRead, Standing, new_id},
    },
    weightctl::{
        Exit,
        change::{confirm_write, user},
        context::Context,
        failure::Failure,
        output,
    },
};

/// Do not advance until `resume`
///
/// Needs no confirmation. Judging goes on, and the new side is still taken back where that is allowed. Where nobody leads,
/// the request stays.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    #[command(flatten)]
    who: Who,
}

/// A request that needs a confirmation.
#[derive(Debug, clap::Args)]
pub(super) struct AskArgs {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    yes: Yes,
}

/// Change what the rollout may do: watch, guard or auto
///
/// Auto needs a plan, and goes on with its first step above the present share.
#[derive(Debug, clap::Args)]
pub(super) struct ModeArgs {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// watch, guard or auto
    #[arg(value_parser = read_mode)]
    mode: Mode,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    yes: Yes,
}

/// Who asks, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Who {
    /// Reason; shown to everybody
    #[arg(long, short = 'm', value_name = "TEXT", value_parser = reason)]
    pub(super) reason: Option<String>,
    /// Author
    #[arg(long, value_name = "NAME", help = "Author [default: $SUDO_USER, $USER or the user id]")]
    pub(super) by: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Yes {
    /// Write without a question
    #[arg(long, short)]
    pub(super) yes: bool,
}

fn reason(text: &str) -> Result<String, String> {
    if text.len() > Request::MAX_REASON {
        return Err(format!("the reason has {} bytes; the maximum is {}", text.len(), Request::MAX_REASON));
    }
    Ok(text.to_owned())
}

impl Who {
    /// The author.
    pub(super) fn author(&self, context: &Context<'_>) -> String {
        self.by.clone().or_else(|| user(context.env)).unwrap_or_else(|| "unknown".to_owned())
    }
}

impl Yes {
    /// Fails if the question could not be answered.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.yes || output::can_ask() {
            return Ok(());
        }
        Err(Failure::new(Exit::Usage, "cannot ask: stdin or stderr is no terminal")
            .hint("add --yes to write without a question"))
    }
}

pub(super) async fn pause(args: &PauseArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    Asking { backend: &args.backend, verb: Verb::Pause, who: &args.who, yes: None }.run(context).await
}

/// Resume, promote or approve.
pub(super) async fn ask(verb: Verb, args: &AskArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    Asking { backend: &args.backend, verb, who: &args.who, yes: Some(&args.yes) }.run(context).await
}

pub(super) async fn mode(args: &ModeArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let verb = Verb::Mode { mode: args.mode };
    Asking { backend: &args.backend, verb, who: &args.who, yes: Some(&args.yes) }.run(context).await
}

/// The result of a request. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "rollout": "5f3a…",
///   "verb": "promote",
///   "request": "91c0…",        its identifier
///   "answer": "done",          done, or none if nobody answered in time
///   "taken_back": false,       whether it has no effect any more, because nobody answered
///   "state": {…}               the state after the answer, as in Consul; null without an answer
/// }
/// ```
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    backend: &'a BackendName,
    rollout: &'a str,
    verb: &'static str,
    request: &'a str,
    answer: &'static str,
    taken_back: bool,
    state: Option<&'a State>,
}

/// One request.
struct Asking<'a> {
    backend: &'a BackendName,
    verb: Verb,
    who: &'a Who,
    /// None for a request that needs no question.
    yes: Option<&'a Yes>,
}

impl Asking<'_> {
    /// Asks the leader, and waits for the answer. The JSON output is an [`Outcome`].
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        if let Some(yes) = self.yes {
            yes.check()?;
        }
        let documents = context.documents()?;
        let backend = self.backend;
        let read = documents.rollout(backend).await?;
        note_unreadable(backend, &read);
        let (rollout, at) = self.target(&documents, &read).await?;
        let seen = self.key_index(&read)?;
        if let Some(Yes { yes: false }) = self.yes {
            output::message(&format!("{backend}: {}", text::sentence(&read, now(&documents))));
            output::message(&self.effect());
            confirm_write(&documents).await?;
        }
        let by = self.who.author(context);
        let request = Request {
            when: Some(now(&documents)),
            ..Request::new(new_id(), self.verb.clone(), rollout, at, &by, self.who.reason.as_deref())
        };
        let asked = documents.ask_and_wait(backend, &request, seen).await?;
        self.end(&documents, context, &request, asked).await
    }

    /// The rollout, and the `seq` of its state.
    async fn target(&self, documents: &Documents, read: &RolloutRead) -> Result<(String, u64), Failure> {
        let backend = self.backend;
        match read.standing() {
            Standing::None => Err(no_rollout(documents, backend).await),
            Standing::Unreadable(key, bad) => Err(unreadable(backend, key, bad)),
            Standing::Active(state) => Ok((state.id.clone(), state.seq)),
            Standing::Ended(state) => {
                let why = state.why.as_ref().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
                let what = format!("the rollout of `{backend}` has ended, {}{why}", text::phase(state.phase));
                Err(Failure::new(Exit::Refused, what)
                    .hint("`weightctl rollout start --help` shows how to start another"))
            }
            // A leader that begins it finds the request.
            Standing::Pending(spec) if self.verb == Verb::Pause => Ok((spec.id.clone(), 0)),
            Standing::Pending(_) => {
                let what = format!("no controller has begun the rollout of `{backend}`");
                Err(Failure::new(Exit::NotConverged, what)
                    .hint(format!("start a controller, or withdraw it: `weightctl rollout abort {backend}`")))
            }
        }
    }

    /// The `ModifyIndex` of the key that the request replaces.
    fn key_index(&self, read: &RolloutRead) -> Result<u64, Failure> {
        read.replaced_by(&self.verb).map_err(|open| {
            let what = format!(
                "the rollout of `{}` has a request that nobody has answered: {} by {}",
                self.backend,
                open.verb.as_str(),
                Escaped(&open.by)
            );
            Failure::new(Exit::Conflict, what).hint("try again when it is answered; a controller must lead")
        })
    }

    /// What the request does.
    fn effect(&self) -> String {
        match &self.verb {
            Verb::Resume => "resume: it goes on; what stopped it is cleared".to_owned(),
            Verb::Promote => "promote: the present bake counts as full; all other conditions stay".to_owned(),
            Verb::Approve => "approve: the next step may begin".to_owned(),
            Verb::Mode { mode } => format!("mode {}: {}", mode.as_str(), text::meaning(*mode)),
            Verb::Pause | Verb::Abort { .. } => String::new(),
        }
    }

    async fn end(
        &self,
        documents: &Documents,
        context: &Context<'_>,
        request: &Request,
        asked: Asked,
    ) -> Result<Exit, Failure> {
        let backend = self.backend;
        let verb = self.verb.as_str();
        let taken_back = asked == Asked::TakenBack;
        let outcome = |answer, state| Outcome {
            backend,
            rollout: &request.rollout,
            verb,
            request: &request.id,
            answer,
            taken_back,
            state,
        };
        match &asked {
            Asked::Done(state) => {
                let read = documents.rollout(backend).await?;
                output::message(&format!("{verb}: done; {backend}: {}", text::sentence(&read, now(documents))));
                context.format.json(&outcome("done", Some(state)))?;
                Ok(Exit::Ok)
            }
            Asked::Refused(why) => {
                Err(Failure::new(Exit::Refused, format!("the leader refused `{verb}`: {}", Escaped(why)))
                    .hint(format!("`weightctl rollout explain {backend}` shows why it is where it is")))
            }
            Asked::TakenBack | Asked::Stays => {
                context.format.json(&outcome("none", None))?;
                let what = if taken_back {
                    format!("no leader answered `{verb}` within 5 s: it is taken back, and has no effect")
                } else {
                    format!("no leader answered `{verb}` within 5 s: it stays, and the next leader does it")
                };
                Err(Failure::new(Exit::NotConverged, what)
                    .hint(format!("`weightctl rollout status {backend}` shows who leads")))
            }
            Asked::Replaced => {
                let what = format!("another request replaced `{verb}` before a leader answered it");
                Err(Failure::new(Exit::Conflict, what).hint(format!("`weightctl rollout status {backend}` shows it")))
            }
            Asked::Conflict => Err(faster(backend)),
        }
    }
}

fn faster(backend: &BackendName) -> Failure {
    let what = format!("another request for the rollout of `{backend}` was faster");
    Failure::new(Exit::Conflict, what).hint(format!("`weightctl rollout status {backend}` shows it"))
}
