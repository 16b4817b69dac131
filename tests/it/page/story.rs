//! A fleet with applications in every state, written as weightd and rolloutd would write it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Value, json};
use weightd_core::{
    desired::{Pattern, PatternShare},
    judge::ERRORS,
    model::Timestamp,
    rollout::{
        Evidence, Mode, Phase, Rollout, Shown, Spec, State,
        begin::digest,
        log::{Entry, Log},
        observe::Now,
        plan::{OnRegression, Preset, Protocol},
        shown::{CheckShown, Held, PaidShown},
        state::{Answered, Latch, Paused},
    },
};

use crate::{common::key, harness::Consul};

/// Nodes of the fleet.
pub(super) const NODES: [&str; 5] = ["lb-01", "lb-02", "lb-03", "lb-04", "lb-05"];

/// The time of the story: now.
pub(super) fn now() -> Timestamp {
    Timestamp::from_seconds(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default())
}

pub(super) fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(now().seconds() - seconds)
}

fn share(percent: u32) -> PatternShare {
    PatternShare::from_thousandths(percent * 1000).unwrap_or_default()
}

/// A rollout to be told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) share: u32,
    pub(super) phase: Phase,
    pub(super) mode: Mode,
    pub(super) step: u32,
    pub(super) since: u64,
    pub(super) shown: Shown,
    pub(super) paused: Option<Paused>,
    pub(super) latched: Option<Latch>,
    pub(super) why: Option<&'static str>,
    pub(super) by: &'static str,
    pub(super) approve: bool,
    pub(super) log: Vec<(&'static str, &'static str, Option<&'static str>, u64)>,
}

impl Told {
    /// A rollout that bakes at 10 %.
    pub(super) fn new(name: &'static str) -> Self {
        let check = |evidence, to, from| CheckShown { evidence, to, from };
        let checks = BTreeMap::from([
            (ERRORS.to_owned(), check(1.4, (33_812, 17), (304_190, 146))),
            ("masked".to_owned(), check(0.9, (33_812, 3), (304_190, 22))),
            ("refused".to_owned(), check(1.1, (33_812, 410), (304_190, 3_601))),
            ("redirected".to_owned(), check(0.8, (33_812, 290), (304_190, 2_700))),
        ]);
        let shown = Shown {
            good: 768,
            needed: 1800,
            evidence: 1.2,
            checks,
            share: Some(9.8),
            counting: 5,
            applied: 5,
            ..Shown::default()
        };
        Self {
            name,
            share: 10,
            phase: Phase::Bake,
            mode: Mode::Auto,
            step: 3,
            since: 900,
            shown,
            paused: None,
            latched: None,
            why: None,
            by: "l.martin",
            approve: false,
            log: vec![
                ("started", "from 0 %", Some("l.martin"), 4800),
                ("advanced", "1 %", None, 4780),
                ("advanced", "5 %", None, 2900),
                ("advanced", "10 %", None, 900),
            ],
        }
    }

    pub(super) fn held(mut self, word: &str, text: &str) -> Self {
        self.shown.holding.push(Held { word: word.to_owned(), text: text.to_owned() });
        self
    }

