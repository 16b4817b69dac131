use super::*;

fn at(seconds: u64) -> Moment {
    Moment::default() + Duration::from_secs(seconds)
}

fn id(text: &str) -> SessionId {
    SessionId::new(text)
}

fn seen(session: &str, machine: &str, value: &[u8]) -> Answer {
    seen_of(session, machine, "another run", value)
}

fn seen_of(session: &str, machine: &str, incarnation: &str, value: &[u8]) -> Answer {
    let (machine, incarnation) = (Some(machine.to_owned()), Some(incarnation.to_owned()));
    Answer::Key(Some(Seen { session: Some(id(session)), machine, incarnation, value: value.to_vec() }))
}

/// Expects `step` now, and answers it.
fn expect(holder: &mut Holder, now: Moment, step: &Step, answer: Answer) {
    let next = holder.next(now);
    assert_eq!(next, *step);
    holder.answer(next, answer, now);
}

fn acquire(session: &str, value: &[u8]) -> Step {
    Step::Acquire(id(session), value.to_vec())
}

/// A node that holds its key with the value `one`, at 0 s.
fn held() -> Holder {
    let mut holder = Holder::new("m1".to_owned(), "run1".to_owned());
    holder.want(b"one".to_vec());
    expect(&mut holder, at(0), &Step::Create, Answer::Created(id("s1")));
    expect(&mut holder, at(0), &acquire("s1", b"one"), Answer::Acquired(true));
    assert_eq!(holder.standing(), Standing::Held);
    holder
}

#[test]
fn an_unchanged_value_is_written_once_and_its_session_is_renewed_every_three_seconds() {
    let mut holder = held();
    assert_eq!(holder.next(at(0)), Step::Wait(at(3)));
    expect(&mut holder, at(3), &Step::Renew(id("s1")), Answer::Renewed(true));
    expect(&mut holder, at(3), &Step::Read, seen("s1", "m1", b"one"));
    assert_eq!(holder.next(at(3)), Step::Wait(at(6)));
    holder.want(b"two".to_vec());
    expect(&mut holder, at(4), &acquire("s1", b"two"), Answer::Acquired(true));
    assert_eq!(holder.next(at(4)), Step::Wait(at(6)));
}

#[test]
fn a_key_that_was_deleted_or_replaced_is_written_again() {
    for answer in [Answer::Key(None), seen("s1", "m1", b"forged")] {
        let mut holder = held();
        expect(&mut holder, at(3), &Step::Renew(id("s1")), Answer::Renewed(true));
        expect(&mut holder, at(3), &Step::Read, answer);
        expect(&mut holder, at(3), &acquire("s1", b"one"), Answer::Acquired(true));
    }
}

#[test]
fn a_session_that_was_lost_is_replaced_at_once() {
    let mut holder = held();
    expect(&mut holder, at(3), &Step::Renew(id("s1")), Answer::Renewed(false));
    assert_eq!(holder.standing(), Standing::Absent);
    expect(&mut holder, at(3), &Step::Create, Answer::Created(id("s2")));
    // The value may be out of date: it waits to be confirmed, or for some time.
    assert_eq!(holder.unconfirmed_until(at(3)), Some(at(3) + CONFIRM_WITHIN));
    assert_eq!(holder.next(at(3)), Step::Wait(at(3) + CONFIRM_WITHIN));
    holder.confirm(at(3));
    expect(&mut holder, at(3), &acquire("s2", b"one"), Answer::Acquired(true));
    assert_eq!(holder.standing(), Standing::Held);
    // Also where the write is the first to fail.
    holder.want(b"two".to_vec());
    expect(&mut holder, at(4), &acquire("s2", b"two"), Answer::Failed { denied: false });
    assert_eq!(holder.next(at(4)), Step::Wait(at(4) + RETRY_FIRST));
    expect(&mut holder, at(5), &Step::Renew(id("s2")), Answer::Renewed(false));
    expect(&mut holder, at(5), &Step::Create, Answer::Created(id("s3")));
    expect(&mut holder, at(5) + CONFIRM_WITHIN, &acquire("s3", b"two"), Answer::Acquired(true));
}

