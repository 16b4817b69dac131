use std::time::Duration;

use weightd_core::{
    desired::Weights,
    model::{ServerName, Weight},
    overrides::Override,
};

use super::*;
use crate::weightd::session::tests::rig::{Model, Rig, document, name};

const SERVERS: [(&str, u16); 2] = [("blue", 100), ("green", 100)];

/// A HAProxy with `app` as its document says.
fn settled() -> Rig {
    let rig = Rig::settled(Model::with("app", "roundrobin", &SERVERS), &[("app", &weights(90, 10))]);
    assert_eq!(said(&rig), "1 set");
    rig
}

fn weights(blue: u16, green: u16) -> String {
    document(&[("blue", blue), ("green", green)])
}

/// What is said of the only document.
fn said(rig: &Rig) -> String {
    let all = of(&rig.session);
    let [(_, index, stand)] = &all[..] else { panic!("{all:?}") };
    match stand {
        None => format!("{index} unknown"),
        Some(Stand::Set) => format!("{index} set"),
        Some(Stand::Lacks) => format!("{index} lacks"),
        Some(Stand::Not(word)) => format!("{index} {word}"),
    }
}

/// What was said before and after each step until the session waits.
fn said_meanwhile(rig: &mut Rig) -> Vec<String> {
    let mut all = vec![said(rig)];
    loop {
        // A decision without a command belongs to the step that waits.
        let until = rig.step();
        all.push(said(rig));
        if until.is_some_and(|until| until > rig.now) {
            break;
        }
    }
    all.dedup();
    all
}

fn down(rig: &mut Rig, server: &str, is_down: bool) {
    rig.haproxy.server("app", server).op_state = if is_down { 0 } else { 2 };
}

#[test]
fn nothing_is_said_of_a_document_before_haproxy_answered() {
    // Without a 0 it is sent at once; with one, HAProxy is read first; the same weights need no command.
    for document in [weights(80, 20), weights(0, 100), weights(90, 10)] {
        let mut rig = settled();
        rig.publish(&[("app", &document)]);
        assert_eq!(said_meanwhile(&mut rig), ["2 unknown", "2 set"], "{document}");
    }
}

#[test]
fn a_document_that_becomes_guarded_was_never_set() {
    let mut rig = settled();
    down(&mut rig, "green", true);
    rig.publish(&[("app", &weights(0, 100))]);
    assert_eq!(said_meanwhile(&mut rig), ["2 unknown", "2 guarded"]);
    // What was said of the guarded document says nothing of the next one.
    rig.publish(&[("app", &weights(70, 30))]);
    assert_eq!(said_meanwhile(&mut rig), ["3 unknown", "3 set"]);
}

#[test]
fn an_algorithm_that_refused_a_document_may_have_the_next_one() {
    let mut rig = Rig::new(Model::with("app", "static-rr", &SERVERS));
    rig.publish(&[("app", &weights(90, 10))]);
    rig.run();
    assert_eq!(said(&rig), "1 unsupported");
    rig.publish(&[("app", &weights(100, 100))]);
    assert_eq!(said_meanwhile(&mut rig), ["2 unknown", "2 set"]);
}

#[test]
fn a_backend_that_haproxy_lacks_is_read_for_each_document() {
    let mut rig = Rig::settled(Model::with("other", "roundrobin", &SERVERS), &[("app", &weights(90, 10))]);
    assert_eq!(said(&rig), "1 lacks");
    rig.publish(&[("app", &weights(80, 20))]);
    assert_eq!(said_meanwhile(&mut rig), ["2 unknown", "2 lacks"]);
}

#[test]
fn what_was_set_is_withdrawn_while_the_weights_differ() {
    // Nothing serves, and a reload brings back the configured weights: they are withheld.
    let mut rig = settled();
    rig.publish(&[("app", &weights(0, 100))]);
    rig.run();
    assert_eq!(said(&rig), "2 set");
    down(&mut rig, "blue", true);
    down(&mut rig, "green", true);
    rig.pass_seconds(2);
    assert_eq!(said(&rig), "2 set", "the weights are as desired; that no server answers is another fault");
    rig.haproxy.reload();
    rig.pass_seconds(3);
    assert_eq!((rig.weights(), said(&rig)), (vec![100, 100], "2 unknown".to_owned()));
    down(&mut rig, "green", false);
    rig.pass_seconds(3);
    assert_eq!((rig.weights(), said(&rig)), (vec![0, 100], "2 set".to_owned()));

    // An answer that cannot be parsed.
    let mut rig = settled();
    rig.haproxy.columns = rig.haproxy.columns.replace("srv_uweight", "srv_x");
    rig.pass_seconds(2);
    assert_eq!(said(&rig), "1 unknown");

    // HAProxy refuses the weight.
    let mut rig = settled();
    rig.haproxy.server("app", "blue").quirk = Some(("Backend is disabled.\n", false));
    rig.manual_edit("blue", 5);
    rig.pass_seconds(2);
    assert_eq!(said(&rig), "1 unknown");
}

#[test]
fn an_override_stands_in_front_of_the_document_also_when_no_server_is_usable() {
    let mut rig = settled();
    let weight = |(server, weight)| (ServerName::new(server).unwrap(), Weight::new(weight).unwrap());
    let over = Override {
        weights: [("blue", 90), ("green", 20)].into_iter().map(weight).collect::<Weights>(),
        over: 1,
        until: rig.now + Duration::from_secs(60),
        ..Override::default()
    };
    assert!(rig.session.start_override(&name("app"), over, rig.now));
    rig.run();
    assert_eq!(said(&rig), "1 overridden");
    down(&mut rig, "blue", true);
    down(&mut rig, "green", true);
    rig.pass_seconds(2);
    assert_eq!(said(&rig), "1 overridden");
    rig.publish(&[("app", &weights(90, 20))]);
    rig.run();
    assert_eq!(said(&rig), "2 set", "a newer document ends it");
}

#[test]
fn a_release_is_set_only_where_haproxy_has_the_backend() {
    let release = r#"{"release": true}"#;
    let mut rig = Rig::new(Model::with("app", "roundrobin", &SERVERS));
    rig.publish(&[("tpyo", release)]);
    assert_eq!(said_meanwhile(&mut rig), ["1 unknown", "1 lacks"]);

    let mut rig = settled();
    rig.publish(&[("app", release)]);
    assert_eq!(said_meanwhile(&mut rig), ["2 unknown", "2 set"]);
    assert!(rig.session.converged() && rig.backend("app").observed.servers.is_empty(), "no weights out of date");
    rig.haproxy.lines.clear();
    rig.pass_seconds(30);
    let read = |rig: &Rig| rig.haproxy.lines.iter().any(|line| line.contains("show servers state"));
    assert!(!read(&rig), "it is read once in each process: {:?}", rig.haproxy.lines);
    rig.haproxy.reload();
    rig.pass_seconds(3);
    assert!(read(&rig));
    assert_eq!(said(&rig), "2 set");
    // The document that manages it again.
    rig.publish(&[("app", &weights(1, 2))]);
    assert_eq!(said_meanwhile(&mut rig), ["3 unknown", "3 set"]);
    assert_eq!(rig.weights(), [1, 2]);
}
