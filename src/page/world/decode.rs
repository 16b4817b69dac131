//! How the values of keys become a world. A value is decoded once for each content.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::sync::watch;
use weightd_core::{
    desired::{Decoder, DesiredState, Entry},
    fleet::{
        BackendView, Expect, Fleet, Freeze, Frozen, Health, Inventory, NodeName, NodeRead, NodeReport, Standing,
        Waiting, overview,
    },
    history::{self, Before, History},
    model::{BackendName, Root, Timestamp},
    rollout::{BadValue, Evidence, Request, Shown, Spec, State, log},
};

use super::{
    super::view::{
        chart::Sample,
        facts::{Facts, NodeStand, RolloutFacts, Stand, unreadable},
        fleet::fleet,
    },
    App, Sources, World, at,
};
use crate::{
    consul::follow::{Followed, Keys, Value},
    documents::{context::before, stored, view::View},
};

/// Decoded values, by the part of the key after the prefix.
struct Cache<T> {
    from: Option<Arc<Keys>>,
    values: BTreeMap<String, (Value, T)>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { from: None, values: BTreeMap::new() }
    }
}

impl<T> Cache<T> {
    /// Takes the newest answer. Decodes only what is different.
    fn update(&mut self, source: &watch::Receiver<Followed>, decode: impl Fn(&str, &Value) -> T) {
        let Some(keys) = source.borrow().keys.clone() else { return };
        if self.from.as_ref().is_some_and(|known| Arc::ptr_eq(known, &keys)) {
            return;
        }
        let mut old = std::mem::take(&mut self.values);
        for (tail, value) in &keys.values {
            let known = old.remove(tail).filter(|(known, _)| known == value);
            let decoded = known.unwrap_or_else(|| (value.clone(), decode(tail, value)));
            self.values.insert(tail.clone(), decoded);
        }
        self.from = Some(keys);
    }

    fn get(&self, tail: &str) -> Option<&T> {
        self.values.get(tail).map(|(_, decoded)| decoded)
    }

    /// The `ModifyIndex` of a key; 0 if there is no such key.
    fn index(&self, tail: &str) -> u64 {
        self.values.get(tail).map_or(0, |(value, _)| value.index)
    }
}

/// The decoded values of all prefixes.
pub(super) struct Decoded {
    prefix: String,
    weights: Option<Arc<Keys>>,
    documents: BTreeMap<BackendName, (View, Before)>,
    desired: DesiredState,
    history: Cache<Option<History>>,
    freeze: Cache<Option<Frozen>>,
    nodes: Cache<Option<(NodeName, NodeRead)>>,
    inventory: Cache<Option<Result<Inventory, weightd_core::fleet::BadValue>>>,
    expect: Cache<Option<u64>>,
    spec: Cache<Result<Arc<Spec>, BadValue>>,
    state: Cache<Result<Arc<State>, BadValue>>,
    evidence: Cache<Option<(String, Shown)>>,
    log: Cache<Arc<[log::Entry]>>,
    request: Cache<Option<Request>>,
    controller: Cache<Option<String>>,
    /// Of when the evidence is, where Consul does not give it any more, or has not yet.
    heard_until: Option<Timestamp>,
    /// What the leaders said of each rollout, since this process runs.
    samples: BTreeMap<BackendName, Vec<Sample>>,
}

