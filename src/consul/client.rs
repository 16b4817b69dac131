//! The client of Consul's HTTP API for the KV store.

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
use weightd_core::{desired::Entry, model::Timestamp};

use super::{
    Address, Settings, TokenSource,
    access::Access,
    error::{error_of_status, start_of, was_closed},
    server_time::ServerTime,
    tls,
    transport::Transport,
    txn,
};
pub use super::{
    error::{ConsulError, MAX_RESPONSE},
    txn::{Committed, FailedOperation, MAX_TXN, Operation},
};
use crate::base::chain::RootCause;

/// Deadline of a non-blocking request. A Consul without a leader answers after 7 s.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Time that a blocking query may take in addition to `wait` and Consul's jitter of `wait`/16.
const BLOCKING_SLACK: Duration = Duration::from_secs(5);

/// The parameters of a blocking query.
#[derive(Debug, Clone, Copy)]
pub struct Blocking {
    /// Consul answers when its index is greater than this one; at least 1.
    pub index: u64,
    /// The longest wait. Consul adds up to a sixteenth.
    pub wait: Duration,
}

/// The answer to a read of the KV store. The body is none if there is no key.
struct Read {
    index: u64,
    filtered: bool,
    received: Instant,
    body: Option<Vec<u8>>,
}

/// The keys below a prefix, from one answer.
#[derive(Debug)]
pub struct Listing {
    /// `X-Consul-Index`.
    pub index: u64,
    /// `X-Consul-Results-Filtered-By-ACLs`: keys may be missing.
    pub filtered: bool,
    /// When the headers of the answer arrived.
    pub received: Instant,
    /// None if the prefix has no key (404).
    body: Option<Vec<u8>>,
}

/// The keys below a prefix, cut after the next slash.
#[derive(Debug)]
pub struct Children {
    /// `X-Consul-Index` of everything below the prefix.
    pub index: u64,
    /// `X-Consul-Results-Filtered-By-ACLs`: names may be missing.
    pub filtered: bool,
    /// When the headers of the answer arrived.
    pub received: Instant,
    body: Option<Vec<u8>>,
}

impl Children {
    /// Returns the full keys. A key that ends in a slash stands for all keys below it.
    ///
    /// # Errors
    /// [`ConsulError::Json`].
    pub fn keys(&self) -> Result<Vec<String>, ConsulError> {
        self.body.as_ref().map_or(Ok(Vec::new()), |body| serde_json::from_slice(body).map_err(ConsulError::Json))
    }
}

impl Listing {
    /// Returns the size of the body in bytes.
    pub fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::len)
    }

    /// Returns the keys; empty if the prefix has no key.
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

/// A client of one Consul agent.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    state: Mutex<ClientState>,
    replaced: watch::Sender<()>,
    server_time: ServerTime,
}

/// The data that come from files. They can be read again while requests are in progress.
#[derive(Debug)]
struct ClientState {
    /// The credentials and certificates.
    access: Access,
    /// The HTTP client; none before the first request and after a failed handshake.
    transport: Option<Arc<Transport>>,
    /// The ACL token; none until it is read.
    token: Option<CachedToken>,
}

/// The ACL token of the last read; none if no token is configured.
#[derive(Debug, Clone)]
struct CachedToken(Option<SecretString>);

impl CachedToken {
    fn read(access: &Access) -> Result<Self, ConsulError> {
        access.token.read().map(Self).map_err(ConsulError::Token)
    }
}

