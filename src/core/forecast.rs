//! What a document would do on the instances of the nodes, as they report their servers now: which of them would guard it,
//! and which shares follow. A forecast, and no promise: the servers may differ when the document arrives.
//!
//! The decision is that of [`crate::accept`], on the reported servers. Must not do I/O or read a clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    accept::{Guard, Verdict, accept},
    caveats,
    desired::Desired,
    fleet::{
        NodeName,
        counters::{Flag, Health as Reported, Instance, Mark, ServerNow},
    },
    model::{Moment, ServerName, Weight},
    observed::{Health, Observed, Owner, Role, Roles, Server},
};

/// What the flag `sticky` means for shares.
pub const STICKY: &str = "rules such as `use-server` choose the server: the shares are shares of users";

/// What a document would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// Each server that a HAProxy has, by name.
    pub servers: BTreeMap<ServerName, ServerForecast>,
    /// The instances that would not set the weights, by node.
    pub refusals: Vec<Refusal>,
    /// The instances that cannot be read now, so that nothing is known of them.
    pub down: Vec<Down>,
    /// The algorithms, as HAProxy names them.
    pub algorithms: BTreeSet<String>,
    /// What makes the shares untrue.
    pub caveats: Vec<Caveat>,
    /// How many instances have the backend and can be read.
    pub instances: usize,
}

/// A server on all instances.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerForecast {
    /// On how many instances it is.
    pub total: usize,
    /// On how many it could serve.
    pub usable: usize,
    /// Its smallest and its largest weight now.
    pub weight: (Weight, Weight),
    /// Whether the document does not name it and it serves.
    pub unnamed: bool,
    /// Its share of the new requests now.
    pub before: Spread,
    /// Its share with the document, where the HAProxy would set it.
    pub after: Spread,
}

/// A percentage over several instances: each counts the same, since their traffic is not known here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub low: f64,
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub high: f64,
}

/// A HAProxy that would not set the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its node.
    pub node: NodeName,
    /// Its name.
    pub instance: String,
    /// Why.
    pub why: WhyNot,
}

/// Why a HAProxy would not set the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// A guard rejects the change for now.
    #[error(transparent)]
    Guarded(#[from] Guard),
    /// It has none of the servers.
    #[error("it has none of the servers")]
    Unmatched,
    /// The algorithm accepts only 0 and the configured weight.
    #[error("`balance static-rr` accepts only 0 and the configured weight")]
    Static,
    /// The backend is disabled.
    #[error("the backend is disabled")]
    Disabled,
}

impl WhyNot {
    /// A word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Guarded(_) => "guarded",
            Self::Unmatched => "unmatched",
            Self::Static | Self::Disabled => "unsupported",
        }
    }
}

/// A HAProxy that cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Its node.
    pub node: NodeName,
    /// Its name.
    pub instance: String,
    /// Why: a word of the node.
    pub why: String,
}

/// What makes the shares untrue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveat {
    /// A word.
    pub word: &'static str,
    /// A sentence, of the first HAProxy that has it.
    pub detail: String,
    /// On how many instances.
    pub instances: usize,
}

/// The servers of a report as a HAProxy shows them.
pub fn observed(instance: &Instance) -> Observed {
    let server = |server: &ServerNow| {
        let is = |mark: Mark| server.marks.contains(&mark);
        Server {
            name: server.name.clone(),
            id: 0,
            port: None,
            weight: server.weight,
            initial: server.initial,
            health: match server.health {
                Reported::Up => Health::Up,
                Reported::Down => Health::Down,
                Reported::Unknown => Health::Unproven(None),
            },
            administered: is(Mark::Maint) || is(Mark::Drain),
            drain: is(Mark::Drain),
            slot: is(Mark::Slot),
            backup: is(Mark::Backup),
            starting: is(Mark::Starting),
            owner: if is(Mark::Agent) { Some(Owner::AgentCheck) } else { is(Mark::Srv).then_some(Owner::SrvRecord) },
        }
    };
    let servers: Vec<_> = instance.servers.iter().map(server).collect();
    Observed { known_dynamic: roles(instance).known_dynamic(), servers }
}

/// What a report says of the roles in a backend.
fn roles(instance: &Instance) -> Roles {
    let has = |flag: Flag| instance.flags.contains(&flag);
    let backup = |server: &&ServerNow| server.marks.contains(&Mark::Backup);
    let role = |server: &ServerNow| (server.name.clone(), Role { backup: true, tracked: None });
    Roles {
        algorithm: instance.algorithm.clone(),
        cookie: has(Flag::Cookie),
        stick_table: has(Flag::StickTable),
        disabled: has(Flag::Disabled),
        servers: instance.servers.iter().filter(backup).map(role).collect(),
    }
}

/// Whether and why a HAProxy would not set `desired`.
fn why_not(instance: &Instance, observed: &Observed, desired: &Desired, accepted: Option<&Desired>) -> Option<WhyNot> {
    let roles = roles(instance);
    if roles.disabled {
        return Some(WhyNot::Disabled);
    }
    // The document before counts as accepted only where HAProxy has its weights.
    let in_force = |accepted: &&Desired| {
        observed.servers.iter().all(|s| accepted.weights.get(&s.name).is_none_or(|weight| *weight == s.weight))
    };
    match accept(desired, accepted.filter(in_force), observed, None, Moment::default()) {
        Verdict::Guarded(guarded) => return Some(WhyNot::Guarded(guarded.guard)),
        Verdict::Unmatched => return Some(WhyNot::Unmatched),
        Verdict::Accepted => {}
    }
    let refused = |server: &Server| {
        let wanted = desired.weights.get(&server.name);
        wanted.is_some_and(|wanted| !wanted.is_zero() && *wanted != server.initial)
    };
    (roles.known_static() && observed.servers.iter().any(refused)).then_some(WhyNot::Static)
}

