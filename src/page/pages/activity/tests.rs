use weightd_core::rollout::log;

use super::*;
use crate::page::view::row::tests::{NOW, now, steady};

/// An application that was moved at these times, oldest first.
fn moved(times: &[u64]) -> Facts {
    let event = |at: &u64| log::Entry {
        rollout: "r1".to_owned(),
        at: Timestamp::from_seconds(*at),
        what: "started".to_owned(),
        detail: String::new(),
        by: Some("ann".to_owned()),
    };
    Facts { log: times.iter().map(event).collect(), ..steady(0) }
}

fn lines(facts: &Facts) -> Vec<Move> {
    moves_since(facts, true, Timestamp::from_seconds(0), now())
}

#[test]
fn earlier_leaves_nothing_out_however_many_lines_are_of_one_second() {
    let mut times = vec![NOW - 50; 30];
    times.extend([NOW - 20; 250]);
    times.extend([NOW - 10; 40]);
    let mut all = lines(&moved(&times));
    for (at, each) in all.iter_mut().enumerate() {
        each.why = at.to_string();
    }
    let (mut filter, mut seen) = (Filter::default(), Vec::new());
    loop {
        let part = part(&filter, all.clone().into_iter());
        assert!(part.lines.len() == SHOWN || part.earlier.is_none(), "{part:?}");
        seen.extend(part.lines.into_iter().map(|each| each.why));
        let Some(earlier) = part.earlier else { break };
        filter = Filter { before: Some(earlier.at), skip: earlier.lines, ..Filter::default() };
    }
    assert_eq!(seen, all.into_iter().map(|each| each.why).collect::<Vec<_>>());
}

#[test]
fn what_is_newer_is_counted_from_the_page_and_as_it_looks() {
    let page = moved(&[NOW - 20, NOW - 10, NOW - 10]);
    let newest = newest(&Filter::default(), &lines(&page));
    assert_eq!(newest, Place { at: NOW - 10, lines: 2 });
    let filter = |q: &str| Filter { q: q.to_owned(), newest: newest.at, had: newest.lines, ..Filter::default() };
    let count = |q: &str, times: &[u64]| newer(&filter(q), [&moved(times)].into_iter(), true, now());
    assert_eq!(count("", &[NOW - 20, NOW - 10, NOW - 10]), 0);
    // One more of the same second, and one of a later one.
    let times = [NOW - 20, NOW - 10, NOW - 10, NOW - 10, NOW - 5];
    assert_eq!((count("", &times), count("ann", &times), count("bob", &times)), (2, 2, 0));
    // A page shows the first of many lines of one second.
    let (burst, nobody) = (moved(&[NOW - 10; 300]), Filter { q: "bob".to_owned(), ..Filter::default() });
    assert_eq!(super::newest(&Filter::default(), &lines(&burst)).lines, 300);
    assert_eq!(super::newest(&nobody, &lines(&burst)), Place { at: 0, lines: 0 });
    // An empty page.
    assert_eq!(newer(&Filter::default(), [&page].into_iter(), true, now()), 3);
}

#[test]
fn the_stream_is_asked_for_what_the_page_looks_for() {
    let live = Live { q: "a&b c", kind: "people", newest: Place { at: 7, lines: 2 } }.render().unwrap();
    let uri: axum::http::Uri = live.parse().unwrap();
    let Query(filter) = Query::<Filter>::try_from_uri(&uri).unwrap();
    let expected = Filter { q: "a&b c".to_owned(), kind: "people".to_owned(), newest: 7, had: 2, ..Filter::default() };
    assert_eq!(filter, expected);
}
