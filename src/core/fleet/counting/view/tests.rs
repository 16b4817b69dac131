use std::collections::BTreeMap;

use super::{
    super::tests::{START, answered, in_process, name, reading, server},
    *,
};
use crate::{
    desired::Pattern,
    fleet::{
        Sides,
        counters::{Health, Mark},
        counting::{BackendCount, Levels},
    },
    model::Weight,
};

fn view(per: Per) -> View {
    let patterns = |text: &str| vec![Pattern::new(text).unwrap()];
    View { sides: Some(Sides { from: patterns("blue"), to: patterns("green*") }), per }
}

/// A backend with one view, and the time of its readings.
struct Lab {
    count: BackendCount,
    at: Wall,
}

impl Lab {
    fn new(view: View) -> Self {
        let mut count = BackendCount::default();
        count.set_views(&[view]);
        Self { count, at: START }
    }

    /// A reading this many milliseconds after the start.
    fn at(&mut self, milliseconds: u64, reading: Reading) -> &mut Self {
        self.at = START + milliseconds;
        self.count.take(reading, self.at, false);
        self
    }

    fn report(&self) -> Viewed {
        self.count.report("edge", None, self.at).views.remove(0)
    }

    fn blocks(&self) -> Vec<(u64, u64)> {
        self.report().blocks.iter().map(|block| (block.k - START / BLOCK, block.covers)).collect()
    }

    fn requests(&self, row: &str) -> Vec<u64> {
        self.report().blocks.iter().map(|block| block.sums[row].requests).collect()
    }
}

#[test]
fn the_first_report_has_servers_and_neither_blocks_nor_slots() {
    let mut lab = Lab::new(view(Per::Side));
    lab.at(1000, reading(answered(70, 0), answered(30, 3)));
    let report = lab.report();
    assert!(report.blocks.is_empty() && report.slots.is_empty());
    assert_eq!(report.now.keys().collect::<Vec<_>>(), ["from", "to"]);
    assert_eq!((report.now["to"].usable, report.now["to"].total, report.now["to"].rtime), (1, 1, 10));
}

#[test]
fn blocks_end_at_multiples_of_10_s_and_count_from_the_first_reading() {
    let mut lab = Lab::new(view(Per::Side));
    lab.at(4000, reading(answered(70, 0), answered(30, 3)));
    lab.at(9000, reading(answered(80, 0), answered(31, 3)));
    assert!(lab.blocks().is_empty());
    lab.at(10_003, reading(answered(90, 0), answered(33, 5)));
    assert_eq!(lab.blocks(), [(0, 0)], "the first block is incomplete");
    lab.at(15_000, reading(answered(95, 0), answered(33, 5)));
    lab.at(20_001, reading(answered(97, 0), answered(34, 6)));
    assert_eq!(lab.blocks(), [(0, 0), (1, 1)]);
    assert_eq!((lab.requests("from"), lab.requests("to")), (vec![20, 27], vec![3, 4]));
    assert_eq!(lab.report().blocks[1].sums["to"].errors, 3);
}

#[test]
fn a_block_whose_end_was_not_read_in_time_is_part_of_the_next_one() {
    let mut lab = Lab::new(view(Per::Side));
    lab.at(9000, reading(answered(0, 0), answered(0, 0)));
    lab.at(10_000, reading(answered(1, 0), answered(0, 0)));
    // HAProxy did not answer from 11 to 22 s, and the weight changed meanwhile.
    let mut later = reading(answered(9, 0), answered(0, 0));
    later.servers[0].now.weight = Weight::new(50).unwrap();
    lab.at(22_000, later.clone());
    assert_eq!(lab.blocks(), [(0, 0)]);
    lab.at(30_000, later);
    assert_eq!(lab.blocks(), [(0, 0), (2, 2)]);
    let block = lab.report().blocks.remove(1);
    assert_eq!(block.sums["from"].requests, 9);
    assert!(block.changed["from"].weight && !block.torn);
}

#[test]
fn at_most_three_blocks_are_kept() {
    let mut lab = Lab::new(view(Per::Side));
    for block in 0..9 {
        lab.at(block * 10_000, reading(answered(block, 0), answered(0, 0)));
    }
    assert_eq!(lab.blocks(), [(5, 1), (6, 1), (7, 1)]);
}

#[test]
fn a_clock_that_is_set_back_begins_with_a_first_block_again() {
    let mut lab = Lab::new(view(Per::Side));
    for second in [0, 10, 20, 3, 10, 20] {
        lab.at(second * 1000, reading(answered(second, 0), answered(0, 0)).clone());
    }
    // The counters went backwards with the clock in this test, which tears the block; the numbers are in order again.
    assert_eq!(lab.blocks(), [(0, 0), (1, 1)]);
}

