//! As little HTTP/1.1 as a client of Consul needs: one kept connection, one request at a time, no other task between
//! the socket and who waits for it. The floor and the measuring side use it; weightd never does.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// Longer than the longest query blocks.
const DEADLINE: Duration = Duration::from_secs(70);

/// An answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The code.
    pub status: u16,
    /// `X-Consul-Index`, 0 where there is none.
    pub index: u64,
    /// The body.
    pub body: Vec<u8>,
}

/// A kept connection.
#[derive(Debug)]
pub struct Http {
    stream: BufReader<TcpStream>,
    host: String,
    head: Vec<u8>,
}

impl Http {
    /// Connects to `address`, as in `http://127.0.0.1:8500`.
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let host = address.strip_prefix("http://").unwrap_or(address).to_owned();
        let peer: SocketAddr = host.parse().with_context(|| format!("not an address with a port: {address}"))?;
        let stream = TcpStream::connect(peer).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), host, head: Vec::new() })
    }

    /// Asks for `path`.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, b"")?;
        self.answer()
    }

    /// Writes `body` to `path` and waits for the answer.
    pub fn put(&mut self, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        self.send("PUT", path, body)?;
        self.answer()
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<()> {
        self.head.clear();
        write!(self.head, "{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host)?;
        if method != "GET" {
            write!(self.head, "Content-Length: {}\r\n", body.len())?;
        }
        self.head.extend_from_slice(b"\r\n");
        self.head.extend_from_slice(body);
        self.stream.get_mut().write_all(&self.head).context("cannot send a request")
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        let (mut length, mut chunked) = (None, false);
        let line = self.line()?;
        answer.status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("not an answer of HTTP")?;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { bail!("not a header: {line:?}") };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse::<usize>()?),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "x-consul-index" => answer.index = value.parse()?,
                _ => {}
            }
        }
        if !chunked {
            let length = length.context("an answer of unknown length")?;
            self.body(&mut answer.body, length)?;
            return Ok(answer);
        }
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).context("not the size of a chunk")?;
            self.body(&mut answer.body, size)?;
            ensure!(self.line()?.is_empty(), "no end of a chunk");
            if size == 0 {
                return Ok(answer);
            }
        }
    }

    fn body(&mut self, body: &mut Vec<u8>, length: usize) -> anyhow::Result<()> {
        let from = body.len();
        body.resize(from + length, 0);
        self.stream.read_exact(&mut body[from..]).context("half an answer")
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).context("no answer")?;
        ensure!(read > 0, "the connection was closed");
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
