use weightd_core::history::Way;

use super::*;

fn change(backend: &str, index: Option<u64>, at: Option<u64>) -> (BackendName, Entry) {
    let entry = Entry { index, at: at.map(Timestamp::from_seconds), ..Entry::new(Way::Direct, To::Gone) };
    (BackendName::new(backend).unwrap(), entry)
}

#[test]
fn a_period_has_the_writes_without_a_time_that_may_be_in_it() {
    let changes = vec![
        change("app1", None, None),
        change("app1", Some(9), Some(200)),
        change("app1", Some(8), None),
        change("app1", Some(7), Some(50)),
        change("app1", Some(6), None),
        change("app2", Some(5), None),
        change("app2", Some(4), Some(100)),
        change("app2", Some(3), Some(99)),
    ];
    let kept = within(changes, 100);
    let kept: Vec<_> = kept.iter().map(|(backend, entry)| (backend.as_str(), entry.index)).collect();
    let expected = [("app1", None), ("app1", Some(9)), ("app1", Some(8)), ("app2", Some(5)), ("app2", Some(4))];
    assert_eq!(kept, expected);
}

#[test]
fn a_change_without_an_index_stands_beside_its_neighbour_of_the_same_backend() {
    let changes = vec![
        change("app1", None, None),
        change("app1", Some(5), None),
        change("app1", None, None),
        change("app1", Some(3), None),
        change("app2", Some(9), None),
        change("app2", Some(4), None),
        change("app2", Some(0), None),
        change("app3", None, None),
        change("app4", Some(2), None),
    ];
    let order = newest_first(changes);
    let order: Vec<_> = order.iter().map(|(backend, entry)| (backend.as_str(), entry.index)).collect();
    let expected = [
        ("app2", Some(9)),
        ("app1", None),
        ("app1", Some(5)),
        ("app2", Some(4)),
        ("app2", Some(0)),
        ("app1", None),
        ("app1", Some(3)),
        ("app4", Some(2)),
        ("app3", None),
    ];
    assert_eq!(order, expected);
}
