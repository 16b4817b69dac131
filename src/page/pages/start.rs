//! Start a rollout: choose the side, the mode and the plan, and see what each step means at today's traffic.

mod measured;

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use weightd_core::{
    desired::Pattern,
    history::Way,
    model::BackendName,
    rollout::{
        Mode,
        plan::{Plan, Preset, Protocol},
        start::{self, Known, Proposal, Refusal, Wish},
    },
};

pub use self::measured::Measured;
use super::{
    super::{
        shared::{Shared, Who},
        view::{
            facts::Facts,
            plans::{PlanView, plan_view, sides_to_choose},
            row::sentence_of,
            sides::{Bar, Sides},
            words::{counted, number, percent_of},
        },
        world::{self, App},
    },
    act::{Outcome, finish, intent, mode, reason},
    application::open,
    frame::{Frame, page},
};
use crate::documents::{
    DocumentsError, Written,
    edit::{self, Intent},
    gather::Gathered,
    rollouts::{Standing, Started, new_id},
};

/// Own plans that are offered.
const MAX_PLANS: usize = 8;

#[derive(Template)]
#[template(path = "start.html", blocks = ["preview"])]
struct StartPage<'a> {
    frame: &'a Frame,
    name: &'a str,
    bar: Bar,
    traffic: String,
    refusals: Vec<(String, String)>,
    sides: Vec<(String, String, String, bool, bool)>,
    other: &'a str,
    mode: &'a str,
    plans: Vec<PlanView>,
    measured: String,
    checks: Vec<(&'static str, &'static str, &'static str, String)>,
    ask_convert: bool,
    convert: bool,
    ask_slo: bool,
    reason: &'a str,
    seen: u64,
}

/// What the person wants.
#[derive(Debug, Default, Deserialize)]
pub struct StartForm {
    #[serde(default)]
    to: String,
    #[serde(default)]
    other: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    plan: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    convert: String,
    #[serde(default)]
    slo: String,
    #[serde(default)]
    seen: u64,
}

/// A plan with its name, and whether steps may be left out.
type Named = (String, Plan, bool);

/// The page.
///
/// # Errors
/// As [`open`].
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let (who, _, app) = open(&shared, &headers, &name, &format!("/app/{name}/start")).await?;
    measure(&shared, &who, &app);
    let form = StartForm { plan: "careful".to_owned(), ..StartForm::default() };
    Ok(respond(&shared, &headers, &who, &app, &form, Vec::new(), StatusCode::OK).await)
}

/// Measures the traffic, with the token of the person, once in ten minutes.
fn measure(shared: &Arc<Shared>, who: &Who, app: &App) {
    let backend = app.facts.name.clone();
    if !shared.measured.begin(&backend) {
        return;
    }
    let (shared, who, index) = (Arc::clone(shared), who.clone(), app.facts.index());
    tokio::spawn(async move {
        let by = Some(who.seen.name.clone());
        let gathered = who.person.documents.gather(&backend, index, true, by).await;
        shared.measured.end(&backend, gathered);
    });
}

async fn respond(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    who: &Who,
    app: &App,
    form: &StartForm,
    refusals: Vec<Refusal>,
    status: StatusCode,
) -> Response {
    let live = format!("/app/{}/start", app.row.name);
    let frame = Frame::of(shared, headers, who, &shared.world(), format!("Start a rollout of {}", app.row.name))
        .at("applications", live);
    let plans = plans(who).await;
    let template = of(shared, &frame, app, form, &refusals, &plans);
    page(shared, headers, status, &frame, &template)
}

/// The presets, and the plans of the operators that the person may read.
async fn plans(who: &Who) -> Vec<Named> {
    let presets = [Preset::Quick, Preset::Careful, Preset::Day];
    let mut plans: Vec<Named> =
        presets.map(|preset| (preset.as_str().to_owned(), preset.plan(Protocol::Http), true)).into();
    let documents = &who.person.documents;
    // Without the right there are no own plans to choose.
    for name in documents.plan_names().await.unwrap_or_default().into_iter().take(MAX_PLANS) {
        if let Ok(plan) = documents.plan(&name).await {
            plans.push((name, plan, false));
        }
    }
    plans
}

