//! An application whose behaviour changes on command, while HAProxy sends it requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How an application answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Every request with this status.
    Status(u16),
    /// This many requests of 1,000 with a 500, all others with a 200.
    Fails(u16),
    /// It closes the connection without an answer.
    Closes,
    /// It never answers.
    Hangs,
    /// It answers after 300 ms.
    Slow,
}

/// An answer that takes longer is slow.
const SLOW: Duration = Duration::from_millis(250);

impl Behaviour {
    /// As one number: the kind in thousands above the value.
    fn code(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::Fails(part) => 1000 + part.min(1000),
            Self::Closes => 3000,
            Self::Hangs => 3001,
            Self::Slow => 3002,
        }
    }

    fn of(code: u16) -> Self {
        match code {
            3000 => Self::Closes,
            3001 => Self::Hangs,
            3002 => Self::Slow,
            1000..=2000 => Self::Fails(code - 1000),
            status => Self::Status(status),
        }
    }
}

/// An application on its own thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Side {
    port: u16,
    behaviour: Arc<AtomicU16>,
    tally: Tally,
    stop: CancellationToken,
    _end: DropGuard,
}

/// What an application counts. A clone counts on.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    requests: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    slow: Arc<AtomicU64>,
}

impl Tally {
    /// How many requests it got.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many requests it answered with a status of 500 or more.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// How many requests it answered late.
    pub fn slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }
}

impl Side {
    /// Starts one that answers each request with 200 and `name`.
    pub fn start(name: &'static str) -> anyhow::Result<Self> {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no port for an application")?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let behaviour = Arc::new(AtomicU16::new(Behaviour::Status(200).code()));
        let tally = Tally::default();
        let stop = CancellationToken::new();
        let (now, counts) = (Arc::clone(&behaviour), tally.clone());
        let stopped = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(socket) else { return };
                let serving = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream, name, Arc::clone(&now), counts.clone()));
                    }
                };
                stopped.run_until_cancelled(serving).await;
            });
        });
        Ok(Self { port, behaviour, tally, _end: stop.clone().drop_guard(), stop })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on it behaves so.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.store(behaviour.code(), Ordering::Relaxed);
    }

    /// What it counted, and counts.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many requests it answered with a status of 500 or more.
    pub fn failed(&self) -> u64 {
        self.tally.failed()
    }

    /// How many requests it got.
    pub fn requests(&self) -> u64 {
        self.tally.requests()
    }

    /// Closes its port for good: connections break, and new ones are refused.
    pub fn close(&self) {
        self.stop.cancel();
    }
}

/// Answers the requests of a connection.
async fn serve(mut stream: TcpStream, name: &'static str, behaviour: Arc<AtomicU16>, tally: Tally) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        buffer.clear();
        let (number, began) = (tally.requests.fetch_add(1, Ordering::Relaxed), Instant::now());
        let status = match Behaviour::of(behaviour.load(Ordering::Relaxed)) {
            Behaviour::Status(status) => status,
            // Spread over the requests, and not the first of each thousand.
            Behaviour::Fails(part) if (number * 617) % 1000 < u64::from(part) => 500,
            Behaviour::Fails(_) => 200,
            Behaviour::Closes => return None,
            Behaviour::Hangs => {
                sleep(Duration::from_secs(120)).await;
                return None;
            }
            Behaviour::Slow => {
                sleep(Duration::from_millis(300)).await;
                200
            }
        };
        if status >= 500 {
            tally.failed.fetch_add(1, Ordering::Relaxed);
        }
        if began.elapsed() >= SLOW {
            tally.slow.fetch_add(1, Ordering::Relaxed);
        }
        let length = name.len();
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{name}");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
