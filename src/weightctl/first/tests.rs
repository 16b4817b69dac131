use std::collections::BTreeMap;

use weightd_core::fleet::counters::{Counted, Instance};

use super::*;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// Nodes with one HAProxy each, which has these servers.
fn answers(nodes: &[(&str, &str)]) -> Answers {
    let backend = BackendName::new("app1").unwrap();
    let instance = |rest: &str| -> Instance { serde_json::from_str(&format!(r#"{{"name":"edge",{rest}}}"#)).unwrap() };
    let counted = |rest: &str| Counted { backend: backend.clone(), instances: vec![instance(rest)] };
    let has: BTreeMap<_, _> = nodes.iter().map(|(name, rest)| (node(name), counted(rest))).collect();
    Answers { asked: has.keys().cloned().collect(), has, ..Answers::default() }
}

fn weights(answers: &Answers) -> Result<String, String> {
    let servers = [ServerName::new("named").unwrap()].into();
    agreed(answers, &Asked::default(), &servers).map(|weights| weights_summary(&weights))
}

const SERVERS: &str = r#""servers":[["blue",100,100,"up"],["green",0,100,"up"],["slot1",100,100,"up",["slot"]],["named",7,9,"down",["maint"]]]"#;

#[test]
fn what_all_nodes_have_is_the_state_before_the_first_document() {
    // A slot gets no traffic; a server of the document counts in any case.
    let mut both = answers(&[("lb1", SERVERS), ("lb2", SERVERS)]);
    assert_eq!(weights(&both).as_deref(), Ok("blue=100 green=0 named=7"));
    // A node without the backend has nothing to say.
    both.asked.insert(node("lb3"));
    both.lacks.insert(node("lb3"));
    assert!(weights(&both).is_ok());
}

#[test]
fn nodes_that_differ_or_do_not_say_record_nothing() {
    let other = r#""servers":[["blue",100,100,"up"],["green",1,100,"up"],["named",7,9,"up"]]"#;
    let differ = answers(&[("lb1", SERVERS), ("lb2", other)]);
    assert_eq!(weights(&differ).unwrap_err(), "the nodes have different weights");
    let mut silent = answers(&[("lb1", SERVERS)]);
    silent.asked.insert(node("lb9"));
    assert_eq!(weights(&silent).unwrap_err(), "these nodes do not say what they have: lb9");
    let down = answers(&[("lb1", r#""down":"unreachable""#)]);
    assert_eq!(weights(&down).unwrap_err(), "a HAProxy of lb1 cannot be read");
    let zero = answers(&[("lb1", r#""servers":[["blue",0,100,"up"]]"#)]);
    assert_eq!(weights(&zero).unwrap_err(), "every server has weight 0");
    assert_eq!(weights(&answers(&[])).unwrap_err(), "no HAProxy of any node has it");
}

#[test]
fn a_node_that_does_not_report_is_one_that_does_not_say_what_it_has() {
    let all = answers(&[("lb1", SERVERS)]);
    let none = Nodes { index: 1, reports: BTreeMap::new() };
    let why = |inventory| {
        let asked = Asked::of(&none, inventory);
        agreed(&all, &asked, &BTreeSet::new()).map(|weights| weights_summary(&weights))
    };
    assert_eq!(why(Ok(Some(BTreeSet::new()))).as_deref(), Ok("blue=100 green=0"));
    let missing = Ok(Some([node("lb9")].into()));
    assert_eq!(why(missing).unwrap_err(), "these nodes do not say what they have: lb9");
    let hidden = "which nodes are missing is not known: the token may not read the inventory";
    assert_eq!(why(Ok(None)).unwrap_err(), hidden);
    assert_eq!(why(Err("no leader".to_owned())).unwrap_err(), "which nodes are missing is not known: no leader");
}
