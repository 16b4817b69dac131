//! Set weights: choose, look at what would be written, write it.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use weightd_core::{
    desired::Weights,
    history::Way,
    model::{ServerName, Weight},
    rollout::Mode,
    shift::{Reported, Wanted},
};

use super::{
    super::{
        shared::{Shared, Who},
        view::{
            facts::Facts,
            plans::together,
            sides::{Bar, Sides, shares},
            words::{counted, number, percent},
        },
        world::App,
    },
    act::{self, Outcome, finish, intent},
    application::open,
    frame::{Frame, page},
};
use crate::{
    base::chain::Chain,
    documents::{
        Context,
        changes::{How, ShiftError, shift_edit},
        edit::{self, Edit, EditError, Write},
        gather::Gathered,
        view::View,
    },
};

/// Shares to choose from, in percent.
const SHARES: [&str; 8] = ["0", "1", "5", "10", "25", "50", "75", "100"];

#[derive(Template)]
#[template(path = "weights.html")]
struct WeightsPage<'a> {
    frame: &'a Frame,
    name: &'a str,
    to: String,
    rollout_note: String,
    shares: Vec<(&'static str, bool)>,
    other: String,
    reason: String,
    servers: Vec<(String, String)>,
    by_server: bool,
    review: Option<Review>,
    problem: String,
    nodes: String,
}

/// What would be written.
#[derive(Debug)]
struct Review {
    is_same: bool,
    now: Bar,
    then: Bar,
    rows: Vec<(String, String, String)>,
    note: String,
    button: String,
    hidden: Vec<(String, String)>,
}

/// The fields of the form. Servers have names of their own.
type Fields = Vec<(String, String)>;

fn field<'f>(fields: &'f Fields, name: &str) -> &'f str {
    fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
}

/// What the person chose.
enum Chosen {
    Nothing,
    Share(f64),
    Servers(Weights),
    Wrong(String),
}

fn chosen(fields: &Fields) -> Chosen {
    let servers: Vec<_> =
        fields.iter().filter_map(|(key, value)| Some((key.strip_prefix("w-")?, value.trim()))).collect();
    if !servers.is_empty() {
        let mut weights = Weights::new();
        for (server, weight) in servers {
            let Ok(name) = ServerName::new(server) else {
                return Chosen::Wrong(format!("\u{201c}{server}\u{201d} is not a server."));
            };
            let Ok(weight) = Weight::parse(weight) else {
                return Chosen::Wrong(format!("The weight of {server} is not a whole number from 0 to 256."));
            };
            weights.insert(name, weight);
        }
        return Chosen::Servers(weights);
    }
    let text = match field(fields, "other") {
        "" => field(fields, "share"),
        other => other,
    };
    let text = text.trim_end_matches('%').trim_end();
    if text.is_empty() {
        return Chosen::Nothing;
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(share) if plain && (0.0..=100.0).contains(&share) => Chosen::Share((share * 1000.0).round() / 1000.0),
        _ => Chosen::Wrong("The share is not a number from 0 to 100, such as 12.5.".to_owned()),
    }
}

/// The page, with a review of what was chosen.
///
/// # Errors
/// As [`open`].
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(fields): Query<Fields>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let (who, world, app) = open(&shared, &headers, &name, &format!("/app/{name}/weights")).await?;
    let frame = Frame::of(&shared, &headers, &who, &world, format!("Set weights of {name}")).at("applications", "");
    let template = match compute(&who, &app, &fields).await {
        Ok(computed) => of(&frame, &app, &fields, computed),
        Err(outcome) => return Ok(finish(&shared, &headers, &who, &app.facts.name, "weights", outcome)),
    };
    Ok(page(&shared, &headers, StatusCode::OK, &frame, &template))
}

/// What would be written, or why nothing can be; none if nothing was chosen.
type Computed = Option<Result<Planned, String>>;

/// A write that a person can look at.
struct Planned {
    known: Context,
    edit: Edit,
    /// Which servers it was computed for; empty where it names all itself.
    servers: String,
}

async fn compute(who: &Who, app: &App, fields: &Fields) -> Result<Computed, Outcome> {
    let chosen = match chosen(fields) {
        Chosen::Nothing => return Ok(None),
        Chosen::Wrong(why) => return Ok(Some(Err(why))),
        chosen => chosen,
    };
    let backend = &app.facts.name;
    let documents = &who.person.documents;
    let known = documents.context(backend).await?;
    // Each node computes the weights of a split for its own servers; those of a document must fit all of them.
    let has_weights = known.stored.as_ref().is_some_and(|stored| View::of(stored).weights.is_some());
    let gathered = if matches!(chosen, Chosen::Share(_)) && has_weights {
        let index = known.stored.as_ref().map_or(0, |stored| stored.index);
        Some(documents.gather(backend, index, false, Some(who.seen.name.clone())).await)
    } else {
        None
    };
    let reported = gathered.as_ref().map(Gathered::reported).unwrap_or_default();
    let edit = edit_of(who, &app.facts, &known, &chosen, &reported, field(fields, "reason"));
    Ok(Some(edit.map(|edit| Planned { edit, known, servers: gathered.as_ref().map(servers).unwrap_or_default() })))
}

