pub(in crate::rolloutd) mod server;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use weightd_core::{
    judge::{Cell, Counts},
    rollout::source::NoData,
};

use self::server::{Answer, Server, until};
use super::*;

fn config(url: &str, lines: &str) -> Config {
    let text = format!(
        "[sources.vm]\nurl = \"{url}\"\ntimeout = \"1s\"\nscrape_interval = \"1s\"\n{lines}\n[checks.slow]\nsource = \"vm\"\nwindow = \"10s\"\n\
         total = 'sum(increase(total{{c=\"$label\"}}[$window]))'\nbad = 'sum(increase(bad{{c=\"$label\"}}[$window]))'\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rolloutd.toml");
    std::fs::write(&file, &text).unwrap();
    Config::load(Some(&file), &|_| None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn client(url: &str, lines: &str) -> client::Client {
    client::Client::new(&config(url, lines).sources["vm"])
}

/// The value of a key in the form of a request.
fn field(request: &str, key: &str) -> String {
    let form = request.split("\r\n\r\n").nth(1).unwrap_or_default();
    let url = reqwest::Url::parse(&format!("http://form/?{form}")).unwrap();
    url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// An answer with one number, of the time that was asked for.
fn one(request: &str, value: &str) -> Answer {
    let time = field(request, "time");
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[{time},"{value}"]}}]}}}}"#
    );
    Answer::Body(200, body.into_bytes())
}

/// Answers as a healthy source: 1000 requests of each side, 3 bad ones of `to` and 1 of `from`.
fn healthy(request: &str) -> Answer {
    let query = field(request, "query");
    if query.starts_with("max(timestamp(") {
        return one(request, &field(request, "time"));
    }
    let bad = if query.contains("green") { "3" } else { "1" };
    one(request, if query.contains("total") { "1000" } else { bad })
}

fn wanted(name: &str, since: u64) -> Wanted {
    let labels = [("from", "blue"), ("to", "green")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Wanted {
        name: name.to_owned(),
        uses: "slow".to_owned(),
        labels: labels.into(),
        since: Timestamp::from_seconds(since),
    }
}

fn rollouts(wanted: Vec<Wanted>) -> Rollouts {
    [(BackendName::new("web").unwrap(), wanted)].into()
}

/// The newest answer of the check.
fn answer(sources: &Sources, name: &str) -> Option<Result<SourceCell, String>> {
    sources.latest().get("web")?.get(name).cloned()
}

async fn reason(rule: impl Fn(&str) -> Answer + Send + Sync + 'static) -> NoData {
    let server = Server::start(rule).await;
    client(&server.url(), "").number("up", 100).await.unwrap_err()
}

#[tokio::test]
async fn a_query_is_a_form_with_an_explicit_time_and_without_the_latency_of_victoriametrics() {
    let server = Server::start(|request| one(request, "7")).await;
    let client = client(&format!("{}/select/0/prometheus", server.url()), "auth = \"user:pass word\"");
    assert_eq!(client.number("sum(a{b=\"c+d&e\"})", 1_795_722_436).await, Ok(7.0));
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /select/0/prometheus/api/v1/query HTTP/1.1\r\n"), "{request}");
    let lower = request.to_ascii_lowercase();
    assert!(lower.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
    assert!(lower.contains("authorization: basic dxnlcjpwyxnzihdvcmq=\r\n"), "{request}");
    let fields = ["query", "time", "latency_offset", "timeout"].map(|key| field(request, key));
    assert_eq!(fields, ["sum(a{b=\"c+d&e\"})", "1795722436", "1s", "1000ms"]);
}

#[tokio::test]
async fn a_token_is_read_again_for_each_query() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let server = Server::start(|request| one(request, "7")).await;
    let client = client(&server.url(), &format!("token_file = \"{}\"", token.display()));
    assert_eq!(client.number("up", 1).await.unwrap_err().word(), "setup");
    for value in ["one", "two"] {
        std::fs::write(&token, value).unwrap();
        client.number("up", 1).await.unwrap();
    }
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.contains("Bearer two") || request.contains("bearer two"))
        .collect();
    assert_eq!(sent, [false, true]);
}

