//! Faults of Consul's answers.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::response::Builder,
    response::Response,
};
use hyper::body::Frame;
use tokio::time::{Interval, interval};

use super::consul::Answer;

type Make = Arc<dyn Fn(&Answer) -> Response<Body> + Send + Sync>;

/// Converts the correct answer into the faulty one.
#[derive(Clone)]
pub struct Fault {
    name: &'static str,
    make: Option<Make>,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn fault(name: &'static str, make: impl Fn(&Answer) -> Response<Body> + Send + Sync + 'static) -> Fault {
    Fault { name, make: Some(Arc::new(make)) }
}

/// Consul's correct answer.
pub fn honest(answer: &Answer) -> Response<Body> {
    finish(head(answer, Some(&answer.index.to_string())), Body::from(answer.body.clone()))
}

fn head(answer: &Answer, index: Option<&str>) -> Builder {
    let mut head = Response::builder()
        .status(answer.status)
        .header("content-type", "application/json")
        .header("x-consul-knownleader", "true")
        .header("x-consul-lastcontact", "0");
    if let Some(index) = index {
        head = head.header("x-consul-index", index);
    }
    head
}

fn finish(head: Builder, body: Body) -> Response<Body> {
    head.body(body).expect("the parts of an answer are well-formed")
}

impl Fault {
    /// The name of the fault, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Applies the fault to the answer.
    pub async fn answer(&self, answer: &Answer) -> Response<Body> {
        match &self.make {
            Some(make) => make(answer),
            None => std::future::pending().await,
        }
    }

    /// No fault: the correct answer, but immediately, even for a blocking query.
    pub fn at_once() -> Self {
        fault("at once", honest)
    }

    /// The index has this text, or is missing.
    pub fn index(index: Option<&'static str>) -> Self {
        fault(index.unwrap_or("no index"), move |a| finish(head(a, index), Body::from(a.body.clone())))
    }

    /// This answer in place of the correct one.
    pub fn instead(other: Answer) -> Self {
        fault("another answer", move |_| honest(&other))
    }

    /// `X-Consul-KnownLeader: false`.
    pub fn no_leader() -> Self {
        fault("no leader", |a| {
            let mut answer = honest(a);
            answer.headers_mut().insert("x-consul-knownleader", axum::http::HeaderValue::from_static("false"));
            answer
        })
    }

    /// This status with this text, without Consul's headers.
    pub fn status(name: &'static str, status: u16, text: &'static str) -> Self {
        fault(name, move |_| finish(Response::builder().status(status), Body::from(text)))
    }

    /// Status 429 with this number of seconds to wait.
    pub fn rate_limited(seconds: u64) -> Self {
        fault("rate limited", move |_| {
            let head = Response::builder().status(429).header("retry-after", seconds.to_string());
            finish(head, Body::from("Your IP is issuing too many concurrent connections"))
        })
    }

    /// A compressed body, which the client did not request.
    pub fn encoded() -> Self {
        fault("gzip", |a| {
            let head = head(a, Some(&a.index.to_string())).header("content-encoding", "gzip");
            finish(head, Body::from(vec![0x1f, 0x8b, 8, 0]))
        })
    }

    /// Status 301 with another address.
    pub fn redirect(to: String) -> Self {
        fault("redirect", move |_| {
            finish(Response::builder().status(301).header("location", to.as_str()), Body::empty())
        })
    }

    /// This body with Consul's headers.
    pub fn body(name: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        fault(name, move |a| {
            finish(head(&Answer { status: 200, ..a.clone() }, Some(&a.index.to_string())), Body::from(body.clone()))
        })
    }

    /// Half of the body, then the connection closes.
    pub fn truncated() -> Self {
        fault("truncated", |a| {
            let head = head(a, Some(&a.index.to_string())).header("content-length", a.body.len());
            let half = Bytes::copy_from_slice(&a.body.as_bytes()[..a.body.len() / 2]);
            finish(head, Body::new(Pieces { left: [half].into(), every: None, ends: false, idle: 1 }))
        })
    }

    /// The connection closes without an answer.
    pub fn closed() -> Self {
        fault("closed", |a| {
            finish(head(a, None), Body::new(Pieces { left: VecDeque::new(), every: None, ends: false, idle: 0 }))
        })
    }

    /// The correct answer, then the connection closes.
    pub fn last_on_connection() -> Self {
        fault("last on its connection", |a| {
            let mut answer = honest(a);
            answer.headers_mut().insert("connection", axum::http::HeaderValue::from_static("close"));
            answer
        })
    }

    /// A body that is larger than a client should accept, with or without a length.
    pub fn flood(size: usize, announced: bool) -> Self {
        fault(if announced { "flood" } else { "flood in chunks" }, move |a| {
            let head = head(a, Some(&a.index.to_string()));
            if announced {
                return finish(head, Body::from(vec![b' '; size]));
            }
            let piece = Bytes::from(vec![b' '; 64 * 1024]);
            let pieces = std::iter::repeat_n(piece, size / (64 * 1024) + 1).collect();
            finish(head, Body::new(Pieces { left: pieces, every: None, ends: true, idle: 0 }))
        })
    }

    /// A body at 1 KB per second.
    pub fn slow() -> Self {
        fault("slow", |a| {
            let pieces = std::iter::repeat_n(Bytes::from(vec![b' '; 1024]), 100_000).collect();
            let every = Some(interval(Duration::from_secs(1)));
            finish(head(a, Some(&a.index.to_string())), Body::new(Pieces { left: pieces, every, ends: true, idle: 0 }))
        })
    }

    /// No answer.
    pub fn hang() -> Self {
        Self { name: "hang", make: None }
    }
}

/// A body in pieces.
struct Pieces {
    left: VecDeque<Bytes>,
    /// The time between two pieces; none for immediately.
    every: Option<Interval>,
    /// Whether the body ends correctly.
    ends: bool,
    /// The number of idle rounds before a bad end, so that the earlier pieces are sent.
    idle: u32,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(every) = &mut self.every {
            ready!(every.poll_tick(cx));
        }
        if let Some(piece) = self.left.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.ends {
            return Poll::Ready(None);
        }
        if self.idle > 0 {
            self.idle -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("the end, too early"))))
    }
}