    /// Writes document, spec, state, evidence and log.
    pub(super) async fn write(&self, consul: &Consul) -> anyhow::Result<()> {
        let sides = |name: &str| Pattern::new(name).context("a pattern");
        let mut plan = Preset::Careful.plan(Protocol::Http);
        if self.approve {
            plan.steps.iter_mut().for_each(|step| step.approve = step.share == share(25));
        }
        let spec = Spec {
            id: format!("{}-1", self.name),
            to: vec![sides("green-*")?],
            from: vec![sides("blue-*")?],
            back: share(0),
            mode: self.mode,
            plan,
            regression: OnRegression::Rollback,
            by: self.by.to_owned(),
            at: ago(4800),
            reason: Some("new cluster, SHOP-2211".to_owned()),
        };
        let value = spec.to_value()?;
        let sha = digest(&value);
        split(consul, self.name, self.share, "rolloutd", "rollout", self.since).await?;
        consul.put(&format!("weightd/rollouts/spec/{}", self.name), value).await?;
        consul.put(&format!("weightd/rollouts/request/{}", self.name), "{}").await?;
        let index = consul.index(&key(self.name)).await?;
        let state = State {
            id: spec.id.clone(),
            spec: sha,
            seq: 7,
            phase: self.phase,
            step: self.step,
            mode: self.mode,
            share: share(self.share),
            back: share(0),
            document: Some(index),
            paused: self.paused.clone(),
            latched: self.latched,
            approved: None,
            promoted: None,
            answered: Some(Answered { id: "a".to_owned(), refused: None }),
            approval: None,
            since: ago(self.since),
            why: self.why.map(str::to_owned),
            late: Vec::new(),
            aborted: false,
        };
        consul.put(&format!("weightd/rollouts/state/{}", self.name), state.to_value()).await?;
        let moment = weightd_core::model::Moment::default();
        let rollout = Rollout::load(spec.clone(), state, None, Now { wall: now(), moment });
        let shown = Shown { at: ago(4), seq: 7, ..self.shown.clone() };
        let evidence = Evidence { shown, ..rollout.evidence() };
        consul.put(&format!("weightd/rollouts/evidence/{}", self.name), evidence.to_value()).await?;
        let entry = |(what, detail, by, seconds): &(&str, &str, Option<&str>, u64)| Entry {
            rollout: spec.id.clone(),
            at: ago(*seconds),
            what: (*what).to_owned(),
            detail: (*detail).to_owned(),
            by: by.map(str::to_owned),
        };
        let log = Log { events: self.log.iter().map(entry).collect() };
        consul.put(&format!("weightd/rollouts/log/{}", self.name), log.to_value()).await
    }
}

/// A document with shares, and a history that leads to it.
pub(super) async fn split(
    consul: &Consul,
    name: &str,
    green: u32,
    by: &str,
    way: &str,
    seconds: u64,
) -> anyhow::Result<()> {
    let document =
        json!({"split": {"blue-*": 100 - green, "green-*": green}, "by": by, "at": ago(seconds).to_string()});
    consul.put(&key(name), document.to_string()).await?;
    let entry = |green: u32, by: &str, way: &str, at: u64, why: Value| json!({"at": ago(at).to_string(), "by": by, "way": way, "to": {"split": {"blue-*": 100 - green, "green-*": green}}, "why": why});
    let mut entries = [
        entry(green, by, way, seconds, Value::Null),
        entry(green / 2, "l.martin", "shift", seconds + 1800, json!("a first look")),
        entry(0, "l.martin", "create", seconds + 90_000, Value::Null),
    ];
    (entries[1]["index"], entries[2]["index"]) = (json!(2), json!(1));
    let history = json!({"v": 1, "entries": entries});
    consul.put(&format!("weightd/history/{name}"), history.to_string()).await
}

/// Writes what each node has: all documents, but for `out`: node, application, reason.
pub(super) async fn nodes(consul: &Consul, out: &[(&str, &str, &str)], missing: &[&str]) -> anyhow::Result<()> {
    let keys = consul.http().request(reqwest::Method::GET, "kv/weightd/weights/?recurse");
    let keys: Vec<Value> = serde_json::from_str(&crate::harness::consul::expect_ok(keys).await?)?;
    let documents: Vec<(String, u64)> = keys
        .iter()
        .filter_map(|key| {
            let name = key["Key"].as_str()?.strip_prefix("weightd/weights/")?;
            Some((name.to_owned(), key["ModifyIndex"].as_u64()?))
        })
        .collect();
    for node in NODES {
        let inventory = json!({"v": 1, "node": node, "machine": format!("m-{node}"), "mode": "enforce", "instances": ["main"], "since": ago(200_000).to_string()});
        consul.put(&format!("weightd/inventory/{node}"), inventory.to_string()).await?;
        if missing.contains(&node) {
            consul.delete(&format!("weightd/nodes/{node}")).await?;
            continue;
        }
        let not = |name: &str| out.iter().find(|(of, app, _)| *of == node && *app == name).map(|(.., why)| *why);
        let mut newest = documents.clone();
        newest.sort_by_key(|(_, index)| std::cmp::Reverse(*index));
        let recent: Vec<_> =
            newest.iter().take(64).map(|(name, index)| json!([name, index, not(name).unwrap_or("set")])).collect();
        let out: Vec<_> =
            documents.iter().filter_map(|(name, _)| Some(json!([name, not(name)?, ago(300).to_string()]))).collect();
        let report = json!({
            "v": 1, "node": node, "version": "0.1.0", "mode": "enforce", "machine": format!("m-{node}"), "incarnation": "i1",
            "instances": [{"name": "main", "up": true, "version": "2.6.12", "pid": 7, "since": ago(86_000).to_string()}],
            "applied_index": newest.first().map(|(_, index)| index), "recent": recent, "out": out, "lacks": [],
            "backends": documents.len(), "filtered": false, "cut": {},
        });
        consul.put(&format!("weightd/nodes/{node}"), report.to_string()).await?;
    }
    Ok(())
}