#[test]
fn a_block_is_marked_with_the_rows_that_changed_in_it() {
    let mut lab = Lab::new(view(Per::Side));
    let quiet = || reading(answered(0, 0), answered(0, 0));
    lab.at(0, quiet()).at(10_000, quiet());
    let changed = |lab: &Lab| -> BTreeMap<String, (bool, bool)> {
        let block = lab.report().blocks.last().cloned().unwrap();
        block.changed.into_iter().map(|(row, changed)| (row, (changed.weight, changed.usable))).collect()
    };
    assert!(changed(&lab).is_empty());

    let mut weight = quiet();
    weight.servers[1].now.weight = Weight::ZERO;
    lab.at(11_000, weight.clone()).at(20_000, weight.clone());
    assert_eq!(changed(&lab), [("to".to_owned(), (true, false))].into());
    lab.at(30_000, weight.clone());
    assert!(changed(&lab).is_empty(), "the next block is not marked");

    let mut down = weight.clone();
    down.servers[0].now.health = Health::Down;
    lab.at(31_000, down).at(32_000, weight.clone()).at(40_000, weight.clone());
    assert_eq!(changed(&lab), [("from".to_owned(), (false, true))].into());

    let mut flapped = weight.clone();
    flapped.servers[0].downs = 1;
    lab.at(41_000, flapped.clone()).at(50_000, flapped.clone());
    assert_eq!(changed(&lab), [("from".to_owned(), (false, true))].into(), "it went down between two readings");

    flapped.servers.push(server("green2", Levels::default()));
    lab.at(60_000, flapped);
    assert_eq!(changed(&lab), [("to".to_owned(), (false, true))].into(), "a server came");
}

#[test]
fn rows_are_sides_or_servers() {
    let mut lab = Lab::new(view(Per::Server));
    let with_red = |n| {
        let mut with_red = reading(answered(n, 0), answered(2 * n, 0));
        with_red.servers.push(server("red", answered(3 * n, 0)));
        with_red
    };
    lab.at(0, with_red(1)).at(10_000, with_red(2));
    let rows = lab.report().blocks.remove(0).sums;
    assert_eq!(
        rows.iter().map(|(row, sums)| (row.as_str(), sums.requests)).collect::<Vec<_>>(),
        [("blue", 1), ("green", 2), ("red", 3)]
    );

    let mut lab = Lab::new(view(Per::Side));
    lab.at(0, with_red(1)).at(10_000, with_red(2));
    assert_eq!(lab.report().blocks[0].sums["other"].requests, 3);

    let mut lab = Lab::new(View::default());
    lab.at(0, with_red(1)).at(10_000, with_red(2));
    let rows = lab.report().blocks.remove(0).sums;
    assert_eq!((rows.len(), rows["other"].requests), (1, 6), "without sides all are other");
}

#[test]
fn a_server_on_both_sides_is_an_error_and_nothing_is_counted() {
    let patterns = |text: &str| vec![Pattern::new(text).unwrap()];
    let sides = Sides { from: patterns("*"), to: patterns("green") };
    let mut lab = Lab::new(View { sides: Some(sides), per: Per::Side });
    lab.at(0, reading(answered(0, 0), answered(0, 0))).at(10_000, reading(answered(1, 0), answered(0, 0)));
    let report = lab.report();
    assert_eq!(report.error.as_deref(), Some("server green is on both sides"));
    assert!(report.blocks.is_empty() && report.now.is_empty());
}

#[test]
fn the_share_is_that_of_the_servers_that_serve() {
    let mut lab = Lab::new(view(Per::Side));
    let mut servers = reading(answered(0, 0), answered(0, 0));
    servers.servers[1].now.weight = Weight::new(50).unwrap();
    let mut out = server("green2", Levels::default());
    out.now.marks.push(Mark::Maint);
    servers.servers.push(out);
    let mut backup = server("spare", Levels::default());
    backup.now.marks.push(Mark::Backup);
    servers.servers.push(backup);
    lab.at(0, servers.clone());
    let shares = |lab: &Lab| -> Vec<(String, u64, f64, u64, u64)> {
        let rows = lab.report().now.into_iter();
        rows.map(|(row, now)| (row, now.weight, now.share, now.usable, now.total)).collect()
    };
    assert_eq!(
        shares(&lab),
        [("from".to_owned(), 100, 66.67, 1, 1), ("other".to_owned(), 0, 0.0, 0, 1), ("to".to_owned(), 50, 33.33, 1, 2)]
    );
    for server in &mut servers.servers[..2] {
        server.now.health = Health::Down;
    }
    lab.at(1000, servers);
    let backup = shares(&lab).remove(1);
    assert_eq!(backup, ("other".to_owned(), 100, 100.0, 0, 1), "a backup serves where no other server does");
}

/// The slots, counted from the start, with what `to` counted: requests and errors.
fn slots(lab: &Lab) -> Vec<(u64, u64, u64)> {
    lab.report().slots.iter().map(|slot| (slot.k - START / SLOT, slot.to.requests, slot.to.errors)).collect()
}

