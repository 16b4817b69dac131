//! weightctl with a real Consul: its writes, its refusals and its exit codes.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::harness::{
    Apps, Consul, Haproxy, PATIENCE, Weightd, config, consul::Options, eventually, weightd::weightctl,
};

mod terminal;

const KEY: &str = "weightd/weights/app1";

/// The exit code and the output of a weightctl.
#[derive(Debug)]
struct Output {
    code: i32,
    out: String,
    err: String,
}

impl Output {
    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// Runs weightctl with an optional token.
async fn run(consul: &Consul, token: Option<&str>, arguments: &str) -> anyhow::Result<Output> {
    let address = consul.address();
    let mut environment = vec![("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    environment.push(("WEIGHTD_ROOT", "weightd"));
    environment.extend(token.map(|token| ("CONSUL_HTTP_TOKEN", token)));
    let output = weightctl(&environment, &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    Ok(Output {
        code: output.status.code().context("weightctl was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Runs weightctl and expects this exit code.
async fn ends(consul: &Consul, code: i32, arguments: &str) -> anyhow::Result<Output> {
    let output = run(consul, consul.token(), arguments).await?;
    ensure!(output.code == code, "expected exit code {code} of `weightctl {arguments}`: {output:?}");
    Ok(output)
}

/// The document at `key`, without its field `at`.
async fn document(consul: &Consul, key: &str) -> anyhow::Result<Value> {
    let value = consul.get(key).await?.with_context(|| format!("no {key}"))?;
    let mut document: Value = serde_json::from_slice(&value)?;
    let at = document.as_object_mut().and_then(|fields| fields.remove("at"));
    ensure!(at.is_some_and(|at| at.as_str().is_some_and(|at| at.ends_with('Z'))), "no valid `at`: {document}");
    Ok(document)
}

#[tokio::test]
async fn a_backend_is_created_changed_and_released() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let refused = ends(&consul, 7, "set app1 blue=90 green=10 --yes").await?;
    assert!(refused.err.contains("--create"), "{refused:?}");
    ends(&consul, 0, "set app1 blue=90 green=10 --yes --create --reason canary").await?;
    assert_eq!(
        document(&consul, KEY).await?,
        json!({"v": 1, "weights": {"blue": 90, "green": 10}, "by": "alice", "reason": "canary"})
    );

    // A server that is not named keeps its weight. The reason of the previous change is removed.
    ends(&consul, 0, "set app1 green=30 --yes --by bob").await?;
    assert_eq!(
        document(&consul, KEY).await?,
        json!({
            "v": 1, "weights": {"blue": 90, "green": 30}, "by": "bob",
            "back": {"weights": {"blue": 90, "green": 10}}
        })
    );

    let before = consul.index(KEY).await?;
    let same = ends(&consul, 0, "set app1 green=30 --yes -o json").await?;
    assert!(same.err.contains("nothing to change"), "{same:?}");
    assert_eq!(same.json()?["changed"], json!(false));
    ends(&consul, 0, "set app1 green=31 --dry-run").await?;
    ends(&consul, 2, "set app1 green=31").await?;
    assert_eq!(consul.index(KEY).await?, before, "nothing was written");

    ends(&consul, 0, "release app1 --yes").await?;
    assert_eq!(document(&consul, KEY).await?, json!({"v": 1, "release": true, "by": "alice"}));
    ends(&consul, 7, "set app1 blue=1 green=1 --yes").await?;
    ends(&consul, 0, "set app1 blue=1 green=1 --yes --create").await?;
    Ok(())
}

#[tokio::test]
async fn json_output_has_the_documented_fields() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let first = ends(&consul, 0, "set app1 blue=2 green=1 --yes --create -o json").await?.json()?;
    assert_eq!((&first["changed"], &first["before"]), (&json!(true), &Value::Null));
    let second = ends(&consul, 0, "set app1 blue=1 --yes --output json").await?.json()?;
    assert_eq!(second["after"]["shares"], json!({"blue": 50.0, "green": 50.0}));
    assert_eq!(second["before"]["index"], first["index"]);

    let got = ends(&consul, 0, "get app1 -o json").await?.json()?;
    assert_eq!(got["index"], second["index"]);
    assert_eq!((&got["weights"], &got["by"]), (&json!({"blue": 1, "green": 1}), &json!("alice")));

    // Backends with a similar name are not affected.
    consul.put("weightd/weights/app10", "\u{1b}[31m").await?;
    consul.put("weightd/weights/app1-x/blue", "7").await?;
    assert_eq!(ends(&consul, 0, "get app1 -o json").await?.json()?, got);
    let all = ends(&consul, 0, "list -o json").await?;
    let states: Vec<_> =
        all.json()?["backends"].as_array().context("backends")?.iter().map(|b| b["state"].clone()).collect();
    assert_eq!(states, ["weights", "weights", "rejected"]);
    assert!(all.err.contains("weightd/weights/app10 is rejected"), "{all:?}");
    assert!(!(all.err + &all.out).contains('\u{1b}'), "text from Consul reaches the terminal");

    let slip = ends(&consul, 7, "get app11").await?;
    assert!(slip.err.contains("did you mean `app1"), "{slip:?}");
    let rejected = ends(&consul, 1, "get app10 -o json").await?;
    assert_eq!(rejected.json()?["state"], json!("rejected"));
    assert!(rejected.err.contains("hint: "), "{rejected:?}");
    Ok(())
}

#[tokio::test]
async fn leaves_stay_leaves_unless_a_change_needs_a_document() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for leaf in ["blue", "green"] {
        consul.put(&format!("{KEY}/{leaf}"), "50").await?;
    }
    ends(&consul, 0, "set app1 green=70 new=1 --yes --create").await?;
    assert_eq!(consul.get(KEY).await?, None);
    for (leaf, weight) in [("blue", "50"), ("green", "70"), ("new", "1")] {
        assert_eq!(consul.get(&format!("{KEY}/{leaf}")).await?.as_deref(), Some(weight.as_bytes()), "{leaf}");
    }
    ends(&consul, 0, "set app1 green=0 blue=0 new=0 --force --yes").await?;
    assert_eq!(consul.get(&format!("{KEY}/blue")).await?, None);
    assert_eq!(document(&consul, KEY).await?["force"], json!(true));

    consul.delete(KEY).await?;
    consul.put(&format!("{KEY}/blue"), "50").await?;
    ends(&consul, 0, "release app1 --yes").await?;
    assert_eq!(consul.get(&format!("{KEY}/blue")).await?, None);
    assert_eq!(document(&consul, KEY).await?["release"], json!(true));
    Ok(())
}

#[tokio::test]
async fn a_harmful_or_invalid_command_is_refused() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(KEY, r#"{"weights":{"blue":90,"green":10}}"#).await?;
    consul.put("weightd/weights/bad", "50%").await?;
    consul.put("weightd/weights/later", r#"{"v":2,"weights":{"blue":1}}"#).await?;
    let before = consul.index("weightd/").await?;
    for (code, arguments, word) in [
        (7, "set app1 blue=0 green=0 --yes", "--force"),
        (7, "set app1 gren=5 --yes", "`green`"),
        (7, "set ap1 blue=5 --yes", "`app1`"),
        (7, "release ap1 --yes", "`app1`"),
        (7, "set bad blue=5 --yes", "rejected"),
        (7, "release bad --yes", "rejected"),
        (7, "set later blue=5 --yes --create", "version 2"),
        (2, "set app1 blue=257 --yes", "blue=257"),
        (2, "set app1 blue=5 blue=6 --yes", "`blue` is named twice"),
        (2, "set app1 blue --yes", "SERVER=WEIGHT"),
        (2, "set app;1 blue=1 --yes", "app;1"),
        (2, "set app1 --yes", "SERVER=WEIGHT"),
        (2, "status --local --problems", "--problems"),
        (3, "status", "no node reports"),
        (2, "get --http-addr ftp://127.0.0.1:1", "ftp"),
        (1, "get --token-file /nonexistent", "--token-file"),
    ] {
        let output = ends(&consul, code, arguments).await?;
        assert!(output.err.contains(word), "{word} of `{arguments}`: {output:?}");
        assert_eq!(output.out, "", "{arguments}");
    }
    assert_eq!(consul.index("weightd/").await?, before, "nothing was written");
    // A rejected document is replaced with --create.
    ends(&consul, 0, "set bad blue=5 --yes --create").await?;
    Ok(())
}

#[tokio::test]
async fn a_denial_has_its_own_exit_code() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    consul.put(KEY, r#"{"weights":{"blue":90,"green":10}}"#).await?;
    consul.put("weightd/weights/app10", r#"{"weights":{"blue":1}}"#).await?;
    consul.put("weightd/weights/leaves/blue", "1").await?;
    let http = consul.http();
    http.set_policy("reader", r#"key_prefix "weightd/weights/" { policy = "read" }"#).await?;
    http.set_policy(
        "team",
        r#"key "weightd/weights/app1" { policy = "write" } key_prefix "weightd/weights/app1/" { policy = "write" }"#,
    )
    .await?;
    let (reader, team) = (http.new_token("reader").await?, http.new_token("team").await?);
    for (token, code, arguments) in [
        (None, 4, "get"),
        (None, 4, "get app1"),
        (None, 4, "set app1 blue=1 --yes"),
        (Some("11111111-1111-1111-1111-111111111111"), 4, "list"),
        (Some(&*reader), 0, "get"),
        (Some(&*reader), 0, "set app1 blue=1 --dry-run"),
        (Some(&*reader), 4, "set app1 blue=1 --yes"),
        (Some(&*reader), 4, "set new blue=1 --yes --create"),
        (Some(&*reader), 4, "set leaves blue=2 --yes"),
        (Some(&*reader), 4, "release leaves --yes"),
        (Some(&*team), 0, "set app1 blue=1 --yes"),
        (Some(&*team), 4, "set app10 blue=2 --yes"),
        (Some(&*team), 0, "get"),
    ] {
        let output = run(&consul, token, arguments).await?;
        assert_eq!(output.code, code, "`{arguments}`: {output:?}");
        assert!(code == 0 || output.err.contains("policy = "), "no rule is named: {output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unreachable_consul_has_its_own_exit_code() -> anyhow::Result<()> {
    let mut consul = Consul::start().await?;
    consul.kill().await?;
    for arguments in ["get", "list", "set app1 blue=1 --yes", "release app1 --dry-run"] {
        let output = ends(&consul, 6, arguments).await?;
        assert!(output.err.contains("hint: ") && output.out.is_empty(), "{output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_status_of_this_host_is_shown() -> anyhow::Result<()> {
    let (consul, apps) = (Consul::start().await?, Apps::start().await?);
    let servers = [("blue", apps.blue.port(), 1), ("green", apps.green.port(), 1)];
    let haproxy = Haproxy::start(&config::backend("app1", &["balance roundrobin"], &servers, "")).await?;
    ends(&consul, 0, "set app1 blue=90 green=10 --yes --create").await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    let status = format!("status --local --api {}", weightd.address());
    let output = eventually(PATIENCE, "weightd converges", async || ends(&consul, 0, &status).await).await?;
    assert!(output.out.contains("app1     blue         90        90        90    90%  converged"), "{}", output.out);

    consul.put("weightd/weights/gone", r#"{"weights":{"blue":1}}"#).await?;
    consul.put("weightd/weights/bad", "50%").await?;
    // The test may see the healthy one first, which is not converged for a moment.
    let output = eventually(PATIENCE, "the broken HAProxy is reported", async || {
        let output = ends(&consul, 3, &status).await?;
        ensure!(output.out.contains("hint: "), "{}", output.out);
        Ok(output)
    })
    .await?;
    assert!(output.out.contains("not converged"), "{}", output.out);
    let json = ends(&consul, 3, &format!("{status} -o json")).await?.json()?;
    assert_eq!(json["instances"][0]["converged"], json!(false));

    let address = weightd.address();
    drop(weightd);
    let output = ends(&consul, 1, &format!("status --local --api {address}")).await?;
    assert!(output.err.contains("systemctl status weightd"), "{output:?}");
    Ok(())
}
