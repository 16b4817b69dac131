//! The client of one source.

use std::time::Duration;

use reqwest::{RequestBuilder, Url, header};
use secrecy::ExposeSecret as _;
use tokio::{sync::Semaphore, time};
use weightd_core::rollout::source::{NoData, answer};

use crate::rolloutd::{
    config::{Credentials, SourceConfig, check_basic},
    http::{self, Lost},
};

/// Queries of one source at the same time.
const AT_ONCE: usize = 4;
/// Maximum size of an answer, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// The pause before the only repetition of a lost query.
const PAUSE: Duration = Duration::from_secs(1);

/// A client of the HTTP API of Prometheus.
#[derive(Debug)]
pub(super) struct Client {
    http: Result<reqwest::Client, String>,
    /// The URL of the API of queries.
    url: String,
    credentials: Credentials,
    timeout: Duration,
    /// The interval at which the source scrapes, in whole seconds.
    pub(super) scrape_interval: u64,
    free: Semaphore,
}

impl Client {
    /// Creates a client. If its CA cannot be read, each query says so.
    pub(super) fn new(source: &SourceConfig) -> Self {
        let scrape_interval = source.scrape_interval.as_secs() + u64::from(source.scrape_interval.subsec_nanos() > 0);
        Self {
            http: http::client(source.url.starts_with("https://"), source.ca_file.as_deref()),
            url: format!("{}/api/v1/query", source.url),
            credentials: source.credentials.clone(),
            timeout: source.timeout,
            scrape_interval,
            free: Semaphore::new(AT_ONCE),
        }
    }

    /// What prevents any query; none if nothing does. Uses no network.
    pub(super) fn problem(&self) -> Option<String> {
        self.request(String::new()).err()
    }

    /// The one number that the query gives at the unix time `at`. A lost query is repeated once.
    ///
    /// # Errors
    /// [`NoData`] for everything that is not one number.
    pub(super) async fn number(&self, query: &str, at: u64) -> Result<f64, NoData> {
        match self.once(query, at).await {
            Err(error) if error.is_passing() => {
                time::sleep(PAUSE).await;
                self.once(query, at).await
            }
            answer => answer,
        }
    }

    async fn once(&self, query: &str, at: u64) -> Result<f64, NoData> {
        let _free = self.free.acquire().await.map_err(|closed| NoData::Setup(closed.to_string()))?;
        let request = self.request(self.form(query, at)).map_err(NoData::Setup)?;
        let answer = async {
            let response = request.send().await.map_err(http::lost)?;
            let status = response.status().as_u16();
            Ok::<_, Lost>((status, http::body(response, MAX_BODY).await?))
        };
        // The deadline is that of the whole answer: a slow body must not be endless.
        let (status, body) = match time::timeout(self.timeout, answer).await {
            Err(_) | Ok(Err(Lost::Slow)) => return Err(NoData::Slow),
            Ok(Err(Lost::Tls(what))) => return Err(NoData::Tls(what)),
            Ok(Err(Lost::Unreachable(what))) => return Err(NoData::Unreachable(what)),
            Ok(Ok(answer)) => answer,
        };
        answer::number(status, &body.ok_or(NoData::TooLarge)?, at)
    }

    /// The body of a query. `VictoriaMetrics` answers samples that are 30 s old and gives them the time of the query, unless
    /// `latency_offset` says otherwise; Prometheus ignores that.
    fn form(&self, query: &str, at: u64) -> String {
        let (at, timeout) = (at.to_string(), format!("{}ms", self.timeout.as_millis()));
        let pairs = [("query", query), ("time", &at), ("latency_offset", "1s"), ("timeout", &timeout)];
        let form = Url::parse_with_params("http://form/", pairs);
        form.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
    }

    /// A request, with credentials that are read now.
    fn request(&self, form: String) -> Result<RequestBuilder, String> {
        let http = self.http.as_ref().map_err(String::clone)?;
        let request = http.post(&self.url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        match &self.credentials {
            Credentials::None => Ok(request),
            Credentials::Bearer(token) => http::with_token(request, token),
            Credentials::Basic(secret) => {
                let secret = secret.read().map_err(|error| error.to_string())?;
                check_basic(secret.expose_secret())?;
                let (user, password) = secret.expose_secret().split_once(':').unwrap_or_default();
                Ok(request.basic_auth(user, Some(password)))
            }
        }
    }
}
