//! A proxy in front of Consul. A test can close it, and can change requests and answers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Consul, eventually};

/// How the proxy handles a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Forwards the request and returns Consul's answer.
    Through,
    /// Forwards the request and returns this body with status 200.
    Answered(&'static str),
    /// Does not forward the request; returns this body with status 200.
    Swallowed(&'static str),
    /// Forwards the request, and closes the connection without an answer after Consul answered.
    Lost,
    /// Closes the connection without an answer, and does not forward the request.
    Closed,
}

/// Maps a request's method and path to its handling.
type Rule = Box<dyn Fn(&Method, &str) -> Passage + Send>;

struct Shared {
    consul: String,
    http: reqwest::Client,
    rule: Mutex<Rule>,
}

/// A proxy in front of Consul.
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    open: Option<JoinHandle<()>>,
}

impl Gate {
    /// Starts a proxy in front of `consul`.
    pub async fn open(consul: &Consul) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let http = super::http().timeout(Duration::from_secs(90)).build()?;
        let rule: Rule = Box::new(|_, _| Passage::Through);
        let shared = Arc::new(Shared { consul: consul.address(), http, rule: Mutex::new(rule) });
        let open = Some(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, open })
    }

    /// The URL.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the handling of the next requests.
    pub fn rule(&self, rule: impl Fn(&Method, &str) -> Passage + Send + 'static) {
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// Closes the proxy: open connections break, and new ones are refused.
    pub async fn shut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            // The task ends with a cancellation error.
            let _ = open.await;
        }
    }

    /// Opens the proxy again at the same address.
    pub async fn open_again(&mut self) -> anyhow::Result<()> {
        let address = self.address;
        let listener = eventually(super::PATIENCE, "the port is free", async || {
            TcpListener::bind(address).await.context("cannot bind")
        })
        .await?;
        self.open = Some(serve(listener, Arc::clone(&self.shared)));
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.abort();
        }
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let shared = Arc::clone(&shared);
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let shared = Arc::clone(&shared);
                async move { pass(&shared, request.map(Body::new)).await }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            // The connections end with this task.
            connections.spawn(async move { drop(connection.await) });
        }
    })
}

/// The connection is closed instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the rule closes the connection")]
struct NoAnswer;

async fn pass(shared: &Shared, request: Request) -> Result<Response, NoAnswer> {
    let uri = request.uri().clone();
    let passage = (shared.rule.lock().unwrap_or_else(PoisonError::into_inner))(request.method(), uri.path());
    match passage {
        Passage::Swallowed(body) => return Ok((StatusCode::OK, body).into_response()),
        Passage::Closed => return Err(NoAnswer),
        _ => {}
    }
    match (forward(shared, request).await, passage) {
        (_, Passage::Lost) => Err(NoAnswer),
        (Ok(_), Passage::Answered(body)) => Ok((StatusCode::OK, body).into_response()),
        (Ok(answer), _) => Ok(answer),
        (Err(error), _) => Ok((StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response()),
    }
}

async fn forward(shared: &Shared, request: Request) -> anyhow::Result<Response> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (head, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 1 << 20).await?;
    let mut out = shared.http.request(head.method, format!("{}{path}", shared.consul)).body(body);
    for (name, value) in &head.headers {
        if name.as_str().starts_with("x-consul") || name == "content-type" {
            out = out.header(name, value);
        }
    }
    let answer = out.send().await?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-consul")) {
        response = response.header(name, value);
    }
    Ok(response.body(Body::from(answer.bytes().await?))?)
}
