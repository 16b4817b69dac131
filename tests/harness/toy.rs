//! An application that fails on command: the path of a request says how.

use std::time::Duration;

use anyhow::Context as _;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// An application that fails on command. It ends when this is dropped.
///
/// The last part of the path is the command: `200`, `404` or another status; `close` without an answer, `reset`, `garbage`,
/// `half` a header, `truncated` body, `hang` without an answer, `stall` in the body, `slow` for
/// 300 ms, `slower` for 2 s.
#[derive(Debug)]
pub struct Toy {
    port: u16,
    task: JoinHandle<()>,
}

impl Toy {
    /// Starts it on a free port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for an application")?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Ok(Self { port, task })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request as it commands.
async fn answer(mut stream: TcpStream) -> Option<()> {
    let request = head(&mut stream).await?;
    let command = request.split(' ').nth(1)?.rsplit('/').next()?.to_owned();
    let full = |status: &str| format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    let text = match command.as_str() {
        "close" => return None,
        "reset" => {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
            return None;
        }
        "hang" => {
            sleep(Duration::from_secs(60)).await;
            return None;
        }
        "slow" => {
            sleep(Duration::from_millis(300)).await;
            full("200")
        }
        "slower" => {
            sleep(Duration::from_secs(2)).await;
            full("200")
        }
        "garbage" => "this is no HTTP\r\n\r\n".to_owned(),
        "half" => "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
        "truncated" | "stall" => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\nab".to_owned(),
        "304" => "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".to_owned(),
        status => full(status),
    };
    stream.write_all(text.as_bytes()).await.ok()?;
    if command == "stall" {
        sleep(Duration::from_secs(60)).await;
    }
    stream.shutdown().await.ok()
}

/// Reads a request or an answer up to its empty line.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(text).ok()
}

/// What a client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// A complete answer with this status.
    Answer(u16),
    /// No answer, or one that broke off.
    Nothing,
}

impl Got {
    /// Whether a user calls it an error.
    pub fn is_error(self) -> bool {
        match self {
            Self::Answer(status) => status >= 500,
            Self::Nothing => true,
        }
    }
}

/// Sends one request on a connection of its own.
pub async fn get(port: u16, path: &str) -> anyhow::Result<Got> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("no connection to HAProxy")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // A reset is an end too.
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    drop(read.context("HAProxy did not answer within 20 s")?);
    Ok(parse(&String::from_utf8_lossy(&answer)).map_or(Got::Nothing, Got::Answer))
}

/// The status of a complete answer.
fn parse(answer: &str) -> Option<u16> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let complete = length.is_none_or(|length| length.parse() == Ok(body.len()));
    complete.then_some(status)
}
