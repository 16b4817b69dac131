//! Plans as text, for review: one snapshot with a dozen typical plans.

use std::fmt::Write as _;

use weightd_core::{
    desired::Desired,
    model::{BackendName, ServerName, Weight},
    observed::{Health, Observed, Server},
    plan::plan,
};

/// A server as HAProxy reports it, from `name weight` and words for special states.
fn server(text: &str) -> Server {
    let mut words = text.split(' ');
    let mut word = || words.next().expect("a name and a weight");
    let (name, weight) = (ServerName::new(word()).expect("a name"), weight(word()));
    let mut server = Server {
        name,
        weight,
        initial: weight,
        health: Health::Up,
        administered: false,
        slot: false,
        backup: false,
        drain: false,
        starting: false,
        owner: None,
        id: 1,
        port: Some(80),
    };
    for word in words {
        match word {
            "down" => server.health = Health::Down,
            "unknown" => server.health = Health::Unproven(None),
            "maint" => server.administered = true,
            "slot" => server.slot = true,
            "backup" => server.backup = true,
            other => panic!("unknown word {other}"),
        }
    }
    server
}

fn weight(text: &str) -> Weight {
    Weight::parse(text).expect("a weight")
}

/// One case: its title, the algorithm, the observed state, the desired weights.
fn case(text: &mut String, title: &str, algorithm: &str, is: &[&str], should: &str) {
    let servers = is.iter().map(|text| server(text)).collect();
    let observed = Observed { servers, known_dynamic: algorithm == "roundrobin" };
    let (force, named) = should.strip_suffix(" by force").map_or((false, should), |named| (true, named));
    let weights = named.split(", ").map(|pair| {
        let (name, to) = pair.split_once(' ').expect("a name and a weight");
        (ServerName::new(name).expect("a name"), weight(to))
    });
    let accepted = Desired { weights: weights.collect(), force, index: 1, ..Desired::default() };
    let plan = plan(&BackendName::new("app").expect("a name"), &accepted, &observed);
    let _ = write!(
        text,
        "{title}\n  {algorithm}, is:  {}\n  {:width$}should: {should}\n  plan: {plan}\n\n",
        is.join(", "),
        "",
        width = algorithm.len() - 2
    );
}

#[test]
fn typical_plans() {
    const DYNAMIC: &str = "roundrobin";
    const MAYBE: &str = "hdr";
    let mut text = String::new();
    let mut case = |title, algorithm, is: &[&str], should| self::case(&mut text, title, algorithm, is, should);
    let two = ["blue 100", "green 0"];

    case("no difference", DYNAMIC, &two, "blue 100, green 0");
    case("a small shift", DYNAMIC, &two, "blue 90, green 10");
    case("a full shift in one line", DYNAMIC, &two, "blue 0, green 100");
    case("a full shift in two lines, because the algorithm may be static", MAYBE, &two, "blue 0, green 100");
    case("a rollback", DYNAMIC, &["blue 0", "green 100"], "blue 100, green 0");
    case("several servers on each side", DYNAMIC, &["b1 50", "b2 50", "g1 0", "g2 0"], "b1 0, b2 0, g1 50, g2 50");
    case("a server that the document does not name", DYNAMIC, &["blue 100", "green 0", "red 7"], "blue 0, green 100");
    case("a server that HAProxy does not have", DYNAMIC, &["blue 100"], "blue 50, green 50");
    case("HAProxy does not have the server that takes over", DYNAMIC, &["blue 100"], "blue 0, green 100");
    case("only a backup server would stay above 0", DYNAMIC, &["blue 100", "spare 0 backup"], "blue 0, spare 100");
    case("only an empty slot would stay above 0", DYNAMIC, &["blue 100", "slot1 0 slot"], "blue 0, slot1 100");
    case("no usable server", DYNAMIC, &["blue 100 down", "green 10 maint"], "blue 0, green 100");
    case(
        "the new side went down after the document was accepted",
        DYNAMIC,
        &["blue 100", "green 50 down"],
        "blue 0, green 100",
    );
    case("the health of the new side is unknown", DYNAMIC, &["blue 100 down", "green 0 unknown"], "blue 0, green 100");
    case("all weights to zero", DYNAMIC, &["blue 100", "green 10"], "blue 0, green 0 by force");
    case("only lowered weights", MAYBE, &["blue 100", "green 100"], "blue 0, green 50");
    let many: Vec<String> = (0..100).map(|n| format!("server-with-a-long-name-{n:02} {}", n % 2 * 100)).collect();
    let swapped: Vec<String> =
        (0..100).map(|n| format!("server-with-a-long-name-{n:02} {}", (n + 1) % 2 * 100)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let plan = {
        let mut text = String::new();
        self::case(&mut text, "", DYNAMIC, &many, &swapped.join(", "));
        let stages: Vec<usize> =
            text.split("plan: ").nth(1).unwrap_or_default().split("; then ").map(|s| s.matches('→').count()).collect();
        format!("{stages:?}")
    };
    let _ = write!(
        text,
        "more changes than one line can hold: raises and lowers in separate stages\n  changes in each stage: {plan}\n"
    );
    insta::assert_snapshot!(text);
}
