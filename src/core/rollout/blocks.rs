//! How the blocks of the nodes become blocks of the judge: waiting for the last node, late data, dropped cells, merging.

use std::collections::{BTreeMap, VecDeque};

use super::observe::{NodeBlock, NodeSeen, Source};
use crate::{
    fleet::NodeName,
    judge::{BLOCK_SECONDS, Cell, ERRORS, cell::is_full},
};

/// Seconds after the end of a block within which nodes publish it.
const PUBLISH_SECONDS: u64 = 2;
/// Seconds after that for which the last node is waited for.
const LATE_SECONDS: u64 = 3;
/// Blocks over which dropped cells and late nodes are counted.
const REMEMBERED: usize = 30;
/// A gap of more blocks than this is skipped: nobody published in it.
const LONGEST_GAP: u64 = 60;

/// A block that is complete, or was waited for long enough.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyBlock {
    /// unix time / 10.
    pub block: u64,
    /// What the instances published for it, late data of earlier blocks included.
    pub parts: Vec<NodeBlock>,
}

/// Requests of a block that were kept and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kept {
    all: u64,
    dropped: u64,
    /// Of those dropped: because usable servers of `to` changed.
    flapped: u64,
}

/// The blocks of one rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Blocks {
    /// Nothing up to this block is read.
    start: u64,
    /// The last block that was taken.
    last: u64,
    /// The last block of each instance that was taken.
    taken: BTreeMap<Source, u64>,
    /// By block and instance.
    waiting: BTreeMap<u64, BTreeMap<Source, NodeBlock>>,
    /// Late data: it joins the next block.
    late: Vec<NodeBlock>,
    kept: VecDeque<Kept>,
    /// For each node: whether it was late, newest last.
    punctual: BTreeMap<NodeName, VecDeque<bool>>,
    /// Blocks in a row in which a counting node published nothing.
    silent: BTreeMap<NodeName, u32>,
    merging: Merging,
}

/// A block of the judge that is not full yet.
#[derive(Debug, Clone, Default, PartialEq)]
struct Merging {
    blocks: u32,
    cells: BTreeMap<String, BTreeMap<Source, Cell>>,
}

/// A block of the judge: the cells of each check, and its length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// The cells of each check.
    pub cells: BTreeMap<String, Vec<Cell>>,
    /// Its length.
    pub seconds: u64,
}

impl Blocks {
    /// Nothing before `block` is read again.
    pub fn after(block: u64) -> Self {
        Self { start: block, last: block, ..Self::default() }
    }

    /// The last block that was taken.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Takes what an instance published. What was taken before is ignored; what is late joins the next block.
    pub fn publish(&mut self, part: &NodeBlock) {
        if self.taken.get(&part.source).is_some_and(|taken| part.block <= *taken) {
            return;
        }
        if part.block > self.last {
            self.waiting.entry(part.block).or_default().insert(part.source.clone(), part.clone());
        } else if part.block > self.start {
            self.taken.insert(part.source.clone(), part.block);
            self.late.push(part.clone());
        }
    }

