//! Reads one HAProxy once in the same way as weightd. Changes nothing, because its client can only read.

use std::time::Duration;

use tokio::time::sleep_until;

use super::session::{Session, Step, Timing};
use crate::{base::clock::Clock, haproxy::Reader};

/// Longer than any single reading, so that nothing is read twice.
const ONCE: Timing = Timing { resync: Duration::from_secs(3600), process_poll: Duration::from_secs(3600) };

/// Creates a session for one reading.
pub fn session(clock: &Clock) -> Session {
    Session::new(weightd_core::stored::Stored::default(), true, ONCE, clock.now())
}

/// Reads all backends of `session`. Returns when no urgent work is left or HAProxy cannot be used.
pub async fn read(session: &mut Session, reader: &Reader, clock: &Clock) {
    session.enforce();
    loop {
        match session.next(clock.now()) {
            Step::Ask(line) => {
                let answer = reader.ask(&line).await;
                session.answer(answer, clock.now());
            }
            // A session in mode observe never sends weights, and this client cannot.
            Step::Send(_) => return,
            Step::Wait(_) if session.down.is_some() || session.is_settled() => return,
            Step::Wait(until) => sleep_until(clock.instant(until)).await,
        }
    }
}
