//! What people ask of a rollout: requests that a controller answers, and taking the new side back.

use weightd_core::{
    model::BackendName,
    rollout::{Phase, Request, Spec, State, Verb, abort::WhyAsk},
};

use super::{
    super::super::{
        shared::Who,
        view::{asked::asked, row::sentence_of, words::percent},
        world,
    },
    ActionForm, Outcome, notes, reason,
};
use crate::documents::{
    DocumentsError,
    rollouts::{ANSWER, Aborted, Answer, Asked, Standing, new_id},
};

/// What a person wants of a rollout: written, and answered by the controller.
pub(super) async fn ask(who: &Who, backend: &BackendName, form: &ActionForm, verb: Verb) -> Outcome {
    try_ask(who, backend, form, verb).await.unwrap_or_else(Outcome::from)
}

async fn try_ask(who: &Who, backend: &BackendName, form: &ActionForm, verb: Verb) -> Result<Outcome, DocumentsError> {
    let documents = &who.person.documents;
    let seen = documents.rollout(backend).await?;
    let state = match seen.standing() {
        Standing::Active(state) if state.id == form.rollout => state,
        Standing::Active(_) | Standing::Pending(_) => {
            return Ok(Outcome::Changed("Another rollout was started meanwhile.".to_owned()));
        }
        Standing::Ended(_) | Standing::None => {
            return Ok(Outcome::Changed("The rollout has ended meanwhile.".to_owned()));
        }
        Standing::Unreadable(key, bad) => {
            return Ok(Outcome::Not(format!("Nothing was written: the {key} of the rollout cannot be read: {bad}.")));
        }
    };
    if verb.needs_same_state() && state.seq != form.at {
        return Ok(Outcome::Changed(format!(
            "The rollout has moved on: it is at {} now.",
            percent(state.share.percent())
        )));
    }
    let index = match seen.replaced_by(&verb) {
        Ok(index) => index,
        Err(open) => return Ok(Outcome::Not(format!("Nothing was written. {}", asked(open, world::now())))),
    };
    let (did, why) = (did(&verb), reason(&form.reason));
    let request = Request::new(new_id(), verb, state.id.clone(), form.at, &who.seen.name, why.as_deref());
    let request = Request { when: Some(world::now()), ..request };
    Ok(match documents.ask_and_wait(backend, &request, index).await? {
        Asked::Done(_) => Outcome::Done(did, 0),
        Asked::Refused(why) => Outcome::Not(refused(&why)),
        Asked::TakenBack => {
            Outcome::Not("No controller answers. It was taken back, and nothing will happen.".to_owned())
        }
        Asked::Stays => {
            Outcome::Not("No controller answers. The request stays, and is done as soon as one does.".to_owned())
        }
        Asked::Replaced => Outcome::Not(
            "It was written, and somebody else asked for something else before a controller answered it.".to_owned(),
        ),
        Asked::Conflict => Outcome::Changed("Somebody else asked for something first.".to_owned()),
    })
}

fn refused(why: &str) -> String {
    format!("The controller refused it: {}", sentence_of(why))
}

fn did(verb: &Verb) -> String {
    match verb {
        Verb::Pause => "Paused.".to_owned(),
        Verb::Resume => "Resumed.".to_owned(),
        Verb::Promote => "Promoted: the bake counts as full.".to_owned(),
        Verb::Approve => "Approved.".to_owned(),
        Verb::Mode { mode } => format!("The mode is {} now.", mode.as_str()),
        Verb::Abort { .. } => "Ended.".to_owned(),
    }
}

/// Takes the new side of the rollout that the person saw back at once. It goes through, whatever changed in it meanwhile.
pub(super) async fn abort(who: &Who, backend: &BackendName, form: &ActionForm) -> Outcome {
    try_abort(who, backend, form).await.unwrap_or_else(Outcome::from)
}

async fn try_abort(who: &Who, backend: &BackendName, form: &ActionForm) -> Result<Outcome, DocumentsError> {
    let documents = &who.person.documents;
    let why = reason(&form.reason);
    let is_another = |id: &str| !form.rollout.is_empty() && id != form.rollout;
    match documents.rollout(backend).await?.standing() {
        Standing::Active(State { id, .. }) | Standing::Pending(Spec { id, .. }) if is_another(id) => {
            return Ok(Outcome::Changed("Another rollout was started meanwhile.".to_owned()));
        }
        _ => {}
    }
    Ok(match documents.abort_rollout(backend, &who.seen.name, why.as_deref(), world::now()).await? {
        Aborted::Nothing => Outcome::Not("There is no rollout any more.".to_owned()),
        Aborted::Ended(state) => {
            let why = state.why.as_deref().map(sentence_of).unwrap_or_default();
            Outcome::Not(format!("The rollout had ended already. {why}"))
        }
        Aborted::Withdrawn => Outcome::Done("Withdrawn. Nothing was moved.".to_owned(), 0),
        Aborted::Wrote { share, index, without, .. } => {
            let without = notes(&without);
            Outcome::Done(format!("Rolled back: the new side has {}.{without}", percent(share.percent())), index)
        }
        Aborted::Asked { request, why } => {
            // The request is there, whatever the read of its answer says.
            let written = "The request is written, and the next controller ends the rollout.";
            match documents.answer(backend, &request, ANSWER).await {
                Ok(answer) => ended(answer, why),
                Err(error) => Outcome::failed(&error, written),
            }
        }
        Aborted::Conflict => {
            Outcome::Not("Nothing was written: others changed it at the same time. Try again.".to_owned())
        }
        Aborted::Superseded => Outcome::Not(super::SUPERSEDED.to_owned()),
    })
}

/// What the controller answered to an abort that did not write the weights.
fn ended(answer: Answer, why: WhyAsk) -> Outcome {
    let weights = match why {
        WhyAsk::NotMoved => "Nothing had moved.",
        WhyAsk::GoesBack => "The weights of its start are written.",
        WhyAsk::Foreign => {
            "The weights are not changed: somebody else wrote other shares since. Roll back again to take them back."
        }
        WhyAsk::SpecChanged => "The weights are not changed: its sides are not known any more.",
    };
    match (answer, why) {
        (Answer::Done(state), _) if state.phase == Phase::RollingBack => {
            Outcome::Done(format!("It goes back: the new side gets {}.", percent(state.share.percent())), 0)
        }
        (Answer::Done(_), WhyAsk::NotMoved | WhyAsk::GoesBack) => {
            Outcome::Done(format!("The rollout has ended. {weights}"), 0)
        }
        (Answer::Done(_), WhyAsk::Foreign | WhyAsk::SpecChanged) => {
            Outcome::Not(format!("The rollout has ended. {weights}"))
        }
        (Answer::Refused(why), _) => Outcome::Not(format!("{} {weights}", refused(&why))),
        (Answer::None, _) => Outcome::Not(format!(
            "No controller answers. The request stays, and the rollout ends as soon as one does. {weights}"
        )),
    }
}

#[cfg(test)]
mod tests;
