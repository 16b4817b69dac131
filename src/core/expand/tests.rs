use proptest::prelude::*;

use super::*;
use crate::observed::Health;

pub(crate) fn split(text: &str) -> Split {
    serde_json::from_str(text).expect(text)
}

/// A server that is up and not in maintenance, with weight and configured weight 100.
pub(crate) fn server(name: &str) -> Server {
    Server {
        name: ServerName::new(name).unwrap(),
        id: 1,
        port: Some(80),
        weight: Weight::new(100).unwrap(),
        initial: Weight::new(100).unwrap(),
        health: Health::Up,
        administered: false,
        drain: false,
        slot: false,
        backup: false,
        starting: false,
        owner: None,
    }
}

pub(crate) fn observed(servers: impl IntoIterator<Item = Server>) -> Observed {
    Observed { servers: servers.into_iter().collect(), known_dynamic: true }
}

fn shown(text: &str, servers: impl IntoIterator<Item = Server>) -> String {
    let expansion = expand(&split(text), &observed(servers)).unwrap();
    expansion.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

const SPLIT: &str = r#"{"blue-*":90,"green-*":10}"#;

#[test]
fn the_share_is_that_of_the_group_whatever_its_number_of_servers() {
    assert_eq!(shown(SPLIT, ["blue-1", "green-1"].map(server)), "blue-1=9 green-1=1");
    assert_eq!(shown(SPLIT, ["blue-1", "green-1", "green-2"].map(server)), "blue-1=18 green-1=1 green-2=1");
    assert_eq!(shown(SPLIT, ["blue-1", "blue-2", "green-1", "x"].map(server)), "blue-1=9 blue-2=9 green-1=2");
}

#[test]
fn within_a_group_the_configured_weights_give_the_ratio() {
    let big = Server { initial: Weight::new(200).unwrap(), ..server("blue-1") };
    assert_eq!(shown(SPLIT, [big, server("blue-2"), server("green-1")]), "blue-1=6 blue-2=3 green-1=1");
    let zero = |name| Server { initial: Weight::ZERO, ..server(name) };
    assert_eq!(shown(SPLIT, [zero("blue-1"), zero("blue-2"), server("green-1")]), "blue-1=9 blue-2=9 green-1=2");
    assert_eq!(shown(SPLIT, [zero("blue-1"), server("blue-2"), server("green-1")]), "blue-1=0 blue-2=9 green-1=1");
}

#[test]
fn what_gets_no_traffic_does_not_count_but_has_the_weight_for_when_it_comes_up() {
    let slot = Server { slot: true, administered: true, ..server("green-2") };
    let maintenance = Server { administered: true, initial: Weight::new(200).unwrap(), ..server("blue-2") };
    let backup = Server { backup: true, ..server("blue-9") };
    let servers = [server("blue-1"), maintenance, backup, server("green-1"), slot];
    assert_eq!(shown(SPLIT, servers.clone()), "blue-1=9 blue-2=18 blue-9=9 green-1=1 green-2=1");
    let off = r#"{"blue-*":100,"green-*":0}"#;
    assert_eq!(shown(off, servers), "blue-1=1 blue-2=2 blue-9=1 green-1=0 green-2=0");
}

#[test]
fn a_group_without_traffic_keeps_the_weights_of_its_share() {
    let servers =
        ["blue-1", "green-1", "green-2"].map(|name| Server { administered: name != "blue-1", ..server(name) });
    assert_eq!(shown(SPLIT, servers), "blue-1=18 green-1=1 green-2=1");
}

#[test]
fn what_is_down_counts() {
    let down = Server { health: Health::Down, ..server("blue-2") };
    assert_eq!(shown(SPLIT, [server("blue-1"), down, server("green-1")]), "blue-1=9 blue-2=9 green-1=2");
}

#[test]
fn a_split_that_does_not_fit_names_patterns_and_servers() {
    let misfit =
        |text: &str| expand(&split(text), &observed(["blue-1", "green-1"].map(server))).unwrap_err().to_string();
    assert_eq!(
        misfit(r#"{"blue*":90,"*-1":10}"#),
        "server `blue-1` matches two patterns of the split: `*-1` and `blue*`"
    );
    assert_eq!(misfit(r#"{"blue-*":90,"gray-*":10}"#), "this HAProxy has no server for `gray-*`");
    assert_eq!(shown(r#"{"blue-*":100,"gray-*":0}"#, [server("blue-1")]), "blue-1=1");
}

proptest! {
    #[test]
    fn every_matching_server_gets_a_weight_and_a_group_of_0_gets_only_0(
        blue in prop::collection::vec((0..=256_u64, any::<bool>(), any::<bool>()), 1..8),
        green in prop::collection::vec((0..=256_u64, any::<bool>(), any::<bool>()), 1..8),
        percent in 0..=100_u32,
    ) {
        let servers = |side: &str, of: &[(u64, bool, bool)]| of.iter().enumerate().map(|(n, (weight, away, backup))| Server {
            initial: Weight::new(*weight).unwrap(),
            administered: *away,
            backup: *backup,
            ..server(&format!("{side}-{n}"))
        }).collect::<Vec<_>>();
        let all: Vec<_> = [servers("blue", &blue), servers("green", &green)].concat();
        let observed = observed(all);
        let text = format!(r#"{{"blue-*":{},"green-*":{percent}}}"#, 100 - percent);
        let expansion = expand(&split(&text), &observed).unwrap();
        prop_assert_eq!(expansion.weights.len(), blue.len() + green.len());
        for (side, share) in [("blue", 100 - percent), ("green", percent)] {
            let mut own = expansion.weights.iter().filter(|(name, _)| name.as_str().starts_with(side));
            prop_assert_eq!(own.any(|(_, weight)| !weight.is_zero()), share > 0);
        }
    }
}
