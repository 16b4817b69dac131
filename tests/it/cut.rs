//! Consul goes away at every point of every verb that writes: nothing is half written, exit code 0 means that it is
//! written, and the message says what is known.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{
    common::{backend, converged, key, put},
    harness::{
        Consul, Haproxy, Weightd,
        gate::{Gate, Passage},
        weightd,
    },
};

/// A command, the keys below the root before it, and how its messages name what they speak of.
struct Case {
    line: &'static str,
    keys: &'static [(&'static str, &'static str)],
    /// The message of one write that is read back; `{}` is the backend or the node.
    says: &'static str,
}

const DOCUMENT: &str = r#"{"weights":{"blue":90,"green":10}}"#;
/// `app` from 100/0 to 90/10, and the freezes that later writes check.
const APP: &[(&str, &str)] = &[
    ("weights/app", DOCUMENT),
    ("history/app", r#"{"v":1,"entries":[{"way":"create","to":{"weights":{"blue":100,"green":0}}}]}"#),
    ("freeze", "{}"),
    ("freeze/app", "{}"),
];
const TWO: &[(&str, &str)] = &[
    ("weights/app", DOCUMENT),
    ("history/app", r#"{"v":1,"entries":[{"way":"create","to":{"weights":{"blue":100,"green":0}}}]}"#),
    ("weights/other", DOCUMENT),
    ("history/other", r#"{"v":1,"entries":[{"way":"create","to":{"weights":{"blue":100,"green":0}}}]}"#),
    ("freeze", "{}"),
    ("freeze/app", "{}"),
    ("freeze/other", "{}"),
];
const LEAVES: &[(&str, &str)] =
    &[("weights/app/blue", "90"), ("weights/app/green", "10"), ("freeze", "{}"), ("freeze/app", "{}")];
const FROZEN: &[(&str, &str)] =
    &[("freeze", r#"{"frozen":{"by":"alice"}}"#), ("freeze/app", r#"{"frozen":{"by":"alice"}}"#)];
const MISSING: &[(&str, &str)] =
    &[("inventory/lb1", r#"{"v":1,"node":"lb1"}"#), ("inventory/lb2", r#"{"v":1,"node":"lb2"}"#)];

const OLD: &[(&str, &str)] = &[
    ("old/app/blue", "80"),
    ("old/app/green", "20"),
    ("old/other/blue", "70"),
    ("old/other/green", "30"),
    ("freeze", "{}"),
    ("freeze/app", "{}"),
    ("freeze/other", "{}"),
];

const CASES: &[Case] = &[
    Case { line: "set app green=50 --yes", keys: APP, says: "written: {} " },
    Case { line: "set app green=50 --yes", keys: LEAVES, says: "written: {} " },
    Case {
        line: "set app blue=1 --create --yes",
        keys: &[("freeze", "{}"), ("freeze/app", "{}")],
        says: "written: {} ",
    },
    Case { line: "release app --yes", keys: APP, says: "written: {} " },
    Case { line: "rollback app --yes", keys: APP, says: "written: {} " },
    Case { line: "rollback --all --off green* --yes -o json", keys: TWO, says: "\"backend\": \"{}\"" },
    Case { line: "apply -f FILE --yes", keys: TWO, says: "written: {} " },
    Case { line: "import --from-kv ROOTold --yes", keys: OLD, says: "written: {} " },
    Case { line: "settle app", keys: APP, says: "settled: the next rollback of {} " },
    Case { line: "freeze app -m audit", keys: APP, says: "frozen: {};" },
    Case { line: "freeze -m audit", keys: APP, says: "frozen: all backends;" },
    Case { line: "unfreeze app", keys: FROZEN, says: "changes are possible again: {}" },
    Case { line: "unfreeze", keys: FROZEN, says: "changes are possible again: all backends" },
    Case { line: "node expect 3", keys: APP, says: "written: 3 nodes expected" },
    Case { line: "node forget lb1 --yes", keys: MISSING, says: "forgotten: {}" },
    Case { line: "node forget --missing --yes", keys: MISSING, says: "forgotten: {}" },
];

/// How Consul goes away at the request with a number, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// From this request on, every connection is closed.
    Before,
    /// It does this request, but the answer is lost, and from then on every connection is closed.
    During,
    /// It does this request, but the answer is lost. The next requests are answered.
    Lost,
    /// This request is not done. The next requests are answered.
    Once,
}

impl Cut {
    const ALL: [Self; 4] = [Self::Before, Self::During, Self::Lost, Self::Once];

    /// The passage of each request, for a cut at one of them.
    fn at(self, at: usize) -> impl Fn(usize) -> Passage + Send + 'static {
        move |request| match (self, request.cmp(&at)) {
            (_, Less) | (Self::Lost | Self::Once, Greater) => Passage::Through,
            (Self::During | Self::Lost, Equal) => Passage::Lost,
            _ => Passage::Closed,
        }
    }
}

/// The keys of a root, below their backend or node, without what differs from run to run.
type Keys = BTreeMap<String, BTreeMap<String, String>>;

/// One command in front of one Consul, below its own root.
struct Bench {
    consul: Arc<Consul>,
    gate: Gate,
    root: String,
    line: String,
}

impl Bench {
    async fn run(&self, rule: impl Fn(usize) -> Passage + Send + 'static) -> anyhow::Result<(Output, usize)> {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        self.gate.rule(move |_, _| rule(seen.fetch_add(1, Relaxed)));
        let address = self.gate.address();
        let environment =
            [("CONSUL_HTTP_ADDR", address.as_str()), ("WEIGHTD_ROOT", self.root.as_str()), ("USER", "alice")];
        let arguments: Vec<_> = self.line.split_whitespace().collect();
        let output = weightd::weightctl(&environment, &arguments).await?;
        Ok((output, count.load(Relaxed)))
    }

    async fn reset(&self, keys: &[(&str, &str)]) -> anyhow::Result<()> {
        self.consul.delete_tree(&self.root).await?;
        // The history names the document before this one.
        for (key, value) in keys.iter().filter(|(key, _)| key.starts_with("history/")).chain(keys) {
            if !key.starts_with("history/") || self.consul.get(&format!("{}{key}", self.root)).await?.is_none() {
                self.consul.put(&format!("{}{key}", self.root), *value).await?;
            }
        }
        Ok(())
    }

    async fn keys(&self) -> anyhow::Result<Keys> {
        let answer = self.consul.http().request(Method::GET, &format!("kv/{}?recurse", self.root)).send().await?;
        let mut keys = Keys::new();
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(keys);
        }
        let entries: Value = serde_json::from_str(&answer.text().await?)?;
        for entry in entries.as_array().context("no list")? {
            let key = entry["Key"].as_str().context("no key")?;
            let key = key.strip_prefix(&*self.root).with_context(|| format!("{key} is not below the root"))?;
            let value = BASE64.decode(entry["Value"].as_str().unwrap_or_default())?;
            // The freeze of all backends and the number of nodes belong to nobody.
            let owner = key.split('/').nth(1).unwrap_or_default();
            keys.entry(owner.to_owned()).or_default().insert(key.to_owned(), stable(&value));
        }
        Ok(keys)
    }
}

/// The value without times and indexes.
fn stable(value: &[u8]) -> String {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for field in ["at", "since", "index", "target"] {
                    fields.remove(field);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    match serde_json::from_slice::<Value>(value) {
        Ok(mut json) => {
            strip(&mut json);
            json.to_string()
        }
        Err(_) => String::from_utf8_lossy(value).into_owned(),
    }
}

/// Fails unless the message and the exit code are true.
fn judge(says: &str, output: &Output, now: &Keys, before: &Keys, after: &Keys) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let owners: BTreeSet<_> = before.keys().chain(after.keys()).chain(now.keys()).collect();
    let (mut written, mut unknown) = (0, 0);
    for owner in owners {
        let (was, is, becomes) = (before.get(owner), now.get(owner), after.get(owner));
        ensure!(is == was || is == becomes, "half written: {owner}: {is:?}");
        if was == becomes {
            continue;
        }
        let says_so = said.contains(&says.replace("{}", owner))
            || said.contains(&format!("`{owner}` is forgotten"))
            || said.contains(&format!("{owner} is written with index"));
        let says_unknown = said.contains("the result of the write is unknown") && said.contains("may have changed");
        if is == becomes {
            ensure!(says_so || says_unknown, "{owner} is written, and nobody says so");
            written += 1;
        } else {
            ensure!(!says_so, "{owner} is not written, but it says so");
            ensure!(!output.status.success(), "{owner} is not written, and the exit code is 0");
        }
        unknown += usize::from(says_unknown);
    }
    let says_nothing = said.contains("nothing was written") || said.contains("is not written");
    ensure!(written == 0 || !said.contains("nothing was written"), "it says that nothing was written");
    if written == 0 && unknown == 0 {
        ensure!(says_nothing, "it does not say that nothing was written");
    }
    ensure!(output.status.success() || said.contains("error: "), "no error");
    Ok(())
}

/// Cuts the command at each of its requests, in each way.
async fn cut_everywhere(consul: Arc<Consul>, number: usize, case: &Case) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("weights.toml");
    fs::write(&file, "[app]\nweights = { green = 50 }\n[other]\nweights = { green = 60 }\n")?;
    let gate = Gate::open(&consul).await?;
    let root = format!("root{number}/");
    let line = case.line.replace("FILE", &file.display().to_string()).replace("ROOT", &root);
    let bench = Bench { consul, gate, root, line };

    bench.reset(case.keys).await?;
    let before = bench.keys().await?;
    let (output, requests) = bench.run(|_| Passage::Through).await?;
    ensure!(output.status.success(), "`{}` without a cut: {output:?}", case.line);
    let after = bench.keys().await?;
    ensure!(before != after, "`{}` writes nothing", case.line);
    for cut in Cut::ALL {
        for at in 0..requests {
            bench.reset(case.keys).await?;
            let (output, _) = bench.run(cut.at(at)).await?;
            let now = bench.keys().await?;
            judge(case.says, &output, &now, &before, &after).with_context(|| {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                format!("`{}`, {cut:?} request {at} of {requests}: {}: {said}", case.line, output.status)
            })?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_half_written_and_the_message_is_true() -> anyhow::Result<()> {
    let consul = Arc::new(Consul::start().await?);
    let mut cases = tokio::task::JoinSet::new();
    for (number, case) in CASES.iter().enumerate() {
        cases.spawn(cut_everywhere(Arc::clone(&consul), number, case));
    }
    let failed: Vec<_> =
        cases.join_all().await.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

/// Cuts `set --wait` of one backend at each of its requests, in one way.
async fn cut_the_wait(consul: Arc<Consul>, haproxy: Arc<Haproxy>, backend: String, cut: Cut) -> anyhow::Result<()> {
    let gate = Gate::open(&consul).await?;
    let mut bench = Bench { gate, consul, root: "weightd/".to_owned(), line: String::new() };
    let line = |weight: usize, limit: &str| format!("set {backend} green={weight} --yes --wait --timeout {limit}");
    bench.line = line(1, "15s");
    let (output, requests) = bench.run(|_| Passage::Through).await?;
    ensure!(output.status.success(), "without a cut: {output:?}");
    for at in 0..requests {
        let weight = at + 2;
        bench.line = line(weight, "1s");
        let (output, _) = bench.run(cut.at(at)).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let judged = async {
            let document = bench.consul.get(&key(&backend)).await?.context("no document")?;
            let written = serde_json::from_slice::<Value>(&document)?["weights"]["green"] == weight;
            let unknown = said.contains("the result of the write is unknown");
            let says_so = said.contains(&format!("written: {backend} ")) && said.contains("index");
            ensure!(if written { says_so || unknown } else { !says_so }, "written: {written}");
            ensure!(written || unknown || said.contains("nothing was written") || said.contains("is not written"));
            if output.status.success() {
                let weights = haproxy.weights(&backend).await?;
                ensure!(weights.get("green").copied() == u32::try_from(weight).ok(), "{weights:?}");
            } else {
                // Where the write is known, the end says what is known of the nodes.
                let of_nodes = said.contains("unknown whether the nodes have it") || said.contains(" nodes have ");
                ensure!(!says_so || of_nodes || said.contains("no node reports"), "nothing about the nodes");
            }
            Ok(())
        };
        judged.await.with_context(|| format!("{cut:?} request {at} of {requests}: {}: {said}", output.status))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wait_ends_with_0_only_if_the_nodes_have_it() -> anyhow::Result<()> {
    let names: Vec<_> = (0..Cut::ALL.len()).map(|number| format!("app{number}")).collect();
    let body: String = names.iter().map(|name| backend(name, 9, 1)).collect();
    let (consul, haproxy) = tokio::try_join!(Consul::start(), Haproxy::start(&body))?;
    for name in &names {
        put(&consul, name, 90, 10).await?;
    }
    let weightd = Weightd::start(&consul, &haproxy).await?;
    converged(&weightd).await?;
    let (consul, haproxy) = (Arc::new(consul), Arc::new(haproxy));
    let mut cases = tokio::task::JoinSet::new();
    for (name, cut) in names.into_iter().zip(Cut::ALL) {
        cases.spawn(cut_the_wait(Arc::clone(&consul), Arc::clone(&haproxy), name, cut));
    }
    let failed: Vec<_> =
        cases.join_all().await.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}