/// The names of the rollouts of [`tell`], with the words that their rows show.
pub(super) const WORDS: [(&str, &str); 12] = [
    ("coupons", "Rolled back by itself"),
    ("images", "Not applied on 2 nodes"),
    ("playlists", "Taken over at 30"),
    ("login", "Waits for approval of 25"),
    ("search", "Holds: no data"),
    ("archive", "Stopped: not enough evidence"),
    ("checkout", "Bakes at 10"),
    ("epg", "Moves to 5"),
    ("notify", "Holds: window"),
    ("orders", "Holds: paused"),
    ("payments", "Mode watch at 10"),
    ("profile", "Mode guard at 10"),
];

/// A fleet with applications in every state.
pub(super) async fn tell(consul: &Consul) -> anyhow::Result<()> {
    for (at, name) in ["ads", "assets", "comments", "invoices", "mail"].into_iter().enumerate() {
        split(consul, name, 0, "n.haddad", "set", 7_000 + 90_000 * at as u64).await?;
    }
    split(consul, "images", 50, "d.okafor", "shift", 760).await?;
    let failed =
        |n, e, m, f| BTreeMap::from([(ERRORS.to_owned(), CheckShown { evidence: 18_000.0, to: (n, e), from: (m, f) })]);
    let new = Told::new;
    let paid =
        vec![PaidShown { block: now().seconds() / 10 - 60, check: ERRORS.to_owned(), observed: 47.0, allowed: 2.1 }];
    let coupons = Shown { evidence: 18_000.0, checks: failed(2_480, 47, 7_524, 4), paid, ..Shown::default() };
    let told = [
        Told {
            share: 0,
            phase: Phase::RolledBack,
            step: 4,
            since: 600,
            why: Some("hard (errors): the new side fails, 47 of 2,480 requests in 10 s"),
            shown: coupons,
            log: vec![
                ("started", "from 0 %", Some("l.martin"), 4800),
                ("rolling_back", "errors: green failed 47 of 2,480, blue 4 of 7,524", None, 601),
                ("rolled_back", "all nodes have it", None, 600),
            ],
            ..new("coupons")
        },
        Told { share: 30, phase: Phase::TakenOver, since: 1100, why: Some("m.keller set 30 %"), ..new("playlists") },
        Told { approve: true, ..new("login") }.held("approval", "step 4 needs an approval"),
        new("search").held("no_data", "no counts from lb-05"),
        Told { latched: Some(Latch::Inconclusive), ..new("archive") },
        new("checkout"),
        Told { share: 5, phase: Phase::Shift, step: 2, since: 3, ..new("epg") }
            .held("not_applied", "not applied on lb-04, lb-05"),
        new("notify").held("window", "the window is closed"),
        Told { paused: Some(Paused { by: "s.ito".to_owned(), reason: Some("lunch".to_owned()) }), ..new("orders") }
            .held("paused", "s.ito paused it"),
        Told { mode: Mode::Watch, ..new("payments") },
        Told { mode: Mode::Guard, ..new("profile") },
    ];
    for told in told {
        told.write(consul).await?;
    }
    let controller = json!({"v": 1, "name": "ctl-1", "version": "0.1.0", "since": ago(80_000).to_string()});
    consul.put("weightd/controller", controller.to_string()).await?;
    nodes(consul, &[("lb-01", "images", "guarded"), ("lb-02", "images", "guarded")], &["lb-05"]).await
}
