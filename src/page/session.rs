//! The cookie: who a person is. Nothing of it is kept by the page, so a session works on each page with the same keys.

use axum::http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use weightd_core::model::Timestamp;

use super::ring::Ring;
use crate::consul::TokenSource;

/// How long a session lasts, in seconds.
pub const MAX_SECONDS: u64 = 12 * 3600;
/// How long an answer waits for the page that shows it, in seconds.
const ANSWER_SECONDS: u64 = 60;
/// How far the clock of the page that made a cookie may be ahead, in seconds.
const MAX_AHEAD: u64 = 60;
/// The longest cookie with its attributes, in bytes. Browsers drop one of more than 4,096.
const MAX_COOKIE: usize = 4000;
/// The most cookies of one request that are tried.
const MAX_COOKIES: usize = 20;
/// The longest name of a person where ACLs are off, in characters.
pub const MAX_NAME: usize = 60;

/// A signed-in person.
#[derive(Debug, Clone)]
pub struct Session {
    /// The token; none where ACLs are off.
    pub token: Option<SecretString>,
    /// The name that the person gave, where ACLs are off.
    pub name: Option<String>,
    /// When the person signed in.
    pub since: Timestamp,
}

/// What the cookie has, encrypted.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    at: u64,
}

/// What happened to a write, for the page that is shown next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The application; empty for the fleet.
    pub of: String,
    /// One sentence.
    pub text: String,
    /// Whether it is bad news.
    #[serde(default)]
    pub is_bad: bool,
    /// The index of the document that was written; 0 if none was.
    #[serde(default)]
    pub index: u64,
    /// When.
    pub at: u64,
}

/// The names and attributes of the cookies of one page.
#[derive(Debug, Clone)]
pub struct Cookies {
    path: String,
    is_secure: bool,
}

/// The age of a cookie, in seconds; none if it is of the future: with a clock that was wrong, it would last too long.
fn age(at: u64, now: Timestamp) -> Option<u64> {
    (at <= now.seconds().saturating_add(MAX_AHEAD)).then(|| now.seconds().saturating_sub(at))
}

/// The start of a text, at most so many bytes, with an ellipsis.
fn start_of(text: &str, bytes: usize) -> String {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    format!("{}\u{2026}", end.and_then(|end| text.get(..end)).unwrap_or_default().trim_end())
}

const SESSION: &str = "rollouts";
const ANSWER: &str = "rollouts-answer";
const KEYS_OFF: &str = "rollouts-keys";

impl Cookies {
    /// The cookies of a page at this base path.
    pub fn new(base_path: &str, is_secure: bool) -> Self {
        Self { path: format!("{base_path}/"), is_secure }
    }

    /// With a prefix the browser itself refuses a cookie that another host or an unencrypted page set.
    fn name(&self, plain: &str) -> String {
        match (self.is_secure, self.path.as_str()) {
            (false, _) => plain.to_owned(),
            (true, "/") => format!("__Host-{plain}"),
            (true, _) => format!("__Secure-{plain}"),
        }
    }

    fn header(&self, name: &str, value: &str, more: &str) -> Option<HeaderValue> {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let (name, path) = (self.name(name), &self.path);
        HeaderValue::from_str(&format!("{name}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}{more}")).ok()
    }