impl Decoded {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            prefix: root.weights_prefix(),
            weights: None,
            documents: BTreeMap::new(),
            desired: DesiredState::default(),
            history: Cache::default(),
            freeze: Cache::default(),
            nodes: Cache::default(),
            inventory: Cache::default(),
            expect: Cache::default(),
            spec: Cache::default(),
            state: Cache::default(),
            evidence: Cache::default(),
            log: Cache::default(),
            request: Cache::default(),
            controller: Cache::default(),
            heard_until: None,
            samples: BTreeMap::new(),
        }
    }

    /// The world of now. What did not change keeps its HTML.
    pub(super) fn world(&mut self, sources: &Sources, last: &World, seq: u64, now: Timestamp) -> World {
        self.update(sources);
        let nodes = self.fleet();
        let overview = overview(&nodes, &self.desired);
        let names: BTreeSet<BackendName> = self.documents.keys().cloned().collect();
        let frozen = self.freeze.get("").cloned().flatten();
        let mut apps = BTreeMap::new();
        for name in names {
            let stands = overview.backends.get(&name).map(|view| stands(view, &overview.nodes)).unwrap_or_default();
            let facts = self.facts(&name, stands, frozen.as_ref());
            let app = App::new(facts, now, seq);
            let app = match last.apps.get(&name) {
                // Ages in the words of the page are as old as the world: the same facts may still be another page.
                Some(known) if known.facts == app.facts && known.row == app.row && !app.facts.is_active() => {
                    Arc::clone(known)
                }
                known => Arc::new(app.after(known.map(|known| &**known))),
            };
            apps.insert(name, app);
        }
        let fleet = fleet(&overview, &nodes, now);
        let fleet_changed = if last.fleet == fleet && last.frozen == frozen { last.fleet_changed } else { seq };
        let controller = self.controller.get("").cloned().flatten();
        let is_complete = sources.all().into_iter().all(|source| source.borrow().keys.is_some());
        let is_unled = is_complete && controller.is_none();
        World {
            seq,
            at: now,
            apps,
            fleet,
            fleet_changed,
            frozen,
            freeze: self.freeze.index(""),
            unled_since: is_unled.then(|| last.unled_since.unwrap_or(now)),
            controller,
            is_complete,
            away: None,
            names_at: None,
        }
    }

    fn update(&mut self, sources: &Sources) {
        self.update_weights(&sources.weights);
        self.history.update(&sources.history, |_, value| History::parse(&value.bytes, value.index).ok());
        self.freeze
            .update(&sources.freeze, |_, value| Freeze::parse(&value.bytes).ok().and_then(|freeze| freeze.frozen));
        self.nodes.update(&sources.nodes, |tail, value| {
            let node = NodeName::new(tail).ok()?;
            let report = NodeReport::parse(&node, &value.bytes);
            Some((node, NodeRead { index: value.index, report }))
        });
        self.inventory
            .update(&sources.inventory, |tail, value| NodeName::new(tail).ok().map(|_| Inventory::parse(&value.bytes)));
        self.expect.update(&sources.expect, |_, value| Expect::parse(&value.bytes).ok().map(|expect| expect.nodes));
        self.spec.update(&sources.spec, |_, value| Spec::parse(&value.bytes).map(Arc::new));
        self.state.update(&sources.state, |_, value| State::parse(&value.bytes, value.index).map(Arc::new));
        self.evidence.update(&sources.evidence, |_, value| {
            Evidence::parse(&value.bytes).ok().map(|evidence| (evidence.rollout, evidence.shown))
        });
        self.log.update(&sources.log, |_, value| {
            log::Log::parse(&value.bytes).map(|log| log.events).unwrap_or_default().into()
        });
        let evidence = sources.evidence.borrow().clone();
        let is_heard = evidence.failed.is_none() && evidence.keys.is_some();
        self.heard_until = (!is_heard).then(|| evidence.read_at.map(at).unwrap_or_default());
        self.request.update(&sources.request, |_, value| Request::parse(&value.bytes).ok().flatten());
        self.controller.update(&sources.controller, |tail, value| {
            // The key has its name in its value; a newer version may say more.
            let name = serde_json::from_slice::<serde_json::Value>(&value.bytes).ok()?;
            (tail.is_empty()).then(|| name.get("name")?.as_str().map(str::to_owned))?
        });
    }

    /// weightd's own decoder decides what a document is.
    fn update_weights(&mut self, source: &watch::Receiver<Followed>) {
        let Some(keys) = source.borrow().keys.clone() else { return };
        if self.weights.as_ref().is_some_and(|known| Arc::ptr_eq(known, &keys)) {
            return;
        }
        let entries: Vec<_> = keys
            .values
            .iter()
            .map(|(tail, value)| Entry {
                key: Cow::Owned(format!("{}{tail}", self.prefix)),
                value: Some(Cow::Owned(BASE64.encode(&value.bytes))),
                modify_index: value.index,
            })
            .collect();
        // The entries were encoded here, so neither can fail.
        if let (Ok(everything), Ok(desired)) =
            (stored::read(&self.prefix, &entries), Decoder::new(self.prefix.clone()).decode(&entries))
        {
            let document = |stored: &stored::Stored| (stored.backend.clone(), (View::of(stored), before(stored)));
            self.documents = everything.backends.iter().map(document).collect();
            self.desired = (*desired).clone();
            self.weights = Some(keys);
        }
    }

    fn fleet(&self) -> Fleet {
        let nodes = self.nodes.values.values().filter_map(|(_, node)| node.clone()).collect();
        let inventory = self
            .inventory
            .values
            .iter()
            .filter_map(|(tail, (_, inventory))| Some((NodeName::new(tail).ok()?, inventory.clone()?)));
        Fleet { nodes, inventory: inventory.collect(), expect: self.expect.get("").copied().flatten() }
    }

    fn facts(&mut self, name: &BackendName, nodes: Vec<NodeStand>, frozen_all: Option<&Frozen>) -> Facts {
        let rollout = self.rollout(name);
        let samples = self.samples(name, rollout.as_ref());
        let known = self.documents.get(name);
        let history = self.history.get(name.as_str()).cloned().flatten().unwrap_or_default();
        let entries: Vec<history::Entry> =
            history.with_document(known.map(|(_, before)| before.clone())).entries().to_vec();
        Facts {
            name: name.clone(),
            document: known.map(|(view, _)| view.clone()),
            rollout,
            samples,
            history: entries.into(),
            log: self.log.get(name.as_str()).cloned().unwrap_or_default(),
            frozen: self.freeze.get(&format!("/{name}")).cloned().flatten(),
            frozen_all: frozen_all.cloned(),
            freeze: self.freeze.index(&format!("/{name}")),
            nodes,
            controller: self.controller.get("").cloned().flatten(),
            heard_until: self.heard_until,
            unreadable: unreadable(self.spec.get(name.as_str()), self.state.get(name.as_str())),
        }
    }

    /// Keeps what is new, and forgets the rollout before.
    fn samples(&mut self, name: &BackendName, rollout: Option<&RolloutFacts>) -> Arc<[Sample]> {
        let Some(RolloutFacts { state: Some(state), shown, .. }) = rollout else {
            self.samples.remove(name);
            return Arc::default();
        };
        let known = self.samples.entry(name.clone()).or_default();
        if known.last().is_some_and(|last| last.seq > state.seq || last.step > state.step) {
            known.clear();
        }
        if let Some(sample) = shown.as_ref().and_then(|shown| Sample::of(state, shown)) {
            sample.push(known);
        }
        known.as_slice().into()
    }

    fn rollout(&self, name: &BackendName) -> Option<RolloutFacts> {
        let spec = self.spec.get(name.as_str())?.clone().ok()?;
        let state = self.state.get(name.as_str()).and_then(|state| state.clone().ok());
        // The state of an earlier rollout says nothing of a new one; that of one which still runs does.
        let state = state.filter(|state| state.id == spec.id || !state.phase.is_final());
        let shown = self.evidence.get(name.as_str()).cloned().flatten();
        let id = state.as_ref().map_or(&spec.id, |state| &state.id);
        let shown = shown.filter(|(of, _)| of == id).map(|(_, shown)| shown);
        let request = self.request.get(name.as_str()).cloned().flatten();
        let request = request.filter(|request| is_open(request, &spec, state.as_deref()));
        Some(RolloutFacts { spec, state, shown, request })
    }
}

