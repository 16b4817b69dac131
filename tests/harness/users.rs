//! Users of an application: requests with a cookie that says who the user is, and the side that answered.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A client with one persistent connection to a frontend on 127.0.0.1. HAProxy decides for each request.
#[derive(Debug)]
pub struct Browser {
    port: u16,
    connection: Option<http1::SendRequest<Empty<Bytes>>>,
}

/// An answer of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body: the name of the side, if the status is 200.
    pub body: String,
    /// The header `set-cookie`, if there is one.
    pub set_cookie: Option<String>,
}

impl Browser {
    /// A client of the frontend at this port.
    pub fn new(port: u16) -> Self {
        Self { port, connection: None }
    }

    /// Sends one request with this header `cookie`, if there is one. Any status is an answer.
    pub async fn get(&mut self, path: &str, cookie: Option<&str>) -> anyhow::Result<Answer> {
        // HAProxy closes an idle connection after the first answer that follows a reload.
        let usable = match self.connection.take() {
            Some(mut connection) => connection.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let connection = match usable {
            Some(connection) => connection,
            None => self.connect().await.context("cannot connect")?,
        };
        let connection = self.connection.insert(connection);
        let mut request = Request::get(path).header("host", "app.test");
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let answer = connection.send_request(request.body(Empty::new())?).await.context("no answer")?;
        let closes = header(&answer, "connection").is_some_and(|value| value == "close");
        let (status, set_cookie) = (answer.status().as_u16(), header(&answer, "set-cookie"));
        let body = answer.into_body().collect().await.context("no complete answer")?.to_bytes();
        if closes {
            self.connection = None;
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), set_cookie })
    }

    /// The side that answers a user whose cookie `uid` has this value. Fails if the status is not 200.
    pub async fn side(&mut self, path: &str, user: &str) -> anyhow::Result<String> {
        let answer = self.get(path, Some(&format!("uid={user}"))).await?;
        ensure!(answer.status == 200, "{user}: {answer:?}");
        Ok(answer.body)
    }

    /// The side of each user.
    pub async fn sides(&mut self, path: &str, users: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
        let mut sides = BTreeMap::new();
        for user in users {
            sides.insert(user.clone(), self.side(path, user).await?);
        }
        Ok(sides)
    }

    /// Closes the connection; the next request opens another one.
    pub fn close(&mut self) {
        self.connection = None;
    }

    async fn connect(&self) -> anyhow::Result<http1::SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the connection, and the connection ends with its owner.
        tokio::spawn(driver);
        Ok(connection)
    }
}

fn header<B>(answer: &Response<B>, name: &str) -> Option<String> {
    answer.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The names of `count` users, of the kinds of ids that sites have.
pub fn users(count: usize) -> Vec<String> {
    let name = |number: usize| match number % 4 {
        0 => format!("user{number}"),
        1 => number.to_string(),
        2 => format!("u{number}@example.org"),
        _ => format!("{:08x}-6d1f-4c1e-9a41-2f3b6d7c8e90", number * 2_654_435_761 % (1 << 32)),
    };
    (0..count).map(name).collect()
}
