//! Requests per second from the sums that the nodes report, and how long sessions on a side of 0 will last.
//!
//! Only differences between blocks of one incarnation count. Where a block is missing or sums went backwards there is no
//! number, and never a wrong one. Must not do I/O or read a clock.
//!
//! | file | owns |
//! |---|---|
//! | `traffic` | the blocks of each HAProxy, and their differences |
//! | `rows` | rates and shares of the servers or sides, over the fleet and by node |
//! | `drain` | sessions that are left where the weight is 0, and how long they will last |

mod drain;
mod rows;

use std::{collections::BTreeMap, time::Duration};

pub use self::{
    drain::{Drain, Left, Pin},
    rows::{Group, Groups, Rates, Row, Rows},
};
use crate::{
    fleet::{
        NodeName, ViewId,
        counters::{Block, Changed, Counted, Counters, Instance, Now, Protocol, Sums},
    },
    model::Moment,
};

/// The blocks that are kept of each HAProxy: more than a report has, so that the one before is known.
const KEPT: u64 = 12;
/// After this time without a new report, the numbers of a node are not those of now.
pub const STALE: Duration = Duration::from_secs(25);

/// What one HAProxy counted in its last closed block.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The number of the block: unix time / 10, by the clock of the node.
    pub k: u64,
    /// How long it is, in seconds.
    pub seconds: f64,
    /// The counts of each row.
    pub rows: BTreeMap<String, Sums>,
    /// Errors that HAProxy answered itself because no server could take the request.
    pub unserved: u64,
    /// Whether some requests are missing, because a process ended before its last counts were read.
    pub torn: bool,
    /// The rows of which a weight or a usable server changed.
    pub changed: BTreeMap<String, Changed>,
}

/// Why a HAProxy has no numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoNumbers {
    /// The first block is not closed.
    #[error("its first block of 10 s is not complete")]
    NotYet,
    /// The block before the last one is not known.
    #[error("a block is missing")]
    Missing,
    /// Sums went backwards within one incarnation.
    #[error("its sums went backwards")]
    Backwards,
    /// The node has sent nothing for longer than [`STALE`].
    #[error("it has reported nothing for {} s", .0.as_secs())]
    Stale(Duration),
    /// HAProxy cannot be read: a word of the node.
    #[error("HAProxy cannot be read: {}", crate::model::Escaped(.0))]
    Down(String),
    /// The node cannot count this: a sentence of the node.
    #[error("{}", crate::model::Escaped(.0))]
    Refused(String),
}

/// One HAProxy of one node.
#[derive(Debug, Clone)]
pub struct Source {
    incarnation: String,
    /// When the view began, in milliseconds of unix time by the clock of the node: from a report without blocks.
    begun: Option<u64>,
    blocks: BTreeMap<u64, Block>,
    /// When the last report with another content arrived.
    heard: Moment,
    /// When the newest block arrived.
    closed: Moment,
    window: Result<Window, NoNumbers>,
    /// What HAProxy sees of the requests.
    pub protocol: Protocol,
    /// Whether its last report had the view: an older view may be all that the node has read.
    pub viewed: bool,
    /// The state of each row at the last reading.
    pub now: BTreeMap<String, Now>,
    /// What pins users to servers, as far as HAProxy says.
    pub pins: Vec<Pin>,
}

/// Collects the reports of the nodes on one view of one backend.
#[derive(Debug, Clone)]
pub struct Collector {
    view: ViewId,
    /// Each HAProxy that has the backend, by node and name.
    pub sources: BTreeMap<(NodeName, String), Source>,
}

impl Collector {
    /// For reports on this view.
    pub const fn new(view: ViewId) -> Self {
        Self { view, sources: BTreeMap::new() }
    }

    /// Takes the report of a node on the backend, read at `now`.
    pub fn take(&mut self, node: &NodeName, report: &Counters, counted: &Counted, now: Moment) {
        let has = |name: &String| counted.instances.iter().any(|instance| instance.name == *name);
        // A HAProxy that answers and lacks the backend is not listed.
        self.sources.retain(|(of, name), _| of != node || has(name));
        for instance in &counted.instances {
            let key = (node.clone(), instance.name.clone());
            let source = self.sources.entry(key).or_insert_with(|| Source::new(&report.incarnation, now));
            source.take(self.view, report, instance, now);
        }
    }

    /// Removes a node: it lacks the backend, or is gone.
    pub fn forget(&mut self, node: &NodeName) {
        self.sources.retain(|(of, _), _| of != node);
    }

    /// The nodes with a HAProxy that has the backend.
    pub fn nodes(&self) -> std::collections::BTreeSet<&NodeName> {
        self.sources.keys().map(|(node, _)| node).collect()
    }
}

