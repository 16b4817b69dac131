//! The start itself: the checks, the split of the sides where it is asked for, and the spec.

use std::sync::Arc;

use weightd_core::{
    desired::Split,
    history::Way,
    model::BackendName,
    rollout::{
        Mode,
        start::{self, Known, Proposal, Refusal, Wish},
    },
};

use super::{
    super::{
        super::{
            shared::{Shared, Who},
            view::row::sentence_of,
            world::{self, App},
        },
        act::{Outcome, frozen_text, intent, mode, reason},
    },
    StartForm, named, offered, patterns, today,
};
use crate::{
    base::chain::Chain,
    documents::{
        Context, DocumentsError, Written,
        edit::{self, Intent},
        gather::Gathered,
        rollouts::{Standing, Started, new_id},
    },
};

/// What was written where the start itself failed.
const CONVERTED: &str = "The document has shares by side now, and the rollout was not started.";

/// What became of a start.
pub(super) enum Begun {
    /// It cannot begin: every reason.
    Refused(Vec<Refusal>),
    /// It cannot begin with what the form says.
    Not(String),
    /// First it would write this split, which the person has not seen.
    Review(Split),
    /// It began, or it did not: what is said about it.
    Ended(Outcome),
}

/// Starts a rollout with the token of the person, if everything still is as the person saw it.
///
/// # Errors
/// [`DocumentsError`]: nothing was written.
pub(super) async fn begin(shared: &Shared, who: &Who, app: &App, form: &StartForm) -> Result<Begun, DocumentsError> {
    let (backend, documents) = (&app.facts.name, &who.person.documents);
    let Some(mode) = mode(&form.mode) else { return Ok(Begun::Not("Choose a mode.".to_owned())) };
    let text = if form.other.trim().is_empty() { &form.to } else { &form.other };
    let to = match patterns(text) {
        Ok(to) if !to.is_empty() => to,
        Ok(_) => return Ok(Begun::Not("Choose the side to move to.".to_owned())),
        Err(why) => return Ok(Begun::Not(sentence_of(&why))),
    };
    let plans = offered(who).await;
    let Some(offered) = plans.iter().find(|offered| offered.name == form.plan) else {
        return Ok(Begun::Not("Choose a plan.".to_owned()));
    };
    let (seen, controller) = tokio::try_join!(documents.rollout(backend), documents.controller())?;
    match seen.standing() {
        Standing::None | Standing::Ended(_) => {}
        Standing::Active(_) | Standing::Pending(_) => {
            return Ok(Begun::Ended(Outcome::Changed("Another rollout was started meanwhile.".to_owned())));
        }
        Standing::Unreadable(key, bad) => {
            return Ok(Begun::Not(format!("The {key} of the rollout cannot be read: {bad}.")));
        }
    }
    let known = documents.context(backend).await?;
    let index = known.stored.as_ref().map_or(0, |stored| stored.index);
    if index != form.seen {
        return Ok(Begun::Ended(Outcome::Changed("Somebody changed the weights while you were here.".to_owned())));
    }
    if let Some(frozen) = known.frozen(backend).filter(|_| !form.convert.is_empty()) {
        return Ok(Begun::Not(frozen_text(&frozen)));
    }
    // In mode watch nothing is moved, and nothing depends on the traffic before.
    let today = if known.stored.is_some() && (mode != Mode::Watch || !form.slo.is_empty()) {
        Some(today(shared, who, backend, index).await)
    } else {
        None
    };
    let gathered = match shared.measured.fresh(backend) {
        Some(gathered) => gathered,
        None => Arc::new(documents.gather(backend, index, false, Some(who.seen.name.clone())).await),
    };
    let sample = today.as_ref().and_then(|today| today.sample.as_ref());
    let plan = offered.plan(start::protocol(&gathered.nodes));
    let published = documents.published(backend).await?;
    let is_from = |server: &str| !to.iter().any(|pattern| pattern.matches(server));
    let facts = Known {
        document: published.as_ref(),
        nodes: &gathered.nodes,
        silent: &gathered.silent,
        controller: controller.get(),
        baseline: sample.map(|sample| sample.baseline(is_from)),
    };
    let wish = Wish {
        to: to.clone(),
        from: None,
        mode,
        // In the other modes nothing follows the steps, until a person sets mode auto.
        plan,
        fit: offered.fits(),
        convert: !form.convert.is_empty(),
        slo_from_baseline: !form.slo.is_empty(),
    };
    let proposal = match start::propose(&wish, &facts) {
        Ok(proposal) => proposal,
        Err(refusals) => return Ok(Begun::Refused(refusals)),
    };
    if let Some(split) = proposal.convert.as_ref().filter(|split| form.sure != sure(split)) {
        return Ok(Begun::Review(split.clone()));
    }
    let converted = match convert(who, backend, &known, &proposal).await? {
        Ok(converted) => converted,
        Err(outcome) => return Ok(Begun::Ended(outcome)),
    };
    // From here on the document may be another one.
    let written = if converted.is_some() { CONVERTED } else { "Nothing was written." };
    let spec = proposal.spec(new_id(), who.seen.name.clone(), world::now(), reason(&form.reason));
    let started = match documents.start_rollout(backend, &spec, &seen, converted.unwrap_or(index)).await {
        Ok(started) => started,
        Err(error) => return Ok(Begun::Ended(Outcome::failed(&error, written))),
    };
    Ok(Begun::Ended(match started {
        Started::Yes(_) => {
            let names_nodes = who.seen.sees.nodes;
            let cautions = proposal.cautions.iter().map(|caution| format!(" {}", named::caution(caution, names_nodes)));
            let cautions: String = cautions.collect();
            let leads = if controller.index == 0 { " No controller leads: it begins when one does." } else { "" };
            let unmeasured = today.as_deref().map(unmeasured).unwrap_or_default();
            Outcome::Done(format!("Started: mode {}.{leads}{unmeasured}{cautions}", mode.as_str()), 0)
        }
        Started::Conflict if converted.is_some() => Outcome::Not(format!(
            "{CONVERTED} Somebody changed the weights, or started another rollout, just after that."
        )),
        Started::Conflict => {
            Outcome::Changed("Somebody changed the weights, or started a rollout, while you were here.".to_owned())
        }
        Started::Superseded => {
            Outcome::Not("It was started, and somebody else started another one just after you.".to_owned())
        }
        Started::Invalid(bad) => Outcome::Not(format!("{written} No controller could read it: {bad}.")),
    }))
}

