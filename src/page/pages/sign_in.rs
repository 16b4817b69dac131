//! Sign in and out, and the switch of the keys.

use std::{convert::Infallible, sync::Arc};

use askama::Template;
use axum::{
    Form,
    extract::{ConnectInfo, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::info;
use weightd_core::model::Escaped;

use super::{
    super::{
        guard,
        kept::Failed,
        people::{Person, Refused},
        session::{MAX_NAME, Session},
        shared::Shared,
        world,
    },
    error,
    frame::{Frame, page},
};
use crate::{
    base::serve::Peer,
    consul::{TokenSource, rights::Identity},
};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: &'a Frame,
    problem: &'a str,
    to: &'a str,
    acls: bool,
}

/// Where the person wanted to go, and why the session ended.
#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    to: String,
    #[serde(default)]
    why: String,
}

/// What the person typed.
#[derive(Deserialize)]
pub struct Typed {
    #[serde(default)]
    token: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    to: String,
}

/// A path of this page, and of nothing else. `..` would lead out of the base path; browsers read `%2e` as a dot too.
fn is_own(to: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:?=&%+~".contains(&byte);
    let path = to.split('?').next().unwrap_or_default();
    let up = |segment: &str| segment.to_ascii_lowercase().replace("%2e", ".") == "..";
    to.starts_with('/') && !to.starts_with("//") && to.len() <= 512 && to.bytes().all(plain) && !path.split('/').any(up)
}

/// What the browser forgets at the end of a session. Storage is of the whole origin: below a base path, other applications
/// keep theirs there too.
fn forgotten(base_path: &str) -> HeaderValue {
    HeaderValue::from_static(if base_path.is_empty() { "\"cache\", \"storage\"" } else { "\"cache\"" })
}

