use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    desired::{Pattern, Weights},
    fleet::{Per, View},
    model::{BackendName, ServerName, Weight},
};

const K: u64 = 179_572_242;

fn view() -> ViewId {
    View { sides: None, per: Per::Server }.id()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment::after_start(Duration::from_secs(seconds))
}

/// A row of sums with these requests and errors.
fn sums(requests: u64, errors: u64) -> Value {
    json!([requests, errors, requests, 0, requests, 0, 0, requests, requests, errors, 0, 0, 0, 0])
}

/// The state of a row.
fn state(sessions: u64, weight: u64, share: f64) -> Value {
    json!({ "sessions": sessions, "rtime": 12, "usable": 1, "total": 1, "weight": weight, "share": share })
}

/// The report of a node in an incarnation, with these blocks, taken by a collector.
struct Fleet {
    collector: Collector,
    instance: Value,
}

impl Fleet {
    fn new() -> Self {
        let now = json!({ "blue": state(4, 90, 90.0), "green": state(1, 10, 10.0) });
        let instance = json!({ "name": "edge", "mode": "http", "views": [{ "id": view().to_string(), "now": now }] });
        Self { collector: Collector::new(view()), instance }
    }

    fn take(&mut self, name: &str, incarnation: &str, blocks: &Value, seconds: u64) {
        let mut instance = self.instance.clone();
        instance["views"][0]["blocks"] = blocks.clone();
        let last = blocks.as_array().and_then(|blocks| blocks.last()).and_then(|block| block["k"].as_u64());
        let time = last.map_or(K * 10_000, |k| (k + 1) * 10_000 + 500);
        let backends = json!([{ "backend": "app1", "instances": [instance] }]);
        let report = json!({ "v": 1, "node": name, "mode": "enforce", "incarnation": incarnation, "at": time,
            "backends": backends });
        let report = Counters::parse(&node(name), report.to_string().as_bytes()).unwrap();
        let backend = BackendName::new("app1").unwrap();
        let counted = report.backends.iter().find(|counted| counted.backend == backend).unwrap();
        self.collector.take(&node(name), &report, counted, at(seconds));
    }

    fn requests(&self, name: &str, row: &str, seconds: u64) -> Result<u64, NoNumbers> {
        let source = &self.collector.sources[&(node(name), "edge".to_owned())];
        source.window(at(seconds)).map(|window| window.rows[row].requests)
    }
}

fn block(k: u64, covers: u64, blue: u64, green: u64) -> Value {
    json!({ "k": k, "covers": covers, "sums": { "blue": sums(blue, 0), "green": sums(green, 0) } })
}

fn weights(weights: &[(&str, u64)]) -> Weights {
    weights.iter().map(|(name, weight)| (ServerName::new(name).unwrap(), Weight::new(*weight).unwrap())).collect()
}

#[test]
fn a_number_is_the_difference_to_the_block_before() {
    let mut fleet = Fleet::new();
    fleet.take("lb1", "a", &json!([block(K, 0, 50, 5), block(K + 1, 1, 950, 105)]), 0);
    assert_eq!(fleet.requests("lb1", "blue", 1), Ok(900));
    // The block before may come from an earlier report.
    fleet.take("lb1", "a", &json!([block(K + 2, 1, 1050, 205)]), 10);
    assert_eq!(fleet.requests("lb1", "green", 11), Ok(100));
    // A block that covers two has the counts of both.
    fleet.take("lb1", "a", &json!([block(K + 4, 2, 2050, 305)]), 30);
    let source = &fleet.collector.sources[&(node("lb1"), "edge".to_owned())];
    assert_eq!(source.window(at(31)).map(|window| window.seconds), Ok(20.0));
}

#[test]
fn the_first_block_counts_only_from_the_beginning_of_the_view() {
    let mut fleet = Fleet::new();
    fleet.take("lb1", "a", &json!([]), 0);
    assert_eq!(fleet.requests("lb1", "blue", 1), Err(NoNumbers::NotYet));
    fleet.take("lb1", "a", &json!([block(K, 0, 50, 5)]), 10);
    assert_eq!(fleet.requests("lb1", "blue", 11), Ok(50));
    // Who comes later does not know when it began.
    let mut late = Fleet::new();
    late.take("lb1", "a", &json!([block(K, 0, 50, 5)]), 0);
    assert_eq!(late.requests("lb1", "blue", 1), Err(NoNumbers::NotYet));
}

