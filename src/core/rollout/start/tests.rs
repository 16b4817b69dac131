use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    desired::{Invalid, Rejected},
    model::Weight,
    rollout::plan::Preset,
};

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| pattern(text)).collect()
}

fn share(percent: u32) -> PatternShare {
    PatternShare::from_thousandths(percent * 1000).unwrap()
}

fn weights(weights: &[(&str, u64)]) -> Published {
    let weights = weights.iter().map(|(name, weight)| (ServerName::new(name).unwrap(), Weight::new(*weight).unwrap()));
    let desired = Desired { weights: weights.collect(), index: 7, ..Desired::default() };
    Published::Valid(Instruction::Weights(Arc::new(desired)))
}

fn split(shares: &[(&str, u32)]) -> Published {
    let shares = shares.iter().map(|(name, percent)| (pattern(name), share(*percent))).collect();
    let desired = Desired { split: Some(Split::new(shares).unwrap()), index: 7, ..Desired::default() };
    Published::Valid(Instruction::Weights(Arc::new(desired)))
}

/// A node with one HAProxy: name, weight and health of each server.
fn node(name: &str, servers: &[(&str, u64, &str)]) -> (NodeName, Counted) {
    node_with(name, servers, "roundrobin", &[])
}

fn node_with(name: &str, servers: &[(&str, u64, &str)], algorithm: &str, flags: &[&str]) -> (NodeName, Counted) {
    let servers: Vec<_> = servers.iter().map(|(name, weight, health)| json!([name, weight, 100, health])).collect();
    let mode = if algorithm == "tcp" { "tcp" } else { "http" };
    let counted = json!({"backend": "app1", "instances": [
        {"name": "edge", "mode": mode, "algorithm": algorithm, "flags": flags, "servers": servers}]});
    (NodeName::new(name).unwrap(), serde_json::from_value(counted).unwrap())
}

fn nodes(nodes: impl IntoIterator<Item = (NodeName, Counted)>) -> BTreeMap<NodeName, Counted> {
    nodes.into_iter().collect()
}

fn wish(mode: Mode) -> Wish {
    let plan = match mode {
        Mode::Auto => Preset::Quick.plan(Protocol::Http),
        Mode::Watch | Mode::Guard => Plan::without_steps(Protocol::Http),
    };
    let to = patterns(&["green"]);
    Wish { to, from: None, mode, plan, fit: false, convert: false, slo_from_baseline: false }
}

fn known<'a>(document: &'a Published, nodes: &'a BTreeMap<NodeName, Counted>) -> Known<'a> {
    Known { document: Some(document), nodes, silent: &[], controller: None, baseline: None }
}

fn words(result: Result<Proposal, Vec<Refusal>>) -> Vec<&'static str> {
    result.unwrap_err().iter().map(Refusal::word).collect()
}

fn both_up() -> BTreeMap<NodeName, Counted> {
    nodes([node("lb-1", &[("blue", 100, "up"), ("green", 0, "up")])])
}

#[test]
fn the_old_side_is_what_is_above_0_now() {
    let up = nodes([node("lb-1", &[("blue", 100, "up"), ("green", 0, "up"), ("red", 0, "up")])]);
    let document = weights(&[("blue", 100), ("green", 0), ("red", 0)]);
    let proposal = propose(&wish(Mode::Watch), &known(&document, &up)).unwrap();
    assert_eq!((proposal.from, proposal.back), (patterns(&["blue"]), share(0)));
    // The third server is on neither side, and it serves nothing.
    assert_eq!(proposal.unnamed, [ServerName::new("red").unwrap()]);
    assert!(proposal.cautions.is_empty(), "{:?}", proposal.cautions);
}

#[test]
fn a_server_on_neither_side_does_not_change_the_share_that_is_shown_and_gone_back_to() {
    let servers = [("blue", 60, "up"), ("green", 20, "up"), ("red", 20, "up")];
    let up = nodes([node("lb-1", &servers)]);
    let splits = split(&[("blue", 60), ("green", 20), ("red", 20)]);
    for document in [weights(&servers.map(|(name, weight, _)| (name, weight))), splits] {
        let wanted = Wish { from: Some(patterns(&["blue"])), convert: true, ..wish(Mode::Watch) };
        let proposal = propose(&wanted, &known(&document, &up)).unwrap();
        let spec = proposal.spec("r1".to_owned(), "ann".to_owned(), Timestamp::from_seconds(7), None);
        // What the person was shown is what the controller finds.
        let seen = crate::rollout::known::document(&spec, Some(&document));
        assert_eq!((proposal.back, seen.share), (share(25), Some(share(25))));
    }
}

