//! `weightctl import`: creates documents from the present weights, and does not disturb the source.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    common::{backend, key, servers},
    harness::{Consul, Haproxy, consul::Options, weightd::weightctl},
};

/// The exit code and the output of an import.
#[derive(Debug)]
struct Output {
    code: i32,
    out: String,
    err: String,
}

/// Runs `weightctl import` with the management token and expects this exit code.
async fn import(consul: &Consul, code: i32, arguments: &[&str]) -> anyhow::Result<Output> {
    import_with(consul, consul.token(), code, arguments).await
}

/// The same with another token or without one.
async fn import_with(consul: &Consul, token: Option<&str>, code: i32, arguments: &[&str]) -> anyhow::Result<Output> {
    let address = consul.address();
    let mut environment = vec![("CONSUL_HTTP_ADDR", address.as_str())];
    environment.extend(token.map(|token| ("CONSUL_HTTP_TOKEN", token)));
    let arguments: Vec<_> = ["import", "--by", "alice"].iter().chain(arguments).copied().collect();
    let output = weightctl(&environment, &arguments).await?;
    let output = Output {
        code: output.status.code().context("weightctl was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    };
    ensure!(output.code == code, "expected exit code {code} of {arguments:?}: {output:?}");
    Ok(output)
}

/// The weights in a backend's document.
async fn document(consul: &Consul, backend: &str) -> anyhow::Result<Value> {
    let value = consul.get(&key(backend)).await?.with_context(|| format!("{backend} has no document"))?;
    Ok(serde_json::from_slice::<Value>(&value)?["weights"].take())
}

/// The content of Consul below a prefix.
async fn everything(consul: &Consul, prefix: &str) -> anyhow::Result<String> {
    let answer = consul.http().request(reqwest::Method::GET, &format!("kv/{prefix}?recurse")).send().await?;
    Ok(answer.text().await?)
}

const FLEET: &str = "
backend empty
    balance roundrobin
backend off
    disabled
    server blue 127.0.0.1:9
backend static
    balance static-rr
    server blue 127.0.0.1:9 weight 5
backend least
    balance leastconn
    server blue 127.0.0.1:9 weight 5
backend zero
    server blue 127.0.0.1:9 weight 0
backend template
    server-template s 1-2 127.0.0.1:9 weight 3
";

fn fleet() -> String {
    backend("app1", 100, 0) + &backend("app2", 1, 1) + FLEET
}

async fn weights(haproxy: &Haproxy) -> anyhow::Result<String> {
    Ok(format!("{:?}{:?}", haproxy.weights("app1").await?, haproxy.weights("app2").await?))
}

#[tokio::test]
async fn documents_are_created_from_haproxy_and_weightd_has_nothing_to_do() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&fleet()).await?;
    // The import reads the weights that were set at runtime, not those of haproxy.cfg.
    haproxy.set_weight_by_hand("app1", "blue", 90).await?;
    haproxy.set_weight_by_hand("app1", "green", 10).await?;
    let before = weights(&haproxy).await?;
    let address = haproxy.address();
    let from = ["--from-haproxy", address.as_str()];

    let dry = import(&consul, 7, &[&from[..], &["--dry-run", "-o", "json"]].concat()).await?;
    assert_eq!(everything(&consul, "weightd/").await?, "", "a dry run writes nothing");
    assert!(dry.err.contains("blue    - → 90  - → 90%"), "{}", dry.err);
    let asked = import(&consul, 2, &from).await?;
    assert!(asked.err.contains("--yes"), "{asked:?}");

    // A backend with all weights 0 is not imported by default. The others are imported anyway.
    let output = import(&consul, 7, &[&from[..], &["--yes", "-o", "json", "--reason", "as it was"]].concat()).await?;
    assert_eq!(document(&consul, "app1").await?, json!({"blue": 90, "green": 10}));
    assert_eq!(document(&consul, "app2").await?, json!({"blue": 1, "green": 1}));
    assert_eq!(document(&consul, "template").await?, json!({"s1": 3, "s2": 3}));
    assert_eq!(document(&consul, "least").await?, json!({"blue": 5}));
    let json: Value = serde_json::from_str(&output.out)?;
    let left: Vec<_> = json["left"].as_array().context("left")?.iter().map(|left| left["backend"].clone()).collect();
    assert_eq!(left, ["empty", "off", "static", "zero"]);
    assert_eq!((&json["dry_run"], &json["next"]), (&json!(false), &json!([])));
    let imported = json["imported"].as_array().context("imported")?;
    assert_eq!(imported.len(), 4);
    assert!(imported.iter().all(|one| one["changed"] == true && one["index"].is_u64()), "{json}");
    for words in
        ["weightd has nothing to do", "static-rr", "least: `balance leastconn`", "set zero blue=0 --create --force"]
    {
        assert!(output.err.contains(words), "{words}: {}", output.err);
    }

    let keys = everything(&consul, "weightd/").await?;
    let again = import(&consul, 0, &[&["app1", "app2"], &from[..], &["--yes", "-o", "json"]].concat()).await?;
    assert!(again.err.contains("unchanged, already in Consul: app1, app2"), "{again:?}");
    assert_eq!(everything(&consul, "weightd/").await?, keys, "nothing is written twice");
    assert_eq!(weights(&haproxy).await?, before, "HAProxy was changed");
    Ok(())
}