/// Says in the form which split the person has seen.
pub(super) fn sure(split: &Split) -> String {
    let shares = split.shares().iter().map(|(pattern, share)| format!("{pattern}={}", share.percent()));
    shares.collect::<Vec<_>>().join(" ")
}

/// What could not be compared with the traffic; empty if it was measured.
fn unmeasured(today: &Gathered) -> String {
    if today.sample.is_some() {
        return String::new();
    }
    let why = today
        .problem
        .as_ref()
        .map_or_else(|| "no node reported requests".to_owned(), |problem| Chain(problem).to_string());
    format!(
        " The traffic of now is not known ({why}), so the errors of the old side were not compared with the plan, and no step \
         was left out."
    )
}

/// Makes the document a split of the sides, where that is asked for: the index of the new document; none if it is one.
async fn convert(
    who: &Who,
    backend: &BackendName,
    known: &Context,
    proposal: &Proposal,
) -> Result<Result<Option<u64>, Outcome>, DocumentsError> {
    let Some(split) = &proposal.convert else { return Ok(Ok(None)) };
    let why = "the split of the sides of a rollout";
    let intent = known.intent(Intent { create: true, ..intent(who, Way::Convert, why) });
    let edit = match edit::split(backend, known.stored.as_ref(), split, &intent) {
        Ok(edit) => edit,
        Err(error) => return Ok(Err(Outcome::Not(format!("Nothing was written: {error}.")))),
    };
    Ok(match who.person.documents.commit(backend, &edit, known, false).await? {
        Written::Yes { index, .. } => Ok(Some(index)),
        Written::Frozen(frozen) => Err(Outcome::Not(frozen_text(&frozen))),
        Written::Conflict => Err(Outcome::Changed("Somebody changed the weights while you were here.".to_owned())),
        Written::Superseded => Err(Outcome::Not(format!("{CONVERTED} Somebody wrote other weights just after that."))),
    })
}
