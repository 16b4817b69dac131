//! weightctl and the weightd of the same host read the same documents, or `weightctl check` fails.

use std::fs;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    common::{backend, becomes, converged, put, servers},
    harness::{Consul, Weightd, weightd, weightd::Settings},
};

/// The exit code of `weightctl check` and its findings about weightd, on the host of this weightd.
async fn check(weightd: &Weightd, environment: &[(&str, &str)], arguments: &[&str]) -> anyhow::Result<(i32, Value)> {
    let config = weightd.dir().join("weightd.toml").display().to_string();
    let arguments = [&["check", "-o", "json", "--read-only"], arguments].concat();
    let environment = [&[("WEIGHTD_CONFIG", config.as_str())], environment].concat();
    let output = weightd::weightctl(&environment, &arguments).await?;
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let sections = report["sections"].as_array().context("no sections")?;
    let weightd = sections.iter().find(|section| section["part"] == "weightd").cloned().context("no weightd")?;
    Ok((output.status.code().unwrap_or(-1), weightd))
}

/// The finding with this name.
fn finding<'a>(section: &'a Value, check: &str) -> anyhow::Result<&'a Value> {
    let mut findings = section["findings"].as_array().context("no findings")?.iter();
    findings.find(|finding| finding["check"] == check).with_context(|| format!("no {check} in {section}"))
}

#[tokio::test]
async fn weightctl_takes_the_defaults_of_this_hosts_weightd() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let weightd = Settings::new(&consul, &haproxy).set("consul.root", "lb/").start().await?;
    let config = weightd.dir().join("weightd.toml").display().to_string();
    let environment = [("WEIGHTD_CONFIG", config.as_str()), ("WEIGHTD_API", "")];
    let set = weightd::weightctl(&environment, &["set", "app", "blue=70", "green=30", "--create", "--yes"]).await?;
    ensure!(set.status.success(), "{set:?}");
    ensure!(consul.get("lb/weights/app").await?.is_some(), "the document is not below weightd's root");
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    // Also weightd's API and socket.
    let status = weightd::weightctl(&environment, &["status", "--local"]).await?;
    ensure!(status.status.success(), "{status:?}");
    let (code, section) = check(&weightd, &[], &[]).await?;
    ensure!(code == 0, "{section}");
    ensure!(finding(&section, "follows")?["detail"].to_string().contains("same documents"), "{section}");
    // Explicit options have priority.
    let other = weightd::weightctl(&environment, &["get", "app", "--root", "elsewhere"]).await?;
    ensure!(!other.status.success(), "{other:?}");
    // An invalid configuration is reported and stops no command.
    fs::write(weightd.dir().join("weightd.toml"), "mode = 1\n")?;
    let list = weightd::weightctl(&[environment[0], ("CONSUL_HTTP_ADDR", &consul.address())], &["list"]).await?;
    let stderr = String::from_utf8(list.stderr)?;
    ensure!(list.status.success() && stderr.contains("does not use weightd's configuration"), "{stderr}");
    Ok(())
}

#[tokio::test]
async fn a_token_of_weightd_is_never_used() -> anyhow::Result<()> {
    let consul = Consul::start_with(crate::harness::consul::Options { acl: true, ..Default::default() }).await?;
    let folder = tempfile::tempdir()?;
    let (token, config) = (folder.path().join("token"), folder.path().join("weightd.toml"));
    fs::write(&token, consul.token().context("no token")?)?;
    fs::write(&config, format!("[consul]\naddress = {:?}\ntoken_file = {token:?}\n", consul.address()))?;
    let output = weightd::weightctl(&[("WEIGHTD_CONFIG", &config.display().to_string())], &["list"]).await?;
    let stderr = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    ensure!(output.status.code() != Some(0) || stderr.contains("no backend below"), "{stderr}");
    consul.put("weightd/weights/app", r#"{"weights":{"blue":1}}"#).await?;
    let output = weightd::weightctl(&[("WEIGHTD_CONFIG", &config.display().to_string())], &["list"]).await?;
    ensure!(!String::from_utf8(output.stdout)?.contains("app"), "weightctl used weightd's token");
    Ok(())
}

#[tokio::test]
async fn another_root_fails_the_check() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    let (code, section) = check(&weightd, &[], &["--root", "other/"]).await?;
    let root = finding(&section, "root")?;
    ensure!(code == 1 && root["verdict"] == "fail", "{section}");
    ensure!(root["hint"] == "export WEIGHTD_ROOT=weightd/", "{root}");
    let (code, section) = check(&weightd, &[("WEIGHTD_ROOT", "weightd/")], &[]).await?;
    ensure!(code == 0, "{section}");
    Ok(())
}

#[tokio::test]
async fn another_datacenter_fails_the_check() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &haproxy).set("consul.datacenter", "dc1").start().await?;
    converged(&weightd).await?;
    let (code, section) = check(&weightd, &[], &["--datacenter", "dc1"]).await?;
    ensure!(code == 0, "{section}");
    let (code, section) = check(&weightd, &[], &["--datacenter", "dc2"]).await?;
    ensure!(code == 1 && finding(&section, "datacenter")?["verdict"] == "fail", "{section}");
    Ok(())
}

#[tokio::test]
async fn another_consul_fails_the_check_and_another_spelling_of_its_address_does_not() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let other = Consul::start().await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    let spelled = consul.address().replace("127.0.0.1", "localhost");
    let (code, section) = check(&weightd, &[("CONSUL_HTTP_ADDR", &spelled)], &[]).await?;
    ensure!(code == 0, "{section}");

    let elsewhere = other.address();
    let environment = [("CONSUL_HTTP_ADDR", elsewhere.as_str())];
    // No documents there, the same documents with another index, and other documents.
    let (code, section) = check(&weightd, &environment, &[]).await?;
    ensure!(code == 1 && finding(&section, "follows")?["verdict"] == "fail", "without documents: {section}");
    let index = consul.index("weightd/weights/app").await?;
    put(&other, "app", 70, 30).await?;
    while other.index("weightd/weights/app").await? <= index {
        // The same bytes again would keep the index.
        put(&other, "app", 0, 1).await?;
        put(&other, "app", 70, 30).await?;
    }
    let (code, section) = check(&weightd, &environment, &[]).await?;
    let follows = finding(&section, "follows")?;
    ensure!(code == 1 && follows["detail"].to_string().contains("app"), "{section}");
    put(&other, "more", 1, 2).await?;
    let (code, section) = check(&weightd, &environment, &[]).await?;
    ensure!(code == 1 && finding(&section, "follows")?["detail"].to_string().contains("more"), "{section}");
    // A document that changes meanwhile is no lasting difference.
    put(&consul, "app", 60, 40).await?;
    let (code, section) = check(&weightd, &[], &[]).await?;
    ensure!(code == 0, "{section}");
    Ok(())
}

#[tokio::test]
async fn without_consul_check_does_not_report_backends_without_a_document() -> anyhow::Result<()> {
    let (mut consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    consul.kill().await?;
    let config = weightd.dir().join("weightd.toml").display().to_string();
    let output = weightd::weightctl(&[("WEIGHTD_CONFIG", &config)], &["check"]).await?;
    let shown = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{shown}");
    ensure!(!shown.contains("0 with a document"), "{shown}");
    ensure!(shown.contains("weights of 1 backend") && shown.contains("could not be read from Consul"), "{shown}");
    Ok(())
}