#[test]
fn an_earlier_run_of_this_machine_is_replaced_once() {
    let mut holder = Holder::new("m1".to_owned(), "run1".to_owned());
    holder.want(b"one".to_vec());
    expect(&mut holder, at(0), &Step::Create, Answer::Created(id("s1")));
    expect(&mut holder, at(0), &acquire("s1", b"one"), Answer::Acquired(false));
    expect(&mut holder, at(0), &Step::Read, seen("old", "m1", b"before"));
    expect(&mut holder, at(0), &Step::Destroy(id("old")), Answer::Destroyed);
    expect(&mut holder, at(0), &acquire("s1", b"one"), Answer::Acquired(true));
    assert_eq!(holder.standing(), Standing::Held);
    // Another process of this machine did the same to this one.
    expect(&mut holder, at(3), &Step::Renew(id("s1")), Answer::Renewed(false));
    expect(&mut holder, at(3), &Step::Create, Answer::Created(id("s2")));
    holder.confirm(at(3));
    expect(&mut holder, at(3), &acquire("s2", b"one"), Answer::Acquired(false));
    expect(&mut holder, at(3), &Step::Read, seen("other", "m1", b"theirs"));
    assert_eq!(holder.standing(), Standing::Duplicate);
    assert_eq!(holder.next(at(3)), Step::Wait(at(6)));
}

#[test]
fn another_machine_with_this_name_is_a_duplicate_after_thirty_seconds_and_keeps_the_key() {
    let mut holder = Holder::new("m1".to_owned(), "run1".to_owned());
    holder.want(b"one".to_vec());
    expect(&mut holder, at(0), &Step::Create, Answer::Created(id("s1")));
    expect(&mut holder, at(0), &acquire("s1", b"one"), Answer::Acquired(false));
    expect(&mut holder, at(0), &Step::Read, seen("theirs", "m2", b"theirs"));
    for seconds in (3..=30).step_by(3) {
        assert_eq!(holder.standing(), Standing::Absent, "after {seconds} s");
        expect(&mut holder, at(seconds), &Step::Renew(id("s1")), Answer::Renewed(true));
        expect(&mut holder, at(seconds), &Step::Read, seen("theirs", "m2", b"theirs"));
    }
    assert_eq!(holder.standing(), Standing::Duplicate);
    // It went away.
    expect(&mut holder, at(33), &Step::Renew(id("s1")), Answer::Renewed(true));
    expect(&mut holder, at(33), &Step::Read, Answer::Key(None));
    expect(&mut holder, at(33), &acquire("s1", b"one"), Answer::Acquired(true));
    assert_eq!(holder.standing(), Standing::Held);
}

#[test]
fn errors_are_retried_with_a_pause_that_grows_and_a_denial_is_named() {
    let mut holder = Holder::new("m1".to_owned(), "run1".to_owned());
    assert_eq!(holder.next(at(0)), Step::Wait(at(3)), "there is nothing to write");
    holder.want(b"one".to_vec());
    let mut now = at(0);
    for pause in [250, 500, 1000, 2000, 4000, 4000, 4000] {
        expect(&mut holder, now, &Step::Create, Answer::Failed { denied: false });
        let until = now + Duration::from_millis(pause);
        assert_eq!(holder.next(now), Step::Wait(until));
        now = until;
    }
    expect(&mut holder, now, &Step::Create, Answer::Failed { denied: true });
    assert_eq!(holder.standing(), Standing::Denied);
    now = now + RETRY_DENIED;
    expect(&mut holder, now, &Step::Create, Answer::Created(id("s1")));
    expect(&mut holder, now, &acquire("s1", b"one"), Answer::Acquired(true));
    assert_eq!(holder.standing(), Standing::Held);
    assert_eq!(holder.pause, Duration::ZERO);
}

