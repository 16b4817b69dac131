//! The stream of one visible tab: parts of its page, rendered by the templates of the page.

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    convert::Infallible,
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    super::{
        people::StreamGuard,
        shared::{NotIn, Shared, Who},
        view::words::time,
        world::{self, World},
    },
    activity, application, fleet,
    frame::away,
    list,
    start::{self, Offered},
};

/// A tab that hears nothing for two of these is not live.
const BEAT: Duration = Duration::from_secs(5);

/// Which page is open.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    List,
    Application(String),
    Fleet,
    Activity(activity::Filter),
    Start(String),
}

impl Page {
    /// The page at this address; none if it has no stream.
    fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        Some(match uri.path() {
            "/" => Self::List,
            "/fleet" => Self::Fleet,
            "/activity" => Self::Activity(Query::try_from_uri(&uri).ok()?.0),
            other => {
                let rest = other.strip_prefix("/app/")?;
                match rest.strip_suffix("/start") {
                    Some(name) => Self::Start(name.to_owned()),
                    None => Self::Application(rest.to_owned()),
                }
            }
        })
    }
}

/// What the tab asks for.
#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    page: String,
    #[serde(default)]
    seq: String,
    /// The index of the document that the person just wrote; 0 for none.
    #[serde(default)]
    written: u64,
}

/// What a stream has.
struct Tab {
    shared: Arc<Shared>,
    who: Who,
    headers: HeaderMap,
    page: Page,
    written: u64,
    /// The plans that the page offers.
    plans: Vec<Offered>,
    worlds: watch::Receiver<Arc<World>>,
    /// The world that the tab has.
    seq: u64,
    /// What it has, by id: a hash of the HTML.
    sent: HashMap<String, u64>,
    queue: VecDeque<Event>,
    beat: Interval,
    is_over: bool,
    _guard: StreamGuard,
    _open: Open,
}

/// Counts the open streams.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.stream(false);
    }
}

#[derive(Template)]
#[template(path = "away.html")]
struct AwayTemplate<'a> {
    away: Option<&'a (String, String, String)>,
}

#[derive(Template)]
#[template(path = "leader.html")]
struct LeaderTemplate<'a> {
    leader: Option<&'a String>,
}