impl ClientState {
    fn transport(&mut self, settings: &Settings) -> Result<Arc<Transport>, ConsulError> {
        let transport = match self.transport.take() {
            Some(transport) => transport,
            None => Arc::new(Transport::new(settings, &self.access.tls)?),
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
    /// Creates a client of the agent in `settings`. It connects and reads the token and the certificates only at the
    /// first request, because another program may write those files after this one starts.
    ///
    /// # Errors
    /// [`ConsulError::Setup`].
    pub fn new(settings: Settings) -> Result<Self, ConsulError> {
        let access = Access::of(&settings);
        // Without TLS the transport needs no file, so an error now is permanent.
        let transport =
            if settings.address.is_tls() { None } else { Some(Arc::new(Transport::new(&settings, &access.tls)?)) };
        Ok(Self {
            settings,
            state: Mutex::new(ClientState { access, transport, token: None }),
            replaced: watch::Sender::default(),
            server_time: ServerTime::default(),
        })
    }

    /// Returns the address of the agent.
    pub fn address(&self) -> &Address {
        &self.settings.address
    }

    /// Whether a token is configured. Without one, Consul uses its anonymous token.
    pub fn has_token(&self) -> bool {
        self.lock().access.token != TokenSource::None
    }

    /// Prepares the next request after `error`: reads the token again after a denial, and the certificates after a
    /// failed handshake. Does not affect requests in progress.
    ///
    /// # Errors
    /// [`ConsulError::Token`]. The previous token stays in use.
    pub fn refresh(&self, error: &ConsulError) -> Result<(), ConsulError> {
        let mut state = self.lock();
        match error {
            ConsulError::Denied(_) => {
                state.token = Some(CachedToken::read(&state.access)?);
            }
            ConsulError::Tls { .. } => state.transport = None,
            _ => {}
        }
        Ok(())
    }

    /// Replaces token, password and certificates, and reads their files again. Does not affect requests in progress.
    ///
    /// # Errors
    /// [`ConsulError::Token`] and [`ConsulError::Tls`]. The previous access stays in use.
    pub fn replace(&self, access: Access) -> Result<(), ConsulError> {
        let token = CachedToken::read(&access)?;
        let mut state = self.lock();
        if self.settings.address.is_tls() {
            state.transport = Some(Arc::new(Transport::new(&self.settings, &access.tls)?));
        }
        (state.access, state.token) = (access, Some(token));
        drop(state);
        self.replaced.send_replace(());
        Ok(())
    }

    /// Subscribes to each [`Client::replace`] from now on. With a new token, Consul may answer differently.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// Returns Consul's own time, to the second; none before its first answer.
    pub fn time(&self) -> Option<Timestamp> {
        self.server_time.now()
    }

    fn lock(&self) -> MutexGuard<'_, ClientState> {
        // A poisoned state is usable: each field is complete or none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists all keys below `prefix`. With `blocking`, Consul answers after a change or when the wait is over.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn list(&self, prefix: &str, blocking: Option<Blocking>) -> Result<Listing, ConsulError> {
        let Read { index, filtered, received, body } = self.read(prefix, &["recurse"], blocking, MAX_RESPONSE).await?;
        Ok(Listing { index, filtered, received, body })
    }

    /// Lists all keys below `prefix`.
    ///
    /// # Errors
    /// [`ConsulError`]; [`ConsulError::TooLarge`] if the answer is larger than `max` bytes.
    pub async fn list_at_most(&self, prefix: &str, max: usize) -> Result<Listing, ConsulError> {
        let Read { index, filtered, received, body } = self.read(prefix, &["recurse"], None, max).await?;
        Ok(Listing { index, filtered, received, body })
    }

    /// Returns the configured datacenter; none means the agent's own.
    pub(super) fn configured_datacenter(&self) -> Option<&str> {
        self.settings.datacenter.as_deref()
    }

    /// Reads only `key`.
    ///
    /// # Errors
    /// [`ConsulError`]; [`ConsulError::TooLarge`] if the answer is larger than `max` bytes, and [`ConsulError::Denied`]
    /// if the token may not read the key.
    pub async fn get_at_most(&self, key: &str, max: usize) -> Result<Listing, ConsulError> {
        let Read { index, filtered, received, body } = self.read(key, &[], None, max).await?;
        Ok(Listing { index, filtered, received, body })
    }

    /// Lists the keys below `prefix`, cut after the next slash. With `blocking`, Consul answers after any change below
    /// the prefix or when the wait is over.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn children(&self, prefix: &str, blocking: Option<Blocking>) -> Result<Children, ConsulError> {
        let Read { index, filtered, received, body } =
            self.read(prefix, &["keys", "separator=/"], blocking, MAX_RESPONSE).await?;
        Ok(Children { index, filtered, received, body })
    }

