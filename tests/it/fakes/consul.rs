//! A fake Consul KV with blocking queries like Consul's, and with scripted faults.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, extract::State as Shared, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};

use super::fault::Fault;

/// Consul's answer for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status: 200, or 404 if there is no key.
    pub status: u16,
    /// `X-Consul-Index`.
    pub index: u64,
    /// The keys as JSON; empty if there are none.
    pub body: String,
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The time of the request.
    pub at: Instant,
    /// Its path and query.
    pub uri: String,
    /// Its headers, with lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The index of a blocking query; 0 for a plain read.
    pub index: u64,
}

/// A key's value and its `ModifyIndex`.
type Kv = BTreeMap<String, (Vec<u8>, u64)>;

#[derive(Default)]
struct State {
    keys: Kv,
    /// The index of the last write to any key.
    index: u64,
    /// The index of the last deletion: a tombstone that is never reaped.
    deleted: Vec<(String, u64)>,
    requests: Vec<Seen>,
    /// The faults of the next requests, one for each.
    next: VecDeque<Fault>,
    /// The fault of all later requests.
    standing: Option<Fault>,
    /// The answer to all blocked queries.
    forced: Option<Answer>,
    /// Open requests: blocking queries and plain reads.
    open: [usize; 2],
    /// The maximum number of open requests at one time.
    most_open: [usize; 2],
    /// Blocking queries that their client cancelled.
    abandoned: usize,
}

struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// A fake Consul with scripted faults.
pub struct FakeConsul {
    inner: Arc<Inner>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl FakeConsul {
    /// Starts the fake without keys.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = State { index: 1, ..State::default() };
        let inner = Arc::new(Inner { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { inner, address, server })
    }

    /// The address.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.inner.lock());
        self.inner.changed.send_replace(());
        result
    }

    /// Writes a key.
    pub fn put(&self, key: &str, value: &str) {
        self.change(|s| {
            s.index += 1;
            s.keys.insert(key.to_owned(), (value.as_bytes().to_vec(), s.index));
        });
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) {
        self.change(|s| {
            s.index += 1;
            s.keys.remove(key);
            let index = s.index;
            s.deleted.push((key.to_owned(), index));
        });
    }

    /// The present answer for this prefix.
    pub fn answer(&self, prefix: &str) -> Answer {
        self.inner.lock().answer(&Subject::Below(prefix.to_owned()))
    }

    /// Replaces all data by this key with this index. Blocked queries are not woken.
    pub fn restore(&self, key: &str, value: &str, index: u64) {
        let mut state = self.inner.lock();
        state.keys = BTreeMap::from([(key.to_owned(), (value.as_bytes().to_vec(), index))]);
        (state.index, state.deleted) = (index, Vec::new());
    }

    /// Answers all blocked queries with this answer.
    pub fn force(&self, answer: Answer) {
        self.change(|s| s.forced = Some(answer));
    }

    /// Sets the faults of the next requests, one for each.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.lock().next.extend(faults);
    }

    /// Sets the fault of all requests, or none. It also ends blocked queries.
    pub fn all(&self, fault: Option<Fault>) {
        self.change(|s| s.standing = fault);
    }

    /// All received requests.
    pub fn requests(&self) -> Vec<Seen> {
        self.inner.lock().requests.clone()
    }

    /// The number of blocked queries.
    pub fn blocked(&self) -> usize {
        self.inner.lock().open[0]
    }

    /// Fails if more than one blocking query and one plain read were ever open at a time, or if the client cancelled a
    /// blocking query.
    pub fn expect_no_extra_requests(&self) {
        let state = self.inner.lock();
        assert!(state.most_open[0] <= 1 && state.most_open[1] <= 1, "open at a time: {:?}", state.most_open);
        assert_eq!(state.abandoned, 0, "blocked queries that their client gave up");
    }
}

impl Drop for FakeConsul {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subject of a request.
#[derive(Debug, Clone)]
enum Subject {
    /// One key.
    Key(String),
    /// All keys with this prefix.
    Below(String),
    /// The names with this prefix, up to the next slash.
    Names(String),
}

impl Subject {
    fn of(path: &str, query: &str) -> Self {
        let has = |wanted: &str| query.split('&').any(|pair| pair.split('=').next() == Some(wanted));
        match (has("keys"), has("recurse")) {
            (true, _) => Self::Names(path.to_owned()),
            (false, true) => Self::Below(path.to_owned()),
            (false, false) => Self::Key(path.to_owned()),
        }
    }

