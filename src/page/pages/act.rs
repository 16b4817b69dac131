//! The writes of the page of one application: each with the person's own token, and check-and-set against what the person saw.

mod rollout;

use std::sync::Arc;

use axum::{
    Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use tracing::info;
use weightd_core::{
    fleet::{Freeze, Frozen},
    history::Way,
    model::{BackendName, Escaped},
    rollback::{Asked, Decision, Reach, Target, decide},
    rollout::{Mode, Verb},
};

use self::rollout::{abort, ask};
use super::{
    super::{
        session::Answer,
        shared::{Shared, Who},
        view::words::when,
        world,
    },
    error::{self, Problem},
    frame::Frame,
};
use crate::{
    base::chain::Chain,
    documents::{
        Context, DocumentsError, InForce, Optional, Written,
        changes::rollback_edit,
        commit::Without,
        edit::{Edit, EditError, Intent, Write},
        history::Marked,
    },
};

/// What is said of weights that were written, and replaced before they could be read back.
const SUPERSEDED: &str = "It was written, and somebody else wrote other weights just after you.";
/// Attempts of a roll back while others write.
const ATTEMPTS: usize = 3;
/// The longest reason, in characters.
pub const MAX_REASON: usize = 300;

/// The form of an action.
#[derive(Debug, Default, Deserialize)]
pub struct ActionForm {
    /// The index of the document that the person saw.
    #[serde(default)]
    pub seen: u64,
    /// The rollout that the person saw.
    #[serde(default)]
    pub rollout: String,
    /// The `seq` of its state that the person saw.
    #[serde(default)]
    pub at: u64,
    /// The index of the freeze that the person saw; 0 if there was none.
    #[serde(default)]
    pub freeze: u64,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    mode: String,
    /// The entry of the history that the person chose to go back to.
    #[serde(default)]
    to: String,
    /// The entry of the history that the question named.
    #[serde(default)]
    target: String,
    /// Whether the question was to go further back.
    #[serde(default)]
    again: String,
}

/// What became of a write: what is said about it.
#[derive(Debug)]
pub enum Outcome {
    /// It was done; with the index of the document, 0 if none was written.
    Done(String, u64),
    /// It was not done, or not yet, and the page of the application shows why.
    Not(String),
    /// Somebody was faster.
    Changed(String),
    /// It failed: title, text, the rule that is missing or what to do, and the cause.
    Failed(Box<Failed>),
}

/// A write that failed.
#[derive(Debug)]
pub struct Failed {
    status: StatusCode,
    title: String,
    text: String,
    command: String,
    small: String,
}

/// A reason as it is stored; none if it is empty.
pub fn reason(text: &str) -> Option<String> {
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    (!text.is_empty()).then_some(text)
}

/// Does an action.
pub async fn act(
    State(shared): State<Arc<Shared>>,
    Path((name, verb)): Path<(String, String)>,
    headers: HeaderMap,
    Form(form): Form<ActionForm>,
) -> Response {
    let path = format!("/app/{name}");
    let who = match shared.who(&headers).await {
        Ok(who) => who,
        Err(not_in) => return error::not_in(&shared, &headers, &not_in, &path),
    };
    let known = BackendName::new(&name).ok().filter(|name| who.seen.sees.backends.contains(name));
    let Some(backend) = known else { return error::no_application(&shared, &headers, &who, &name) };
    let outcome = match verb.as_str() {
        "pause" => ask(&who, &backend, &form, Verb::Pause).await,
        "resume" => ask(&who, &backend, &form, Verb::Resume).await,
        "promote" => ask(&who, &backend, &form, Verb::Promote).await,
        "approve" => ask(&who, &backend, &form, Verb::Approve).await,
        "mode" => match mode(&form.mode) {
            Some(mode) => ask(&who, &backend, &form, Verb::Mode { mode }).await,
            None => Outcome::Not("Nothing was written: choose a mode.".to_owned()),
        },
        "abort" => abort(&who, &backend, &form).await,
        "roll-back" => roll_back(&who, &backend, &form).await,
        "freeze" => freeze(&who, Some(&backend), &form, true).await,
        "unfreeze" => freeze(&who, Some(&backend), &form, false).await,
        _ => return error::missing(&shared, &headers, &who),
    };
    finish(&shared, &headers, &who, &backend, &verb, outcome)
}

/// Reads a mode.
pub fn mode(text: &str) -> Option<Mode> {
    [Mode::Watch, Mode::Guard, Mode::Auto].into_iter().find(|mode| mode.as_str() == text)
}

/// Says what happened: on the page of the application, or on a page of its own.
pub fn finish(
    shared: &Shared,
    headers: &HeaderMap,
    who: &Who,
    backend: &BackendName,
    verb: &str,
    outcome: Outcome,
) -> Response {
    let done = matches!(outcome, Outcome::Done(..));
    shared.metrics.wrote(done);
    info!(person = %Escaped(&who.seen.name), application = %backend, verb, done, "an action of the page");
    let (text, index, is_bad) = match outcome {
        Outcome::Done(text, index) => (text, index, false),
        Outcome::Not(text) => (text, 0, true),
        Outcome::Changed(text) => return changed(shared, headers, who, backend, &text),
        Outcome::Failed(failed) => return self::failed(shared, headers, who, backend.as_str(), *failed),
    };
    answer(shared, backend.as_str(), &format!("/app/{backend}"), text, index, is_bad)
}

/// To a page below the base path, which shows the answer.
pub fn answer(shared: &Shared, of: &str, path: &str, text: String, index: u64, is_bad: bool) -> Response {
    let mut response = error::see_other(&format!("{}{path}", shared.settings.base_path));
    let answer = Answer { of: of.to_owned(), text, is_bad, index, at: world::now().seconds() };
    if let Some(cookie) = shared.cookies.keep_answer(&shared.ring, &answer) {
        response.headers_mut().append(axum::http::header::SET_COOKIE, cookie);
    }
    response
}

fn changed(shared: &Shared, headers: &HeaderMap, who: &Who, backend: &BackendName, text: &str) -> Response {
    let frame = Frame::of(shared, headers, who, &shared.world(), "Somebody was faster");
    let problem = Problem {
        title: "Somebody was faster".to_owned(),
        text: format!("Nothing was written. {text}"),
        link: Some((format!("{}/app/{backend}", frame.base), format!("Look at {backend}"))),
        ..Problem::default()
    };
    error::show(shared, headers, StatusCode::CONFLICT, &frame, &problem)
}

/// A write that failed, on a page of its own.
pub fn failed(shared: &Shared, headers: &HeaderMap, who: &Who, name: &str, failed: Failed) -> Response {
    let frame = Frame::of(shared, headers, who, &shared.world(), failed.title.clone());
    let link = if name.is_empty() { format!("{}/fleet", frame.base) } else { format!("{}/app/{name}", frame.base) };
    let problem = Problem {
        title: failed.title,
        text: failed.text,
        command: failed.command,
        small: failed.small,
        link: Some((link, "Go back to the page".to_owned())),
        more: String::new(),
    };
    error::show(shared, headers, failed.status, &frame, &problem)
}

impl From<DocumentsError> for Outcome {
    fn from(error: DocumentsError) -> Self {
        Self::failed(&error, "Nothing was written.")
    }
}

impl Outcome {
    /// A write that failed. `written` says in a sentence what was written before.
    pub fn failed(error: &DocumentsError, written: &str) -> Self {
        let small = Chain(error).to_string();
        Self::Failed(Box::new(match error {
            DocumentsError::Read { rule, .. } | DocumentsError::Write { rule, .. } if error.is_denied() => Failed {
                status: StatusCode::FORBIDDEN,
                title: "Your token may not do this".to_owned(),
                text: format!("{written} The token needs this rule:"),
                command: rule.clone(),
                small,
            },
            DocumentsError::UnknownResult { .. } => Failed {
                status: StatusCode::BAD_GATEWAY,
                title: "It is not known whether this was written".to_owned(),
                text:
                    "Consul did not answer. The page of the application shows what it has, as soon as Consul answers."
                        .to_owned(),
                command: String::new(),
                small,
            },
            _ => Failed {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "Consul does not answer".to_owned(),
                text: format!("{written} Try again."),
                command: String::new(),
                small,
            },
        }))
    }
}

/// Goes back to where the present shift began, or to a chosen state. It goes through although others changed the weights
/// meanwhile, as long as it goes to the state that the question named.
async fn roll_back(who: &Who, backend: &BackendName, form: &ActionForm) -> Outcome {
    try_roll_back(who, backend, form).await.unwrap_or_else(Outcome::from)
}

async fn try_roll_back(who: &Who, backend: &BackendName, form: &ActionForm) -> Result<Outcome, DocumentsError> {
    let documents = &who.person.documents;
    let reach = form.to.parse().map_or(Reach::Shift, Reach::To);
    let asked = Asked { reach, again: !form.again.is_empty(), ..Asked::default() };
    for _ in 0..ATTEMPTS {
        let known = documents.context(backend).await?;
        if known.stored.is_none() {
            return Ok(Outcome::Not("Nothing was written: the application has no weights in Consul.".to_owned()));
        }
        let newest = known.entries().into_iter().next();
        let index = known.stored.as_ref().map_or(0, |stored| stored.index);
        if index != form.seen
            && let Some(newest) = newest.filter(|newest| newest.way == Way::Rollback)
        {
            let by = newest.by.unwrap_or_else(|| "somebody".to_owned());
            let at = newest.at.map(|at| format!(", {}", when(at, world::now()))).unwrap_or_default();
            return Ok(Outcome::Done(format!("Nothing was written: {by} rolled it back already{at}."), index));
        }
        let target = match target(&known, &asked) {
            Ok(target) => target,
            Err(why) => return Ok(Outcome::Not(why)),
        };
        if index != form.seen && reach == Reach::Shift && target.index != form.target.parse().ok() {
            return Ok(Outcome::Changed("A roll back would now go to another state than the one you saw.".to_owned()));
        }
        let rollback = |why: &str| rollback_edit(backend, &known, &target, intent(who, Way::Rollback, why));
        let (edit, note) = match rollback(&form.reason) {
            // The way back is worth more than its reason.
            Err(EditError::NoReason(_)) => {
                (rollback(""), " Its weights are one key for each server, which store no reason.")
            }
            edit => (edit, ""),
        };
        let edit = match edit {
            Ok(edit) => edit,
            Err(error) => return Ok(Outcome::Not(format!("Nothing was written: {error}."))),
        };
        if edit.write == Write::Nothing {
            return Ok(Outcome::Done("Nothing to change: it has these weights already.".to_owned(), index));
        }
        match documents.commit(backend, &edit, &known, edit.passes_freeze()).await? {
            Written::Conflict | Written::Frozen(_) => {}
            Written::Superseded => return Ok(Outcome::Not(SUPERSEDED.to_owned())),
            Written::Yes { index, without } => {
                let without = notes(&without);
                return Ok(Outcome::Done(format!("Rolled back: {}.{without}{note}", edit.after.summary()), index));
            }
        }
    }
    Ok(Outcome::Not("Nothing was written: others changed it at the same time. Try again.".to_owned()))
}

/// The parts that a write went without, as sentences.
fn notes(without: &[Without]) -> String {
    let sentences: Vec<_> = without.iter().map(|without| format!(" Note: {}.", without.sentence())).collect();
    sentences.concat()
}

fn target(known: &Context, asked: &Asked) -> Result<Target, String> {
    if let Optional::Off(why) = &known.history {
        return Err(format!("Nothing was written: the history cannot be read: {why}."));
    }
    match decide(&known.entries(), asked) {
        Decision::Target(target) => Ok(target),
        Decision::Refuse(why) => Err(format!("Nothing to roll back: {why}.")),
        Decision::Ask(ask) => Err(format!("Nothing was written: {}. Choose a state.", ask.reason)),
    }
}

/// The author, the reason and the verb of a write.
pub fn intent(who: &Who, way: Way, why: &str) -> Intent {
    Intent { by: who.seen.name.clone(), reason: reason(why), at: world::now().to_string(), way, ..Intent::default() }
}

/// Writes an edit of the weights, if the document is still the one that the person saw.
pub async fn write(who: &Who, backend: &BackendName, edit: &Edit, known: &Context, did: String) -> Outcome {
    match who.person.documents.commit(backend, edit, known, edit.passes_freeze()).await {
        Err(error) => error.into(),
        Ok(Written::Yes { index, without }) => {
            let without = notes(&without);
            Outcome::Done(format!("{did}{without}"), index)
        }
        Ok(Written::Frozen(frozen)) => Outcome::Not(frozen_text(&frozen)),
        Ok(Written::Conflict) => Outcome::Changed("Somebody changed the weights meanwhile.".to_owned()),
        Ok(Written::Superseded) => Outcome::Not(SUPERSEDED.to_owned()),
    }
}

/// What a freeze says to a write.
pub fn frozen_text(InForce { backend, frozen }: &InForce) -> String {
    let what = if backend.is_some() { "it is frozen" } else { "all changes are frozen" };
    format!("Nothing was written: {what} {}.", super::super::view::row::frozen_by(frozen))
}

/// What is true after a freeze was removed: another one may be in force.
async fn unfrozen(who: &Who, backend: Option<&BackendName>) -> String {
    let Some(backend) = backend else { return "Changes of all applications are possible again.".to_owned() };
    let own = format!("{backend} has no freeze of its own now.");
    let known = who.person.documents.context(backend).await;
    let known = known.ok().filter(|known| !matches!(known.freeze_all, Optional::Off(_)));
    match known.map(|known| known.frozen(backend)) {
        None => format!("{own} Whether all changes are frozen is not known."),
        Some(None) => format!("Changes of {backend} are possible again."),
        Some(Some(InForce { backend: None, frozen })) => {
            format!("{own} All changes are still frozen {}.", super::super::view::row::frozen_by(&frozen))
        }
        Some(Some(_)) => format!("{own} Somebody froze it again just after that."),
    }
}

/// Freezes or unfreezes an application; without one, all.
pub async fn freeze(who: &Who, backend: Option<&BackendName>, form: &ActionForm, on: bool) -> Outcome {
    let why = reason(&form.reason);
    if on && why.is_none() {
        return Outcome::Not("Nothing was written: a freeze needs a reason.".to_owned());
    }
    let frozen = Frozen { by: Some(who.seen.name.clone()), reason: why, since: Some(world::now()) };
    let freeze = Freeze { frozen: on.then_some(frozen) };
    let what = backend.map_or_else(|| "all applications".to_owned(), ToString::to_string);
    match who.person.documents.set_freeze(backend, &freeze, Some(form.freeze)).await {
        Err(error) => error.into(),
        Ok(Marked::Yes) if on => Outcome::Done(format!("Frozen: {what}. Only a roll back passes."), 0),
        Ok(Marked::Yes) => Outcome::Done(unfrozen(who, backend).await, 0),
        Ok(Marked::Nothing) => Outcome::Done("Nothing to change: it was so already.".to_owned(), 0),
        Ok(Marked::Conflict) => Outcome::Changed("Somebody else changed the freeze.".to_owned()),
        Ok(Marked::Superseded) => {
            Outcome::Not("It was written, and somebody else changed the freeze just after you.".to_owned())
        }
        Ok(Marked::Unreadable(why)) => Outcome::Not(format!("Nothing was written: the freeze cannot be read: {why}.")),
    }
}
