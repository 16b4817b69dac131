//! What a client cannot use up: tries, time, memory; and paths that lead nowhere else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    safety::{raw, with_acls},
    story,
};
use crate::harness::{
    Consul,
    gate::{Gate, Passage},
    page::{Page, Settings, settings},
};

#[tokio::test]
async fn sign_ins_are_limited_and_the_others_still_get_in() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let nobody = page.nobody()?;
    let (mut asked, mut limited) = (0, 0);
    for _ in 0..200 {
        match nobody.post("/sign-in", &[("token", "00000000-0000-0000-0000-00000000beef")]).await?.status {
            StatusCode::TOO_MANY_REQUESTS => limited += 1,
            _ => asked += 1,
        }
    }
    ensure!(asked <= 40 && limited >= 160, "{asked} reached Consul");
    let _ = consul;
    Ok(())
}

#[tokio::test]
async fn the_form_does_not_ask_consul_each_time() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let gate = Gate::open(&consul).await?;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    gate.rule(move |_, path| {
        counter.fetch_add(usize::from(path.ends_with("/acl/token/self")), Ordering::Relaxed);
        Passage::Through
    });
    let address = gate.address().parse()?;
    let own = settings(&consul, None)?;
    let page =
        Page::with(Settings { consul: weightd::consul::Settings { address, ..own.consul.clone() }, ..own }).await?;
    let nobody = page.nobody()?;
    for _ in 0..50 {
        ensure!(nobody.page("/sign-in").await?.contains("Your name"));
    }
    ensure!(asked.load(Ordering::Relaxed) == 1, "asked {} times", asked.load(Ordering::Relaxed));
    Ok(())
}

#[tokio::test]
async fn slow_and_huge_requests_end() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let page = Page::start(&consul, None).await?;
    let own = format!("host: {0}\r\norigin: http://{0}\r\n", page.address);
    let began = Instant::now();
    let huge_head = format!("GET /sign-in HTTP/1.1\r\n{own}x: {}\r\n\r\n", "x".repeat(64 * 1024));
    let answer = raw(&page, &huge_head).await.unwrap_or_default();
    ensure!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let form = "x".repeat(64 * 1024);
    let huge_form = format!(
        "POST /sign-in HTTP/1.1\r\n{own}connection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    ensure!(raw(&page, &huge_form).await?.starts_with("HTTP/1.1 413"));
    let long = format!("GET /app/{} HTTP/1.1\r\n{own}connection: close\r\n\r\n", "x".repeat(4000));
    ensure!(raw(&page, &long).await?.starts_with("HTTP/1.1 414"));
    let method = format!("DELETE /sign-in HTTP/1.1\r\n{own}connection: close\r\n\r\n");
    ensure!(raw(&page, &method).await?.starts_with("HTTP/1.1 405"));
    ensure!(began.elapsed() < Duration::from_secs(10));
    // A head that never ends, and a form that never comes.
    let slow_head =
        timeout(Duration::from_secs(20), raw_open(&page, "GET / HTTP/1.1\r\n")).await.context("it stays open")?;
    let slow_form = format!(
        "POST /sign-in HTTP/1.1\r\n{own}content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\nx"
    );
    let slow_form = timeout(Duration::from_secs(20), raw_open(&page, &slow_form)).await.context("it stays open")?;
    ensure!(slow_head.is_ok() && slow_form?.contains("408"));
    Ok(())
}

/// Sends bytes, and waits until the other side closes or says that it is done.
async fn raw_open(page: &Page, bytes: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(page.address).await?;
    stream.write_all(bytes.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            read => answer.extend_from_slice(&chunk[..read]),
        }
        if answer.windows(4).any(|end| end == b"408:") {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn paths_lead_nowhere_else() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    for path in [
        "/static/../../etc/passwd",
        "/static/..%2f..%2fetc%2fpasswd",
        "/app/..",
        "/app/%2e%2e",
        "/app/app1/",
        "/app/app1/no-verb",
        "/app/app1%00",
        "/app/app1/../../fleet/x",
        "//evil.example/",
    ] {
        let answer = ann.get(path).await?;
        ensure!(answer.status.is_client_error() || answer.status == StatusCode::OK, "{path}: {}", answer.status);
        ensure!(!answer.text.contains("root:"), "{path}");
    }
    Ok(())
}