    fn includes(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => key == wanted,
            Self::Below(prefix) | Self::Names(prefix) => key.starts_with(prefix),
        }
    }
}

impl State {
    fn answer(&self, subject: &Subject) -> Answer {
        let below: Vec<_> = self.keys.iter().filter(|(key, _)| subject.includes(key)).collect();
        let deleted = self.deleted.iter().filter(|(key, _)| subject.includes(key)).map(|(_, index)| *index).max();
        let newest = below.iter().map(|(_, (_, index))| *index).max();
        // Without a key and a tombstone, the index is that of the whole table: any write wakes the query.
        let index = newest.max(deleted).unwrap_or(self.index);
        if below.is_empty() {
            return Answer { status: 404, index, body: String::new() };
        }
        if let Subject::Names(prefix) = subject {
            let name = |key: &str| match key[prefix.len()..].split_once('/') {
                Some((name, _)) => format!("\"{prefix}{name}/\""),
                None => format!("\"{key}\""),
            };
            let mut names: Vec<_> = below.iter().map(|(key, _)| name(key)).collect();
            names.dedup();
            return Answer { status: 200, index, body: format!("[{}]", names.join(",")) };
        }
        let rows: Vec<String> = below
            .iter()
            .map(|(key, (value, index))| {
                let value = if value.is_empty() { "null".to_owned() } else { format!("\"{}\"", BASE64.encode(value)) };
                format!(
                    r#"{{"LockIndex":0,"Key":"{key}","Flags":0,"Value":{value},"CreateIndex":1,"ModifyIndex":{index}}}"#
                )
            })
            .collect();
        Answer { status: 200, index, body: format!("[{}]", rows.join(",")) }
    }
}

/// Counts a request while its answer is pending.
struct Open {
    inner: Arc<Inner>,
    slot: usize,
    answered: bool,
}

impl Open {
    fn new(inner: &Arc<Inner>, slot: usize) -> Self {
        let state = &mut *inner.lock();
        state.open[slot] += 1;
        state.most_open[slot] = state.most_open[slot].max(state.open[slot]);
        Self { inner: Arc::clone(inner), slot, answered: false }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.open[self.slot] -= 1;
        if self.slot == 0 && !self.answered {
            state.abandoned += 1;
        }
    }
}

async fn serve(Shared(inner): Shared<Arc<Inner>>, request: Request) -> Response<Body> {
    let uri = request.uri();
    let parameter = |wanted: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).next()
    };
    let index = parameter("index").and_then(|index| index.parse().ok()).unwrap_or(0);
    let wait = parameter("wait").and_then(|wait| wait.strip_suffix("ms")?.parse().ok()).unwrap_or(300_000);
    let subject = Subject::of(uri.path().trim_start_matches("/v1/kv/"), uri.query().unwrap_or_default());
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let seen = Seen { at: Instant::now(), uri: uri.to_string(), headers: headers.collect(), index };
    let scripted = {
        let mut state = inner.lock();
        state.requests.push(seen);
        state.next.pop_front()
    };
    let mut open = Open::new(&inner, usize::from(index == 0));
    let (answer, fault) = match scripted {
        Some(fault) => (inner.lock().answer(&subject), Some(fault)),
        None => blocking_answer(&inner, &subject, index, Duration::from_millis(wait)).await,
    };
    open.answered = true;
    match fault {
        Some(fault) => fault.answer(&answer).await,
        None => super::fault::honest(&answer),
    }
}

/// Consul's behaviour: answers at once if there is a newer index, else at the next change, else after the wait.
async fn blocking_answer(inner: &Inner, subject: &Subject, index: u64, wait: Duration) -> (Answer, Option<Fault>) {
    let mut changed = inner.changed.subscribe();
    // Consul adds a random part up to a sixteenth. The fake always adds the maximum: the hardest case for a deadline.
    let until = Instant::now() + wait + wait / 16;
    loop {
        {
            let mut state = inner.lock();
            let answer = state.answer(subject);
            if let Some(fault) = &state.standing {
                return (answer, Some(fault.clone()));
            }
            if index > 0
                && let Some(forced) = state.forced.take()
            {
                return (forced, None);
            }
            if index == 0 || answer.index > index || Instant::now() >= until {
                return (answer, None);
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}
