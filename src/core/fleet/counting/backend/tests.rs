use super::{
    super::tests::{START, answered, in_process, name, reading, server},
    *,
};
use crate::fleet::counters::Viewed;

/// A backend with all servers in one row.
fn counting() -> BackendCount {
    let mut count = BackendCount::default();
    count.set_views(&[View::default()]);
    count
}

fn viewed(count: &BackendCount, seconds: u64) -> Viewed {
    count.report("edge", None, START + seconds * 1000).views.remove(0)
}

/// Requests and errors at the end of the last block, and whether it is torn.
fn last(count: &BackendCount, seconds: u64) -> (u64, u64, bool) {
    let block = viewed(count, seconds).blocks.pop().unwrap();
    (block.sums["other"].requests, block.sums["other"].errors, block.torn)
}

fn take(count: &mut BackendCount, seconds: u64, reading: Reading, leaving: bool) {
    count.take(reading, START + seconds * 1000, leaving);
}

#[test]
fn a_new_process_tears_the_block_and_is_counted_from_its_start() {
    let mut count = counting();
    take(&mut count, 0, reading(answered(100, 0), answered(100, 0)), false);
    take(&mut count, 1, reading(answered(110, 1), answered(100, 0)), false);
    take(&mut count, 2, in_process(8, reading(answered(3, 0), answered(1, 1))), false);
    take(&mut count, 10, in_process(8, reading(answered(4, 0), answered(2, 1))), false);
    assert_eq!(last(&count, 10), (10 + 4 + 2, 2, true));
    take(&mut count, 20, in_process(8, reading(answered(5, 0), answered(2, 1))), false);
    assert_eq!(last(&count, 20), (17, 2, false), "the next block is whole");
}

#[test]
fn counters_that_were_loaded_from_a_file_are_not_counted_again() {
    let mut count = counting();
    take(&mut count, 0, reading(answered(100, 0), answered(100, 0)), false);
    let mut loaded = in_process(8, reading(answered(90, 0), answered(95, 0)));
    loaded.servers.iter_mut().for_each(|server| server.preloaded = true);
    take(&mut count, 1, loaded.clone(), true);
    loaded.servers[0].levels = answered(92, 0);
    take(&mut count, 10, loaded, true);
    assert_eq!(last(&count, 10), (2, 0, true));
}

#[test]
fn cleared_counters_tear_the_block_and_begin_anew() {
    let mut count = counting();
    take(&mut count, 0, reading(answered(100, 0), answered(100, 0)), false);
    take(&mut count, 1, reading(answered(105, 0), answered(100, 0)), false);
    take(&mut count, 2, reading(answered(1, 0), answered(0, 0)), false);
    take(&mut count, 10, reading(answered(4, 1), answered(2, 0)), false);
    assert_eq!(last(&count, 10), (5 + 3 + 2, 1, true));
    take(&mut count, 20, reading(answered(5, 1), answered(2, 0)), false);
    assert_eq!(last(&count, 20), (11, 1, false));
}

#[test]
fn a_process_that_leaves_is_counted_until_it_has_ended() {
    let mut count = counting();
    take(&mut count, 0, reading(answered(100, 0), answered(100, 0)), true);
    take(&mut count, 1, in_process(8, reading(answered(3, 0), answered(0, 0))), true);
    assert_eq!(count.leaving().collect::<Vec<_>>(), [7]);
    let rest = |n| Rest {
        connect_errors: 0,
        unassigned: 0,
        servers: vec![(name("blue"), answered(n, 0)), (name("red"), answered(9, 0))],
    };
    count.rest(7, &rest(104));
    count.rest(7, &rest(109));
    count.rest(99, &rest(900));
    take(&mut count, 10, in_process(8, reading(answered(5, 0), answered(0, 0))), true);
    assert_eq!(last(&count, 10), (9 + 5, 0, false));
    count.rest(7, &rest(111));
    count.ended(7, true);
    assert_eq!(count.leaving().count(), 0);
    take(&mut count, 20, in_process(8, reading(answered(5, 0), answered(0, 0))), true);
    assert_eq!(last(&count, 20), (16, 0, false));
}

#[test]
fn a_few_requests_that_ended_unseen_do_not_tear_a_block_and_many_do() {
    for (in_flight, torn) in [(1, false), (2, true)] {
        let mut count = counting();
        take(&mut count, 0, reading(answered(100, 0), answered(100, 0)), true);
        take(&mut count, 1, in_process(8, reading(answered(80, 0), answered(0, 0))), true);
        let blue = Levels { sessions: in_flight, ..answered(125, 0) };
        count.rest(7, &Rest { connect_errors: 0, unassigned: 0, servers: vec![(name("blue"), blue)] });
        count.ended(7, true);
        take(&mut count, 10, in_process(8, reading(answered(80, 0), answered(0, 0))), true);
        assert_eq!(last(&count, 10), (105, 0, torn), "{in_flight} of about 105");
    }
}

#[test]
fn a_process_that_ended_unread_tears_the_block() {
    let mut count = counting();
    take(&mut count, 0, reading(answered(100, 0), answered(100, 0)), true);
    take(&mut count, 1, in_process(8, reading(answered(3, 0), answered(0, 0))), true);
    count.ended(7, false);
    take(&mut count, 10, in_process(8, reading(answered(3, 0), answered(0, 0))), true);
    assert_eq!(last(&count, 10), (3, 0, true));
}

