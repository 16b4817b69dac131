use super::*;
use crate::model::ServerName;
use crate::observed::{Health, Server};

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn weights(of: &[(&str, u64)]) -> Weights {
    of.iter().map(|(server, weight)| (name(server), Weight::new(*weight).unwrap())).collect()
}

fn document(of: &[(&str, u64)], back: Option<&str>) -> Desired {
    let back = back.map(|back| serde_json::from_str(back).unwrap());
    Desired { weights: weights(of), back, ..Desired::default() }
}

fn observed(of: &[(&str, u64)]) -> Observed {
    let server = |(server, weight): &(&str, u64)| Server {
        name: name(server),
        initial: Weight::new(*weight).unwrap(),
        id: 1,
        port: None,
        weight: Weight::ZERO,
        health: Health::Up,
        administered: false,
        drain: false,
        slot: false,
        backup: false,
        starting: false,
        owner: None,
    };
    Observed { servers: of.iter().map(server).collect(), ..Observed::default() }
}

#[test]
fn back_gives_0_to_each_server_that_only_the_document_names() {
    let document =
        document(&[("blue", 50), ("green", 50), ("red", 1)], Some(r#"{"weights": {"blue": 100, "green": 0}}"#));
    let back = back(Some(&document), &Observed::default());
    assert_eq!(back, Ok(weights(&[("blue", 100), ("green", 0), ("red", 0)])));
}

#[test]
fn back_in_patterns_is_expanded_over_the_servers_of_this_haproxy() {
    let document =
        document(&[("blue-1", 1), ("blue-2", 1), ("green-1", 1)], Some(r#"{"split": {"blue-*": 90, "green-*": 10}}"#));
    let servers = observed(&[("blue-1", 100), ("blue-2", 100), ("green-1", 100)]);
    assert_eq!(back(Some(&document), &servers), Ok(weights(&[("blue-1", 9), ("blue-2", 9), ("green-1", 2)])));
    assert_eq!(back(Some(&document), &observed(&[("blue-1", 100)])), Err(NoBack::Unfit), "a share without a server");
}

#[test]
fn without_a_document_or_its_field_there_is_no_way_back() {
    let servers = observed(&[("blue", 100)]);
    assert_eq!(back(None, &servers), Err(NoBack::NoDocument));
    assert_eq!(back(Some(&document(&[("blue", 1)], None)), &servers), Err(NoBack::Absent));
    let zero = document(&[("blue", 1)], Some(r#"{"weights": {"blue": 0}}"#));
    assert_eq!(back(Some(&zero), &servers), Err(NoBack::Unfit), "it would stop the backend");
}