/// The share of each server in percent, by the weights; empty if none serves.
fn shares(observed: &Observed) -> BTreeMap<&ServerName, f64> {
    let sum: u32 = observed.serving().map(|server| u32::from(server.weight.get())).sum();
    let share = |server: &Server| f64::from(server.weight.get()) * 100.0 / f64::from(sum);
    observed.serving().map(|server| (&server.name, share(server))).collect()
}

/// `observed` after the weights of `desired` were set.
fn with_weights(observed: &Observed, desired: &Desired) -> Observed {
    let mut after = observed.clone();
    for server in &mut after.servers {
        if let Some(weight) = desired.weights.get(&server.name) {
            // A server with unknown health that serves goes on serving; one at 0 must first be known to run.
            let unknown = server.health == Health::Unproven(None) && server.weight.is_zero();
            server.health = if unknown { Health::Down } else { server.health };
            server.weight = *weight;
        }
    }
    after
}

impl Forecast {
    /// What would happen on `instances`, each with its node. `desired` is the document that would be written, for the servers
    /// of one HAProxy; none if it sets no weight there. `accepted` is the same of the document before.
    pub fn new<'i>(
        instances: impl IntoIterator<Item = (&'i NodeName, &'i Instance)>,
        desired: &dyn Fn(&Observed) -> Option<Desired>,
        accepted: &dyn Fn(&Observed) -> Option<Desired>,
    ) -> Self {
        let mut forecast = Self::default();
        for (node, instance) in instances {
            forecast.add(node, instance, desired, accepted);
        }
        for server in forecast.servers.values_mut() {
            // A HAProxy without the server gives it nothing.
            server.before.close(forecast.instances, server.total);
            server.after.close(forecast.instances, server.total);
        }
        forecast
    }

    fn add(
        &mut self,
        node: &NodeName,
        instance: &Instance,
        desired: &dyn Fn(&Observed) -> Option<Desired>,
        accepted: &dyn Fn(&Observed) -> Option<Desired>,
    ) {
        if let Some(why) = &instance.down {
            self.down.push(Down { node: node.clone(), instance: instance.name.clone(), why: why.clone() });
            return;
        }
        self.instances += 1;
        if !instance.algorithm.is_empty() {
            self.algorithms.insert(instance.algorithm.clone());
        }
        let now = observed(instance);
        let (desired, accepted) = (desired(&now), accepted(&now));
        let why = desired.as_ref().and_then(|desired| why_not(instance, &now, desired, accepted.as_ref()));
        if let Some(why) = why {
            self.refusals.push(Refusal { node: node.clone(), instance: instance.name.clone(), why });
        }
        let after = desired.as_ref().filter(|_| why.is_none()).map(|desired| with_weights(&now, desired));
        let after = after.as_ref().unwrap_or(&now);
        let (shares_before, shares_after) = (shares(&now), shares(after));
        for server in &now.servers {
            let entry = self.servers.entry(server.name.clone()).or_insert_with(|| ServerForecast {
                weight: (server.weight, server.weight),
                before: Spread::open(),
                after: Spread::open(),
                ..ServerForecast::default()
            });
            entry.total += 1;
            entry.usable += usize::from(server.usable(!server.weight.is_zero()));
            entry.weight = (entry.weight.0.min(server.weight), entry.weight.1.max(server.weight));
            let named = desired.as_ref().is_none_or(|desired| desired.weights.contains_key(&server.name));
            entry.unnamed |= !named && shares_after.contains_key(&server.name);
            entry.before.add(shares_before.get(&server.name).copied().unwrap_or_default());
            entry.after.add(shares_after.get(&server.name).copied().unwrap_or_default());
        }
        self.note(instance, after);
    }

    fn note(&mut self, instance: &Instance, after: &Observed) {
        let roles = roles(instance);
        let reasons = caveats::reasons(after, Some(&roles), roles.disabled || roles.known_static());
        let word = |reason: &str| caveats::WORDS.into_iter().find(|word| *word == reason);
        let mut found: Vec<_> =
            reasons.into_iter().filter_map(|reason| Some((word(&reason.reason)?, reason.detail))).collect();
        if instance.flags.contains(&Flag::Sticky) {
            found.push(("sticky", STICKY.to_owned()));
        }
        for (word, detail) in found {
            match self.caveats.iter_mut().find(|caveat| caveat.word == word) {
                Some(caveat) => caveat.instances += 1,
                None => self.caveats.push(Caveat { word, detail, instances: 1 }),
            }
        }
    }
}

impl Spread {
    /// Before the first value.
    const fn open() -> Self {
        Self { low: f64::INFINITY, mean: 0.0, high: 0.0 }
    }

    /// Adds one value; `mean` is the sum until the end.
    fn add(&mut self, value: f64) {
        (self.low, self.high) = (self.low.min(value), self.high.max(value));
        self.mean += value;
    }

    /// After the last of `values` values, from `instances` instances: those without a value count as 0.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 instances")]
    fn close(&mut self, instances: usize, values: usize) {
        self.low = if values < instances { 0.0 } else { self.low };
        self.mean /= instances.max(1) as f64;
    }
}

#[cfg(test)]
mod tests;