impl Source {
    fn new(incarnation: &str, now: Moment) -> Self {
        Self {
            incarnation: incarnation.to_owned(),
            begun: None,
            blocks: BTreeMap::new(),
            heard: now,
            closed: now,
            window: Err(NoNumbers::NotYet),
            protocol: Protocol::Unknown,
            viewed: false,
            now: BTreeMap::new(),
            pins: Vec::new(),
        }
    }

    fn take(&mut self, view: ViewId, report: &Counters, instance: &Instance, now: Moment) {
        if self.incarnation != report.incarnation {
            *self = Self::new(&report.incarnation, now);
        }
        self.protocol = instance.mode;
        self.pins = Pin::of(instance);
        if let Some(why) = &instance.down {
            self.window = Err(NoNumbers::Down(why.clone()));
            return;
        }
        self.viewed = instance.view(view).is_some();
        let Some(viewed) = instance.view(view) else {
            self.window = Err(NoNumbers::NotYet);
            return;
        };
        if let Some(why) = &viewed.error {
            self.window = Err(NoNumbers::Refused(why.clone()));
            return;
        }
        let last = |blocks: &BTreeMap<u64, Block>| blocks.last_key_value().map(|(k, block)| (*k, block.sums.clone()));
        let before = last(&self.blocks);
        let mut differs = self.now != viewed.now;
        self.now.clone_from(&viewed.now);
        match viewed.blocks.last() {
            None => {
                // The view began anew, or for the first time.
                if !self.blocks.is_empty() || self.begun.is_none() {
                    (self.begun, self.blocks) = (Some(report.at), BTreeMap::new());
                }
            }
            Some(newest) => {
                let known = viewed.blocks.first().map_or(newest.k, |first| first.k);
                if newest.covers == 0 && self.blocks.keys().any(|k| *k < newest.k) {
                    // The node forgot the view and began it again.
                    (self.begun, self.blocks) = (None, BTreeMap::new());
                }
                self.blocks.retain(|k, _| *k < known && *k + KEPT > newest.k);
                self.blocks.extend(viewed.blocks.iter().map(|block| (block.k, block.clone())));
            }
        }
        if last(&self.blocks) != before {
            differs = true;
            self.closed = now;
        }
        if differs {
            self.heard = now;
        }
        self.window = self.difference();
    }

    /// The difference of the newest block to the one before it.
    fn difference(&self) -> Result<Window, NoNumbers> {
        let Some((k, block)) = self.blocks.last_key_value() else { return Err(NoNumbers::NotYet) };
        let none = Block::default();
        let (before, seconds) = if block.covers == 0 {
            // All sums are 0 at the beginning of a view.
            let begun = self.begun.ok_or(NoNumbers::NotYet)?;
            let end = (k + 1).saturating_mul(Counters::BLOCK_SECONDS).saturating_mul(1000);
            (&none, seconds_of(end.saturating_sub(begun)))
        } else {
            let before = k.checked_sub(block.covers).and_then(|k| self.blocks.get(&k)).ok_or(NoNumbers::Missing)?;
            (before, seconds_of(block.covers.saturating_mul(Counters::BLOCK_SECONDS * 1000)))
        };
        if seconds < 1.0 {
            return Err(NoNumbers::NotYet);
        }
        let mut rows = BTreeMap::new();
        for (row, sums) in &block.sums {
            let earlier = before.sums.get(row).copied().unwrap_or_default();
            rows.insert(row.clone(), sums.since(earlier).ok_or(NoNumbers::Backwards)?);
        }
        let unserved = block.unserved.checked_sub(before.unserved).ok_or(NoNumbers::Backwards)?;
        Ok(Window { k: *k, seconds, rows, unserved, torn: block.torn, changed: block.changed.clone() })
    }

    /// What it counted in its last block.
    ///
    /// # Errors
    /// [`NoNumbers`] says why there are no numbers at `now`.
    pub fn window(&self, now: Moment) -> Result<&Window, NoNumbers> {
        let age = now.since(self.heard);
        match &self.window {
            Ok(_) if age > STALE => Err(NoNumbers::Stale(age)),
            Ok(window) => Ok(window),
            Err(why) => Err(why.clone()),
        }
    }

    /// The state of each row; none where it is not that of now.
    pub fn current(&self, now: Moment) -> Option<&BTreeMap<String, Now>> {
        let unreadable = matches!(self.window, Err(NoNumbers::Down(_) | NoNumbers::Refused(_)));
        let stale = now.since(self.heard) > STALE;
        (self.viewed && !unreadable && !stale).then_some(&self.now)
    }

    /// When its last report arrived that differed from the one before.
    pub const fn heard(&self) -> Moment {
        self.heard
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a few blocks")]
fn seconds_of(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests;