#[tokio::test]
async fn other_content_in_consul_stays_unless_replace_is_given() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&(backend("app1", 90, 10) + &backend("app2", 50, 50))).await?;
    consul.put(&key("app1"), r#"{"weights":{"blue":20,"green":80},"by":"bob","ticket":7}"#).await?;
    let address = haproxy.address();
    let from = ["--from-haproxy", address.as_str(), "--yes"];
    let output = import(&consul, 7, &[&from[..], &["-o", "json"]].concat()).await?;
    assert!(output.err.contains("Consul has other content: blue=20 green=80, by bob"), "{output:?}");
    assert_eq!(document(&consul, "app1").await?, json!({"blue": 20, "green": 80}));
    assert_eq!(document(&consul, "app2").await?, json!({"blue": 50, "green": 50}), "the other backend is imported");
    // The result contains the changes that bob's document causes on this HAProxy.
    let json: Value = serde_json::from_str(&output.out)?;
    assert_eq!(json["next"][0], json!({"backend": "app1", "server": "green", "from": 10, "to": 80, "not_now": null}));

    // If backends are named, all of them are imported or none.
    consul.delete(&key("app2")).await?;
    import(&consul, 7, &[&["app1", "app2"], &from[..]].concat()).await?;
    assert_eq!(consul.get(&key("app2")).await?, None);
    let slip = import(&consul, 7, &[&["app11"], &from[..]].concat()).await?;
    assert!(slip.err.contains("did you mean `app1`?"), "{slip:?}");

    import(&consul, 0, &[&from[..], &["--replace"]].concat()).await?;
    let value: Value = serde_json::from_slice(&consul.get(&key("app1")).await?.context("app1")?)?;
    assert_eq!((&value["weights"], &value["ticket"]), (&json!({"blue": 90, "green": 10}), &json!(7)));
    Ok(())
}

