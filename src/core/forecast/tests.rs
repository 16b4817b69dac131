use proptest::prelude::*;

use super::*;
use crate::desired::Weights;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// An instance with these servers: name, weight, health and marks, as in JSON.
fn instance(algorithm: &str, flags: &str, servers: &str) -> Instance {
    let text = format!(r#"{{"name":"edge","algorithm":"{algorithm}","flags":[{flags}],"servers":[{servers}]}}"#);
    serde_json::from_str(&text).unwrap()
}

fn desired(weights: &[(&str, u64)]) -> Desired {
    let weights: Weights =
        weights.iter().map(|(name, weight)| (ServerName::new(name).unwrap(), Weight::new(*weight).unwrap())).collect();
    Desired { weights, ..Desired::default() }
}

fn forecast(instances: &[(&str, Instance)], weights: &[(&str, u64)]) -> Forecast {
    let nodes: Vec<_> = instances.iter().map(|(name, instance)| (node(name), instance)).collect();
    let pairs = nodes.iter().map(|(node, instance)| (node, *instance));
    Forecast::new(pairs, &|_| Some(desired(weights)), &|_| None)
}

fn after(forecast: &Forecast, name: &str) -> Spread {
    forecast.servers[&ServerName::new(name).unwrap()].after
}

const BOTH: &str = r#"["blue",90,100,"up"],["green",10,100,"up"]"#;

#[test]
fn the_shares_follow_from_what_serves_on_each_haproxy() {
    let green_down = r#"["blue",90,100,"up"],["green",10,100,"down"]"#;
    let instances = [("lb1", instance("roundrobin", "", BOTH)), ("lb2", instance("roundrobin", "", green_down))];
    let forecast = forecast(&instances, &[("blue", 50), ("green", 50)]);
    assert_eq!(after(&forecast, "green"), Spread { low: 0.0, mean: 25.0, high: 50.0 });
    assert_eq!(after(&forecast, "blue"), Spread { low: 50.0, mean: 75.0, high: 100.0 });
    let green = &forecast.servers[&ServerName::new("green").unwrap()];
    assert_eq!((green.usable, green.total), (1, 2));
    assert!(forecast.refusals.is_empty() && forecast.caveats.is_empty());
}

#[test]
fn a_haproxy_that_would_guard_it_keeps_its_shares() {
    let green_down = r#"["blue",100,100,"up"],["green",0,100,"down"]"#;
    let instances = [("lb1", instance("roundrobin", "", BOTH)), ("lb2", instance("roundrobin", "", green_down))];
    let forecast = forecast(&instances, &[("blue", 0), ("green", 100)]);
    let [refusal] = &forecast.refusals[..] else { panic!("{:?}", forecast.refusals) };
    assert_eq!((refusal.node.as_str(), refusal.why), ("lb2", WhyNot::Guarded(Guard::NoUsableServer)));
    assert_eq!(after(&forecast, "green"), Spread { low: 0.0, mean: 50.0, high: 100.0 });
}

#[test]
fn what_cannot_be_set_is_named_with_its_reason() {
    let why = |instance: Instance, weights: &[(&str, u64)]| {
        let forecast = forecast(&[("lb1", instance)], weights);
        forecast.refusals.first().map(|refusal| refusal.why)
    };
    let half = [("blue", 50), ("green", 50)];
    assert_eq!(why(instance("static-rr", "", BOTH), &half), Some(WhyNot::Static));
    assert_eq!(why(instance("static-rr", "", BOTH), &[("blue", 100), ("green", 0)]), None);
    assert_eq!(why(instance("roundrobin", r#""disabled""#, BOTH), &half), Some(WhyNot::Disabled));
    assert_eq!(why(instance("roundrobin", "", BOTH), &[("red", 1)]), Some(WhyNot::Unmatched));
    assert_eq!(why(instance("roundrobin", "", BOTH), &[("blue", 0), ("green", 0)]), Some(Guard::AllZero.into()));
    let down = r#"{"name":"edge","down":"unreachable"}"#;
    let forecast = forecast(&[("lb1", serde_json::from_str(down).unwrap())], &half);
    assert_eq!((forecast.instances, forecast.down[0].why.as_str()), (0, "unreachable"));
}

#[test]
fn what_makes_shares_untrue_is_named() {
    let words = |algorithm: &str, flags: &str, servers: &str| -> Vec<&str> {
        let forecast = forecast(&[("lb1", instance(algorithm, flags, servers))], &[("blue", 50), ("green", 50)]);
        forecast.caveats.iter().map(|caveat| caveat.word).collect()
    };
    assert_eq!(words("leastconn", "", BOTH), ["leastconn"]);
    assert_eq!(words("roundrobin", r#""cookie","stick_table""#, BOTH), ["cookie", "stick_table"]);
    assert_eq!(words("roundrobin", r#""sticky""#, BOTH), ["sticky"]);
    let starting = r#"["blue",90,100,"up"],["green",10,100,"up",["starting"]]"#;
    assert_eq!(words("roundrobin", "", starting), ["slowstart"]);
    let third = r#"["blue",90,100,"up"],["green",10,100,"up"],["red",100,100,"up"]"#;
    let forecast = forecast(&[("lb1", instance("roundrobin", "", third))], &[("blue", 50), ("green", 50)]);
    assert!(forecast.servers[&ServerName::new("red").unwrap()].unnamed);
    assert_eq!(after(&forecast, "green"), Spread { low: 25.0, mean: 25.0, high: 25.0 });
}

proptest! {
    #[test]
    fn the_shares_of_each_haproxy_add_up(weights in prop::collection::vec((0..=256u64, 0..=256u64, any::<bool>()), 1..8)) {
        let servers: Vec<_> = weights.iter().enumerate().map(|(at, (now, _, up))| {
            format!(r#"["s{at}",{now},100,"{}"]"#, if *up { "up" } else { "down" })
        }).collect();
        let names: Vec<_> = (0..weights.len()).map(|at| format!("s{at}")).collect();
        let wanted: Vec<_> = names.iter().zip(&weights).map(|(name, (_, after, _))| (name.as_str(), *after)).collect();
        let forecast = forecast(&[("lb1", instance("roundrobin", "", &servers.join(",")))], &wanted);
        let sum: f64 = forecast.servers.values().map(|server| server.after.mean).sum();
        prop_assert!(sum == 0.0 || (sum - 100.0).abs() < 1e-6, "{sum}");
        // Where nothing refuses, nothing is left without a server.
        prop_assert!(!forecast.refusals.is_empty() || sum > 0.0);
    }
}
