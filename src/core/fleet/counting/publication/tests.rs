use super::*;

fn at(milliseconds: u64) -> Moment {
    Moment::after_start(Duration::from_millis(milliseconds))
}

/// The moments, in milliseconds, at which the report is written until `end`.
fn written(publication: &mut Publication, from: u64, end: u64) -> Vec<u64> {
    (from..=end).step_by(100).filter(|now| publication.take_due(at(*now))).collect()
}

#[test]
fn nothing_is_written_while_nothing_happens() {
    let mut publication = Publication::new();
    assert_eq!(written(&mut publication, 0, 60_000), [0; 0]);
    assert_eq!(publication.next(), None);
}

#[test]
fn an_answer_is_written_at_once() {
    let mut publication = Publication::new();
    publication.closed(at(0), Duration::from_millis(1400));
    publication.answer(at(200));
    assert_eq!(written(&mut publication, 200, 9000), [200], "and the block with it");
}

#[test]
fn a_block_is_written_after_its_jitter_and_never_later_than_its_bound() {
    let mut publication = Publication::new();
    publication.closed(at(0), Duration::from_millis(700));
    assert_eq!(written(&mut publication, 0, 9000), [700]);
    publication.closed(at(10_000), Duration::from_secs(99));
    assert_eq!(written(&mut publication, 10_000, 19_000), [11_500]);
}

#[test]
fn a_first_failure_is_written_at_once_and_once_more_with_the_slot_that_was_running() {
    let mut publication = Publication::new();
    publication.failed(at(1000));
    assert_eq!(written(&mut publication, 1000, 60_000), [1000, 3000]);
}

#[test]
fn failures_that_go_on_are_written_every_2_s() {
    let mut publication = Publication::new();
    let mut all = Vec::new();
    for second in 1..=9 {
        publication.failed(at(second * 1000));
        all.extend(written(&mut publication, second * 1000, second * 1000 + 900));
    }
    all.extend(written(&mut publication, 10_000, 60_000));
    assert_eq!(all, [1000, 3000, 5000, 7000, 9000, 11_000]);
}

#[test]
fn a_write_that_failed_is_tried_again_and_nothing_after_the_last_observer_left() {
    let mut publication = Publication::new();
    publication.answer(at(0));
    assert!(publication.take_due(at(0)));
    publication.lost(at(2000));
    assert_eq!(written(&mut publication, 0, 9000), [2000]);
    publication.failed(at(9000));
    publication.stop();
    assert_eq!(written(&mut publication, 9000, 60_000), [0; 0]);
}

#[test]
fn readings_are_as_frequent_as_their_cost_allows() {
    let every = |millis| Publication::read_every(Duration::from_millis(millis)).as_millis();
    assert_eq!([0, 5, 6, 10, 11, 20, 2000].map(every), [250, 250, 500, 500, 1000, 1000, 1000]);
}
