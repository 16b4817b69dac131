use proptest::prelude::*;

use super::*;

/// What the columns show after `n` requests of one kind, and what users saw.
struct Row {
    what: &'static str,
    levels: Levels,
    /// Requests and errors as users saw them, and masked attempts.
    expected: [u64; 3],
}

fn row(what: &'static str, set: impl Fn(&mut Levels), expected: [u64; 3]) -> Row {
    let mut levels = Levels::default();
    set(&mut levels);
    Row { what, levels, expected }
}

/// Attempts that were balanced.
fn tried(levels: &mut Levels, n: u64) {
    (levels.attempts, levels.balanced) = (n, n);
}

#[test]
fn each_kind_of_failure_is_counted_once() {
    let rows = [
        row("200", |l| (tried(l, 20), l.answers[1] = 20).1, [20, 0, 0]),
        row("404", |l| (tried(l, 20), l.answers[3] = 20).1, [20, 0, 0]),
        row("500", |l| (tried(l, 20), l.answers[4] = 20).1, [20, 20, 0]),
        row("no answer, 2.2 and 2.6", |l| (tried(l, 20), l.response_errors = 20).1, [20, 20, 0]),
        row("no answer, 3.0 and 3.2", |l| (tried(l, 20), l.response_errors = 40).1, [20, 20, 0]),
        row(
            "reset before the answer, 2.2",
            |l| {
                tried(l, 20);
                (l.response_errors, l.server_aborts) = (20, 20);
            },
            [20, 20, 0],
        ),
        row("reset before the answer, 2.6 and later", |l| (tried(l, 20), l.response_errors = 40).1, [20, 20, 0]),
        row(
            "broken body",
            |l| {
                tried(l, 20);
                (l.answers[1], l.response_errors, l.server_aborts) = (20, 20, 20);
            },
            [20, 20, 0],
        ),
        row(
            "body that stalls, 2.2, 2.6, 3.2",
            |l| {
                tried(l, 6);
                (l.answers[1], l.server_aborts) = (6, 6);
            },
            [6, 6, 0],
        ),
        row(
            "refused, 3 retries, no redispatch",
            |l| {
                tried(l, 40);
                (l.balanced, l.connect_errors, l.retries) = (10, 10, 30);
            },
            [10, 10, 30],
        ),
        row("redispatched", |l| (tried(l, 15), l.redispatches = 15).1, [0, 0, 15]),
        row(
            "repeated after an answer at the same server, which counts retries twice",
            |l| {
                (l.attempts, l.balanced, l.retries, l.answers[4]) = (3, 1, 4, 1);
            },
            [1, 1, 3],
        ),
        row("no answer on a kept-alive connection, 2.2 and 2.6", |l| tried(l, 5), [5, 5, 0]),
        row("answers and silent closes by turns, 2.6", |l| (tried(l, 10), l.answers[1] = 5).1, [10, 5, 0]),
        row("given up by the client while it waits", |l| (tried(l, 7), l.client_aborts = 7).1, [0, 0, 0]),
        row(
            "given up by the client in the body",
            |l| {
                tried(l, 7);
                (l.answers[1], l.client_aborts) = (7, 7);
            },
            [7, 0, 0],
        ),
        row(
            "users with a cookie are not balanced",
            |l| (l.attempts, l.answers[1], l.answers[4]) = (9, 6, 3),
            [9, 3, 0],
        ),
    ];
    for Row { what, levels, expected } in rows {
        let counted = Formula::from_zero().take(levels, 0, Protocol::Http).unwrap();
        assert_eq!([counted.requests, counted.errors, counted.masked], expected, "{what}");
        let kinds = counted.status_5xx + counted.connect + counted.response;
        assert_eq!(kinds, counted.errors, "the kinds of {what}");
    }
}

#[test]
fn a_request_in_flight_is_neither_answered_nor_failed() {
    let mut formula = Formula::since(Levels { sessions: 3, attempts: 3, balanced: 3, ..Levels::default() });
    let levels = Levels { sessions: 5, attempts: 5, balanced: 5, ..Levels::default() };
    let counted = formula.take(levels, 0, Protocol::Http).unwrap();
    assert_eq!(counted, Sums { started: 2, attempts: 2, ..Sums::default() });
    // The three of the base fail without an answer, the two others are answered.
    let mut later = Levels { sessions: 0, ..levels };
    later.answers[1] = 2;
    let counted = formula.take(later, 0, Protocol::Http).unwrap();
    assert_eq!((counted.requests, counted.errors, counted.completed), (5, 3, 5));
}

