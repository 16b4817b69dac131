//! If another program sets weights, weightd names it from HAProxy's data before the first correction.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    common::{SOON, backend, becomes, converged, logged, put, reason, servers, state},
    harness::{Consul, Haproxy, Weightd, agent::Agent, dns, dns::Dns, eventually, weightd},
};

/// The findings of `weightctl check` about the HAProxy.
async fn check(consul: &Consul, haproxy: &Haproxy) -> anyhow::Result<Value> {
    let arguments = ["check", "--haproxy", &haproxy.address(), "-o", "json"];
    let output = weightd::weightctl(&[("CONSUL_HTTP_ADDR", &consul.address())], &arguments).await?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let sections = report["sections"].as_array().context("no sections")?;
    sections.iter().find(|section| section["part"] == "haproxy").cloned().context("nothing about HAProxy")
}

/// The output of `weightctl import`.
async fn import(consul: &Consul, haproxy: &Haproxy) -> anyhow::Result<String> {
    let arguments = ["import", "--from-haproxy", &haproxy.address(), "--dry-run"];
    let output = weightd::weightctl(&[("CONSUL_HTTP_ADDR", &consul.address())], &arguments).await?;
    Ok(String::from_utf8(output.stderr)?)
}

fn has(section: &Value, check: &str, word: &str) -> bool {
    let findings = section["findings"].as_array().into_iter().flatten();
    findings.filter(|f| f["check"] == check).any(|f| f["detail"].as_str().is_some_and(|detail| detail.contains(word)))
}

#[tokio::test]
async fn an_agent_is_named_before_it_sets_a_weight() -> anyhow::Result<()> {
    let agent = Agent::start("up").await?;
    let body = "backend app\n    balance roundrobin\n    server blue 127.0.0.1:9 weight 100\n".to_owned()
        + &format!(
            "    server green 127.0.0.1:9 weight 100 agent-check agent-port {} agent-inter 100ms\n",
            agent.port()
        );
    let (consul, haproxy) = servers(&body).await?;
    let text = import(&consul, &haproxy).await?;
    assert!(text.contains("agent-check") && text.contains("green"), "{text}");
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    let why = reason(&weightd, "app", "agent_check").await?;
    assert!(why["detail"].as_str().is_some_and(|detail| detail.contains("green")), "{why}");
    assert_eq!(weightd.backend("app").await?["shares_exact"], false);
    logged(&weightd, 1, &["agent_check", "hint="]).await?;
    assert!(has(&check(&consul, &haproxy).await?, "agent_check", "green"));
    converged(&weightd).await?;

    // weightd corrects the agent's weight, and the log names the agent.
    agent.set_answer("50%");
    let lines = logged(&weightd, 1, &["weight set", "why=drift", "server=green"]).await?;
    assert!(lines[0].contains("owner=agent_check"), "{lines:?}");
    let app = state(&weightd, "app", "contended").await?;
    let contended = app["reasons"].as_array().context("reasons")?.iter().find(|r| r["reason"] == "contended");
    let detail = contended.and_then(|reason| reason["detail"].as_str()).unwrap_or_default();
    assert!(detail.contains("agent-check") && detail.contains("green"), "{app}");
    Ok(())
}

#[tokio::test]
async fn a_dns_record_is_named() -> anyhow::Result<()> {
    let dns = Dns::start(&[10_000, 40_000]).await?;
    let body = format!(
        "resolvers local\n    nameserver one 127.0.0.1:{}\n    resolve_retries 3\n    timeout resolve 100ms\n    \
         timeout retry 100ms\n    hold valid 100ms\nbackend app\n    balance roundrobin\n    \
         server-template s 2 {} resolvers local init-addr none\n",
        dns.port(),
        dns::SERVICE.trim_end_matches('.'),
    );
    let (consul, haproxy) = servers(&body).await?;
    eventually(SOON, "HAProxy has resolved the servers", async || {
        let weights = haproxy.weights("app").await?;
        ensure!(weights.values().all(|weight| *weight > 0) && weights["s1"] != weights["s2"], "{weights:?}");
        Ok(())
    })
    .await?;
    let text = import(&consul, &haproxy).await?;
    assert!(text.contains("SRV record"), "{text}");
    consul.put("weightd/weights/app", r#"{"weights":{"s1":70,"s2":30}}"#).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    let why = reason(&weightd, "app", "srv_record").await?;
    assert!(why["detail"].as_str().is_some_and(|detail| detail.contains("s1, s2")), "{why}");
    assert_eq!(weightd.backend("app").await?["shares_exact"], false);
    assert!(has(&check(&consul, &haproxy).await?, "srv_record", "s1"));
    Ok(())
}

#[tokio::test]
async fn a_change_by_hand_is_named_if_haproxy_shows_no_other_owner() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    assert_eq!(weightd.backend("app").await?["shares_exact"], true);
    for weight in [1, 2, 3] {
        haproxy.set_weight_by_hand("app", "green", weight).await?;
        becomes(&haproxy, "app", 70, 30).await?;
    }
    haproxy.set_weight_by_hand("app", "green", 4).await?;
    let app = state(&weightd, "app", "contended").await?;
    let contended = app["reasons"].as_array().context("reasons")?.iter().find(|r| r["reason"] == "contended");
    let detail = contended.and_then(|reason| reason["detail"].as_str()).unwrap_or_default();
    assert!(detail.contains("person or a program") && detail.contains("green"), "{app}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_added_at_runtime_gets_its_weight_soon_and_is_no_drift() -> anyhow::Result<()> {
    if crate::harness::haproxy::version()? < (2, 5) {
        // This version of HAProxy cannot add a server at runtime.
        return Ok(());
    }
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    consul.put("weightd/weights/app", r#"{"weights":{"blue":70,"green":30,"red":5}}"#).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    for _ in 0..4 {
        let answer = haproxy.command("add server app/red 127.0.0.1:9 weight 50").await?;
        ensure!(answer.contains("New server registered"), "{answer}");
        haproxy.command("enable server app/red").await?;
        // Much earlier than the next resync, which comes every 10 s.
        haproxy.until_weights("app", &[("red", 5)], std::time::Duration::from_secs(5)).await?;
        crate::truth::delete(&haproxy, "app", "red").await?;
    }
    logged(&weightd, 4, &["weight set", "server=red", "why=new_server"]).await?;
    let app = weightd.backend("app").await?;
    assert_eq!((&app["drift_corrections"], &app["state"]), (&0.into(), &"converged".into()), "{app}");
    Ok(())
}