    /// The values of a cookie in a request.
    fn values<'h>(&self, headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
        let name = self.name(name);
        let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).take(MAX_COOKIES).collect()
    }

    /// The session of a request; none if there is none, or if it is over.
    pub fn session(&self, ring: &Ring, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let read = |sealed: &str| {
            let sealed: Sealed = serde_json::from_str(&ring.open(SESSION, sealed)?).ok()?;
            let age = age(sealed.at, now)?;
            let token = match sealed.token {
                Some(token) => match TokenSource::value(&token).ok()? {
                    TokenSource::Value(token) => Some(token),
                    _ => return None,
                },
                None => None,
            };
            (age < MAX_SECONDS).then(|| Session { token, name: sealed.name, since: Timestamp::from_seconds(sealed.at) })
        };
        self.values(headers, SESSION).into_iter().find_map(read)
    }

    /// Starts a session: it ends with the browser.
    pub fn sign_in(&self, ring: &Ring, session: &Session) -> Option<HeaderValue> {
        let token = session.token.as_ref().map(|token| token.expose_secret().to_owned());
        let sealed = Sealed { token, name: session.name.clone(), at: session.since.seconds() };
        let value = ring.seal(SESSION, serde_json::to_string(&sealed).ok()?);
        self.header(SESSION, &value, "")
    }

    /// Ends a session.
    pub fn sign_out(&self) -> Option<HeaderValue> {
        self.header(SESSION, "", "; Max-Age=0")
    }

    /// The answer that waits for its page.
    pub fn answer(&self, ring: &Ring, headers: &HeaderMap, now: Timestamp) -> Option<Answer> {
        let read = |sealed: &str| {
            let answer: Answer = serde_json::from_str(&ring.open(ANSWER, sealed)?).ok()?;
            (age(answer.at, now)? <= ANSWER_SECONDS).then_some(answer)
        };
        self.values(headers, ANSWER).into_iter().find_map(read)
    }

    /// Keeps an answer for the next page. A text that does not fit into a cookie is cut.
    pub fn keep_answer(&self, ring: &Ring, answer: &Answer) -> Option<HeaderValue> {
        let sealed = |answer: &Answer| {
            let value = ring.seal(ANSWER, serde_json::to_string(answer).ok()?);
            self.header(ANSWER, &value, &format!("; Max-Age={ANSWER_SECONDS}"))
        };
        let mut cookie = sealed(answer)?;
        let mut bytes = answer.text.len().min(MAX_COOKIE);
        while cookie.len() > MAX_COOKIE && bytes > 0 {
            // One character can become six bytes of JSON, so the length says little.
            bytes -= (bytes / 8).max(1);
            cookie = sealed(&Answer { text: start_of(&answer.text, bytes), ..answer.clone() })?;
        }
        Some(cookie)
    }

    /// The answer was shown.
    pub fn drop_answer(&self) -> Option<HeaderValue> {
        self.header(ANSWER, "", "; Max-Age=0")
    }

    /// Whether this browser has the keys switched off.
    pub fn has_keys_off(&self, headers: &HeaderMap) -> bool {
        self.values(headers, KEYS_OFF).contains(&"off")
    }

    /// Switches the keys of this browser on or off, for a year.
    pub fn set_keys(&self, on: bool) -> Option<HeaderValue> {
        let age = if on { "; Max-Age=0" } else { "; Max-Age=31536000" };
        self.header(KEYS_OFF, "off", age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(token: Option<&str>) -> Session {
        Session {
            token: token.map(SecretString::from),
            name: Some("ann".to_owned()),
            since: Timestamp::from_seconds(1000),
        }
    }

    fn sent(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&format!("other=1; {pair}")).unwrap())])
    }

    #[test]
    fn a_session_is_sealed_and_ends_after_twelve_hours() {
        let (ring, cookies) = (Ring::generate(), Cookies::new("", true));
        let set = cookies.sign_in(&ring, &session(Some("a-token"))).unwrap();
        let text = set.to_str().unwrap();
        assert!(text.starts_with("__Host-rollouts="), "{text}");
        assert!(text.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure") && !text.contains("a-token"), "{text}");
        let at = |seconds| cookies.session(&ring, &sent(&set), Timestamp::from_seconds(seconds));
        let open = at(1000 + MAX_SECONDS - 1).unwrap();
        assert_eq!((open.token.unwrap().expose_secret(), open.name.as_deref()), ("a-token", Some("ann")));
        assert!(at(1000 + MAX_SECONDS).is_none());
        assert!(at(940).is_some() && at(939).is_none(), "a cookie of the future");
        assert!(cookies.session(&Ring::generate(), &sent(&set), Timestamp::from_seconds(1000)).is_none());
    }

    #[test]
    fn the_attributes_follow_how_people_reach_the_page() {
        let ring = Ring::generate();
        let text = |cookies: &Cookies| cookies.sign_in(&ring, &session(None)).unwrap().to_str().unwrap().to_owned();
        let plain = text(&Cookies::new("", false));
        assert!(plain.starts_with("rollouts=") && !plain.contains("Secure"), "{plain}");
        let below = text(&Cookies::new("/rollouts", true));
        assert!(below.starts_with("__Secure-rollouts=") && below.contains("; Path=/rollouts/;"), "{below}");
    }

    #[test]
    fn one_bad_cookie_does_not_hide_a_good_one() {
        let (ring, cookies) = (Ring::generate(), Cookies::new("", false));
        let good = cookies.sign_in(&ring, &session(None)).unwrap();
        let good = good.to_str().unwrap().split(';').next().unwrap();
        let headers =
            HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&format!("rollouts=evil; {good}")).unwrap())]);
        assert!(cookies.session(&ring, &headers, Timestamp::from_seconds(1000)).is_some());
    }

    #[test]
    fn an_answer_is_not_a_session_and_waits_one_minute() {
        let (ring, cookies) = (Ring::generate(), Cookies::new("", false));
        let answer = Answer { of: "app".to_owned(), text: "Written.".to_owned(), is_bad: false, index: 7, at: 1000 };
        let set = cookies.keep_answer(&ring, &answer).unwrap();
        assert_eq!(cookies.answer(&ring, &sent(&set), Timestamp::from_seconds(1060)), Some(answer));
        assert_eq!(cookies.answer(&ring, &sent(&set), Timestamp::from_seconds(1061)), None);
        assert!(cookies.session(&ring, &sent(&set), Timestamp::from_seconds(1000)).is_none());
    }

    #[test]
    fn an_answer_always_fits_into_a_cookie() {
        let (ring, cookies) = (Ring::generate(), Cookies::new("/rollouts", true));
        for text in ["x".repeat(9000), "\u{20ac}".repeat(3000), "\u{1}".repeat(5000)] {
            let answer = Answer { of: "app".to_owned(), text, is_bad: true, index: 7, at: 1000 };
            let set = cookies.keep_answer(&ring, &answer).unwrap();
            assert!(set.len() <= MAX_COOKIE, "{}", set.len());
            let shown = cookies.answer(&ring, &sent(&set), Timestamp::from_seconds(1000)).unwrap();
            let kept = shown.text.strip_suffix('\u{2026}').unwrap();
            assert!(answer.text.starts_with(kept) && kept.len() > 300, "{}", kept.len());
            assert_eq!(Answer { text: answer.text.clone(), ..shown }, answer);
        }
    }
}