#[tokio::test]
async fn the_next_changes_regard_backup_servers() -> anyhow::Result<()> {
    let body = "backend app\n    server blue 127.0.0.1:9 weight 5\n    server spare 127.0.0.1:9 weight 5 backup\n";
    let (consul, haproxy) = servers(body).await?;
    consul.put(&key("app"), r#"{"weights":{"blue":0}}"#).await?;
    let output = import(&consul, 7, &["--from-haproxy", haproxy.address().as_str(), "--yes", "-o", "json"]).await?;
    let json: Value = serde_json::from_str(&output.out)?;
    let not_now = &json["next"][0]["not_now"];
    assert_eq!(
        not_now, "no usable server of the backend would have a weight above 0",
        "a backup server is none: {json}"
    );
    Ok(())
}

#[tokio::test]
async fn documents_are_created_from_the_keys_of_a_template_and_the_keys_stay() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let nothing = import(&consul, 1, &["--from-kv", "traffic", "--yes"]).await?;
    assert!(nothing.err.contains("no key below traffic/"), "{nothing:?}");
    for (key, value) in [
        ("app1/blue", "90"),
        ("app1/green", "10"),
        ("app2/blue", "90%"),
        ("app2/green", "10"),
        ("app3/blue/weight", "1"),
        ("app4/blue", "\u{1b}[31m"),
    ] {
        consul.put(&format!("traffic/{key}"), value).await?;
    }
    let before = everything(&consul, "traffic/").await?;
    let output = import(&consul, 7, &["--from-kv", "traffic", "--yes"]).await?;
    assert_eq!(document(&consul, "app1").await?, json!({"blue": 90, "green": 10}));
    for backend in ["app2", "app3", "app4"] {
        assert_eq!(consul.get(&key(backend)).await?, None, "{backend} is not written");
    }
    for words in
        ["traffic/app2/blue: `90%` is not a weight", "traffic/app3/blue/weight: the key is deeper", "--dry-run`"]
    {
        assert!(output.err.contains(words), "{words}: {output:?}");
    }
    assert!(!output.err.contains("\u{1b}[31m`"), "text from Consul reaches the terminal");
    assert_eq!(everything(&consul, "traffic/").await?, before);
    // A single valid backend can be named.
    let one = import(&consul, 0, &["app1", "--from-kv", "traffic/", "--yes", "-o", "json"]).await?;
    assert_eq!(serde_json::from_str::<Value>(&one.out)?["next"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn each_kind_of_unreadable_source_has_its_own_error() -> anyhow::Result<()> {
    let (mut consul, haproxy) = servers(&backend("app1", 90, 10)).await?;
    let address = haproxy.address();
    for (code, arguments, words) in [
        (2, &["--yes"][..], "--from-haproxy <SOCKET>|--from-kv <PREFIX>"),
        (2, &["--yes", "--from-kv", "traffic", "--from-haproxy", "/run/x.sock"], "cannot be used with"),
        (2, &["--yes", "--from-kv", "/traffic"], "starts with a slash"),
        (2, &["--yes", "--from-haproxy", "admin.sock"], "unix:/path"),
        (1, &["--yes", "--from-haproxy", "/nonexistent/admin.sock"], "the path of `stats socket` in haproxy.cfg"),
    ] {
        let output = import(&consul, code, arguments).await?;
        assert!(output.err.contains(words) && output.out.is_empty(), "{words}: {output:?}");
    }
    consul.kill().await?;
    import(&consul, 6, &["--yes", "--from-haproxy", &address]).await?;
    import(&consul, 6, &["--yes", "--from-kv", "traffic"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_team_imports_its_backend_and_no_other() -> anyhow::Result<()> {
    let options = Options { acl: true, ..Options::default() };
    let body = backend("app1", 90, 10) + &backend("app2", 50, 50);
    let (consul, haproxy) = tokio::try_join!(Consul::start_with(options), Haproxy::start(&body))?;
    consul.put("traffic/app1/blue", "90").await?;
    let http = consul.http();
    let own =
        r#"key "weightd/weights/app1" { policy = "write" } key_prefix "weightd/weights/app1/" { policy = "write" }"#;
    http.set_policy("team", own).await?;
    http.set_policy("reader", r#"key_prefix "weightd/weights/" { policy = "read" }"#).await?;
    let (team, reader) = (http.new_token("team").await?, http.new_token("reader").await?);
    let address = haproxy.address();
    let from = ["--from-haproxy", address.as_str(), "--yes"];
    let denied = import_with(&consul, Some(&reader), 4, &from).await?;
    assert!(denied.err.contains(r#"key "weightd/weights/app1" { policy = "write" }"#), "{denied:?}");
    import_with(&consul, None, 4, &from).await?;
    import_with(&consul, Some(&reader), 4, &["--from-kv", "traffic", "--yes"]).await?;
    assert_eq!(everything(&consul, "weightd/").await?, "");

    import_with(&consul, Some(&team), 0, &[&["app1"], &from[..]].concat()).await?;
    assert_eq!(document(&consul, "app1").await?, json!({"blue": 90, "green": 10}));
    import_with(&consul, Some(&team), 4, &[&["app2"], &from[..]].concat()).await?;
    assert_eq!(consul.get(&key("app2")).await?, None);
    Ok(())
}

#[tokio::test]
async fn level_operator_is_enough_and_level_user_gets_a_note() -> anyhow::Result<()> {
    let body = "global\n    stats socket \"${ADMIN_SOCKET}.operator\" mode 600 level operator\n    \
                stats socket \"${ADMIN_SOCKET}.user\" mode 600 level user\n\
                backend static\n    balance static-rr\n    server blue 127.0.0.1:9 weight 5\n";
    let (consul, haproxy) = servers(body).await?;
    for (level, left, words) in
        [("operator", 1, "accepts no new weights"), ("user", 0, "use a socket of level operator")]
    {
        let address = format!("{}.{level}", haproxy.address());
        let output = import(&consul, 0, &["--from-haproxy", &address, "--dry-run", "-o", "json"]).await?;
        let json: Value = serde_json::from_str(&output.out)?;
        assert_eq!(json["left"].as_array().map(Vec::len), Some(left), "{output:?}");
        assert!(output.err.contains(words), "{output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_document_that_would_take_effect_later_is_skipped_and_reported() -> anyhow::Result<()> {
    let agent = crate::harness::agent::Agent::start("up").await?;
    let body = backend("app1", 100, 0)
        + "backend down\n    server blue 127.0.0.1:9 weight 7 check inter 100ms fall 1\n"
        + "backend maint\n    server blue 127.0.0.1:9 weight 7\n"
        + &format!(
            "backend owned\n    server blue 127.0.0.1:9 weight 7 agent-check agent-port {} agent-inter 100ms\n",
            agent.port()
        );
    let (consul, haproxy) = servers(&body).await?;
    crate::harness::eventually(crate::common::SOON, "the health check has failed", async || {
        let answer = haproxy.command("show servers state down").await?;
        // `srv_op_state`.
        ensure!(answer.lines().any(|line| line.split(' ').nth(5) == Some("0")), "{answer}");
        Ok(())
    })
    .await?;
    haproxy.command("set server maint/blue state maint").await?;
    haproxy.set_weight_by_hand("app1", "green", 50).await?;
    let address = haproxy.address();
    let from = ["--from-haproxy", address.as_str()];
    let output = import(&consul, 7, &[&from[..], &["--yes", "-o", "json"]].concat()).await?;
    let json: Value = serde_json::from_str(&output.out)?;
    let imported: Vec<_> = json["imported"].as_array().context("imported")?.iter().map(|i| &i["backend"]).collect();
    assert_eq!(imported, ["app1"], "{}", output.err);
    assert_eq!(json["unmanaged"], json!(["down", "maint", "owned"]), "{json}");
    for words in [
        "down: weightd would not accept the document now",
        "maint: weightd would not accept the document now",
        "owned: an agent-check sets the weight of blue",
        "app1: weights that were set at runtime differ from haproxy.cfg",
        "HAProxy has 3 backends without a document: down, maint, owned",
    ] {
        assert!(output.err.contains(words), "{words}: {}", output.err);
    }
    // An import by name writes it, with a note about the agent-check.
    let output = import(&consul, 0, &[&["owned"][..], &from, &["--yes"]].concat()).await?;
    assert!(output.err.contains("an agent-check may set the weight of blue"), "{}", output.err);
    let output = import(&consul, 7, &[&["down"][..], &from, &["--yes"]].concat()).await?;
    assert!(output.err.contains("nothing was written"), "{}", output.err);
    assert!(consul.get(&key("down")).await?.is_none() && consul.get(&key("owned")).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn what_weightd_sets_only_later_is_said_as_such() -> anyhow::Result<()> {
    let server =
        |name: &str, weight: u32| format!("    server {name} 127.0.0.1:9 weight {weight} check inter 100ms fall 1\n");
    let (consul, haproxy) = servers(&format!("backend down\n{}{}", server("blue", 100), server("green", 10))).await?;
    crate::harness::eventually(crate::common::SOON, "both are down", async || {
        let answer = haproxy.command("show servers state down").await?;
        // `srv_op_state`.
        let down = answer.lines().filter(|line| line.split(' ').nth(5) == Some("0")).count();
        ensure!(down == 2, "{answer}");
        Ok(())
    })
    .await?;
    consul.put(&key("down"), r#"{"weights":{"blue":100,"green":0}}"#).await?;
    let output = import(&consul, 7, &["--from-haproxy", &haproxy.address(), "--yes", "-o", "json"]).await?;
    ensure!(output.err.contains("weightd will set down/green from 10 to 0, but not now: "), "{}", output.err);
    ensure!(!output.err.contains("nothing to do"), "{}", output.err);
    let json: Value = serde_json::from_str(&output.out)?;
    ensure!(json["next"][0]["server"] == "green" && json["next"][0]["not_now"].is_string(), "{json}");
    Ok(())
}
