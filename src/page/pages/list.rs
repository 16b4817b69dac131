//! All applications: those that need a person and those under way in full, some steady ones, the rest by name.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use weightd_core::model::nearest;

use super::{
    super::{
        shared::{Shared, Who},
        view::{
            row::{Group, Row},
            words::{count, counted},
        },
        world::{App, World},
    },
    error,
    frame::{Frame, page},
};

/// Steady applications that are shown without being asked for.
const STEADY: usize = 100;
/// Rows that the browser lays out together; the style of `.part` knows how high they are.
const PART: usize = 10;

/// No controller leads for so long before that is a fault, in seconds.
const UNLED_SECONDS: u64 = 20;
/// A rollout that was started since has just begun, in seconds.
const YOUNG_SECONDS: u64 = 60;

/// One row.
#[derive(Template)]
#[template(path = "row.html")]
struct RowTemplate<'a> {
    row: &'a Row,
    base: &'a str,
}

/// A group of rows.
#[derive(Debug)]
pub struct GroupView {
    id: &'static str,
    title: &'static str,
    count: usize,
    rows: Vec<Arc<str>>,
    more: usize,
}

impl GroupView {
    /// The rows in parts: the browser lays out those near the screen.
    fn parts(&self) -> std::slice::Chunks<'_, Arc<str>> {
        self.rows.chunks(PART)
    }
}

#[derive(Template)]
#[template(path = "applications.html", blocks = ["fleetnote", "headline", "sum"])]
struct ListPage<'a> {
    frame: &'a Frame,
    headline: String,
    sum: String,
    note: String,
    unled: String,
    total: usize,
    q: &'a str,
    state: &'a str,
    states: Vec<(&'static str, &'static str, bool)>,
    groups: Vec<GroupView>,
    empty: (String, String, String),
    near: Option<String>,
}

/// What the person looks for.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    all: String,
}

/// The applications that a person may see.
pub fn visible<'w>(world: &'w World, who: &'w Who) -> impl Iterator<Item = &'w Arc<App>> {
    world.apps.iter().filter(|(name, _)| who.seen.sees.backends.contains(*name)).map(|(_, app)| app)
}

/// The row of an application as HTML.
pub fn row_html(app: &App, base: &str, names_nodes: bool) -> Arc<str> {
    let made = app.row_html[usize::from(names_nodes)].get_or_init(|| {
        let blind;
        let row = if names_nodes {
            &app.row
        } else {
            // The row of the facts without the names; times are as old as the row itself.
            blind = Row {
                nodes_note: String::new(),
                ..Row::of(&app.facts.without_node_names(), super::super::world::now())
            };
            &blind
        };
        RowTemplate { row, base }.render().unwrap_or_default().into()
    });
    Arc::clone(made)
}

/// The fragments of the list that are not rows: the note on the fleet, and the sum.
pub fn other_fragments(shared: &Shared, world: &World, who: &Who) -> Vec<(String, String)> {
    let frame = Frame::bare(shared, "");
    let filter = Filter::default();
    let page = of(&frame, world, who, &filter, false);
    let render = |rendered: askama::Result<String>| rendered.unwrap_or_default();
    vec![
        ("fleet-note".to_owned(), render(page.as_fleetnote().render())),
        ("headline".to_owned(), render(page.as_headline().render())),
        ("sum".to_owned(), render(page.as_sum().render())),
    ]
}

/// How many need a person: the title of the page.
pub fn title(world: &World, who: &Who) -> String {
    match World::counts(visible(world, who)).0 {
        0 => "Applications".to_owned(),
        person => format!("({person}) Applications"),
    }
}

/// All applications.
pub async fn show(State(shared): State<Arc<Shared>>, Query(filter): Query<Filter>, headers: HeaderMap) -> Response {
    let who = match shared.who(&headers).await {
        Ok(who) => who,
        Err(not_in) => return error::not_in(&shared, &headers, &not_in, "/"),
    };
    let world = shared.world();
    let frame = Frame::of(&shared, &headers, &who, &world, title(&world, &who)).at("applications", "/");
    let template = of(&frame, &world, &who, &filter, true);
    page(&shared, &headers, StatusCode::OK, &frame, &template)
}

