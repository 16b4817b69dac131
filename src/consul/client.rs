//! Consul's HTTP API, as far as it is used: the KV store.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{CONTENT_ENCODING, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};
use weightd_core::desired::Entry;

use super::{Address, Settings, TokenSource, access::Access, tls, transport::Transport, txn};
pub use super::{
    error::{ConsulError, MAX_RESPONSE},
    txn::{Committed, FailedOperation, MAX_TXN, Operation},
};
use crate::base::chain::RootCause;

/// How long a request that does not block may take. A Consul without a leader answers after 7 s.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// What a blocking query may take beyond its `wait` and Consul's jitter of `wait`/16.
const BLOCKING_SLACK: Duration = Duration::from_secs(5);

/// Asks Consul to wait for a change.
#[derive(Debug, Clone, Copy)]
pub struct Blocking {
    /// The index to wait beyond; at least 1.
    pub index: u64,
    /// How long at most. Consul adds up to a sixteenth.
    pub wait: Duration,
}

/// The answer to a read.
struct Read {
    index: u64,
    filtered: bool,
    received: Instant,
    body: Option<Vec<u8>>,
}

/// All keys below a prefix, as one answer had them.
#[derive(Debug)]
pub struct Listing {
    /// `X-Consul-Index`.
    pub index: u64,
    /// `X-Consul-Results-Filtered-By-ACLs`: keys may be missing.
    pub filtered: bool,
    /// When the head of the answer arrived.
    pub received: Instant,
    /// None where the prefix has no key: an empty body would be something else.
    body: Option<Vec<u8>>,
}

/// The names below a prefix, up to the next slash.
#[derive(Debug)]
pub struct Children {
    /// `X-Consul-Index` of everything below the prefix.
    pub index: u64,
    /// `X-Consul-Results-Filtered-By-ACLs`: names may be missing.
    pub filtered: bool,
    /// When the head of the answer arrived.
    pub received: Instant,
    body: Option<Vec<u8>>,
}

impl Children {
    /// The full keys; one that ends in a slash has keys below it.
    ///
    /// # Errors
    /// [`ConsulError::Json`].
    pub fn keys(&self) -> Result<Vec<String>, ConsulError> {
        self.body.as_ref().map_or(Ok(Vec::new()), |body| serde_json::from_slice(body).map_err(ConsulError::Json))
    }
}

impl Listing {
    /// The size of the answer in bytes.
    pub fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::len)
    }

    /// The keys; none where the prefix has none.
    ///
    /// # Errors
    /// [`ConsulError::Json`].
    pub fn entries(&self) -> Result<Vec<Entry<'_>>, ConsulError> {
        self.decode()
    }

    /// The keys as another type.
    pub(super) fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<Vec<T>, ConsulError> {
        self.body.as_ref().map_or(Ok(Vec::new()), |body| serde_json::from_slice(body).map_err(ConsulError::Json))
    }
}

/// A Consul agent.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    own: Mutex<Own>,
    replaced: watch::Sender<()>,
}

/// What is read from files, and may be read again while requests are under way.
#[derive(Debug)]
struct Own {
    /// Who this program is, and whom it trusts.
    access: Access,
    /// What connects; none before the first request, and after a failed handshake.
    transport: Option<Arc<Transport>>,
    /// The ACL token, once it was read.
    token: Option<CachedToken>,
}

/// The ACL token as last read; none where none is configured.
#[derive(Debug, Clone)]
struct CachedToken(Option<SecretString>);

impl CachedToken {
    fn read(access: &Access) -> Result<Self, ConsulError> {
        access.token.read().map(Self).map_err(ConsulError::Token)
    }
}

impl Own {
    fn transport(&mut self, address: &Address) -> Result<Arc<Transport>, ConsulError> {
        let transport = match self.transport.take() {
            Some(transport) => transport,
            None => Arc::new(Transport::new(address, &self.access.tls)?),
        };
        Ok(Arc::clone(self.transport.insert(transport)))
    }

