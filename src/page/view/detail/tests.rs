use super::*;
use crate::page::view::row::{
    Row,
    tests::{baking, held, now, stand, steady, with_state},
};

fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

#[test]
fn the_headline_says_what_it_does_and_whether_anybody_is_hurt() {
    let detail = Detail::of(&baking(), now());
    assert_eq!(plain(&detail.say), "Bakes at 10 %, and green is no worse");
    assert!(plain(&detail.next).starts_with("Goes to 25 % at about "), "{}", detail.next);
    assert_eq!(plain(&detail.now), "green 10 %");
    let holding = Detail::of(&held(baking(), "no_data", "no counts from lb-03"), now());
    assert_eq!((plain(&holding.say), holding.tone), ("Holds: no data".to_owned(), Tone::Attention));
    assert_eq!(holding.next, "No counts from lb-03.");
}

#[test]
fn the_rail_has_each_step_and_the_end() {
    let rail = Detail::of(&baking(), now()).rail;
    let shown: Vec<_> = rail.iter().map(|station| (plain(&station.share), station.word)).collect();
    let expected = [
        ("1 %", "done"),
        ("5 %", "done"),
        ("10 %", "now"),
        ("25 %", "to come"),
        ("50 %", "to come"),
        ("95 %", "to come"),
        ("100 %", "to come"),
        ("Done", "to come"),
    ];
    assert_eq!(shown, expected.map(|(share, word)| (share.to_owned(), word)));
    assert!(Detail::of(&with_state(baking(), |state| state.mode = Mode::Watch), now()).rail.is_empty());
}

#[test]
fn a_rollback_shows_its_counts() {
    let facts = with_state(baking(), |state| {
        state.phase = Phase::RolledBack;
        state.why = Some("errors".to_owned());
    });
    let detail = Detail::of(&facts, now());
    let lead =
        "In the last step green failed 1 of 2,000 requests (0.05 %). Beside it, blue failed 9 of 18,000 (0.05 %).";
    assert_eq!((plain(&detail.lead).as_str(), detail.why.as_str()), (lead, "Errors."));
    assert!(detail.say.starts_with("Rolled back by itself at "), "{}", detail.say);
    assert!(detail.gates.is_empty() && detail.is_over());
}

#[test]
fn nodes_that_are_out_stand_first() {
    let mut facts = steady(50);
    facts.nodes[2] = stand("lb-03", Stand::Missing, "missing");
    let detail = Detail::of(&facts, now());
    assert_eq!(detail.nodes[0].name.as_str(), "lb-03");
    assert_eq!(detail.nodes_say, "2 of 3 nodes have it");
    assert_eq!(reach(&facts, true, 10), "2 of 3 nodes have it. Not yet: lb-03.");
    assert_eq!(reach(&steady(50), true, 10), "All 3 nodes have it.");
}

#[test]
fn each_gate_says_what_it_waits_for() {
    let texts = |facts: &Facts| -> Vec<(String, &'static str)> {
        Detail::of(facts, now()).gates.iter().map(|gate| (plain(&gate.text), gate.word)).collect()
    };
    let quiet = texts(&baking());
    assert_eq!(quiet[0], ("Baked 12:48 of 30:00".to_owned(), "not yet"));
    assert_eq!(quiet[1], ("All 3 nodes have 10 %".to_owned(), "true"));
    assert_eq!(quiet[2], ("2,000 requests on green in this step".to_owned(), "true"));
    let unwired = texts(&held(baking(), "unwired", "no request reaches lb-01"));
    assert!(unwired.iter().any(|(text, word)| text == "Holds: no requests arrive" && *word == "holds"), "{unwired:?}");
}

#[test]
fn nothing_is_said_of_the_nodes_before_the_document_is_known() {
    // The document has the index 10, and all nodes have it.
    let facts = steady(10);
    assert_eq!(reach(&facts, true, 10), "All 3 nodes have it.");
    assert_eq!(reach(&facts, true, 11), "It is not known yet which nodes have it.");
    assert_eq!(reach(&facts, true, 9), "Another change was written since.");
}

#[test]
fn nodes_are_named_only_to_those_who_may_read_them() {
    let mut facts = steady(10);
    facts.nodes.push(stand("lb-04", Stand::Late, "not applied yet"));
    assert!(reach(&facts, true, 10).contains("lb-04"));
    let unnamed = reach(&facts, false, 10);
    assert!(unnamed.starts_with("3 of 4 nodes have it.") && !unnamed.contains("lb-04"), "{unnamed}");
}

#[test]
fn the_reasons_of_the_controller_name_no_node_to_those_who_may_not_read_them() {
    let said = |facts: &Facts| format!("{:?}", (Detail::of(facts, now()), Row::of(facts, now())));
    for word in ["not_applied", "unusable", "unwired", "no_data", "dropped", "not_split", "from_too_small"] {
        let facts = held(baking(), word, "something on lb-01");
        assert!(said(&facts).contains("on lb-01"), "{word}");
        let unnamed = said(&facts.without_node_names());
        assert!(!unnamed.contains("lb-0") && unnamed.contains("Holds: "), "{word}: {unnamed}");
    }
    let late = with_state(baking(), |state| {
        (state.phase, state.aborted) = (Phase::RolledBack, true);
        state.late = vec![steady(0).nodes[2].name.clone()];
    });
    assert!(said(&late).contains("not applied on lb-03"));
    let unnamed = said(&late.without_node_names());
    assert!(unnamed.contains("not applied on node-3") && !unnamed.contains("lb-0"), "{unnamed}");
    // A reason that lists no node keeps its text.
    let window = held(baking(), "window", "the window is closed");
    assert!(said(&window.without_node_names()).contains("the window is closed"));
}
