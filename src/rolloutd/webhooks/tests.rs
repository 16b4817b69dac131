use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::time::Instant;
use weightd_core::{
    desired::PatternShare,
    model::{BackendName, Timestamp},
    rollout::EventKind,
};

use super::*;
use crate::rolloutd::sources::tests::server::{Answer, Server, until};

const FAST: Pace =
    Pace { least: Duration::from_millis(1), greatest: Duration::from_millis(20), give_up: Duration::from_millis(300) };

fn config(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rolloutd.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), &|_| None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn hook(name: &str, url: &str, lines: &str) -> String {
    format!("[[webhook]]\nname = \"{name}\"\nurl = \"{url}/hooks/hunter2\"\ntimeout = \"1s\"\n{lines}\n")
}

/// A webhook that waits long for an answer.
fn patient(name: &str, url: &str) -> String {
    hook(name, url, "").replace("\"1s\"", "\"30s\"")
}

fn message(kind: EventKind, backend: &str) -> Message {
    Message {
        kind,
        backend: BackendName::new(backend).unwrap(),
        rollout: "r-1".to_owned(),
        share: PatternShare::from_thousandths(10_000),
        detail: "4 errors of 100".to_owned(),
        by: None,
        at: Timestamp::from_seconds(1_795_722_436),
    }
}