#[test]
fn a_failure_of_to_shows_its_slots_and_one_of_from_does_not() {
    let mut lab = Lab::new(view(Per::Side));
    lab.at(0, reading(answered(0, 0), answered(0, 0))).at(1000, reading(answered(9, 9), answered(5, 0)));
    assert!(!lab.count.take_failed() && slots(&lab).is_empty());
    lab.at(2000, reading(answered(9, 9), answered(7, 1)));
    assert!(lab.count.take_failed() && !lab.count.take_failed());
    assert_eq!(slots(&lab), [(0, 7, 1)], "the second that ended at 2 s is in slot 0");
    lab.at(3000, reading(answered(9, 9), answered(8, 2)));
    assert_eq!(slots(&lab), [(0, 7, 1), (1, 1, 1)]);
    assert_eq!(lab.report().slots[0].from.errors, 9);
}

#[test]
fn the_last_five_slots_are_shown_while_one_of_them_failed() {
    let mut lab = Lab::new(view(Per::Side));
    lab.at(0, reading(answered(0, 0), answered(0, 0)));
    for second in 1..=12 {
        lab.at(second * 1000, reading(answered(second, 0), answered(second, 1)));
        let shown = slots(&lab);
        assert!(shown.len() <= 5, "{shown:?}");
        assert_eq!(shown.is_empty(), second >= 10, "at {second} s: {shown:?}");
    }
}

#[test]
fn masked_attempts_are_a_failure() {
    let mut lab = Lab::new(view(Per::Side));
    let redispatched = Levels { attempts: 3, balanced: 3, redispatches: 3, ..Levels::default() };
    lab.at(0, reading(answered(0, 0), answered(0, 0))).at(1000, reading(answered(3, 0), redispatched));
    assert!(lab.count.take_failed());
    let counts = lab.report().slots.remove(0).to;
    assert_eq!((counts.requests, counts.errors, counts.attempts, counts.masked), (0, 0, 3, 3));
}

#[test]
fn answers_of_4xx_are_a_failure_only_where_to_has_far_more_of_them() {
    let refusing = |n: u64, refused: u64| {
        let mut levels = answered(n, 0);
        (levels.answers[1], levels.answers[3]) = (n - refused, refused);
        levels
    };
    // Answers and refused ones of `from` and of `to`.
    for (from, to, fails) in [
        ((100, 0), (10, 10), true),
        ((100, 9), (10, 5), true),
        ((100, 0), (10, 4), false),
        ((100, 20), (10, 10), false),
        ((100, 100), (10, 10), false),
        ((0, 0), (10, 10), false),
    ] {
        let mut lab = Lab::new(view(Per::Side));
        lab.at(0, reading(answered(0, 0), answered(0, 0)));
        lab.at(1000, reading(refusing(from.0, from.1), refusing(to.0, to.1)));
        assert_eq!(lab.count.take_failed(), fails, "{from:?} {to:?}");
    }
}

#[test]
fn per_server_the_slots_are_those_of_the_sides() {
    let mut lab = Lab::new(view(Per::Server));
    lab.at(0, reading(answered(0, 0), answered(0, 0))).at(1000, reading(answered(4, 0), answered(5, 5)));
    assert_eq!(slots(&lab), [(0, 5, 5)]);
}

#[test]
fn without_sides_there_are_no_slots() {
    let mut lab = Lab::new(View::default());
    lab.at(0, reading(answered(0, 0), answered(0, 0))).at(1000, reading(answered(4, 4), answered(5, 5)));
    assert!(!lab.count.take_failed() && slots(&lab).is_empty());
}

#[test]
fn sums_of_a_side_stay_when_its_server_is_deleted() {
    let mut lab = Lab::new(view(Per::Side));
    let mut two = reading(answered(5, 0), answered(5, 0));
    two.servers.push(server("green2", answered(5, 0)));
    let more = |levels| {
        let mut more = reading(answered(5, 0), levels);
        more.servers.push(server("green2", levels));
        more
    };
    lab.at(0, two).at(5000, more(answered(9, 0))).at(10_000, reading(answered(5, 0), answered(10, 0)));
    assert_eq!(lab.requests("to"), [4 + 5]);
    // It comes back with counters from 0.
    lab.at(20_000, more(answered(12, 0)));
    assert_eq!(lab.requests("to"), [9, 9 + 2 + 12]);
    assert!(!lab.report().blocks[1].torn);
}

#[test]
fn a_server_of_another_name_has_its_own_row() {
    let row = |view: &View| ViewCount::new(view.clone()).row_of(&name("red"));
    assert_eq!(row(&view(Per::Side)).as_deref(), Some("other"));
    assert_eq!(row(&view(Per::Server)).as_deref(), Some("red"));
    let other = in_process(8, reading(answered(0, 0), answered(0, 0)));
    assert_eq!(other.process.pid, 8);
}
