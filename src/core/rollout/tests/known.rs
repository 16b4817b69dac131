//! Reports of nodes and documents become what a tick sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::bench::{names, spec};
use crate::{
    desired::{Desired, Instruction, Published, Split},
    fleet::{
        CountersRead, Cut, Fleet, How, Inventory, Mode as NodeMode, NodeName, NodeRead, NodeReport, Per, Recent, Sides,
        View, ViewId, counters::Counters,
    },
    model::{BackendName, ServerName, Weight},
    rollout::{
        Mode,
        known::{self, Backend, Known},
    },
};

/// The backend as its nodes report it: the first ones of the three count.
struct Reported {
    fleet: Fleet,
    counters: BTreeMap<NodeName, CountersRead>,
    backend: BackendName,
}

fn view() -> ViewId {
    let spec = spec(Mode::Auto);
    View { sides: Some(Sides { from: spec.from, to: spec.to }), per: Per::Side }.id()
}

impl Reported {
    /// One instance for each node, with these fields and servers `[name, weight]`.
    fn of(fields: &Value, servers: &[&[(&str, u64)]]) -> Self {
        let (mut fleet, mut counters) = (Fleet::default(), BTreeMap::new());
        for (name, servers) in names().into_iter().zip(servers) {
            let servers: Vec<_> = servers.iter().map(|(name, weight)| json!([name, weight, 100, "up"])).collect();
            let mut instance = json!({"name": "edge", "mode": "http", "servers": servers});
            instance.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let counted = json!({"backend": "app", "instances": [instance]});
            let report = Counters {
                node: name.clone(),
                mode: NodeMode::Enforce,
                incarnation: "a".to_owned(),
                at: 0,
                backends: vec![serde_json::from_value(counted).unwrap()],
                lacks: Vec::new(),
                left_out: Vec::new(),
                more: 0,
            };
            counters.insert(name.clone(), CountersRead { index: 9, report: Ok(report) });
            let inventory = Inventory {
                node: name.clone(),
                machine: "m".to_owned(),
                mode: NodeMode::Enforce,
                instances: Vec::new(),
                since: None,
                duplicate: None,
            };
            fleet.inventory.insert(name, Ok(inventory));
        }
        Self { fleet, counters, backend: BackendName::new("app").unwrap() }
    }