#[tokio::test]
async fn what_is_not_an_answer_is_no_data_with_its_reason() {
    assert_eq!(reason(|_| Answer::Body(200, vec![b' '; 10 * 1024 * 1024])).await, NoData::TooLarge);
    assert_eq!(reason(|_| Answer::Silent).await, NoData::Slow);
    assert_eq!(reason(|_| Answer::Drip(Duration::from_millis(50))).await, NoData::Slow, "endless but never idle");
    assert_eq!(reason(|_| Answer::Closed).await.word(), "unreachable");
    assert_eq!(reason(|_| Answer::Body(200, b"\x16\x03\x01".to_vec())).await.word(), "text");
    assert_eq!(reason(|_| Answer::Body(503, b"upstream".to_vec())).await.word(), "text");
    let refused = client("http://127.0.0.1:1", "").number("up", 1).await.unwrap_err();
    assert_eq!(refused.word(), "unreachable");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(|request| one(request, "7")).await;
    let location = format!("Location: {}/api/v1/query", other.url());
    let redirect = reason(move |_| Answer::Header(307, location.clone())).await;
    assert_eq!(redirect, NoData::Redirect(307));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_lost_query_is_repeated_once() {
    let asked = AtomicU64::new(0);
    let server =
        Server::start(
            move |request| {
                if asked.fetch_add(1, Ordering::Relaxed) == 0 { Answer::Closed } else { one(request, "7") }
            },
        )
        .await;
    assert_eq!(client(&server.url(), "").number("up", 1).await, Ok(7.0));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn at_most_four_queries_are_under_way() {
    let server = Server::start(|_| Answer::Silent).await;
    let client = Arc::new(client(&server.url(), ""));
    let mut queries = tokio::task::JoinSet::new();
    let start = Instant::now();
    for _ in 0..5 {
        let client = Arc::clone(&client);
        queries.spawn(async move { client.number("up", 1).await });
    }
    while let Some(done) = queries.join_next().await {
        assert_eq!(done.unwrap(), Err(NoData::Slow));
    }
    assert_eq!(server.requests().len(), 5);
    assert!(start.elapsed() >= Duration::from_secs(2), "two rounds of one deadline each");
}

#[tokio::test]
async fn a_check_gives_the_counts_of_both_sides_in_its_last_window() {
    let server = Server::start(healthy).await;
    let tasks = Tasks::default();
    let sources = Sources::start(&config(&server.url(), ""), &tasks);
    sources.set(rollouts(vec![wanted("latency", 0)]));
    until(|| matches!(answer(&sources, "latency"), Some(Ok(_)))).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let cell = answer(&sources, "latency").unwrap().unwrap();
    assert_eq!(cell.cell, Cell { to: Counts { n: 1000, e: 3 }, from: Counts { n: 1000, e: 1 } });
    let end = cell.block * 10 + 10;
    assert!((end + 6..end + 30).contains(&now), "the window ended at {end}, and it is {now}");

    let requests = server.requests();
    assert!(requests.iter().all(|request| field(request, "time") == end.to_string()));
    let queries: Vec<_> = requests.iter().map(|request| field(request, "query")).collect();
    assert_eq!(
        queries[..3],
        [
            r#"max(timestamp(total{c="green"}))"#,
            r#"sum(increase(total{c="green"}[10s]))"#,
            r#"sum(increase(bad{c="green"}[10s]))"#,
        ]
    );
    assert_eq!(queries[3..], queries[..3].iter().map(|query| query.replace("green", "blue")).collect::<Vec<_>>());
    assert_eq!(sources.results(), [(("vm".to_owned(), "ok"), 1)].into());
    tasks.stop().await;
}

#[tokio::test]
async fn a_window_is_asked_for_once_and_none_that_began_before_the_check_was_wanted() {
    let server = Server::start(healthy).await;
    let tasks = Tasks::default();
    let sources = Sources::start(&config(&server.url(), ""), &tasks);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    sources.set(rollouts(vec![wanted("latency", 0), wanted("later", now)]));
    until(|| matches!(answer(&sources, "latency"), Some(Ok(_)))).await;
    assert_eq!(answer(&sources, "later"), Some(Err("no window is complete yet".to_owned())));
    // The same wish again asks nothing again.
    sources.set(rollouts(vec![wanted("later", now), wanted("latency", 0)]));
    sources.set(rollouts(vec![wanted("latency", 0)]));
    until(|| answer(&sources, "later").is_none()).await;
    assert!(matches!(answer(&sources, "latency"), Some(Ok(_))));
    let times: std::collections::BTreeSet<_> = server.requests().iter().map(|request| field(request, "time")).collect();
    assert_eq!(server.requests().len(), 6 * times.len());
    sources.set(Rollouts::new());
    until(|| sources.latest().is_empty()).await;
    tasks.stop().await;
}

#[tokio::test]
async fn each_failure_names_its_query_and_its_side() {
    type Case = (&'static str, fn(&str) -> Answer, &'static str);
    let cases: [Case; 5] = [
        (
            "empty",
            |request| {
                let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
                let is_bad = field(request, "query").contains("bad");
                if is_bad { Answer::Body(200, empty.into()) } else { healthy(request) }
            },
            "`bad` of `to`: the query finds no series; no data is not zero",
        ),
        (
            "stale",
            |request| {
                let old = (field(request, "time").parse::<u64>().unwrap() - 33).to_string();
                let is_newest =
                    field(request, "query").contains("timestamp") && field(request, "query").contains("blue");
                if is_newest { one(request, &old) } else { healthy(request) }
            },
            "the newest sample of `from`: the newest sample is 33 s older than the end of the window",
        ),
        (
            "contradiction",
            |request| {
                let is_bad = field(request, "query").contains("bad");
                if is_bad { one(request, "1002") } else { healthy(request) }
            },
            "the counts of `to`: 1002 of 1000 requests are bad; the two queries count different things",
        ),
        (
            "query",
            |_| Answer::Body(400, br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_vec()),
            "the newest sample of `to`: the source rejects the query (400): parse error",
        ),
        (
            "denied",
            |_| Answer::Body(401, b"Unauthorized".to_vec()),
            "the newest sample of `to`: the source denies access (401); check the token or the password",
        ),
    ];
    for (word, rule, expected) in cases {
        let server = Server::start(rule).await;
        let tasks = Tasks::default();
        let sources = Sources::start(&config(&server.url(), ""), &tasks);
        sources.set(rollouts(vec![wanted("latency", 0)]));
        until(|| !sources.results().is_empty()).await;
        until(|| answer(&sources, "latency") == Some(Err(expected.to_owned()))).await;
        assert_eq!(sources.results(), [(("vm".to_owned(), word), 1)].into());
        tasks.stop().await;
    }
}

#[tokio::test]
async fn a_label_that_the_plan_does_not_give_is_no_data_and_asks_nothing() {
    let server = Server::start(healthy).await;
    let tasks = Tasks::default();
    let sources = Sources::start(&config(&server.url(), ""), &tasks);
    let mut without = wanted("latency", 0);
    without.labels.insert("to".to_owned(), "green\"}) or vector(0) #".to_owned());
    sources.set(rollouts(vec![without]));
    let expected =
        "the newest sample of `to`: the value of the label `to` is not 1 to 64 of the characters A-Z a-z 0-9 _ . -";
    until(|| answer(&sources, "latency") == Some(Err(expected.to_owned()))).await;
    assert!(server.requests().is_empty());
    tasks.stop().await;
}

#[tokio::test]
async fn a_reload_uses_the_new_source_and_the_new_checks() {
    let (first, second) = (Server::start(|_| Answer::Silent).await, Server::start(healthy).await);
    let tasks = Tasks::default();
    let sources = Sources::start(&config(&first.url(), ""), &tasks);
    let mut unknown = wanted("other", 0);
    unknown.uses = "gone".to_owned();
    sources.set(rollouts(vec![wanted("latency", 0), unknown]));
    first.wait_for(1).await;
    assert_eq!(answer(&sources, "other"), Some(Err("the controller has no check `gone`".to_owned())));

    sources.reconfigure(&config(&first.url(), ""));
    let mut config = config(&second.url(), "");
    config.checks.insert("gone".to_owned(), config.checks["slow"].clone());
    sources.reconfigure(&config);
    until(|| matches!(answer(&sources, "other"), Some(Ok(_)))).await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_reload_that_does_not_change_a_check_keeps_its_answer() {
    let server = Server::start(healthy).await;
    let tasks = Tasks::default();
    let sources = Sources::start(&config(&server.url(), ""), &tasks);
    sources.set(rollouts(vec![wanted("latency", 0)]));
    until(|| matches!(answer(&sources, "latency"), Some(Ok(_)))).await;
    let mut other = config(&server.url(), "");
    other.checks.insert("other".to_owned(), other.checks["slow"].clone());
    sources.reconfigure(&other);
    let mut new = wanted("new", 0);
    new.uses = "other".to_owned();
    sources.set(rollouts(vec![wanted("latency", 0), new]));
    let mut changes = sources.changes();
    while !matches!(answer(&sources, "new"), Some(Ok(_))) {
        assert!(matches!(answer(&sources, "latency"), Some(Ok(_))), "{:?}", sources.latest());
        changes.changed().await.unwrap();
    }
    tasks.stop().await;
}

#[test]
fn what_prevents_a_query_is_found_without_a_network() {
    let missing = config("https://127.0.0.1:1", "ca_file = \"/nonexistent/ca.pem\"");
    let found = problems(&missing);
    assert_eq!(found[0].0, "vm");
    assert!(found[0].1.starts_with("failed to read /nonexistent/ca.pem: "), "{found:?}");
    assert_eq!(problems(&config("http://127.0.0.1:1", "auth = \"u:p\"")), []);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth");
    std::fs::write(&file, "hunter2").unwrap();
    let found = problems(&config("http://127.0.0.1:1", &format!("auth_file = \"{}\"", Path::new(&file).display())));
    assert_eq!(found[0].1, "the value has no colon; write user:password");
}
