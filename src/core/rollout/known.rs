//! The nodes and the document of a rollout, from what Consul has: reports, inventory and counters become what a tick sees.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Spec,
    observe::{DocumentSeen, NodeSeen},
    spec, start,
};
use crate::{
    desired::{Desired, Instruction, PatternShare, Published},
    fleet::{
        CountersRead, Fleet, Heard, Mode, NodeName, Standing, ViewId, Waiting,
        counters::{Counted, Flag, Instance, Protocol},
        standing,
    },
    model::BackendName,
};

/// Seconds for which a node that says nothing still counts.
pub const MISSING_SECONDS: u64 = 600;

/// Who stays on a server whose weight is 0, by what HAProxy has in the backend.
const STAYS: [(Flag, &str); 3] = [
    (Flag::Cookie, "users that a cookie pins"),
    (Flag::StickTable, "users that a stick table pins"),
    (Flag::Sticky, "chosen users"),
];

/// Everything that is known of the nodes, for one rollout.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// `nodes/`, `inventory/` and `expect`.
    pub fleet: &'a Fleet,
    /// `counters/`.
    pub counters: &'a BTreeMap<NodeName, CountersRead>,
    /// For how many seconds a node in the inventory has had no key in `nodes/`.
    pub missing: &'a BTreeMap<NodeName, u64>,
    /// The nodes whose clock is off.
    pub clock_off: &'a BTreeSet<NodeName>,
    /// The backend.
    pub backend: &'a BackendName,
    /// The view of the observation.
    pub view: ViewId,
    /// The `ModifyIndex` of the observation.
    pub observed: u64,
    /// The `ModifyIndex` of the document of the state.
    pub document: u64,
}

/// What the nodes say of the backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend {
    /// Each node that has the backend, or should have it.
    pub nodes: BTreeMap<NodeName, NodeSeen>,
    /// Whether the shares of the requests do not follow the weights.
    pub share_is_free: bool,
    /// The users who may stay on `to` when it goes back: words; none if nobody does.
    pub stays: Option<String>,
    /// Whether a HAProxy of a node that counts sees connections and no answers.
    pub is_tcp: bool,
    /// Why `from` cannot take all requests: a sentence; none if it can.
    pub from_too_small: Option<String>,
}