fn of<'a>(frame: &'a Frame, world: &World, who: &Who, filter: &'a Filter, with_rows: bool) -> ListPage<'a> {
    let all: Vec<_> = visible(world, who).collect();
    let (person, moves, steady) = World::counts(all.iter().copied());
    let total = all.len();
    let q = filter.q.trim();
    let groups = if with_rows { groups(&all, filter, q, &frame.base, who.seen.sees.nodes) } else { Vec::new() };
    let parts = [
        (person, if person == 1 { "needs a person" } else { "need a person" }),
        (moves, "under way"),
        (steady, "steady"),
    ];
    let sum = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number as u64)));
    let states = [("", "All states"), ("person", "Needs a person"), ("moves", "Under way"), ("steady", "Steady")];
    let near = if groups.is_empty() && !q.is_empty() {
        nearest(q, all.iter().map(|app| app.row.name.as_str())).map(str::to_owned)
    } else {
        None
    };
    ListPage {
        frame,
        headline: match total {
            0 => "No application".to_owned(),
            _ => counted(total, "application"),
        },
        sum: sum.collect::<Vec<_>>().join(", "),
        note: note(world, who),
        unled: unled(world, &all),
        total,
        q,
        state: &filter.state,
        states: states.into_iter().skip(1).map(|(id, text)| (id, text, id == filter.state)).collect(),
        groups,
        empty: empty(world, who, total, q),
        near,
    }
}

fn groups(all: &[&Arc<App>], filter: &Filter, q: &str, base: &str, names_nodes: bool) -> Vec<GroupView> {
    let lower = q.to_lowercase();
    let found = |app: &App| q.is_empty() || app.row.name.to_lowercase().contains(&lower);
    let kinds = [(Group::Person, "Needs a person"), (Group::UnderWay, "Under way"), (Group::Steady, "Steady")];
    let wanted = kinds.into_iter().filter(|(group, _)| filter.state.is_empty() || filter.state == group.id());
    let group = |(group, title): (Group, _)| {
        let apps: Vec<_> = all.iter().filter(|app| app.row.group == group && found(app)).collect();
        let most = if group == Group::Steady && q.is_empty() && filter.all.is_empty() { STEADY } else { usize::MAX };
        let rows: Vec<_> = apps.iter().take(most).map(|app| row_html(app, base, names_nodes)).collect();
        GroupView { id: group.id(), title, count: apps.len(), more: apps.len() - rows.len(), rows }
    };
    wanted.map(group).filter(|group| group.count > 0).collect()
}

/// A fault of the fleet, said once.
fn note(world: &World, who: &Who) -> String {
    if !who.seen.sees.nodes {
        return String::new();
    }
    match world.fleet.missing.as_slice() {
        [] => String::new(),
        [one] => format!("{one} is missing: it says nothing. Rollouts hold until it is back, or is no longer counted."),
        more => {
            let names = super::super::view::row::names(more.iter().map(String::as_str));
            format!(
                "{} nodes are missing: {names}. Rollouts hold until they are back, or are no longer counted.",
                more.len()
            )
        }
    }
}

/// That no controller leads while rollouts are under way, said once. A controller that restarts is back before that is said, and a
/// rollout that has just been started waits for its first one.
fn unled(world: &World, apps: &[&Arc<App>]) -> String {
    let Some(since) = world.unled_since else { return String::new() };
    if world.at.seconds_since(since) < UNLED_SECONDS {
        return String::new();
    }
    let waits = |app: &&&Arc<App>| {
        app.facts.is_active() && app.facts.spec().is_some_and(|spec| world.at.seconds_since(spec.at) > YOUNG_SECONDS)
    };
    let what = match apps.iter().filter(waits).count() {
        0 => return String::new(),
        1 => "the rollout that is under way, and nothing takes it back by itself".to_owned(),
        more => {
            format!("the {} rollouts that are under way, and nothing takes them back by itself", count(more as u64))
        }
    };
    format!("No controller leads: nobody watches {what}. Is rolloutd running?")
}

/// Why there is nothing, what to do, and a command.
fn empty(world: &World, who: &Who, total: usize, q: &str) -> (String, String, String) {
    if total > 0 {
        let what = if q.is_empty() {
            "No application is in this state".to_owned()
        } else {
            format!("No application is called \u{201c}{q}\u{201d}")
        };
        return (what, String::new(), String::new());
    }
    if !world.is_complete && world.apps.is_empty() {
        return (
            "Nothing was read from Consul yet".to_owned(),
            "This takes a second. Reload the page.".to_owned(),
            String::new(),
        );
    }
    if world.apps.is_empty() {
        return (
            "No application yet".to_owned(),
            "An application is a backend of HAProxy with weights in Consul. This creates the first one; it appears here within a second:".to_owned(),
            "weightctl set app1 blue=100 green=0 --create".to_owned(),
        );
    }
    (
        "Your token may not read any application".to_owned(),
        format!(
            "You are signed in as {}, and Consul hides what your token may not read. It needs this rule, or the same for your applications alone:",
            who.seen.name
        ),
        format!("key_prefix \"{}\" {{ policy = \"read\" }}", who.person.documents.prefix()),
    )
}

#[cfg(test)]
mod tests;