/// Which servers the weights were computed for: a sentence.
fn servers(gathered: &Gathered) -> String {
    let (asked, has) = (gathered.silent.len() + gathered.nodes.len(), gathered.nodes.len());
    match &gathered.problem {
        None if has > 0 => {
            format!("Computed for the servers of the nodes; {has} of {} answered.", counted(asked, "node"))
        }
        None => "Computed for the servers of the document: no node said which it has.".to_owned(),
        Some(problem) => format!("Computed for the servers of the document: {}.", Chain(problem)),
    }
}

fn edit_of(
    who: &Who,
    facts: &Facts,
    known: &Context,
    chosen: &Chosen,
    reported: &Reported,
    why: &str,
) -> Result<Edit, String> {
    let (backend, stored) = (&facts.name, known.stored.as_ref());
    match chosen {
        Chosen::Servers(weights) => {
            let intent = known.intent(intent(who, Way::Set, why));
            edit::set(backend, stored, weights, &intent).map_err(|error| refused(&error))
        }
        Chosen::Share(share) => {
            let document = stored.map(View::of);
            let sides = Sides::of(document.as_ref(), facts.spec());
            let Some(side) = &sides.to else {
                return Err("The document has only one side, so there is no share to set.".to_owned());
            };
            let names: Vec<String> = document.as_ref().and_then(shares).unwrap_or_default().into_keys().collect();
            let patterns = together(side, &names);
            let parts = super::super::view::words::float(patterns.len() as u64);
            let asked: Vec<_> = patterns.into_iter().map(|pattern| (pattern, Wanted::Share(*share / parts))).collect();
            let intent = known.intent(intent(who, Way::Shift, why));
            let shifted = shift_edit(backend, stored, &asked, reported, How::default(), &intent);
            shifted.map(|shifted| shifted.edit).map_err(|error| match error {
                ShiftError::Edit(error) => refused(&error),
                ShiftError::NotClose(shift) => {
                    let nearest = shift.sides.first().map_or_else(String::new, |side| percent(side.after));
                    format!("No weights give this share; the nearest is {nearest}. Choose that, or set the servers one by one.")
                }
                error => format!("{error}."),
            })
        }
        Chosen::Nothing | Chosen::Wrong(_) => Err("Nothing was chosen.".to_owned()),
    }
}

fn refused(error: &EditError) -> String {
    match error {
        EditError::AllZero(_) => "All servers would have weight 0; requests would fail.".to_owned(),
        error => format!("{error}."),
    }
}

fn of<'a>(frame: &'a Frame, app: &'a App, fields: &Fields, computed: Computed) -> WeightsPage<'a> {
    let facts = &app.facts;
    let sides = Sides::of(facts.document.as_ref(), facts.spec());
    let share = field(fields, "share");
    let (review, problem) = match computed {
        None => (None, String::new()),
        Some(Err(why)) => (None, why),
        Some(Ok(planned)) => (Some(review(facts, &planned, fields)), String::new()),
    };
    let servers = facts.document.as_ref().and_then(|view| view.weights.as_ref());
    WeightsPage {
        frame,
        name: &app.row.name,
        to: sides.to_name().to_owned(),
        rollout_note: rollout_note(facts),
        shares: SHARES.into_iter().map(|each| (each, each == share)).collect(),
        other: field(fields, "other").to_owned(),
        reason: field(fields, "reason").to_owned(),
        servers: servers
            .map(|weights| {
                let typed = |server: &ServerName| {
                    fields.iter().find(|(key, _)| key.strip_prefix("w-") == Some(server.as_str()))
                };
                let value = |(server, weight): (&ServerName, &Weight)| {
                    (server.to_string(), typed(server).map_or_else(|| weight.to_string(), |(_, value)| value.clone()))
                };
                weights.iter().map(value).collect()
            })
            .unwrap_or_default(),
        by_server: fields.iter().any(|(key, _)| key.starts_with("w-")),
        review,
        problem,
        nodes: counted(facts.has().1, "node"),
    }
}

/// What a write means for a rollout that is under way.
fn rollout_note(facts: &Facts) -> String {
    let Some(state) = facts.state().filter(|state| !state.phase.is_final()) else { return String::new() };
    let at = percent(state.share.percent());
    match state.mode {
        Mode::Auto => {
            format!("It is at {at}. When you write, the rollout ends and leaves the weights to you; nobody resumes it.")
        }
        Mode::Guard => format!(
            "It is in mode guard, at {at}. What you write becomes its next step, and it still goes back when the new side is worse."
        ),
        Mode::Watch => format!("It is in mode watch, at {at}. What you write becomes its next step."),
    }
}

