//! Helpers of the tests: documents, and waits with a bounded poll.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::harness::{Consul, Haproxy, Weightd, always, config, eventually};

/// The time limit for an immediate effect. It is generous: other tests load the machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long a test watches that something does not happen. Longer than two routine passes; each pass reads everything
/// and corrects differences.
pub(crate) const A_WHILE: Duration = Duration::from_millis(2500);

/// The key of a backend.
pub(crate) fn key(backend: &str) -> String {
    format!("weightd/weights/{backend}")
}

/// A document with weights for blue and green.
pub(crate) fn document(blue: u32, green: u32) -> String {
    json!({ "weights": { "blue": blue, "green": green }, "by": "alice", "reason": "a test" }).to_string()
}

/// Writes a document with weights for blue and green.
pub(crate) async fn put(consul: &Consul, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    consul.put(&key(backend), document(blue, green)).await
}

/// A backend with the servers blue and green and these configured weights. HAProxy regards both as up.
pub(crate) fn backend(name: &str, blue: u16, green: u16) -> String {
    config::backend(name, &["balance roundrobin"], &[("blue", 9, blue), ("green", 9, green)], "")
}

/// A Consul, and a HAProxy with this configuration.
pub(crate) async fn servers(body: &str) -> anyhow::Result<(Consul, Haproxy)> {
    tokio::try_join!(Consul::start(), Haproxy::start(body))
}

/// Waits until blue and green have these weights in HAProxy.
pub(crate) async fn becomes(haproxy: &Haproxy, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    haproxy.until_weights(backend, &[("blue", blue), ("green", green)], SOON).await.map(drop)
}

/// Fails if blue or green gets another weight within [`A_WHILE`].
pub(crate) async fn stays(haproxy: &Haproxy, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    always(A_WHILE, "the weights do not change", async || is(haproxy, backend, blue, green).await).await
}

/// Fails unless blue and green have these weights now.
pub(crate) async fn is(haproxy: &Haproxy, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    let weights = haproxy.weights(backend).await?;
    let expected = [("blue", blue), ("green", green)];
    ensure!(expected.iter().all(|(server, weight)| weights.get(*server) == Some(weight)), "{weights:?}");
    Ok(())
}

/// Waits until the backend has this state, and returns its status.
pub(crate) async fn state(weightd: &Weightd, backend: &str, word: &str) -> anyhow::Result<Value> {
    eventually(SOON, &format!("{backend} is {word}"), async || {
        let status = weightd.backend(backend).await?;
        ensure!(status["state"] == word, "{status}");
        Ok(status)
    })
    .await
}

/// Waits until the backend has this reason with a detail and a remedy, and returns the reason.
pub(crate) async fn reason(weightd: &Weightd, backend: &str, word: &str) -> anyhow::Result<Value> {
    eventually(SOON, &format!("{backend} has the reason {word}"), async || {
        let status = weightd.backend(backend).await?;
        let reasons = status["reasons"].as_array().context("no reasons")?;
        let reason = reasons.iter().find(|reason| reason["reason"] == word).with_context(|| status.to_string())?;
        for field in ["detail", "remedy"] {
            ensure!(reason[field].as_str().is_some_and(|text| !text.is_empty()), "no {field} in {reason}");
        }
        Ok(reason.clone())
    })
    .await
}

/// Waits until the connection to Consul has this state and reason. Returns its status.
pub(crate) async fn consul_is(weightd: &Weightd, word: &str, reason: Option<&str>) -> anyhow::Result<Value> {
    // weightd retries after pauses that grow to 10 s.
    eventually(Duration::from_secs(20), &format!("Consul is {word}"), async || {
        let consul = instance(weightd, 0).await?["consul"].take();
        ensure!(consul["state"] == word && consul["reason"].as_str() == reason, "{consul}");
        ensure!(reason.is_none() || consul["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{consul}");
        Ok(consul)
    })
    .await
}

/// Waits until HAProxy has this state and reason. Returns its status.
pub(crate) async fn haproxy_is(
    weightd: &Weightd,
    number: usize,
    word: &str,
    reason: Option<&str>,
) -> anyhow::Result<Value> {
    eventually(SOON, &format!("HAProxy {number} is {word}"), async || {
        let haproxy = instance(weightd, number).await?["haproxy"].take();
        ensure!(haproxy["state"] == word && haproxy["reason"].as_str() == reason, "{haproxy}");
        ensure!(reason.is_none() || haproxy["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{haproxy}");
        Ok(haproxy)
    })
    .await
}

/// The status of one HAProxy.
pub(crate) async fn instance(weightd: &Weightd, number: usize) -> anyhow::Result<Value> {
    Ok(weightd.status().await?["instances"][number].take())
}

/// Waits until every weight equals the one in Consul.
pub(crate) async fn converged(weightd: &Weightd) -> anyhow::Result<()> {
    eventually(SOON, "every weight equals the one in Consul", async || {
        let instance = instance(weightd, 0).await?;
        ensure!(instance["converged"] == true, "{instance}");
        Ok(())
    })
    .await
}

/// The value of a metric of the first instance; 0 if the metric does not exist. `labels` are the labels after
/// `haproxy`.
pub(crate) async fn metric(weightd: &Weightd, name: &str, labels: &str) -> anyhow::Result<u64> {
    let series = format!("{name}{{haproxy=\"haproxy\"{labels}}}");
    let metrics = weightd.metrics().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series)?.strip_prefix(' '));
    value.map_or(Ok(0), |value| Ok(value.parse()?))
}

/// Waits until the log has at least `count` lines that contain all of these words, and returns them. weightd logs a
/// change after HAProxy has it.
pub(crate) async fn logged(weightd: &Weightd, count: usize, words: &[&str]) -> anyhow::Result<Vec<String>> {
    eventually(SOON, &format!("{count} lines of the log contain {words:?}"), async || {
        let lines = lines(weightd, words);
        ensure!(lines.len() >= count, "{}", weightd.log());
        Ok(lines)
    })
    .await
}

/// The lines of the log that contain all of these words.
pub(crate) fn lines(weightd: &Weightd, words: &[&str]) -> Vec<String> {
    let log = weightd.log();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}
