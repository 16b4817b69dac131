use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weightd_core::{
    desired::{Decoder, Entry},
    model::Moment,
    observed::{Refusal, Roles},
    pauses::{Pause, Scope},
    stored::Stored,
};

use super::*;
use crate::haproxy::Info;

/// A reconciler, told by the test what Consul and HAProxy say.
struct World {
    reconciler: Reconciler,
    decoder: Decoder,
    index: u64,
}

/// A server as HAProxy shows it: name, `srv_op_state`, weight.
type Shown<'a> = (&'a str, u8, u16);

impl World {
    fn new() -> Self {
        let mut world =
            Self { reconciler: Reconciler::new(Stored::default(), false), decoder: Decoder::new("w/"), index: 0 };
        world.process(1);
        world
    }

    fn process(&mut self, pid: u32) {
        self.reconciler.process(&Info { version: "3".into(), pid, uptime: 1, stopping: false, processes: 1 });
    }

    /// Consul says this and nothing else.
    fn say(&mut self, documents: &[(&str, &str)]) {
        self.index += 1;
        let entry = |(backend, document): &(&str, &str)| Entry {
            key: format!("w/{backend}").into(),
            value: Some(STANDARD.encode(document).into()),
            modify_index: self.index,
        };
        let entries: Vec<_> = documents.iter().map(entry).collect();
        self.reconciler.take(&self.decoder.decode(&entries).unwrap());
    }

    /// HAProxy is looked at, and has these servers in each backend that is due. What is sent is not shown yet.
    fn look(&mut self, servers: &[Shown<'_>]) {
        let mut batch = self.reconciler.next_unseen(Moment::default());
        if batch.is_empty() {
            batch = self.reconciler.next_batch();
        }
        for backend in &batch {
            let mut frame = "1\n# be_id be_name srv_id srv_name srv_op_state srv_admin_state srv_uweight srv_iweight \
                             srv_check_status srv_check_state srv_agent_state srv_port\n"
                .to_owned();
            for (number, (server, op_state, weight)) in servers.iter().enumerate() {
                let _ = writeln!(frame, "3 {backend} {number} {server} {op_state} 0 {weight} 7 6 6 0 {}", 80 + number);
            }
            self.reconciler.observe(backend, &frame, Moment::default());
            self.reconciler.take_roles(backend, Some(Roles::default()));
        }
        self.reconciler.decide(&batch, Moment::default());
    }

    /// The rows, as `backend server weight initial port`.
    fn rows(&self) -> Option<Vec<String>> {
        let row = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            [fields[1], fields[3], fields[7], fields[8], fields[18]].join(" ")
        };
        Some(self.reconciler.server_state()?.lines().skip(2).map(row).collect())
    }
}

const UP: u8 = 2;
const DOWN: u8 = 0;

#[test]
fn it_has_what_is_accepted_of_the_servers_that_are_named_and_there() {
    let mut world = World::new();
    world.say(&[("app", r#"{"weights":{"blue":90,"green":10,"red":5}}"#)]);
    assert_eq!(world.rows(), None, "nothing is known before the first look");
    world.look(&[("blue", UP, 100), ("green", UP, 0), ("other", UP, 3)]);
    assert_eq!(world.rows().unwrap(), ["app blue 90 7 80", "app green 10 7 81"]);
    // In a new process it stays as it was until that was looked at.
    world.process(2);
    assert_eq!(world.rows(), None);
    world.look(&[("blue", UP, 0), ("green", UP, 100)]);
    assert_eq!(world.rows().unwrap(), ["app blue 90 7 80", "app green 10 7 81"]);
    // A key that vanished is no instruction.
    world.say(&[]);
    assert_eq!(world.rows().unwrap().len(), 2);
}

#[test]
fn what_the_guards_keep_back_is_not_in_it() {
    let mut world = World::new();
    world.say(&[("app", r#"{"weights":{"blue":100,"green":0}}"#)]);
    world.look(&[("blue", UP, 100), ("green", DOWN, 0)]);
    world.say(&[("app", r#"{"weights":{"blue":0,"green":100}}"#)]);
    world.look(&[("blue", UP, 100), ("green", DOWN, 0)]);
    assert_eq!(world.rows().unwrap(), ["app blue 100 7 80", "app green 0 7 81"]);
}

#[test]
fn where_something_speaks_against_setting_it_has_what_haproxy_has() {
    let expected = ["app blue 100 7 80", "app green 3 7 81"];
    let shown = [("blue", UP, 100), ("green", UP, 3)];
    let shift = [("app", r#"{"weights":{"blue":0,"green":100}}"#)];

    let mut world = World::new();
    let until = Moment::default() + Duration::from_secs(60);
    world.reconciler.pause(&Scope::All, Pause { until, ..Pause::default() }, Moment::default());
    world.say(&shift);
    world.look(&shown);
    assert_eq!(world.rows().unwrap(), Vec::<String>::new(), "nothing was ever accepted here");

    let mut world = World::new();
    world.say(&shift);
    world.look(&shown);
    assert_ne!(world.rows().unwrap(), expected);
    world.reconciler.pause(&Scope::All, Pause { until, ..Pause::default() }, Moment::default());
    assert_eq!(world.rows().unwrap(), expected, "a person set it by hand");

    let mut world = World::new();
    world.say(&shift);
    world.look(&shown);
    let backend = BackendName::new("app").unwrap();
    world.reconciler.backends.get_mut(&backend).unwrap().refusal = Some(Refusal::StaticAlgorithm);
    assert_eq!(world.rows().unwrap(), expected, "HAProxy refuses it");

    let mut world = World::new();
    world.say(&shift);
    world.look(&shown);
    world.reconciler.resync();
    world.look(&[("blue", DOWN, 100), ("green", DOWN, 3)]);
    assert_eq!(world.rows().unwrap(), expected, "nothing is lowered while nothing is usable");
}

#[test]
fn what_is_released_leaves_it_and_a_memory_that_was_lost_writes_nothing() {
    let mut world = World::new();
    world.say(&[]);
    assert_eq!(world.rows(), None, "nobody ever said anything: what lies there may be all there is");
    world.say(&[("app", r#"{"weights":{"blue":90}}"#), ("other", r#"{"weights":{"blue":1}}"#)]);
    world.look(&[("blue", UP, 100)]);
    world.say(&[("app", r#"{"release":true}"#), ("other", r#"{"weights":{"blue":1}}"#)]);
    world.look(&[("blue", UP, 90)]);
    assert_eq!(world.rows().unwrap(), ["other blue 1 7 80"]);
    world.say(&[("app", r#"{"release":true}"#), ("other", r#"{"release":true}"#)]);
    assert_eq!(world.rows().unwrap(), Vec::<String>::new());
}