#[test]
fn there_is_no_number_over_a_missing_block_another_incarnation_or_a_decrease() {
    let mut fleet = Fleet::new();
    fleet.take("lb1", "a", &json!([block(K, 0, 50, 5), block(K + 1, 1, 950, 105)]), 0);
    fleet.take("lb1", "a", &json!([block(K + 3, 1, 1050, 205)]), 20);
    assert_eq!(fleet.requests("lb1", "blue", 21), Err(NoNumbers::Missing));
    fleet.take("lb1", "b", &json!([block(K + 4, 1, 2050, 305)]), 30);
    assert_eq!(fleet.requests("lb1", "blue", 31), Err(NoNumbers::Missing));
    fleet.take("lb1", "b", &json!([block(K + 5, 1, 2000, 305)]), 40);
    assert_eq!(fleet.requests("lb1", "blue", 41), Err(NoNumbers::Backwards));
    fleet.take("lb1", "b", &json!([block(K + 6, 1, 2100, 305)]), 50);
    assert_eq!(fleet.requests("lb1", "blue", 51), Ok(100), "it goes on from there");
    // A view that the node began again.
    fleet.take("lb1", "b", &json!([block(K + 8, 0, 7, 7)]), 70);
    assert_eq!(fleet.requests("lb1", "blue", 71), Err(NoNumbers::NotYet));
}

#[test]
fn the_numbers_of_a_silent_node_are_not_those_of_now() {
    let mut fleet = Fleet::new();
    let blocks = json!([block(K, 0, 50, 5), block(K + 1, 1, 950, 105)]);
    fleet.take("lb1", "a", &blocks, 0);
    fleet.take("lb1", "a", &blocks, 20);
    assert_eq!(fleet.requests("lb1", "blue", 20), Ok(900));
    assert!(matches!(fleet.requests("lb1", "blue", 40), Err(NoNumbers::Stale(_))));
}

#[test]
fn rows_add_up_over_the_fleet_and_show_the_real_beside_the_desired_share() {
    let mut fleet = Fleet::new();
    fleet.take("lb1", "a", &json!([block(K, 0, 0, 0), block(K + 1, 1, 900, 100)]), 0);
    fleet.take("lb2", "b", &json!([block(K, 0, 0, 0), block(K + 1, 1, 200, 800)]), 0);
    fleet.take("lb3", "c", &json!([]), 0);
    let groups = Groups::of_servers(&weights(&[("blue", 90), ("green", 10)]));
    let rows = fleet.collector.rows(&groups, at(1));
    let [blue, green] = &rows.rows[..] else { panic!("{rows:?}") };
    assert_eq!((blue.label.as_str(), blue.desired, blue.share), ("blue", Some(90.0), Some(55.0)));
    assert_eq!(green.rates.map(|rates| rates.requests), Some(90.0));
    assert_eq!((green.sessions, green.usable, green.total), (3, 3, 3));
    assert_eq!((rows.counted, rows.without.len()), (2, 1));
    assert_eq!(rows.without[0].0, node("lb3"));
    let one = fleet.collector.rows_of_node(&node("lb2"), &groups, at(1));
    assert_eq!(one.rows[1].share, Some(80.0));
}

#[test]
fn groups_are_servers_sides_or_patterns_and_the_rest_is_other() {
    let mut fleet = Fleet::new();
    fleet.take("lb1", "a", &json!([block(K, 0, 0, 0), block(K + 1, 1, 900, 100)]), 0);
    let labels = |groups: &Groups| -> Vec<String> {
        fleet.collector.rows(groups, at(1)).rows.into_iter().map(|row| row.label).collect()
    };
    let zero = weights(&[("blue", 100), ("green", 0)]);
    assert_eq!(labels(&Groups::of_weights(&zero)), ["above 0", "at 0"]);
    let pattern = |text: &str| (text.to_owned(), vec![Pattern::new(text).unwrap()]);
    assert_eq!(labels(&Groups::of(&zero, [pattern("gr*"), pattern("nobody")])), ["gr*", "nobody", "other"]);
    let both = Groups::of(&zero, [pattern("gr*"), pattern("*n")]);
    let (server, labels) = both.overlap(zero.keys()).unwrap();
    assert_eq!((server.as_str(), labels.as_str()), ("green", "gr* and *n"));
}

#[test]
fn a_torn_block_and_a_change_within_a_block_are_marked() {
    let mut fleet = Fleet::new();
    let mut marked = block(K + 1, 1, 900, 100);
    (marked["torn"], marked["changed"]) = (json!(true), json!({ "green": "w" }));
    fleet.take("lb1", "a", &json!([block(K, 0, 0, 0), marked]), 0);
    let rows = fleet.collector.rows(&Groups::of_servers(&weights(&[("blue", 90), ("green", 10)])), at(1));
    assert_eq!((rows.torn, rows.rows[0].changed, rows.rows[1].changed), (1, false, true));
}