/// Whether a request is of the rollout that runs, and not answered.
fn is_open(request: &Request, spec: &Spec, state: Option<&State>) -> bool {
    let Some(state) = state else { return request.rollout == spec.id };
    let is_answered = state.answered.as_ref().is_some_and(|answered| answered.id == request.id);
    request.rollout == state.id && !state.phase.is_final() && !is_answered
}

/// How the nodes stand that have the backend, or should have it.
fn stands(view: &BackendView, nodes: &BTreeMap<NodeName, weightd_core::fleet::NodeView>) -> Vec<NodeStand> {
    let differs: BTreeMap<&NodeName, _> = view.differs.iter().map(|differs| (&differs.node, differs)).collect();
    let has = |name: &NodeName| NodeStand { name: name.clone(), stand: Stand::Has, why: String::new(), since: None };
    nodes
        .iter()
        .filter(|(name, node)| node.health != Health::Observe && !view.lacks.contains(name))
        .filter_map(|(name, _)| match differs.get(name) {
            None => Some(has(name)),
            Some(differs) => {
                let (stand, why) = stand(&differs.standing)?;
                Some(NodeStand { name: name.clone(), stand, why, since: differs.since })
            }
        })
        .collect()
}

/// How a node stands, in words.
fn stand(standing: &Standing) -> Option<(Stand, String)> {
    Some(match standing {
        Standing::Done { .. } | Standing::DoesNotCount => return None,
        Standing::Cannot(why) if matches!(why.as_str(), "paused" | "overridden") => (Stand::Aside, why.clone()),
        Standing::Cannot(why) => (Stand::Guarded, why.clone()),
        Standing::Waiting(Waiting::Not(why)) if why == "guarded" => {
            (Stand::Guarded, "the guard of the node refused the document".to_owned())
        }
        Standing::Waiting(why @ (Waiting::Missing | Waiting::Duplicate(_) | Waiting::Unreadable(_))) => {
            (Stand::Missing, why.to_string())
        }
        Standing::Waiting(why) => (Stand::Late, why.to_string()),
    })
}