    fn token(&mut self) -> Result<CachedToken, ConsulError> {
        let token = match self.token.take() {
            Some(token) => token,
            None => CachedToken::read(&self.access)?,
        };
        Ok(self.token.insert(token).clone())
    }
}

impl Client {
    /// A client of the agent that `settings` name. Connects, and reads the token and certificates, only when
    /// used: whoever writes those files may be later.
    ///
    /// # Errors
    /// [`ConsulError::Setup`].
    pub fn new(settings: Settings) -> Result<Self, ConsulError> {
        let access = Access::of(&settings);
        // Without TLS nothing is read for it, and what does not work now never will.
        let transport = if settings.address.is_tls() {
            None
        } else {
            Some(Arc::new(Transport::new(&settings.address, &access.tls)?))
        };
        Ok(Self {
            settings,
            own: Mutex::new(Own { access, transport, token: None }),
            replaced: watch::Sender::default(),
        })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.settings.address
    }

    /// Whether a token is configured; else Consul takes this client for anybody.
    pub fn has_token(&self) -> bool {
        self.lock().access.token != TokenSource::None
    }

    /// Does what may mend the cause of `error` before the next request: reads the token again after a denial, and
    /// the certificates after a failed handshake. Requests under way go on.
    ///
    /// # Errors
    /// [`ConsulError::Token`]; the token read before stays.
    pub fn refresh(&self, error: &ConsulError) -> Result<(), ConsulError> {
        let mut own = self.lock();
        match error {
            ConsulError::Denied(_) => {
                own.token = Some(CachedToken::read(&own.access)?);
            }
            ConsulError::Tls { .. } => own.transport = None,
            _ => {}
        }
        Ok(())
    }

    /// Takes another token, password and certificates, or reads the same files anew. Requests under way go on.
    ///
    /// # Errors
    /// [`ConsulError::Token`] and [`ConsulError::Tls`]; then nothing is changed.
    pub fn replace(&self, access: Access) -> Result<(), ConsulError> {
        let token = CachedToken::read(&access)?;
        let mut own = self.lock();
        if self.settings.address.is_tls() {
            own.transport = Some(Arc::new(Transport::new(&self.settings.address, &access.tls)?));
        }
        (own.access, own.token) = (access, Some(token));
        drop(own);
        self.replaced.send_replace(());
        Ok(())
    }

