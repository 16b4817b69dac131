use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let mut publisher = Publisher::new(at(0));
    assert_eq!(publisher.offer(b"a", at(0)), Step::Write);
    assert_eq!(publisher.offer(b"a", at(5000)), Step::Nothing);
    publisher.lost();
    assert_eq!(publisher.offer(b"a", at(5001)), Step::Write);
}

#[test]
fn two_writes_are_100_ms_apart() {
    let mut publisher = Publisher::new(at(0));
    assert_eq!(publisher.offer(b"a", at(0)), Step::Write);
    assert_eq!(publisher.offer(b"b", at(1)), Step::Later(at(100)));
    assert_eq!(publisher.offer(b"c", at(100)), Step::Write, "the newest value counts");
}

#[test]
fn ten_writes_empty_the_bucket_and_each_second_gives_one() {
    let mut publisher = Publisher::new(at(0));
    for n in 0..10_u64 {
        assert_eq!(publisher.offer(&[u8::try_from(n).unwrap()], at(n * 100)), Step::Write);
    }
    assert_eq!(publisher.offer(b"x", at(1000)), Step::Write, "the first second gave one back");
    assert_eq!(publisher.offer(b"y", at(1100)), Step::Later(at(2000)));
    assert_eq!(publisher.offer(b"y", at(2000)), Step::Write);
    assert_eq!(publisher.offer(b"z", at(2100)), Step::Later(at(3000)));
}

proptest! {
    #[test]
    fn no_pace_of_changes_breaks_the_bounds(gaps in prop::collection::vec(0..400_u64, 1..200)) {
        let mut publisher = Publisher::new(at(0));
        let (mut now, mut writes) = (0, Vec::new());
        for (n, gap) in gaps.into_iter().enumerate() {
            now += gap;
            match publisher.offer(&n.to_le_bytes(), at(now)) {
                Step::Write => writes.push(now),
                Step::Later(then) => prop_assert!(then > at(now)),
                Step::Nothing => prop_assert!(false, "each value is new"),
            }
        }
        prop_assert!(writes.windows(2).all(|pair| pair[1] - pair[0] >= 100));
        for (from, first) in writes.iter().enumerate() {
            for (to, last) in writes.iter().enumerate().skip(from) {
                prop_assert!((to - from) as u64 <= 10 + (last - first) / 1000);
            }
        }
    }
}
