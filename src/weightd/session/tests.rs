//! Tests of the whole session with a model of HAProxy.

use std::time::Duration;

use self::rig::{Model, Rig, document};
use super::Timing;

pub(in crate::weightd) mod rig;

#[test]
fn a_shorter_resync_applies_at_once() {
    // With this many servers, the cost limit makes a pass longer than the new resync.
    let servers: Vec<_> = (0..800).map(|n| (format!("s{n}"), 1)).collect();
    let servers: Vec<_> = servers.iter().map(|(server, weight)| (server.as_str(), *weight)).collect();
    let names: Vec<_> = (0..15).map(|n| format!("app{n}")).collect();
    let haproxy = names.iter().fold(Model::default(), |model, name| model.and(name, "roundrobin", &servers));
    let keys: Vec<_> = names.iter().map(|name| (name.as_str(), document(&servers))).collect();
    let keys: Vec<_> = keys.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut rig = Rig::settled(haproxy, &keys);
    let readings = |rig: &mut Rig, time: Duration| {
        rig.haproxy.lines.clear();
        rig.pass(time);
        rig.haproxy.lines.iter().map(|line| line.matches("show servers state").count()).sum::<usize>()
    };
    // 12,000 servers take 3.5 s.
    let by_cost = readings(&mut rig, Duration::from_secs(8));
    assert!((28..=48).contains(&by_cost), "{by_cost} readings of 15 backends in 8 s");
    let second = Duration::from_secs(1);
    rig.session.set_timing(Timing { resync: second, process_poll: second }, rig.now);
    let by_resync = readings(&mut rig, second * 8);
    assert!((100..=150).contains(&by_resync), "{by_resync} readings of 15 backends in 8 s");
}

#[test]
fn a_reading_takes_the_place_of_a_poll_for_the_process() {
    let haproxy = Model::default().and("app", "roundrobin", &[("blue", 1)]);
    let mut rig = Rig::settled(haproxy, &[("app", &document(&[("blue", 1)]))]);
    let millis = Duration::from_millis;
    rig.session.set_timing(Timing { resync: Duration::from_secs(10), process_poll: millis(400) }, rig.now);
    rig.haproxy.lines.clear();
    rig.pass(Duration::from_secs(20));
    let polls = rig.haproxy.lines.iter().filter(|line| line.trim() == "show info").count();
    let all = rig.haproxy.lines.len();
    // A pass a second, and after it two polls before the next one.
    assert!((18..=24).contains(&(all - polls)), "{} readings in 20 s", all - polls);
    assert!((34..=46).contains(&polls), "{polls} polls in 20 s");
}
