//! An application whose connections last: an upgrade as of a WebSocket, or any bytes that are no HTTP, are held until the
//! client ends them. Other requests get the status that their path names.

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::PATIENCE;

/// An application with connections that last. It ends when this is dropped.
#[derive(Debug)]
pub struct Holding {
    port: u16,
    task: JoinHandle<()>,
}

impl Holding {
    /// Starts it on a free port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for an application")?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // An error is the end of the connection.
                tokio::spawn(async move { drop(serve(stream).await) });
            }
        });
        Ok(Self { port, task })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = stream.read(&mut piece).await?;
        text.extend_from_slice(&piece[..read]);
        if read == 0 || !text.starts_with(b"G") || text.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    match text.split(' ').nth(1).and_then(|path| path.strip_prefix('/')) {
        Some("upgrade") => {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await?;
        }
        Some(status) => {
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await?;
        }
        None => {}
    }
    while stream.read(&mut piece).await? > 0 {}
    Ok(())
}

/// Opens a connection to HAProxy, sends `text`, and returns it with the first part of the answer, if one is expected.
pub async fn open(port: u16, text: &str, answered: bool) -> anyhow::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("no connection to HAProxy")?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = [0; 1024];
    let read = if answered { timeout(PATIENCE, stream.read(&mut answer)).await.context("no answer")?? } else { 0 };
    ensure!(!answered || read > 0, "the connection ended without an answer");
    Ok((stream, String::from_utf8_lossy(&answer[..read]).into_owned()))
}

/// A request for an upgrade, which the application then holds.
pub const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";

/// Sends one request that is answered with `status`, on a connection of its own.
pub async fn get(port: u16, status: u16) -> anyhow::Result<()> {
    let request = format!("GET /{status} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (_, answer) = open(port, &request, true).await?;
    ensure!(answer.contains(&format!(" {status} ")), "{answer}");
    Ok(())
}
