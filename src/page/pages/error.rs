//! What is shown when something is not as asked: what happened, and what to do.

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use weightd_core::model::nearest;

use super::{
    super::shared::{NotIn, Shared, Who},
    frame::{Frame, page},
    list::visible,
    sign_in,
};

/// An error.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// What happened.
    pub title: String,
    /// What it means.
    pub text: String,
    /// What to do.
    pub more: String,
    /// A command that does it.
    pub command: String,
    /// Where to go: address and words.
    pub link: Option<(String, String)>,
    /// For those who repair it.
    pub small: String,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: &'a Frame,
    title: &'a str,
    text: &'a str,
    more: &'a str,
    command: &'a str,
    link: &'a Option<(String, String)>,
    small: &'a str,
}

/// The page of an error.
pub fn show(shared: &Shared, headers: &HeaderMap, status: StatusCode, frame: &Frame, problem: &Problem) -> Response {
    let Problem { title, text, more, command, link, small } = problem;
    page(shared, headers, status, frame, &ErrorPage { frame, title, text, more, command, link, small })
}

/// An error for nobody in particular.
pub fn plain(shared: &Shared, headers: &HeaderMap, status: StatusCode, title: &str, text: &str) -> Response {
    let frame = Frame::bare(shared, title);
    let link = Some((format!("{}/", shared.settings.base_path), "Open the page".to_owned()));
    let problem = Problem { title: title.to_owned(), text: text.to_owned(), link, ..Problem::default() };
    show(shared, headers, status, &frame, &problem)
}

/// Nobody is signed in, or the session is over. `to` is where the person wanted to go, a path below the base path.
pub fn not_in(shared: &Shared, headers: &HeaderMap, not_in: &NotIn, to: &str) -> Response {
    match not_in {
        NotIn::Nobody => sign_in::redirect(shared, to, ""),
        NotIn::Gone => {
            let mut response = sign_in::redirect(shared, to, "over");
            if let Some(end) = shared.cookies.sign_out() {
                response.headers_mut().append(header::SET_COOKIE, end);
            }
            response
        }
        NotIn::Listing(why) => {
            let frame = Frame::bare(shared, "Your token may not list applications");
            let prefix = shared.settings.root.weights_prefix();
            let problem = Problem {
                title: "Your token may not list applications".to_owned(),
                text: format!("Consul refuses to list the keys below {prefix}."),
                more: "The token needs this rule, or the same for your applications alone:".to_owned(),
                command: format!("key_prefix \"{prefix}\" {{ policy = \"list\" }}"),
                link: Some((format!("{}/sign-in", shared.settings.base_path), "Sign in with another token".to_owned())),
                small: why.clone(),
            };
            show(shared, headers, StatusCode::FORBIDDEN, &frame, &problem)
        }
        NotIn::Away(why) => {
            let mut response = away(shared, headers, why);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

/// Consul does not answer, so nobody can be let in.
pub fn away(shared: &Shared, headers: &HeaderMap, why: &str) -> Response {
    let frame = Frame::bare(shared, "Consul does not answer");
    let problem = Problem {
        title: "Consul does not answer".to_owned(),
        text: "Traffic is not touched: every HAProxy keeps the weights that it has. Rollouts stand still, and go on by \
               themselves."
            .to_owned(),
        more: "Nothing can be changed from here until Consul answers. To go back now, without Consul, on each HAProxy host:"
            .to_owned(),
        command: "weightctl override BACKEND --back --local --for 2h --reason 'Consul is gone'".to_owned(),
        link: Some((format!("{}/", shared.settings.base_path), "Try again".to_owned())),
        small: why.to_owned(),
    };
    show(shared, headers, StatusCode::SERVICE_UNAVAILABLE, &frame, &problem)
}

/// There is no such page.
pub fn missing(shared: &Shared, headers: &HeaderMap, who: &Who) -> Response {
    let frame = Frame::of(shared, headers, who, &shared.world(), "No such page");
    let problem = Problem {
        title: "There is no such page".to_owned(),
        text: "The address may be mistyped, or from an older version.".to_owned(),
        link: Some((format!("{}/", shared.settings.base_path), "All applications".to_owned())),
        ..Problem::default()
    };
    show(shared, headers, StatusCode::NOT_FOUND, &frame, &problem)
}

/// There is no such application, or the token may not see it: both read the same.
pub fn no_application(shared: &Shared, headers: &HeaderMap, who: &Who, name: &str) -> Response {
    let world = shared.world();
    let near = nearest(name, visible(&world, who).map(|app| app.row.name.as_str())).map(str::to_owned);
    let frame = Frame::of(shared, headers, who, &world, "No such application");
    let base = &shared.settings.base_path;
    let link = match &near {
        Some(near) => (format!("{base}/app/{near}"), format!("Open {near}")),
        None => (format!("{base}/"), "All applications".to_owned()),
    };
    let problem = Problem {
        title: format!("No application is called \u{201c}{name}\u{201d}"),
        text: "Either it does not exist, or your token may not read it.".to_owned(),
        link: Some(link),
        ..Problem::default()
    };
    show(shared, headers, StatusCode::NOT_FOUND, &frame, &problem)
}

/// A redirect after a form.
pub fn see_other(to: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "500: the address cannot be made\n").into_response();
    };
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}
