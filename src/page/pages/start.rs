//! Start a rollout: choose the side, the mode and the plan, and see what each step means at today's traffic.

mod begin;
mod measured;
mod named;
mod offered;

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
    desired::{Pattern, PatternShare, Split},
    model::BackendName,
    rollout::{
        plan::Protocol,
        start::{self, Refusal},
    },
};

use self::begin::Begun;
pub use self::{
    measured::Measured,
    offered::{Offered, offered},
};
use super::{
    super::{
        shared::{Shared, Who},
        view::{
            facts::Facts,
            plans::{PlanView, plan_view, sides_to_choose},
            row::sentence_of,
            sides::{Bar, Sides, shares, sum},
            words::{counted, number, percent, percent_of},
        },
        world::App,
    },
    act::finish,
    application::open,
    frame::{Frame, page},
};
use crate::documents::gather::Gathered;

#[derive(Template)]
#[template(path = "start.html", blocks = ["measured"])]
struct StartPage<'a> {
    frame: &'a Frame,
    name: &'a str,
    bar: Bar,
    traffic: String,
    refusals: Vec<(String, String)>,
    review: Vec<(String, String, String)>,
    sure: String,
    sides: Vec<(String, String, String, bool, bool)>,
    other: &'a str,
    mode: &'a str,
    plans: Vec<PlanView>,
    measured: String,
    checks: Vec<(&'static str, &'static str, &'static str, String)>,
    /// Whether the box is ticked; none without a box.
    convert: Option<bool>,
    slo: Option<bool>,
    reason: &'a str,
    seen: u64,
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanTemplate<'a> {
    p: &'a PlanView,
}

impl StartPage<'_> {
    /// What a plan means. Plans are in the stream one by one: the form keeps those that it was made with.
    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn preview(&self, p: &PlanView) -> String {
        PlanTemplate { p }.render().unwrap_or_default()
    }
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
    /// The split that the person has seen, as [`begin::sure`] says it.
    #[serde(default)]
    sure: String,
    #[serde(default)]
    seen: u64,
}

/// What is said above the form that was sent.
#[derive(Debug, Default)]
struct Told {
    /// Why it cannot begin, and what to do.
    problems: Vec<(String, String)>,
    /// The split that is written first: pattern, share now, share then.
    review: Vec<(String, String, String)>,
    /// The same as [`begin::sure`] says it.
    sure: String,
    /// Whether a split of the sides was missing.
    needs_split: bool,
    /// Whether the old side fails more often than the plan allows.
    is_above_slo: bool,
}

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
    Ok(respond(&shared, &headers, &who, &app, &form, Told::default(), StatusCode::OK).await)
}

/// Begins to measure the traffic, with the token of the person, unless it is known or somebody measures it.
fn measure(shared: &Arc<Shared>, who: &Who, app: &App) {
    let backend = app.facts.name.clone();
    if !shared.measured.is_wanted(&backend) {
        return;
    }
    let (shared, who, index) = (Arc::clone(shared), who.clone(), app.facts.index());
    tokio::spawn(async move { today(&shared, &who, &backend, index).await });
}

/// The traffic of today, measured with the token of the person if nobody did. That takes 10 to 15 s.
async fn today(shared: &Shared, who: &Who, backend: &BackendName, index: u64) -> Arc<Gathered> {
    let by = Some(who.seen.name.clone());
    shared.measured.today(backend, &who.person.id, who.person.documents.gather(backend, index, true, by)).await
}

async fn respond(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    who: &Who,
    app: &App,
    form: &StartForm,
    told: Told,
    status: StatusCode,
) -> Response {
    let live = format!("/app/{}/start", app.row.name);
    let frame = Frame::of(shared, headers, who, &shared.world(), format!("Start a rollout of {}", app.row.name))
        .at("applications", live);
    let plans = offered(who).await;
    let template = of(shared, &frame, app, who, form, told, &plans);
    page(shared, headers, status, &frame, &template)
}

