//! Invalid data in Consul: only its own backend is rejected, with key, reason and remedy. The last accepted weights
//! stay.

use std::fs;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{
        A_WHILE, SOON, backend, becomes, consul_is, converged, instance, is, key, lines, metric, put, reason, servers,
        state,
    },
    harness::{Consul, Haproxy, Weightd, always, eventually, weightd::Settings},
};

/// Invalid documents, each with a part of its error message.
const DOCUMENTS: [(&[u8], &str); 33] = [
    (br#"{"weights":{"blue":-1}}"#, "malformed"),
    (br#"{"weights":{"blue":257}}"#, "malformed"),
    (br#"{"weights":{"blue":1.5}}"#, "malformed"),
    (br#"{"weights":{"blue":1e2}}"#, "malformed"),
    (br#"{"weights":{"blue":"50"}}"#, "malformed"),
    (br#"{"weights":{"blue":"50%"}}"#, "malformed"),
    (br#"{"weights":{"blue":50%}}"#, "malformed"),
    (br#"{"weights":{"blue":+5}}"#, "malformed"),
    (br#"{"weights":{"blue":007}}"#, "malformed"),
    (br#"{"weights":{"blue":null}}"#, "malformed"),
    (br#"{"weights":{"blue":18446744073709551616}}"#, "malformed"),
    (b"", "empty"),
    (br#"{"weights":{}}"#, "`weights` is empty"),
    (br#"{"weights":null}"#, "malformed"),
    (br#"{"weights":{"blue":1},"release":true}"#, "more than one"),
    (br#"{"weights":{"blue":1},"split":{"blue*":1}}"#, "more than one"),
    (br#"{"split":{"blue*":1}}"#, "do not add up to 100"),
    (br#"{"release":false}"#, "malformed"),
    (br#"{"v":2,"weights":{"blue":1}}"#, "version 2"),
    (b"\xff\xfe{}", "UTF-8"),
    (b"50", "malformed"),
    (b"null", "malformed"),
    (b"blue=50", "malformed"),
    (br#"{"weights":{"blue":1}"#, "malformed"),
    (br#"{"weights":{"blue":1}}{"weights":{"blue":2}}"#, "malformed"),
    (br#"{"weights":{"blue":1,"blue":2}}"#, "malformed"),
    (br#"{"weights":{"blue":1},"weights":{"green":2}}"#, "malformed"),
    (br#"{"weights":{"blue;shutdown":1}}"#, "malformed"),
    (br#"{"weights":{"blue\nshow info":1}}"#, "malformed"),
    (br#"{"weights":{"blue green":1}}"#, "malformed"),
    (br##"{"weights":{"#1":1}}"##, "malformed"),
    (br#"{"weights":{"@1":1}}"#, "malformed"),
    ("{\"weights\":{\"blue\u{202e}\":1}}".as_bytes(), "malformed"),
];

/// Invalid leaves.
const LEAVES: [&str; 12] = ["-1", "257", "1.5", "\"50\"", "50%", "+5", "007", "null", "", "5 0", "1e1", "0x10"];

/// The test's backends: this name and a number, accepted with 70/30 and configured with 100/0, and one valid backend.
async fn accepted(name: &str, count: usize) -> anyhow::Result<(Consul, Haproxy, Weightd)> {
    let mut body = backend("good", 100, 0);
    for number in 0..count {
        body += &backend(&format!("{name}{number}"), 100, 0);
    }
    let (consul, haproxy) = servers(&body).await?;
    for number in 0..count {
        put(&consul, &format!("{name}{number}"), 70, 30).await?;
    }
    put(&consul, "good", 70, 30).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    becomes(&haproxy, "good", 70, 30).await?;
    converged(&weightd).await?;
    Ok((consul, haproxy, weightd))
}

/// Expects that the backend is rejected and that status, log and metrics report it.
async fn refused(weightd: &Weightd, backend: &str, of: &str, because: &str) -> anyhow::Result<()> {
    let key = key(of);
    let reason = reason(weightd, backend, "rejected").await?;
    let detail = reason["detail"].as_str().context("no detail")?;
    ensure!(detail.contains(&key) && detail.contains(because), "{because}: {reason}");
    state(weightd, backend, "rejected").await?;
    let logged = lines(weightd, &[" WARN", "rejected; the accepted weights stay in force", because, "hint="]);
    let logged =
        logged.iter().filter(|line| [format!("={key} "), format!("\"{key}\"")].iter().any(|key| line.contains(key)));
    let logged = logged.collect::<Vec<_>>();
    ensure!(logged.len() == 1, "{key} is logged {} times, {because}: {}", logged.len(), weightd.log());
    Ok(())
}

/// Expects this number of rejected keys, and that the valid backend follows anyway.
async fn the_others_follow(
    consul: &Consul,
    haproxy: &Haproxy,
    weightd: &Weightd,
    (keys, backends): (usize, usize),
) -> anyhow::Result<()> {
    for (name, labels, count) in
        [("weightd_rejected_keys", "", keys), ("weightd_backend_reasons", ",reason=\"rejected\"", backends)]
    {
        eventually(SOON, name, async || {
            let refused = metric(weightd, name, labels).await?;
            ensure!(refused == u64::try_from(count)?, "{refused}, not {count}");
            Ok(())
        })
        .await?;
    }
    for (blue, green) in [(1, 2), (3, 4)] {
        put(consul, "good", blue, green).await?;
        becomes(haproxy, "good", blue, green).await?;
    }
    assert_eq!(instance(weightd, 0).await?["converged"], false);
    assert_eq!(weightd.code("/ready").await?, 200);
    Ok(())
}

#[tokio::test]
async fn an_invalid_document_affects_only_its_backend_and_the_accepted_weights_stay() -> anyhow::Result<()> {
    let (consul, mut haproxy, weightd) = accepted("bad", DOCUMENTS.len() + 1).await?;
    for (number, (document, _)) in DOCUMENTS.iter().enumerate() {
        consul.put(&key(&format!("bad{number}")), *document).await?;
    }
    let great = format!("bad{}", DOCUMENTS.len());
    consul.put(&key(&great), vec![b' '; 512 * 1024]).await?;
    refused(&weightd, &great, &great, "524288 bytes").await?;
    for (number, (_, because)) in DOCUMENTS.iter().enumerate() {
        let name = format!("bad{number}");
        refused(&weightd, &name, &name, because).await?;
    }
    let count = DOCUMENTS.len() + 1;
    the_others_follow(&consul, &haproxy, &weightd, (count, count)).await?;
    // The weights are not only unchanged, but enforced.
    haproxy.reload_again().await?;
    for number in 0..count {
        becomes(&haproxy, &format!("bad{number}"), 70, 30).await?;
    }
    put(&consul, "bad0", 5, 6).await?;
    becomes(&haproxy, "bad0", 5, 6).await?;
    state(&weightd, "bad0", "converged").await.map(drop)
}

#[tokio::test]
async fn an_invalid_leaf_affects_only_its_backend() -> anyhow::Result<()> {
    let extra = 4;
    let (consul, haproxy, weightd) = accepted("bad", LEAVES.len() + extra).await?;
    for number in 0..LEAVES.len() + extra {
        // A change from a document to leaves with the same weights.
        let tail = format!("bad{number}");
        consul.delete(&key(&tail)).await?;
        consul.put(&format!("{}/blue", key(&tail)), "70").await?;
        consul.put(&format!("{}/green", key(&tail)), "30").await?;
        state(&weightd, &tail, "converged").await?;
    }
    for (number, leaf) in LEAVES.iter().enumerate() {
        // The other leaf is valid and new. It must not be applied alone.
        consul.put(&format!("weightd/weights/bad{number}/green"), *leaf).await?;
        consul.put(&format!("weightd/weights/bad{number}/blue"), "1").await?;
    }
    let [both, deep, folder, name] = [0, 1, 2, 3].map(|more| format!("bad{}", LEAVES.len() + more));
    put(&consul, &both, 1, 2).await?;
    consul.put(&format!("weightd/weights/{deep}/blue/really"), "1").await?;
    consul.put(&format!("weightd/weights/{folder}/"), "1").await?;
    consul.put(&format!("weightd/weights/{name}/blue%3Bx"), "1").await?;

    for (number, leaf) in LEAVES.iter().enumerate() {
        let because = if leaf.is_empty() { "empty" } else { "not a weight" };
        refused(&weightd, &format!("bad{number}"), &format!("bad{number}/green"), because).await?;
    }
    refused(&weightd, &both, &both, "document and leaves").await?;
    refused(&weightd, &deep, &format!("{deep}/blue/really"), "deeper").await?;
    refused(&weightd, &folder, &format!("{folder}/"), "folder").await?;
    refused(&weightd, &name, &format!("{name}/blue;x"), "server's name").await?;
    let count = LEAVES.len() + extra;
    the_others_follow(&consul, &haproxy, &weightd, (count, count)).await?;
    always(A_WHILE, "the accepted weights stay", async || {
        for number in 0..count {
            is(&haproxy, &format!("bad{number}"), 70, 30).await?;
        }
        Ok(())
    })
    .await
}

/// Writes keys in one transaction, which accepts any name of a key.
async fn set(consul: &Consul, pairs: &[(String, String)]) -> anyhow::Result<Value> {
    let operation =
        |(key, value): &(String, String)| json!({ "KV": { "Verb": "set", "Key": key, "Value": BASE64.encode(value) } });
    let body = pairs.iter().map(operation).collect::<Value>();
    consul.http().json(Method::PUT, "txn", &body).await
}

#[tokio::test]
async fn keys_with_invalid_names_are_reported_and_affect_no_backend() -> anyhow::Result<()> {
    let (consul, haproxy, weightd) = accepted("other", 1).await?;
    let names = ["a;b", "a b", "a\nb", "#1", "@1", "a\u{202e}b", "a\u{1b}[31mb", "a\0b", "ä", "a%b", "a\\b"];
    let long = "x".repeat(300);
    for name in names.iter().copied().chain([long.as_str()]) {
        set(&consul, &[(key(name), r#"{"weights":{"blue":1}}"#.to_owned())]).await?;
    }
    the_others_follow(&consul, &haproxy, &weightd, (names.len() + 1, 0)).await?;
    let instance = instance(&weightd, 0).await?;
    assert_eq!(instance["stray_total"], names.len() + 1);
    let stray = instance["stray"].as_array().context("no stray keys")?;
    for entry in stray {
        for field in ["key", "reason", "remedy"] {
            let text = entry[field].as_str().with_context(|| format!("no {field}"))?;
            ensure!(!text.is_empty() && !text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{entry}");
        }
    }
    let output = weightd.log();
    assert!(!output.contains(['\u{202e}', '\u{1b}', '\0']), "{output}");
    assert_eq!(
        lines(&weightd, &[" WARN", "rejected; the accepted weights stay in force", "hint="]).len(),
        names.len() + 1
    );
    consul.delete_tree("weightd/weights/a").await?;
    eventually(SOON, "deleted keys are no longer reported", async || {
        let left = metric(&weightd, "weightd_rejected_keys", "").await?;
        ensure!(left == 4, "{left}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn keys_of_folders_are_ignored() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    for folder in ["weightd/", "weightd/weights/", "weightd/weights/app/", "weightd/weights/none/"] {
        consul.put(folder, "").await?;
    }
    consul.put("weightd/weights/app/blue", "7").await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 7, 0).await?;
    converged(&weightd).await?;
    assert_eq!(metric(&weightd, "weightd_rejected_keys", "").await?, 0);
    let backends = instance(&weightd, 0).await?["backends"].take();
    assert_eq!(backends.as_array().map(Vec::len), Some(1), "{backends}");
    Ok(())
}

#[tokio::test]
async fn a_change_among_twenty_thousand_keys_is_applied() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&(backend("app", 100, 0) + &backend("leaves", 100, 0))).await?;
    let document = r#"{"weights":{"blue":1,"green":2}}"#.to_owned();
    let mut pairs = (0..10_000).map(|n| (key(&format!("app{n}")), document.clone())).collect::<Vec<_>>();
    pairs.extend((0..10_000).map(|n| (key(&format!("leaves/s{n}")), "7".to_owned())));
    for chunk in pairs.chunks(60) {
        set(&consul, chunk).await?;
    }
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    refused(&weightd, "leaves", "leaves/s0", "10000 servers").await?;
    for (blue, green) in [(1, 2), (3, 4)] {
        put(&consul, "app", blue, green).await?;
        becomes(&haproxy, "app", blue, green).await?;
    }
    is(&haproxy, "leaves", 100, 0).await?;
    let metrics = weightd.metrics().await?;
    assert!(metrics.contains("weightd_rejected_keys{haproxy=\"haproxy\"} 1"), "{metrics}");
    let logged = lines(&weightd, &[""]).len();
    assert!(logged < 500, "{logged} lines about 20,000 keys");
    let memory = fs::read_to_string(format!("/proc/{}/status", weightd.program().pid()?))?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB"));
    let memory: u64 = memory.context("no VmHWM")?.trim().parse()?;
    assert!(memory < 128 * 1024, "{memory} KiB");
    Ok(())
}

#[tokio::test]
async fn keys_of_one_team_above_16_mib_block_no_other_team() -> anyhow::Result<()> {
    let (consul, mut haproxy, weightd) = accepted("other", 1).await?;
    let large = " ".repeat(512 * 1024);
    for number in 0..36 {
        consul.put(&key(&format!("large{number}")), large.clone()).await?;
    }
    // More than the limit of one backend.
    for number in 0..6 {
        consul.put(&key(&format!("other0/s{number}")), large.clone()).await?;
    }
    put(&consul, "good", 1, 2).await?;
    becomes(&haproxy, "good", 1, 2).await?;
    consul_is(&weightd, "following", None).await?;
    let instance = instance(&weightd, 0).await?;
    assert_eq!(instance["consul"]["split"], true, "{instance}");
    refused(&weightd, "other0", "other0", "too large").await?;
    assert_eq!(lines(&weightd, &[" WARN", "too large for one answer"]).len(), 1);
    // The former weights are still in force.
    haproxy.reload_again().await?;
    becomes(&haproxy, "other0", 70, 30).await?;
    becomes(&haproxy, "good", 1, 2).await?;

    // Another team changes its weights, and gets a correct status.
    let output = consul.weightctl(&["set", "good", "blue=3", "green=4", "--yes"]).await?;
    let shown = String::from_utf8(output.stderr)?;
    assert!(output.status.success() && shown.contains("written: good blue=3 green=4"), "{shown}");
    becomes(&haproxy, "good", 3, 4).await?;
    // Nothing is written for the backend that is too large.
    let output = consul.weightctl(&["set", "other0", "blue=3", "--yes"]).await?;
    let shown = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(7), "{shown}");

    consul.delete_tree(&key("large")).await?;
    consul.delete_tree(&key("other0/")).await?;
    eventually(SOON, "the good backend is unchanged", async || {
        let backend = weightd.backend("other0").await?;
        ensure!(backend["state"] == "converged", "{backend}");
        Ok(())
    })
    .await?;
    becomes(&haproxy, "other0", 70, 30).await
}
