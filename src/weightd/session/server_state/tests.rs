use weightd_core::observed::SetError;

use super::super::tests::rig::{Model, Rig, name};

/// A HAProxy whose backends `app` and `other` have these servers.
fn haproxy(servers: &[(&str, u16)]) -> Model {
    let mut model = Model::with("app", "roundrobin", servers).and("other", "roundrobin", servers);
    for backend in ["app", "other"] {
        for (server, _) in servers {
            model.server(backend, server).initial = 7;
        }
    }
    model
}

fn rig(servers: &[(&str, u16)]) -> Rig {
    Rig::new(haproxy(servers))
}

/// The rows, as `backend server weight initial`.
fn rows(rig: &Rig) -> Option<Vec<String>> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        [fields[1], fields[3], fields[7], fields[8]].join(" ")
    };
    Some(rig.session.server_state()?.lines().skip(2).map(row).collect())
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn it_has_what_is_accepted_of_the_servers_that_are_named_and_exist() {
    let mut rig = rig(&[("blue", 100), ("green", 0), ("other", 3)]);
    rig.say(&[("app", r#"{"weights":{"blue":90,"green":10,"red":5}}"#)]);
    assert_eq!(rows(&rig), None, "nothing is known before the first reading");
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["app blue 90 7", "app green 10 7"]);
    // In a new process it stays as it was until that was read.
    rig.haproxy.reload();
    rig.session.read_all_now();
    while rig.session.is_settled() {
        rig.step();
    }
    assert_eq!(rows(&rig), None);
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["app blue 90 7", "app green 10 7"]);
    // A key that vanished is no instruction.
    rig.say(&[]);
    assert_eq!(rows(&rig).unwrap().len(), 2);
}

#[test]
fn what_the_guards_keep_back_is_not_in_it() {
    let mut rig = rig(&[("blue", 100), ("green", 0)]);
    rig.haproxy.server("app", "green").op_state = 0;
    rig.say(&[("app", r#"{"weights":{"blue":100,"green":0}}"#)]);
    rig.run();
    rig.say(&[("app", r#"{"weights":{"blue":0,"green":100}}"#)]);
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["app blue 100 7", "app green 0 7"]);
}

#[test]
fn where_something_forbids_setting_it_has_what_haproxy_has() {
    const SHIFT: [(&str, &str); 1] = [("app", r#"{"weights":{"blue":0,"green":100}}"#)];
    let servers = [("blue", 100), ("green", 3)];

    let mut paused = rig(&servers);
    paused.pause(None, 60);
    paused.say(&SHIFT);
    paused.run();
    assert_eq!(rows(&paused).unwrap(), none(), "nothing was ever accepted here");

    let mut paused = rig(&servers);
    paused.say(&SHIFT);
    paused.run();
    assert_eq!(rows(&paused).unwrap(), ["app blue 0 7", "app green 100 7"]);
    paused.pause(None, 60);
    paused.hand_edit("blue", 100);
    paused.hand_edit("green", 3);
    paused.pass_seconds(2);
    assert_eq!(rows(&paused).unwrap(), ["app blue 100 7", "app green 3 7"], "a person set it");

    let mut rejected = rig(&servers);
    for server in ["blue", "green"] {
        rejected.haproxy.server("app", server).quirk = Some(("Proxy is disabled.\n", false));
    }
    rejected.say(&SHIFT);
    rejected.run();
    assert_eq!(rejected.session.backends[&name("app")].set_error, Some(SetError::Disabled));
    assert_eq!(rows(&rejected).unwrap(), ["app blue 100 7", "app green 3 7"], "HAProxy rejects it");

    let mut unusable = rig(&servers);
    unusable.say(&SHIFT);
    unusable.run();
    for (server, weight) in [("blue", 100), ("green", 3)] {
        unusable.hand_edit(server, weight);
        unusable.haproxy.server("app", server).op_state = 0;
    }
    unusable.pass_seconds(2);
    let lowered = rows(&unusable).unwrap();
    assert!(lowered.contains(&"app blue 100 7".to_owned()), "nothing is lowered while nothing is usable: {lowered:?}");
}

#[test]
fn what_is_released_leaves_it_and_a_memory_that_was_lost_writes_nothing() {
    let mut rig = rig(&[("blue", 100)]);
    rig.say(&[]);
    rig.run();
    assert_eq!(rows(&rig), None, "Consul never said anything: the file that exists may be all there is");
    rig.say(&[("app", r#"{"weights":{"blue":90}}"#), ("other", r#"{"weights":{"blue":1}}"#)]);
    rig.run();
    rig.say(&[("app", r#"{"release":true}"#), ("other", r#"{"weights":{"blue":1}}"#)]);
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["other blue 1 7"]);
    rig.say(&[("app", r#"{"release":true}"#), ("other", r#"{"release":true}"#)]);
    assert_eq!(rows(&rig).unwrap(), none());
}
