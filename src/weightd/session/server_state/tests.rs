use weightd_core::observed::SetError;

use super::super::tests::rig::{Model, Rig, name};

/// A HAProxy with these servers in the backends `app` and `other`.
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

/// Returns the rows as `backend server weight initial`; `None` if there is no content.
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
fn the_file_has_the_accepted_weights_of_named_servers_that_exist() {
    let mut rig = rig(&[("blue", 100), ("green", 0), ("other", 3)]);
    rig.publish(&[("app", r#"{"weights":{"blue":90,"green":10,"red":5}}"#)]);
    assert_eq!(rows(&rig), None, "nothing is known before the first reading");
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["app blue 90 7", "app green 10 7"]);
    // A new process changes nothing until it was read.
    rig.haproxy.reload();
    rig.session.read_all_now();
    while rig.session.is_settled() {
        rig.step();
    }
    assert_eq!(rows(&rig), None);
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["app blue 90 7", "app green 10 7"]);
    // A removed key is not an instruction.
    rig.publish(&[]);
    assert_eq!(rows(&rig).unwrap().len(), 2);
}

#[test]
fn a_guarded_change_is_not_in_the_file() {
    let mut rig = rig(&[("blue", 100), ("green", 0)]);
    rig.haproxy.server("app", "green").op_state = 0;
    rig.publish(&[("app", r#"{"weights":{"blue":100,"green":0}}"#)]);
    rig.run();
    rig.publish(&[("app", r#"{"weights":{"blue":0,"green":100}}"#)]);
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["app blue 100 7", "app green 0 7"]);
}

#[test]
fn the_file_has_the_weights_of_haproxy_while_weightd_must_not_set_them() {
    const SHIFT: [(&str, &str); 1] = [("app", r#"{"weights":{"blue":0,"green":100}}"#)];
    let servers = [("blue", 100), ("green", 3)];

    let mut paused = rig(&servers);
    paused.pause(None, 60);
    paused.publish(&SHIFT);
    paused.run();
    assert_eq!(rows(&paused).unwrap(), none(), "no document was accepted yet");

    let mut paused = rig(&servers);
    paused.publish(&SHIFT);
    paused.run();
    assert_eq!(rows(&paused).unwrap(), ["app blue 0 7", "app green 100 7"]);
    paused.pause(None, 60);
    paused.manual_edit("blue", 100);
    paused.manual_edit("green", 3);
    paused.pass_seconds(2);
    assert_eq!(rows(&paused).unwrap(), ["app blue 100 7", "app green 3 7"], "a person set it");

    let mut rejected = rig(&servers);
    for server in ["blue", "green"] {
        rejected.haproxy.server("app", server).quirk = Some(("Proxy is disabled.\n", false));
    }
    rejected.publish(&SHIFT);
    rejected.run();
    assert_eq!(rejected.session.backends[&name("app")].set_error, Some(SetError::Disabled));
    assert_eq!(rows(&rejected).unwrap(), ["app blue 100 7", "app green 3 7"], "HAProxy rejects it");

    let mut unusable = rig(&servers);
    unusable.publish(&SHIFT);
    unusable.run();
    for (server, weight) in [("blue", 100), ("green", 3)] {
        unusable.manual_edit(server, weight);
        unusable.haproxy.server("app", server).op_state = 0;
    }
    unusable.pass_seconds(2);
    let lowered = rows(&unusable).unwrap();
    assert!(lowered.contains(&"app blue 100 7".to_owned()), "nothing is lowered while nothing is usable: {lowered:?}");
}

#[test]
fn a_release_removes_the_rows_and_a_lost_state_writes_no_file() {
    let mut rig = rig(&[("blue", 100)]);
    rig.publish(&[]);
    rig.run();
    assert_eq!(rows(&rig), None, "no document was ever read: the existing file must stay");
    rig.publish(&[("app", r#"{"weights":{"blue":90}}"#), ("other", r#"{"weights":{"blue":1}}"#)]);
    rig.run();
    rig.publish(&[("app", r#"{"release":true}"#), ("other", r#"{"weights":{"blue":1}}"#)]);
    rig.run();
    assert_eq!(rows(&rig).unwrap(), ["other blue 1 7"]);
    rig.publish(&[("app", r#"{"release":true}"#), ("other", r#"{"release":true}"#)]);
    assert_eq!(rows(&rig).unwrap(), none());
}