/// The stream of a tab.
pub async fn events(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    let who = match shared.who(&headers).await {
        Ok(who) => who,
        // A status would tell the script nothing. It loads the page, which says why.
        Err(NotIn::Nobody | NotIn::Gone | NotIn::Listing(_)) => {
            return respond(stream::iter([Ok::<_, Infallible>(over())]));
        }
        Err(NotIn::Away(_)) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let Some(page) = Page::of(&asked.page) else { return StatusCode::NO_CONTENT.into_response() };
    let Some(guard) = who.person.stream() else {
        return (StatusCode::TOO_MANY_REQUESTS, "429: too many open tabs\n").into_response();
    };
    let plans = if matches!(page, Page::Start(_)) { start::offered(&who).await } else { Vec::new() };
    shared.metrics.stream(true);
    let open = Open(Arc::clone(&shared));
    // After a lost connection the browser names the last event that it has.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or(&asked.seq);
    let seq = last.split_once('-').filter(|(instance, _)| *instance == shared.instance);
    let seq = seq.and_then(|(_, seq)| seq.parse().ok()).unwrap_or_default();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut worlds = shared.worlds.clone();
    worlds.mark_changed();
    let tab = Tab {
        worlds,
        who,
        headers,
        page,
        written: asked.written,
        plans,
        seq,
        sent: HashMap::new(),
        queue: VecDeque::new(),
        beat,
        is_over: false,
        _guard: guard,
        _open: open,
        shared,
    };
    let events = stream::unfold(tab, |mut tab| async move {
        let event = tab.next().await?;
        Some((Ok::<_, Infallible>(event), tab))
    });
    respond(events)
}

fn respond(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(events).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The session is over.
fn over() -> Event {
    Event::default().event("over").data("sign in again")
}

impl Tab {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            tokio::select! {
                changed = self.worlds.changed() => {
                    changed.ok()?;
                    let world = Arc::clone(&self.worlds.borrow_and_update());
                    self.take(&world);
                    self.take_actions(&world).await;
                }
                _ = self.beat.tick() => self.check().await,
            }
        }
    }

    /// Tells the time, and asks now and then whether Consul still takes the token.
    async fn check(&mut self) {
        match self.shared.who(&self.headers).await {
            Ok(who) => {
                let more = who.seen != self.who.seen || matches!(self.page, Page::Start(_));
                self.who = who;
                if more {
                    let world = self.shared.world();
                    self.take(&world);
                }
            }
            Err(NotIn::Away(_)) => {}
            Err(_) => {
                self.queue.push_back(over());
                self.is_over = true;
            }
        }
        self.queue.push_back(Event::default().event("clock").data(time(world::now())));
    }

    /// Queues what is different.
    fn take(&mut self, world: &World) {
        let first = self.sent.is_empty();
        let shown = world.away.as_ref().map(away);
        let banner = AwayTemplate { away: shown.as_ref() }.render().unwrap_or_default();
        self.send("away", &banner, first && shown.is_none());
        let leader = LeaderTemplate { leader: world.controller.as_ref() }.render().unwrap_or_default();
        self.send("leader", leader.trim_end(), false);
        let shared = Arc::clone(&self.shared);
        match self.page.clone() {
            Page::List => {
                let who = self.who.clone();
                for (id, html) in list::other_fragments(&shared, world, &who) {
                    self.send(&id, &html, false);
                }
                let base = &shared.settings.base_path;
                for app in list::visible(world, &who).filter(|app| app.row_changed > self.seq) {
                    let html = list::row_html(app, base, who.seen.sees.nodes);
                    self.queue.push_back(fragment(&format!("app-{}", app.row.name), &html));
                }
                self.title(&list::title(world, &who));
            }
            Page::Application(name) => {
                let who = self.who.clone();
                if let Some(app) = application::find(world, &who, &name) {
                    let key = who.person.documents.keys().nodes();
                    for part in &*application::fragments(&shared, app, who.seen.sees.nodes, &key) {
                        self.send(&part.id, &part.html, app.changed <= self.seq);
                    }
                    if self.written > 0 {
                        let html = application::reach_fragment(app, who.seen.sees.nodes, self.written);
                        self.send("reach", &html, app.changed <= self.seq);
                    }
                    self.title(&application::title(app));
                }
            }
            Page::Fleet => {
                let same = world.fleet_changed <= self.seq;
                for (id, html) in fleet::fragments(&shared, world, &self.who.clone()) {
                    self.send(&id, &html, same);
                }
                self.title(&fleet::title(world, &self.who));
            }
            Page::Start(name) => {
                if let Some(app) = application::find(world, &self.who.clone(), &name) {
                    for (id, html) in start::fragments(&shared, app, &self.who, &self.plans) {
                        self.send(&id, &html, false);
                    }
                }
            }
            Page::Activity(filter) => {
                for (id, html) in activity::fragments(&shared, world, &self.who.clone(), &filter) {
                    self.send(&id, &html, false);
                }
            }
        }
        self.seq = world.seq;
        if !self.queue.is_empty() {
            let id = format!("{}-{}", shared.instance, world.seq);
            self.queue.push_back(Event::default().id(id).event("clock").data(time(world::now())));
        }
    }

    /// Queues the buttons of an application: what a person may do changes with its state. An open confirmation is never
    /// replaced, which the script of the page sees to.
    async fn take_actions(&mut self, world: &World) {
        let Page::Application(name) = self.page.clone() else { return };
        let (shared, who) = (Arc::clone(&self.shared), self.who.clone());
        if let Some(app) = application::find(world, &who, &name) {
            let (html, _) = application::actions_of(&shared, &who, world, app).await;
            self.send("actions", html.trim(), false);
        }
    }

    /// Queues a fragment, unless the tab has it. `known`: it has it already, from its page.
    fn send(&mut self, id: &str, html: &str, known: bool) {
        let hash = hash(html);
        let before = self.sent.insert(id.to_owned(), hash);
        if before != Some(hash) && !(known && before.is_none()) {
            self.queue.push_back(fragment(id, html));
        }
    }

    fn title(&mut self, title: &str) {
        let hash = hash(title);
        if self.sent.insert("title".to_owned(), hash) != Some(hash) {
            self.queue.push_back(Event::default().event("title").data(one_line(title)));
        }
    }
}

fn fragment(id: &str, html: &str) -> Event {
    // A carriage return would end a line of the stream.
    Event::default().event("fragment").data(format!("{id}\n{}", html.replace('\r', "")))
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
