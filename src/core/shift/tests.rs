use super::*;
use crate::model::Weight;

fn document(weights: &[(&str, u64)]) -> Weights {
    weights.iter().map(|(name, weight)| (ServerName::new(name).unwrap(), Weight::new(*weight).unwrap())).collect()
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

fn to(text: &str, percent: f64) -> (Pattern, Wanted) {
    (pattern(text), Wanted::Share(percent))
}

fn shown(weights: &[(&str, u64)], asked: &[(Pattern, Wanted)]) -> String {
    let shift = shift(&document(weights), &Reported::default(), asked).unwrap();
    shift.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_share_is_that_of_the_side_whatever_its_number_of_servers() {
    assert_eq!(shown(&[("blue", 100), ("green", 0)], &[to("green", 10.0)]), "blue=9 green=1");
    let five = [("blue", 100), ("green-1", 0), ("green-2", 0), ("green-3", 0)];
    assert_eq!(shown(&five, &[to("green-*", 10.0)]), "blue=27 green-1=1 green-2=1 green-3=1");
    assert_eq!(shown(&five, &[to("green-*", 100.0)]), "blue=0 green-1=1 green-2=1 green-3=1");
    assert_eq!(shown(&five, &[to("green-*", 0.0)]), "blue=100 green-1=0 green-2=0 green-3=0", "it is so already");
}

#[test]
fn the_rest_and_the_sides_keep_their_ratio() {
    let weights = [("blue", 200), ("gray", 100), ("off", 0), ("green", 1)];
    assert_eq!(shown(&weights, &[to("green", 10.0)]), "blue=6 gray=3 green=1 off=0");
}

#[test]
fn weights_that_have_the_share_stay() {
    assert_eq!(shown(&[("blue", 90), ("green", 10)], &[to("green", 10.0)]), "blue=90 green=10");
}

#[test]
fn a_step_adds_points_and_ends_at_100() {
    let step = |points| vec![(pattern("green"), Wanted::Step(points))];
    assert_eq!(shown(&[("blue", 90), ("green", 10)], &step(10.0)), "blue=4 green=1");
    assert_eq!(shown(&[("blue", 90), ("green", 10)], &step(-10.0)), "blue=1 green=0");
    assert_eq!(shown(&[("blue", 5), ("green", 95)], &step(10.0)), "blue=0 green=1");
    assert_eq!(
        shift(&document(&[("blue", 0), ("green", 0)]), &Reported::default(), &step(10.0)),
        Err(Refused::NoShare)
    );
}

#[test]
fn patterns_that_do_not_fit_are_refused_with_the_servers() {
    let servers = [("blue-1", 1), ("green-1", 1)];
    let refused =
        |asked: &[(Pattern, Wanted)]| shift(&document(&servers), &Reported::default(), asked).unwrap_err().to_string();
    assert_eq!(refused(&[to("gray", 10.0)]), "`gray` matches no server; the servers are blue-1, green-1");
    assert_eq!(refused(&[to("green*", 10.0), to("*-1", 20.0)]), "`green*` and `*-1` both match green-1");
    assert_eq!(refused(&[to("green*", 60.0), to("blue*", 50.0)]), "the shares add up to 110 %, more than 100 %");
    assert_eq!(
        refused(&[to("green*", 10.0), to("blue*", 50.0)]),
        "the shares add up to 60 %, and no other server takes the rest"
    );
}

#[test]
fn rounding_that_stops_servers_is_not_close() {
    let mut weights = vec![("blue".to_owned(), 1)];
    weights.extend((0..50).map(|n| (format!("green-{n:02}"), 0)));
    let weights: Vec<_> = weights.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    let far = shift(&document(&weights), &Reported::default(), &[to("green-*", 1.0)]).unwrap();
    assert!(far.error < 0.2 && far.stopped.len() > 40 && !far.is_close(), "{far:?}");
    assert!(shift(&document(&weights), &Reported::default(), &[to("green-*", 50.0)]).unwrap().is_close());
}

/// Servers with a configured weight of 100; a name that ends with `!` does not count.
fn node(name: &str, servers: &[&str]) -> NodeServers {
    let server = |server: &&str| KnownServer {
        name: ServerName::new(server.trim_end_matches('!')).unwrap(),
        configured: Weight::new(100).unwrap(),
        weight: Weight::ZERO,
        counts: !server.ends_with('!'),
    };
    NodeServers { node: name.to_owned(), servers: servers.iter().map(server).collect() }
}

fn reported(nodes: &[NodeServers]) -> Reported {
    Reported { nodes: nodes.to_vec(), complete: true }
}

fn names(servers: &[ServerName]) -> Vec<&str> {
    servers.iter().map(ServerName::as_str).collect()
}

#[test]
fn the_error_is_that_of_the_node_with_the_largest() {
    let weights = document(&[("blue", 100), ("green-1", 0), ("green-2", 0)]);
    let nodes =
        reported(&[node("lb-1", &["blue", "green-1", "green-2"]), node("lb-2", &["blue", "green-1", "green-2!"])]);
    let shift = shift(&weights, &nodes, &[to("green-*", 20.0)]).unwrap();
    assert_eq!(shift.worst_node.as_deref(), Some("lb-2"));
    assert!((shift.error - (20.0 - 100.0 / 9.0)).abs() < 1e-9 && !shift.is_close(), "{}", shift.error);
}

#[test]
fn a_pattern_takes_the_servers_that_only_haproxy_has() {
    let weights = document(&[("blue", 18), ("green-1", 1), ("green-2", 1)]);
    let nodes = reported(&[node("lb-1", &["blue", "green-1", "green-2", "green-3", "red"])]);
    let of = |asked: &[(Pattern, Wanted)]| shift(&weights, &nodes, asked).unwrap();
    let same = of(&[to("green-*", 10.0)]);
    assert_eq!(same.weights, document(&[("blue", 27), ("green-1", 1), ("green-2", 1), ("green-3", 1)]));
    assert_eq!((names(&same.added), same.error), (vec!["green-3"], 0.0), "red is on no side");
    let named = of(&[to("green-1", 10.0)]);
    assert!(named.added.is_empty() && named.weights.len() == 3, "{named:?}");
    let step = of(&[(pattern("green-*"), Wanted::Step(10.0))]);
    assert_eq!(step.weights, document(&[("blue", 12), ("green-1", 1), ("green-2", 1), ("green-3", 1)]));
    assert!(matches!(shift(&weights, &nodes, &[to("gray", 10.0)]), Err(Refused::NoServer { .. })));
}

#[test]
fn a_new_server_has_the_part_of_its_configured_weight() {
    let mut haproxy = node("lb-1", &["blue", "green-1", "green-2", "green-3"]);
    haproxy.servers[3].configured = Weight::new(200).unwrap();
    let weights = document(&[("blue", 0), ("green-1", 10), ("green-2", 10)]);
    let shift = |nodes: &Reported| shift(&weights, nodes, &[to("green-*", 100.0)]).unwrap().weights;
    assert_eq!(
        shift(&reported(&[haproxy.clone()])),
        document(&[("blue", 0), ("green-1", 1), ("green-2", 1), ("green-3", 2)])
    );
    for server in &mut haproxy.servers {
        server.configured = Weight::ZERO;
    }
    assert_eq!(shift(&reported(&[haproxy])), document(&[("blue", 0), ("green-1", 1), ("green-2", 1), ("green-3", 1)]));
}

#[test]
fn servers_that_serve_nowhere_do_not_count_and_keep_the_ratio() {
    let weights = document(&[("blue", 17), ("green-1", 1), ("green-2", 1), ("green-3", 1)]);
    // Of green, the second one is in maintenance, and no HAProxy has the third one.
    let mut nodes = reported(&[node("lb-1", &["blue", "green-1", "green-2!"]), node("lb-2", &["blue", "green-1"])]);
    let shifted = shift(&weights, &nodes, &[to("green-*", 10.0)]).unwrap();
    assert_eq!(shifted.weights, document(&[("blue", 9), ("green-1", 1), ("green-2", 1), ("green-3", 1)]));
    assert_eq!(names(&shifted.uncounted), ["green-2", "green-3"]);
    assert!(shifted.is_close() && shifted.error < 1e-9, "{shifted:?}");
    // A HAProxy that was not read may have the third one.
    nodes.complete = false;
    let shifted = shift(&weights, &nodes, &[to("green-*", 10.0)]).unwrap();
    assert_eq!(names(&shifted.uncounted), ["green-2"]);
    // Where none of a side counts, all do.
    let nodes = reported(&[node("lb-1", &["blue", "green-1!", "green-2!", "green-3!"])]);
    let shifted = shift(&weights, &nodes, &[to("green-*", 10.0)]).unwrap();
    assert_eq!(shifted.weights, document(&[("blue", 27), ("green-1", 1), ("green-2", 1), ("green-3", 1)]));
    assert!(shifted.uncounted.is_empty());
    // A share of 0 stays 0 for all.
    let shifted = shift(&weights, &nodes, &[to("green-*", 0.0)]).unwrap();
    assert_eq!(shifted.weights, document(&[("blue", 1), ("green-1", 0), ("green-2", 0), ("green-3", 0)]));
}

#[test]
fn a_split_stays_a_split() {
    let split: Split = serde_json::from_str(r#"{"blue-*":60,"gray":30,"green-*":10}"#).unwrap();
    let shifted = |asked: &[(Pattern, Wanted)]| {
        shift_split(&split, asked)
            .map(|split| serde_json::to_string(&split).unwrap())
            .map_err(|error| error.to_string())
    };
    assert_eq!(shifted(&[to("green-*", 40.0)]).unwrap(), r#"{"blue-*":40,"gray":20,"green-*":40}"#);
    let step = (pattern("green-*"), Wanted::Step(5.0));
    assert_eq!(shifted(&[step]).unwrap(), r#"{"blue-*":56.667,"gray":28.333,"green-*":15}"#);
    assert_eq!(
        shifted(&[to("green", 40.0)]).unwrap_err(),
        "`green` is no pattern of the split; its patterns are blue-*, gray, green-*"
    );
}

#[test]
fn weights_become_a_split_if_each_server_has_a_pattern() {
    let weights = document(&[("blue-1", 1), ("blue-2", 1), ("green-1", 0)]);
    let text =
        |asked: &[(Pattern, Wanted)]| split_from(&weights, asked).map(|split| serde_json::to_string(&split).unwrap());
    assert_eq!(text(&[to("green-*", 10.0), to("blue-*", 90.0)]).unwrap(), r#"{"blue-*":90,"green-*":10}"#);
    assert_eq!(text(&[to("blue-*", 90.0)]).unwrap(), r#"{"blue-*":90,"green-1":10}"#);
    assert_eq!(
        text(&[to("green-*", 10.0)]).unwrap_err().to_string(),
        "a split needs a share for each server; no pattern matches blue-1, blue-2"
    );
}

#[test]
fn a_pattern_is_given_once() {
    let twice = [to("green*", 10.0), to("green*", 90.0)];
    let split =
        Split::new([(pattern("blue*"), 90), (pattern("green*"), 10)].map(|(p, s)| (p, share_of(s))).into()).unwrap();
    assert_eq!(shift_split(&split, &twice).unwrap_err().to_string(), "`green*` is given twice");
    assert_eq!(split_given(&twice).unwrap_err(), Refused::Twice(pattern("green*")));
    let weights = document(&[("blue-1", 1), ("green-1", 1)]);
    assert_eq!(shift(&weights, &Reported::default(), &twice), Err(Refused::Twice(pattern("green*"))));
    // No server has both names yet, but one may come.
    let clash = [to("green-*", 90.0), to("*-2", 10.0)];
    assert_eq!(split_given(&clash).unwrap_err().to_string(), "some names match both `green-*` and `*-2`");
    assert_eq!(split_from(&weights, &clash).unwrap_err(), Refused::Clash(pattern("green-*"), pattern("*-2")));
}

fn share_of(percent: u32) -> PatternShare {
    PatternShare::from_thousandths(percent * 1000).unwrap()
}

#[test]
fn servers_that_serve_beside_the_document_are_an_error_of_the_share() {
    let known = |name: &str, weight: u64, counts| KnownServer {
        name: ServerName::new(name).unwrap(),
        configured: Weight::new(100).unwrap(),
        weight: Weight::new(weight).unwrap(),
        counts,
    };
    let reported = |red| Reported {
        nodes: vec![NodeServers {
            node: "lb1".to_owned(),
            servers: vec![known("blue-1", 90, true), known("green-1", 10, true), red],
        }],
        complete: true,
    };
    let weights = document(&[("blue-1", 90), ("green-1", 10)]);
    let shifted = |red| shift(&weights, &reported(red), &[to("green*", 20.0)]).unwrap();
    let beside = shifted(known("red-1", 100, true));
    // 1 of 4 + 1 + 100.
    assert!((beside.error - (80.0 - 400.0 / 105.0)).abs() < 0.01, "{}", beside.error);
    assert!(!beside.is_close());
    assert_eq!(beside.unnamed, [ServerName::new("red-1").unwrap()]);
    for alone in [known("red-1", 0, true), known("red-1", 100, false)] {
        let alone = shifted(alone);
        assert!(alone.is_close() && alone.unnamed.is_empty());
    }
}