    /// Tells of each [`Client::replace`] from now on: what was answered before may differ for who this is now.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        // Nothing can panic while it is held, and each part is whole or not there.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists all keys below `prefix`; with `blocking`, once they differ or its time is over.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn list(&self, prefix: &str, blocking: Option<Blocking>) -> Result<Listing, ConsulError> {
        let Read { index, filtered, received, body } = self.read(prefix, &["recurse"], blocking, MAX_RESPONSE).await?;
        Ok(Listing { index, filtered, received, body })
    }

    /// Lists all keys below `prefix`, unless the answer has more than `max` bytes.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn list_at_most(&self, prefix: &str, max: usize) -> Result<Listing, ConsulError> {
        let Read { index, filtered, received, body } = self.read(prefix, &["recurse"], None, max).await?;
        Ok(Listing { index, filtered, received, body })
    }

    /// The configured datacenter; none is the agent's own.
    pub(super) fn configured_datacenter(&self) -> Option<&str> {
        self.settings.datacenter.as_deref()
    }

    /// Reads `key` alone, unless the answer has more than `max` bytes.
    ///
    /// # Errors
    /// [`ConsulError`]. A key that the token may not read is [`ConsulError::Denied`].
    pub async fn get_at_most(&self, key: &str, max: usize) -> Result<Listing, ConsulError> {
        let Read { index, filtered, received, body } = self.read(key, &[], None, max).await?;
        Ok(Listing { index, filtered, received, body })
    }

    /// Lists the names below `prefix` up to the next slash; with `blocking`, once anything below the prefix changed or its
    /// time is over.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn children(&self, prefix: &str, blocking: Option<Blocking>) -> Result<Children, ConsulError> {
        let Read { index, filtered, received, body } =
            self.read(prefix, &["keys", "separator=/"], blocking, MAX_RESPONSE).await?;
        Ok(Children { index, filtered, received, body })
    }

    /// A read of the KV store.
    async fn read(
        &self,
        key: &str,
        flags: &[&'static str],
        blocking: Option<Blocking>,
        max: usize,
    ) -> Result<Read, ConsulError> {
        let mut parameters: Vec<_> = flags
            .iter()
            .map(|flag| flag.split_once('=').map_or((*flag, String::new()), |(name, value)| (name, value.to_owned())))
            .collect();
        let mut deadline = DEADLINE;
        if let Some(Blocking { index, wait }) = blocking {
            parameters.push(("index", index.to_string()));
            parameters.push(("wait", format!("{}ms", wait.as_millis())));
            deadline = wait + wait / 16 + BLOCKING_SLACK;
        }
        let request = self.request(Method::GET, &format!("/v1/kv/{key}"), &parameters)?.timeout(deadline);
        let response = self.send(request).await?;
        let received = Instant::now();
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let leader = header("x-consul-knownleader");
        let filtered = header("x-consul-results-filtered-by-acls").is_some_and(|v| v == "true");
        let index = header("x-consul-index").and_then(|v| v.parse::<u64>().ok()).filter(|index| *index > 0);
        let body = self.body(response, max).await?;
        match status {
            StatusCode::OK | StatusCode::NOT_FOUND => {}
            other => return Err(refused(other, &body)),
        }
        // A 404 without an index comes from some other server: Consul's says from where to wait for the first key.
        let index = index.ok_or(ConsulError::NoIndex)?;
        if leader.is_some_and(|v| v == "false") {
            return Err(ConsulError::NoLeader);
        }
        let body = (status == StatusCode::OK).then_some(body);
        Ok(Read { index, filtered, received, body })
    }

    /// Fails with [`ConsulError::Denied`] if the token may not read `key`. A listing does not tell: it leaves
    /// out what the token may not see.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn may_read(&self, key: &str) -> Result<(), ConsulError> {
        let request = self.request(Method::GET, &format!("/v1/kv/{key}"), &[])?.timeout(DEADLINE);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
            other => Err(refused(other, &self.body(response, MAX_RESPONSE).await?)),
        }
    }

    /// Sets `key` if its `ModifyIndex` still is `index`, 0 meaning that it must not exist. False if
    /// somebody else was faster.
    ///
    /// # Errors
    /// [`ConsulError`]. A write with a lost or unclear answer may have happened.
    pub async fn put(&self, key: &str, value: Vec<u8>, index: u64) -> Result<bool, ConsulError> {
        let request = self.request(Method::PUT, &format!("/v1/kv/{key}"), &[("cas", index.to_string())])?.body(value);
        let (status, body) = self.answer(request).await?;
        match (status, body.trim_ascii()) {
            (StatusCode::OK, b"true") => Ok(true),
            (StatusCode::OK, b"false") => Ok(false),
            (StatusCode::OK, other) => Err(ConsulError::Unclear(start_of(other))),
            (other, _) => Err(refused(other, &body)),
        }
    }

    /// Carries out all of `operations`, at most [`MAX_TXN`] of them, or none.
    ///
    /// # Errors
    /// [`ConsulError`]. A write with a lost or unclear answer may have happened.
    pub async fn transact(&self, operations: &[Operation]) -> Result<Committed, ConsulError> {
        let (status, body) = self.transaction(operations).await?;
        match status {
            StatusCode::OK if txn::is_result(&body, operations.len()) => Ok(Committed::Yes),
            StatusCode::OK => Err(ConsulError::Unclear(start_of(&body))),
            StatusCode::CONFLICT => Ok(Committed::No(txn::failed(&body)?)),
            other => Err(refused(other, &body)),
        }
    }

    /// What Consul answers to a transaction of these.
    pub(super) async fn transaction(&self, operations: &[Operation]) -> Result<(StatusCode, Vec<u8>), ConsulError> {
        let body = txn::body(operations)?;
        self.answer(self.request(Method::PUT, "/v1/txn", &[])?.body(body)).await
    }

    /// What Consul answers to a question for `path`.
    pub(super) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<(StatusCode, Vec<u8>), ConsulError> {
        self.answer(self.request(Method::GET, path, parameters)?).await
    }

    /// The whole answer to a request that does not block.
    pub(super) async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), ConsulError> {
        let response = self.send(request.timeout(DEADLINE)).await?;
        let status = response.status();
        Ok((status, self.body(response, MAX_RESPONSE).await?))
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<RequestBuilder, ConsulError> {
        let (transport, token, auth) = {
            let mut own = self.lock();
            (own.transport(&self.settings.address)?, own.token()?, own.access.auth.clone())
        };
        let text = format!("{}{path}", transport.base);
        // Both parts were checked when they were configured; what does not parse all the same is refused.
        let mut url = Url::parse(&text)
            .map_err(|error| ConsulError::Status(StatusCode::BAD_REQUEST, format!("{text}: {error}")))?;
        {
            let mut query = url.query_pairs_mut();
            for (name, value) in parameters {
                if value.is_empty() {
                    query.append_key_only(name);
                } else {
                    query.append_pair(name, value);
                }
            }
            let scope = [
                ("dc", &self.settings.datacenter),
                ("ns", &self.settings.namespace),
                ("partition", &self.settings.partition),
            ];
            for (name, value) in scope {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let mut request = transport.http.request(method, url);
        if let CachedToken(Some(token)) = token {
            // The token is checked to be visible ASCII when it is read.
            if let Ok(mut value) = HeaderValue::from_str(token.expose_secret()) {
                value.set_sensitive(true);
                request = request.header("X-Consul-Token", value);
            }
        }
        if let Some(auth) = &auth {
            let auth = auth.expose_secret();
            let (user, password) = auth.split_once(':').map_or((auth, None), |(user, pass)| (user, Some(pass)));
            request = request.basic_auth(user, password);
        }
        Ok(request)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ConsulError> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        if let Some(transport) = &self.lock().transport {
            transport.handshake.answered();
        }
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(encoding) = header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(ConsulError::Encoded(encoding.to_owned()));
        }
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
            let text = start_of(&self.body(response, MAX_RESPONSE).await?);
            return Err(ConsulError::RateLimited { text, retry_after });
        }
        Ok(response)
    }

    /// Reads a body piece by piece, so that one that is too large is given up before it is in memory.
    async fn body(&self, mut response: Response, max: usize) -> Result<Vec<u8>, ConsulError> {
        let announced = response.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        if announced > max {
            return Err(ConsulError::TooLarge(max));
        }
        let mut body = Vec::with_capacity(announced);
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > max {
                return Err(ConsulError::TooLarge(max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failed(&self, error: reqwest::Error) -> ConsulError {
        let address = self.settings.address.clone();
        let tls = self.lock().transport.as_ref().and_then(|transport| tls::explain(&error, &transport.handshake));
        if let Some(source) = tls {
            ConsulError::Tls { address, source }
        } else if error.is_timeout() && !error.is_connect() {
            ConsulError::Timeout(address)
        } else if was_closed(&error) {
            ConsulError::Closed(address)
        } else {
            // The URL says nothing that the address does not.
            ConsulError::Unreachable { address, source: RootCause(error.without_url()) }
        }
    }
}

/// Whether the connection was closed before any answer came.
fn was_closed(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        cause = current.source();
    }
    false
}

/// The start of a body, for a message.
pub(super) fn start_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(1024)]).trim().to_owned()
}

pub(super) fn refused(status: StatusCode, body: &[u8]) -> ConsulError {
    let text = start_of(body);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ConsulError::Denied(text),
        _ if status.is_server_error() => ConsulError::Unavailable(status, text),
        _ => ConsulError::Status(status, text),
    }
}