/// To the page for signing in.
pub fn redirect(shared: &Shared, to: &str, why: &str) -> Response {
    let base = &shared.settings.base_path;
    let mut query = Vec::new();
    if is_own(to) && to != "/" {
        query
            .push(format!("to={}", to.replace('%', "%25").replace('&', "%26").replace('?', "%3F").replace('+', "%2B")));
    }
    if !why.is_empty() {
        query.push(format!("why={why}"));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    error::see_other(&format!("{base}/sign-in{query}"))
}

/// The page for signing in.
pub async fn show(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    let problem = match wanted.why.as_str() {
        "over" => "Consul does not take your token any more. It may have expired, or somebody deleted it.",
        _ => "",
    };
    asked_form(&shared, &headers, StatusCode::OK, problem, &wanted.to).await
}

/// Whether Consul has ACLs. Everybody may ask for the form, so Consul is not asked for each.
async fn has_acls(shared: &Shared) -> Result<bool, Failed<Infallible>> {
    let reader = Arc::clone(&shared.reader);
    let ask = || async move {
        // The reader's own token says whether there are tokens at all.
        let identity = reader.identity().await.map_err(|error| Failed::Away(error.to_string()))?;
        Ok(identity != Identity::NoAcls)
    };
    shared.acls.get(|_| false, ask).await
}

async fn asked_form(shared: &Shared, headers: &HeaderMap, status: StatusCode, problem: &str, to: &str) -> Response {
    match has_acls(shared).await {
        Ok(acls) => form(shared, headers, status, problem, to, acls),
        Err(Failed::Away(why)) => error::away(shared, headers, &why),
        Err(Failed::Over(never)) => match never {},
    }
}

fn form(shared: &Shared, headers: &HeaderMap, status: StatusCode, problem: &str, to: &str, acls: bool) -> Response {
    let frame = Frame::bare(shared, "Sign in");
    let to = if is_own(to) { to } else { "/" };
    page(shared, headers, status, &frame, &SignInPage { frame: &frame, problem, to, acls })
}

/// Too many want to sign in. Consul is not asked, also not for the form.
fn busy(shared: &Shared, headers: &HeaderMap, problem: &str, to: &str) -> Response {
    shared.metrics.sign_in_refused();
    let acls = shared.acls.last().unwrap_or(true);
    let mut response = form(shared, headers, StatusCode::TOO_MANY_REQUESTS, problem, to, acls);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Signs in: asks Consul who the token is.
pub async fn enter(
    State(shared): State<Arc<Shared>>,
    peer: ConnectInfo<Peer>,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Response {
    let from = guard::client(&shared, peer, &headers);
    if !shared.limiter.may_try(from, Instant::now()) {
        return busy(&shared, &headers, "Too many tries. Wait a few seconds, and try again.", &typed.to);
    }
    let refuse = async |status, problem: &str| {
        shared.metrics.sign_in_refused();
        asked_form(&shared, &headers, status, problem, &typed.to).await
    };
    let session = match session(&typed) {
        Ok(session) => session,
        Err(problem) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, problem).await,
    };
    let Some(turn) = shared.limiter.turn().await else {
        let problem = "Many people sign in now, and Consul is slow. Wait a few seconds, and try again.";
        return busy(&shared, &headers, problem, &typed.to);
    };
    let person = match shared.people.of(&session) {
        Ok(person) => person,
        Err(error) => return error::away(&shared, &headers, &error.to_string()),
    };
    match ask(&shared, person, turn).await {
        Ok(()) => {}
        Err(Refused::Away(why)) => return error::away(&shared, &headers, &why),
        Err(_) => {
            let problem = "Consul does not know this token. It may have expired, or belong to another datacenter.";
            return refuse(StatusCode::UNAUTHORIZED, problem).await;
        }
    }
    shared.metrics.signed_in();
    shared.limiter.signed_in(from, Instant::now());
    let to = if is_own(&typed.to) { typed.to.as_str() } else { "/" };
    let mut response = error::see_other(&format!("{}{to}", shared.settings.base_path));
    if let Some(cookie) = shared.cookies.sign_in(&shared.ring, &session) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Asks Consul whether this person is let in. It is a task of its own, so that the turn ends with the question, also if the
/// browser does not wait for the answer.
async fn ask(shared: &Arc<Shared>, person: Arc<Person>, turn: OwnedSemaphorePermit) -> Result<(), Refused> {
    let shared = Arc::clone(shared);
    let asked = tokio::spawn(async move {
        // A person who signs in wants to know what is true now.
        person.forget();
        let seen = person.seen(None).await;
        drop(turn);
        match seen {
            Ok(seen) => info!(person = %Escaped(&seen.name), "signed in"),
            // The next page says what is missing.
            Err(Refused::Listing(_)) => {}
            Err(refused) => {
                shared.people.remove(&person);
                return Err(refused);
            }
        }
        Ok(())
    });
    asked.await.unwrap_or_else(|error| Err(Refused::Away(error.to_string())))
}

fn session(typed: &Typed) -> Result<Session, &'static str> {
    let since = world::now();
    if !typed.token.trim().is_empty() {
        return match TokenSource::value(&typed.token) {
            Ok(TokenSource::Value(token)) => Ok(Session { token: Some(token), name: None, since }),
            _ => Err("This is not a token: it has white space inside, or characters that no token has."),
        };
    }
    let name = typed.name.trim();
    match name.chars().count() {
        0 => Err("Type your token, or your name where that is asked."),
        1..=MAX_NAME if !name.contains(char::is_control) => {
            Ok(Session { token: None, name: Some(name.to_owned()), since })
        }
        _ => Err("The name is longer than 60 characters, or has characters that no name has."),
    }
}

/// Signs out.
pub async fn leave(State(shared): State<Arc<Shared>>) -> Response {
    let mut response = error::see_other(&format!("{}/sign-in", shared.settings.base_path));
    // An answer that waits for its page is not for the next person.
    for cookie in [shared.cookies.sign_out(), shared.cookies.drop_answer()].into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    // The browser forgets the pages of the person too.
    response.headers_mut().insert("clear-site-data", forgotten(&shared.settings.base_path));
    response
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage<'a> {
    frame: &'a Frame,
}

/// The page of the keys.
pub async fn keys(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match shared.who(&headers).await {
        Ok(who) => {
            let frame = Frame::of(&shared, &headers, &who, &shared.world(), "Keys");
            page(&shared, &headers, StatusCode::OK, &frame, &KeysPage { frame: &frame })
        }
        Err(not_in) => error::not_in(&shared, &headers, &not_in, "/keys"),
    }
}

/// Whether the keys are on.
#[derive(Debug, Deserialize)]
pub struct Switch {
    #[serde(default)]
    on: String,
}

/// Switches the keys of this browser on or off.
pub async fn set_keys(State(shared): State<Arc<Shared>>, Form(switch): Form<Switch>) -> Response {
    let mut response = error::see_other(&format!("{}/keys", shared.settings.base_path));
    if let Some(cookie) = shared.cookies.set_keys(!switch.on.is_empty()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_page_are_gone_to() {
        for own in
            ["/", "/app/checkout", "/app/a:1.b_c-d/start?to=green%2A", "/activity?q=x&kind=by", "/?q=..", "/app/a..b"]
        {
            assert!(is_own(own), "{own}");
        }
        for other in
            ["", "//evil.example", "https://evil.example", "/\\evil", "app", "/a\r\nSet-Cookie: x", "/a b", "/<b>"]
        {
            assert!(!is_own(other), "{other}");
        }
        for up in ["/..", "/../other", "/app/../../other", "/%2e%2e/other", "/.%2E/other?x", "/%2E./other"] {
            assert!(!is_own(up), "{up}");
        }
    }

    #[test]
    fn the_storage_of_other_applications_stays() {
        assert_eq!(forgotten(""), "\"cache\", \"storage\"");
        assert_eq!(forgotten("/rollouts"), "\"cache\"");
    }
}
