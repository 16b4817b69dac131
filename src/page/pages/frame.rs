//! What is around every page: title, navigation, who is signed in, how old the data are.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::super::{
    assets,
    guard::takes_gzip,
    session::Answer,
    shared::{Shared, Who},
    view::words::{time, when},
    world::{self, Away, World},
};

/// What is around a page.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The title, the state first.
    pub title: String,
    /// The base path.
    pub base: String,
    /// The datacenter.
    pub place: String,
    /// Which entry of the navigation is this page.
    pub nav: &'static str,
    /// What the stream of this page is asked for; empty for none.
    pub live: String,
    /// The world of this page.
    pub seq: String,
    /// When that was made.
    pub time: String,
    /// The person; empty if nobody is signed in.
    pub person: String,
    /// Who leads.
    pub leader: Option<String>,
    /// Since when Consul does not answer, why, and of when the data are.
    pub away: Option<(String, String, String)>,
    /// What happened to the last write.
    pub answer: Option<Answer>,
    /// The index of the document that it wrote; 0 if it wrote none.
    pub written: u64,
    /// How many nodes have it by now.
    pub reach: String,
    /// Whether one-letter keys are off.
    pub keys_off: bool,
}

impl Frame {
    /// The frame of a page for nobody.
    pub fn bare(shared: &Shared, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            base: shared.settings.base_path.clone(),
            place: shared.place.borrow().clone(),
            ..Self::default()
        }
    }

    /// The frame of a page for a person.
    pub fn of(shared: &Shared, headers: &HeaderMap, who: &Who, world: &World, title: impl Into<String>) -> Self {
        Self {
            seq: format!("{}-{}", shared.instance, world.seq),
            time: time(world::now()),
            person: who.seen.name.clone(),
            leader: world.controller.clone(),
            away: world.away.as_ref().map(away),
            answer: shared.cookies.answer(&shared.ring, headers, world::now()),
            keys_off: shared.cookies.has_keys_off(headers),
            ..Self::bare(shared, title)
        }
    }

    /// The same at this place of the navigation, with this stream.
    #[must_use]
    pub fn at(self, nav: &'static str, live: impl Into<String>) -> Self {
        Self { nav, live: live.into(), ..self }
    }

    /// The name of the style sheet.
    pub fn style(&self) -> &'static str {
        assets::style()
    }

    /// The name of the script.
    pub fn script(&self) -> &'static str {
        assets::script()
    }

    /// The name of the icon.
    pub fn icon(&self) -> &'static str {
        assets::icon()
    }
}

/// What is wrong since when, of when the data are, and why.
pub fn away(away: &Away) -> (String, String, String) {
    let now = world::now();
    let since = when(away.since, now);
    let what = if away.is_denied() {
        format!("The token of this page may not read everything, since {since}.")
    } else {
        format!("Consul does not answer since {since}.")
    };
    let old = away
        .data_of
        .map_or_else(|| "Nothing was read yet.".to_owned(), |at| format!("What you see is of {}.", when(at, now)));
    (what, old, format!("{}.", away.why))
}

/// A page as an answer.
pub fn page(
    shared: &Shared,
    headers: &HeaderMap,
    status: StatusCode,
    frame: &Frame,
    template: &impl askama::Template,
) -> Response {
    let mut response = match template.render() {
        Ok(text) => assets::html(text, takes_gzip(headers)),
        // Templates write into memory, which cannot fail.
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "500: the page cannot be made\n").into_response(),
    };
    *response.status_mut() = status;
    if frame.answer.is_some()
        && let Some(drop) = shared.cookies.drop_answer()
    {
        response.headers_mut().append(header::SET_COOKIE, drop);
    }
    response
}
