//! What the tests have in common: documents, and questions to weightd that are asked until they are answered.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::harness::{Consul, Haproxy, Weightd, always, config, eventually};

/// The bound for what happens at once. Generous, since other tests keep the machine busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long something must not happen: more than two routine passes, in each of which everything is read and what differs is
/// corrected.
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

/// A backend whose blue and green run, as far as HAProxy knows, with these configured weights.
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

/// Fails if blue and green get other weights than these within a while.
pub(crate) async fn stays(haproxy: &Haproxy, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    always(A_WHILE, "the weights stay", async || is(haproxy, backend, blue, green).await).await
}

/// Fails unless blue and green have these weights now.
pub(crate) async fn is(haproxy: &Haproxy, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    let weights = haproxy.weights(backend).await?;
    let expected = [("blue", blue), ("green", green)];
    ensure!(expected.iter().all(|(server, weight)| weights.get(*server) == Some(weight)), "{weights:?}");
    Ok(())
}

/// Waits until the state of a backend is this word, and returns its status.
pub(crate) async fn state(weightd: &Weightd, backend: &str, word: &str) -> anyhow::Result<Value> {
    eventually(SOON, &format!("{backend} is {word}"), async || {
        let status = weightd.backend(backend).await?;
        ensure!(status["state"] == word, "{status}");
        Ok(status)
    })
    .await
}

/// Waits until a backend has this reason, which must say what to do, and returns it.
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

/// Waits until the connection to Consul is in this state, for this reason.
pub(crate) async fn consul_is(weightd: &Weightd, word: &str, reason: Option<&str>) -> anyhow::Result<Value> {
    // Tried again after a pause that grows to 10 s while Consul is away.
    eventually(Duration::from_secs(20), &format!("Consul is {word}"), async || {
        let consul = instance(weightd, 0).await?["consul"].take();
        ensure!(consul["state"] == word && consul["reason"].as_str() == reason, "{consul}");
        ensure!(reason.is_none() || consul["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{consul}");
        Ok(consul)
    })
    .await
}

/// Waits until HAProxy is in this state, for this reason.
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

/// Waits until everything is as Consul says.
pub(crate) async fn converged(weightd: &Weightd) -> anyhow::Result<()> {
    eventually(SOON, "everything is as Consul says", async || {
        let instance = instance(weightd, 0).await?;
        ensure!(instance["converged"] == true, "{instance}");
        Ok(())
    })
    .await
}

/// The value of a metric of the first instance, 0 where there is none yet. `labels` are those after `haproxy`.
pub(crate) async fn metric(weightd: &Weightd, name: &str, labels: &str) -> anyhow::Result<u64> {
    let series = format!("{name}{{haproxy=\"haproxy\"{labels}}}");
    let metrics = weightd.metrics().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series)?.strip_prefix(' '));
    value.map_or(Ok(0), |value| Ok(value.parse()?))
}

/// Waits until the log has at least so many lines with all of these words, and returns them. What happens is logged after
/// it happened to HAProxy.
pub(crate) async fn logged(weightd: &Weightd, count: usize, words: &[&str]) -> anyhow::Result<Vec<String>> {
    eventually(SOON, &format!("{count} lines have {words:?}"), async || {
        let lines = lines(weightd, words);
        ensure!(lines.len() >= count, "{}", weightd.log());
        Ok(lines)
    })
    .await
}

/// The lines of the log that have all of these words.
pub(crate) fn lines(weightd: &Weightd, words: &[&str]) -> Vec<String> {
    let log = weightd.log();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}
