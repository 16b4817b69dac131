use std::collections::{BTreeMap, BTreeSet};

use super::{Collector, NoNumbers, Source};
use crate::{
    desired::{Pattern, PatternShare, Split, Weights},
    fleet::{
        NodeName,
        counters::{Protocol, Sums},
    },
    model::{Moment, ServerName},
};

/// Servers that are shown together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub label: String,
    /// The names and patterns of its servers.
    pub patterns: Vec<Pattern>,
    /// The desired share of the requests in percent; none without a document that says it.
    pub desired: Option<f64>,
}

/// The groups of a backend. A server that none of them has is in `other`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// The label of the servers that no group has.
    pub const OTHER: &'static str = "other";

    /// The groups in this order.
    pub const fn new(groups: Vec<Group>) -> Self {
        Self(groups)
    }

    /// One group for each server of a document, with its share.
    pub fn of_servers(weights: &Weights) -> Self {
        Self::of(weights, weights.keys().map(|server| (server.to_string(), vec![Pattern::from(server)])))
    }

    /// The servers above 0 of a document, and those at 0.
    pub fn of_weights(weights: &Weights) -> Self {
        let side = |zero: bool| -> Vec<_> {
            let servers = weights.iter().filter(|(_, weight)| weight.is_zero() == zero);
            servers.map(|(server, _)| Pattern::from(server)).collect()
        };
        let sides = [("above 0", side(false)), ("at 0", side(true))];
        let sides = sides.into_iter().filter(|(_, patterns)| !patterns.is_empty());
        Self::of(weights, sides.map(|(label, patterns)| (label.to_owned(), patterns)))
    }

    /// One group for each pattern of a split, with its share.
    pub fn of_split(split: &Split) -> Self {
        let group = |(pattern, share): (&Pattern, &PatternShare)| Group {
            label: pattern.to_string(),
            patterns: vec![pattern.clone()],
            desired: Some(share.percent()),
        };
        Self(split.shares().iter().map(group).collect())
    }

    /// Groups with these labels and patterns, with their shares of `weights`.
    pub fn of(weights: &Weights, groups: impl IntoIterator<Item = (String, Vec<Pattern>)>) -> Self {
        let sum: u32 = weights.values().map(|weight| u32::from(weight.get())).sum();
        let group = |(label, patterns): (String, Vec<Pattern>)| {
            let part: u32 = weights
                .iter()
                .filter(|(server, _)| matches(&patterns, server.as_str()))
                .map(|(_, weight)| u32::from(weight.get()))
                .sum();
            let desired = (sum > 0).then(|| f64::from(part) * 100.0 / f64::from(sum));
            Group { label, patterns, desired }
        };
        Self(groups.into_iter().map(group).collect())
    }

    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.0
    }

    /// The position of the group of a row; that behind the last one for `other`.
    fn position(&self, row: &str) -> usize {
        self.0.iter().position(|group| matches(&group.patterns, row)).unwrap_or(self.0.len())
    }

    /// The first server that two groups have, with their labels.
    pub fn overlap<'s>(&self, servers: impl IntoIterator<Item = &'s ServerName>) -> Option<(&'s ServerName, String)> {
        servers.into_iter().find_map(|server| {
            let having: Vec<_> = self.0.iter().filter(|group| matches(&group.patterns, server.as_str())).collect();
            let labels = having.iter().map(|group| group.label.as_str()).collect::<Vec<_>>().join(" and ");
            (having.len() > 1).then_some((server, labels))
        })
    }
}

fn matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// The numbers of one group of servers over some HAProxies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The name of the group.
    pub label: String,
    /// The desired share in percent; none where no document says it.
    pub desired: Option<f64>,
    /// The share of the requests in percent; none without requests.
    pub share: Option<f64>,
    /// Counts per second; none where no HAProxy has numbers.
    pub rates: Option<Rates>,
    /// The mean time to an answer in milliseconds, weighted by the answers; none without answers.
    pub time: Option<f64>,
    /// Sessions on its servers now.
    pub sessions: u64,
    /// How many of its servers could serve, over all HAProxies.
    pub usable: u64,
    /// How many servers it has, over all HAProxies.
    pub total: u64,
    /// Whether a weight or a usable server changed within the block: the shares before and after it are mixed.
    pub changed: bool,
}

/// Counts per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Requests that ended, as users saw them; in mode tcp connections.
    pub requests: f64,
    /// Of these, those that failed.
    pub errors: f64,
    /// Attempts that failed and that another attempt answered.
    pub masked: f64,
    /// Answers of 4xx.
    pub refused: f64,
    /// Answers with a status.
    pub answered: f64,
}

