use weightd_core::desired::Pattern;

use super::*;
use crate::weightctl::following::LeftView;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn row(side: &str, desired: f64, requests: f64, errors: f64) -> RowView {
    RowView {
        side: side.to_owned(),
        desired: Some(desired),
        share: Some(requests),
        requests_per_second: Some(requests),
        errors_per_second: Some(errors),
        masked_per_second: Some(0.0),
        refused_per_second: Some(0.0),
        answered_per_second: Some(requests - errors),
        time_ms: Some(12.4),
        sessions: 4,
        usable: 2,
        total: 2,
        changed: false,
    }
}

fn view(rows: Vec<RowView>) -> TrafficView {
    TrafficView {
        backend: BackendName::new("app1").unwrap(),
        at: None,
        index: Some(42),
        asked: 2,
        counted: 2,
        modes: vec![Protocol::Http],
        rows,
        unserved_per_second: 0.0,
        torn: 0,
        sticky: false,
        nodes: None,
        lacks: Vec::new(),
        without: Vec::new(),
        draining: None,
    }
}

fn plain(view: &TrafficView, width: usize) -> String {
    let text = anstream::adapter::strip_str(&text(view, width)).to_string();
    let long: Vec<_> = text.lines().filter(|line| line.chars().count() > width).collect();
    assert!(long.is_empty(), "{long:?}");
    text
}

#[test]
fn a_line_shows_the_real_beside_the_desired_share() {
    let view = view(vec![row("blue", 90.0, 89.5, 0.0), row("green", 10.0, 10.5, 1.5)]);
    insta::assert_snapshot!(plain(&view, 100), @r"
    app1  2 of 2 HAProxies with numbers, http
    SIDE   REQ/S  SHARE  DESIRED  ERRORS  MASKED/S  4XX   TIME  SESSIONS
    blue    89.5  89.5%      90%      0%       0.0   0%  12 ms         4  #####################
    green   10.5  10.5%      10%   14.3%       0.0   0%  12 ms         4  ###
    ");
    insta::assert_snapshot!(plain(&view, 80), @r"
    app1  2 of 2 HAProxies with numbers, http
    SIDE   REQ/S  SHARE  DESIRED  ERRORS  MASKED/S  4XX   TIME  SESSIONS
    blue    89.5  89.5%      90%      0%       0.0   0%  12 ms         4  #########
    green   10.5  10.5%      10%   14.3%       0.0   0%  12 ms         4  #
    ");
    insta::assert_snapshot!(plain(&view, 50), @r"
    app1  2 of 2 HAProxies with numbers, http
    SIDE   REQ/S  SHARE  DESIRED  ERRORS  SESSIONS
    blue    89.5  89.5%      90%      0%         4
    green   10.5  10.5%      10%   14.3%         4
    ");
}

#[test]
fn long_names_are_cut_and_columns_left_out_before_a_line_is_too_long() {
    let long = "a-server-with-a-name-that-needs-a-whole-line-of-a-terminal-of-80-columns-and-more";
    let mut view = view(vec![row(long, 90.0, 12_345.0, 0.0), row("green", 10.0, 10.5, 1.5)]);
    view.nodes = Some(vec![NodeRows { node: node("lb-with-a-long-name-too"), rows: view.rows.clone() }]);
    for width in [60, 80, 120] {
        plain(&view, width);
    }
}

#[test]
fn what_is_not_known_is_said_and_is_no_number() {
    let mut first = row("blue", 90.0, 0.0, 0.0);
    (first.requests_per_second, first.share, first.time_ms) = (None, None, None);
    (first.errors_per_second, first.masked_per_second, first.refused_per_second) = (None, None, None);
    first.changed = true;
    let mut view = view(vec![first]);
    (view.modes, view.torn, view.lacks, view.unserved_per_second) = (vec![Protocol::Tcp], 1, vec![node("lb3")], 2.5);
    view.without = vec![WithoutView { node: node("lb2"), haproxy: None, why: "it has not answered".to_owned() }];
    insta::assert_snapshot!(plain(&view, 80), @r"
    app1  2 of 3 HAProxies with numbers, tcp
    SIDE  CONN/S  SHARE  DESIRED  ERRORS  MASKED/S  4XX  TIME  SESSIONS
    blue       -      -      90%       -         -    -     -         4
    mode tcp: these are connections; HTTP errors are not visible
    2.5 requests a second failed because no server could take them
    changed within the block, so that the shares are mixed: blue
    a HAProxy process ended: some requests of 1 HAProxy are missing
    without app1: lb3
    no numbers: lb2: it has not answered
    ");
}

#[test]
fn what_is_left_at_zero_is_shown_with_the_time_it_needs_and_what_pins_users() {
    let draining = |sessions, done| DrainingView {
        servers: vec![Pattern::new("green").unwrap()],
        sessions,
        done,
        nodes: vec![LeftView {
            node: node("lb1"),
            haproxy: "edge".to_owned(),
            sessions: Some(sessions),
            unread: false,
            used: sessions == 0,
        }],
        silent: vec![node("lb2")],
        pinned_by: vec!["cookie"],
        estimate_seconds: Some(40),
        pins: vec![weightd_core::traffic::Pin::Cookie],
    };
    let shown = |sessions, done| anstream::adapter::strip_str(&draining(sessions, done).text()).to_string();
    insta::assert_snapshot!(shown(12, false), @r"
    at 0: green: 12 sessions left (lb1 12, lb2 has not answered); about 40s at the present rate
      a cookie pins users, also at weight 0
    ");
    insta::assert_snapshot!(shown(0, false), @r"
    at 0: green: 0 sessions left (lb1 still gets requests, lb2 has not answered)
      a cookie pins users, also at weight 0
    ");
    insta::assert_snapshot!(shown(0, true), @"at 0: green: no session left");
}
