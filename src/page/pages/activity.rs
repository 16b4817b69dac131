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
            moves::{Move, moves_since},
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
    earlier: Option<Place>,
    newer: usize,
}

/// What the stream of this page is asked for.
#[derive(Template)]
#[template(
    source = "/activity?q={{ q|urlencode }}&kind={{ kind|urlencode }}&newest={{ newest.at }}&had={{ newest.lines }}",
    ext = "txt"
)]
struct Live<'a> {
    q: &'a str,
    kind: &'a str,
    newest: Place,
}

/// What the person looks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Filter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    kind: String,
    /// Only what happened in this second or before, without its first `skip` lines.
    #[serde(default)]
    before: Option<u64>,
    #[serde(default)]
    skip: usize,
    /// The newest second of the open page, and how many lines of it the page has.
    #[serde(default)]
    newest: u64,
    #[serde(default)]
    had: usize,
}

/// A place in the list of all lines: a second, and how many lines of it are before the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u64,
    lines: usize,
}

/// One page of lines.
#[derive(Debug, Default)]
struct Part {
    lines: Vec<Move>,
    /// Where the lines after them begin; none if there are none.
    earlier: Option<Place>,
}

/// The lines of one page of all that `fits`, which are newest first. Many lines can be of one second.
fn part(filter: &Filter, all: impl Iterator<Item = Move>) -> Part {
    let (mut at, mut of_second) = (None, 0);
    let mut part = Part::default();
    for each in all.filter(|each| fits(filter, each)) {
        let Some(second) = each.seconds.map(Timestamp::seconds) else { continue };
        if at != Some(second) {
            (at, of_second) = (Some(second), 0);
        }
        let is_wanted = match filter.before {
            Some(before) if second == before => of_second >= filter.skip,
            Some(before) => second < before,
            None => true,
        };
        if is_wanted && part.lines.len() == SHOWN {
            part.earlier = Some(Place { at: second, lines: of_second });
            break;
        }
        if is_wanted {
            part.lines.push(each);
        }
        of_second += 1;
    }
    part
}

/// The newest second of all that `fits`, which are newest first, and how many lines of it there are: more than a page may have.
fn newest(filter: &Filter, all: &[Move]) -> Place {
    let mut fit = all.iter().filter(|each| fits(filter, each)).peekable();
    let at = fit.peek().and_then(|first| first.seconds);
    let of_second = fit.take_while(|each| each.seconds == at).count();
    Place { at: at.map(Timestamp::seconds).unwrap_or_default(), lines: of_second }
}

/// How many of these lines are newer than the open page.
fn newer<'a>(filter: &Filter, facts: impl Iterator<Item = &'a Facts>, names_nodes: bool, now: Timestamp) -> usize {
    let since = Timestamp::from_seconds(filter.newest);
    let lines = |facts| moves_since(facts, names_nodes, since, now);
    let found = facts.map(|facts| lines(facts).iter().filter(|each| fits(filter, each)).count()).sum::<usize>();
    found.saturating_sub(filter.had)
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
    found && kind
}

/// Everything that a person may see.
fn all(world: &World, who: &Who, now: Timestamp) -> Vec<Move> {
    let of = |facts: &Facts| moves_since(facts, who.seen.sees.nodes, Timestamp::from_seconds(0), now);
    let mut all: Vec<_> = visible(world, who).flat_map(|app| of(&app.facts)).collect();
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
    let all = all(&world, &who, now);
    let live = match filter.before {
        None => {
            let newest = newest(&filter, &all);
            Live { q: filter.q.trim(), kind: &filter.kind, newest }.render().unwrap_or_default()
        }
        Some(_) => String::new(),
    };
    let Part { lines, earlier } = part(&filter, all.into_iter());
    let frame = Frame::of(&shared, &headers, &who, &world, "Activity").at("activity", live);
    let kinds = [("", "Everything"), ("people", "By people"), ("itself", "By itself"), ("back", "Rolled back")];
    let template = ActivityPage {
        frame: &frame,
        q: filter.q.trim(),
        kind: &filter.kind,
        kinds: kinds.into_iter().map(|(id, text)| (id, text, id == filter.kind)).collect(),
        days: days(lines, now),
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
pub fn fragments(shared: &Shared, world: &World, who: &Who, filter: &Filter) -> Vec<(String, String)> {
    let facts = visible(world, who).map(|app| &app.facts);
    let newer = newer(filter, facts, who.seen.sees.nodes, world::now());
    let frame = Frame::bare(shared, "");
    let page =
        ActivityPage { frame: &frame, q: "", kind: "", kinds: Vec::new(), days: Vec::new(), earlier: None, newer };
    vec![("newer".to_owned(), page.as_newer().render().unwrap_or_default())]
}

#[cfg(test)]
mod tests;
