//! Serves a router within limits, so that no local user can exhaust descriptors, memory or CPU time.
//!
//! At most [`Limits::connections`] are open. A new connection beyond the limit closes the oldest idle one, so a client that
//! opens many connections and sends nothing loses them first. If none is idle, it closes the oldest one of those that are
//! sending an answer: an event stream, or a client that reads slowly. A handler at work is cut off only by
//! [`Limits::lifetime`].

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    extract::Request,
    response::Response,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Time limit for the head of a request, and for the idle time between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum size of the head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum number of accepted connections per [`ACCEPT_WINDOW`]: a flood of connections uses at most 3 % of a core.
const MAX_ACCEPTS: usize = 32;
/// See [`MAX_ACCEPTS`].
const ACCEPT_WINDOW: Duration = Duration::from_millis(100);
/// Delay after a failed accept, for example when no descriptor is free.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum lifetime of a connection, also of one with a request in progress.
    pub lifetime: Duration,
}

/// The client of a connection, as reported by the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peer {
    /// The user id; `None` over TCP.
    pub uid: Option<u32>,
    /// The address; `None` over a Unix socket.
    pub address: Option<IpAddr>,
}

/// A listener for connections.
pub trait Listen {
    /// The type of its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listen for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        Self::accept(self).await.map(|(stream, from)| (stream, Peer { uid: None, address: Some(from.ip()) }))
    }
}

impl Listen for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        Ok((stream, Peer { uid, address: None }))
    }
}

/// An open connection.
struct Open {
    task: AbortHandle,
    phase: Arc<Phase>,
}

/// What a connection does now.
#[derive(Debug, Default)]
struct Phase(AtomicU8);

/// It waits for a request.
const IDLE: u8 = 0;
/// It hands out the body of an answer.
const SENDING: u8 = 1;
/// A handler is at work.
const WORKING: u8 = 2;

impl Phase {
    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }
}

/// The body of an answer. The connection is idle again when it is dropped: at its end.
struct Sending {
    body: Body,
    phase: Arc<Phase>,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.phase.set(IDLE);
    }
}

/// Serves `router` until `stop`. Handlers get the [`Peer`] through [`ConnectInfo`].
pub async fn serve<L: Listen>(listener: L, router: Router, limits: Limits, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<Open> = VecDeque::new();
    let (mut accepted, mut window_ends) = (0, Instant::now());
    let mut failing = false;
    loop {
        let accept = async {
            if accepted >= MAX_ACCEPTS {
                sleep_until(window_ends).await;
            }
            listener.accept().await
        };
        let connection = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            connection = accept => connection,
        };
        let now = Instant::now();
        if now >= window_ends {
            (accepted, window_ends) = (0, now + ACCEPT_WINDOW);
        }
        accepted += 1;
        match connection {
            Ok((stream, peer)) => {
                failing = false;
                open.retain(|open| !open.task.is_finished());
                if open.len() >= limits.connections && !close_one(&mut open) {
                    // A handler is at work for each of them: drop the new connection; the client can retry.
                    continue;
                }
                let phase = Arc::new(Phase::default());
                let task =
                    tasks.spawn(serve_connection(stream, router.clone(), peer, Arc::clone(&phase), limits.lifetime));
                open.push_back(Open { task, phase });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "cannot accept a connection to the HTTP interface");
                }
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Closes the oldest connection that is idle, or else the oldest one that is sending. Returns false if a handler is at work
/// for each.
fn close_one(open: &mut VecDeque<Open>) -> bool {
    let oldest = |phase| open.iter().position(|open| open.phase.is(phase));
    let closed = oldest(IDLE).or_else(|| oldest(SENDING)).and_then(|at| open.remove(at));
    if let Some(closed) = &closed {
        closed.task.abort();
    }
    closed.is_some()
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Peer,
    phase: Arc<Phase>,
    lifetime: Duration,
) {
    let router = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, phase) = (router.clone(), Arc::clone(&phase));
        async move {
            phase.set(WORKING);
            let response: Result<Response, _> = hyper::service::Service::call(&router, request).await;
            phase.set(SENDING);
            response.map(|response| response.map(|body| Body::new(Sending { body, phase })))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // An aborted or slow connection needs neither an answer nor a log line.
    let _ = timeout(lifetime, connection).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures_util::{StreamExt as _, stream};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// Connects, asks, and reads the answer up to the last byte that is sent at once.
    async fn ask(to: std::net::SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("body") {
            let mut chunk = [0; 1024];
            let read = timeout(Duration::from_secs(5), stream.read(&mut chunk)).await.unwrap().unwrap();
            assert!(read > 0, "{path} is closed: {answer}");
            answer.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        stream
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        timeout(Duration::from_millis(200), stream.read(&mut [0; 16])).await.is_ok()
    }

    #[tokio::test]
    async fn idle_connections_go_before_those_that_are_sending() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let endless = async || {
            let first = stream::iter([Ok::<_, io::Error>("body")]);
            Body::from_stream(first.chain(stream::pending()))
        };
        let router = Router::new().route("/", get(async || "body")).route("/stream", get(endless));
        let stop = CancellationToken::new();
        let limits = Limits { connections: 2, lifetime: Duration::from_secs(60) };
        let server = tokio::spawn(serve(listener, router, limits, stop.clone()));

        let mut first = ask(to, "/stream").await;
        let mut idle = ask(to, "/").await;
        let mut second = ask(to, "/stream").await;
        assert!(is_closed(&mut idle).await && !is_closed(&mut first).await);
        // None is idle: the oldest stream goes.
        let mut third = ask(to, "/").await;
        assert!(is_closed(&mut first).await);
        assert!(!is_closed(&mut second).await && !is_closed(&mut third).await);
        stop.cancel();
        server.await.unwrap();
    }
}