fn of<'a>(
    shared: &Shared,
    frame: &'a Frame,
    app: &'a App,
    who: &Who,
    form: &'a StartForm,
    told: Told,
    plans: &[Offered],
) -> StartPage<'a> {
    let facts = &app.facts;
    let sides = Sides::of(facts.document.as_ref(), None);
    let names_nodes = who.seen.sees.nodes;
    let last = shared.measured.of(&facts.name, &who.person.id);
    let gathered = last.as_ref().map(|(gathered, _)| &**gathered);
    let choices = sides_to_choose(facts);
    let wanted = if form.to.is_empty() {
        choices.iter().rev().find(|side| !side.3).map(|side| side.0.clone())
    } else {
        Some(form.to.clone())
    };
    let to: Vec<Pattern> = patterns(wanted.as_deref().unwrap_or_default()).unwrap_or_default();
    let is_from = |server: &str| !to.iter().any(|pattern| pattern.matches(server));
    let sample = gathered.and_then(|gathered| gathered.sample.as_ref());
    let baseline = sample.map(|sample| sample.baseline(is_from));
    let traffic = baseline.map(weightd_core::rollout::start::Baseline::traffic);
    let protocol = gathered.map_or(Protocol::Http, |gathered| start::protocol(&gathered.nodes));
    let views = plans.iter().map(|offered| {
        let name = &offered.name;
        plan_view(name, &offered.plan(protocol), traffic, offered.fits(), *name == form.plan)
    });
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
        refusals: told.problems,
        review: told.review,
        sure: told.sure,
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
        measured: measured(gathered, last.as_ref().is_some_and(|(_, is_own)| *is_own), baseline),
        checks: checks(shared, facts, gathered, names_nodes),
        convert: (told.needs_split
            || !form.convert.is_empty()
            || facts.document.as_ref().is_some_and(|view| view.split.is_none()))
        .then_some(!form.convert.is_empty()),
        slo: (told.is_above_slo || !form.slo.is_empty()).then_some(!form.slo.is_empty()),
        reason: &form.reason,
        seen: facts.index(),
    }
}

impl Told {
    fn refused(refusals: &[Refusal], names_nodes: bool) -> Self {
        let problem = |refusal| (named::refusal(refusal, names_nodes), sentence_of(&named::remedy(refusal)));
        Self {
            problems: refusals.iter().map(problem).collect(),
            needs_split: refusals.iter().any(|refusal| matches!(refusal, Refusal::Leaves | Refusal::Differs(_))),
            is_above_slo: refusals.iter().any(|refusal| matches!(refusal, Refusal::AboveSlo { .. })),
            ..Self::default()
        }
    }
}

/// What a split changes: each of its patterns, with the share now and then. The shares of now are those of the document.
fn review(facts: &Facts, split: &Split) -> Vec<(String, String, String)> {
    let now = facts.document.as_ref().and_then(shares);
    let row = |(pattern, share): (&Pattern, &PatternShare)| {
        let now = now.as_ref().map(|now| percent(sum(now, std::slice::from_ref(pattern))));
        (pattern.to_string(), now.unwrap_or_else(|| "not known".to_owned()), percent(share.percent()))
    };
    split.shares().iter().map(row).collect()
}

/// What was measured. `is_own`: with the token of the person who reads this. A problem of another token is not for everybody.
fn measured(gathered: Option<&Gathered>, is_own: bool, baseline: Option<start::Baseline>) -> String {
    match (gathered, baseline) {
        (None, _) => "The nodes count the traffic now. The numbers come within 25 s.".to_owned(),
        (Some(Gathered { problem: Some(_), sample: None, .. }), _) if !is_own => {
            "No numbers: somebody else measured, and it failed. Load the page again to measure with your token."
                .to_owned()
        }
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
    names_nodes: bool,
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
    if facts.is_frozen() {
        let text = format!("Changes are frozen {}: it does not go on until that ends", facts.frozen_by());
        checks.push(("att", "mind", "lock", text));
    }
    if let Some(gathered) = gathered.filter(|gathered| !gathered.silent.is_empty()) {
        checks.push(("att", "mind", "warn", named::silent(&gathered.silent, names_nodes)));
    }
    checks
}

fn patterns(text: &str) -> Result<Vec<Pattern>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| Pattern::new(word).map_err(|error| error.to_string())).collect()
}

/// What the plans of the form mean, for the stream of the page.
pub fn fragments(shared: &Shared, app: &App, who: &Who, plans: &[Offered]) -> Vec<(String, String)> {
    if shared.measured.of(&app.facts.name, &who.person.id).is_none() {
        return Vec::new();
    }
    let (frame, form) = (Frame::bare(shared, ""), StartForm::default());
    let page = of(shared, &frame, app, who, &form, Told::default(), plans);
    let mut all: Vec<_> = page.plans.iter().map(|plan| (format!("plan-{}", plan.name), page.preview(plan))).collect();
    all.push(("measured".to_owned(), page.as_measured().render().unwrap_or_default()));
    all
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
    Ok(match begin::begin(&shared, &who, &app, &form).await {
        Ok(Begun::Refused(refusals)) => {
            let told = Told::refused(&refusals, who.seen.sees.nodes);
            respond(&shared, &headers, &who, &app, &form, told, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Ok(Begun::Not(why)) => {
            let told = Told { problems: vec![(why, String::new())], ..Told::default() };
            respond(&shared, &headers, &who, &app, &form, told, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Ok(Begun::Review(split)) => {
            let told = Told { review: review(&app.facts, &split), sure: begin::sure(&split), ..Told::default() };
            respond(&shared, &headers, &who, &app, &form, told, StatusCode::OK).await
        }
        Ok(Begun::Ended(outcome)) => finish(&shared, &headers, &who, &app.facts.name, "start", outcome),
        Err(error) => finish(&shared, &headers, &who, &app.facts.name, "start", error.into()),
    })
}

#[cfg(test)]
mod tests;