#[test]
fn errors_of_no_server_are_counted_apart() {
    let mut count = counting();
    let unserved = |total, of_blue| {
        let blue = Levels { attempts: of_blue, balanced: of_blue, connect_errors: of_blue, ..Levels::default() };
        Reading { connect_errors: total, ..reading(blue, Levels::default()) }
    };
    take(&mut count, 0, unserved(50, 10), false);
    take(&mut count, 10, unserved(58, 13), false);
    let block = viewed(&count, 10).blocks.pop().unwrap();
    assert_eq!((block.unserved, block.sums["other"].errors), (5, 3));
}

#[test]
fn a_view_that_is_observed_again_begins_anew_and_another_one_goes_on() {
    let mut count = counting();
    let other = View { per: crate::fleet::Per::Server, ..View::default() };
    take(&mut count, 0, reading(answered(0, 0), answered(0, 0)), false);
    count.set_views(&[View::default(), other.clone()]);
    take(&mut count, 5, reading(answered(5, 0), answered(0, 0)), false);
    take(&mut count, 10, reading(answered(9, 0), answered(0, 0)), false);
    let report = count.report("edge", None, START + 10_000);
    let requests = |view: &View, row: &str| report.view(view.id()).unwrap().blocks[0].sums[row].requests;
    assert_eq!((requests(&View::default(), "other"), requests(&other, "blue")), (9, 4));
    count.set_views(std::slice::from_ref(&other));
    assert_eq!(count.report("edge", None, START).views.len(), 1);
    count.set_views(&[View::default(), other]);
    take(&mut count, 11, reading(answered(12, 0), answered(0, 0)), false);
    assert!(count.report("edge", None, START).view(View::default().id()).unwrap().blocks.is_empty());
}

#[test]
fn a_backend_that_cannot_be_read_says_why() {
    let mut count = counting();
    assert_eq!(
        count.report("edge", Some("refused"), START),
        Instance { down: Some("refused".into()), ..Instance::unread("edge") }
    );
    take(&mut count, 0, reading(answered(0, 0), answered(0, 0)), false);
    let report = count.report("edge", Some("timeout"), START);
    assert_eq!((report.down.as_deref(), report.servers.len()), (Some("timeout"), 2), "with what was read last");
}

#[test]
fn requests_in_flight_at_the_first_reading_have_begun() {
    let mut count = counting();
    let waiting = Levels { sessions: 4, attempts: 4, balanced: 4, ..Levels::default() };
    take(&mut count, 0, reading(waiting, Levels::default()), false);
    take(&mut count, 10, reading(Levels { attempts: 6, balanced: 6, ..waiting }, Levels::default()), false);
    let block = viewed(&count, 10).blocks.pop().unwrap();
    assert_eq!((block.sums["other"].started, block.sums["other"].completed), (6, 2));
    assert_eq!(server("blue", waiting).levels.sessions, 4);
}

/// Sessions of `blue` now, and whether more of them cannot be read.
fn sessions(count: &BackendCount, seconds: u64) -> (u64, bool) {
    let now = viewed(count, seconds).now["other"];
    (now.sessions, now.unread)
}

#[test]
fn sessions_of_a_process_that_leaves_are_still_sessions() {
    let with = |sessions| Levels { sessions, ..answered(100, 0) };
    let mut count = counting();
    take(&mut count, 0, reading(with(5), with(0)), true);
    assert_eq!(sessions(&count, 0), (5, false));
    take(&mut count, 1, in_process(8, reading(Levels { sessions: 1, ..answered(1, 0) }, answered(0, 0))), true);
    assert_eq!(sessions(&count, 1), (6, false), "as they were read last");
    count.rest(7, &Rest { connect_errors: 0, unassigned: 0, servers: vec![(name("blue"), with(3))] });
    assert_eq!(sessions(&count, 2), (4, false));
    count.ended(7, true);
    assert_eq!(sessions(&count, 3), (1, false));
}

#[test]
fn sessions_of_a_process_that_cannot_be_read_are_not_known() {
    let with = |sessions| Levels { sessions, ..answered(100, 0) };
    let mut count = counting();
    take(&mut count, 0, reading(with(5), with(0)), false);
    let new = || in_process(8, reading(answered(1, 0), answered(0, 0)));
    take(&mut count, 1, new(), false);
    assert_eq!(sessions(&count, 1), (0, true));
    // One that had none when it was replaced leaves nothing behind.
    let mut count = counting();
    take(&mut count, 0, reading(with(0), with(0)), false);
    take(&mut count, 1, new(), false);
    assert_eq!(sessions(&count, 1), (0, false));
}

#[test]
fn errors_of_a_server_that_is_removed_are_not_those_of_the_backend() {
    let unserved = |count: &BackendCount, seconds| viewed(count, seconds).blocks.pop().unwrap().unserved;
    let failed = Levels { connect_errors: 400, ..answered(0, 0) };
    let mut count = counting();
    let with = |reading: Reading, connect_errors| Reading { connect_errors, ..reading };
    take(&mut count, 0, with(reading(failed, answered(9, 0)), 400), false);
    let mut one = reading(answered(9, 0), answered(9, 0));
    one.servers.remove(0);
    take(&mut count, 1, with(one.clone(), 400), false);
    take(&mut count, 10, with(one.clone(), 403), false);
    assert_eq!(unserved(&count, 10), 3);
    // The same name again begins with 0.
    let back = Levels { connect_errors: 7, ..answered(0, 0) };
    take(&mut count, 20, with(reading(back, answered(9, 0)), 410), false);
    assert_eq!(unserved(&count, 20), 3);
}