#[test]
fn the_old_side_of_a_split_is_its_patterns() {
    let up = nodes([node("lb-1", &[("blue-1", 9, "up"), ("blue-2", 9, "up"), ("green-1", 2, "up")])]);
    let document = split(&[("blue-*", 90), ("green-*", 10)]);
    let wish = Wish { to: patterns(&["green-*"]), ..wish(Mode::Guard) };
    let proposal = propose(&wish, &known(&document, &up)).unwrap();
    assert_eq!((proposal.from, proposal.back, proposal.convert), (patterns(&["blue-*"]), share(10), None));
}

#[test]
fn a_pattern_of_the_document_that_is_on_both_sides_becomes_names() {
    let up = nodes([node("lb-1", &[("s1", 100, "up"), ("s2", 100, "up"), ("s3", 100, "up")])]);
    let document = split(&[("s*", 100)]);
    let wanted = Wish { to: patterns(&["s3"]), ..wish(Mode::Watch) };
    let refused = propose(&wanted, &known(&document, &up)).unwrap_err();
    // The split of s1 and s2 against s3 is another document.
    assert!(matches!(refused.as_slice(), [Refusal::Differs(_)]), "{refused:?}");
    let converted = propose(&Wish { convert: true, ..wanted }, &known(&document, &up)).unwrap();
    assert_eq!(converted.from, patterns(&["s1", "s2"]));
    assert!(converted.convert.is_some());
}

#[test]
fn a_start_without_a_usable_document_is_refused() {
    let up = both_up();
    let document = weights(&[]);
    let none = Known { document: None, ..known(&document, &up) };
    assert_eq!(words(propose(&wish(Mode::Watch), &none)), ["no_document"]);
    let released = Published::Valid(Instruction::Release { index: 3 });
    assert_eq!(words(propose(&wish(Mode::Watch), &known(&released, &up))), ["released"]);
    let rejected = Rejected { key: "k".to_owned(), index: 3, reason: Invalid::Malformed("x".to_owned()) };
    let rejected = Published::Rejected(Arc::new(rejected));
    assert_eq!(words(propose(&wish(Mode::Watch), &known(&rejected, &up))), ["rejected"]);
}

#[test]
fn leaves_need_a_conversion() {
    let up = both_up();
    let Published::Valid(Instruction::Weights(desired)) = weights(&[("blue", 100), ("green", 0)]) else { panic!() };
    let leaves = Published::Valid(Instruction::Leaves(desired));
    assert_eq!(words(propose(&wish(Mode::Watch), &known(&leaves, &up))), ["leaves"]);
    let converted = propose(&Wish { convert: true, ..wish(Mode::Watch) }, &known(&leaves, &up)).unwrap();
    let Published::Valid(Instruction::Weights(split)) = split(&[("blue", 100), ("green", 0)]) else { panic!() };
    assert_eq!(converted.convert, split.split.clone());
}

#[test]
fn shares_within_a_side_may_differ_from_a_split_by_one_point() {
    let document = |one, other| weights(&[("blue-1", one), ("blue-2", other), ("green", 0)]);
    let servers = [("blue-1", 100, "up"), ("blue-2", 100, "up"), ("green", 0, "up")];
    let up = nodes([node("lb-1", &servers)]);
    let wish = Wish { from: Some(patterns(&["blue-*"])), ..wish(Mode::Watch) };
    assert!(propose(&wish, &known(&document(100, 100), &up)).is_ok());
    assert!(propose(&wish, &known(&document(51, 49), &up)).is_ok());
    let refused = propose(&wish, &known(&document(60, 40), &up)).unwrap_err();
    assert_eq!(
        refused[0].to_string(),
        "the document is no split of the two sides: on lb-1, `blue-1` has 60.0 % of its side, and a split gives it 50.0 %"
    );
}

#[test]
fn a_node_with_fewer_servers_gives_the_new_side_another_share() {
    let document = weights(&[("blue-1", 45), ("blue-2", 45), ("green", 10)]);
    let up = nodes([
        node("lb-1", &[("blue-1", 45, "up"), ("blue-2", 45, "up"), ("green", 10, "up")]),
        node("lb-2", &[("blue-1", 45, "up"), ("green", 10, "up")]),
    ]);
    let wish = Wish { from: Some(patterns(&["blue-*"])), ..wish(Mode::Watch) };
    let refused = propose(&wish, &known(&document, &up)).unwrap_err();
    let [Refusal::Differs(difference)] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!((difference.node.as_str(), &difference.server), ("lb-2", &None));
}