fn of<'a>(
    shared: &Shared,
    frame: &'a Frame,
    app: &'a App,
    form: &'a StartForm,
    refusals: &[Refusal],
    plans: &[Named],
) -> StartPage<'a> {
    let facts = &app.facts;
    let sides = Sides::of(facts.document.as_ref(), None);
    let gathered = shared.measured.of(&facts.name);
    let choices = sides_to_choose(facts);
    let wanted = if form.to.is_empty() {
        choices.iter().rev().find(|side| !side.3).map(|side| side.0.clone())
    } else {
        Some(form.to.clone())
    };
    let to: Vec<Pattern> = patterns(wanted.as_deref().unwrap_or_default()).unwrap_or_default();
    let is_from = |server: &str| !to.iter().any(|pattern| pattern.matches(server));
    let sample = gathered.as_ref().and_then(|gathered| gathered.sample.as_ref());
    let baseline = sample.map(|sample| sample.baseline(is_from));
    let traffic = baseline.map(weightd_core::rollout::start::Baseline::traffic);
    let views = plans.iter().map(|(name, plan, fits)| plan_view(name, plan, traffic, *fits, *name == form.plan));
    let has = |is: &dyn Fn(&Refusal) -> bool| refusals.iter().any(is);
    StartPage {
        frame,
        name: &app.row.name,
        bar: sides.bar(None),
        traffic: traffic.map_or_else(String::new, |traffic| {
            format!(
                "{} requests a second on {}",
                super::super::view::words::about(traffic.per_second),
                counted(facts.has().1, "node")
            )
        }),
        refusals: refusals
            .iter()
            .map(|refusal| (sentence_of(&refusal.to_string()), sentence_of(&refusal.remedy())))
            .collect(),
        sides: choices
            .into_iter()
            .map(|(value, name, what, all)| {
                let is_chosen = wanted.as_deref() == Some(value.as_str());
                (value, name, what, all, is_chosen)
            })
            .collect(),
        other: &form.other,
        mode: &form.mode,
        plans: views.collect(),
        measured: measured(gathered.as_deref(), baseline),
        checks: checks(shared, facts, gathered.as_deref()),
        ask_convert: facts.document.as_ref().is_some_and(|view| view.split.is_none()),
        convert: !form.convert.is_empty(),
        ask_slo: has(&|refusal| matches!(refusal, Refusal::AboveSlo { .. })),
        reason: &form.reason,
        seen: facts.index(),
    }
}

fn measured(gathered: Option<&Gathered>, baseline: Option<start::Baseline>) -> String {
    match (gathered, baseline) {
        (None, _) => "The nodes count the traffic now. The numbers come within 15 s.".to_owned(),
        (Some(Gathered { problem: Some(problem), sample: None, .. }), _) => {
            format!("No numbers: {}.", crate::base::chain::Chain(problem))
        }
        (Some(_), None) => "No numbers: no node reported requests.".to_owned(),
        (Some(_), Some(baseline)) => {
            let rate = percent_of(baseline.error_rate());
            format!(
                "At the traffic of now: {} requests a second; the old side fails {rate} of {} requests. Each step goes on only when \
                 its bake is over and the new side was no worse.",
                number(baseline.per_second),
                super::super::view::words::count(baseline.requests)
            )
        }
    }
}

/// What is known before it starts: class, word, glyph, text.
fn checks(
    shared: &Shared,
    facts: &Facts,
    gathered: Option<&Gathered>,
) -> Vec<(&'static str, &'static str, &'static str, String)> {
    let good =
        |is: bool, yes: String, no: String| if is { ("", "good", "check", yes) } else { ("att", "mind", "warn", no) };
    let (has, all) = facts.has();
    let mut checks = vec![good(
        has == all && all > 0,
        format!("{} of {} have the document of now", has, counted(all, "node")),
        format!("{has} of {} have the document of now", counted(all, "node")),
    )];
    let leader = shared.world().controller.clone();
    checks.push(good(
        leader.is_some(),
        format!("{} leads: it begins within a second", leader.clone().unwrap_or_default()),
        "No controller leads: it begins when one does".to_owned(),
    ));
    if let Some((_, frozen)) = &facts.frozen {
        checks.push((
            "att",
            "mind",
            "lock",
            format!(
                "Changes are frozen {}: it does not go on until that ends",
                super::super::view::row::frozen_by(frozen)
            ),
        ));
    }
    if let Some(gathered) = gathered.filter(|gathered| !gathered.silent.is_empty()) {
        let names = super::super::view::row::names(gathered.silent.iter().map(weightd_core::fleet::NodeName::as_str));
        checks.push(("att", "mind", "warn", format!("These nodes did not say which servers they have: {names}")));
    }
    checks
}

fn patterns(text: &str) -> Result<Vec<Pattern>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| Pattern::new(word).map_err(|error| error.to_string())).collect()
}

/// The preview of the plans, for the stream of the page.
pub fn fragments(shared: &Shared, app: &App) -> Vec<(String, String)> {
    if shared.measured.of(&app.facts.name).is_none() {
        return Vec::new();
    }
    let presets = [Preset::Quick, Preset::Careful, Preset::Day];
    let plans: Vec<Named> =
        presets.map(|preset| (preset.as_str().to_owned(), preset.plan(Protocol::Http), true)).into();
    let (frame, form) = (Frame::bare(shared, ""), StartForm::default());
    let page = of(shared, &frame, app, &form, &[], &plans);
    vec![("preview".to_owned(), page.as_preview().render().unwrap_or_default())]
}