#[test]
fn a_request_that_waits_in_one_reading_and_fails_in_a_later_one_is_found() {
    let mut formula = Formula::from_zero();
    let waiting = Levels { sessions: 8, attempts: 8, balanced: 8, ..Levels::default() };
    assert_eq!(formula.take(waiting, 0, Protocol::Http).unwrap().errors, 0);
    let timed_out = Levels { sessions: 0, response_errors: 8, ..waiting };
    let counted = formula.take(timed_out, 0, Protocol::Http).unwrap();
    assert_eq!((counted.requests, counted.errors, counted.response), (8, 8, 8));
}

#[test]
fn a_request_that_waits_for_its_next_attempt_has_not_failed() {
    let mut formula = Formula::from_zero();
    let waiting = Levels { attempts: 5, balanced: 5, retries: 5, ..Levels::default() };
    let counted = formula.take(waiting, 5, Protocol::Http).unwrap();
    assert_eq!((counted.requests, counted.errors, counted.masked), (0, 0, 5));
    let redispatched = Levels { attempts: 10, redispatches: 5, ..waiting };
    let counted = formula.take(redispatched, 0, Protocol::Http).unwrap();
    assert_eq!((counted.requests, counted.errors, counted.masked), (0, 0, 5));
}

#[test]
fn tcp_shows_only_failed_connections() {
    let levels = Levels {
        attempts: 20,
        balanced: 14,
        sessions: 2,
        connect_errors: 3,
        retries: 4,
        redispatches: 2,
        ..Levels::default()
    };
    let counted = Formula::from_zero().take(levels, 0, Protocol::Tcp).unwrap();
    let expected = Sums {
        requests: 14,
        errors: 3,
        attempts: 20,
        masked: 6,
        started: 16,
        completed: 14,
        connect: 3,
        redispatched: 2,
        retried: 4,
        ..Sums::default()
    };
    assert_eq!(counted, expected);
}

#[test]
fn a_counter_that_falls_is_no_number() {
    let mut formula = Formula::from_zero();
    let levels = Levels { attempts: 9, sessions: 4, ..Levels::default() };
    formula.take(levels, 0, Protocol::Http).unwrap();
    assert!(formula.take(Levels { sessions: 0, ..levels }, 0, Protocol::Http).is_ok());
    assert_eq!(formula.take(Levels { attempts: 8, ..levels }, 0, Protocol::Http), Err(Backwards));
}

fn step() -> impl Strategy<Value = Levels> {
    proptest::collection::vec(0..9u64, 15).prop_map(|numbers| {
        let mut next = numbers.into_iter();
        let mut number = || next.next().unwrap_or_default();
        let answers = std::array::from_fn(|_| number());
        Levels {
            attempts: number(),
            balanced: number(),
            sessions: number(),
            client_aborts: number(),
            server_aborts: number(),
            connect_errors: number(),
            response_errors: number(),
            retries: number(),
            redispatches: number(),
            answers,
        }
    })
}

proptest! {
    #[test]
    fn whatever_haproxy_shows_the_sums_fit_together(steps in proptest::collection::vec(step(), 1..30), tcp in any::<bool>()) {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Http };
        let mut formula = Formula::since(steps[0]);
        let mut levels = steps[0];
        let mut total = Sums::default();
        for step in &steps {
            levels = Levels {
                attempts: levels.attempts + step.attempts,
                balanced: levels.balanced + step.balanced,
                sessions: step.sessions,
                client_aborts: levels.client_aborts + step.client_aborts,
                server_aborts: levels.server_aborts + step.server_aborts,
                connect_errors: levels.connect_errors + step.connect_errors,
                response_errors: levels.response_errors + step.response_errors,
                retries: levels.retries + step.retries,
                redispatches: levels.redispatches + step.redispatches,
                answers: std::array::from_fn(|at| levels.answers[at] + step.answers[at]),
            };
            total = total.plus(formula.take(levels, step.client_aborts, protocol).unwrap());
            prop_assert!(total.errors <= total.requests, "{:?}", total);
            prop_assert!(total.masked <= total.attempts, "{:?}", total);
            prop_assert!(total.refused + total.redirected + total.status_5xx <= total.answered, "{:?}", total);
            prop_assert!(total.answered <= total.completed || tcp, "{:?}", total);
        }
    }
}
