//! Reports of nodes become blocks and slots.

use std::collections::BTreeMap;

use crate::{
    desired::Pattern,
    fleet::{
        Mode, NodeName, Per, Sides, View,
        counters::{Block, Changed, Counted, Counters, Instance, Slot, SlotCounts, Sums, Viewed},
    },
    judge::{Counts, ERRORS, Flow, Trip},
    model::BackendName,
    rollout::{
        intake::Intake,
        windows::{RuleName, Windows},
    },
};

fn backend() -> BackendName {
    BackendName::new("app").unwrap()
}

fn view() -> View {
    let side = |name| vec![Pattern::new(name).unwrap()];
    View { sides: Some(Sides { from: side("blue"), to: side("green") }), per: Per::Side }
}

fn sums(requests: u64, errors: u64) -> Sums {
    Sums {
        requests,
        errors,
        attempts: requests + 1,
        answered: requests,
        refused: requests / 10,
        started: requests + 2,
        completed: requests,
        ..Sums::default()
    }
}

fn block(k: u64, covers: u64, to: Sums, from: Sums) -> Block {
    let sums = BTreeMap::from([("to".to_owned(), to), ("from".to_owned(), from)]);
    Block { k, covers, sums, ..Block::default() }
}

fn report(incarnation: &str, blocks: Vec<Block>, slots: Vec<Slot>) -> Counters {
    let viewed = Viewed { id: view().id(), error: None, now: BTreeMap::new(), blocks, slots };
    let instance = Instance { views: vec![viewed], ..Instance::unread("edge") };
    Counters {
        node: NodeName::new("lb-1").unwrap(),
        mode: Mode::Enforce,
        incarnation: incarnation.to_owned(),
        at: 0,
        backends: vec![Counted { backend: backend(), instances: vec![instance] }],
        lacks: Vec::new(),
        left_out: Vec::new(),
        more: 0,
    }
}

fn intake() -> Intake {
    Intake::new(backend(), view().id())
}

#[test]
fn a_block_is_the_difference_of_two_sums_and_is_taken_once() {
    let mut intake = intake();
    let first = block(100, 0, sums(10, 1), sums(90, 0));
    let blocks = intake.take(&report("a", vec![first.clone()], Vec::new())).blocks;
    assert!(blocks[0].marks.torn, "the first block is incomplete");
    let second = block(101, 1, sums(30, 4), sums(270, 2));
    let both = report("a", vec![first, second], Vec::new());
    let blocks = intake.take(&both).blocks;
    assert_eq!(blocks.len(), 1);
    let taken = &blocks[0];
    assert!(!taken.marks.any() && (taken.block, taken.covers, taken.all) == (101, 1, 200));
    assert_eq!(taken.cells[ERRORS].to, Counts { n: 20, e: 3 });
    assert_eq!(taken.cells[ERRORS].from, Counts { n: 180, e: 2 });
    assert_eq!(taken.cells["refused"].to, Counts { n: 20, e: 2 });
    assert_eq!(taken.to, Flow { started: 20, completed: 20 });
    assert_eq!(intake.take(&both).blocks, []);
}

#[test]
fn hard_finds_a_dead_side_beside_servers_on_neither_side() {
    // In 10 s: 600 requests to servers on neither side, 360 to `from`, 40 to `to`; all 40 fail.
    let mut intake = intake();
    let with_others = |block: Block, requests: u64| {
        let mut block = block;
        block.sums.insert("other".to_owned(), sums(requests, 0));
        block
    };
    let first = with_others(block(100, 1, sums(0, 0), sums(0, 0)), 0);
    let second = with_others(block(101, 1, sums(40, 0), sums(360, 0)), 600);
    let failed = SlotCounts { requests: 8, errors: 8, ..SlotCounts::default() };
    let healthy = SlotCounts { requests: 72, ..SlotCounts::default() };
    let slots = (510..515).map(|k| Slot { k, from: healthy, to: failed }).collect();
    let taken = intake.take(&report("a", vec![first, second], slots));
    assert_eq!(taken.blocks[1].all, 400);
    let mut windows = Windows::default();
    windows.want(10.0, 1010);
    windows.block(101, &taken.blocks[1..]);
    taken.slots.iter().for_each(|slot| windows.slot(slot));
    let found = windows.find(Some(1010), 10.0, 50.0, 1030).unwrap();
    assert_eq!((found.rule, found.trip), (RuleName::Hard, Trip::Rollback));
}

#[test]
fn what_cannot_be_subtracted_is_marked_and_counts_nothing() {
    // A controller that begins to read in the middle.
    let mut intake = intake();
    let middle = block(101, 1, sums(30, 4), sums(270, 2));
    let blocks = intake.take(&report("a", vec![middle], Vec::new())).blocks;
    assert!(blocks[0].marks.torn && blocks[0].all == 0);
    // A restart of weightd: all sums begin anew.
    let blocks = intake.take(&report("b", vec![block(102, 0, sums(5, 0), sums(45, 0))], Vec::new())).blocks;
    assert!(blocks[0].marks.torn && blocks[0].all == 50);
    // A report that contradicts itself.
    let blocks = intake.take(&report("b", vec![block(103, 1, sums(4, 0), sums(90, 0))], Vec::new())).blocks;
    assert!(blocks[0].marks.torn && blocks[0].cells[ERRORS].to == Counts::default());
}

#[test]
fn a_missed_block_is_part_of_the_next_one_which_is_marked() {
    let mut intake = intake();
    intake.take(&report("a", vec![block(100, 1, sums(10, 0), sums(90, 0))], Vec::new()));
    let blocks = intake.take(&report("a", vec![block(103, 1, sums(40, 0), sums(360, 0))], Vec::new())).blocks;
    assert!(blocks[0].marks.torn && (blocks[0].covers, blocks[0].begins()) == (3, 101));
    // HAProxy could not be read at the end of a block: nothing is missing.
    let blocks = intake.take(&report("a", vec![block(105, 2, sums(60, 0), sums(540, 0))], Vec::new())).blocks;
    assert!(!blocks[0].marks.any() && (blocks[0].covers, blocks[0].begins()) == (2, 104));
}

#[test]
fn changes_are_marked_by_side() {
    let mut intake = intake();
    intake.take(&report("a", vec![block(100, 1, sums(10, 0), sums(90, 0))], Vec::new()));
    let mut changed = block(101, 1, sums(20, 0), sums(180, 0));
    changed.changed.insert("to".to_owned(), Changed { weight: true, usable: true });
    let marks = intake.take(&report("a", vec![changed], Vec::new())).blocks[0].marks;
    assert!(marks.weights && marks.to_usable && !marks.from_usable && !marks.torn);
}

#[test]
fn slots_have_the_cells_of_all_checks_and_never_more_errors_than_requests() {
    let to = SlotCounts { requests: 2, errors: 5, ..SlotCounts::default() };
    let slots = intake().take(&report("a", Vec::new(), vec![Slot { k: 7, from: SlotCounts::default(), to }])).slots;
    assert_eq!((slots[0].slot, slots[0].cells.len()), (7, 4));
    assert_eq!(slots[0].cells[ERRORS].to, Counts { n: 5, e: 5 });
}