#[test]
fn the_sides_must_be_two_and_exist() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let with = |to: &[&str], from: Option<&[&str]>| {
        let wish = Wish { to: patterns(to), from: from.map(patterns), ..wish(Mode::Watch) };
        words(propose(&wish, &known(&document, &up)))
    };
    assert_eq!(with(&["gren"], None), ["unmatched"]);
    assert_eq!(with(&["*"], None), ["no_from"]);
    assert_eq!(with(&["green"], Some(&["*"])), ["overlap"]);
    assert_eq!(with(&["green"], Some(&[])), ["patterns"]);
    assert_eq!(with(&["green"], Some(&["blue-*"])), ["unmatched"]);
}

#[test]
fn both_sides_need_a_usable_server_on_each_node() {
    let document = weights(&[("blue", 100), ("green", 0)]);
    let up = nodes([
        node("lb-1", &[("blue", 100, "down"), ("green", 0, "up")]),
        node("lb-2", &[("blue", 100, "up"), ("green", 0, "down")]),
    ]);
    let refused = propose(&wish(Mode::Watch), &known(&document, &up)).unwrap_err();
    let sentences: Vec<_> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        ["no server of the new side is usable on lb-2", "no server of the old side is usable on lb-1"]
    );
}

#[test]
fn mode_auto_needs_steps_above_the_present_share() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let without = Wish { plan: Plan::without_steps(Protocol::Http), ..wish(Mode::Auto) };
    assert_eq!(words(propose(&without, &known(&document, &up))), ["no_steps"]);
    let all = weights(&[("blue", 1), ("green", 0)]);
    assert!(propose(&wish(Mode::Auto), &known(&all, &up)).is_ok());
    let green = nodes([node("lb-1", &[("blue", 0, "up"), ("green", 100, "up")])]);
    let at_all = weights(&[("blue", 0), ("green", 100)]);
    let wish = Wish { from: Some(patterns(&["blue"])), ..wish(Mode::Auto) };
    assert_eq!(words(propose(&wish, &known(&at_all, &green))), ["no_step_above"]);
}

#[test]
fn steps_without_enough_requests_are_left_out_of_a_preset() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let at = |per_second| Known {
        baseline: Some(Baseline { per_second, requests: 1000, errors: 0 }),
        ..known(&document, &up)
    };
    let wish = Wish { fit: true, ..wish(Mode::Auto) };
    let proposal = propose(&wish, &at(2.0)).unwrap();
    assert_eq!(proposal.plan.steps.first().map(|step| step.share), Some(share(50)));
    assert!(matches!(proposal.cautions.as_slice(), [Caution::LeftOut(steps, _)] if steps.len() == 1));
    assert_eq!(words(propose(&wish, &at(0.1))), ["too_few_requests"]);
}

#[test]
fn mode_auto_on_tcp_needs_a_named_check() {
    let up = nodes([node_with("lb-1", &[("blue", 100, "up"), ("green", 0, "up")], "tcp", &[])]);
    let document = weights(&[("blue", 100), ("green", 0)]);
    assert_eq!(protocol(&up), Protocol::Tcp);
    assert_eq!(words(propose(&wish(Mode::Watch), &known(&document, &up))), ["protocol"]);
    let tcp = Wish { plan: Preset::Quick.plan(Protocol::Tcp), ..wish(Mode::Auto) };
    assert_eq!(words(propose(&tcp, &known(&document, &up))), ["blind"]);
    let watch = Wish { plan: Plan::without_steps(Protocol::Tcp), ..wish(Mode::Watch) };
    let proposal = propose(&watch, &known(&document, &up)).unwrap();
    assert_eq!(proposal.cautions, [Caution::Blind(Blind::Answers(Protocol::Tcp))]);
}

#[test]
fn a_plan_may_name_only_checks_of_the_controller() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let plan: Plan = serde_json::from_value(json!({"check": {"latency": {"use": "slow"}}})).unwrap();
    let wish = Wish { plan, ..wish(Mode::Watch) };
    let controller = |checks: &[&str]| Controller {
        name: "ctl-1".to_owned(),
        version: String::new(),
        since: Timestamp::default(),
        sources: Vec::new(),
        checks: checks.iter().map(|check| (*check).to_owned()).collect(),
    };
    let (right, wrong) = (controller(&["slow"]), controller(&["slo"]));
    let known = known(&document, &up);
    assert!(propose(&wish, &Known { controller: Some(&right), ..known }).is_ok());
    let refused = propose(&wish, &Known { controller: Some(&wrong), ..known }).unwrap_err();
    assert_eq!(refused[0].remedy(), "did you mean `slo`?");
    let proposal = propose(&wish, &known).unwrap();
    assert_eq!(proposal.cautions, [Caution::ChecksUnknown]);
}

