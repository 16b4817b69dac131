//! weightd itself with two fakes: whatever Consul answers, the accepted weights stay, and status names the fault.

use anyhow::{Context as _, ensure};
use tokio::net::TcpListener;

use super::{document, faults, rotate};
use crate::{
    fakes::{FakeConsul, FakeHaproxy, Model, fault::Fault},
    harness::{Weightd, eventually, weightd},
};

const SOON: std::time::Duration = std::time::Duration::from_secs(10);
const KEY: &str = "weightd/weights/app";

/// A Consul with weight 10 of green, and a HAProxy with the configured weight 0.
async fn fakes() -> anyhow::Result<(FakeConsul, FakeHaproxy)> {
    let consul = FakeConsul::start().await?;
    consul.put(KEY, &document(10));
    Ok((consul, FakeHaproxy::start(Model::with("app", "roundrobin", &[("blue", 100), ("green", 0)]))?))
}

fn settings(consul: &FakeConsul, haproxy: &FakeHaproxy) -> weightd::Settings {
    weightd::Settings::without_haproxy(&consul.address()).haproxy("edge", &haproxy.address())
}

async fn until_green(haproxy: &FakeHaproxy, green: u16) -> anyhow::Result<()> {
    eventually(SOON, "green has its weight", async || {
        let weights = haproxy.model(|m| m.weights("app"));
        ensure!(weights == [100, green], "{weights:?}");
        Ok(())
    })
    .await
}

async fn until_consul(weightd: &Weightd, state: &str, reason: Option<&str>) -> anyhow::Result<()> {
    eventually(SOON, "status shows the state of Consul", async || {
        let mut status = weightd.status().await?;
        let consul = status["instances"][0]["consul"].take();
        ensure!(consul["state"] == state && consul["reason"].as_str() == reason, "{consul}");
        ensure!(reason.is_none() || consul["detail"].is_string() && consul["remedy"].is_string(), "{consul}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn for_every_fault_of_consul_the_accepted_weights_are_enforced_and_status_names_the_fault() -> anyhow::Result<()>
{
    let (target, (consul, haproxy)) = tokio::try_join!(FakeConsul::start(), fakes())?;
    let weightd = settings(&consul, &haproxy).start().await?;
    until_green(&haproxy, 10).await?;
    for (fault, reason) in faults(&target.address()) {
        let name = fault.name();
        consul.all(Some(fault));
        until_consul(&weightd, "held", Some(reason)).await.context(name)?;
        // weightd also enforces weights without a usable answer.
        haproxy.model(Model::reload);
        until_green(&haproxy, 10).await.context(name)?;
        consul.all(None);
        until_consul(&weightd, "following", None).await.context(name)?;
    }
    assert!(target.requests().is_empty(), "a redirect was followed");
    consul.put(KEY, &document(20));
    until_green(&haproxy, 20).await?;
    haproxy.expect_no_violation();
    Ok(())
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() -> anyhow::Result<()> {
    let (consul, haproxy) = fakes().await?;
    let proxy = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", proxy.local_addr()?);
    let mut settings = settings(&consul, &haproxy);
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        settings = settings.env(variable, &address);
    }
    let _weightd = settings.start().await?;
    tokio::select! {
        converged = until_green(&haproxy, 10) => converged,
        _ = proxy.accept() => anyhow::bail!("the proxy got a request"),
    }
}

#[tokio::test]
async fn the_token_is_never_shown_and_is_rotated_without_an_interruption() -> anyhow::Result<()> {
    let (consul, haproxy) = fakes().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("token");
    rotate(&path, "hunter2-old\n")?;
    let settings = settings(&consul, &haproxy)
        .env("CONSUL_HTTP_TOKEN_FILE", &path.display().to_string())
        .env("CONSUL_HTTP_AUTH", "user:hunter2-password")
        .env("WEIGHTD_LOG", "trace");
    let weightd = settings.start().await?;
    until_green(&haproxy, 10).await?;
    consul.all(Some(Fault::status("403", 403, "ACL not found")));
    until_consul(&weightd, "held", Some("denied")).await?;
    rotate(&path, "hunter2-new\n")?;
    haproxy.model(Model::reload);
    until_green(&haproxy, 10).await?;
    eventually(SOON, "the new token is used", async || {
        let seen = consul.requests();
        ensure!(seen.last().is_some_and(|r| r.headers["x-consul-token"] == "hunter2-new"), "{:?}", seen.last());
        Ok(())
    })
    .await?;
    consul.all(None);
    until_consul(&weightd, "following", None).await?;
    for request in consul.requests() {
        assert!(!request.uri.contains("hunter2"), "{}", request.uri);
        assert!(request.headers.contains_key("authorization"));
    }
    for text in [weightd.log(), weightd.metrics().await?, weightd.status().await?.to_string()] {
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMi"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn deleted_keys_keep_their_weights_in_force() -> anyhow::Result<()> {
    let (consul, haproxy) = fakes().await?;
    let weightd = settings(&consul, &haproxy).start().await?;
    until_green(&haproxy, 10).await?;
    consul.delete(KEY);
    eventually(SOON, "the backend is orphaned", async || {
        let backend = weightd.backend("app").await?;
        ensure!(backend["orphaned"] == true, "{backend}");
        Ok(())
    })
    .await?;
    haproxy.model(Model::reload);
    until_green(&haproxy, 10).await?;
    haproxy.expect_no_violation();
    Ok(())
}