#[test]
fn what_is_left_at_zero_is_done_only_when_nothing_can_come_back() {
    let mut fleet = Fleet::new();
    let green = |name: &str| name == "green";
    let left = |fleet: &mut Fleet, sessions: u64, blocks: Value, seconds: u64| {
        fleet.instance["views"][0]["now"]["green"]["sessions"] = json!(sessions);
        fleet.take("lb1", "a", &blocks, seconds);
        fleet.collector.left(&green, at(0), at(seconds)).remove(0)
    };
    assert_eq!(left(&mut fleet, 3, json!([]), 0).sessions, Some(3));
    assert!(left(&mut fleet, 0, json!([]), 1).done, "nothing pins users here");
    fleet.instance["flags"] = json!(["cookie"]);
    assert!(!left(&mut fleet, 0, json!([]), 2).done, "users with the cookie may come back");
    // A block that may have begun before the weights were 0 does not count.
    assert!(!left(&mut fleet, 0, json!([block(K, 0, 50, 5)]), 5).done);
    let used = left(&mut fleet, 0, json!([block(K, 0, 50, 5), block(K + 1, 1, 90, 6)]), 15);
    assert!(!used.done && used.used, "one of them did: {used:?}");
    let blocks = json!([block(K, 0, 50, 5), block(K + 1, 1, 90, 6), block(K + 2, 1, 190, 6)]);
    assert!(left(&mut fleet, 0, blocks, 25).done);
    assert_eq!(fleet.collector.pins(), [Pin::Cookie]);
}

#[test]
fn a_haproxy_that_cannot_be_read_is_not_drained() {
    let mut fleet = Fleet::new();
    fleet.instance["down"] = json!("unreachable");
    fleet.take("lb1", "a", &json!([]), 0);
    let left = fleet.collector.left(&|_| true, at(0), at(1)).remove(0);
    assert_eq!((left.sessions, left.done), (None, false));
}

#[test]
fn the_estimate_goes_on_at_the_present_rate() {
    let mut drain = Drain::default();
    assert_eq!(drain.estimate(), None);
    drain.take(at(0), 100);
    drain.take(at(10), 80);
    assert_eq!(drain.estimate(), Some(Duration::from_secs(40)));
    for seconds in 11..80 {
        drain.take(at(seconds), 80);
    }
    assert_eq!(drain.estimate(), None, "they do not become fewer any more");
    drain.take(at(81), 0);
    assert_eq!(drain.estimate(), Some(Duration::ZERO));
}

proptest! {
    #[test]
    fn no_number_is_larger_than_what_was_counted(counts in prop::collection::vec((0..1000u64, any::<bool>()), 2..30)) {
        let (mut fleet, mut sum, mut counted, mut shown) = (Fleet::new(), 0, 0, 0);
        for (number, (count, lost)) in counts.into_iter().enumerate() {
            let number = number as u64;
            sum += count;
            if number > 0 {
                counted += count;
            }
            // A report that nobody read.
            if lost {
                continue;
            }
            let covers = u64::from(number > 0);
            fleet.take("lb1", "a", &json!([block(K + number, covers, sum, 0)]), number * 10);
            if covers == 1 && let Ok(requests) = fleet.requests("lb1", "blue", number * 10) {
                shown += requests;
            }
        }
        prop_assert!(shown <= counted, "{shown} of {counted}");
    }
}

#[test]
fn a_report_without_the_view_says_nothing_of_sessions() {
    let mut fleet = Fleet::new();
    fleet.take("lb1", "a", &json!([]), 0);
    fleet.instance["views"][0]["id"] = json!("00000000");
    fleet.take("lb1", "a", &json!([]), 1);
    let left = fleet.collector.left(&|_| true, at(0), at(1)).remove(0);
    assert_eq!((left.sessions, left.done), (None, false));
}

#[test]
fn sessions_that_nobody_can_read_are_not_gone() {
    let mut fleet = Fleet::new();
    fleet.instance["views"][0]["now"]["green"] = state(0, 0, 0.0);
    fleet.instance["views"][0]["now"]["green"]["unread"] = json!(true);
    fleet.take("lb1", "a", &json!([]), 0);
    let of = |name: &'static str| fleet.collector.left(&move |row: &str| row == name, at(0), at(1)).remove(0);
    let green = of("green");
    assert_eq!((green.sessions, green.unread, green.done), (None, true, false));
    assert_eq!((of("blue").sessions, of("blue").unread), (Some(4), false));
}

#[test]
fn what_was_read_before_a_haproxy_was_lost_is_not_shown_as_that_of_now() {
    let mut fleet = Fleet::new();
    let groups = Groups::of_servers(&weights(&[("blue", 90), ("green", 10)]));
    fleet.take("lb1", "a", &json!([]), 0);
    let sessions = |fleet: &Fleet, seconds| {
        let rows = fleet.collector.rows(&groups, at(seconds)).rows;
        rows.iter().map(|row| (row.sessions, row.total)).collect::<Vec<_>>()
    };
    assert_eq!(sessions(&fleet, 1), [(4, 1), (1, 1)]);
    assert_eq!(sessions(&fleet, 26), [(0, 0), (0, 0)], "the report is old");
    fleet.instance["down"] = json!("unreachable");
    fleet.take("lb1", "a", &json!([]), 2);
    assert_eq!(sessions(&fleet, 2), [(0, 0), (0, 0)]);
}
