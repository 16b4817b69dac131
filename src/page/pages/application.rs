//! One application.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use tokio::time::timeout;
use weightd_core::model::BackendName;

use super::{
    super::{
        people::Rights,
        shared::{Shared, Who},
        view::{
            actions::{Action, May, Opens, actions, missing},
            chart::chart,
            detail::{Detail, reach},
        },
        world::{self, App, Fragment, World},
    },
    error,
    frame::{Frame, page},
};

/// How long a page waits for the world that has what its person just wrote: the world follows Consul some 100 ms behind.
const FOLLOWS: Duration = Duration::from_secs(1);

#[derive(Template)]
#[template(
    path = "application.html",
    blocks = ["now", "say", "next", "rail", "goon", "goback", "share", "nodes", "charts", "history"]
)]
struct ApplicationPage<'a> {
    frame: &'a Frame,
    d: &'a Detail,
    actions: &'a str,
    rights_note: &'a str,
    nodes_hidden: bool,
    nodes_key: &'a str,
    charts: &'a str,
}

/// The application of this name, if the person may see it.
pub fn find<'w>(world: &'w World, who: &Who, name: &str) -> Option<&'w Arc<App>> {
    let name = BackendName::new(name).ok()?;
    who.seen.sees.backends.contains(&name).then(|| world.apps.get(&name))?
}

/// Who asks for a page of an application, what is shown now, and the application. `path` is the page that the person comes back
/// to after signing in.
///
/// # Errors
/// The answer that says why not.
pub async fn open(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    name: &str,
    path: &str,
) -> Result<(Who, Arc<World>, Arc<App>), Response> {
    let who = match shared.who(headers).await {
        Ok(who) => who,
        Err(not_in) => return Err(error::not_in(shared, headers, &not_in, path)),
    };
    let world = shared.world();
    match find(&world, &who, name).cloned() {
        Some(app) => Ok((who, world, app)),
        None => Err(error::no_application(shared, headers, &who, name)),
    }
}

/// One application.
///
/// # Errors
/// As [`open`].
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let path = format!("/app/{name}");
    let (who, mut world, mut app) = open(&shared, &headers, &name, &path).await?;
    let answer = shared.cookies.answer(&shared.ring, &headers, world::now()).filter(|answer| answer.of == name);
    let written = answer.as_ref().map_or(0, |answer| answer.index);
    if app.facts.index() < written {
        world = world_with(&shared, &app.facts.name, written).await;
        app = find(&world, &who, &name).cloned().unwrap_or(app);
    }
    let detail = detail(&app, who.seen.sees.nodes);
    let mut frame = Frame::of(&shared, &headers, &who, &world, title(&app)).at("applications", path);
    frame.answer = answer;
    if written > 0 {
        frame.written = written;
        frame.reach = reach(&app.facts, who.seen.sees.nodes, written);
    }
    let (actions, rights_note) = actions_of(&shared, &who, &world, &app).await;
    let template = ApplicationPage {
        frame: &frame,
        d: &detail,
        actions: &actions,
        rights_note: &rights_note,
        nodes_hidden: !who.seen.sees.nodes,
        nodes_key: &who.person.documents.keys().nodes(),
        charts: &chart(&app.facts, world::now()),
    };
    Ok(page(&shared, &headers, StatusCode::OK, &frame, &template))
}

/// The newest world, as soon as it has the document with the index `written`, or after a while without it.
async fn world_with(shared: &Shared, name: &BackendName, written: u64) -> Arc<World> {
    let mut worlds = shared.worlds.clone();
    let has = |world: &Arc<World>| world.apps.get(name).is_some_and(|app| app.facts.index() >= written);
    let follows = async { worlds.wait_for(has).await.is_ok() };
    // Without it, the page says that it is not known yet.
    let _ = timeout(FOLLOWS, follows).await;
    shared.world()
}

#[derive(Template)]
#[template(path = "actions.html")]
struct ActionsTemplate<'a> {
    base: &'a str,
    name: &'a str,
    actions: Vec<Action>,
}

/// The buttons, and which right is missing.
pub async fn actions_of(shared: &Shared, who: &Who, world: &World, app: &App) -> (String, String) {
    let name = &app.row.name;
    let render = |actions| {
        let template = ActionsTemplate { base: &shared.settings.base_path, name, actions };
        template.render().unwrap_or_default()
    };
    let rights = match &world.away {
        None => who.person.rights(Some(&app.facts.name)).await,
        Some(_) => None,
    };
    let Some(Rights { weights, history, spec, request, approval, freeze }) = rights else {
        let note = "Nothing can be changed from here while Consul does not answer.".to_owned();
        return (render(Vec::new()), note);
    };
    let may = May { weights, history, spec, request, approval, freeze };
    let note = missing(may, shared.settings.root.as_str(), name);
    (render(actions(&app.facts, may, world::now())), note)
}

/// The title of the page, the state first.
pub fn title(app: &App) -> String {
    format!("{}: {}", app.row.title, app.row.name)
}

fn detail(app: &App, names_nodes: bool) -> Detail {
    let now = world::now();
    if names_nodes { Detail::of(&app.facts, now) } else { Detail::of(&app.facts.without_node_names(), now) }
}

/// The parts of the page that change, made once for everybody who looks at it.
pub fn fragments(shared: &Shared, app: &App, names_nodes: bool, nodes_key: &str) -> Arc<[Fragment]> {
    let made = app.fragments[usize::from(names_nodes)].get_or_init(|| {
        let (frame, detail) = (Frame::bare(shared, ""), detail(app, names_nodes));
        let charts = chart(&app.facts, world::now());
        let page = ApplicationPage {
            frame: &frame,
            d: &detail,
            actions: "",
            rights_note: "",
            nodes_hidden: !names_nodes,
            nodes_key,
            charts: &charts,
        };
        let made = [
            ("now", page.as_now().render()),
            ("say", page.as_say().render()),
            ("next", page.as_next().render()),
            ("rail", page.as_rail().render()),
            ("go-on", page.as_goon().render()),
            ("go-back", page.as_goback().render()),
            ("share", page.as_share().render()),
            ("nodes", page.as_nodes().render()),
            ("charts", page.as_charts().render()),
            ("history", page.as_history().render()),
        ];
        // Templates write into memory, which cannot fail.
        let fragment =
            |(id, html): (&str, askama::Result<String>)| Some(Fragment { id: id.to_owned(), html: html.ok()? });
        made.into_iter().filter_map(fragment).collect()
    });
    Arc::clone(made)
}

#[derive(Template)]
#[template(source = "<span id=\"reach\">{{ reach }}</span>", ext = "html")]
struct ReachTemplate {
    reach: String,
}

/// The sentence on the nodes after a write, for the stream of the page.
pub fn reach_fragment(app: &App, names_nodes: bool, written: u64) -> String {
    let reach = reach(&app.facts, names_nodes, written);
    ReachTemplate { reach }.render().unwrap_or_default()
}
