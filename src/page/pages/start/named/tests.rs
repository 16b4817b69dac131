use super::*;

fn nodes() -> Vec<NodeName> {
    ["lb-01", "lb-02"].map(|name| NodeName::new(name).unwrap()).to_vec()
}

fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

#[test]
fn a_refusal_names_nodes_only_to_those_who_may_read_them() {
    let differs = |server: Option<&str>| {
        let server = server.map(|name| weightd_core::model::ServerName::new(name).unwrap());
        Refusal::Differs(Difference { node: nodes()[0].clone(), server, document: 30.0, split: 50.0 })
    };
    for reason in [Refusal::ToUnusable(nodes()), Refusal::FromUnusable(nodes()), differs(None), differs(Some("a"))] {
        assert!(refusal(&reason, true).contains("lb-01"), "{reason}");
        assert!(!refusal(&reason, false).contains("lb-0"), "{reason}");
    }
    let unusable = plain(&refusal(&Refusal::ToUnusable(nodes()), false));
    assert_eq!(unusable, "No server of the new side is usable on 2 nodes.");
    assert_eq!(refusal(&Refusal::NoSteps, false), refusal(&Refusal::NoSteps, true));
}

#[test]
fn a_caution_names_nodes_only_to_those_who_may_read_them() {
    for known in [Caution::Silent(nodes()), Caution::Down(nodes())] {
        assert!(caution(&known, true).contains("lb-01"), "{known}");
        let unnamed = plain(&caution(&known, false));
        assert!(unnamed.ends_with(": 2 nodes."), "{unnamed}");
    }
    assert!(silent(&nodes(), true).ends_with(": lb-01, lb-02"));
    assert_eq!(plain(&silent(&nodes(), false)), "2 nodes did not say which servers they have");
}
