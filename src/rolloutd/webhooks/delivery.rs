//! Delivers the messages of one webhook, in order.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use reqwest::{RequestBuilder, header};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Counted, Message, count, http};
use crate::{
    base::retry::Backoff,
    rolloutd::{
        config::{WebhookConfig, check_webhook_url},
        http::Lost,
    },
};

/// How long the last attempts may take after the stop.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);

/// How often, and how long, a message is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The shortest pause between two attempts.
    pub(super) least: Duration,
    /// The longest pause.
    pub(super) greatest: Duration,
    /// A message that is older is dropped.
    pub(super) give_up: Duration,
}

/// The task of one webhook.
pub(super) struct Worker {
    configs: watch::Receiver<WebhookConfig>,
    messages: mpsc::Receiver<Arc<Message>>,
    counted: Counted,
    pace: Pace,
    /// The client, and whether it is the one for encrypted connections. None: it must be created.
    client: Option<(bool, reqwest::Client)>,
}

/// An attempt failed.
struct Failed {
    /// A sentence without the URL.
    what: String,
    /// Whether another attempt may succeed.
    retry: bool,
}

/// How the work on a message ended.
#[derive(PartialEq, Eq)]
enum End {
    /// It is sent or dropped.
    Settled,
    /// rolloutd stops.
    Stop,
    /// The webhook is gone.
    Gone,
}

impl Worker {
    pub(super) fn new(
        configs: watch::Receiver<WebhookConfig>,
        messages: mpsc::Receiver<Arc<Message>>,
        counted: Counted,
        pace: Pace,
    ) -> Self {
        Self { configs, messages, counted, pace, client: None }
    }

    /// Delivers until the stop, or until the webhook is gone.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut left = Vec::new();
        loop {
            let message = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = self.messages.recv() => message,
            };
            let Some(message) = message else { return };
            match self.deliver(&message, &stop).await {
                End::Settled => {}
                End::Gone => {
                    self.drop_all(message);
                    return;
                }
                End::Stop => {
                    left.push(message);
                    break;
                }
            }
        }
        self.messages.close();
        while let Ok(message) = self.messages.try_recv() {
            left.push(message);
        }
        self.last_attempts(left).await;
    }

    /// Tries until the message is sent, rejected or too old.
    async fn deliver(&mut self, message: &Message, stop: &CancellationToken) -> End {
        let since = Instant::now();
        let mut backoff = Backoff::new(self.pace.least, self.pace.greatest);
        loop {
            let Some(attempt) = until(stop, self.attempt(message)).await else { return End::Stop };
            let name = self.configs.borrow().name.clone();
            let Err(failed) = attempt else { return End::Settled };
            let too_old = since.elapsed() >= self.pace.give_up;
            if !failed.retry || too_old {
                count(&self.counted, &name, |deliveries| deliveries.dropped += 1);
                let why = if failed.retry { "the receiver is not available for too long" } else { "it is final" };
                warn!(webhook = name, kind = message.kind.as_str(), %failed, why, "dropped a notification");
                return End::Settled;
            }
            debug!(webhook = name, kind = message.kind.as_str(), %failed, "a notification is tried again");
            tokio::select! {
                () = stop.cancelled() => return End::Stop,
                () = time::sleep(backoff.next()) => {}
                changed = self.configs.changed() => {
                    if changed.is_err() {
                        return End::Gone;
                    }
                    self.configs.mark_unchanged();
                    self.client = None;
                }
            }
        }
    }

    /// One attempt. Counts what became of it.
    async fn attempt(&mut self, message: &Message) -> Result<(), Failed> {
        // The certificates are read again after a change.
        if self.configs.has_changed().unwrap_or(false) {
            self.client = None;
        }
        let config = self.configs.borrow_and_update().clone();
        let result = self.post(&config, message).await;
        count(&self.counted, &config.name, |deliveries| match result {
            Ok(()) => deliveries.sent += 1,
            Err(_) => deliveries.failed += 1,
        });
        result
    }

    async fn post(&mut self, config: &WebhookConfig, message: &Message) -> Result<(), Failed> {
        let url = url(config)?;
        let encrypted = is_encrypted(&url);
        let client = match &self.client {
            Some((known, client)) if *known == encrypted => client.clone(),
            _ => {
                let client = http::client(encrypted, config.ca_file.as_deref()).map_err(Failed::passing)?;
                self.client = Some((encrypted, client.clone()));
                client
            }
        };
        let request = request(&client, &url, config)?.body(message.json());
        let response = match time::timeout(config.timeout, request.send()).await {
            Err(_) => return Err(Failed::passing("no answer in time")),
            Ok(sent) => sent.map_err(|error| match http::lost(error) {
                Lost::Tls(what) => Failed::passing(format!("the receiver has no valid certificate: {what}")),
                Lost::Slow => Failed::passing("no answer in time"),
                Lost::Unreachable(what) => Failed::passing(format!("the receiver cannot be reached: {what}")),
            })?,
        };
        match response.status().as_u16() {
            200..=299 => Ok(()),
            status @ (408 | 425 | 429 | 500..=599) => Err(Failed::passing(format!("the receiver answers {status}"))),
            status => Err(Failed { what: format!("the receiver answers {status}"), retry: false }),
        }
    }

    /// One attempt for each message that waits at the stop, within [`LAST_ATTEMPTS`].
    async fn last_attempts(&mut self, messages: Vec<Arc<Message>>) {
        let deadline = Instant::now() + LAST_ATTEMPTS;
        for message in messages {
            let sent = time::timeout_at(deadline, self.attempt(&message)).await;
            if !matches!(sent, Ok(Ok(()))) {
                let name = self.configs.borrow().name.clone();
                count(&self.counted, &name, |deliveries| deliveries.dropped += 1);
                warn!(webhook = name, kind = message.kind.as_str(), why = "rolloutd stops", "dropped a notification");
            }
        }
    }

    /// Counts the message and those that wait as dropped.
    fn drop_all(&mut self, _message: Arc<Message>) {
        let mut dropped = 1;
        while self.messages.try_recv().is_ok() {
            dropped += 1;
        }
        let name = self.configs.borrow().name.clone();
        count(&self.counted, &name, |deliveries| deliveries.dropped += dropped);
        warn!(webhook = name, dropped, "dropped the notifications of a webhook that is not configured any more");
    }
}

/// The result of the work; none if rolloutd stops before.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

/// What prevents any delivery; none if nothing does.
pub(super) fn problem(config: &WebhookConfig) -> Option<String> {
    let problem = || -> Result<(), Failed> {
        let url = url(config)?;
        let client = http::client(is_encrypted(&url), config.ca_file.as_deref()).map_err(Failed::passing)?;
        request(&client, &url, config).map(|_| ())
    };
    problem().err().map(|failed| failed.what)
}

fn is_encrypted(url: &SecretString) -> bool {
    url.expose_secret().to_ascii_lowercase().starts_with("https://")
}

fn url(config: &WebhookConfig) -> Result<SecretString, Failed> {
    let url = config.url.read().map_err(|error| Failed::passing(error.to_string()))?;
    check_webhook_url(&url).map_err(Failed::passing)?;
    Ok(url)
}

fn request(client: &reqwest::Client, url: &SecretString, config: &WebhookConfig) -> Result<RequestBuilder, Failed> {
    let request = client.post(url.expose_secret()).header(header::CONTENT_TYPE, "application/json");
    http::with_token(request, &config.token).map_err(Failed::passing)
}

impl Failed {
    fn passing(what: impl Into<String>) -> Self {
        Self { what: what.into(), retry: true }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