impl Rates {
    #[expect(clippy::cast_precision_loss, reason = "counts of a block")]
    fn add(&mut self, sums: &Sums, seconds: f64) {
        let per_second = |count: u64| count as f64 / seconds;
        self.requests += per_second(sums.requests);
        self.errors += per_second(sums.errors);
        self.masked += per_second(sums.masked);
        self.refused += per_second(sums.refused);
        self.answered += per_second(sums.answered);
    }
}

/// The numbers of some HAProxies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// One for each group that has a server, in the order of the groups, `other` last.
    pub rows: Vec<Row>,
    /// Requests per second that no server could take.
    pub unserved: f64,
    /// How many HAProxies have numbers.
    pub counted: usize,
    /// How many of these lost some requests, because a process ended before its last counts were read.
    pub torn: usize,
    /// The HAProxies without numbers, and why.
    pub without: Vec<(NodeName, String, NoNumbers)>,
    /// What HAProxy sees of the requests.
    pub protocols: Vec<Protocol>,
}

impl Collector {
    /// The numbers over all HAProxies.
    pub fn rows(&self, groups: &Groups, now: Moment) -> Rows {
        self.rows_of(groups, now, |_| true)
    }

    /// The numbers of one node.
    pub fn rows_of_node(&self, node: &NodeName, groups: &Groups, now: Moment) -> Rows {
        self.rows_of(groups, now, |of| of == node)
    }

    fn rows_of(&self, groups: &Groups, now: Moment, wanted: impl Fn(&NodeName) -> bool) -> Rows {
        let mut sum = Adding::new(groups);
        for ((node, name), source) in self.sources.iter().filter(|((node, _), _)| wanted(node)) {
            if !sum.rows.protocols.contains(&source.protocol) {
                sum.rows.protocols.push(source.protocol);
            }
            sum.add(node, name, source, now);
        }
        sum.end()
    }
}

/// A sum over HAProxies.
struct Adding<'g> {
    groups: &'g Groups,
    rows: Rows,
    seen: BTreeSet<usize>,
    /// For each row the sum of time times answers, and that of the answers.
    times: BTreeMap<usize, (f64, f64)>,
}

impl<'g> Adding<'g> {
    fn new(groups: &'g Groups) -> Self {
        let row = |group: &Group| Row { label: group.label.clone(), desired: group.desired, ..Row::default() };
        let other = Row { label: Groups::OTHER.to_owned(), ..Row::default() };
        let rows = groups.groups().iter().map(row).chain([other]).collect();
        Self { groups, rows: Rows { rows, ..Rows::default() }, seen: BTreeSet::new(), times: BTreeMap::new() }
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds and counts of a block")]
    fn add(&mut self, node: &NodeName, name: &str, source: &Source, now: Moment) {
        let window = match source.window(now) {
            Ok(window) => Some(window),
            Err(why) => {
                self.rows.without.push((node.clone(), name.to_owned(), why));
                None
            }
        };
        if let Some(window) = window {
            self.rows.counted += 1;
            self.rows.torn += usize::from(window.torn);
            self.rows.unserved += window.unserved as f64 / window.seconds;
        }
        for (row, state) in source.current(now).into_iter().flatten() {
            let at = self.groups.position(row);
            let Some(entry) = self.rows.rows.get_mut(at) else { continue };
            self.seen.insert(at);
            entry.sessions += state.sessions;
            entry.usable += state.usable;
            entry.total += state.total;
            let Some(window) = window else { continue };
            entry.changed |= window.changed.get(row).is_some_and(|changed| !changed.is_none());
            let sums = window.rows.get(row).copied().unwrap_or_default();
            entry.rates.get_or_insert_default().add(&sums, window.seconds);
            if state.rtime > 0 {
                let times = self.times.entry(at).or_default();
                // A row that answered nothing in this block still shows its last mean.
                let answers = (sums.answered as f64).max(0.001);
                *times = (times.0 + state.rtime as f64 * answers, times.1 + answers);
            }
        }
    }

    fn end(self) -> Rows {
        let Self { mut rows, seen, times, groups } = self;
        let requests = |row: &Row| row.rates.map_or(0.0, |rates| rates.requests);
        let all: f64 = rows.rows.iter().map(requests).sum();
        for (at, row) in rows.rows.iter_mut().enumerate() {
            row.share = row.rates.filter(|_| all > 0.0).map(|rates| rates.requests * 100.0 / all);
            row.time = times.get(&at).map(|(sum, answers)| sum / answers);
        }
        let mut at = 0;
        rows.rows.retain(|_| {
            at += 1;
            // What was asked for is shown, also where no HAProxy has such a server.
            at <= groups.groups().len() || seen.contains(&(at - 1))
        });
        rows
    }
}