fn review(facts: &Facts, Planned { known, edit, servers }: &Planned, fields: &Fields) -> Review {
    let before = known.stored.as_ref().map(View::of);
    let now = Sides::of(before.as_ref(), facts.spec());
    let then = now.at(&edit.after);
    let value = |view: Option<&View>| -> BTreeMap<String, String> {
        let Some(view) = view else { return BTreeMap::new() };
        if let Some(split) = &view.split {
            let row = |(pattern, share): (&weightd_core::desired::Pattern, &weightd_core::desired::PatternShare)| {
                (pattern.as_str().to_owned(), percent(share.percent()))
            };
            return split.shares().iter().map(row).collect();
        }
        view.weights.iter().flatten().map(|(server, weight)| (server.to_string(), weight.to_string())).collect()
    };
    let (old, new) = (value(before.as_ref()), value(Some(&edit.after)));
    let rows = new
        .iter()
        .map(|(name, then)| (name.clone(), old.get(name).cloned().unwrap_or_else(|| "–".to_owned()), then.clone()));
    let mut hidden: Vec<(String, String)> =
        fields.iter().filter(|(key, _)| !matches!(key.as_str(), "seen" | "rollout" | "sure")).cloned().collect();
    hidden.push(("seen".to_owned(), known.stored.as_ref().map_or(0, |stored| stored.index).to_string()));
    hidden.push(("sure".to_owned(), sure(edit)));
    if let Some(spec) = facts.spec().filter(|_| facts.is_active()) {
        hidden.push(("rollout".to_owned(), spec.id.clone()));
    }
    let (has, all) = facts.has();
    Review {
        is_same: edit.write == Write::Nothing,
        now: now.bar(None),
        then: then.bar(None),
        rows: rows.collect(),
        note: format!("It goes to {} at once; {has} have what is there now. {servers}", counted(all, "node")),
        button: match (now.to_share(), then.to_share()) {
            (Some(before), Some(after)) => {
                format!("Write: {} from {} to {}\u{a0}%", now.to_name(), number(before), number(after))
            }
            _ => "Write these weights".to_owned(),
        },
        hidden,
    }
}

/// Says in the form which weights the person has seen: all of them, where a summary has the first ones.
fn sure(edit: &Edit) -> String {
    let weights = edit.after.weights.iter().flatten().map(|(server, weight)| format!("{server}={weight}"));
    weights.collect::<Vec<_>>().join(" ")
}

/// Writes what was reviewed.
///
/// # Errors
/// As [`open`].
pub async fn write(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response, Response> {
    let (who, _, app) = open(&shared, &headers, &name, &format!("/app/{name}/weights")).await?;
    let outcome = match compute(&who, &app, &fields).await {
        Ok(Some(Ok(planned))) => written(&who, &app.facts, &planned, &fields).await,
        Ok(Some(Err(why))) => Outcome::Not(format!("Nothing was written. {why}")),
        Ok(None) => Outcome::Not("Nothing was written: nothing was chosen.".to_owned()),
        Err(outcome) => outcome,
    };
    Ok(finish(&shared, &headers, &who, &app.facts.name, "weights", outcome))
}

async fn written(who: &Who, facts: &Facts, Planned { known, edit, .. }: &Planned, fields: &Fields) -> Outcome {
    let backend = &facts.name;
    let index = known.stored.as_ref().map_or(0, |stored| stored.index);
    if field(fields, "seen").parse() != Ok(index) {
        let by = known.entries().first().and_then(|entry| entry.by.clone()).unwrap_or_else(|| "Somebody".to_owned());
        return Outcome::Changed(format!("{by} changed the weights while you were here."));
    }
    // The nodes may have other servers by now.
    let seen = field(fields, "sure");
    if !seen.is_empty() && seen != sure(edit) {
        return Outcome::Changed(
            "The nodes have other servers than while you looked, so other weights fit.".to_owned(),
        );
    }
    // A person who did not see the rollout did not agree to end it.
    if facts.is_active() && facts.spec().is_none_or(|spec| spec.id != field(fields, "rollout")) {
        return Outcome::Changed("A rollout was started while you were here.".to_owned());
    }
    if edit.write == Write::Nothing {
        return Outcome::Done("Nothing to change: it has these weights already.".to_owned(), index);
    }
    let before = known.stored.as_ref().map(View::of);
    let then = Sides::of(before.as_ref(), facts.spec()).at(&edit.after);
    let did = then.to_share().map_or_else(
        || format!("Written: {}.", edit.after.summary()),
        |share| format!("Written: {} has {}.", then.to_name(), percent(share)),
    );
    act::write(who, backend, edit, known, did).await
}
