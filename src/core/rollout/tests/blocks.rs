//! Blocks of nodes become blocks of the judge; windows.

use std::collections::BTreeMap;

use super::bench::{START, cell, names, part, source};
use crate::{
    judge::{Cell, ERRORS, Trip},
    rollout::{
        blocks::Blocks,
        observe::{Marks, NodeBlock, NodeSeen, NodeSlot},
        windows::{RuleName, Windows},
    },
};

const FIRST: u64 = START / 10;

fn nodes() -> BTreeMap<crate::fleet::NodeName, NodeSeen> {
    let node = NodeSeen { counts: true, live: true, ..NodeSeen::default() };
    names().into_iter().map(|name| (name, node.clone())).collect()
}

fn of(at: usize, block: u64) -> NodeBlock {
    part(names()[at].clone(), block, (10, 1), (90, 0))
}

fn blocks() -> Blocks {
    Blocks::after(FIRST - 1)
}

#[test]
fn a_block_is_taken_when_all_nodes_have_it() {
    let mut blocks = blocks();
    blocks.publish(&of(0, FIRST));
    blocks.publish(&of(1, FIRST));
    assert_eq!(blocks.ready(&nodes(), START + 10), None);
    blocks.publish(&of(2, FIRST));
    assert_eq!(blocks.ready(&nodes(), START + 9), None, "it is not over");
    assert_eq!(blocks.ready(&nodes(), START + 10).unwrap().parts.len(), 3);
    assert_eq!(blocks.ready(&nodes(), START + 10), None);
}

#[test]
fn the_last_node_is_waited_for_5_s_and_its_data_joins_the_next_block() {
    let mut blocks = blocks();
    blocks.publish(&of(0, FIRST));
    assert_eq!(blocks.ready(&nodes(), START + 14), None);
    assert_eq!(blocks.ready(&nodes(), START + 15).unwrap().parts, [of(0, FIRST)]);
    blocks.publish(&of(1, FIRST));
    blocks.publish(&of(1, FIRST));
    blocks.publish(&of(0, FIRST));
    for at in 0..3 {
        blocks.publish(&of(at, FIRST + 1));
    }
    let parts = blocks.ready(&nodes(), START + 20).unwrap().parts;
    assert_eq!(parts, [of(1, FIRST), of(0, FIRST + 1), of(1, FIRST + 1), of(2, FIRST + 1)]);
}

#[test]
fn what_was_taken_is_never_taken_again() {
    let mut blocks = blocks();
    for _ in 0..3 {
        (0..3).for_each(|at| blocks.publish(&of(at, FIRST)));
        let _ready = blocks.ready(&nodes(), START + 12);
    }
    assert_eq!(blocks.ready(&nodes(), START + 25).unwrap().parts, []);
}

#[test]
fn a_node_that_is_often_late_is_named() {
    let mut blocks = blocks();
    for k in 0..30 {
        (0..3).filter(|at| *at < 2 || k % 5 != 1).for_each(|at| blocks.publish(&of(at, FIRST + k)));
        blocks.ready(&nodes(), START + k * 10 + 15).unwrap();
    }
    assert!(blocks.is_late(&names()[2]) && !blocks.is_late(&names()[1]));
    assert_eq!(blocks.silent(&nodes()), []);
    for k in 30..33 {
        blocks.publish(&of(0, FIRST + k));
        blocks.publish(&of(1, FIRST + k));
        blocks.ready(&nodes(), START + k * 10 + 15).unwrap();
    }
    assert_eq!(blocks.silent(&nodes()), [names()[2].clone()]);
}

#[test]
fn few_requests_are_merged_per_cell_and_a_raise_drops_what_is_half_merged() {
    let mut blocks = blocks();
    let feed = |k: u64, blocks: &mut Blocks| {
        (0..3).for_each(|at| blocks.publish(&part(names()[at].clone(), FIRST + k, (1, 0), (2, 0))));
        let ready = blocks.ready(&nodes(), START + k * 10 + 10).unwrap();
        blocks.merge(&ready, |_| false)
    };
    assert_eq!(feed(0, &mut blocks), None);
    let merged = feed(1, &mut blocks).unwrap();
    assert_eq!((merged.seconds, &*merged.cells[ERRORS]), (20, &[cell((2, 0), (4, 0)); 3][..]));
    assert_eq!(feed(2, &mut blocks), None);
    blocks.drop_merging();
    assert_eq!(feed(3, &mut blocks), None);
    assert_eq!(feed(4, &mut blocks).unwrap().seconds, 20);
}

#[test]
fn marked_cells_are_dropped_and_counted() {
    let mut blocks = blocks();
    for k in 0..10 {
        let mut parts: Vec<_> = (0..3).map(|at| of(at, FIRST + k)).collect();
        parts[0].marks = Marks { to_usable: true, ..Marks::default() };
        for part in &parts {
            blocks.publish(part);
        }
        let ready = blocks.ready(&nodes(), START + k * 10 + 10).unwrap();
        assert_eq!(blocks.merge(&ready, |_| false).unwrap().cells[ERRORS].len(), 2);
    }
    assert_eq!(blocks.dropped(), (true, true), "a third of the requests: the servers flap");
    for k in 10..35 {
        (0..3).for_each(|at| blocks.publish(&of(at, FIRST + k)));
        let ready = blocks.ready(&nodes(), START + k * 10 + 10).unwrap();
        blocks.merge(&ready, |_| false);
    }
    assert_eq!(blocks.dropped(), (false, false), "after 30 blocks it is forgotten");
}

