//! What is known of one application: the values of its keys, decoded.

use std::{collections::BTreeMap, sync::Arc};

use weightd_core::{
    fleet::{Frozen, NodeName},
    history,
    model::{BackendName, Timestamp},
    rollout::{BadValue, Holding, Phase, Request, Shown, Spec, State, log},
};

use super::{
    chart::Sample,
    row::{frozen_by, holding_word},
};
use crate::documents::view::View;

/// What is known of one application.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Its name.
    pub name: BackendName,
    /// Its document or leaves; none if it has no key below `weights/`.
    pub document: Option<View>,
    /// Its latest rollout.
    pub rollout: Option<RolloutFacts>,
    /// Its history, newest first; the first entry is the present document.
    pub history: Arc<[history::Entry]>,
    /// What happened in its rollouts, oldest first.
    pub log: Arc<[log::Entry]>,
    /// Its own freeze.
    pub frozen: Option<Frozen>,
    /// The freeze of all applications.
    pub frozen_all: Option<Frozen>,
    /// The `ModifyIndex` of the key of its own freeze; 0 if there is no such key.
    pub freeze: u64,
    /// The nodes that have it, or should have it.
    pub nodes: Vec<NodeStand>,
    /// What the page has seen of its errors, oldest first.
    pub samples: Arc<[Sample]>,
    /// The name of the controller that leads.
    pub controller: Option<String>,
    /// Of when the word of the controller is, where Consul does not give a newer one; none while it answers.
    pub heard_until: Option<Timestamp>,
    /// Which key of its rollout cannot be read, and why.
    pub unreadable: Option<String>,
}

/// A rollout as its keys say.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutFacts {
    /// What it is.
    pub spec: Arc<Spec>,
    /// Where it is; none until a leader began it.
    pub state: Option<Arc<State>>,
    /// What the leader sees; none until it said so, and where it belongs to another rollout.
    pub shown: Option<Shown>,
    /// What a person wants of it, if no leader has answered.
    pub request: Option<Request>,
}

/// How a node stands with the document of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStand {
    /// The node.
    pub name: NodeName,
    /// How it stands.
    pub stand: Stand,
    /// Why, in words; empty for [`Stand::Has`].
    pub why: String,
    /// Since when, as the node says.
    pub since: Option<Timestamp>,
}

/// How a node stands with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stand {
    /// It says nothing.
    Missing,
    /// Its guard refused the document, or it does not take it for another reason that stays.
    Guarded,
    /// A person paused or overrode it.
    Aside,
    /// It does not have it yet.
    Late,
    /// It has it.
    Has,
}

impl Stand {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Guarded => "guarded",
            Self::Aside => "set aside",
            Self::Late => "late",
            Self::Has => "has it",
        }
    }

    /// The glyph.
    pub const fn glyph(self) -> &'static str {
        match self {
            Self::Missing => "cross",
            Self::Guarded => "warn",
            Self::Aside => "lock",
            Self::Late => "half",
            Self::Has => "dot",
        }
    }
}

/// Which key of a rollout cannot be read, and why; none if spec and state can be read, or if nothing runs that needs them.
pub fn unreadable(
    spec: Option<&Result<Arc<Spec>, BadValue>>,
    state: Option<&Result<Arc<State>, BadValue>>,
) -> Option<String> {
    let (key, why) = match (state, spec) {
        (Some(Err(bad)), _) => ("state", bad.to_string()),
        (_, Some(Err(bad))) => ("spec", bad.to_string()),
        (Some(Ok(state)), None) if !state.phase.is_final() => ("spec", "the key was deleted".to_owned()),
        _ => return None,
    };
    Some(format!("the {key} of the rollout cannot be read: {why}"))
}

impl Facts {
    /// The index of the document; 0 without one.
    pub fn index(&self) -> u64 {
        self.document.as_ref().and_then(|view| view.index).unwrap_or_default()
    }

    /// The state of the rollout.
    pub fn state(&self) -> Option<&State> {
        self.rollout.as_ref()?.state.as_deref()
    }

    /// The spec of the rollout.
    pub fn spec(&self) -> Option<&Spec> {
        self.rollout.as_ref().map(|rollout| &*rollout.spec)
    }

