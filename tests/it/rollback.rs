//! History, rollback and freeze with a real Consul: every write is in the history, and the way back is one command.

mod racing;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::harness::{Consul, weightd::weightctl};

const KEY: &str = "weightd/weights/app";
const HISTORY: &str = "weightd/history/app";

struct Ended {
    code: i32,
    out: String,
    err: String,
}

async fn run(consul: &Consul, token: Option<&str>, arguments: &[&str]) -> anyhow::Result<Ended> {
    let address = consul.address();
    let mut environment = vec![("CONSUL_HTTP_ADDR", address.as_str()), ("SUDO_USER", ""), ("USER", "alice")];
    environment.extend(token.map(|token| ("CONSUL_HTTP_TOKEN", token)));
    let output = weightctl(&environment, arguments).await?;
    Ok(Ended {
        code: output.status.code().context("weightctl was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Runs weightctl, expects this exit code, and returns its output.
async fn ends(consul: &Consul, code: i32, arguments: &str) -> anyhow::Result<Ended> {
    let ended = run(consul, consul.token(), &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    ensure!(ended.code == code, "{} and not {code} of `{arguments}`: {}{}", ended.code, ended.out, ended.err);
    Ok(ended)
}

/// Writes each of these weights with `set`.
async fn steps(consul: &Consul, steps: &[&str]) -> anyhow::Result<()> {
    for (number, weights) in steps.iter().enumerate() {
        let create = if number == 0 { " --create" } else { "" };
        ends(consul, 0, &format!("set app {weights} --yes{create}")).await?;
    }
    Ok(())
}

async fn weights(consul: &Consul) -> anyhow::Result<Value> {
    let document: Value = serde_json::from_slice(&consul.get(KEY).await?.context("no document")?)?;
    Ok(document["weights"].clone())
}

#[tokio::test]
async fn rollback_goes_back_to_where_the_shift_began_and_not_further() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=90 green=10", "blue=50 green=50", "blue=0 green=100"]).await?;
    let shown = ends(&consul, 0, "rollback app --dry-run").await?;
    assert!(shown.err.contains("100 →   0") && shown.err.contains("back to the state of index"), "{}", shown.err);
    assert_eq!(weights(&consul).await?, json!({"blue": 0, "green": 100}));

    let back = ends(&consul, 0, "rollback app --yes -m errors -o json").await?;
    let outcome: Value = serde_json::from_str(&back.out)?;
    assert_eq!(outcome["after"]["weights"], json!({"blue": 100, "green": 0}));
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    // A second one does not go up again.
    let again = ends(&consul, 7, "rollback app --yes").await?;
    assert!(again.err.contains("rollback already, by alice"), "{}", again.err);

    let history: Value = serde_json::from_str(&ends(&consul, 0, "history app -o json").await?.out)?;
    let entries = history.as_array().context("a list")?;
    let ways: Vec<_> = entries.iter().map(|entry| entry["way"].as_str().unwrap_or_default()).collect();
    assert_eq!(ways, ["rollback", "set", "set", "set", "create"]);
    assert_eq!(entries[0]["target"], entries[4]["index"]);
    assert_eq!((&entries[0]["by"], &entries[0]["why"]), (&json!("alice"), &json!("errors")));
    assert!(entries.iter().all(|entry| entry["index"].is_u64() && entry["at"].is_string()), "{history:#}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_the_target_does_not_name_gets_no_traffic_after_a_rollback() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=90 green=10"]).await?;
    ends(&consul, 0, "set app blue=0 green=50 green2=50 --create --yes").await?;
    ends(&consul, 0, "rollback app --yes").await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0, "green2": 0}));
    Ok(())
}

#[tokio::test]
async fn where_several_states_are_possible_the_printed_commands_choose_one() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(
        &consul,
        &["blue=100 green=0", "blue=90 green=10", "blue=50 green=50", "blue=90 green=10", "blue=0 green=100"],
    )
    .await?;
    let asked = ends(&consul, 7, "rollback app --yes").await?;
    let commands: Vec<_> = asked.err.split('`').filter(|text| text.starts_with("weightctl rollback app ")).collect();
    assert!(!commands.is_empty() && commands.len() <= 3, "{}", asked.err);
    let before = weights(&consul).await?;
    for command in commands {
        let arguments: Vec<_> = command.split_whitespace().skip(1).map(|word| word.trim_matches('\'')).collect();
        let dry: Vec<_> = arguments.iter().map(|word| if *word == "--yes" { "--dry-run" } else { word }).collect();
        let ended = run(&consul, None, &dry).await?;
        ensure!(ended.code == 0, "`{command}` ends with {}: {}", ended.code, ended.err);
    }
    assert_eq!(weights(&consul).await?, before);
    Ok(())
}

