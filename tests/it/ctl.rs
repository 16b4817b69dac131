//! weightctl against a real Consul: what it writes, what it refuses, how it ends.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::harness::{
    Apps, Consul, Haproxy, PATIENCE, Weightd, config, consul::Options, eventually, weightd::weightctl,
};

mod terminal;

const KEY: &str = "weightd/weights/app1";

/// What a weightctl said and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// Runs weightctl, with a token if there is one.
async fn run(consul: &Consul, token: Option<&str>, arguments: &str) -> anyhow::Result<Said> {
    let address = consul.address();
    let mut environment = vec![("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    environment.push(("WEIGHTD_ROOT", "weightd"));
    environment.extend(token.map(|token| ("CONSUL_HTTP_TOKEN", token)));
    let output = weightctl(&environment, &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    Ok(Said {
        code: output.status.code().context("it was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Runs weightctl and expects it to end with `code`.
async fn ends(consul: &Consul, code: i32, arguments: &str) -> anyhow::Result<Said> {
    let said = run(consul, consul.token(), arguments).await?;
    ensure!(said.code == code, "expected {code} of `weightctl {arguments}`: {said:?}");
    Ok(said)
}

/// The document at `key`, without the moment of its writing.
async fn document(consul: &Consul, key: &str) -> anyhow::Result<Value> {
    let value = consul.get(key).await?.with_context(|| format!("no {key}"))?;
    let mut document: Value = serde_json::from_slice(&value)?;
    let at = document.as_object_mut().and_then(|fields| fields.remove("at"));
    ensure!(at.is_some_and(|at| at.as_str().is_some_and(|at| at.ends_with('Z'))), "when? {document}");
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

    // A server that is not named keeps its weight; the reason of the change before is gone.
    ends(&consul, 0, "set app1 green=30 --yes --by bob").await?;
    assert_eq!(document(&consul, KEY).await?, json!({"v": 1, "weights": {"blue": 90, "green": 30}, "by": "bob"}));

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
async fn data_is_what_was_promised() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let first = ends(&consul, 0, "set app1 blue=2 green=1 --yes --create -o json").await?.json()?;
    assert_eq!((&first["changed"], &first["before"]), (&json!(true), &Value::Null));
    let second = ends(&consul, 0, "set app1 blue=1 --yes --output json").await?.json()?;
    assert_eq!(second["after"]["shares"], json!({"blue": 50.0, "green": 50.0}));
    assert_eq!(second["before"]["index"], first["index"]);

    let got = ends(&consul, 0, "get app1 -o json").await?.json()?;
    assert_eq!(got["index"], second["index"]);
    assert_eq!((&got["weights"], &got["by"]), (&json!({"blue": 1, "green": 1}), &json!("alice")));

    // Other backends whose name begins alike are none of its business.
    consul.put("weightd/weights/app10", "\u{1b}[31m").await?;
    consul.put("weightd/weights/app1-x/blue", "7").await?;
    assert_eq!(ends(&consul, 0, "get app1 -o json").await?.json()?, got);
    let all = ends(&consul, 0, "list -o json").await?;
    let states: Vec<_> =
        all.json()?["backends"].as_array().context("backends")?.iter().map(|b| b["state"].clone()).collect();
    assert_eq!(states, ["weights", "weights", "rejected"]);
    assert!(all.err.contains("weightd/weights/app10 is rejected"), "{all:?}");
    assert!(!(all.err + &all.out).contains('\u{1b}'), "foreign text reaches the terminal");

    let slip = ends(&consul, 7, "get app11").await?;
    assert!(slip.err.contains("did you mean `app1"), "{slip:?}");
    let rejected = ends(&consul, 1, "get app10 -o json").await?;
    assert_eq!(rejected.json()?["state"], json!("rejected"));
    assert!(rejected.err.contains("hint: "), "{rejected:?}");
    Ok(())
}

#[tokio::test]
async fn leaves_stay_leaves_until_they_have_to_say_more() -> anyhow::Result<()> {
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
async fn what_would_do_harm_is_refused() -> anyhow::Result<()> {
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
        (2, "status", "--local"),
        (2, "get --http-addr ftp://127.0.0.1:1", "ftp"),
        (1, "get --token-file /nonexistent", "--token-file"),
    ] {
        let said = ends(&consul, code, arguments).await?;
        assert!(said.err.contains(word), "{word} of `{arguments}`: {said:?}");
        assert_eq!(said.out, "", "{arguments}");
    }
    assert_eq!(consul.index("weightd/").await?, before, "nothing was written");
    // What means nothing to anybody is replaced on purpose.
    ends(&consul, 0, "set bad blue=5 --yes --create").await?;
    Ok(())
}

#[tokio::test]
async fn a_denial_is_told_from_everything_else() -> anyhow::Result<()> {
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
        let said = run(&consul, token, arguments).await?;
        assert_eq!(said.code, code, "`{arguments}`: {said:?}");
        assert!(code == 0 || said.err.contains("policy = "), "no rule is named: {said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_consul_that_is_down_is_told_from_everything_else() -> anyhow::Result<()> {
    let mut consul = Consul::start().await?;
    consul.kill().await?;
    for arguments in ["get", "list", "set app1 blue=1 --yes", "release app1 --dry-run"] {
        let said = ends(&consul, 6, arguments).await?;
        assert!(said.err.contains("hint: ") && said.out.is_empty(), "{said:?}");
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
    let said = eventually(PATIENCE, "it converges", async || ends(&consul, 0, &status).await).await?;
    assert!(said.out.contains("app1     blue         90        90        90    90%  converged"), "{}", said.out);

    consul.put("weightd/weights/gone", r#"{"weights":{"blue":1}}"#).await?;
    consul.put("weightd/weights/bad", "50%").await?;
    // The good one of the two may be seen first, and is not converged for a moment.
    let said = eventually(PATIENCE, "the bad one is seen", async || {
        let said = ends(&consul, 3, &status).await?;
        ensure!(said.out.contains("hint: "), "{}", said.out);
        Ok(said)
    })
    .await?;
    assert!(said.out.contains("not converged"), "{}", said.out);
    let json = ends(&consul, 3, &format!("{status} -o json")).await?.json()?;
    assert_eq!(json["instances"][0]["converged"], json!(false));

    let address = weightd.address();
    drop(weightd);
    let said = ends(&consul, 1, &format!("status --local --api {address}")).await?;
    assert!(said.err.contains("systemctl status weightd"), "{said:?}");
    Ok(())
}
