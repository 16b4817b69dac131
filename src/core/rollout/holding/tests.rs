use super::*;

/// A reason of each kind.
fn each() -> Vec<Holding> {
    let text = || "why".to_owned();
    vec![
        Holding::Paused(text()),
        Holding::Latched(Latch::Slo),
        Holding::Queued,
        Holding::NotSplit(text()),
        Holding::Protocol,
        Holding::FromTooSmall(text()),
        Holding::Sessions(1),
        Holding::Baseline(1, 2),
        Holding::AboveSlo(0.2, 0.1),
        Holding::NotApplied(Vec::new()),
        Holding::Unusable(Vec::new()),
        Holding::Unwired(Vec::new()),
        Holding::NoData(Vec::new()),
        Holding::Dropped(Vec::new()),
        Holding::Flapping,
        Holding::Source(text(), text()),
        Holding::Unmeasured(text()),
        Holding::Window,
        Holding::Frozen(text()),
        Holding::Approval(1),
        Holding::Breaker,
        Holding::Share(1.0, 2.0),
        Holding::NoControl,
        Holding::Requests(1),
        Holding::Grey(1.0),
        Holding::Calm(1),
        Holding::NotExcluded,
    ]
}

#[test]
fn the_word_alone_says_whether_a_reason_can_name_nodes() {
    let words: BTreeSet<_> = each().iter().map(Holding::word).collect();
    assert_eq!(words.len(), each().len(), "a word stands for one kind");
    for reason in each() {
        assert_eq!(Holding::word_names_nodes(reason.word()), reason.names_nodes(), "{reason:?}");
    }
    assert!(NAMELESS.iter().all(|word| words.contains(word)), "a word of no reason");
    // What a newer controller says may name nodes.
    assert!(Holding::word_names_nodes("newer"));
}