/// The JSON of a request.
fn body(request: &str) -> Value {
    serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn deliveries(webhooks: &Webhooks, name: &str) -> (u64, u64, u64) {
    let Deliveries { sent, failed, dropped } = webhooks.deliveries()[name];
    (sent, failed, dropped)
}

#[tokio::test]
async fn a_message_has_a_text_for_chats_and_fields_for_programs() {
    let server = Server::start(|_| Answer::Body(200, b"ok".to_vec())).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "abc\n").unwrap();
    let tasks = Tasks::default();
    let config = config(&hook("chat", &server.url(), &format!("token_file = \"{}\"", token.display())));
    let webhooks = Webhooks::start(&config, &tasks);
    webhooks.send(Message { by: Some("alice\n".to_owned()), ..message(EventKind::RolledBack, "web") });
    let requests = server.wait_for(1).await;
    assert!(requests[0].starts_with("POST /hooks/hunter2 HTTP/1.1\r\n"), "{}", requests[0]);
    let lower = requests[0].to_ascii_lowercase();
    assert!(lower.contains("content-type: application/json\r\n") && lower.contains("authorization: bearer abc\r\n"));
    let expected = json!({
        "text": "web: rolled back, 10 %: 4 errors of 100 (by alice\\n)",
        "kind": "rolled_back",
        "backend": "web",
        "rollout": "r-1",
        "share": 10,
        "detail": "4 errors of 100",
        "by": "alice\n",
        "at": "2026-11-26T19:47:16Z",
    });
    assert_eq!(body(&requests[0]), expected);
    until(|| deliveries(&webhooks, "chat") == (1, 0, 0)).await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_webhook_is_sent_only_its_events_of_its_backends_in_order() {
    let server = Server::start(|_| Answer::Body(204, Vec::new())).await;
    let tasks = Tasks::default();
    let config = config(&hook("chat", &server.url(), "events = [\"started\", \"done\"]\nbackends = [\"shop-*\"]"));
    let webhooks = Webhooks::start_with(&config, &tasks, FAST);
    for (kind, backend) in [
        (EventKind::Started, "shop-a"),
        (EventKind::Started, "web"),
        (EventKind::Advanced, "shop-a"),
        (EventKind::Done, "shop-b"),
        (EventKind::Done, "shop-a"),
    ] {
        webhooks.send(message(kind, backend));
    }
    let requests = server.wait_for(3).await;
    let got: Vec<_> = requests
        .iter()
        .map(|request| body(request))
        .map(|body| format!("{} {}", body["kind"], body["backend"]))
        .collect();
    assert_eq!(got, [r#""started" "shop-a""#, r#""done" "shop-b""#, r#""done" "shop-a""#]);
    until(|| deliveries(&webhooks, "chat") == (3, 0, 0)).await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_message_is_tried_again_until_the_receiver_takes_it() {
    let asked = AtomicU64::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::Closed,
        1 => Answer::Body(503, Vec::new()),
        2 => Answer::Body(429, Vec::new()),
        _ => Answer::Body(200, Vec::new()),
    })
    .await;
    let tasks = Tasks::default();
    let webhooks = Webhooks::start_with(&config(&hook("chat", &server.url(), "")), &tasks, FAST);
    webhooks.send(message(EventKind::Started, "web"));
    until(|| deliveries(&webhooks, "chat") == (1, 3, 0)).await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_message_that_the_receiver_rejects_or_that_is_too_old_is_dropped() {
    let wrong = Server::start(|_| Answer::Body(404, Vec::new())).await;
    let moved = Server::start(|_| Answer::Header(302, "Location: http://127.0.0.1:1/".to_owned())).await;
    let broken = Server::start(|_| Answer::Body(500, Vec::new())).await;
    let tasks = Tasks::default();
    let text =
        [("wrong", &wrong), ("moved", &moved), ("broken", &broken)].map(|(name, server)| hook(name, &server.url(), ""));
    let webhooks = Webhooks::start_with(&config(&text.concat()), &tasks, FAST);
    webhooks.send(message(EventKind::Started, "web"));
    until(|| deliveries(&webhooks, "wrong") == (0, 1, 1)).await;
    until(|| deliveries(&webhooks, "moved") == (0, 1, 1)).await;
    until(|| deliveries(&webhooks, "broken").2 == 1).await;
    assert!(deliveries(&webhooks, "broken").1 > 1);
    tasks.stop().await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_neither_the_sender_nor_the_others() {
    let silent = Server::start(|_| Answer::Silent).await;
    let server = Server::start(|_| Answer::Body(200, Vec::new())).await;
    let tasks = Tasks::default();
    let text = patient("silent", &silent.url()) + &hook("chat", &server.url(), "");
    let webhooks = Webhooks::start_with(&config(&text), &tasks, FAST);
    let start = Instant::now();
    webhooks.send(message(EventKind::Started, "web"));
    silent.wait_for(1).await;
    for _ in 0..QUEUE + 5 {
        webhooks.send(message(EventKind::Started, "web"));
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(deliveries(&webhooks, "silent").2, 5, "the queue holds {QUEUE}");
    until(|| deliveries(&webhooks, "chat").0 + deliveries(&webhooks, "chat").2 == QUEUE as u64 + 6).await;
    assert_eq!(deliveries(&webhooks, "chat").1, 0);
    drop((silent, server));
    tasks.stop().await;
}

#[tokio::test]
async fn a_reload_sends_what_waits_to_the_new_url() {
    let server = Server::start(|_| Answer::Body(200, Vec::new())).await;
    let tasks = Tasks::default();
    let slow = Pace { least: Duration::from_secs(30), greatest: Duration::from_secs(60), ..PACE };
    let webhooks = Webhooks::start_with(&config(&hook("chat", "http://127.0.0.1:1", "")), &tasks, slow);
    webhooks.send(message(EventKind::Started, "web"));
    until(|| deliveries(&webhooks, "chat") == (0, 1, 0)).await;
    webhooks.reconfigure(&config(&hook("chat", &server.url(), "")));
    until(|| deliveries(&webhooks, "chat") == (1, 1, 0)).await;

    webhooks.reconfigure(&config(""));
    webhooks.send(message(EventKind::Started, "web"));
    assert_eq!(
        deliveries(&webhooks, "chat"),
        (1, 1, 0),
        "a webhook that is gone is sent nothing and keeps its numbers"
    );
    tasks.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_gone_is_dropped() {
    let tasks = Tasks::default();
    let slow = Pace { least: Duration::from_secs(30), greatest: Duration::from_secs(60), ..PACE };
    let webhooks = Webhooks::start_with(&config(&hook("chat", "http://127.0.0.1:1", "")), &tasks, slow);
    webhooks.send(message(EventKind::Started, "web"));
    webhooks.send(message(EventKind::Done, "web"));
    until(|| deliveries(&webhooks, "chat") == (0, 1, 0)).await;
    webhooks.reconfigure(&config(""));
    until(|| deliveries(&webhooks, "chat") == (0, 1, 2)).await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_stop_tries_once_more_and_does_not_wait_for_long() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let server =
        Server::start(move |_| Answer::Body(if failing.load(Ordering::Relaxed) { 500 } else { 200 }, Vec::new())).await;
    let silent = Server::start(|_| Answer::Silent).await;
    let tasks = Tasks::default();
    let slow = Pace { least: Duration::from_secs(30), greatest: Duration::from_secs(60), ..PACE };
    let text = hook("chat", &server.url(), "") + &patient("silent", &silent.url());
    let webhooks = Webhooks::start_with(&config(&text), &tasks, slow);
    webhooks.send(message(EventKind::Started, "web"));
    webhooks.send(message(EventKind::RolledBack, "web"));
    until(|| deliveries(&webhooks, "chat").1 == 1).await;
    silent.wait_for(1).await;
    fails.store(false, Ordering::Relaxed);
    let start = Instant::now();
    tasks.stop().await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(deliveries(&webhooks, "chat"), (2, 1, 0));
    assert_eq!(deliveries(&webhooks, "silent"), (0, 0, 2));
}

#[test]
fn what_prevents_a_delivery_is_found_without_a_network_and_without_the_url() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    let text = format!("[[webhook]]\nname = \"chat\"\nurl_file = \"{}\"", file.display());
    assert!(problems(&config(&text))[0].1.starts_with("failed to read "));
    std::fs::write(&file, "hunter2").unwrap();
    assert_eq!(problems(&config(&text)), [("chat".to_owned(), "not a URL; write https://host/path".to_owned())]);
    std::fs::write(&file, "http://127.0.0.1:1/hunter2\n").unwrap();
    assert_eq!(problems(&config(&text)), []);
    let missing =
        hook("chat", "https://127.0.0.1:1", "token_file = \"/nonexistent/token\"\nca_file = \"/nonexistent/ca\"");
    let found = problems(&config(&missing));
    assert!(!found.is_empty() && !format!("{found:?}").contains("hunter2"), "{found:?}");
}
