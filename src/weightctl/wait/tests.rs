use super::*;

fn laggard(node: &str, reason: &str, is_final: bool) -> Laggard {
    Laggard { node: NodeName::new(node).unwrap(), reason: reason.to_owned(), detail: reason.to_owned(), is_final }
}

fn progress(done: u64, nodes: Vec<Laggard>) -> Progress {
    Progress {
        wait: BackendName::new("app1").unwrap(),
        index: 42,
        state: "waiting",
        done,
        needed: 20,
        counted: 20,
        unknown: 0,
        elapsed_seconds: 0.25,
        nodes,
        lacks: Vec::new(),
    }
}

#[test]
fn how_many_nodes_to_wait_for_is_parsed_strictly() {
    assert_eq!(until("all"), Ok(Until::Nodes(Need::All)));
    assert_eq!(until("drained"), Ok(Until::Drained));
    assert_eq!(until("1%"), Ok(Until::Nodes(Need::Percent(1))));
    assert_eq!(until("100%"), Ok(Until::Nodes(Need::Percent(100))));
    for text in ["", "0%", "101%", "50", "%", "+5%", "-1%", "drain", "50 %"] {
        assert_eq!(until(text), Err(InvalidNeed), "{text}");
    }
}

#[test]
fn the_bar_names_the_nodes_and_fits_a_terminal_of_80_columns() {
    insta::assert_snapshot!(progress(20, vec![]).bar(), @"app1 [####################] 20/20");
    insta::assert_snapshot!(
        progress(18, vec![laggard("lb-2", "guarded", false), laggard("lb-4", "missing", false)]).bar(),
        @"app1 [##################..] 18/20  lb-2 guarded, lb-4 missing"
    );
    let many = (1..=9).map(|n| laggard(&format!("lb-{n}"), "silent", false)).collect();
    let line = progress(11, many).bar();
    insta::assert_snapshot!(line, @"app1 [###########.........] 11/20  lb-1 silent, lb-2 silent, lb-3 silent, +6");
    let long = laggard(&"n".repeat(128), "guarded", false);
    for nodes in [vec![long.clone()], vec![long.clone(), long]] {
        assert!(progress(1, nodes).bar().chars().count() <= 79);
    }
}

#[test]
fn a_line_of_a_pipe_names_every_node() {
    let mut progress = progress(1, vec![laggard("lb-2", "guarded", false), laggard("lb-3", "paused", true)]);
    progress.unknown = 1;
    insta::assert_snapshot!(
        progress.line(),
        @"waiting: 1 of 20 nodes have app1; not: lb-2 (guarded), lb-3 (paused), 1 expected but never reported"
    );
    insta::assert_snapshot!(progress.final_names(), @"lb-3 (paused); waited for: lb-2 (guarded)");
    insta::assert_snapshot!(
        serde_json::to_string(&progress).unwrap(),
        @r#"{"wait":"app1","index":42,"state":"waiting","done":1,"needed":20,"counted":20,"unknown":1,"elapsed_seconds":0.25,"nodes":[{"node":"lb-2","reason":"guarded","detail":"guarded","final":false},{"node":"lb-3","reason":"paused","detail":"paused","final":true}],"lacks":[]}"#
    );
}

#[test]
fn a_line_while_it_goes_on_names_ten_nodes_and_the_last_one_all() {
    let many: Vec<_> = (1..=12).map(|n| laggard(&format!("lb-{n}"), "silent", false)).collect();
    let waiting = progress(8, many.clone());
    assert!(waiting.line().ends_with("lb-9 (silent), lb-10 (silent), 2 more"), "{}", waiting.line());
    assert!(waiting.names().ends_with("lb-11 (silent), lb-12 (silent)"));
    let done = Progress { state: "done", ..progress(8, many) };
    assert!(done.line().ends_with("lb-11 (silent), lb-12 (silent)"), "{}", done.line());
}

#[test]
fn a_node_that_lacks_the_backend_is_done_and_does_not_have_it() {
    let name = |n: u64| NodeName::new(&format!("lb-{n}")).unwrap();
    let nodes: BTreeMap<_, _> = (1..=20).map(|n| (name(n), Standing::Done { has: n == 1 })).collect();
    let done = Progress { state: "done", lacks: lacks(&nodes), ..progress(20, laggards(&nodes)) };
    assert_eq!(done.line(), "done: 1 of 20 nodes have app1, 19 lack it");
    assert!(serde_json::to_string(&done).unwrap().contains(r#""lacks":["lb-10","lb-11""#));
    let late = Progress { lacks: vec![name(9)], ..progress(3, vec![laggard("lb-2", "guarded", false)]) };
    assert_eq!(late.line(), "waiting: 2 of 20 nodes have app1, 1 lacks it; not: lb-2 (guarded)");
}

#[test]
fn what_a_node_says_is_escaped() {
    let nodes = BTreeMap::from([(NodeName::new("lb").unwrap(), Standing::Cannot("\u{1b}[2J".to_owned()))]);
    assert_eq!(laggards(&nodes)[0].reason, r"\u{1b}[2J");
}