#[tokio::test]
async fn step_to_and_settle_move_the_target() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=50 green=50"]).await?;
    ends(&consul, 0, "settle app").await?;
    ends(&consul, 0, "set app blue=40 green=60 --yes").await?;
    ends(&consul, 0, "set app blue=20 green=80 --yes").await?;
    // A settled state is as far as a rollback goes.
    ends(&consul, 0, "rollback app --yes").await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 50, "green": 50}));
    ends(&consul, 0, "set app blue=40 green=60 --yes").await?;
    ends(&consul, 0, "set app blue=20 green=80 --yes").await?;
    ends(&consul, 0, "rollback app --step --yes").await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 40, "green": 60}));
    let history: Value = serde_json::from_str(&ends(&consul, 0, "history app -o json").await?.out)?;
    let first = history.as_array().and_then(|entries| entries.last()).context("entries")?["index"].to_string();
    ends(&consul, 0, &format!("rollback app --to {first} --yes")).await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    ends(&consul, 7, "rollback app --to 1 --yes").await?;
    ends(&consul, 7, "rollback nope --yes").await?;
    ends(&consul, 7, "settle nope").await.map(drop)
}

#[tokio::test]
async fn a_freeze_stops_changes_and_not_the_way_back() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0", "blue=50 green=50"]).await?;
    for scope in ["", "app"] {
        ends(&consul, 0, &format!("freeze {scope} -m audit")).await?;
        let refused = ends(&consul, 7, "set app blue=10 green=90 --yes").await?;
        assert!(refused.err.contains("frozen by alice") && refused.err.contains("audit"), "{}", refused.err);
        ends(&consul, 7, "release app --yes").await?;
        assert_eq!(weights(&consul).await?, json!({"blue": 50, "green": 50}));
        ends(&consul, 0, &format!("unfreeze {scope}")).await?;
        // `{}` stays, so that later writes can check it.
        let key = if scope.is_empty() { "weightd/freeze" } else { "weightd/freeze/app" };
        assert_eq!(consul.get(key).await?.as_deref(), Some(&b"{}"[..]));
    }
    ends(&consul, 0, "freeze -m audit").await?;
    ends(&consul, 0, "rollback app --yes").await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    let already = ends(&consul, 0, "unfreeze app").await?;
    assert!(already.err.contains("was not frozen"), "{}", already.err);
    Ok(())
}

#[tokio::test]
async fn the_state_before_the_first_document_can_be_named() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    ends(&consul, 2, "set app blue=50 green=50 --from blue=100,green=0 --yes").await?;
    ends(&consul, 2, "set app blue=50 green=50 --create --from blue=0,green=0 --yes").await?;
    ends(&consul, 2, "set app blue=50 green=50 --create --from blue=1,blue=2 --yes").await?;
    ends(&consul, 0, "set app blue=50 green=50 --create --from blue=100,green=0 --yes").await?;
    ends(&consul, 0, "rollback app --yes").await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    let history: Value = serde_json::from_str(&ends(&consul, 0, "history app -o json").await?.out)?;
    assert_eq!((&history[2]["way"], &history[2]["by"]), (&json!("observed"), &json!("alice")));
    let refused = ends(&consul, 7, "set app blue=1 --create --from blue=100 --yes").await?;
    assert!(refused.err.contains("--from is for a first document"), "{}", refused.err);
    Ok(())
}

