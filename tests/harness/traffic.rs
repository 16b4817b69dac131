//! A constant load on a frontend, and an exact count of the answers by server.
//!
//! There are no retries: clients of a real site do not retry every request, and retries would hide the errors of a
//! reload of HAProxy.

use std::{
    collections::BTreeMap,
    ops::{Add, Sub},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The time limit of a request; a later answer counts as failed.
const DEADLINE: Duration = Duration::from_secs(5);
/// The number of different errors that are kept as text.
const KEPT_ERRORS: usize = 5;
/// The number of clients of each kind.
pub const CLIENTS: u32 = 4;

/// Requests per second, of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// On persistent connections, reused as long as HAProxy keeps them open.
    pub kept: u32,
    /// On a new connection per request.
    pub fresh: u32,
}

/// The counts since the start, or between two points in time.
#[derive(Debug, Clone, Default)]
pub struct Count {
    /// Answers by their body.
    pub bodies: BTreeMap<String, u64>,
    /// Answers by the weights in force for them, from HAProxy's header `x-weights`.
    pub weights: BTreeMap<String, u64>,
    /// Requests answered with a 200 on persistent connections.
    pub kept: u64,
    /// Requests answered with a 200, on new connections.
    pub fresh: u64,
    /// All other requests.
    pub failed: u64,
    /// The first different errors of failed requests.
    pub errors: Vec<String>,
}

impl Count {
    /// Requests answered with a 200.
    pub fn answered(&self) -> u64 {
        self.kept + self.fresh
    }

    /// The share of the answers with this body, in percent.
    #[expect(clippy::cast_precision_loss, reason = "no test sends 2^52 requests")]
    pub fn percent(&self, body: &str) -> f64 {
        let part = self.bodies.get(body).copied().unwrap_or_default();
        100.0 * part as f64 / self.answered().max(1) as f64
    }

    /// Fails if a request failed.
    pub fn expect_no_failure(&self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} requests failed: {}", self.failed, self.errors.join("; "));
        Ok(())
    }
}

impl Sub<&Self> for Count {
    type Output = Self;

    fn sub(mut self, earlier: &Self) -> Self {
        for (now, before) in [(&mut self.bodies, &earlier.bodies), (&mut self.weights, &earlier.weights)] {
            for (key, count) in before {
                *now.entry(key.clone()).or_default() -= count;
            }
            now.retain(|_, count| *count > 0);
        }
        self.kept -= earlier.kept;
        self.fresh -= earlier.fresh;
        self.failed -= earlier.failed;
        self.errors.drain(..earlier.errors.len());
        self
    }
}

impl Add for Count {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (all, more) in [(&mut self.bodies, other.bodies), (&mut self.weights, other.weights)] {
            for (key, count) in more {
                *all.entry(key).or_default() += count;
            }
        }
        self.kept += other.kept;
        self.fresh += other.fresh;
        self.failed += other.failed;
        self.errors.extend(other.errors);
        self
    }
}

/// A running load on its own thread: work of the test delays no request. It ends when this is dropped.
#[derive(Debug)]
pub struct Traffic {
    count: Arc<Mutex<Count>>,
    _stop: DropGuard,
}

impl Traffic {
    /// Starts sending requests to 127.0.0.1.
    pub fn start(port: u16, rate: Rate) -> Self {
        let count = Arc::new(Mutex::new(Count::default()));
        let (counts, stop) = (Arc::clone(&count), CancellationToken::new());
        let stopped = stop.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for the load").block_on(async {
                let mut clients = JoinSet::new();
                for (kept, rate) in [(true, rate.kept), (false, rate.fresh)] {
                    let period = Duration::from_secs(1) * CLIENTS;
                    for number in 0..if rate == 0 { 0 } else { CLIENTS } {
                        let client = Client { port, kept, connection: None, count: Arc::clone(&counts) };
                        // Different start times, so that the clients do not send at the same moment.
                        let start = tokio::time::Instant::now() + period * number / CLIENTS / rate;
                        clients.spawn(client.run(start, period / rate));
                    }
                }
                stopped.cancelled().await;
            });
        });
        Self { count, _stop: stop.drop_guard() }
    }

    /// The counts since the start.
    pub fn count(&self) -> Count {
        self.count.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counts since `earlier`.
    pub fn since(&self, earlier: &Count) -> Count {
        self.count() - earlier
    }
}

type Connection = http1::SendRequest<Empty<Bytes>>;

struct Answer {
    body: String,
    weights: Option<String>,
}

struct Client {
    port: u16,
    kept: bool,
    connection: Option<Connection>,
    count: Arc<Mutex<Count>>,
}

impl Client {
    async fn run(mut self, start: tokio::time::Instant, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset_at(start);
        loop {
            ticks.tick().await;
            let answer = match timeout(DEADLINE, self.request()).await {
                Ok(answer) => answer,
                Err(_) => Err(anyhow::anyhow!("no answer within {DEADLINE:?}")),
            };
            if answer.is_err() || !self.kept {
                self.connection = None;
            }
            self.record(answer);
        }
    }

    async fn request(&mut self) -> anyhow::Result<Answer> {
        // An error means that HAProxy closed the connection after its last answer. No request is lost.
        let usable = match self.connection.take() {
            Some(mut connection) => connection.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let connection = match usable {
            Some(connection) => connection,
            None => connect(self.port).await.context("cannot connect")?,
        };
        let connection = self.connection.insert(connection);
        let host = format!("127.0.0.1:{}", self.port);
        let request = Request::get("/").header("host", host).body(Empty::new())?;
        let answer = connection.send_request(request).await.context("no answer")?;
        let (head, body) = answer.into_parts();
        let body = String::from_utf8_lossy(&body.collect().await.context("no full answer")?.to_bytes()).into_owned();
        ensure!(head.status == 200, "{}", head.status);
        let weights = head.headers.get("x-weights").map(|weights| String::from_utf8_lossy(weights.as_bytes()).into());
        Ok(Answer { body, weights })
    }

    fn record(&self, answer: anyhow::Result<Answer>) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Answer { body, weights }) => {
                *count.bodies.entry(body).or_default() += 1;
                if let Some(weights) = weights {
                    *count.weights.entry(weights).or_default() += 1;
                }
                if self.kept {
                    count.kept += 1;
                } else {
                    count.fresh += 1;
                }
            }
            Err(error) => {
                count.failed += 1;
                let kind = if self.kept { "kept" } else { "new" };
                let error = format!("{error:#} on a {kind} connection");
                if count.errors.len() < KEPT_ERRORS && !count.errors.contains(&error) {
                    count.errors.push(error);
                }
            }
        }
    }
}

async fn connect(port: u16) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with the connection, and the connection ends with its owner.
    tokio::spawn(driver);
    Ok(connection)
}
