//! A server of HTTP for the tests: it answers what a test wants it to, also what no real server would.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time,
};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(in crate::rolloutd) enum Answer {
    /// Answers with this status and body.
    Body(u16, Vec<u8>),
    /// Answers with this status and a header.
    Header(u16, String),
    /// Sends one byte of the body in each of these intervals, for ever.
    Drip(Duration),
    /// Accepts the request and never answers.
    Silent,
    /// Closes the connection without an answer.
    Closed,
}

type Rule = dyn Fn(&str) -> Answer + Send + Sync;

/// The server. It ends when it is dropped.
pub(in crate::rolloutd) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts a server. `rule` gets each request: its head and its body.
    pub(in crate::rolloutd) async fn start(rule: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, rule): (_, Arc<Rule>) = (Arc::clone(&requests), Arc::new(rule));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, rule) = (Arc::clone(&seen), Arc::clone(&rule));
                tokio::spawn(async move {
                    // The client may close the connection at any time.
                    let _closed = serve(stream, &seen, &*rule).await;
                });
            }
        });
        Self { port, requests, task }
    }

    pub(in crate::rolloutd) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests until now, each with its head and its body.
    pub(in crate::rolloutd) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are so many requests.
    pub(in crate::rolloutd) async fn wait_for(&self, requests: usize) -> Vec<String> {
        until(|| self.requests().len() >= requests).await;
        self.requests()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the condition is true.
pub(in crate::rolloutd) async fn until(condition: impl Fn() -> bool) {
    let polled = async {
        while !condition() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(Duration::from_secs(20), polled).await.expect("the condition becomes true");
}

/// Answers one request and closes the connection.
async fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>, rule: &Rule) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let length = text
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok())
            .unwrap_or(0);
        if read == 0 || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
            break;
        }
    }
    let request = String::from_utf8_lossy(&bytes).into_owned();
    let answer = rule(&request);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let head = |status: u16, length: usize, more: &str| {
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n")
    };
    match answer {
        Answer::Body(status, body) => {
            stream.write_all(head(status, body.len(), "").as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Answer::Header(status, header) => {
            stream.write_all(head(status, 0, &format!("{header}\r\n")).as_bytes()).await?;
        }
        Answer::Drip(interval) => {
            stream.write_all(head(200, 1_000_000, "").as_bytes()).await?;
            loop {
                time::sleep(interval).await;
                stream.write_all(b" ").await?;
            }
        }
        Answer::Silent => {
            // Until the client gives up.
            let _closed = stream.read(&mut [0; 1]).await;
        }
        Answer::Closed => {}
    }
    Ok(())
}
