use super::*;

#[test]
fn keys_lie_below_the_root() {
    let root: Root = "team/edge".parse().unwrap();
    let keys = Keys(&root);
    let (node, backend) = (NodeName::new("lb-1.example").unwrap(), BackendName::new("app:8080").unwrap());
    for (key, wanted) in [
        (keys.node(&node), "team/edge/nodes/lb-1.example"),
        (keys.inventory(&node), "team/edge/inventory/lb-1.example"),
        (keys.history(&backend), "team/edge/history/app:8080"),
        (keys.freeze_all(), "team/edge/freeze"),
        (keys.freeze(&backend), "team/edge/freeze/app:8080"),
        (keys.expect(), "team/edge/expect"),
        (keys.observe(&backend, "1f"), "team/edge/observe/app:8080/1f"),
        (keys.counter(&node), "team/edge/counters/lb-1.example"),
    ] {
        assert_eq!(key, wanted);
    }
    assert_eq!(Keys::node_of(&keys.nodes(), &keys.node(&node)), Some(node));
    assert_eq!(Keys::backend_of(&keys.histories(), &keys.history(&backend)), Some(backend));
}

#[test]
fn what_is_no_nodes_key_has_no_node() {
    for key in ["weightd/nodes/", "weightd/nodes/a/b", "weightd/nodes/a b", "other/a", "weightd/nodes/.."] {
        assert_eq!(Keys::node_of("weightd/nodes/", key), None, "{key}");
    }
}
