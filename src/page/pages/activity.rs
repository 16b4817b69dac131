//! What happened, newest first.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use weightd_core::model::Timestamp;

use super::{
    super::{
        shared::{Shared, Who},
        view::{
            facts::Facts,
            moves::{Move, moves},
            words::{day, time},
        },
        world::{self, World},
    },
    error,
    frame::{Frame, page},
    list::visible,
};

/// Lines on one page.
const SHOWN: usize = 100;
const DAY: u64 = 86_400;

#[derive(Template)]
#[template(path = "activity.html", blocks = ["newer"])]
struct ActivityPage<'a> {
    frame: &'a Frame,
    q: &'a str,
    kind: &'a str,
    kinds: Vec<(&'static str, &'static str, bool)>,
    days: Vec<(String, Vec<Move>)>,
    earlier: Option<u64>,
    newer: usize,
}

/// What the person looks for.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    before: Option<u64>,
}

fn fits(filter: &Filter, each: &Move) -> bool {
    let q = filter.q.trim().to_lowercase();
    let found = q.is_empty() || [&each.app, &each.who, &each.token].iter().any(|text| text.to_lowercase().contains(&q));
    let kind = match filter.kind.as_str() {
        "people" => each.by_person,
        "itself" => !each.by_person,
        "back" => each.glyph == "back",
        _ => true,
    };
    found && kind && filter.before.is_none_or(|before| each.seconds.is_some_and(|at| at.seconds() < before))
}

/// Everything that a person may see.
fn all(world: &World, who: &Who, now: Timestamp) -> Vec<Move> {
    let names_nodes = who.seen.sees.nodes;
    let of = |facts: &Facts| if names_nodes { moves(facts, now) } else { moves(&facts.without_node_names(), now) };
    let mut all: Vec<_> =
        visible(world, who).flat_map(|app| of(&app.facts)).filter(|each| each.seconds.is_some()).collect();
    all.sort_by_key(|each| std::cmp::Reverse(each.seconds));
    all
}

/// What happened.
pub async fn show(State(shared): State<Arc<Shared>>, Query(filter): Query<Filter>, headers: HeaderMap) -> Response {
    let who = match shared.who(&headers).await {
        Ok(who) => who,
        Err(not_in) => return error::not_in(&shared, &headers, &not_in, "/activity"),
    };
    let world = shared.world();
    let now = world::now();
    let live = if filter.before.is_none() { "/activity" } else { "" };
    let frame = Frame::of(&shared, &headers, &who, &world, "Activity").at("activity", live);
    let mut found: Vec<_> = all(&world, &who, now).into_iter().filter(|each| fits(&filter, each)).collect();
    let more = found.len() > SHOWN;
    found.truncate(SHOWN);
    let earlier = found.last().and_then(|last| last.seconds).filter(|_| more).map(Timestamp::seconds);
    let kinds = [("", "Everything"), ("people", "By people"), ("itself", "By itself"), ("back", "Rolled back")];
    let template = ActivityPage {
        frame: &frame,
        q: filter.q.trim(),
        kind: &filter.kind,
        kinds: kinds.into_iter().map(|(id, text)| (id, text, id == filter.kind)).collect(),
        days: days(found, now),
        earlier,
        newer: 0,
    };
    page(&shared, &headers, StatusCode::OK, &frame, &template)
}

fn days(found: Vec<Move>, now: Timestamp) -> Vec<(String, Vec<Move>)> {
    let mut days: Vec<(u64, String, Vec<Move>)> = Vec::new();
    for mut each in found {
        let Some(at) = each.seconds else { continue };
        let number = at.seconds() / DAY;
        each.at = time(at);
        match days.last_mut() {
            Some((known, _, list)) if *known == number => list.push(each),
            _ => {
                let name = match (now.seconds() / DAY).checked_sub(number) {
                    Some(0) => format!("Today, {}", day(at)),
                    Some(1) => format!("Yesterday, {}", day(at)),
                    _ => day(at),
                };
                days.push((number, name, vec![each]));
            }
        }
    }
    days.into_iter().map(|(_, name, list)| (name, list)).collect()
}

/// How many lines are newer than the page: rows are not pushed under the reader's eyes.
pub fn fragments(shared: &Shared, world: &World, who: &Who, since: Timestamp) -> Vec<(String, String)> {
    let newer =
        all(world, who, world::now()).iter().take_while(|each| each.seconds.is_some_and(|at| at > since)).count();
    let frame = Frame::bare(shared, "");
    let page =
        ActivityPage { frame: &frame, q: "", kind: "", kinds: Vec::new(), days: Vec::new(), earlier: None, newer };
    vec![("newer".to_owned(), page.as_newer().render().unwrap_or_default())]
}