#[test]
fn a_regression_holds_where_users_are_pinned_to_sides() {
    let document = weights(&[("blue", 100), ("green", 0)]);
    let servers = [("blue", 100, "up"), ("green", 0, "up")];
    let of = |algorithm, flags: &[&str], plan: Plan| {
        let up = nodes([node_with("lb-1", &servers, algorithm, flags)]);
        let proposal = propose(&Wish { plan, ..wish(Mode::Guard) }, &known(&document, &up)).unwrap();
        (proposal.regression, proposal.cautions.iter().map(Caution::word).collect::<Vec<_>>())
    };
    let plan = || Plan::without_steps(Protocol::Http);
    assert_eq!(of("roundrobin", &[], plan()), (OnRegression::Rollback, vec![]));
    assert_eq!(of("source", &[], plan()), (OnRegression::Hold, vec!["pinned"]));
    assert_eq!(of("roundrobin", &["sticky"], plan()), (OnRegression::Hold, vec!["pinned"]));
    assert_eq!(of("leastconn", &["maxconn", "cookie"], plan()).1, ["cookie", "leastconn", "queue"]);
    let told = Plan { regression: Some(OnRegression::Rollback), ..plan() };
    assert_eq!(of("source", &[], told).0, OnRegression::Rollback);
}

#[test]
fn an_old_side_above_the_slo_is_refused_or_sets_the_slo() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let of = |requests, errors, slo_from_baseline| {
        let baseline = Some(Baseline { per_second: 100.0, requests, errors });
        let wish = Wish { slo_from_baseline, ..wish(Mode::Guard) };
        propose(&wish, &Known { baseline, ..known(&document, &up) })
    };
    assert_eq!(words(of(10_000, 100, false)), ["above_slo"]);
    // One error in a small sample proves nothing.
    assert_eq!(of(500, 1, false).unwrap().cautions[0].word(), "slo_near");
    assert!(of(10_000, 5, false).unwrap().cautions.is_empty());
    let raised = of(10_000, 100, true).unwrap();
    assert_eq!((raised.plan.errors.slo, raised.cautions[0].word()), (Some(0.02), "slo_raised"));
    assert_eq!(of(10_000, 5, true).unwrap().plan.errors.slo, Some(0.001));
    assert_eq!(words(of(0, 0, true)), ["no_baseline"]);
}

#[test]
fn nodes_that_say_nothing_are_named() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let silent = [NodeName::new("lb-2").unwrap()];
    let proposal = propose(&wish(Mode::Watch), &Known { silent: &silent, ..known(&document, &up) }).unwrap();
    assert_eq!(proposal.cautions, [Caution::Silent(silent.to_vec())]);
    let nobody = BTreeMap::new();
    let proposal = propose(&wish(Mode::Watch), &known(&document, &nobody)).unwrap();
    assert_eq!(proposal.cautions, [Caution::NothingKnown]);
    // A split of patterns says nothing about servers.
    let document = split(&[("blue-*", 100), ("green-*", 0)]);
    assert_eq!(words(propose(&wish(Mode::Watch), &known(&document, &nobody))), ["unmatched"]);
}

#[test]
fn a_server_on_neither_side_that_serves_is_named() {
    let up = nodes([node("lb-1", &[("blue", 100, "up"), ("green", 0, "up"), ("old", 50, "up")])]);
    let document = weights(&[("blue", 100), ("green", 0)]);
    let proposal = propose(&wish(Mode::Watch), &known(&document, &up)).unwrap();
    assert_eq!(proposal.cautions, [Caution::Unnamed(vec![ServerName::new("old").unwrap()])]);
}

#[test]
fn a_proposal_becomes_a_spec_that_a_controller_reads() {
    let (up, document) = (both_up(), weights(&[("blue", 100), ("green", 0)]));
    let proposal = propose(&wish(Mode::Auto), &known(&document, &up)).unwrap();
    let spec = proposal.spec("r1".to_owned(), "ada".to_owned(), Timestamp::default(), None);
    assert_eq!(Spec::parse(&spec.to_value().unwrap()), Ok(spec));
}