impl Known<'_> {
    /// What the nodes say of the backend.
    pub fn backend(&self) -> Backend {
        let mut backend = Backend::default();
        let (mut without_from, mut flags) = (Vec::new(), BTreeSet::new());
        for name in self.fleet.names() {
            let counted = match self.heard(name) {
                Some(Heard::Has(counted)) => Some(counted),
                Some(Heard::Lacks) => continue,
                Some(Heard::NoData(_) | Heard::Silent) | None => None,
            };
            let Some(mut node) = self.node(name) else { continue };
            if let Some(counted) = counted {
                node.heard = true;
                node.to_usable = self.usable(counted, "to");
                node.to_sessions = self.rows(counted, "to").map(|now| now.sessions).sum();
                backend.share_is_free |= counted.instances.iter().any(is_free);
                flags.extend(counted.instances.iter().flat_map(|instance| &instance.flags).copied());
                backend.is_tcp |= node.counts && readable(counted).any(|instance| instance.mode == Protocol::Tcp);
                if node.counts && !self.usable(counted, "from") {
                    without_from.push(name.as_str());
                }
            }
            backend.nodes.insert(name.clone(), node);
        }
        let stays: Vec<_> = STAYS.iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, users)| *users).collect();
        backend.stays = (!stays.is_empty()).then(|| crate::reasons::list(stays.into_iter()));
        if !without_from.is_empty() {
            let names = crate::reasons::list(without_from.into_iter());
            backend.from_too_small = Some(format!("it has no usable server on {names}"));
        }
        backend
    }

    /// Why a document that gives shares is no split of the two sides: on a node of `seen` that counts, they differ from those
    /// of a split by more than a percentage point. None if it is close enough, or gives no shares. A start refuses the same;
    /// here it was written since, or no node answered then.
    pub fn not_split(&self, seen: &Backend, spec: &Spec, published: Option<&Published>) -> Option<String> {
        let desired = match published? {
            Published::Valid(Instruction::Weights(desired)) => desired,
            Published::Valid(Instruction::Leaves(_)) => {
                return Some("the backend has one key for each server, and a rollout writes a split".to_owned());
            }
            Published::Valid(Instruction::Release { .. }) | Published::Rejected(_) => return None,
        };
        let wanted = spec.split(share(spec, desired).0?).ok()?;
        let counting = seen.nodes.iter().filter(|(_, node)| node.counts);
        let counted = counting.filter_map(|(name, _)| match self.heard(name)? {
            Heard::Has(counted) => Some((name, counted)),
            Heard::Lacks | Heard::NoData(_) | Heard::Silent => None,
        });
        let instances = counted.flat_map(|(name, counted)| readable(counted).map(move |instance| (name, instance)));
        let difference = start::difference(&spec.to, &spec.from, desired, &wanted, instances);
        difference.map(|difference| difference.to_string())
    }

    fn heard(&self, name: &NodeName) -> Option<Heard<'_>> {
        self.counters.get(name).map(|read| read.heard(self.backend, self.observed))
    }

    /// A node as its report and the inventory describe it; none if it does not have the backend.
    fn node(&self, name: &NodeName) -> Option<NodeSeen> {
        let inventory = self.fleet.inventory.get(name);
        let clock_off = self.clock_off.contains(name);
        let Some(read) = self.fleet.nodes.get(name) else {
            // It is in the inventory and says nothing: what it had is not known.
            let observes = matches!(inventory, Some(Ok(inventory)) if inventory.mode == Mode::Observe);
            let missing = self.missing.get(name).copied().unwrap_or_default();
            return Some(NodeSeen { counts: !observes && missing < MISSING_SECONDS, clock_off, ..NodeSeen::default() });
        };
        let report = read.report.as_ref().ok();
        if report.is_some_and(|report| report.lacks.contains(self.backend)) {
            return None;
        }
        let has = matches!(self.heard(name), Some(Heard::Has(_)));
        let standing = standing(read, self.backend, self.document, has);
        let (applied, refuses) = match &standing {
            Standing::Done { has: false } => return None,
            Standing::Done { has: true } => (self.document, None),
            Standing::Waiting(Waiting::Older(index)) => (*index, None),
            Standing::Waiting(Waiting::Not(why)) if why == "guarded" => (0, Some(why.clone())),
            Standing::Cannot(why) => (0, Some(why.clone())),
            Standing::Waiting(_) | Standing::DoesNotCount => (0, None),
        };
        let enforces = report.is_none_or(|report| report.mode != Mode::Observe);
        let stands_aside = refuses.as_deref().is_some_and(|why| matches!(why, "paused" | "overridden"));
        Some(NodeSeen {
            counts: inventory.is_some() && enforces && !stands_aside,
            live: true,
            applied,
            refuses,
            clock_off,
            ..NodeSeen::default()
        })
    }

    /// Whether each HAProxy of the node has a usable server on the side.
    fn usable(&self, counted: &Counted, side: &str) -> bool {
        let usable = |instance: &Instance| {
            let view = instance.view(self.view).filter(|_| instance.down.is_none());
            view.and_then(|view| view.now.get(side)).is_some_and(|now| now.usable > 0)
        };
        !counted.instances.is_empty() && counted.instances.iter().all(usable)
    }

    fn rows<'c>(&self, counted: &'c Counted, side: &str) -> impl Iterator<Item = &'c crate::fleet::counters::Now> {
        let view = self.view;
        let views = counted.instances.iter().filter_map(move |instance| instance.view(view));
        views.filter_map(move |view| view.now.get(side)).collect::<Vec<_>>().into_iter()
    }
}

/// Whether something other than the weights decides where requests go.
fn is_free(instance: &Instance) -> bool {
    let pins = |flag: &Flag| matches!(flag, Flag::Cookie | Flag::Sticky | Flag::StickTable);
    instance.algorithm == "leastconn" || pins_users(instance) || instance.flags.iter().any(pins)
}

/// Whether an algorithm or the sticky snippet gives each user the same side: a regression then stops, and does not move
/// users to and fro.
pub fn pins_users(instance: &Instance) -> bool {
    let hash = ["source", "uri", "url_param", "hdr", "rdp-cookie", "hash"];
    let pins = |flag: &Flag| matches!(flag, Flag::Sticky | Flag::StickTable);
    hash.iter().any(|word| instance.algorithm.starts_with(word)) || instance.flags.iter().any(pins)
}

/// Each HAProxy that can be read.
fn readable(counted: &Counted) -> impl Iterator<Item = &Instance> {
    counted.instances.iter().filter(|instance| instance.down.is_none())
}

/// The document of a backend, as a rollout sees it. One key for each server gives no share: no rollout can move it.
pub fn document(spec: &Spec, published: Option<&Published>) -> DocumentSeen {
    let Some(published) = published else { return DocumentSeen::default() };
    let index = published.index();
    let Published::Valid(Instruction::Weights(desired)) = published else {
        return DocumentSeen { index, ..DocumentSeen::default() };
    };
    let (share, is_split) = share(spec, desired);
    DocumentSeen { index, share, is_split }
}

/// The share of `to` in a document; none if it gives none. And whether it is exactly the split of the two sides.
fn share(spec: &Spec, desired: &Desired) -> (Option<PatternShare>, bool) {
    let own = desired.split.as_ref().and_then(|split| spec.share_of(split));
    (own.or_else(|| spec::share_in(&spec.to, &spec.from, desired)), own.is_some())
}