    /// The next block that can be taken, in order. Call it until there is none.
    pub fn ready(&mut self, nodes: &BTreeMap<NodeName, NodeSeen>, wall: u64) -> Option<ReadyBlock> {
        let current = wall / BLOCK_SECONDS;
        if self.last + LONGEST_GAP < current {
            self.last = current - LONGEST_GAP;
            self.start = self.last;
            self.waiting.retain(|block, _| *block > self.last);
        }
        let block = self.last + 1;
        let end = (block + 1) * BLOCK_SECONDS;
        let here = self.waiting.get(&block);
        let has = |name: &NodeName| here.is_some_and(|parts| parts.keys().any(|source| source.node == *name));
        let counting: Vec<&NodeName> = nodes.iter().filter(|(_, node)| node.counts).map(|(name, _)| name).collect();
        let complete = !counting.is_empty() && counting.iter().all(|name| has(name));
        if wall < end || (!complete && wall < end + PUBLISH_SECONDS + LATE_SECONDS) {
            return None;
        }
        let any = counting.iter().any(|name| has(name));
        for name in counting {
            let here = has(name);
            let silent = self.silent.entry(name.clone()).or_default();
            *silent = if here { 0 } else { silent.saturating_add(1) };
            let marks = self.punctual.entry(name.clone()).or_default();
            // A node is late from its first block on, and not before it knows that it is observed. A block that nobody
            // published says nothing of a single node.
            if any && (here || !marks.is_empty()) {
                marks.push_back(!here);
            }
            if marks.len() > REMEMBERED {
                marks.pop_front();
            }
        }
        self.last = block;
        let mut parts = std::mem::take(&mut self.late);
        for (source, part) in self.waiting.remove(&block).into_iter().flatten() {
            self.taken.insert(source, block);
            parts.push(part);
        }
        Some(ReadyBlock { block, parts })
    }

    /// Whether a node was late in more than 10 % of the remembered blocks.
    pub fn is_late(&self, node: &NodeName) -> bool {
        self.punctual.get(node).is_some_and(|marks| {
            let late = marks.iter().filter(|late| **late).count();
            // A single block says nothing.
            late >= 2 && late * 10 > marks.len()
        })
    }

    /// The counting nodes that published nothing for three blocks.
    pub fn silent(&self, nodes: &BTreeMap<NodeName, NodeSeen>) -> Vec<NodeName> {
        let counts = |name: &NodeName| nodes.get(name).is_some_and(|node| node.counts);
        let silent = self.silent.iter().filter(|(name, blocks)| **blocks >= 3 && counts(name));
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Takes a block into the evidence: drops what is of no use, merges until it says something. `left_out`: whether a node
    /// is left out of the evidence.
    pub fn merge(&mut self, ready: &ReadyBlock, left_out: impl Fn(&NodeName) -> bool) -> Option<Merged> {
        let mut kept = Kept::default();
        for part in &ready.parts {
            kept.all += part.all;
            if part.marks.any() || left_out(&part.source.node) {
                kept.dropped += part.all;
                kept.flapped += if part.marks.to_usable { part.all } else { 0 };
                continue;
            }
            for (check, cell) in &part.cells {
                let cells = self.merging.cells.entry(check.clone()).or_default();
                let sum = cells.entry(part.source.clone()).or_default();
                *sum = sum.plus(*cell);
            }
        }
        self.kept.push_back(kept);
        if self.kept.len() > REMEMBERED {
            self.kept.pop_front();
        }
        // A block that nobody published is no block.
        if ready.parts.is_empty() {
            return None;
        }
        self.merging.blocks += 1;
        let errors = self.merging.cells.get(ERRORS).into_iter().flat_map(BTreeMap::values);
        let sum = errors.fold(Cell::default(), |sum, cell| sum.plus(*cell));
        if !is_full(self.merging.blocks, sum.to.n, sum.from.n) {
            return None;
        }
        let Merging { blocks, cells } = std::mem::take(&mut self.merging);
        let cells = cells.into_iter().map(|(check, cells)| (check, cells.into_values().collect())).collect();
        Some(Merged { cells, seconds: u64::from(blocks) * BLOCK_SECONDS })
    }

    /// A raise: what is half merged belongs to no step.
    pub fn drop_merging(&mut self) {
        self.merging = Merging::default();
    }

    /// Whether more than 20 % of the requests of the remembered blocks were dropped; and whether usable servers of `to`
    /// were the reason for more than that.
    pub fn dropped(&self) -> (bool, bool) {
        let sum = self.kept.iter().fold(Kept::default(), |sum, kept| Kept {
            all: sum.all + kept.all,
            dropped: sum.dropped + kept.dropped,
            flapped: sum.flapped + kept.flapped,
        });
        (sum.dropped * 5 > sum.all, sum.flapped * 5 > sum.all)
    }
}
