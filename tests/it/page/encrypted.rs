//! The page with TLS of its own: a bad connection harms nobody else.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use weightd::consul::tls::{Ca, trusting};

use crate::harness::{
    Consul,
    page::{Process, with_form},
    tls::{Authority, Leaf},
};

#[tokio::test]
async fn a_failed_handshake_does_not_end_the_page() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    let authority = Authority::new("page")?;
    authority.issue(&Leaf::with(&["localhost"]))?.write(&path("cert.pem"), &path("key.pem"))?;
    std::fs::write(path("ca.pem"), authority.pem())?;
    let lines = format!(
        "[page.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        path("cert.pem").display(),
        path("key.pem").display()
    );
    let mut process = Process::start_with(&consul, None, &lines).await?;
    let address = process.page.address;
    // It connects and closes; it does not speak TLS; it does not trust the certificate.
    drop(TcpStream::connect(address).await?);
    let mut plain = TcpStream::connect(address).await?;
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    // The page may also reset the connection.
    let _ = timeout(Duration::from_secs(10), plain.read_to_end(&mut answer)).await.context("it stays open")?;
    ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    let url = format!("https://localhost:{}/sign-in", address.port());
    let stranger = crate::harness::http().build()?;
    ensure!(stranger.get(&url).send().await.is_err(), "the client trusts everything");
    let known = reqwest::Client::builder()
        .tls_backend_preconfigured(trusting(Some(&Ca::File(path("ca.pem"))))?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    ensure!(known.get(&url).send().await?.status() == StatusCode::OK);
    let request = known.request(Method::POST, &url).header("origin", format!("https://localhost:{}", address.port()));
    let answer = with_form(request, &[("name", "ann")]).send().await?;
    let set = answer.headers().get("set-cookie").and_then(|set| set.to_str().ok()).unwrap_or_default().to_owned();
    ensure!(set.starts_with("__Host-rollouts="), "{}: {set}", answer.status());
    let log = process.program().log();
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}
