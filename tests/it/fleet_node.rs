//! What a node says of itself in Consul: its key in `nodes/`, and its inventory entry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    common::{A_WHILE, SOON, backend, becomes, document, key, lines, put, servers, stays},
    harness::{
        Consul, Haproxy, Weightd, always, consul,
        consul::expect_ok,
        eventually,
        gate::{Gate, Passage},
        weightd::Settings,
    },
};

/// The key of the node.
pub(crate) const NODE: &str = "weightd/nodes/lb1";
/// Its inventory entry.
const INVENTORY: &str = "weightd/inventory/lb1";
/// How long the return of the key may take: the session is renewed every 3 s, and a busy machine is slower.
const BACK: Duration = Duration::from_secs(8);

/// A JSON value in Consul; null if there is none.
async fn json_at(consul: &Consul, key: &str) -> anyhow::Result<Value> {
    match consul.get(key).await? {
        Some(value) => serde_json::from_slice(&value).with_context(|| String::from_utf8_lossy(&value).into_owned()),
        None => Ok(Value::Null),
    }
}

/// The key of the node, as Consul has it: with its session and its indexes.
async fn entry(consul: &Consul, key: &str) -> anyhow::Result<Value> {
    let answer = consul.http().request(Method::GET, &format!("kv/{key}")).send().await?;
    if answer.status() == 404 {
        return Ok(Value::Null);
    }
    let mut entries: Value = serde_json::from_str(&answer.text().await?)?;
    Ok(entries[0].take())
}

/// The `ModifyIndex` of a key.
async fn index(consul: &Consul, key: &str) -> anyhow::Result<u64> {
    entry(consul, key).await?["ModifyIndex"].as_u64().with_context(|| format!("no {key}"))
}

/// The session that holds the key of the node.
pub(crate) async fn session(consul: &Consul) -> anyhow::Result<String> {
    let entry = entry(consul, NODE).await?;
    entry["Session"].as_str().map(str::to_owned).with_context(|| format!("no session: {entry}"))
}

/// Waits until the report of the node is as `test` demands.
async fn reports(
    consul: &Consul,
    within: Duration,
    what: &str,
    test: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    eventually(within, what, async || {
        let report = json_at(consul, NODE).await?;
        ensure!(test(&report), "{report}");
        Ok(report)
    })
    .await
}

/// Waits until the report has the present document of `backend` as `word`.
pub(crate) async fn says(consul: &Consul, backend: &str, word: &str) -> anyhow::Result<Value> {
    let index = index(consul, &key(backend)).await?;
    let wanted = json!([backend, index, word]);
    let has = |report: &Value| report["recent"].as_array().is_some_and(|recent| recent.contains(&wanted));
    reports(consul, SOON, &format!("{backend} at {index} is {word}"), has).await
}

