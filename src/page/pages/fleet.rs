//! The nodes, and the freeze of all applications.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};

use super::{
    super::{
        shared::{Shared, Who},
        view::{
            fleet::{FleetView, NodeRow},
            row::frozen_by,
        },
        world::World,
    },
    act::{self, ActionForm, Outcome},
    error::{self, Problem},
    frame::{Frame, page},
};

#[derive(Template)]
#[template(path = "fleet.html", blocks = ["headline", "sum", "freeze"])]
struct FleetPage<'a> {
    frame: &'a Frame,
    view: &'a FleetView,
    rows: Vec<String>,
    frozen: Option<String>,
    actions: &'a str,
    nodes_key: String,
}

#[derive(Template)]
#[template(path = "node.html")]
struct NodeTemplate<'a> {
    n: &'a NodeRow,
}

fn row(n: &NodeRow) -> String {
    NodeTemplate { n }.render().unwrap_or_default()
}

/// The nodes.
pub async fn show(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let who = match shared.who(&headers).await {
        Ok(who) => who,
        Err(not_in) => return error::not_in(&shared, &headers, &not_in, "/fleet"),
    };
    let world = shared.world();
    let mut frame = Frame::of(&shared, &headers, &who, &world, "Fleet").at("fleet", "/fleet");
    frame.answer = frame.answer.filter(|answer| answer.of.is_empty());
    if !who.seen.sees.nodes {
        let prefix = who.person.documents.keys().nodes();
        let problem = Problem {
            title: "Your token may not read the nodes".to_owned(),
            text: "The pages of your applications show how many nodes have each change.".to_owned(),
            more: "To see the nodes, the token needs this rule:".to_owned(),
            command: format!("key_prefix \"{prefix}\" {{ policy = \"read\" }}"),
            link: Some((format!("{}/", frame.base), "All applications".to_owned())),
            ..Problem::default()
        };
        return error::show(&shared, &headers, StatusCode::FORBIDDEN, &frame, &problem);
    }
    frame.title = title(&world, &who);
    let rows = world.fleet.nodes.iter().map(row).collect();
    let actions = actions(&shared, &who, &world).await;
    let template = of(&frame, &world, &who, rows, &actions);
    page(&shared, &headers, StatusCode::OK, &frame, &template)
}

fn of<'a>(frame: &'a Frame, world: &'a World, who: &Who, rows: Vec<String>, actions: &'a str) -> FleetPage<'a> {
    FleetPage {
        frame,
        view: &world.fleet,
        rows,
        frozen: world.frozen.as_ref().map(frozen_by),
        actions,
        nodes_key: who.person.documents.keys().nodes(),
    }
}

/// Freezes or unfreezes all applications.
pub async fn freeze(
    State(shared): State<Arc<Shared>>,
    Path(verb): Path<String>,
    headers: HeaderMap,
    Form(form): Form<ActionForm>,
) -> Response {
    let who = match shared.who(&headers).await {
        Ok(who) => who,
        Err(not_in) => return error::not_in(&shared, &headers, &not_in, "/fleet"),
    };
    let on = match verb.as_str() {
        "freeze" => true,
        "unfreeze" => false,
        _ => return error::missing(&shared, &headers, &who),
    };
    let outcome = act::freeze(&who, None, &form, on).await;
    shared.metrics.wrote(matches!(outcome, Outcome::Done(..)));
    match outcome {
        Outcome::Done(text, _) => act::answer(&shared, "", "/fleet", text, 0, false),
        Outcome::Not(text) => act::answer(&shared, "", "/fleet", text, 0, true),
        Outcome::Changed(text) => act::answer(&shared, "", "/fleet", format!("Nothing was written. {text}"), 0, true),
        Outcome::Failed(failed) => act::failed(&shared, &headers, &who, "", *failed),
    }
}

#[derive(Template)]
#[template(path = "freeze.html")]
struct FreezeTemplate<'a> {
    base: &'a str,
    freeze: u64,
    frozen: bool,
    applications: usize,
}

/// The button of the freeze; empty without the right.
async fn actions(shared: &Shared, who: &Who, world: &World) -> String {
    if world.away.is_some() || !who.person.rights(None).await.is_some_and(|rights| rights.freeze) {
        return String::new();
    }
    let template = FreezeTemplate {
        base: &shared.settings.base_path,
        freeze: world.freeze,
        frozen: world.frozen.is_some(),
        applications: world.apps.len(),
    };
    template.render().unwrap_or_default()
}

/// The title of the page: how many nodes are in sync, for those who may read it.
pub fn title(world: &World, who: &Who) -> String {
    if who.seen.sees.nodes { world.fleet.headline.clone() } else { "Fleet".to_owned() }
}

/// The parts of the page that change.
pub fn fragments(shared: &Shared, world: &World, who: &Who) -> Vec<(String, String)> {
    if !who.seen.sees.nodes {
        return Vec::new();
    }
    let frame = Frame::bare(shared, "");
    let page = of(&frame, world, who, Vec::new(), "");
    let mut all = vec![
        ("headline".to_owned(), page.as_headline().render().unwrap_or_default()),
        ("sum".to_owned(), page.as_sum().render().unwrap_or_default()),
        ("freeze".to_owned(), page.as_freeze().render().unwrap_or_default()),
    ];
    all.extend(world.fleet.nodes.iter().map(|node| (format!("node-{}", node.name), row(node))));
    all
}