    /// Reads the KV store.
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
            other => return Err(error_of_status(other, &body)),
        }
        // A 404 of Consul has an index, to wait for the first key. Without an index another server answered.
        let index = index.ok_or(ConsulError::NoIndex)?;
        if leader.is_some_and(|v| v == "false") {
            return Err(ConsulError::NoLeader);
        }
        let body = (status == StatusCode::OK).then_some(body);
        Ok(Read { index, filtered, received, body })
    }

    /// Checks that the token may read `key`. A listing cannot show this, because it silently omits hidden keys.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn may_read(&self, key: &str) -> Result<(), ConsulError> {
        let request = self.request(Method::GET, &format!("/v1/kv/{key}"), &[])?.timeout(DEADLINE);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
            other => Err(error_of_status(other, &self.body(response, MAX_RESPONSE).await?)),
        }
    }

    /// Sets `key` if its `ModifyIndex` still is `index`; 0 means that the key must not exist. Returns false if another
    /// writer changed the key first.
    ///
    /// # Errors
    /// [`ConsulError`]. If the answer is lost or unclear, Consul may have done the write.
    pub async fn put(&self, key: &str, value: Vec<u8>, index: u64) -> Result<bool, ConsulError> {
        self.put_if(key, value, ("cas", index.to_string())).await
    }

    /// Writes `key` under a condition of Consul's. Returns false if the condition is not true.
    pub(super) async fn put_if(&self, key: &str, value: Vec<u8>, when: (&str, String)) -> Result<bool, ConsulError> {
        let request = self.request(Method::PUT, &format!("/v1/kv/{key}"), &[when])?.body(value);
        let (status, body) = self.answer(request).await?;
        match (status, body.trim_ascii()) {
            (StatusCode::OK, b"true") => Ok(true),
            (StatusCode::OK, b"false") => Ok(false),
            (StatusCode::OK, other) => Err(ConsulError::Unclear(start_of(other))),
            (other, _) => Err(error_of_status(other, &body)),
        }
    }

    /// Runs `operations`, at most [`MAX_TXN`], in one transaction.
    ///
    /// # Errors
    /// [`ConsulError`]. If the answer is lost or unclear, Consul may have done the writes.
    pub async fn transact(&self, operations: &[Operation]) -> Result<Committed, ConsulError> {
        let (status, body) = self.transaction(operations).await?;
        match status {
            StatusCode::OK => match txn::written(&body, operations.len()) {
                Some(index) => Ok(Committed::Yes(index)),
                None => Err(ConsulError::Unclear(start_of(&body))),
            },
            StatusCode::CONFLICT => Ok(Committed::No(txn::failed(&body)?)),
            other => Err(error_of_status(other, &body)),
        }
    }

    /// Sends a transaction and returns status and body.
    pub(super) async fn transaction(&self, operations: &[Operation]) -> Result<(StatusCode, Vec<u8>), ConsulError> {
        let body = txn::body(operations)?;
        self.answer(self.request(Method::PUT, "/v1/txn", &[])?.body(body)).await
    }

    /// Sends a GET request for `path` and returns status and body.
    pub(super) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<(StatusCode, Vec<u8>), ConsulError> {
        self.answer(self.request(Method::GET, path, parameters)?).await
    }

    /// Sends a non-blocking request and returns status and body.
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
            let mut state = self.lock();
            (state.transport(&self.settings)?, state.token()?, state.access.auth.clone())
        };
        let text = format!("{}{path}", transport.base);
        // The configuration validates both parts, so this should not fail.
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
            // A token is visible ASCII: `TokenSource::read` checks that.
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
        // That of this request: a failure of another one may replace the transport meanwhile.
        let handshake = self.handshake();
        let response = request.send().await.map_err(|error| self.failed(error, &handshake))?;
        handshake.answered();
        self.server_time.take(response.headers());
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

    /// Reads a body in chunks. Stops at more than `max` bytes, so that a large body is never completely in memory.
    async fn body(&self, mut response: Response, max: usize) -> Result<Vec<u8>, ConsulError> {
        let announced = response.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        if announced > max {
            return Err(ConsulError::TooLarge(max));
        }
        let mut body = Vec::with_capacity(announced);
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error, &self.handshake()))? {
            if body.len() + chunk.len() > max {
                return Err(ConsulError::TooLarge(max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn handshake(&self) -> Arc<tls::Handshake> {
        self.lock().transport.as_ref().map(|transport| Arc::clone(&transport.handshake)).unwrap_or_default()
    }

    fn failed(&self, error: reqwest::Error, handshake: &tls::Handshake) -> ConsulError {
        let address = self.settings.address.clone();
        if let Some(source) = tls::explain(&error, handshake) {
            ConsulError::Tls { address, source }
        } else if error.is_timeout() && !error.is_connect() {
            ConsulError::Timeout(address)
        } else if was_closed(&error) {
            ConsulError::Closed(address)
        } else {
            // The address in the error makes the URL redundant.
            ConsulError::Unreachable { address, source: RootCause(error.without_url()) }
        }
    }
}
