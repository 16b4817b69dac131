//! Serves a router within limits, so that no local user can exhaust descriptors, memory or CPU time.
//!
//! At most [`Limits::connections`] are open. A new connection beyond the limit closes the connection that was idle for
//! the longest time. A client that opens many connections and sends nothing loses them first. A request in progress is
//! never cut off.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router, extract::ConnectInfo, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
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
    /// Whether a request is in progress.
    busy: Arc<AtomicBool>,
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
                if open.len() >= limits.connections && !close_longest_idle(&mut open) {
                    // Each of them has a request in progress: drop the new connection; the client can retry.
                    continue;
                }
                let busy = Arc::new(AtomicBool::new(false));
                let task =
                    tasks.spawn(serve_connection(stream, router.clone(), peer, Arc::clone(&busy), limits.lifetime));
                open.push_back(Open { task, busy });
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

/// Closes the connection that was idle for the longest time. Returns false if no connection is idle.
fn close_longest_idle(open: &mut VecDeque<Open>) -> bool {
    let idle = open.iter().position(|open| !open.busy.load(Ordering::Relaxed));
    let closed = idle.and_then(|at| open.remove(at));
    if let Some(closed) = &closed {
        closed.task.abort();
    }
    closed.is_some()
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Peer,
    busy: Arc<AtomicBool>,
    lifetime: Duration,
) {
    let router = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, busy) = (router.clone(), Arc::clone(&busy));
        async move {
            busy.store(true, Ordering::Relaxed);
            let response: Result<Response, _> = hyper::service::Service::call(&router, request).await;
            busy.store(false, Ordering::Relaxed);
            response
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