#[tokio::test]
async fn a_freeze_that_nobody_could_read_is_refused_and_can_be_ended() -> anyhow::Result<()> {
    const FREEZE: &str = "weightd/freeze";
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0"]).await?;
    let before = consul.get(FREEZE).await?;
    for long in [format!("freeze -m {}", "x".repeat(5000)), format!("freeze -m audit --by {}", "x".repeat(5000))] {
        let refused = ends(&consul, 7, &long).await?;
        assert!(refused.err.contains("more than 4096") && refused.err.contains("shorten"), "{}", refused.err);
        assert_eq!(consul.get(FREEZE).await?, before);
    }
    let too_large = json!({"frozen": {"reason": "x".repeat(100_000)}}).to_string();
    for unreadable in [too_large.as_str(), "garbage", r#"{"v":1,"frozen":7}"#] {
        consul.put(FREEZE, unreadable).await?;
        ends(&consul, 0, "unfreeze").await?;
        assert_eq!(consul.get(FREEZE).await?.as_deref(), Some(&b"{}"[..]));
        consul.put(FREEZE, unreadable).await?;
        ends(&consul, 0, "freeze -m audit").await?;
        ends(&consul, 7, "set app blue=10 --yes").await?;
    }
    // A newer version may say something that this one does not know.
    let newer = format!(r#"{{"v":2,"frozen":{{}},"x":"{}"}}"#, "x".repeat(5000));
    consul.put(FREEZE, newer.as_bytes()).await?;
    for verb in ["unfreeze", "freeze -m audit"] {
        let unreadable = ends(&consul, 1, verb).await?;
        assert!(unreadable.err.contains("version 2"), "{}", unreadable.err);
    }
    assert_eq!(consul.get(FREEZE).await?.as_deref(), Some(newer.as_bytes()));
    Ok(())
}

#[tokio::test]
async fn an_unreadable_history_blocks_no_write() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0"]).await?;
    for bad in ["garbage", r#"{"v":2,"entries":[]}"#, &"x".repeat(20_000)] {
        consul.put(HISTORY, bad).await?;
        let written = ends(&consul, 0, "set app blue=90 green=10 --yes").await?;
        assert!(written.err.contains("the history has no entry for this write"), "{}", written.err);
        ends(&consul, 0, "set app blue=100 green=0 --yes").await?;
        assert_eq!(consul.get(HISTORY).await?.as_deref(), Some(bad.as_bytes()), "it is not overwritten");
        ends(&consul, 7, "rollback app --yes").await?;
        ends(&consul, 1, "history app").await?;
    }
    // The same for a first document with the weights before it.
    consul.put("weightd/history/app2", "garbage").await?;
    let written = ends(&consul, 0, "set app2 blue=50 green=50 --create --from blue=100,green=0 --yes").await?;
    let why = "app2: no rollback goes back to before the first document: the history cannot be read: ";
    assert!(written.err.contains(why), "{}", written.err);
    let refused = ends(&consul, 7, "set app2 blue=1 --create --from blue=100 --yes").await?;
    assert!(refused.err.contains("--from is for a first document"), "{}", refused.err);
    Ok(())
}

#[tokio::test]
async fn a_write_without_weightctl_is_in_the_history_as_direct() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    steps(&consul, &["blue=100 green=0"]).await?;
    consul.put(KEY, r#"{"weights":{"blue":30,"green":70},"by":"script"}"#).await?;
    let ways = async || {
        let history: Value = serde_json::from_str(&ends(&consul, 0, "history app -o json").await?.out)?;
        let entries = history.as_array().context("a list")?.clone();
        anyhow::Ok(entries.iter().map(|entry| format!("{} {}", entry["way"], entry["by"])).collect::<Vec<_>>())
    };
    assert_eq!(ways().await?, [r#""direct" "script""#, r#""create" "alice""#]);
    // It has no time, and is what one looks for.
    let since: Value = serde_json::from_str(&ends(&consul, 0, "history --since 1h -o json").await?.out)?;
    assert_eq!((&since[0]["way"], &since[1]["way"]), (&json!("direct"), &json!("create")), "{since:#}");
    ends(&consul, 0, "rollback app --yes").await?;
    assert_eq!(weights(&consul).await?, json!({"blue": 100, "green": 0}));
    assert_eq!(ways().await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn every_backend_leaves_a_side_with_one_command() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for number in 0..40 {
        let name = format!("app{number}");
        let document = |blue, green| format!(r#"{{"weights":{{"blue":{blue},"green-{number}":{green}}}}}"#);
        consul.put(&format!("weightd/weights/{name}"), document(100, 0)).await?;
        let history = format!(r#"{{"v":1,"entries":[{{"way":"create","to":{}}}]}}"#, document(100, 0));
        consul.put(&format!("weightd/history/{name}"), history).await?;
        consul.put(&format!("weightd/weights/{name}"), document(20, 80)).await?;
    }
    consul.put("weightd/weights/other", r#"{"weights":{"blue":1,"red":1}}"#).await?;
    let back = ends(&consul, 0, "rollback --all --off green* --yes -o json").await?;
    let outcomes: Value = serde_json::from_str(&back.out)?;
    assert_eq!(outcomes.as_array().map(Vec::len), Some(40));
    for number in 0..40 {
        let document = consul.get(&format!("weightd/weights/app{number}")).await?.context("a document")?;
        let document: Value = serde_json::from_slice(&document)?;
        assert_eq!(document["weights"][format!("green-{number}")], 0, "{document}");
        assert_eq!(document["weights"]["blue"], 100, "{document}");
    }
    let nothing = ends(&consul, 0, "rollback --all --off green* --yes").await?;
    assert!(nothing.err.contains("no document gives these servers traffic"), "{}", nothing.err);
    // The nodes may not have them yet: a wait asks, also where nothing is written.
    let waited = ends(&consul, 3, "rollback --all --off green* --yes --wait -o json").await?;
    assert!(waited.err.contains("40 of 40 backends are not on all nodes"), "{}", waited.err);
    let unchanged: Value = serde_json::from_str(waited.out.lines().next().context("no line")?)?;
    let unchanged = unchanged.as_array().context("no list")?;
    assert!(unchanged.len() == 40 && unchanged.iter().all(|outcome| outcome["changed"] == false), "{unchanged:?}");
    Ok(())
}