    fn seen<T>(&self, of: impl FnOnce(&Known<'_>, &Backend) -> T) -> T {
        let known = Known {
            fleet: &self.fleet,
            counters: &self.counters,
            missing: &BTreeMap::new(),
            clock_off: &BTreeSet::new(),
            backend: &self.backend,
            view: view(),
            observed: 3,
            document: 7,
        };
        of(&known, &known.backend())
    }

    fn not_split(&self, published: &Published) -> Option<String> {
        self.seen(|known, seen| known.not_split(seen, &spec(Mode::Auto), Some(published)))
    }
}

fn weights(weights: &[(&str, u64)]) -> Arc<Desired> {
    let weights = weights.iter().map(|(name, weight)| (ServerName::new(name).unwrap(), Weight::new(*weight).unwrap()));
    Arc::new(Desired { weights: weights.collect(), index: 7, ..Desired::default() })
}

fn split(text: &str) -> Published {
    let split: Split = serde_json::from_str(text).unwrap();
    Published::Valid(Instruction::Weights(Arc::new(Desired { split: Some(split), index: 7, ..Desired::default() })))
}

#[test]
fn shares_inside_a_side_that_a_split_would_flatten_are_found_on_each_node() {
    let even = [("blue-1", 100), ("blue-2", 100), ("green-1", 0)];
    let uneven = [("blue-1", 200), ("blue-2", 50), ("green-1", 0)];
    let reported = Reported::of(&json!({}), &[&even, &even]);
    assert_eq!(reported.not_split(&Published::Valid(Instruction::Weights(weights(&even)))), None);
    assert_eq!(reported.not_split(&split(r#"{"blue-*": 90, "green-*": 10}"#)), None);
    let why = reported.not_split(&Published::Valid(Instruction::Weights(weights(&uneven)))).unwrap();
    assert!(why.contains("on lb-1, `blue-1` has 80.0 % of its side, and a split gives it 50.0 %"), "{why}");
    // Another split of the same sides, which differs where a node has other servers.
    let parts = split(r#"{"blue-1": 45, "blue-2": 45, "green-*": 10}"#);
    assert_eq!(reported.not_split(&parts), None);
    let more: [&[(&str, u64)]; 2] = [&even, &[("blue-1", 60), ("blue-2", 60), ("blue-3", 0), ("green-1", 10)]];
    let why = Reported::of(&json!({}), &more).not_split(&parts).unwrap();
    assert!(why.contains("on lb-2"), "{why}");
    // A node that does not count says nothing.
    let mut reported = Reported::of(&json!({}), &[&even]);
    reported.fleet.inventory.values_mut().for_each(|inventory| inventory.as_mut().unwrap().mode = NodeMode::Observe);
    assert_eq!(reported.not_split(&Published::Valid(Instruction::Weights(weights(&uneven)))), None);
}

#[test]
fn one_key_for_each_server_gives_no_share_and_is_no_split() {
    let servers = [("blue-1", 100), ("green-1", 0)];
    let leaves = Published::Valid(Instruction::Leaves(weights(&servers)));
    let why = Reported::of(&json!({}), &[&servers]).not_split(&leaves).unwrap();
    assert!(why.contains("one key for each server"), "{why}");
    let seen = known::document(&spec(Mode::Auto), Some(&leaves));
    assert_eq!((seen.index, seen.share, seen.is_split), (7, None, false));
}

#[test]
fn a_haproxy_in_mode_tcp_is_found_where_it_counts() {
    let servers = [("blue-1", 100), ("green-1", 0)];
    for (mode, is_tcp) in [("http", false), ("tcp", true)] {
        let mut reported = Reported::of(&json!({"mode": mode}), &[&servers]);
        assert_eq!(reported.seen(|_, seen| seen.is_tcp), is_tcp, "{mode}");
        let inventories = reported.fleet.inventory.values_mut();
        inventories.for_each(|inventory| inventory.as_mut().unwrap().mode = NodeMode::Observe);
        assert!(!reported.seen(|_, seen| seen.is_tcp), "{mode}");
    }
}

#[test]
fn who_stays_on_the_new_side_is_what_haproxy_has_in_the_backend() {
    let servers = [("blue-1", 100), ("green-1", 0)];
    for (flags, stays) in [
        (json!(["maxconn"]), None),
        (json!(["cookie"]), Some("users that a cookie pins")),
        (json!(["sticky", "stick_table"]), Some("users that a stick table pins, chosen users")),
    ] {
        let reported = Reported::of(&json!({ "flags": flags }), &[&servers, &servers]);
        assert_eq!(reported.seen(|_, seen| seen.stays.clone()).as_deref(), stays);
    }
}

#[test]
fn a_node_whose_report_is_cut_has_applied_an_old_document_if_it_counts_the_backend() {
    // 64 newer documents with long names, and many backends that it lacks.
    let recent = (0..40).map(|n| Recent {
        backend: BackendName::new(&format!("another-application-{n}")).unwrap(),
        index: 100 + n,
        how: How::Set,
    });
    let recent: Vec<_> = recent.collect();
    let report = |cut: Cut| NodeReport {
        node: NodeName::new("lb-1").unwrap(),
        version: "1".to_owned(),
        mode: NodeMode::Enforce,
        machine: "m".to_owned(),
        incarnation: "a".to_owned(),
        instances: Vec::new(),
        backends: 100,
        filtered: false,
        applied_index: Some(164),
        recent: recent.clone(),
        out: Vec::new(),
        lacks: Vec::new(),
        cut,
    };
    let applied = |cut: Cut, counted: bool| {
        let mut reported = Reported::of(&json!({}), &[&[("blue-1", 100), ("green-1", 0)]]);
        let name = NodeName::new("lb-1").unwrap();
        reported.fleet.nodes.insert(name.clone(), NodeRead { index: 200, report: Ok(report(cut)) });
        if !counted {
            reported.counters.clear();
        }
        reported.seen(|_, seen| seen.nodes.get(&name).map(|node| node.applied))
    };
    let long = Cut { recent: 24, ..Cut::default() };
    assert_eq!(applied(long, true), Some(7));
    assert_eq!(applied(Cut { lacks: 60, ..long }, true), Some(7));
    assert_eq!(applied(Cut { lacks: 60, ..long }, false), Some(0), "it may lack the backend");
    assert_eq!(applied(Cut { out: 3, ..long }, true), Some(0), "it may have refused the document");
}