#[test]
fn a_former_session_of_this_run_is_replaced_each_time() {
    let mut holder = held();
    for old in ["restored", "restored again"] {
        expect(&mut holder, at(3), &Step::Renew(id("s1")), Answer::Renewed(false));
        expect(&mut holder, at(3), &Step::Create, Answer::Created(id("s1")));
        holder.confirm(at(3));
        expect(&mut holder, at(3), &acquire("s1", b"one"), Answer::Acquired(false));
        expect(&mut holder, at(3), &Step::Read, seen_of(old, "m1", "run1", b"before"));
        expect(&mut holder, at(3), &Step::Destroy(id(old)), Answer::Destroyed);
        expect(&mut holder, at(3), &acquire("s1", b"one"), Answer::Acquired(true));
        assert_eq!(holder.standing(), Standing::Held);
        holder.renew_at = at(3);
    }
}

#[test]
fn a_takeover_whose_answer_was_lost_is_not_done_twice() {
    let mut holder = Holder::new("m1".to_owned(), "run1".to_owned());
    holder.want(b"one".to_vec());
    expect(&mut holder, at(0), &Step::Create, Answer::Created(id("s1")));
    expect(&mut holder, at(0), &acquire("s1", b"one"), Answer::Acquired(false));
    expect(&mut holder, at(0), &Step::Read, seen("old", "m1", b"before"));
    expect(&mut holder, at(0), &Step::Destroy(id("old")), Answer::Failed { denied: false });
    // The same session is destroyed, as long as it holds the key.
    expect(&mut holder, at(1), &Step::Read, seen("old", "m1", b"before"));
    expect(&mut holder, at(1), &Step::Destroy(id("old")), Answer::Destroyed);
    expect(&mut holder, at(1), &acquire("s1", b"one"), Answer::Acquired(false));
    expect(&mut holder, at(1), &Step::Read, seen("other", "m1", b"theirs"));
    assert_eq!(holder.standing(), Standing::Duplicate);
}

#[test]
fn without_an_answer_for_the_time_of_a_session_the_key_is_not_known_to_be_there() {
    let mut holder = held();
    let mut now = at(3);
    while now < at(10) {
        assert_eq!(holder.standing(), Standing::Held);
        expect(&mut holder, now, &Step::Renew(id("s1")), Answer::Failed { denied: false });
        let Step::Wait(until) = holder.next(now) else { panic!("no pause after an error") };
        now = until;
    }
    expect(&mut holder, now, &Step::Renew(id("s1")), Answer::Failed { denied: false });
    assert_eq!(holder.standing(), Standing::Absent);
    expect(&mut holder, at(60), &Step::Renew(id("s1")), Answer::Renewed(true));
    expect(&mut holder, at(60), &Step::Read, seen("s1", "m1", b"one"));
    assert_eq!(holder.standing(), Standing::Held);
}

#[test]
fn an_earlier_session_that_ended_by_itself_is_not_asked_for_again() {
    let mut holder = Holder::new("m1".to_owned(), "run1".to_owned());
    holder.want(b"one".to_vec());
    expect(&mut holder, at(0), &Step::Create, Answer::Created(id("s1")));
    expect(&mut holder, at(0), &acquire("s1", b"one"), Answer::Acquired(false));
    expect(&mut holder, at(0), &Step::Read, seen("old", "m1", b"before"));
    // Consul with ACLs: "Unknown session".
    expect(&mut holder, at(0), &Step::Destroy(id("old")), Answer::Failed { denied: false });
    expect(&mut holder, at(1), &Step::Read, Answer::Key(None));
    expect(&mut holder, at(1), &acquire("s1", b"one"), Answer::Acquired(true));
    assert_eq!(holder.standing(), Standing::Held);
}