/// Starts it.
///
/// # Errors
/// As [`open`].
pub async fn begin(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Form(form): Form<StartForm>,
) -> Result<Response, Response> {
    let (who, _, app) = open(&shared, &headers, &name, &format!("/app/{name}/start")).await?;
    Ok(match try_begin(&shared, &who, &app, &form).await {
        Ok(Begun::Refused(refusals)) => {
            respond(&shared, &headers, &who, &app, &form, refusals, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Ok(Begun::Ended(outcome)) => finish(&shared, &headers, &who, &app.facts.name, "start", outcome),
        Err(error) => finish(&shared, &headers, &who, &app.facts.name, "start", error.into()),
    })
}

enum Begun {
    Refused(Vec<Refusal>),
    Ended(Outcome),
}

async fn try_begin(shared: &Arc<Shared>, who: &Who, app: &App, form: &StartForm) -> Result<Begun, DocumentsError> {
    let not = |why: String| Begun::Ended(Outcome::Not(format!("Nothing was written: {why}")));
    let (backend, documents) = (&app.facts.name, &who.person.documents);
    let Some(mode) = mode(&form.mode) else { return Ok(not("choose a mode.".to_owned())) };
    let text = if form.other.trim().is_empty() { &form.to } else { &form.other };
    let to = match patterns(text) {
        Ok(to) if !to.is_empty() => to,
        Ok(_) => return Ok(not("choose the side to move to.".to_owned())),
        Err(why) => return Ok(not(format!("{why}."))),
    };
    let plans = plans(who).await;
    let Some((_, plan, fits)) = plans.into_iter().find(|(name, ..)| *name == form.plan) else {
        return Ok(not("choose a plan.".to_owned()));
    };
    let (seen, controller) = tokio::try_join!(documents.rollout(backend), documents.controller())?;
    match seen.standing() {
        Standing::None | Standing::Ended(_) => {}
        Standing::Active(_) | Standing::Pending(_) => {
            return Ok(Begun::Ended(Outcome::Changed("Another rollout was started meanwhile.".to_owned())));
        }
        Standing::Unreadable(key, bad) => return Ok(not(format!("the {key} of the rollout cannot be read: {bad}."))),
    }
    let known = documents.context(backend).await?;
    let index = known.stored.as_ref().map_or(0, |stored| stored.index);
    if index != form.seen {
        return Ok(Begun::Ended(Outcome::Changed("Somebody changed the weights while you were here.".to_owned())));
    }
    if let Some(frozen) = known.frozen(backend).filter(|_| !form.convert.is_empty()) {
        return Ok(Begun::Ended(Outcome::Not(super::act::frozen_text(&frozen))));
    }
    let sample = shared.measured.of(backend).and_then(|gathered| gathered.sample.clone());
    let gathered = match shared.measured.fresh(backend) {
        Some(gathered) => gathered,
        None => Arc::new(documents.gather(backend, index, false, Some(who.seen.name.clone())).await),
    };
    let published = documents.published(backend).await?;
    let is_from = |server: &str| !to.iter().any(|pattern| pattern.matches(server));
    let facts = Known {
        document: published.as_ref(),
        nodes: &gathered.nodes,
        silent: &gathered.silent,
        controller: controller.get(),
        baseline: sample.as_ref().map(|sample| sample.baseline(is_from)),
    };
    let wish = Wish {
        to: to.clone(),
        from: None,
        mode,
        plan: if mode == Mode::Auto { plan } else { Plan { steps: Vec::new(), ..plan } },
        fit: fits,
        convert: !form.convert.is_empty(),
        slo_from_baseline: !form.slo.is_empty(),
    };
    let proposal = match start::propose(&wish, &facts) {
        Ok(proposal) => proposal,
        Err(refusals) => return Ok(Begun::Refused(refusals)),
    };
    let index = match convert(who, backend, &known, &proposal).await? {
        Ok(converted) => converted.unwrap_or(index),
        Err(outcome) => return Ok(Begun::Ended(outcome)),
    };
    let spec = proposal.spec(new_id(), who.seen.name.clone(), world::now(), reason(&form.reason));
    Ok(Begun::Ended(match documents.start_rollout(backend, &spec, &seen, index).await? {
        Started::Yes(_) => {
            let cautions: Vec<_> =
                proposal.cautions.iter().map(|caution| format!(" {}", sentence_of(&caution.to_string()))).collect();
            let cautions = cautions.concat();
            let leads = if controller.index == 0 { " No controller leads: it begins when one does." } else { "" };
            Outcome::Done(format!("Started: mode {}.{leads}{cautions}", mode.as_str()), 0)
        }
        Started::Conflict => {
            Outcome::Changed("Somebody changed the weights, or started a rollout, while you were here.".to_owned())
        }
        Started::Superseded => {
            Outcome::Not("It was started, and somebody else started another one just after you.".to_owned())
        }
        Started::Invalid(bad) => Outcome::Not(format!("Nothing was written: no controller could read it: {bad}.")),
    }))
}

/// Makes the document a split of the sides, where that is asked for: the index of the new document; none if it is one.
async fn convert(
    who: &Who,
    backend: &BackendName,
    known: &crate::documents::Context,
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
        Written::Frozen(frozen) => Err(Outcome::Not(super::act::frozen_text(&frozen))),
        Written::Conflict | Written::Superseded => {
            Err(Outcome::Changed("Somebody changed the weights while you were here.".to_owned()))
        }
    })
}
