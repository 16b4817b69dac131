//! Readings for the tests of this module, and the flag that follows from the levels.

use super::*;
use crate::{
    fleet::counters::{Health, Mark},
    model::Weight,
};

/// A moment of the wall clock at which a block and a slot begin.
pub(super) const START: Wall = 1_795_737_600_000;

pub(super) fn name(server: &str) -> ServerName {
    ServerName::new(server).unwrap()
}

/// `n` requests that were answered with 200, and `errors` with 500.
pub(super) fn answered(n: u64, errors: u64) -> Levels {
    let answers = [0, n - errors, 0, 0, errors, 0];
    Levels { attempts: n, balanced: n, answers, ..Levels::default() }
}

pub(super) fn server(name: &str, levels: Levels) -> ServerReading {
    ServerReading {
        now: ServerNow {
            name: ServerName::new(name).unwrap(),
            weight: Weight::new(100).unwrap(),
            initial: Weight::new(100).unwrap(),
            health: Health::Up,
            marks: Vec::new(),
        },
        levels,
        rtime: 10,
        rate: 0,
        downs: 0,
        preloaded: false,
    }
}

/// A reading of process 7 with servers blue and green.
pub(super) fn reading(blue: Levels, green: Levels) -> Reading {
    Reading {
        process: ProcessId { pid: 7, since: Timestamp::from_seconds(0) },
        version: "2.6.12".into(),
        protocol: Protocol::Http,
        algorithm: "roundrobin".into(),
        flags: Vec::new(),
        connect_errors: 0,
        unassigned: 0,
        queued: false,
        servers: vec![server("blue", blue), server("green", green)],
    }
}

/// The same in another process.
pub(super) fn in_process(pid: u32, reading: Reading) -> Reading {
    Reading { process: ProcessId { pid, since: Timestamp::from_seconds(60) }, ..reading }
}

#[test]
fn a_backend_is_sticky_if_requests_pass_the_balancing_unexplained() {
    let past = Levels { balanced: 80, ..answered(100, 0) };
    let sticky = |reading: Reading| reading.sticky();
    assert!(sticky(reading(past, answered(100, 0))));
    assert!(!sticky(reading(answered(100, 0), answered(100, 0))));
    for flag in [Flag::Cookie, Flag::StickTable] {
        assert!(!sticky(Reading { flags: vec![flag], ..reading(past, past) }), "{flag:?} explains it");
    }
    assert!(!sticky(Reading { queued: true, ..reading(past, past) }), "the queue explains it");
    let retried = Levels { attempts: 103, balanced: 100, retries: 3, ..Levels::default() };
    assert!(!sticky(reading(retried, retried)), "repeated attempts are not balanced");
    let few = Levels { balanced: 99_999, ..answered(100_000, 0) };
    assert!(!sticky(reading(few, few)), "a few are no rule");
}

#[test]
fn a_mark_keeps_its_place_in_a_reading() {
    let mut down = server("blue", Levels::default());
    down.now.marks.push(Mark::Drain);
    assert!(!down.now.usable());
}