/// Waits until the key is held by another session than `former`, and returns after how long.
pub(crate) async fn is_back(consul: &Consul, former: &str) -> anyhow::Result<Duration> {
    let start = Instant::now();
    eventually(BACK, "the key is back", async || {
        let now = session(consul).await?;
        ensure!(now != former, "still the former session");
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

/// Waits until the status shows how the key stands, and returns the remedy.
pub(crate) async fn stands(weightd: &Weightd, within: Duration, word: &str) -> anyhow::Result<String> {
    eventually(within, &format!("the key is {word}"), async || {
        let fleet = weightd.status().await?["fleet"][0].take();
        ensure!(fleet["state"] == word, "{fleet}");
        Ok(fleet["remedy"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

pub(crate) async fn destroy(consul: &Consul, session: &str) -> anyhow::Result<()> {
    expect_ok(consul.http().request(Method::PUT, &format!("session/destroy/{session}"))).await.map(drop)
}

#[tokio::test]
async fn the_key_has_a_document_as_soon_as_haproxy_has_it() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&(backend("app", 0, 100) + &backend("full", 9, 9))).await?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    let report = says(&consul, "app", "set").await?;
    assert_eq!(report["applied_index"].as_u64(), Some(index(&consul, &key("app")).await?), "{report}");
    for (field, value) in [("node", json!("lb1")), ("mode", json!("enforce")), ("backends", json!(1))] {
        assert_eq!(report[field], value, "{report}");
    }
    assert_eq!(report["instances"][0]["up"], true, "{report}");
    let mut slowest = Duration::ZERO;
    for blue in 1..=20 {
        put(&consul, "app", blue, 100).await?;
        let written = Instant::now();
        says(&consul, "app", "set").await?;
        slowest = slowest.max(written.elapsed());
        becomes(&haproxy, "app", blue, 100).await?;
    }
    eprintln!("slowest of 20 changes: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // A document that changes no weight is read back too.
    let written = Instant::now();
    consul.put(&key("app"), json!({ "weights": { "blue": 20, "green": 100 }, "by": "bob" }).to_string()).await?;
    says(&consul, "app", "set").await?;
    eprintln!("a document without a change: {:?}", written.elapsed());
    assert!(written.elapsed() < Duration::from_secs(2), "{:?}", written.elapsed());

    // The other words.
    put(&consul, "absent", 1, 1).await?;
    let report = says(&consul, "absent", "lacks").await?;
    assert_eq!(report["lacks"], json!(["absent"]), "{report}");
    put(&consul, "full", 0, 0).await?;
    let report = says(&consul, "full", "guarded").await?;
    assert_eq!(report["out"][0][0], "full", "{report}");
    consul.put(&key("app"), r#"{"weights": {}}"#).await?;
    says(&consul, "app", "rejected").await?;
    put(&consul, "app", 5, 5).await?;
    says(&consul, "app", "set").await?;
    let highest = index(&consul, &key("app")).await?;
    reports(&consul, SOON, "all are decided", |report| report["applied_index"].as_u64() == Some(highest)).await?;
    // A release sets nothing, but only a HAProxy that has the backend has released it.
    for (backend, word) in [("tpyo", "lacks"), ("app", "set")] {
        consul.put(&key(backend), r#"{"release": true}"#).await?;
        says(&consul, backend, word).await?;
    }

    let entry = json_at(&consul, INVENTORY).await?;
    assert_eq!(entry["node"], "lb1", "{entry}");
    ensure!(weightd.metric(r#"weightd_fleet_published{root="weightd/"}"#).await? > 0.5);
    Ok(())
}

#[tokio::test]
async fn one_change_is_one_write_and_an_idle_node_writes_nothing() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let gate = Gate::open(&consul).await?;
    let (written, renewed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (writes, renewals) = (Arc::clone(&written), Arc::clone(&renewed));
    gate.rule(move |method, path| {
        if *method == Method::PUT {
            let counter = if path.contains("/session/renew/") { &renewals } else { &writes };
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Passage::Through
    });
    let weightd = Settings::without_haproxy(&gate.address()).haproxy("haproxy", &haproxy.address()).start().await?;
    says(&consul, "app", "set").await?;
    eventually(SOON, "the inventory entry is there", async || index(&consul, INVENTORY).await).await?;

    let before = (written.load(Ordering::SeqCst), index(&consul, NODE).await?, consul.index("weightd/").await?);
    let renewals = renewed.load(Ordering::SeqCst);
    always(Duration::from_secs(8), "nothing is written", async || {
        let now = (written.load(Ordering::SeqCst), index(&consul, NODE).await?, consul.index("weightd/").await?);
        ensure!(now == before, "{now:?} instead of {before:?}");
        Ok(())
    })
    .await?;
    ensure!(renewed.load(Ordering::SeqCst) >= renewals + 2, "the session is renewed");

    for blue in 1..=10 {
        let before = written.load(Ordering::SeqCst);
        put(&consul, "app", blue, 100).await?;
        says(&consul, "app", "set").await?;
        let writes = written.load(Ordering::SeqCst) - before;
        ensure!(writes == 1, "change {blue} took {writes} writes");
        // The token bucket refills one a second.
    }
    let counted = weightd.metric(r#"weightd_fleet_writes_total{root="weightd/"}"#).await?;
    ensure!(counted >= 12.0, "{counted}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_deleted_or_overwritten_comes_back() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    says(&consul, "app", "set").await?;
    for value in [None, Some("forged"), Some("{}"), Some(r#"{"v": 1, "machine": "other"}"#)] {
        match value {
            None => consul.delete(NODE).await?,
            Some(value) => consul.put(NODE, value).await?,
        }
        let start = Instant::now();
        reports(&consul, BACK, "the report is back", |report| report["node"] == "lb1").await?;
        eprintln!("after {value:?}: back in {:?}", start.elapsed());
    }
    // The inventory entry comes back by itself, and at once with the next session, as after a loss of Consul's data.
    let of_now = session(&consul).await?;
    consul.delete(INVENTORY).await?;
    let again = async || index(&consul, INVENTORY).await;
    eventually(Duration::from_secs(50), "the inventory entry is back with the same session", again).await?;
    ensure!(session(&consul).await? == of_now, "another session");
    consul.delete(INVENTORY).await?;
    let former = session(&consul).await?;
    destroy(&consul, &former).await?;
    is_back(&consul, &former).await?;
    eventually(SOON, "the inventory entry is back", async || index(&consul, INVENTORY).await).await?;
    stands(&weightd, SOON, "published").await?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_destroyed_again_and_again_comes_back_without_a_false_duplicate() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    says(&consul, "app", "set").await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let former = session(&consul).await?;
        destroy(&consul, &former).await?;
        slowest = slowest.max(is_back(&consul, &former).await?);
        // The first report with the new session: a node that has not read its documents would be a false alarm.
        let report = json_at(&consul, NODE).await?;
        ensure!(report["backends"] == 1 && report["applied_index"].is_u64(), "{report}");
        says(&consul, "app", "set").await?;
    }
    eprintln!("slowest return of 20: {slowest:?}");
    ensure!(!weightd.log().contains("another machine publishes"), "{}", weightd.log());
    stands(&weightd, SOON, "published").await?;
    Ok(())
}

#[tokio::test]
async fn a_weightd_that_was_killed_takes_its_key_over_at_once() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    says(&consul, "app", "set").await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let former = session(&consul).await?;
        weightd.kill().await?;
        let start = Instant::now();
        weightd.start_again().await?;
        is_back(&consul, &former).await?;
        says(&consul, "app", "set").await?;
        slowest = slowest.max(start.elapsed());
    }
    eprintln!("slowest takeover of 3, from the start of weightd: {slowest:?}");
    ensure!(slowest < Duration::from_secs(2), "{slowest:?}");
    stands(&weightd, SOON, "published").await?;
    // A clean stop ends the session, and with it the key; the inventory entry stays.
    weightd.stop().await?;
    ensure!(entry(&consul, NODE).await?.is_null(), "the key went with the session");
    ensure!(!entry(&consul, INVENTORY).await?.is_null(), "the fleet misses this node");
    Ok(())
}

#[tokio::test]
async fn the_key_is_back_after_a_restart_of_consul_with_and_without_its_data() -> anyhow::Result<()> {
    for durable in [false, true] {
        let consul = Consul::start_with(consul::Options { durable, ..Default::default() });
        let haproxy = async { Haproxy::start(&backend("app", 0, 100)).await };
        let (mut consul, haproxy) = tokio::try_join!(consul, haproxy)?;
        put(&consul, "app", 90, 10).await?;
        let weightd = Weightd::start(&consul, &haproxy).await?;
        says(&consul, "app", "set").await?;
        consul.kill().await?;
        let alone = stands(&weightd, Duration::from_secs(30), "absent").await;
        alone.context("what is not known is not shown as published")?;
        consul.start_again().await?;
        let start = Instant::now();
        put(&consul, "app", 80, 20).await?;
        eventually(Duration::from_secs(20), "the key is back", async || says(&consul, "app", "set").await).await?;
        eprintln!("durable {durable}: back {:?} after Consul", start.elapsed());
        eventually(SOON, "the inventory entry is there", async || index(&consul, INVENTORY).await).await?;
        stands(&weightd, SOON, "published").await?;
        ensure!(!weightd.log().contains("another machine publishes"), "{}", weightd.log());
    }
    Ok(())
}

#[tokio::test]
async fn another_machine_with_the_same_name_enforces_and_notes_itself() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    let second = Haproxy::start(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let machine = |haproxy: &Haproxy, id: &str| {
        Settings::new(&consul, haproxy).set("fleet.machine_id", id).set("fleet.leave_on_stop", true)
    };
    let mut first = machine(&haproxy, "m1").start().await?;
    says(&consul, "app", "set").await?;
    let held = session(&consul).await?;
    let mut other = machine(&second, "m2").start().await?;
    let start = Instant::now();
    becomes(&second, "app", 90, 10).await?;
    let remedy = stands(&other, Duration::from_secs(60), "duplicate_node").await?;
    let after = start.elapsed();
    eprintln!("a duplicate after {after:?}");
    ensure!(after >= Duration::from_secs(28), "{after:?}");
    ensure!(remedy.contains("`node`"), "{remedy}");
    eventually(SOON, "it notes itself", async || {
        let entry = json_at(&consul, INVENTORY).await?;
        ensure!(entry["machine"] == "m1" && entry["duplicate"]["machine"] == "m2", "{entry}");
        Ok(())
    })
    .await?;
    // It enforces, and does not take the key.
    put(&consul, "app", 80, 20).await?;
    becomes(&second, "app", 80, 20).await?;
    says(&consul, "app", "set").await?;
    assert_eq!(session(&consul).await?, held);
    assert_eq!(lines(&other, &["ERROR", "another machine publishes under the name of this node"]).len(), 1);

    other.stop().await?;
    let entry = json_at(&consul, INVENTORY).await?;
    ensure!(
        entry["machine"] == "m1" && entry["duplicate"].is_null(),
        "a duplicate that stops removes its note: {entry}"
    );
    first.stop().await?;
    ensure!(json_at(&consul, INVENTORY).await?.is_null(), "with leave_on_stop the entry goes too");
    Ok(())
}

#[tokio::test]
async fn a_copy_with_the_same_machine_id_stays_noted() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    let second = Haproxy::start(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let machine = |haproxy: &Haproxy| Settings::new(&consul, haproxy).set("fleet.machine_id", "m1");
    let _first = machine(&haproxy).start().await?;
    says(&consul, "app", "set").await?;
    eventually(SOON, "the inventory entry is there", async || index(&consul, INVENTORY).await).await?;
    let mut copy = machine(&second).start().await?;
    let is_noted = async || {
        let entry = json_at(&consul, INVENTORY).await?;
        ensure!(entry["duplicate"]["machine"] == "m1", "{entry}");
        Ok(())
    };
    // The copy takes the key over once, and the first one takes it back. Each writes the entry at most every 10 s.
    eventually(Duration::from_secs(30), "one of them notes itself", is_noted).await?;
    // Each reads a correct entry again every 30 s.
    always(Duration::from_secs(35), "it stays noted", is_noted).await?;
    copy.stop().await?;
    says(&consul, "app", "set").await?;
    Ok(())
}

#[tokio::test]
async fn a_token_without_the_rights_is_warned_of_once_and_the_weights_are_enforced() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    let haproxy = Haproxy::start(&backend("app", 0, 100)).await?;
    let read = r#"key_prefix "weightd/weights/" { policy = "read" }"#;
    consul.http().set_policy("node", read).await?;
    let token = consul.http().new_token("node").await?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Settings::without_haproxy(&consul.address())
        .haproxy("haproxy", &haproxy.address())
        .env("CONSUL_HTTP_TOKEN", &token)
        .start()
        .await?;
    becomes(&haproxy, "app", 90, 10).await?;
    let remedy = stands(&weightd, SOON, "denied").await?;
    for rule in [
        r#"key "weightd/nodes/lb1" { policy = "write" }"#,
        r#"key "weightd/inventory/lb1" { policy = "write" }"#,
        r#"session "NODE" { policy = "write" }"#,
    ] {
        ensure!(remedy.contains(rule), "no {rule} in {remedy}");
    }
    // Each right alone is not enough.
    let agent = consul.http().json(Method::GET, "agent/self", &Value::Null).await?["Config"]["NodeName"].take();
    let agent = agent.as_str().context("no name of the agent")?;
    let session = format!(r#"session "{agent}" {{ policy = "write" }}"#);
    consul.http().set_policy("node", &format!("{read} {session}")).await?;
    always(Duration::from_secs(12), "it is denied", async || {
        let fleet = weightd.status().await?["fleet"][0].take();
        ensure!(fleet["state"] == "denied", "{fleet}");
        Ok(())
    })
    .await?;
    assert_eq!(lines(&weightd, &[" WARN", "may not publish"]).len(), 1, "{}", weightd.log());
    put(&consul, "app", 80, 20).await?;
    becomes(&haproxy, "app", 80, 20).await?;
    ensure!(weightd.metric(r#"weightd_fleet_errors_total{root="weightd/",reason="denied"}"#).await? >= 2.0);
    ensure!(weightd.metric(r#"weightd_fleet_published{root="weightd/"}"#).await? < 0.5);

    let keys = ["nodes", "inventory"].map(|kind| format!(r#"key "weightd/{kind}/lb1" {{ policy = "write" }}"#));
    consul.http().set_policy("node", &format!("{read} {session} {}", keys.join(" "))).await?;
    let start = Instant::now();
    stands(&weightd, Duration::from_secs(20), "published").await?;
    eprintln!("published {:?} after the right was given", start.elapsed());
    says(&consul, "app", "set").await?;
    eventually(SOON, "the inventory entry is there", async || index(&consul, INVENTORY).await).await?;
    ensure!(!weightd.log().contains(&token), "the token is not logged");
    Ok(())
}

#[tokio::test]
async fn a_node_that_only_observes_says_so_and_a_haproxy_that_is_down_too() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    let weightd = Settings::new(&consul, &haproxy).set("mode", "observe").start().await?;
    let report = reports(&consul, SOON, "it observes", |report| report["backends"] == 1).await?;
    assert_eq!(report["mode"], "observe", "{report}");
    stays(&haproxy, "app", 0, 100).await?;
    always(A_WHILE, "a difference is not reported as set", async || {
        let report = json_at(&consul, NODE).await?;
        ensure!(report["recent"][0][2] != "set", "{report}");
        Ok(())
    })
    .await?;
    let before = weightd.metric(r#"weightd_fleet_writes_total{root="weightd/"}"#).await?;
    haproxy.stop().await?;
    let report = reports(&consul, SOON, "HAProxy is down", |report| report["instances"][0]["up"] == false).await?;
    ensure!(report["instances"][0]["why"].is_string(), "{report}");
    let down = json!("down");
    reports(&consul, SOON, "nothing is known of the backend", |report| report["recent"][0][2] == down).await?;
    let writes = weightd.metric(r#"weightd_fleet_writes_total{root="weightd/"}"#).await? - before;
    ensure!((1.0..=3.0).contains(&writes), "{writes} writes for one failure");
    Ok(())
}

#[tokio::test]
async fn two_haproxys_with_two_roots_have_two_keys() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 0, 100)).await?;
    let second = Haproxy::start(&backend("app", 0, 100)).await?;
    put(&consul, "app", 90, 10).await?;
    consul.put("other/weights/app", document(80, 20)).await?;
    let weightd = Settings::without_haproxy(&consul.address())
        .haproxy("one", &haproxy.address())
        .instance(&[("name", "two"), ("address", &second.address()), ("root", "other/")])
        .start()
        .await?;
    becomes(&haproxy, "app", 90, 10).await?;
    becomes(&second, "app", 80, 20).await?;
    for (root, name) in [("weightd/", "one"), ("other/", "two")] {
        eventually(SOON, "each root has its own key", async || {
            let report = json_at(&consul, &format!("{root}nodes/lb1")).await?;
            let names: Vec<_> = report["instances"].as_array().into_iter().flatten().map(|i| &i["name"]).collect();
            ensure!(names == [name], "{report}");
            let written = index(&consul, &format!("{root}weights/app")).await?;
            ensure!(report["recent"] == json!([["app", written, "set"]]), "{report}");
            ensure!(report["applied_index"] == written, "{report}");
            Ok(())
        })
        .await?;
        ensure!(weightd.metric(&format!(r#"weightd_fleet_published{{root="{root}"}}"#)).await? > 0.5);
    }
    Ok(())
}
