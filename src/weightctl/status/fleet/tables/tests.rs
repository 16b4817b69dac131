use std::collections::BTreeMap;

use weightd_core::{
    desired::{Decoder, Entry},
    fleet::{Fleet, Inventory, NodeName, NodeRead, NodeReport},
    model::Root,
};

use super::*;

const NOW: &str = "2026-11-21T10:05:00Z";

/// A fleet of the reports and inventory entries as Consul has them.
fn view(expect: Option<u64>) -> FleetView {
    let node = |name: &str| NodeName::new(name).unwrap();
    let report = |name: &str, rest: &str| {
        let value =
            format!(r#"{{"v":1,"node":"{name}","version":"0.1.0 (abc1234)","machine":"m","backends":3,{rest}}}"#);
        let report = NodeReport::parse(&node(name), value.as_bytes());
        (node(name), NodeRead { index: 100, report })
    };
    let haproxy =
        r#""instances":[{"name":"edge","up":true,"version":"2.6.12-1+deb12u4","since":"2026-11-20T10:00:00Z"}]"#;
    let all = r#""recent":[["app1",42,"set"],["app2",41,"set"],["app3",40,"lacks"]]"#;
    let nodes = BTreeMap::from([
        report("lb-1", &format!(r#""mode":"enforce",{haproxy},{all},"lacks":["app3"],"applied_index":42"#)),
        report(
            "lb-2",
            &format!(
                r#""mode":"enforce",{haproxy},"recent":[["app1",42,"guarded"],["app2",41,"paused"],["app3",40,"lacks"]],
                "out":[["app1","guarded","2026-11-21T10:00:00Z"],["app2","paused","2026-11-21T10:04:48Z"]],
                "lacks":["app3"],"applied_index":42"#
            ),
        ),
        report("lb-4", &format!(r#""mode":"observe",{haproxy},{all},"lacks":["app3"]"#)),
        report(
            "lb-5",
            r#""mode":"enforce","instances":[{"name":"edge","up":false,"why":"\u001b[2Jgone"}],
            "recent":[["app1",42,"down"],["app2",41,"down"],["app3",40,"down"]],
            "out":[["app1","down",null],["app2","down",null],["app3","down",null]]"#,
        ),
        (node("lb-6"), NodeRead { index: 100, report: NodeReport::parse(&node("lb-6"), b"{\"v\":2}") }),
    ]);
    let inventory = |name: &str, mode: &str| {
        let value = format!(r#"{{"v":1,"node":"{name}","machine":"m","mode":"{mode}"}}"#);
        (node(name), Inventory::parse(value.as_bytes()))
    };
    let inventory = ["lb-1", "lb-2", "lb-3", "lb-5", "lb-6"].map(|name| inventory(name, "enforce"));
    let fleet = Fleet { nodes, inventory: inventory.into(), expect };
    // Base64 of the documents.
    let document = |key: &str, index, value: &str| Entry {
        key: format!("w/{key}").into(),
        value: Some(value.to_owned().into()),
        modify_index: index,
    };
    let documents = [
        // {"weights":{"blue":90,"green":10},"by":"alice","reason":"10 % canary","at":"2026-11-21T10:00:00Z"}
        document(
            "app1",
            42,
            "eyJ3ZWlnaHRzIjp7ImJsdWUiOjkwLCJncmVlbiI6MTB9LCJieSI6ImFsaWNlIiwicmVhc29uIjoiMTAgJSBjYW5hcnkiLCJhdCI6IjIwMjYtMTEtMjFUMTA6MDA6MDBaIn0=",
        ),
        // {"weights":{"blue":1}}
        document("app2", 41, "eyJ3ZWlnaHRzIjp7ImJsdWUiOjF9fQ=="),
        document("app3", 40, "eyJ3ZWlnaHRzIjp7ImJsdWUiOjF9fQ=="),
    ];
    let desired = Decoder::new("w/").decode(&documents).unwrap();
    FleetView::of(&Root::default(), &fleet, &desired)
}

fn plain(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

/// The width of a small terminal.
const TERMINAL: Option<usize> = Some(80);

fn now() -> Option<Timestamp> {
    NOW.parse().ok()
}

#[test]
fn the_fleet_fits_a_terminal_of_80_columns() {
    insta::assert_snapshot!("fleet", plain(&fleet(&view(Some(7)), now(), TERMINAL)));
}

#[test]
fn a_pipe_gets_the_whole_fleet() {
    let mut view = view(Some(7));
    for backend in &mut view.backends {
        backend.differs = backend.differs.iter().cycle().take(backend.differs.len() * 9).cloned().collect();
    }
    let whole = anstream::adapter::strip_str(&fleet(&view, now(), None)).to_string();
    assert!(!whole.contains('…') && !whole.contains(", +"), "{whole}");
    for backend in &view.backends {
        for differs in &backend.differs {
            assert!(whole.contains(&format!("{} {}", differs.node, Escaped(&differs.reason))), "{whole}");
        }
    }
    assert!(plain(&fleet(&view, now(), TERMINAL)).contains(", +"));
}

#[test]
fn one_backend_shows_each_node() {
    let view = view(None);
    let text: String = view.backends.iter().map(|view| backend(view, now(), TERMINAL)).collect();
    insta::assert_snapshot!("backends", plain(&text));
}

#[test]
fn a_backend_is_not_on_all_nodes_while_expected_ones_never_reported() {
    // 6 nodes are known, one of them in mode observe.
    let mut view = view(Some(10));
    view.retain_backend(&view.backends[2].backend.clone());
    let app = &mut view.backends[0];
    app.differs.clear();
    app.has.append(&mut app.lacks);
    assert!(!app.in_sync(), "{app:?}");
    let text = plain(&backend(app, now(), TERMINAL));
    assert!(text.ends_with("/6 have it; expected but never reported: 4\n"), "{text}");
    let kept: Vec<_> = view.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert!(kept.contains(&"4 of 10 expected nodes never reported"), "{kept:?}");
    view.backends[0].unknown = 0;
    assert!(view.backends[0].in_sync());
}

#[test]
fn one_node_shows_its_haproxies_and_what_it_does_not_have() {
    let text: String = view(None).nodes.iter().map(|view| node(view, now(), TERMINAL)).collect();
    insta::assert_snapshot!("nodes", anstream::adapter::strip_str(&text).to_string());
    assert!(!text.contains("\u{1b}[2J"), "text of a node reaches the terminal");
}

#[test]
fn a_problem_comes_with_what_to_do() {
    insta::assert_snapshot!("problems", anstream::adapter::strip_str(&problems(&view(Some(7)))).to_string());
}

#[test]
fn the_json_is_stable() {
    let mut view = view(Some(7));
    view.nodes.retain(|node| node.node.as_str() == "lb-2");
    view.backends.retain(|backend| backend.backend.as_str() == "app1");
    view.problems.truncate(2);
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&view).unwrap());
}

#[test]
fn a_list_that_does_not_fit_says_how_many_are_left_out() {
    let items: Vec<_> = (1..=20).map(|n| format!("lb-{n} guarded")).collect();
    assert_eq!(list(&items, Some(40)), "lb-1 guarded, lb-2 guarded, +18");
    assert_eq!(list(&items[..2], Some(40)), "lb-1 guarded, lb-2 guarded");
}
