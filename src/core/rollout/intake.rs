//! The reports of the nodes become blocks and slots: differences of sums of one incarnation, never across a restart.

use std::collections::BTreeMap;

use super::observe::{Marks, NodeBlock, NodeSlot, Source};
use crate::{
    fleet::{
        ViewId,
        counters::{Block, Counters, SlotCounts, Sums, Viewed},
    },
    judge::{Cell, Counts, ERRORS, Flow},
    model::BackendName,
};

/// Reads the reports of all nodes on one backend. It remembers the last sums of each instance.
#[derive(Debug, Clone)]
pub struct Intake {
    backend: BackendName,
    view: ViewId,
    known: BTreeMap<Source, Known>,
}

/// The last block of an instance.
#[derive(Debug, Clone)]
struct Known {
    incarnation: String,
    block: u64,
    sums: BTreeMap<String, Sums>,
}

/// What a report says that is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Closed blocks.
    pub blocks: Vec<NodeBlock>,
    /// Slots; they are there only while `to` fails. Those of the last report are there again.
    pub slots: Vec<NodeSlot>,
}

impl Intake {
    /// Knows nothing yet.
    pub fn new(backend: BackendName, view: ViewId) -> Self {
        Self { backend, view, known: BTreeMap::new() }
    }

    /// Takes a report. Reading one twice gives its blocks once.
    pub fn take(&mut self, report: &Counters) -> Taken {
        let mut taken = Taken::default();
        let counted = report.backends.iter().filter(|counted| counted.backend == self.backend);
        for instance in counted.flat_map(|counted| &counted.instances) {
            let Some(view) = instance.view(self.view).filter(|view| view.error.is_none()) else { continue };
            let source = Source { node: report.node.clone(), instance: instance.name.clone() };
            let known = self.known.get(&source).filter(|known| known.incarnation == report.incarnation);
            let mut before = known.map(|known| (known.block, known.sums.clone()));
            for block in &view.blocks {
                if before.as_ref().is_none_or(|(last, _)| block.k > *last) {
                    taken.blocks.push(difference(&source, view, block, before.as_ref()));
                    before = Some((block.k, block.sums.clone()));
                }
            }
            taken.slots.extend(view.slots.iter().map(|slot| NodeSlot {
                source: source.clone(),
                slot: slot.k,
                cells: cells(slot.to, slot.from),
            }));
            if let Some((block, sums)) = before {
                self.known.insert(source, Known { incarnation: report.incarnation.clone(), block, sums });
            }
        }
        taken
    }
}

/// One block. What cannot be subtracted, or misses a part, is marked as torn: it is no evidence, and its node is not silent.
fn difference(
    source: &Source,
    view: &Viewed,
    block: &Block,
    before: Option<&(u64, BTreeMap<String, Sums>)>,
) -> NodeBlock {
    let first = block.covers == 0;
    let changed = |row: &str| block.changed.get(row).copied().unwrap_or_default();
    let mut marks = Marks {
        weights: block.changed.values().any(|changed| changed.weight),
        to_usable: changed("to").usable,
        from_usable: changed("from").usable,
        torn: block.torn || first,
    };
    let covers = before.map_or(block.covers, |(last, _)| block.k - last).max(1);
    // A block in between was missed, and its marks with it.
    marks.torn |= before.is_none_or(|_| covers != block.covers);
    let mut row = |name: &str| {
        let now = block.sums.get(name).copied().unwrap_or_default();
        let then = match before {
            Some((_, sums)) => sums.get(name).copied().unwrap_or_default(),
            // All sums of a view begin at 0.
            None if first => Sums::default(),
            None => now,
        };
        now.since(then).unwrap_or_else(|| {
            marks.torn = true;
            Sums::default()
        })
    };
    let (to, from) = (row("to"), row("from"));
    let all = to.requests.saturating_add(from.requests);
    let between = |sums| SlotCounts::between(Sums::default(), sums);
    NodeBlock {
        source: source.clone(),
        block: block.k,
        covers,
        cells: cells(between(to), between(from)),
        to: Flow { started: to.started, completed: to.completed },
        from: Flow { started: from.started, completed: from.completed },
        all,
        from_rtime: view.now.get("from").map_or(0, |now| now.rtime),
        marks,
    }
}

/// The cells of the checks. An answer that broke off later than it began can give a block more errors than requests.
fn cells(to: SlotCounts, from: SlotCounts) -> BTreeMap<String, Cell> {
    let counts = |n: u64, e: u64| Counts { n: n.max(e), e };
    let cell = |of: &dyn Fn(SlotCounts) -> Counts| Cell { to: of(to), from: of(from) };
    let cells = [
        (ERRORS, cell(&|side| counts(side.requests, side.errors))),
        ("masked", cell(&|side| counts(side.attempts, side.masked))),
        ("refused", cell(&|side| counts(side.answered, side.refused))),
        ("redirected", cell(&|side| counts(side.answered, side.redirected))),
    ];
    cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()
}
