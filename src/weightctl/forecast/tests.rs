use std::collections::BTreeMap;

use weightd_core::fleet::counters::{Counted, Instance};

use super::*;
use crate::documents::{
    edit::{Edit, Intent, set},
    stored::tests::stored,
};

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn backend() -> BackendName {
    BackendName::new("app1").unwrap()
}

/// Nodes with one HAProxy each, and these servers.
fn answers(nodes: &[(&str, &str)]) -> Answers {
    let instance = |servers: &str| -> Instance {
        serde_json::from_str(&format!(r#"{{"name":"edge","algorithm":"roundrobin",{servers}}}"#)).unwrap()
    };
    let counted = |servers: &str| Counted { backend: backend(), instances: vec![instance(servers)] };
    Answers {
        asked: nodes.iter().map(|(name, _)| node(name)).collect(),
        has: nodes.iter().map(|(name, servers)| (node(name), counted(servers))).collect(),
        ..Answers::default()
    }
}

fn edit(weights: &[(&str, u64)]) -> Edit {
    let asked = weights.iter().map(|(s, w)| (ServerName::new(s).unwrap(), Weight::new(*w).unwrap())).collect();
    let stored = stored(&[("app1", r#"{"weights":{"blue":90,"green":10}}"#)]);
    set(&backend(), Some(&stored), &asked, &Intent { by: "alice".to_owned(), ..Intent::default() }).unwrap()
}

fn shown(answers: &Answers, weights: &[(&str, u64)]) -> String {
    let edit = edit(weights);
    let text = ForecastView::of(answers, edit.before.as_ref(), &edit.after).text(&backend(), None);
    assert!(text.lines().all(|line| anstream::adapter::strip_str(line).to_string().chars().count() <= 160));
    anstream::adapter::strip_str(&text).to_string()
}

const UP: &str = r#""servers":[["blue",90,100,"up"],["green",10,100,"up"]]"#;
const GREEN_DOWN: &str = r#""servers":[["blue",90,100,"up"],["green",10,100,"down"]]"#;

#[test]
fn a_question_comes_after_what_each_haproxy_would_do() {
    let mut answers = answers(&[("lb1", UP), ("lb2", GREEN_DOWN)]);
    answers.asked.extend([node("lb3"), node("lb4")]);
    answers.lacks.insert(node("lb3"));
    insta::assert_snapshot!(shown(&answers, &[("blue", 0), ("green", 100)]), @r"
    haproxy: 3 of 4 nodes answered; 2 with app1, roundrobin; without it: lb3; no answer within 1 s: lb4
      SERVER  USABLE  SHARE NOW  SHARE AFTER
      blue    2 of 2  90%..100%  0%..100%
      green   1 of 2  0%..10%    0%..100%
      would not set it: lb2: no usable server of the backend would have a weight above 0
    ");
}

#[test]
fn what_makes_the_shares_untrue_and_what_cannot_be_read_is_named() {
    let third = r#""flags":["cookie"],"servers":[["blue",90,100,"up"],["green",10,100,"up"],["red",100,100,"up"]]"#;
    let mut answers = answers(&[("lb1", third), ("lb2", r#""down":"unreachable""#)]);
    answers.asked.insert(node("lb3"));
    answers.no_data =
        BTreeMap::from([(node("lb3"), "the report has version 2, this program reads version 1".to_owned())]);
    insta::assert_snapshot!(shown(&answers, &[("green", 20)]), @r"
    haproxy: 3 of 3 nodes answered; 1 with app1, roundrobin
      SERVER  USABLE  SHARE NOW  SHARE AFTER
      blue    1 of 1  45%        42.9%
      green   1 of 1  5%         9.5%
      red     1 of 1  50%        47.6%
      cannot be read now: HAProxy edge on lb2 (unreachable)
      no data: lb3: the report has version 2, this program reads version 1
      serves and is not in the document: red; its weight stays
      shares: a cookie pins users to a server, also at weight 0; weights apply only to new users
    ");
}

#[test]
fn without_an_answer_nothing_is_known() {
    let answers = Answers { asked: [node("lb1")].into(), ..Answers::default() };
    insta::assert_snapshot!(shown(&answers, &[("green", 20)]), @"haproxy: no node answered within 1 s; what HAProxy has of app1 is not known");
}