    /// What the leader sees, if it can still be true.
    pub fn fresh(&self, now: Timestamp) -> Option<&Shown> {
        let rollout = self.rollout.as_ref()?;
        let state = rollout.state.as_ref()?;
        rollout.shown.as_ref().filter(|shown| state.phase.is_final() || shown.is_fresh(now))
    }

    /// Which key of its rollout cannot be read, and why; none if all that says where it stands can be read. What is known of the
    /// rollout is then not enough to start, steer or withdraw one.
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// Since when no controller says anything of a rollout that is under way; none while one may still speak: what it said is
    /// not old, or the rollout has just got where it is. While a rollout is queued or goes back a controller writes nothing of
    /// what it sees: then only one that does not lead is silent.
    pub fn silent_since(&self, now: Timestamp) -> Option<Timestamp> {
        let rollout = self.rollout.as_ref()?;
        let state = rollout.state.as_ref().filter(|state| !state.phase.is_final())?;
        if !matches!(state.phase, Phase::Preflight | Phase::Shift | Phase::Bake) && self.controller.is_some() {
            return None;
        }
        let said = rollout.shown.as_ref().map_or(state.since, |shown| shown.at.max(state.since));
        // What the page cannot read may have been said.
        let until = self.heard_until.map_or(now, |until| until.min(now));
        (until.seconds_since(said) > Shown::FRESH_SECONDS).then_some(said)
    }

    /// Whether a rollout has not ended.
    pub fn is_active(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.state.as_ref().is_none_or(|state| !state.phase.is_final()))
    }

    /// Whether an ended rollout is still what the application is about: nobody wrote since.
    pub fn is_last_word(&self) -> bool {
        let Some(state) = self.state().filter(|state| state.phase.is_final()) else { return false };
        match state.phase {
            // The document that ended it is the newer one.
            Phase::TakenOver => true,
            _ => state.document.is_none_or(|document| document >= self.index()),
        }
    }

    /// Who froze it and why, in words: its own freeze, then that of all; empty if changes are possible.
    pub fn frozen_by(&self) -> String {
        let freezes: Vec<_> = self.frozen.iter().chain(&self.frozen_all).map(frozen_by).collect();
        freezes.join("; ")
    }

    /// Whether a freeze stops changes of it.
    pub const fn is_frozen(&self) -> bool {
        self.frozen.is_some() || self.frozen_all.is_some()
    }

    /// The same for a person who may not read the names of nodes: numbers in place of names, and no text of the controller that
    /// lists nodes.
    #[must_use]
    pub fn without_node_names(&self) -> Self {
        let mut facts = self.clone();
        let mut numbers = BTreeMap::new();
        let mut rename = |name: &mut NodeName| {
            let next = numbers.len() + 1;
            let number = *numbers.entry(name.clone()).or_insert(next);
            if let Ok(other) = NodeName::new(&format!("node-{number}")) {
                *name = other;
            }
        };
        facts.nodes.iter_mut().for_each(|node| rename(&mut node.name));
        if let Some(rollout) = &mut facts.rollout {
            if let Some(state) = rollout.state.as_mut().filter(|state| !state.late.is_empty()) {
                Arc::make_mut(state).late.iter_mut().for_each(rename);
            }
            let holding = rollout.shown.iter_mut().flat_map(|shown| &mut shown.holding);
            for held in holding.filter(|held| Holding::word_names_nodes(&held.word)) {
                held.text = holding_word(&held.word).to_owned();
            }
        }
        facts.log = facts.log.iter().map(|event| log::Entry { detail: unnamed(event), ..event.clone() }).collect();
        facts
    }

    /// How many nodes have the document, of those that count.
    pub fn has(&self) -> (usize, usize) {
        let counts = self.nodes.iter().filter(|node| node.stand != Stand::Aside);
        let all = counts.clone().count();
        (counts.filter(|node| node.stand == Stand::Has).count(), all)
    }

    /// The nodes that stand so.
    pub fn standing(&self, stand: Stand) -> impl Iterator<Item = &NodeStand> {
        self.nodes.iter().filter(move |node| node.stand == stand)
    }
}

/// The detail of an event without lists of nodes.
fn unnamed(event: &log::Entry) -> String {
    match event.what.as_str() {
        // The log does not say which reason it was, and most reasons list nodes.
        "holding" => String::new(),
        "rolled_back" => event.detail.split("; not applied on ").next().unwrap_or_default().to_owned(),
        _ => event.detail.clone(),
    }
}

#[cfg(test)]
mod tests;