fn slot(at: usize, slot: u64, check: &str, cell: Cell) -> NodeSlot {
    NodeSlot { source: source(names()[at].clone()), slot, cells: BTreeMap::from([(check.to_owned(), cell)]) }
}

/// Windows that know the usual traffic of one node: 20 requests to `to` in a slot.
fn busy() -> Windows {
    let mut windows = Windows::default();
    windows.block(FIRST - 1, &[part(names()[0].clone(), FIRST - 1, (100, 0), (900, 0))]);
    windows
}

#[test]
fn slots_before_the_rollout_gave_a_share_do_not_count() {
    let mut windows = busy();
    let fail = |k: u64| slot(0, START / 2 + k, ERRORS, cell((20, 20), (180, 0)));
    (0..5).for_each(|k| windows.slot(&fail(k)));
    windows.want(10.0, START + 10);
    (0..5).for_each(|k| windows.slot(&fail(k)));
    assert_eq!(windows.find(Some(START + 10), 10.0, 50.0, START + 11), None);
    (5..9).for_each(|k| windows.slot(&fail(k)));
    assert_eq!(windows.find(Some(START + 10), 10.0, 50.0, START + 18), None, "four slots of five");
    windows.slot(&fail(9));
    let found = windows.find(Some(START + 10), 10.0, 50.0, START + 20).unwrap();
    assert_eq!((found.rule, found.trip), (RuleName::Hard, Trip::Rollback));
    assert_eq!(windows.find(Some(START + 10), 10.0, 50.0, START + 60), None, "a minute later it says nothing of now");
}

#[test]
fn a_later_copy_of_a_slot_replaces_the_earlier_one() {
    let mut windows = busy();
    windows.want(10.0, START);
    for k in 0..5 {
        windows.slot(&slot(0, START / 2 + k, ERRORS, cell((20, 20), (180, 0))));
        windows.slot(&slot(0, START / 2 + k, ERRORS, cell((20, 0), (180, 0))));
    }
    assert_eq!(windows.find(None, 10.0, 50.0, START + 10), None);
}

#[test]
fn nodes_that_publish_no_slots_count_by_their_last_block() {
    let mut windows = Windows::default();
    windows.want(10.0, START);
    let parts: Vec<_> = (0..3).map(|at| part(names()[at].clone(), FIRST, (500, 0), (4500, 0))).collect();
    windows.block(FIRST, &parts);
    // One node publishes: 20 of 20 fail there. The fleet has 300 requests on `to` in a slot.
    for k in 5..10 {
        windows.slot(&slot(0, START / 2 + k, ERRORS, cell((20, 20), (180, 0))));
    }
    assert_eq!(windows.find(Some(START), 10.0, 50.0, START + 20), None);
}

#[test]
fn a_block_that_is_late_or_lost_does_not_make_the_fleet_smaller() {
    let of = |at: usize, block| part(names()[at].clone(), block, (500, 0), (4500, 0));
    let lost: [fn(NodeBlock) -> Vec<NodeBlock>; 3] = [
        |_| Vec::new(),
        |published| vec![published],
        // The first block that a leader reads cannot be subtracted.
        |published| {
            let nothing = part(published.source.node, published.block, (0, 0), (0, 0));
            vec![NodeBlock { marks: Marks { torn: true, ..Marks::default() }, ..nothing }]
        },
    ];
    for (case, lost) in lost.into_iter().enumerate() {
        let mut windows = Windows::default();
        windows.want(10.0, START);
        windows.block(FIRST, &[of(0, FIRST), of(1, FIRST), of(2, FIRST)]);
        windows.block(FIRST + 1, &lost(of(0, FIRST + 1)));
        for k in 5..15 {
            windows.slot(&slot(0, START / 2 + k, ERRORS, cell((120, 120), (880, 0))));
        }
        assert_eq!(windows.find(Some(START), 10.0, 50.0, START + 30), None, "case {case}");
    }
}

#[test]
fn hard_waits_for_the_first_block_of_a_new_leader() {
    let mut windows = Windows::default();
    windows.want(10.0, START);
    for k in 0..5 {
        windows.slot(&slot(0, START / 2 + k, ERRORS, cell((20, 20), (180, 0))));
    }
    assert_eq!(windows.find(Some(START), 10.0, 50.0, START + 10), None, "how large the fleet is is not known");
    windows.block(FIRST, &[part(names()[0].clone(), FIRST, (100, 100), (900, 0))]);
    let found = windows.find(Some(START), 10.0, 50.0, START + 12).unwrap();
    assert_eq!((found.rule, found.trip), (RuleName::Hard, Trip::Rollback));
}

#[test]
fn redirects_are_judged_only_while_the_largest_share_is_small() {
    let fail = |windows: &mut Windows| {
        for k in 0..6 {
            windows.slot(&slot(0, START / 2 + k, "redirected", cell((20, 20), (180, 0))));
        }
    };
    let mut windows = busy();
    windows.want(10.0, START);
    fail(&mut windows);
    assert!(windows.find(None, 10.0, 50.0, START + 12).is_some());
    let mut windows = busy();
    windows.want(90.0, START);
    windows.want(10.0, START + 2);
    fail(&mut windows);
    assert_eq!(windows.find(None, 10.0, 50.0, START + 12), None);
}
