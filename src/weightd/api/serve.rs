//! Serves a router within bounds, so that no local user can use up descriptors, memory or the processor.
//!
//! At most [`Limits::connections`] are open. When another one comes, the one that has been idle for longest is closed:
//! who opens many and sends nothing loses them first, and a request that is under way is never cut off.

use std::{
    collections::VecDeque,
    io,
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

/// How long a client may take for the head of a request, and stay idle between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection lasts at most.
const LIFETIME: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// The most connections that are accepted in [`WINDOW`]: a flood of them gets 3 % of a core at most.
const ACCEPTED: usize = 32;
/// See [`ACCEPTED`].
const WINDOW: Duration = Duration::from_millis(100);
/// The pause after a connection could not be accepted, for example because descriptors are used up.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections that are open at once.
    pub connections: usize,
}

/// The other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peer {
    /// Its user; none over TCP.
    pub uid: Option<u32>,
}

/// A listener of connections.
pub trait Listen {
    /// Its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listen for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        Self::accept(self).await.map(|(stream, _)| (stream, Peer::default()))
    }
}

impl Listen for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        Ok((stream, Peer { uid }))
    }
}

/// A connection that is open.
struct Open {
    task: AbortHandle,
    /// Whether a request is under way.
    busy: Arc<AtomicBool>,
}

/// Serves `router` until `stop`. Handlers find the [`Peer`] as their connection's info.
pub async fn serve<L: Listen>(listener: L, router: Router, limits: Limits, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<Open> = VecDeque::new();
    let (mut accepted, mut window_ends) = (0, Instant::now());
    let mut failing = false;
    loop {
        let accept = async {
            if accepted >= ACCEPTED {
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
            (accepted, window_ends) = (0, now + WINDOW);
        }
        accepted += 1;
        match connection {
            Ok((stream, peer)) => {
                failing = false;
                open.retain(|open| !open.task.is_finished());
                if open.len() >= limits.connections && !close_one(&mut open) {
                    // All of them have a request under way; this one may try again.
                    continue;
                }
                let busy = Arc::new(AtomicBool::new(false));
                let task = tasks.spawn(connection_of(stream, router.clone(), peer, Arc::clone(&busy)));
                open.push_back(Open { task, busy });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "a connection to the local interface cannot be accepted");
                }
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// Closes the connection that has been idle for longest. False if there is none.
fn close_one(open: &mut VecDeque<Open>) -> bool {
    let idle = open.iter().position(|open| !open.busy.load(Ordering::Relaxed));
    let closed = idle.and_then(|at| open.remove(at));
    if let Some(closed) = &closed {
        closed.task.abort();
    }
    closed.is_some()
}

async fn connection_of(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Peer,
    busy: Arc<AtomicBool>,
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
    // A client that breaks off, or takes too long, needs no answer and no line in the log.
    let _ = timeout(LIFETIME, connection).await;
}
